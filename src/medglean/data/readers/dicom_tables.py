"""Lookup tables of DICOM: modality, VOI and palette, and how their entries are packed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydicom import Dataset

_COLOURS = ("Red", "Green", "Blue")


@dataclass(frozen=True)
class Table:
    """A lookup table: its entries, the sample that the first belongs to, and their bits."""

    entries: np.ndarray
    first: int
    bits: int

    def look_up(self, samples: np.ndarray) -> np.ndarray:
        """Return the entry of each sample; those outside take the first or the last entry."""
        at = np.rint(samples).astype(np.int64) - self.first
        entries: np.ndarray = self.entries[np.clip(at, 0, len(self.entries) - 1)]
        return entries


def table_of(
    descriptor: Sequence[int], data: object, *, signed: bool, little_endian: bool = True
) -> Table:
    """Return a table from its descriptor (entries, first sample, bits) and its data.

    Parameters
    ----------
    data
        Bytes, or the numbers of a US or SS element. Entries of 8 bits may be packed one or two to
        a word.
    signed
        Whether the first sample is a signed number.

    Raises
    ------
    ValueError
        If the table is shorter than its descriptor says.
    """
    count, first, bits = (int(number) for number in descriptor)
    count = count or 65536
    first = first - 65536 if signed and first > 32767 else first
    if isinstance(data, bytes):
        order = "<" if little_endian else ">"
        entries = np.frombuffer(data, f"{order}u2" if len(data) >= 2 * count else "u1")
    else:
        entries = np.atleast_1d(np.asarray(data)).astype(np.int64) & 0xFFFF
        if bits <= 8 and len(entries) == (count + 1) // 2 and count > 1:
            entries = entries.astype("<u2").view(np.uint8)
    if len(entries) < count:
        raise ValueError(f"a table of {len(entries)} entries, its descriptor says {count}")
    return Table(entries[:count].astype(np.uint16), first, min(max(bits, 1), 16))


def palette_of(dataset: Dataset, *, samples: np.dtype) -> np.ndarray:
    """Return the colours (n, 3) of all samples that an unsigned type can hold, of 8 or 16 bits.

    Raises
    ------
    ValueError
        If a table is missing, or shorter than its descriptor says.
    """
    indices = np.arange(1 << (8 * samples.itemsize), dtype=samples)
    if all(f"Segmented{name}PaletteColorLookupTableData" in dataset for name in _COLOURS):
        from pydicom.pixels.processing import apply_color_lut

        colours: np.ndarray = np.asarray(apply_color_lut(indices, dataset))[:, :3]
        return colours
    parts, bits = [], 8
    little = bool(dataset.original_encoding[1])
    for name in _COLOURS:
        descriptor = dataset.get(f"{name}PaletteColorLookupTableDescriptor")
        data = dataset.get(f"{name}PaletteColorLookupTableData")
        if descriptor is None or data is None:
            raise ValueError(f"no {name.lower()} table")
        table = table_of(descriptor, data, signed=False, little_endian=little)
        bits = max(bits, table.bits)
        parts.append(table.look_up(indices))
    return np.stack(parts, axis=-1).astype(np.uint16 if bits > 8 else np.uint8)
