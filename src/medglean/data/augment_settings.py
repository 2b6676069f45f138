"""Which random changes an image meets in training, and how strong: settings only.

Every change is off by default, so that what a preset does not name does not happen.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Range = tuple[float, float]
Fill = Literal["black", "mean"]

MOST_ERASED = 8


class Augment(BaseModel):
    """Random changes of training images, in the order in which they are applied."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    flip_horizontal: Probability = 0.0
    """Probability, 0 to 1, of exchanging left and right. It moves the heart to the other side."""
    flip_vertical: Probability = 0.0
    """Probability, 0 to 1, of exchanging top and bottom."""
    quarter_turns: bool = False
    """Turn by 0, 90, 180 or 270 degrees, each as likely; square images only."""

    geometry_probability: Probability = 1.0
    """Probability, 0 to 1, that an image meets rotation, translation, scale, aspect, shear and
    crop at all; all of them are one interpolation."""
    rotation_deg: float = Field(default=0.0, ge=0.0, le=180.0)
    """Largest angle in degrees, either way, 0 to 180; uniform."""
    translate: float = Field(default=0.0, ge=0.0, le=1.0)
    """Largest shift as a share of each side, either way, 0 to 1; uniform, x and y apart."""
    scale: Range = (1.0, 1.0)
    """Smallest and largest magnification, above 0; below 1 shrinks. Uniform in its logarithm."""
    aspect: float = Field(default=1.0, ge=1.0, le=4.0)
    """Largest stretch of the width against the height, or the reverse, 1 to 4; log-uniform."""
    shear_deg: float = Field(default=0.0, ge=0.0, le=60.0)
    """Largest angle in degrees by which an axis leans, either way, 0 to 60; x and y apart."""
    crop_area: Range = (1.0, 1.0)
    """Smallest and largest share of the area that a random crop keeps and magnifies to full size,
    above 0 and at most 1; uniform."""
    crop_aspect: float = Field(default=1.0, ge=1.0, le=4.0)
    """Largest ratio of the crop's sides, relative to the image's, 1 to 4; log-uniform."""
    fill: Literal["black", "mean", "edge", "reflect"] = "black"
    """What stands where the geometry looks beyond the image: 0, the image's mean, its nearest
    pixel, or its mirror image."""

    tone_probability: Probability = 1.0
    """Probability, 0 to 1, that an image meets inversion, curve, gamma, contrast and brightness
    at all; all of them are one curve of grey levels."""
    invert: Probability = 0.0
    """Probability, 0 to 1, of exchanging dark and bright."""
    tone_curve: float = Field(default=0.0, ge=0.0, le=3.0)
    """Strength, 0 to 3, of a random rising curve from (0, 0) to (1, 1): the logarithm of each of
    its 8 slopes, before they are scaled to end at 1, is uniform in -strength to strength."""
    gamma: Range = (1.0, 1.0)
    """Smallest and largest exponent, above 0; above 1 darkens. Uniform in its logarithm."""
    contrast: Range = (1.0, 1.0)
    """Smallest and largest factor about the image's mean, above 0; uniform in its logarithm."""
    brightness: float = Field(default=0.0, ge=0.0, le=1.0)
    """Largest amount added, either way, as a share of the range, 0 to 1; uniform."""

    illumination_probability: Probability = 1.0
    """Probability, 0 to 1, of uneven illumination, where ``illumination`` is not 0."""
    illumination: float = Field(default=0.0, ge=0.0, le=1.0)
    """Strength, 0 to 1, of a smooth field that the image is multiplied by: the logarithm of its
    value at each of 3 x 3 places is uniform in -strength to strength, cubic between them."""

    blur_probability: Probability = 1.0
    """Probability, 0 to 1, of blurring, where ``blur_sigma_px`` is not 0."""
    blur_sigma_px: float = Field(default=0.0, ge=0.0, le=20.0)
    """Largest standard deviation of the Gaussian in pixels, 0 to 20; uniform from 0."""
    sharpen_probability: Probability = 1.0
    """Probability, 0 to 1, of sharpening, where ``sharpen`` is not 0."""
    sharpen: float = Field(default=0.0, ge=0.0, le=10.0)
    """Largest amount, 0 to 10, of what a Gaussian of 1 pixel removes that is added; uniform."""
    downscale_probability: Probability = 1.0
    """Probability, 0 to 1, of losing resolution, where ``downscale`` is not 1."""
    downscale: float = Field(default=1.0, gt=0.0, le=1.0)
    """Smallest share of each side, above 0 and at most 1, to which an image is shrunk and grown
    again; uniform up to 1."""
    noise_probability: Probability = 1.0
    """Probability, 0 to 1, of adding noise, where ``noise_sd`` is not 0."""
    noise_sd: float = Field(default=0.0, ge=0.0, le=1.0)
    """Largest standard deviation of Gaussian noise as a share of the range, 0 to 1; uniform."""
    jpeg_probability: Probability = 1.0
    """Probability, 0 to 1, of compression, where ``jpeg_quality`` is given."""
    jpeg_quality: tuple[int, int] | None = None
    """Smallest and largest quality, 1 to 100, of a JPEG that the image passes through."""

    border_probability: Probability = 1.0
    """Probability, 0 to 1, of masking the border, where ``border`` is not 0."""
    border: float = Field(default=0.0, ge=0.0, le=0.5)
    """Largest width of a mask as a share of the side, 0 to 0.5; uniform, each side apart. Markers
    and collimator edges lie there."""
    border_fill: Fill = "black"
    """What the mask of the border is filled with: 0, or the image's mean."""
    erase_probability: Probability = 1.0
    """Probability, 0 to 1, of erasing rectangles, where ``erase_count`` is not 0."""
    erase_count: int = Field(default=0, ge=0, le=MOST_ERASED)
    """Most rectangles that are erased, 0 to 8; from 1 to this, each number as likely."""
    erase_size: Range = (0.05, 0.25)
    """Smallest and largest side of a rectangle as a share of the image's, above 0, at most 1."""
    erase_fill: Fill = "mean"
    """What rectangles are filled with: 0, or the image's mean."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, most in (
            ("scale", 10.0),
            ("crop_area", 1.0),
            ("gamma", 10.0),
            ("contrast", 10.0),
            ("erase_size", 1.0),
        ):
            low, high = getattr(self, name)
            if not 0.0 < low <= high <= most:
                raise ValueError(
                    f"{name} must satisfy 0 < low <= high <= {most:g}, got {low} and {high}."
                )
        if self.jpeg_quality is not None and not (
            1 <= self.jpeg_quality[0] <= self.jpeg_quality[1] <= 100
        ):
            raise ValueError(
                f"jpeg_quality must satisfy 1 <= low <= high <= 100, got {self.jpeg_quality}."
            )
        return self

    @property
    def warps(self) -> bool:
        """Whether an image may be interpolated."""
        return self.geometry_probability > 0 and (
            self.rotation_deg > 0
            or self.translate > 0
            or self.scale != (1.0, 1.0)
            or self.aspect > 1
            or self.shear_deg > 0
            or self.crop_area != (1.0, 1.0)
            or self.crop_aspect > 1
        )

    @property
    def bends_tone(self) -> bool:
        """Whether grey levels may be changed."""
        return self.tone_probability > 0 and (
            self.invert > 0
            or self.tone_curve > 0
            or self.gamma != (1.0, 1.0)
            or self.contrast != (1.0, 1.0)
            or self.brightness > 0
        )
