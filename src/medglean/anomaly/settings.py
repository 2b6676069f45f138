"""Everything that a preset for anomaly maps can say."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from medglean.data.augment_settings import Augment
from medglean.data.division import SplitSettings
from medglean.data.recipe import Recipe
from medglean.fitting.settings import FitSettings, OptimizerSettings
from medglean.runs.preset import Preset


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LabelSettings(_Settings):
    """Which images are healthy, by name."""

    healthy: str = "healthy"
    """Name of the healthy class, in column ``label`` or among the names of ``labels``."""
    diseased: tuple[str, ...] | None = None
    """Names of what counts as diseased; by default every other name. Images that are neither are
    left out, and counted in the report."""


class UNetSettings(_Settings):
    """The diffusion U-Net; see `medglean.nn.diffusion_unet.DiffusionUNet`."""

    width: int = Field(default=128, ge=1)
    """Channels of the first level; a multiple of 32, the groups of GroupNorm."""
    multipliers: tuple[int, ...] = Field(default=(1, 1, 2, 2, 4, 4), min_length=1)
    """Channels of each level, times ``width``; every level but the first halves the side."""
    blocks: int = Field(default=2, ge=1)
    """Residual blocks of each level."""
    attention_px: tuple[int, ...] = (16,)
    """Sides of the feature maps, in pixels, at which there is self-attention; the middle always
    has it."""
    heads: int = Field(default=1, ge=1)
    """Heads of attention."""
    head_width: int | None = Field(default=None, ge=1)
    """Channels of a head; where given, it decides the number of heads."""
    scale_shift: bool = False
    """Whether time and class scale and shift the normalised features, or are added to them."""
    block_resampling: bool = False
    """Whether residual blocks change the side, or convolutions do."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """In every residual block."""
    checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, a third more time."""
    patch_px: int = Field(default=1, ge=1)
    """Side of the squares of pixels that are folded into channels at the entrance and unfolded at
    the exit; 2 takes a quarter of the arithmetic. ``attention_px`` counts after folding. The
    paper's network has 1."""


class ClassifierSettings(_Settings):
    """The noise-conditioned classifier whose gradient guides; half a U-Net."""

    width: int = Field(default=32, ge=1)
    """Channels of the first level; a multiple of 32."""
    multipliers: tuple[int, ...] = Field(default=(1, 1, 2, 2, 4, 4), min_length=1)
    """Channels of each level, times ``width``."""
    blocks: int = Field(default=4, ge=1)
    """Residual blocks of each level."""
    attention_px: tuple[int, ...] = (32, 16, 8)
    """Sides of the feature maps at which there is self-attention."""
    head_width: int = Field(default=64, ge=1)
    """Channels of a head of attention."""
    scale_shift: bool = True
    """As for the U-Net."""
    block_resampling: bool = True
    """As for the U-Net."""
    pool: Literal["attention", "average"] = "attention"
    """How a feature map becomes logits; ``average`` learns from few images in few steps."""
    fit: FitSettings = Field(
        default_factory=lambda: FitSettings(
            epochs=1_000_000,
            max_steps=20_000,
            batch_size=10,
            optimizer=OptimizerSettings(name="adamw", learning_rate=1e-4),
        )
    )
    """How it is trained; its seed is the preset's."""


class DiffusionSettings(_Settings):
    """The noising process and the loss (Ho et al. 2020; Nichol and Dhariwal 2021)."""

    steps: int = Field(default=1000, ge=2)
    """T."""
    beta: tuple[float, float] = (1e-4, 0.02)
    """First and last variance of the linear schedule for T = 1000; scaled by 1000 / T."""
    learned_range: bool = True
    """Whether the network also gives the variance of each step (2 c output channels)."""
    vb_weight: float = Field(default=1.0, ge=0)
    """Weight of the variational bound beside the squared error of the noise; only with
    ``learned_range``."""
    value_range: Literal["unit", "signed"] = "unit"
    """What networks see: [0, 1] as the paper's data, or [-1, 1]."""
    label_dropout: float = Field(default=0.0, ge=0, le=1)
    """Share of training images whose class is withheld, which classifier-free guidance needs (Ho
    and Salimans 2022)."""
    min_snr: float | None = Field(default=None, gt=0)
    """Weight min(SNR, this) / SNR of the squared error (Hang et al. 2023); none: 1 everywhere."""
    train_levels: tuple[int, int] | None = None
    """Noise levels t that are trained on, first and last; by default all. A smaller range is
    learnt faster, and translation must stay inside."""

    focus: tuple[int, int] | None = None
    """Noise levels, first and last, that are trained on more often than the others."""
    focus_share: float = Field(default=0.75, ge=0, le=1)
    """Share of the training images that get a level of ``focus``, where there is one."""


class VaeSettings(_Settings):
    """The variational autoencoder that reconstructs healthy images (a baseline)."""

    width: int = Field(default=32, ge=1)
    """Channels after the first convolution; doubled with each of the four halvings, up to 8x."""
    latent: int = Field(default=128, ge=1)
    """Numbers in the code."""
    beta: float = Field(default=1.0, ge=0)
    """Weight of the KL divergence."""


class GanSettings(_Settings):
    """Fixed-Point GAN (Siddiquee et al. 2019; a baseline)."""

    width: int = Field(default=64, ge=1)
    """Channels after the first convolution."""
    blocks: int = Field(default=6, ge=0)
    """Residual blocks of the generator."""
    lambda_cls: float = Field(default=1.0, ge=0)
    """Weight of the domain classification."""
    lambda_gp: float = Field(default=10.0, ge=0)
    """Weight of the gradient penalty."""
    lambda_id: float = Field(default=10.0, ge=0)
    """Weight of the identity loss: translated to its own domain an image stays as it is."""
    lambda_rec: float = Field(default=10.0, ge=0)
    """Weight of the cycle: there and back again."""
    critic_steps: int = Field(default=5, ge=1)
    """Updates of the discriminator for one of the generator."""


class TranslateSettings(_Settings):
    """From an image to its healthy counterpart (Algorithm 1 of the paper)."""

    sampler: Literal["ddim", "ddpm", "released", "contrast"] = "ddim"
    """``ddim``: deterministic encoding and decoding, as the paper says. ``ddpm``: noise is added at
    once and taken out by stochastic steps. ``released``: what the authors' code does. ``contrast``:
    no translation; what the network expects of a diseased image and not of a healthy one is taken
    off, at a few low noise levels; see `medglean.anomaly.contrast`."""
    contrast_levels: tuple[int, ...] = Field(default=(50, 100, 150, 200, 250), min_length=1)
    """Noise levels of ``contrast``, increasing, averaged."""
    contrast_draws: int = Field(default=2, ge=1)
    """Draws of noise at each of these levels."""
    noise_level: int = Field(default=500, ge=1)
    """L: up to which of the T noise levels the image is encoded."""
    spacing: Literal["even", "quadratic"] = "even"
    """How levels are spaced where not every one is visited; ``quadratic`` lies closer where there
    is little noise."""
    steps: int | None = Field(default=None, ge=1)
    """Steps from 0 to L, and as many back; by default L, every level."""
    inversion_iterations: int = Field(default=0, ge=0)
    """Fixed-point iterations of each encoding step, which make it the inverse of the decoding step.
    0 is the plain encoding of equation (6)."""
    guidance: Literal["classifier", "classifier-free", "class", "none"] = "classifier"
    """What pulls towards healthy. ``classifier``: the gradient of the classifier.
    ``classifier-free``: scale times what the network says with the healthy class beyond what it
    says without a class. ``class``: the healthy class given to the network, and no more.
    ``none``: nothing."""
    scale: float = Field(default=100.0, ge=0)
    """s."""
    normalised: bool = False
    """Divide the classifier's gradient by its root mean square per image and step, times that of
    the noise: a scale that means the same in every data set."""
    encode_class: Literal["none", "own", "healthy"] = "none"
    """The class that the network is told while it encodes; ``own``: diseased, as the question
    supposes. For a network trained without label dropout ``none`` is no option: it takes
    ``healthy``, as the authors' code does."""


class MapSettings(_Settings):
    """From the image and its healthy counterpart to the map."""

    difference: Literal["absolute", "positive", "negative", "signed"] = "absolute"
    """Sum over channels of |x - x0| (the paper), of what is brighter in x than in x0, or darker;
    ``signed``: of x - x0, so that what is darker counts against."""
    channels: tuple[str, ...] | None = None
    """Channels that are summed; by default all."""
    noise_levels: tuple[int, ...] = ()
    """Average the maps of several L; by default that of ``translate.noise_level`` alone."""
    flip: bool = False
    """Average with the map of the mirror image."""
    foreground: Literal["none", "mask"] = "none"
    """``mask``: zero in the background; see `medglean.anomaly.maps.foreground_mask`."""
    erode: float = Field(default=0.0, ge=0, lt=0.5)
    """By how much the mask is eroded, as a share of the image's longer side: skull and rim; 0.06
    suits heads. Without a mask there is nothing to erode."""
    median_px: int = Field(default=0, ge=0)
    """Side of the median filter, odd; 0: none. It sees only the inside of the mask."""
    smooth: float = Field(default=0.0, ge=0)
    """Standard deviation of a Gaussian filter, as a share of the image's longer side, normalised by
    the mask; 0: none. It comes after the median."""


class ThresholdSettings(_Settings):
    """The baseline without learning (Meissen et al. 2022)."""

    equalise: bool = True
    """Equalise the histogram inside the foreground; otherwise the intensity as it is."""
    channel: str | None = None
    """Of several channels, the one that is looked at; by default ``flair`` where there is one, else
    their mean."""
    erode: float = Field(default=0.06, ge=0, lt=0.5)
    """As in ``map``. 0.05 to 0.07 take the scalp and most of the skull off a head; where the skull
    is stripped already, 0.02 is enough."""
    median_px: int = Field(default=9, ge=0)
    """As in ``map``; about 0.11 of the side serves best: 7 at 64 px, 15 at 128 px."""


class PredictSettings(_Settings):
    """How a trained run is applied."""

    batch_size: int = Field(default=32, ge=1)
    """Images at a time; the maps do not depend on it but for rounding."""
    precision: Literal["auto", "32-true", "bf16-mixed"] = "32-true"
    """Of the networks while translating."""
    compile: bool = False
    """Compile networks first (torch.compile): minutes once, then faster, on a GPU."""


class StudySettings(_Settings):
    """What the study `wolleb2022` compares and draws, besides the preset itself."""

    methods: dict[str, tuple[str, ...]] = Field(
        default_factory=lambda: {
            "Diffusion": (),
            "Diffusion, no guidance": ("translate.guidance=none",),
            "DDPM sampling": ("translate.sampler=ddpm",),
            "VAE": ("method=vae",),
            "Fixed-Point GAN": ("method=fpgan",),
            "Threshold, no learning": ("method=threshold",),
            "Diffusion + threshold": ("combine=threshold",),
        },
        min_length=1,
    )
    """Rows of the table: a name, and what it changes in the preset. Rows that need the same network
    share it. The first is what the others are compared with."""
    scales: tuple[float, ...] = (0.0, 10.0, 50.0, 100.0, 200.0, 500.0)
    """Guidance scales s of the curves and the strips (figures 4 and 5)."""
    noise_levels: tuple[int, ...] = (100, 300, 500, 700)
    """Noise levels L of the curves and the strips (figures 4 and 6)."""
    curve_images: int = Field(default=32, ge=0)
    """Diseased test images that the curves are of, drawn evenly over patients; 0: no curves."""
    shown: int = Field(default=4, ge=1)
    """Cases in the panels, strips have one."""


def _fit() -> FitSettings:
    return FitSettings(
        epochs=1_000_000,
        max_steps=50_000,
        batch_size=10,
        ema_decay=0.9999,
        optimizer=OptimizerSettings(name="adamw", learning_rate=1e-4),
    )


class AnomalyPreset(Preset):
    """A recipe for training and applying a method that maps anomalies."""

    task: Literal["anomaly"] = "anomaly"
    method: Literal["diffusion", "vae", "fpgan", "threshold"] = "diffusion"
    """What gives the map."""
    combine: Literal["none", "threshold"] = "none"
    """``threshold``: average the map with that of the baseline without learning; each is divided by
    a scale measured on validation images, without masks."""
    combine_weight: float = Field(default=0.5, gt=0, lt=1)
    """Share of the baseline's map in that average; the rest is the method's own."""
    images: Recipe = Field(default_factory=lambda: Recipe(size_px=(256, 256), resize="pad"))
    augment: Augment = Field(default_factory=Augment)
    labels: LabelSettings = Field(default_factory=LabelSettings)
    split: SplitSettings = Field(default_factory=SplitSettings)
    position: str | None = "slice"
    """Column with the number of the slice, if there is one. Its place in the volume, 0 to 1, is
    what healthy and diseased images are matched on when whole images are measured."""
    match_on: str | None = None
    """Column with a number, or ``position`` for the place in the volume (see there): images are
    drawn so that both classes are alike in it, and a network cannot tell them by it."""
    unet: UNetSettings = Field(default_factory=UNetSettings)
    classifier: ClassifierSettings = Field(default_factory=ClassifierSettings)
    diffusion: DiffusionSettings = Field(default_factory=DiffusionSettings)
    vae: VaeSettings = Field(default_factory=VaeSettings)
    gan: GanSettings = Field(default_factory=GanSettings)
    threshold: ThresholdSettings = Field(default_factory=ThresholdSettings)
    translate: TranslateSettings = Field(default_factory=TranslateSettings)
    map: MapSettings = Field(default_factory=MapSettings)
    fit: FitSettings = Field(default_factory=_fit)
    """Training of the U-Net, the VAE or the GAN."""
    predict: PredictSettings = Field(default_factory=PredictSettings)
    study: StudySettings = Field(default_factory=StudySettings)

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names of the image's channels."""
        channels = self.images.channels
        return (
            channels
            if not isinstance(channels, str)
            else (("grey",) if channels == "grey" else ("red", "green", "blue"))
        )

    @model_validator(mode="after")
    def _check(self) -> Self:
        total = self.diffusion.steps
        levels = (self.translate.noise_level, *self.map.noise_levels)
        for level in levels:
            if not 1 <= level <= total:
                raise ValueError(
                    f"noise level L = {level} is outside 1..{total}: set translate.noise_level, or "
                    "diffusion.steps, which is T."
                )
        self._check_contrast()
        if self.translate.steps is not None and self.translate.steps > min(levels):
            raise ValueError(
                f"translate.steps is {self.translate.steps}, more than the {min(levels)} levels "
                "that there are to step over: set it to that or less."
            )
        for name, side in (("map", self.map.median_px), ("threshold", self.threshold.median_px)):
            if side and side % 2 == 0:
                raise ValueError(f"{name}.median_px must be odd, or 0 for none, got {side}.")
        free = self.translate.guidance == "classifier-free"
        if self.method == "diffusion" and free and self.diffusion.label_dropout == 0:
            raise ValueError(
                "classifier-free guidance needs a network that was also trained without a class: "
                "set diffusion.label_dropout, such as 0.2."
            )
        if self.map.channels is not None:
            unknown = sorted(set(self.map.channels) - set(self.channel_names))
            if unknown:
                raise ValueError(
                    f"map.channels names {unknown[0]!r}; the images have "
                    f"{', '.join(self.channel_names)}."
                )
        return self

    def _check_contrast(self) -> None:
        """Refuse noise levels of a contrast that are not there, or not in order."""
        levels, total = self.translate.contrast_levels, self.diffusion.steps
        rising = list(levels) == sorted(set(levels))
        if self.translate.sampler == "contrast" and not (
            rising and levels[0] >= 1 and levels[-1] <= total
        ):
            raise ValueError(
                f"translate.contrast_levels are {list(levels)}: expected rising noise levels in "
                f"1..{total}."
            )
