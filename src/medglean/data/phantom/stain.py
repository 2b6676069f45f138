"""Synthetic registered pairs of H&E and HER2 immunohistochemistry at the four levels.

Both pictures show one section: nests of tumour cells with round nuclei in collagen with spindle
nuclei, glands' lumina, fat and tears. Colour follows the law of Beer and Lambert: each stain adds
optical density along its own vector. HER2 is brown (DAB) on the tumour cells' membranes: none at 0,
faint and broken at 1+, weak to moderate and complete at 2+, strong and complete at 3+.

So that the level can be learnt from H&E, as far as it can be, nuclei are larger and darker at
higher levels, with much overlap.

The vectors of haematoxylin and DAB are those of Ruifrok and Johnston, Anal Quant Cytol Histol 2001;
that of eosin is the one QuPath starts from (Bankhead and others, Sci Rep 2017): it is redder, as
most scanned slides are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from scipy import ndimage, spatial

from medglean.data.phantom import shapes
from medglean.data.phantom.shapes import Plane, ramp
from medglean.randomness import numpy_generator

LEVELS = ("0", "1+", "2+", "3+")
HAEMATOXYLIN = (0.65, 0.70, 0.29)
EOSIN = (0.2159, 0.8012, 0.5581)
DAB = (0.27, 0.57, 0.78)
_DENSITY = (0.02, 0.22, 0.50, 1.25)  # of DAB on a membrane, by level
_COMPLETE = (0.0, 0.35, 0.85, 1.6)  # how little of the outlines is left out, by level

_GRADE = (0.86, 0.95, 1.05, 1.14)  # of the nuclei' size and darkness, by level


@dataclass(frozen=True)
class _Tissue:
    """What lies where; each plane is a share in 0..1."""

    tumour: Plane
    lumen: Plane
    nuclei: Plane  # how dense, 0 outside
    membrane: Plane
    collagen: Plane
    fibre: Plane  # fine texture, mean 0


def stain_pair(
    seed: int, index: int, *, level: int, size_px: tuple[int, int] = (256, 256)
) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w 3"]]:
    """Draw one field of breast tissue in H&E and in HER2 immunohistochemistry.

    Parameters
    ----------
    seed, index
        Which field: the same numbers give the same cells in the same places, at whatever level.
    level
        0, 1, 2 or 3 for HER2 0, 1+, 2+, 3+.
    size_px
        Height and width; a cell is about 15 pixels wide.

    Returns
    -------
    tuple
        H&E and IHC, red green blue in 0..255, pixel on pixel.

    Raises
    ------
    ValueError
        If the level is none of the four.

    Examples
    --------
    >>> he, ihc = stain_pair(0, 0, level=3, size_px=(64, 64))
    >>> he.shape == ihc.shape == (64, 64, 3)
    True
    """
    if level not in range(4):
        raise ValueError(f"level must be 0, 1, 2 or 3, got {level!r}.")
    tissue = _tissue(seed, index, level, size_px)
    rng = numpy_generator(seed, "stain-lab", index)
    strength = rng.uniform(0.8, 1.25, 4)
    light = rng.uniform(0.93, 1.0)
    grain = numpy_generator(seed, "stain-noise", index)
    solid = 1 - tissue.lumen
    he = _mixed(
        (HAEMATOXYLIN, strength[0] * solid * (1.15 * tissue.nuclei + 0.13 * tissue.tumour + 0.03)),
        (
            EOSIN,
            strength[1]
            * solid
            * (1 - 0.6 * tissue.nuclei)
            * (0.24 * tissue.tumour + tissue.collagen * (0.34 + 0.17 * tissue.fibre)),
        ),
    )
    brown = _brown(tissue, level, numpy_generator(seed, "stain-her2", index, level))
    ihc = _mixed(
        (HAEMATOXYLIN, strength[2] * solid * (0.62 * tissue.nuclei + 0.05 * tissue.tumour + 0.03)),
        (DAB, strength[3] * solid * (brown + 0.03 + 0.03 * tissue.collagen)),
    )
    return _picture(he, light, grain), _picture(ihc, light, grain)


def _brown(tissue: _Tissue, level: int, rng: np.random.Generator) -> Plane:
    """Return the optical density of DAB: on membranes, and less in the cells."""
    size_px = (tissue.tumour.shape[0], tissue.tumour.shape[1])
    patchy = ramp(_COMPLETE[level] - 0.5 + 0.55 * shapes.smooth_noise(rng, size_px, 26), 0.5)
    uneven = np.clip(1 + 0.25 * shapes.smooth_noise(rng, size_px, 5), 0.3, None)
    within = 0.06 * level + 0.02
    density: Plane = (
        _DENSITY[level]
        * uneven
        * tissue.tumour
        * (patchy * tissue.membrane + within * (1 - 0.7 * tissue.nuclei))
    )
    return density


def _tissue(seed: int, index: int, level: int, size_px: tuple[int, int]) -> _Tissue:
    rng = numpy_generator(seed, "stain-field", index)
    grade = _GRADE[level] * rng.uniform(0.90, 1.10)
    nests = shapes.fractal_noise(rng, size_px, 5 * max(size_px) / 256, octaves=3)
    tumour = ramp(nests + rng.uniform(-0.15, 0.45), 0.12)
    holes = shapes.fractal_noise(rng, size_px, 9 * max(size_px) / 256, octaves=2)
    lumen = ramp(holes - rng.uniform(0.95, 1.35), 0.10) * tumour
    tears = np.abs(shapes.smooth_noise(rng, size_px, 7 * max(size_px) / 256))
    tears += 0.3 * ramp(0.4 - shapes.smooth_noise(rng, size_px, 4 * max(size_px) / 256), 0.5)
    lumen = np.maximum(lumen, (1 - tumour) * ramp(0.07 - tears, 0.08) * ramp(0.2 - nests, 0.2))
    cells, edge = _cells(rng, size_px, 15.0)
    membrane = ramp(1.6 - edge, 1.6) * tumour * (1 - lumen)
    round_, spindle = _nuclei(rng, cells, size_px, grade), _spindles(rng, size_px, nests)
    inside = tumour * (1 - lumen) > 0.6
    nuclei = np.where(inside, round_, np.where(tumour < 0.4, spindle, 0.0)) * (1 - lumen)
    wave = shapes.smooth_noise(rng, size_px, 6 * max(size_px) / 256)
    fibre = np.sin(40 * (shapes.grid(size_px)[1] + 0.10 * nests) + 5 * wave)
    return _Tissue(
        tumour=tumour,
        lumen=lumen,
        nuclei=nuclei,
        membrane=membrane,
        collagen=1 - tumour,
        fibre=0.6 * fibre + 0.5 * shapes.smooth_noise(rng, size_px, 40 * max(size_px) / 256),
    )


def _cells(
    rng: np.random.Generator, size_px: tuple[int, int], spacing_px: float
) -> tuple[Float[np.ndarray, "cells 2"], Plane]:
    """Return the centres (y, x) of cells and each pixel's distance from the nearest outline."""
    rows, columns = (int(side / spacing_px) + 3 for side in size_px)
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float64)
    y, x = y - 1 + 0.5 * (x % 2), x - 1  # staggered, so that cells have about six sides
    centres = np.stack([y.ravel(), x.ravel()], axis=1)
    centres = (centres + rng.uniform(-0.28, 0.28, centres.shape)) * spacing_px
    pixels = np.argwhere(np.ones(size_px, dtype=bool))
    distance = spatial.cKDTree(centres).query(pixels, k=2)[0]
    # half the difference is the distance from the border between the two nearest cells, or so
    return centres, ((distance[:, 1] - distance[:, 0]) / 2).reshape(size_px)


def _nuclei(
    rng: np.random.Generator,
    centres: Float[np.ndarray, "cells 2"],
    size_px: tuple[int, int],
    grade: float,
) -> Plane:
    """Return large round nuclei with open chromatin, one per cell."""
    radius = grade * rng.uniform(3.4, 5.4, len(centres))
    turn, long = rng.uniform(0, np.pi, len(centres)), rng.uniform(1.0, 1.35, len(centres))
    tone = grade * rng.uniform(0.55, 1.0, len(centres))
    plane = _ellipses(centres, radius * long, radius / long, turn, tone, size_px)
    chromatin = 1 + 0.22 * shapes.smooth_noise(rng, size_px, 0.30 * max(size_px))
    return np.asarray(plane * chromatin)


def _spindles(rng: np.random.Generator, size_px: tuple[int, int], along: Plane) -> Plane:
    """Return small dark nuclei drawn out along the fibres, and some round lymphocytes."""
    count = int(size_px[0] * size_px[1] / 420)
    centres = rng.uniform(0, 1, (count, 2)) * size_px
    slope_y, slope_x = np.gradient(shapes.blurred(along, 4.0))
    at = tuple(np.clip(centres.astype(int), 0, np.array(size_px) - 1).T)
    turn = np.arctan2(slope_x[at], slope_y[at]) + np.pi / 2 + rng.normal(0, 0.25, count)
    lymphocyte = rng.random(count) < 0.25
    long = np.where(lymphocyte, 2.6, rng.uniform(4.0, 7.0, count))
    thin = np.where(lymphocyte, 2.5, rng.uniform(1.1, 1.9, count))
    return _ellipses(centres, long, thin, turn, rng.uniform(0.8, 1.1, count), size_px)


def _ellipses(
    centres: Float[np.ndarray, "n 2"],
    long: np.ndarray,
    thin: np.ndarray,
    turn: np.ndarray,
    tone: np.ndarray,
    size_px: tuple[int, int],
) -> Plane:
    """Draw ellipses whose long axis is turned from y towards x, each within its own window."""
    plane = np.zeros(size_px)
    for (y, x), a, b, angle, value in zip(centres, long, thin, turn, tone, strict=True):
        reach = int(max(a, b)) + 3
        top, left = max(int(y) - reach, 0), max(int(x) - reach, 0)
        window = np.s_[top : max(int(y) + reach, 0), left : max(int(x) + reach, 0)]
        rows, columns = plane[window].shape
        if not rows or not columns:
            continue
        dy = np.arange(top, top + rows)[:, None] - y
        dx = np.arange(left, left + columns)[None, :] - x
        cos, sin = np.cos(angle), np.sin(angle)
        level = 1 - np.hypot((dy * cos + dx * sin) / a, (dx * cos - dy * sin) / b)
        # a rim of chromatin, as nuclei have
        shade = value * ramp(level, 0.35) * (1 - 0.3 * ramp(level - 0.45, 0.4))
        plane[window] = np.maximum(plane[window], shade)
    return plane


def _mixed(*stains: tuple[tuple[float, float, float], Plane]) -> Float[np.ndarray, "h w 3"]:
    """Return the optical density of several stains together."""
    density = np.zeros((*stains[0][1].shape, 3))
    for vector, amount in stains:
        density += np.clip(amount, 0, None)[:, :, None] * np.array(vector)
    return density


def _picture(
    density: Float[np.ndarray, "h w 3"], light: float, rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    """Turn optical density (decadic) into light through the section, as a camera sees it."""
    sharp = ndimage.gaussian_filter(light * 10**-density, (0.6, 0.6, 0), mode="nearest")
    return shapes.to_uint8(sharp + 0.008 * rng.standard_normal(density.shape))
