"""Everything that a preset for a virtual stain can say."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from medglean.data.division import SplitSettings
from medglean.data.recipe import Recipe
from medglean.fitting.settings import (
    CHANGEABLE,
    FitSettings,
    OptimizerSettings,
    ScheduleSettings,
)
from medglean.runs.preset import Preset

MAY_CHANGE = frozenset(
    {f"{table}.{name}" for table in ("fit", "level.fit") for name in CHANGEABLE}
    | {"summary", "predict", "slide", "study", "measure.perceptual_weights"}
)
"""Settings, or tables of them, that a resumed training may change: what is trained stays as it is.
"""


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AugmentSettings(_Settings):
    """Random changes of training pairs; geometry is the same for both images of a pair."""

    crop_px: int | None = Field(default=None, ge=16)
    """Side of the square that is cut from a pair at a random place; by default whole images."""
    crops_per_image: int = Field(default=1, ge=1)
    """How many crops of a pair an epoch has."""
    flips: bool = True
    """Mirror left to right and top to bottom, each with probability 0.5."""
    quarter_turns: bool = True
    """Turn by 0, 90, 180 or 270 degrees, each as likely."""
    stain: float = Field(default=0.0, ge=0, le=0.5)
    """Strength of the change of the H&E's stains: the density of haematoxylin, eosin and rest is
    each multiplied by 1 + u and shifted by 0.2 u, u uniform in -strength to strength (Tellez et
    al. 2018, "HED"). The target stays as it is."""


class WhiteSettings(_Settings):
    """The white of a slide: what the scanner shows where there is nothing."""

    normalise: bool = False
    """Divide targets by the white point of their slide before training, so that glass is white
    in every slide; the white points of real IHC slides run from grey 176 to white 251."""
    inputs: bool = False
    """The same for the H&E images."""
    percentile: float = Field(default=99.0, gt=50, le=100)
    """Of each colour channel over all images of the slide: the white point."""
    reapply: Literal["none", "training", "input", "own"] = "none"
    """What a generated image is multiplied by, where targets were normalised: nothing, so that
    glass is white; the mean white point of the training slides; that of the H&E slide; or that of
    the image's own target slide, where it is known (``training`` where it is not)."""


class AttentionSettings(_Settings):
    """Residual attention on skip connections of the generator."""

    kind: Literal["none", "favor", "softmax", "elu"] = "favor"
    """``favor``: FAVOR+, positive orthogonal random features (Choromanski et al. 2021).
    ``softmax``: exact. ``elu``: elu + 1 as kernel (Katharopoulos et al. 2020)."""
    skips: tuple[int, ...] = (3, 4, 5)
    """Which skip connections: n stands for the one after n halvings of the side."""
    heads: int = Field(default=4, ge=1)
    """Heads."""
    head_width: int = Field(default=16, ge=1)
    """Channels of a head, d."""
    features: int = Field(default=64, ge=1)
    """Random features of a head, m, of ``favor``."""


class GeneratorSettings(_Settings):
    """The U-Net that turns H&E into IHC; see `medglean.nn.stain_gan`."""

    width: int = Field(default=64, ge=1)
    """Channels after the first halving; doubled with each of the next three."""
    halvings: int = Field(default=8, ge=2, le=10)
    """How often the side is halved; 8 is pix2pix's ``unet_256``."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """In the inner blocks of the decoder, as in pix2pix."""
    patch_px: int = Field(default=1, ge=1)
    """Side of the squares of pixels that are folded into channels at the entrance and unfolded at
    the exit; 2 takes about a quarter of the arithmetic. The report's network has 1."""
    attention: AttentionSettings = Field(default_factory=AttentionSettings)
    level_features: bool = True
    """Whether features of the level classifier modulate the bottleneck (FiLM, Perez et al.
    2018)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        deep = [n for n in self.attention.skips if not 1 <= n < self.halvings]
        if self.attention.kind != "none" and deep:
            raise ValueError(
                f"generator.attention.skips names {deep[0]}: with {self.halvings} halvings there "
                f"are the skip connections 1 to {self.halvings - 1}."
            )
        return self


class DiscriminatorSettings(_Settings):
    """The conditional PatchGAN: a shared trunk and up to two heads."""

    width: int = Field(default=64, ge=1)
    """Channels after the first convolution."""
    layers: int = Field(default=3, ge=1)
    """Convolutions of stride 2; 3 sees 70 x 70 pixels."""
    level_head: bool = True
    """Whether a second head tells the level (the multi-task discriminator)."""


class LevelSettings(_Settings):
    """The classifier of the expression level, trained on H&E first and then frozen."""

    names: tuple[str, ...] = Field(default=("0", "1+", "2+", "3+"), min_length=2)
    """The levels, in order. A label outside these is refused."""
    architecture: str = "resnet18"
    """Of `medglean.nn.backbones`."""
    size_px: int = Field(default=256, ge=32)
    """Side that images are shrunk to for the classifier, in training and as it gives features."""
    fit: FitSettings = Field(
        default_factory=lambda: FitSettings(
            epochs=20, batch_size=16, optimizer=OptimizerSettings(learning_rate=1e-4)
        )
    )
    """How it is trained; its seed and device are those of ``fit``."""


class LossSettings(_Settings):
    """Weights of the losses of the generator; 0 leaves one out."""

    adversarial: float = Field(default=1.0, ge=0)
    """Binary cross-entropy against the discriminator, per patch. 0: no discriminator."""
    level: float = Field(default=1.0, ge=0)
    """Cross-entropy of the level that the discriminator's second head tells."""
    l1: float = Field(default=100.0, ge=0)
    """Mean absolute difference of images in [-1, 1]."""
    pyramid: float = Field(default=0.0, ge=0)
    """L1 on Gaussian octaves (pyramid pix2pix, Liu et al. 2022): forgiving to small shifts."""
    octaves: int = Field(default=4, ge=1)
    """Octaves of ``pyramid``."""
    density: float = Field(default=0.0, ge=0)
    """L1 of the optical densities of haematoxylin and DAB."""
    background: float = Field(default=4.0, ge=0)
    """Further weight of ``density`` where the real image has an optical density below 0.05: the
    background that must not turn yellow."""
    colour: float = Field(default=0.0, ge=0)
    """L1 of Lab a* and b*, in units of 100, at a quarter of the resolution."""
    blocks: float = Field(default=0.0, ge=0)
    """L1 of mean and 90th percentile of DAB's optical density over blocks, whatever lies where in
    a block: for sections that do not lie on one another."""
    block_px: int = Field(default=64, ge=2)
    """Side of these blocks."""


class MeasureSettings(_Settings):
    """What generated images are measured by."""

    positive_od: float = Field(default=0.15, gt=0)
    """Optical density of DAB from which a pixel counts as stained."""
    background_od: float = Field(default=0.05, gt=0)
    """Mean optical density of the real image below which a pixel is background."""
    judge: bool = True
    """Train a classifier of the level on real IHC of the training part, and ask it about
    generated images."""
    perceptual_weights: str | None = None
    """Folder with weights for LPIPS, FID and IS (see docs/how-to/stain.md); nothing is ever
    downloaded. None: those measures are left out, and the report says so."""


class PredictSettings(_Settings):
    """How a trained run is applied."""

    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    """Of the generator."""
    legend: bool = True
    """Write "Synthetic, not for diagnosis" into the pixels: a strip below a patch, outside the
    tissue on a slide. It always stands in the metadata."""


class SlideSettings(_Settings):
    """How a whole slide is read, stained and written."""

    mpp: float | None = Field(default=None, gt=0)
    """Micrometres per pixel of level 0, where the slide's file does not say."""
    train_mpp: float | None = Field(default=None, gt=0)
    """Micrometres per pixel of the training images; a slide whose level is more than a fifth off
    is told."""
    level: int = Field(default=0, ge=0)
    """Level of the slide that is stained."""
    tile_px: int = Field(default=1024, ge=64)
    """Side of the square that is generated at once, without its overlap; a multiple of the
    network's stride."""
    overlap_px: int | None = Field(default=None, ge=0)
    """How far a tile reaches into its neighbours on each side; by default as far as the network
    sees, so that tiles agree but for rounding."""
    feather_px: int = Field(default=32, ge=0)
    """Width over which neighbouring tiles are blended."""
    attention: Literal["tile", "slide"] = "slide"
    """Attention and level features over a tile with its overlap, or over the whole slide, which
    takes a first pass over it."""
    tissue: bool = True
    """Stain where there is tissue; glass becomes white."""
    white: Literal["preset", "none", "training", "input"] = "preset"
    """What the slide is multiplied by: as ``white.reapply``, or by force; ``input``: the white
    point of the H&E slide."""
    formats: tuple[Literal["ome", "tiff", "dzi"], ...] = ("ome",)
    """Besides what the output's name says: ``tiff``, a plain pyramid; ``dzi``, Deep Zoom."""
    compression: Literal["jpeg", "deflate", "none"] = "jpeg"
    """Of the tiles in the file."""
    quality: int = Field(default=90, ge=1, le=100)
    """Of JPEG."""
    regions: bool = True
    """Write outlines of DAB-positive regions as GeoJSON, for QuPath."""
    smallest_region_um2: float = Field(default=100.0, ge=0)
    """Smaller regions are left out."""


class StudySettings(_Settings):
    """What the study `bci2024` compares and draws, besides the preset itself."""

    methods: dict[str, tuple[str, ...]] = Field(
        default_factory=lambda: {
            "FAVOR+ GAN": (),
            "pix2pix": (
                "generator.attention.kind=none",
                "generator.level_features=false",
                "discriminator.level_head=false",
            ),
            "Pyramid pix2pix": (
                "generator.attention.kind=none",
                "generator.level_features=false",
                "discriminator.level_head=false",
                "losses.l1=0",
                "losses.pyramid=100",
            ),
            "L1 U-Net": (
                "generator.attention.kind=none",
                "generator.level_features=false",
                "losses.adversarial=0",
            ),
            "Mean colour": ("method=mean-colour",),
        },
        min_length=1,
    )
    """Rows of the table: a name, and what it changes in the preset. The first is what the others
    are compared with."""
    folds: Literal["split", "pair", "group"] = "split"
    """``split``: train once, measure the test part. ``pair``: leave one pair out at a time, and
    measure it; ``group``: one patient or slide at a time."""
    shown: int = Field(default=4, ge=1)
    """Pairs in the panels."""


def _fit() -> FitSettings:
    return FitSettings(
        epochs=200,
        batch_size=1,
        optimizer=OptimizerSettings(name="adam", learning_rate=2e-4, betas=(0.5, 0.999)),
        schedule=ScheduleSettings(name="linear-decay", decay_after_epochs=100),
    )


class StainPreset(Preset):
    """A recipe for training and applying a virtual stain."""

    task: Literal["stain"] = "stain"
    method: Literal["gan", "mean-colour"] = "gan"
    """What gives the image; ``mean-colour`` learns nothing but one colour (a baseline)."""
    images: Recipe = Field(
        default_factory=lambda: Recipe(size_px=(1024, 1024), channels="rgb", resize="centre")
    )
    """Of both images of a pair. ``resize="centre"`` keeps a pixel a pixel."""
    augment: AugmentSettings = Field(default_factory=AugmentSettings)
    split: SplitSettings = Field(default_factory=SplitSettings)
    white: WhiteSettings = Field(default_factory=WhiteSettings)
    generator: GeneratorSettings = Field(default_factory=GeneratorSettings)
    discriminator: DiscriminatorSettings = Field(default_factory=DiscriminatorSettings)
    level: LevelSettings = Field(default_factory=LevelSettings)
    losses: LossSettings = Field(default_factory=LossSettings)
    fit: FitSettings = Field(default_factory=_fit)
    """Training of the generator and the discriminator, an optimiser each."""
    measure: MeasureSettings = Field(default_factory=MeasureSettings)
    predict: PredictSettings = Field(default_factory=PredictSettings)
    slide: SlideSettings = Field(default_factory=SlideSettings)
    study: StudySettings = Field(default_factory=StudySettings)

    @property
    def stride_px(self) -> int:
        """What the sides of an image must be a multiple of."""
        return self.generator.patch_px << self.generator.halvings

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.images.channels != "rgb":
            raise ValueError(f"images.channels is {self.images.channels!r}: stains need 'rgb'.")
        crop = self.augment.crop_px
        for name, sides in (
            ("images.size_px", self.images.size_px),
            ("augment.crop_px", () if crop is None else (crop,)),
            ("slide.tile_px", (self.slide.tile_px,)),
        ):
            for side in sides:
                if self.method == "gan" and side % self.stride_px:
                    raise ValueError(
                        f"{name} is {side}, not a multiple of {self.stride_px}, which is "
                        "generator.patch_px x 2^generator.halvings: choose another side, or fewer "
                        "halvings."
                    )
        if crop is not None and crop > min(self.images.size_px):
            raise ValueError(
                f"augment.crop_px is {crop}, larger than the images of {self.images.size_px}."
            )
        if self.white.reapply != "none" and not self.white.normalise:
            raise ValueError(
                f"white.reapply is {self.white.reapply!r} and targets are not normalised: set "
                "white.normalise=true, or white.reapply=none."
            )
        rest = ("l1", "pyramid", "density", "colour", "blocks")
        if self.method == "gan" and not any(getattr(self.losses, name) for name in rest):
            raise ValueError(
                "every weight of losses that compares with the real image is 0: give losses.l1 or "
                "losses.pyramid a weight, such as 100."
            )
        return self
