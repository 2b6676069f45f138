"""How well the two images of a pair lie on one another: their shift and their likeness.

H&E and IHC have other colours, and dense places in common: nuclei, gland borders, tears. So the
logarithm of the mean optical density is compared, at 128 pixels on the longer side, without
structures broader than some 3 of these pixels' standard deviation: broad ones, such as tissue
against glass, are alike in images that have nothing to do with each other. The likeness is the
normalised cross-correlation over what overlaps, at the best of all shifts within an eighth of the
side. It is small even in registered pairs, for stains differ and sections are neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, Int, Num

from medglean.errors import Problem
from medglean.stain.optics import as_share, optical_density
from medglean.stain.pairs import Pairs

SIDE_PX = 128
"""Longer side that images are compared at."""
LEAST_CORRELATION = 0.065
"""Less counts as badly registered. Of five BCI and five MIST pairs, nine have 0.069 to 0.197 and
one 0.044; the 90 wrong pairs that they can be made into have at most 0.060 (median 0.040)."""
MOST_SHIFT = 0.012
"""A shift beyond this share of the longer side is told: 12 pixels of 1024."""
_SIGMA_PX = 3.0
_FAINT = 0.02  # added to the density before its logarithm, so that glass is not all noise
_REACH = 1 / 8


class Shift(NamedTuple):
    """Where the target lies, and how alike both are there."""

    dy_px: float
    """How far the target's structures lie below the image's, in pixels of the full images."""
    dx_px: float
    """How far to the right."""
    correlation: float
    """Normalised cross-correlation there, -1 to 1."""


def pair_shift(
    he: Num[np.ndarray, "3 h w"],
    ihc: Num[np.ndarray, "3 h w"],
    *,
    white_he: Float[np.ndarray, " 3"] | None = None,
    white_ihc: Float[np.ndarray, " 3"] | None = None,
) -> Shift:
    """Find the shift at which the images of a pair are most alike.

    Parameters
    ----------
    he, ihc
        8-bit or floats in [0, 1], of one size.
    white_he, white_ihc
        White points; by default 1.

    Returns
    -------
    Shift
        0 where one of the images has no structure. Between whole pixels of the reduced images a
        parabola is laid through three values along each axis.

    Raises
    ------
    ValueError
        If the sizes differ.

    Examples
    --------
    >>> he = np.full((3, 64, 64), 0.9)
    >>> he[:, 20:24, 30:34] = 0.3
    >>> pair_shift(he, np.roll(he, (5, -2), axis=(1, 2)))
    Shift(dy_px=5.0, dx_px=-2.0, correlation=1.0)
    """
    if he.shape != ihc.shape:
        raise ValueError(f"images of {he.shape} and {ihc.shape}: expected one shape.")
    one, scale = _structure(he, white_he)
    other, _ = _structure(ihc, white_ihc)
    dy, dx, correlation = _best_shift(one, other, reach=_reach(one))
    return Shift(dy * scale, dx * scale, correlation)


def block_shifts(
    he: Num[np.ndarray, "3 h w"],
    ihc: Num[np.ndarray, "3 h w"],
    *,
    white_he: Float[np.ndarray, " 3"] | None = None,
    white_ihc: Float[np.ndarray, " 3"] | None = None,
    blocks: int = 2,
) -> Float[np.ndarray, "blocks blocks 3"]:
    """Find the shift of each part of a pair: alike where both are rigid, not where one is bent.

    Parameters
    ----------
    he, ihc, white_he, white_ihc
        As for `pair_shift`.
    blocks
        Parts along each side.

    Returns
    -------
    ndarray
        ``dy_px``, ``dx_px`` and ``correlation`` of each part.
    """
    if he.shape != ihc.shape:
        raise ValueError(f"images of {he.shape} and {ihc.shape}: expected one shape.")
    one, scale = _structure(he, white_he)
    other, _ = _structure(ihc, white_ihc)
    rows, columns = (np.linspace(0, side, blocks + 1).round().astype(int) for side in one.shape)
    found = np.empty((blocks, blocks, 3))
    for y in range(blocks):
        for x in range(blocks):
            part = np.s_[rows[y] : rows[y + 1], columns[x] : columns[x + 1]]
            dy, dx, correlation = _best_shift(one[part], other[part], reach=_reach(one[part]))
            found[y, x] = dy * scale, dx * scale, correlation
    return found


def check_pairs(pairs: Pairs, rows: Sequence[int] | Int[np.ndarray, " m"]) -> list[Problem]:
    """Return a warning for each pair that is badly registered.

    Parameters
    ----------
    pairs
        Opened with targets.
    rows
        Which to look at; rows that cannot be used are passed over.

    Raises
    ------
    ValueError
        If the pairs were opened without targets.
    """
    if pairs.targets is None:
        raise ValueError("the pairs were opened without targets (need_targets=False).")
    most = MOST_SHIFT * max(pairs.images.recipe.size_px)
    problems = []
    for row in rows:
        if not pairs.ok[row]:
            continue
        shift = pair_shift(
            pairs.images.stored[row],
            pairs.targets.stored[row],
            white_he=pairs.white_images[row],
            white_ihc=pairs.white_targets[row],
        )
        problem = _told(shift, most)
        if problem is not None:
            kind, found, remedy = problem
            name = str(pairs.manifest.frame["image"].iloc[row])
            problems.append(Problem(name, found, remedy, row=int(row) + 2, column="target",
                                    kind=kind, fatal=False))  # fmt: skip
    return problems


def _told(shift: Shift, most_px: float) -> tuple[str, str, str] | None:
    """Return kind, finding and remedy; None for a pair that lies well."""
    if shift.correlation < LEAST_CORRELATION:
        return (
            "badly-registered",
            f"image and target hardly correlate ({shift.correlation:.3f}, expected at least "
            f"{LEAST_CORRELATION}): a wrong target, or sections that do not lie on one another.",
            "Look at the pair, and leave it out if it is none. losses.pyramid and losses.blocks "
            "forgive what losses.l1 does not.",
        )
    if max(abs(shift.dy_px), abs(shift.dx_px)) <= most_px:
        return None
    down = f"{abs(shift.dy_px):.0f} px {'down' if shift.dy_px > 0 else 'up'}"
    right = f"{abs(shift.dx_px):.0f} px {'right' if shift.dx_px > 0 else 'left'}"
    return (
        "shifted",
        f"the target lies about {down} and {right} of the image (correlation "
        f"{shift.correlation:.3f}).",
        "Register the pair anew, or give losses.pyramid or losses.blocks a weight.",
    )


def _structure(
    image: np.ndarray, white: np.ndarray | None
) -> tuple[Float[np.ndarray, "y x"], float]:
    """Return an image's dense places at the reduced size, and how many pixels one of them covers.

    Light is averaged, not density: it takes a tenth of the time and correlates as well.
    """
    _, height, width = image.shape
    scale = max(1.0, max(height, width) / SIDE_PX)
    size = (max(1, round(width / scale)), max(1, round(height / scale)))
    planes = [
        cv2.resize(np.ascontiguousarray(plane), size, interpolation=cv2.INTER_AREA)
        for plane in image
    ]
    density = optical_density(as_share(np.stack(planes)), np.ones(3) if white is None else white)
    dense = np.log(np.clip(density, 0, None).mean(axis=0).astype(np.float64) + _FAINT)
    return dense - cv2.GaussianBlur(dense, (0, 0), _SIGMA_PX), scale


def _reach(part: np.ndarray) -> int:
    return max(1, int(max(part.shape) * _REACH + 0.5))


def _best_shift(
    one: Float[np.ndarray, "y x"], other: Float[np.ndarray, "y x"], *, reach: int
) -> tuple[float, float, float]:
    """Return dy, dx and the correlation at the best shift within reach."""
    reach = min(reach, (min(one.shape) - 1) // 2)
    surface = _correlations(one, other, reach)
    if not surface.any():
        return 0.0, 0.0, 0.0
    y, x = np.unravel_index(int(np.argmax(surface)), surface.shape)
    dy = int(y) - reach + _vertex(surface[:, x], int(y))
    dx = int(x) - reach + _vertex(surface[y], int(x))
    return dy, dx, float(surface[y, x])


def _correlations(
    one: Float[np.ndarray, "y x"], other: Float[np.ndarray, "y x"], reach: int
) -> Float[np.ndarray, "2*reach+1 2*reach+1"]:
    """Return Pearson's r over what overlaps, for every shift of the other from -reach to reach.

    All sums over overlaps are correlations with a plane of ones, and are found by FFT (Padfield,
    "Masked object registration in the Fourier domain", IEEE TIP 2012, equation 3).
    """
    one, other = one - one.mean(), other - other.mean()
    shape = (one.shape[0] + reach, one.shape[1] + reach)  # room enough that nothing wraps round
    lags = np.arange(-reach, reach + 1)

    def spectrum(plane: np.ndarray) -> np.ndarray:
        return np.fft.rfft2(plane, shape)

    def sums(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.fft.irfft2(np.conj(first) * second, shape)[np.ix_(lags, lags)]
        return found

    whole = spectrum(np.ones_like(one))
    first, second = spectrum(one), spectrum(other)
    count = sums(whole, whole)
    sum_one, sum_other = sums(first, whole), sums(whole, second)
    products = sums(first, second) - sum_one * sum_other / count
    power_one = sums(spectrum(one**2), whole) - sum_one**2 / count
    power_other = sums(whole, spectrum(other**2)) - sum_other**2 / count
    power = np.sqrt(np.clip(power_one, 0, None) * np.clip(power_other, 0, None))
    # without structure there is nothing to compare: 0, not a quotient of rounding errors
    nothing = power <= 1e-9 * one.size
    return np.where(nothing, 0.0, products / np.where(nothing, 1.0, power))


def _vertex(values: np.ndarray, place: int) -> float:
    """Return how far the top of the parabola through three neighbours lies from the middle one."""
    if not 0 < place < len(values) - 1:
        return 0.0
    before, here, after = values[place - 1 : place + 2]
    bend = before - 2 * here + after
    return float(0.5 * (before - after) / bend) if bend < 0 else 0.0
