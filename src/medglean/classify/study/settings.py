"""Everything that the study of the 2022 report can be told."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from medglean.classify.settings import ClassifyPreset
from medglean.fitting.settings import CHANGEABLE
from medglean.nn.backbones import ARCHITECTURES

Ablation = Literal["learning-rate", "batch-size", "optimizer", "classes", "images"]
ABLATIONS: tuple[Ablation, ...] = ("learning-rate", "batch-size", "optimizer", "classes", "images")

MAY_CHANGE = frozenset(
    {f"fit.{name}" for name in CHANGEABLE - {"epochs", "max_steps"}}
    | {"summary", "predict.batch_size", "study"}
)
"""Settings, or tables of them, that a resumed study may change. Its cells are found again by what
they train, so that one that changes is trained anew and the others are not."""


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SlurmSettings(_Settings):
    """What a job of ``executor="slurm"`` asks of the cluster."""

    partition: str | None = None
    """Where jobs run; the cluster's default where it is not given."""
    gpus: int = Field(default=1, ge=0)
    """GPUs of a job; 0: it computes on the processor."""
    cpus: int = Field(default=4, ge=1)
    """Processor cores of a job."""
    memory_gb: float = Field(default=16.0, gt=0)
    """Memory of a job."""
    minutes: int = Field(default=720, ge=5)
    """Longest time of a job. One that is not done by then is put into the queue again and goes on
    from its last checkpoint."""
    extra: dict[str, str | int | bool] = Field(default_factory=dict)
    """Further options of ``sbatch`` without their dashes, such as ``account`` or ``constraint``."""


class StudySettings(_Settings):
    """What the study trains besides the preset itself, where, and what it shows."""

    networks: tuple[str, ...] = Field(default=("alexnet", "vgg11", "resnet50"), min_length=1)
    """Networks that are trained from scratch, each as the preset says."""
    pretrained: str = "imagenet"
    """What a further row starts from: ``imagenet`` (torchvision's weights), a weights file, or
    ``none`` to leave the row out. The weights are looked for before anything is trained."""
    pretrained_network: str = "vgg11"
    """The network of that row."""
    ablations: tuple[Ablation, ...] = ABLATIONS
    """Which of the further tables are made."""
    ablate: str = "alexnet"
    """The network of the further tables. The report does not name one for each; AlexNet is the
    quickest."""
    rates: tuple[float, ...] = (0.1, 0.01, 1e-4)
    """Learning rates of the table ``learning-rate``."""
    batches: tuple[int, ...] = (8, 16, 32, 64, 128)
    """Batch sizes of the table ``batch-size``."""
    optimizers: dict[str, tuple[str, ...]] = Field(
        default_factory=lambda: {
            "Adam": (),
            "SGD": (
                "fit.optimizer.name=sgd",
                "fit.optimizer.learning_rate=1e-4",
                "fit.optimizer.momentum=0.9",
                "fit.optimizer.weight_decay=0.5",
            ),
        }
    )
    """Rows of the table ``optimizer``: a name, and what it changes in the preset. The report's SGD
    has a weight decay of 0.5, a thousand times what is usual."""
    classes: tuple[int, ...] = (2, 3, 4)
    """Numbers of classes of the table ``classes``; those beyond what the set has are left out. The
    most frequent of the training part are taken; test images of the others are left out, so that
    each row of this table has a test part of its own."""
    shares: tuple[float, ...] = (0.1, 0.25, 0.5, 1.0)
    """Shares of the training images of the table ``images``: whole patients, the smaller share
    inside the larger, the same test images for all."""
    averaging: Literal["macro", "weighted", "micro"] = "macro"
    """How precision, recall and F1 are averaged over classes where one number stands for all. The
    report does not say; macro counts each class alike. The page prints all three."""
    executor: Literal["here", "local", "slurm"] = "here"
    """Where cells are trained: one after another in this process; ``local``: several at once on
    this machine, each on a GPU of its own where there are any; ``slurm``: as jobs of a cluster.
    The last two need the extra ``cluster``."""
    jobs: int = Field(default=2, ge=1)
    """Cells that are trained at the same time, with ``local`` and ``slurm``."""
    slurm: SlurmSettings = Field(default_factory=SlurmSettings)
    keep_checkpoints: bool = False
    """Keep what a finished cell could be trained on from; its weights stay in any case. VGG11's
    take 3 GB."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        named = (
            *(("networks", name) for name in self.networks),
            ("pretrained_network", self.pretrained_network),
            ("ablate", self.ablate),
        )
        for setting, name in named:
            if name not in ARCHITECTURES:
                raise ValueError(
                    f"{setting}: {name!r} is no network; expected one of "
                    f"{', '.join(ARCHITECTURES)}."
                )
        for setting, numbers, least, most in (
            ("rates", self.rates, 0.0, float("inf")),
            ("batches", self.batches, 0.0, float("inf")),
            ("classes", self.classes, 1.0, float("inf")),
            ("shares", self.shares, 0.0, 1.0),
        ):
            wrong = [number for number in numbers if not least < number <= most]
            if wrong:
                bound = f" and at most {most:g}" if most < float("inf") else ""
                raise ValueError(
                    f"{setting}: {wrong[0]:g}; expected numbers above {least:g}{bound}."
                )
            if len(set(numbers)) < len(numbers):
                raise ValueError(f"{setting} names one twice: {numbers}.")
        return self


class CxrStudyPreset(ClassifyPreset):
    """A recipe for the study of the 2022 report on one of its sets.

    Everything but the table ``study`` is the training that all its cells start from. What the
    report leaves open stands in these settings:

    - which images are tested on: ``split``;
    - averages over classes: ``study.averaging``;
    - from which probability a finding counts as present: ``labels.threshold``;
    - the order of the transforms: ``images.resize="crop"`` with ``images.centre_crop=0.875`` is
      resizing the shorter side to 256 and then cutting out the central 224 pixels;
      ``resize="stretch"`` with it resizes both sides to 256 first; ``resize="centre"`` cuts out
      224 pixels of the image as it is and resizes nothing;
    - mirror images in training: ``augment.flip_horizontal``;
    - channels and their normalisation: ``images.channels``, ``inputs.normalise``;
    - which epoch is scored: ``keep``, and ``fit.monitor`` for the best one.
    """

    task: Literal["classify-study"] = "classify-study"  # type: ignore[assignment]  # not trained
    study: StudySettings = Field(default_factory=StudySettings)

    @property
    def training(self) -> ClassifyPreset:
        """The preset of one training, without the study."""
        table = self.model_dump(exclude={"task", "study"})
        return ClassifyPreset.model_validate(table)

    def network(self, architecture: str, weights: str | None = None) -> ClassifyPreset:
        """Return the preset of training one network, from scratch or from weights."""
        base = self.training
        change: dict[str, Any] = {"architecture": architecture}
        if weights is not None:
            change["weights"] = weights
        return base.model_copy(update={"model": base.model.model_copy(update=change)})
