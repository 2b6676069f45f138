"""Everything that the study of the paper can be told."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from medglean.curate.budget import count_of
from medglean.curate.embed.settings import EmbeddingSettings
from medglean.curate.methods.table import method_named
from medglean.data.augment_settings import Augment
from medglean.data.recipe import Recipe
from medglean.errors import UsageError
from medglean.fitting.settings import FitSettings
from medglean.runs.preset import Preset

PCA_LOGISTIC, UNET = "pca-logistic", "unet"
LEARNERS = (PCA_LOGISTIC, UNET, "alexnet", "vgg11", "resnet18", "resnet34", "resnet50")
FULL = "full"
"""Name of the cells that learn from the whole training pool."""
Size = int | float | str


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TestSettings(_Settings):
    """On which images every learner is measured; nothing is selected or learnt from these."""

    __test__ = False  # not a test case, whatever its name starts with

    kind: Literal["auto", "fixed", "per-replicate"] = "auto"
    """``fixed``: one test set for all replicates, rows of split ``test`` where the manifest has
    them. ``per-replicate``: patients are dealt out anew for each replicate, the same for all
    methods, so that scores are compared in pairs. ``auto``: ``fixed`` where the manifest has a
    split, else ``per-replicate``."""
    share: float = Field(default=0.3, gt=0.0, lt=1.0)
    """Share of the patients that is kept aside, where there is no split to take."""
    group: str = "patient"
    """Column whose values stay on one side; `group`, then `id`, where it is absent."""


class LabelSettings(_Settings):
    """What a classifier is to tell apart; labels are never used to select."""

    column: str = "label"
    """Column of the class names."""
    positive: str | None = None
    """This class against all others together."""
    classes: tuple[str, ...] | None = None
    """Only images of these classes; by default all that occur. Not with ``positive``."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.positive is not None and self.classes is not None:
            raise ValueError("positive and classes cannot both be set: leave one out.")
        return self


class UNetSettings(_Settings):
    """The segmentation network; see `medglean.nn.segmentation.build_unet`."""

    channels: tuple[int, ...] = Field(default=(8, 16, 32, 64), min_length=2)
    """Feature maps of each level."""
    residual_units: int = Field(default=0, ge=0)
    """Residual units of each level."""
    structures: dict[str, int] = Field(default_factory=dict)
    """Name and pixel value of each structure in column ``mask``. Empty: everything above 0 is one
    structure. An image without a mask has none of them."""


def _fit() -> FitSettings:
    return FitSettings(batch_size=16, precision="auto")


class LearnerSettings(_Settings):
    """What is trained on each subset."""

    name: str = PCA_LOGISTIC
    """``pca-logistic``: PCA of thumbnails and a logistic regression, seconds on a CPU. ``unet``:
    MONAI's U-Net on column ``mask``. Otherwise a torchvision network such as ``resnet18``."""
    images: Recipe = Field(default_factory=lambda: Recipe(size_px=(64, 64)))
    """How images are prepared for it; the embedding has its own."""
    thumbnail_px: int = Field(default=64, ge=4)
    """Side of the thumbnails of ``pca-logistic``."""
    components: Literal["subset", "pool"] = "subset"
    """What gives the principal components of ``pca-logistic``. ``subset``: the images that are
    learnt from, a quarter as many components as images and at most 64. ``pool``: all images of the
    training pool, labelled or not, and always 64."""
    augment: Augment = Field(default_factory=Augment)
    """Random changes of the training images; for ``unet`` only flips, which move its masks too."""
    normalise: Literal["none", "dataset", "image"] = "dataset"
    """``dataset``: by mean and standard deviation of the subset that is learnt from."""
    weights: str = "none"
    """Of a torchvision network: ``none`` is from scratch, ``imagenet`` torchvision's, or a file."""
    length: Literal["steps", "epochs"] = "steps"
    """What is the same for every subset: optimiser steps, so that a small one is not trained less
    than a large one, or passes over the subset (``fit.epochs``), as is often done. The weights
    after the last step are taken: no images are set aside to choose others by."""
    steps: int = Field(default=300, ge=1)
    """Optimiser steps, with ``length`` ``steps``."""
    unet: UNetSettings = Field(default_factory=UNetSettings)
    fit: FitSettings = Field(default_factory=_fit)
    """Batches, optimiser, precision. Seed, length and validation are the study's own."""

    @property
    def is_segmentation(self) -> bool:
        """Whether masks are learnt."""
        return self.name == UNET

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.name not in LEARNERS:
            raise ValueError(f"learner {self.name!r}: expected one of {', '.join(LEARNERS)}.")
        changed = self.augment.model_dump(exclude_defaults=True)
        if self.is_segmentation and set(changed) - {"flip_horizontal", "flip_vertical"}:
            raise ValueError(
                "unet changes images and masks together by flips only: leave all of augment but "
                "flip_horizontal and flip_vertical out."
            )
        halvings = 2 ** (len(self.unet.channels) - 1)
        if self.is_segmentation and any(side % halvings for side in self.images.size_px):
            raise ValueError(
                f"unet halves each side {len(self.unet.channels) - 1} times: images.size_px must "
                f"be multiples of {halvings}, got {self.images.size_px}."
            )
        return self


class EnrichStudyPreset(Preset):
    """The experiment of Chinn et al. 2023: subsets by several methods, and what they teach."""

    task: Literal["enrich-study"] = "enrich-study"
    seed: int = Field(default=0, ge=0)
    """Splits, selections, initial weights: all are functions of it and of the cell."""
    sizes: tuple[Size, ...] = Field(default=("2.5%", "5%", "10%", "25%", "50%"), min_length=1)
    """Images of each subset, or shares of the training pool. The whole pool is always measured."""
    methods: tuple[str, ...] = Field(default=("enrich", "random", "random-groups"), min_length=1)
    """Names of selection methods."""
    baselines: tuple[str, ...] = ("random",)
    """Methods that each other one is compared with at each size."""
    replicates: int = Field(default=5, ge=1)
    """How often everything is done. Fewer than 4 against as many cannot be significant."""
    start: Size = "auto"
    """Images that `enrich` draws at random to begin with, or their share of the pool. ``auto``: a
    tenth of the smallest subset."""
    balanced_groups: int | None = Field(default=None, ge=1)
    """Reduce the pool to this many random images of every group (volume, clip) before anything is
    selected; groups with fewer are left out. None: the pool as it is."""
    group: str = "group"
    """Column of what is near-duplicate by making: clip, volume; falls back to `patient`."""
    test: TestSettings = Field(default_factory=TestSettings)
    labels: LabelSettings = Field(default_factory=LabelSettings)
    embedding: EmbeddingSettings = Field(default_factory=EmbeddingSettings)
    learner: LearnerSettings = Field(default_factory=LearnerSettings)
    score: Literal["auto", "auroc", "accuracy", "f1", "jaccard", "dice"] = "auto"
    """What is compared. ``auto``: AUROC, the mean over the classes; for masks the Jaccard index,
    pooled over the images of a patient, then the mean over patients and structures."""
    level: float = Field(default=0.05, gt=0.0, lt=1.0)
    """Significance level."""
    seconds_per_label: float | None = Field(default=None, gt=0.0)
    """Time to label one image; by default 1 s for a class and 300 s for a mask."""
    processes: int = Field(default=1, ge=1)
    """Cells that run at the same time, each on one thread. Does not change the result."""

    @property
    def primary(self) -> str:
        """The score that is compared."""
        if self.score != "auto":
            return self.score
        return "jaccard" if self.learner.is_segmentation else "auroc"

    @property
    def label_seconds(self) -> float:
        """Seconds to label one image."""
        if self.seconds_per_label is not None:
            return self.seconds_per_label
        return 300.0 if self.learner.is_segmentation else 1.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        masks = {"jaccard", "dice"}
        if self.score != "auto" and (self.score in masks) != self.learner.is_segmentation:
            raise ValueError(f"score {self.score!r} is not measured for {self.learner.name!r}.")
        if len(set(self.methods)) < len(self.methods) or FULL in self.methods:
            raise ValueError(f"methods must be different, and none {FULL!r}: {self.methods}.")
        absent = [name for name in self.baselines if name not in self.methods]
        if absent:
            raise ValueError(f"baseline {absent[0]!r} is not among the methods {self.methods}.")
        for name in self.methods:
            try:
                method_named(name)
            except UsageError as error:
                raise ValueError(str(error)) from error
        for size in (*self.sizes, *(() if self.start == "auto" else (self.start,))):
            try:
                count_of(size, 10**12, name="a size")
            except UsageError as error:
                raise ValueError(str(error)) from error
        return self
