"""What a reader returns: the values of one image and what they mean."""

from __future__ import annotations

from dataclasses import dataclass

from medglean.arrays import Values


@dataclass(frozen=True)
class Picture:
    """One image, decoded, in its file's own unit.

    Attributes
    ----------
    values
        Array of shape (c, *spatial). Never rescaled for display: a CT stays in Hounsfield units,
        an 8-bit PNG stays in 0..255.
    unit
        ``"HU"``, ``"8-bit"`` (0..255), ``"16-bit"`` (0..65535), ``"1-bit"`` (0 or 1), ``"float"``,
        ``"US"`` (unspecified, as DICOM says it), or what the file states.
    spacing_mm
        Millimetres between neighbouring samples, one per spatial axis in the order of ``axes``;
        ``None`` where the file does not say.
    channels
        Names of the channels: ``("grey",)``, ``("red", "green", "blue")``.
    warnings
        Sentences about what a careful user should know, such as a dropped alpha channel.
    axes
        Names of the spatial axes. ``("y", "x")`` for a picture (rows run downwards, columns to the
        right), ``("frame", "y", "x")`` for a multi-frame file, ``("R", "A", "S")`` for a NIfTI
        volume (towards the patient's right, front and head), and what remains of these for a slice.
    full_scale
        The lowest and highest value that the encoding can hold, such as (0, 255), where that is
        known; ``None`` otherwise.
    """

    values: Values
    unit: str
    spacing_mm: tuple[float, ...] | None = None
    channels: tuple[str, ...] = ("grey",)
    warnings: tuple[str, ...] = ()
    axes: tuple[str, ...] = ("y", "x")
    full_scale: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.values.ndim != 1 + len(self.axes):
            raise ValueError(
                f"values of shape {self.values.shape} do not fit axes {self.axes}: "
                "expected (c, *spatial) with one name per spatial axis."
            )
        if self.values.shape[0] != len(self.channels):
            raise ValueError(
                f"{self.values.shape[0]} channels in the values, {len(self.channels)} names: "
                f"{self.channels}."
            )
