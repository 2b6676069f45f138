"""The white point of each pair's slide, measured once over its prepared images."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int64

from medglean.data.imageset import ImageSet
from medglean.data.manifest import Manifest
from medglean.errors import DataError, Problem
from medglean.files import sha256_of_json, write_json
from medglean.stain.optics import white_point

DARK = 0.5
"""A white point below this in any channel is more likely that of tissue: no glass was seen."""
_VERSION = 1  # raised when the same images would give other numbers


@dataclass(frozen=True)
class Whites:
    """White points of the rows of a manifest.

    Attributes
    ----------
    images, targets
        Of H&E and IHC, in (0, 1], shape (n, 3); NaN where nothing was measured.
    ok
        Whether each row can be used: it shows light, and not one picture twice; shape (n,).
    failures
        Why rows cannot.
    warnings
        White points that are those of tissue, with ``column`` image or target.
    """

    images: Float[np.ndarray, "n 3"]
    targets: Float[np.ndarray, "n 3"]
    ok: Bool[np.ndarray, " n"]
    failures: tuple[Problem, ...]
    warnings: tuple[Problem, ...]


def slides_of(manifest: Manifest) -> Int64[np.ndarray, " n"]:
    """Return a number for each row's slide, by the column ``group``.

    A row without a group, as in sets whose names tell no slide, is a slide of its own.
    """
    if "group" not in manifest.frame:
        return np.arange(len(manifest), dtype=np.int64)
    groups = manifest.frame["group"]
    own = [f"row {row}" if pd.isna(name) else f"group {name}" for row, name in enumerate(groups)]
    return np.unique(own, return_inverse=True)[1].astype(np.int64)


def measured_whites(
    images: ImageSet,
    targets: ImageSet | None,
    ok: Bool[np.ndarray, " n"],
    *,
    percentile: float,
    cache: Path | None,
) -> Whites:
    """Measure the white points of the rows that are ``ok``, of each slide over all its images.

    Parameters
    ----------
    images, targets
        H&E and IHC of the same rows.
    ok
        Which rows are looked at.
    percentile
        Of each channel.
    cache
        Folder where the numbers are kept for the next time; None: nowhere.
    """
    slides = slides_of(images.manifest)
    of: dict[str, np.ndarray] = {}
    for column, part in (("image", images), ("target", targets)):
        if part is None:
            of[column] = np.full((len(images), 3), np.nan)
            continue
        key = sha256_of_json(
            [_VERSION, part.cached.hash, slides.tolist(), np.flatnonzero(ok).tolist(), percentile]
        )
        file = None if cache is None else cache / f"white-{key[:32]}.json"
        known = _read(file, len(images))
        if known is None:
            known = _measure(part, slides, ok, percentile)
            _keep(file, known)
        of[column] = known
    usable = ok & ~np.isnan(of["image"]).any(axis=1)
    if targets is not None:
        usable &= ~np.isnan(of["target"]).any(axis=1)
    return Whites(
        of["image"],
        of["target"],
        usable,
        tuple(_lightless(images.manifest, of, ok & ~usable)),
        tuple(_dark(images.manifest, of, slides, usable)),
    )


def _measure(
    part: ImageSet, slides: np.ndarray, ok: np.ndarray, percentile: float
) -> Float[np.ndarray, "n 3"]:
    white = np.full((len(part), 3), np.nan)
    for slide in np.unique(slides[ok]):
        rows = np.flatnonzero(ok & (slides == slide))
        with contextlib.suppress(DataError):  # no light: NaN says so
            white[rows] = white_point((part.stored[row] for row in rows), percentile=percentile)
    return white


def _read(file: Path | None, rows: int) -> np.ndarray | None:
    """Return numbers that were kept; None where there are none, or they are damaged."""
    if file is None:
        return None
    with contextlib.suppress(OSError, ValueError):
        known = np.array(json.loads(file.read_text(encoding="utf-8")), dtype=np.float64)
        if known.shape == (rows, 3):
            return known
    return None


def _keep(file: Path | None, white: np.ndarray) -> None:
    """Keep the numbers; without the right to write, they are measured again."""
    if file is None:
        return
    rows = [[None if np.isnan(value) else value for value in row] for row in white.tolist()]
    with contextlib.suppress(OSError):
        write_json(file, rows)


def _lightless(manifest: Manifest, of: dict[str, np.ndarray], bad: np.ndarray) -> Iterator[Problem]:
    for row in np.flatnonzero(bad):
        for column, white in of.items():
            if column in manifest.frame and np.isnan(white[row]).any():
                yield Problem(
                    str(manifest.frame[column].iloc[row]),
                    "no light in one of red, green and blue, so its slide has no white point.",
                    "Leave out images that are black or of one colour.",
                    row=int(row) + 2,
                    column=column,
                    kind="no-light",
                )


def _dark(
    manifest: Manifest, of: dict[str, np.ndarray], slides: np.ndarray, usable: np.ndarray
) -> Iterator[Problem]:
    """Tell slides whose white point is no glass: one line for each."""
    for column, white in of.items():
        seen = usable & (np.nan_to_num(white, nan=1.0).min(axis=1) < DARK)
        for slide in np.unique(slides[seen]):
            row = int(np.flatnonzero(seen & (slides == slide))[0])
            shown = ", ".join(f"{share:.2f}" for share in white[row])
            yield Problem(
                str(manifest.frame[column].iloc[row]),
                f"the white point of its slide is {shown} of full scale in red, green and blue: "
                "that of tissue, because hardly any glass is seen.",
                "Name the slide of each image in the column 'group', so that its other images "
                "count, too.",
                row=row + 2,
                column=column,
                kind="dark-white",
                fatal=False,
            )
