"""How a decoded image becomes an array of the size, channels and range that a network takes.

A recipe is data: frozen, validated, hashed. The cache is keyed by it, and a run keeps it, so that
prediction prepares an image as training did.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from medglean.files import sha256_of_json

PREPARE_VERSION = 1
"""Raised when the same recipe would give other pixels, so that caches made before are not read."""


class Intensity(BaseModel):
    """How values in a file's own unit become values in [0, 1]."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: Literal["full-scale", "percentile", "min-max", "window"] = "full-scale"
    """``full-scale``: the encoding's own range (0..255 for 8 bit). ``percentile``: per image, from
    percentile ``low`` to percentile ``high``. ``min-max``: per image. ``window``: from ``low`` to
    ``high`` in the file's unit, so both must be given. Values beyond the ends are clipped."""
    low: float = Field(default=0.0, allow_inf_nan=False)
    """Percentile in 0..100, or the window's lower end in the file's unit; unused by the others."""
    high: float = Field(default=100.0, allow_inf_nan=False)
    """Percentile in 0..100, or the window's upper end in the file's unit; unused by the others."""
    scope: Literal["image", "volume"] = "image"
    """Over what ``percentile`` and ``min-max`` are computed: the image itself, or the whole file
    (volume or clip) that its reference takes a slice of."""
    skip_zeros: bool = False
    """Whether zeros take no part in ``percentile``: of a skull-stripped brain most voxels are
    background, so that percentile 99 of all of them would clip some 6 % of the brain. Percentiles
    0 and 100 remain the smallest and the largest value, zeros included."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.rule == "percentile" and not 0.0 <= self.low < self.high <= 100.0:
            raise ValueError(
                f"percentiles must satisfy 0 <= low < high <= 100, got {self.low} and {self.high}."
            )
        if self.rule == "window" and not self.low < self.high:
            raise ValueError(f"a window needs low < high, got {self.low} and {self.high}.")
        if self.rule == "window" and not {"low", "high"} <= self.model_fields_set:
            raise ValueError("a window needs both low and high, in the file's unit.")
        if self.skip_zeros and self.rule != "percentile":
            raise ValueError(
                f"skip_zeros has no meaning for rule {self.rule!r}: leave it out, or use rule "
                "'percentile'."
            )
        if self.scope == "volume" and self.rule in ("full-scale", "window"):
            raise ValueError(
                f"scope 'volume' has no meaning for rule {self.rule!r}, whose range is fixed: "
                "use scope 'image', or rule 'percentile' or 'min-max'."
            )
        return self


class Foreground(BaseModel):
    """What is kept of an image, and how bright it becomes: nothing but the head or the organ."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    erode: float = Field(default=0.03, ge=0.0, lt=0.5)
    """How deep below the rim of the foreground an image is set to 0, as a share of its longer side:
    skin and bone, which are as bright as disease."""
    median: float | None = Field(default=None, gt=0.0, lt=1.0)
    """What the median of what is kept becomes, per channel; what would be brighter than 1 is
    clipped. Unlike a high percentile it hardly moves with the size of a bright lesion. None: the
    brightness stays."""


class Recipe(BaseModel):
    """From a picture to an array of shape (c, h, w) with values in [0, 1]."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size_px: tuple[int, int] = (224, 224)
    """Height and width, each from 1 to 16384."""
    channels: Literal["grey", "rgb"] | tuple[str, ...] = "grey"
    """``grey``: colour is turned into luminance (ITU-R BT.601). ``rgb``: grey is repeated. Names:
    one reference per channel, from the manifest's columns ``image.NAME``."""
    resize: Literal["stretch", "pad", "crop", "centre"] = "stretch"
    """``stretch``: the aspect ratio is lost. ``pad``: kept, zeros around. ``crop``: kept, the
    longer side is cut equally at both ends. ``centre``: nothing is enlarged or reduced, so a pixel
    stays a pixel; a side that is too short gets zeros at both ends and one too long is cut."""
    centre_crop: float = Field(default=1.0, gt=0.0, le=1.0)
    """Share of each side that is kept, around the centre, before resizing; 1 keeps all. With
    ``crop``, 0.875 equals the usual "resize to 256, centre crop to 224". It is part of the recipe,
    not of augmentation, because training and prediction must do it alike."""
    intensity: Intensity = Field(default_factory=Intensity)
    foreground: Foreground | None = None
    """After resizing: set the background to 0, as `medglean.data.foreground` finds it."""
    equalise: Literal["none", "clahe", "histogram"] = "none"
    """After resizing, per channel. ``clahe``: contrast-limited adaptive histogram equalisation
    (clip limit 2, 8x8 tiles). ``histogram``: one curve for the whole image that makes all grey
    levels equally frequent."""
    dtype: Literal["uint8", "uint16", "float32"] = "uint8"
    """How the cache keeps [0, 1]: in 1/255, in 1/65535, or as it is."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not all(1 <= side <= 16384 for side in self.size_px):
            raise ValueError(f"size_px must be two sides from 1 to 16384, got {self.size_px}.")
        if not isinstance(self.channels, str):
            if not self.channels:
                raise ValueError("channels needs at least one name, or 'grey' or 'rgb'.")
            if len(set(self.channels)) < len(self.channels):
                raise ValueError(f"channels names one twice: {self.channels}.")
        return self

    @property
    def channel_count(self) -> int:
        """How many channels the array has."""
        if self.channels == "grey":
            return 1
        return 3 if self.channels == "rgb" else len(self.channels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (c, h, w) of one image."""
        return (self.channel_count, *self.size_px)

    def hash(self) -> str:
        """SHA-256 of all settings, and of the version of the code that carries them out."""
        return sha256_of_json({"version": PREPARE_VERSION, **self.model_dump(mode="json")})
