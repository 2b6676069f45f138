"""How a decoded image becomes an array of the size, channels and range that a network takes.

A recipe is data: frozen, validated, hashed. The cache is keyed by it, and a run keeps it, so that
prediction prepares an image as training did.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from medglean.files import sha256_of_json


class Intensity(BaseModel):
    """How values in a file's own unit become values in [0, 1]."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: Literal["full-scale", "percentile", "min-max", "window"] = "full-scale"
    """``full-scale``: the encoding's own range (0..255 for 8 bit). ``percentile``: per image, from
    percentile ``low`` to percentile ``high``. ``min-max``: per image. ``window``: from ``low`` to
    ``high`` in the file's unit."""
    low: float = 0.0
    high: float = 100.0
    scope: Literal["image", "volume"] = "image"
    """Over what a per-image rule is computed: the image itself, or the whole volume or clip that
    it is a slice of."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.rule == "percentile" and not 0.0 <= self.low < self.high <= 100.0:
            raise ValueError(
                f"percentiles must satisfy 0 <= low < high <= 100, got {self.low} and {self.high}."
            )
        if self.rule == "window" and not self.low < self.high:
            raise ValueError(f"a window needs low < high, got {self.low} and {self.high}.")
        return self


class Recipe(BaseModel):
    """From a picture to an array of shape (c, h, w) with values in [0, 1]."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size_px: tuple[int, int] = (224, 224)
    """Height and width."""
    channels: Literal["grey", "rgb"] | tuple[str, ...] = "grey"
    """``grey``: colour is turned into luminance (ITU-R BT.601). ``rgb``: grey is repeated. Names:
    one reference per channel, from the manifest's columns ``image.NAME``."""
    resize: Literal["stretch", "pad", "crop"] = "stretch"
    """``stretch``: the aspect ratio is lost. ``pad``: kept, zeros around. ``crop``: kept, the
    longer side is cut equally at both ends."""
    intensity: Intensity = Field(default_factory=Intensity)
    equalise: Literal["none", "clahe"] = "none"
    """Contrast-limited adaptive histogram equalisation after resizing (clip limit 2, 8x8 tiles)."""
    dtype: Literal["uint8", "uint16", "float32"] = "uint8"
    """How the cache keeps [0, 1]: in 1/255, in 1/65535, or as it is."""

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
        """SHA-256 of all settings."""
        return sha256_of_json(self.model_dump(mode="json"))
