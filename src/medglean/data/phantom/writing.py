"""Writing phantoms to a folder: pictures that say they are synthetic, and a table of labels."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from medglean.errors import UsageError
from medglean.files import write_text

NOTE = "synthetic image made by medglean; not of any person"


def new_folder(folder: Path) -> Path:
    """Create a folder for phantoms.

    Raises
    ------
    UsageError
        If it exists and holds something.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            f"{folder}: exists and is not an empty folder. Phantoms are written only into a new "
            "one: name another, or remove it."
        )
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def save_png(path: Path, pixels: np.ndarray) -> None:
    """Save an 8-bit grey (h, w) or colour (h, w, 3) image whose metadata call it synthetic.

    A boolean mask is saved as 0 and 255.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", NOTE)
    # level 1: twice as fast as the default at nearly the same size, for noise does not compress
    Image.fromarray(pixels).save(path, format="PNG", pnginfo=text, compress_level=1)


def save_table(folder: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    """Write ``labels.csv``, one line per image, and return its path.

    It is written last, so that a folder without it was cut short. The columns are those of the
    first row.
    """
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path = folder / "labels.csv"
    write_text(path, buffer.getvalue())
    return path


def truncate(path: Path) -> None:
    """Cut a file to half of its length, as a full disk or a broken transfer would."""
    os.truncate(path, path.stat().st_size // 2)
