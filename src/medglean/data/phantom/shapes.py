"""Shapes and textures that the phantoms are composed of.

Everything is computed in float64 with NumPy and SciPy, without threads or matrix products, so
that rounding to 8 bit gives the same pixels on other machines.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from scipy import ndimage

Plane = Float[np.ndarray, "h w"]


def grid(size_px: tuple[int, int]) -> tuple[Plane, Plane]:
    """Return u (rightwards) and v (downwards) of every pixel centre.

    The longer side runs from -1 to 1; pixels are square. Right and left are the viewer's.

    Examples
    --------
    >>> u, v = grid((2, 4))
    >>> u[0].tolist(), v[:, 0].tolist()
    ([-0.75, -0.25, 0.25, 0.75], [-0.25, 0.25])
    """
    height, width = size_px
    longer = max(height, width)
    v = (2 * np.arange(height, dtype=np.float64) + 1 - height) / longer
    u = (2 * np.arange(width, dtype=np.float64) + 1 - width) / longer
    return np.broadcast_to(u, size_px).copy(), np.broadcast_to(v[:, None], size_px).copy()


def moved(
    u: Plane, v: Plane, *, angle: float, scale: float, at: tuple[float, float]
) -> tuple[Plane, Plane]:
    """Return coordinates in which a shape drawn upright lies turned, scaled and shifted.

    Parameters
    ----------
    u, v
        Coordinates of the pixels.
    angle
        Radians, clockwise as seen.
    scale
        Above 1 the shape is drawn larger.
    at
        Where the shape's origin goes, as (u, v).
    """
    du, dv = u - at[0], v - at[1]
    cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
    return du * cos + dv * sin, dv * cos - du * sin


def ramp(distance: np.ndarray, width: float) -> np.ndarray:
    """Return 0 well below zero, 1 well above, and a smooth step of ``width`` between."""
    t: np.ndarray = np.asarray(distance / width)
    t += 0.5
    np.clip(t, 0.0, 1.0, out=t)
    step = t * -2.0
    step += 3.0
    step *= t
    step *= t
    return step


def bump(x: np.ndarray, centre: float | np.ndarray, width: float | np.ndarray) -> np.ndarray:
    """Return a bell of height 1 that is exactly 0 beyond ``width`` on either side."""
    t = np.clip(1.0 - ((x - centre) / width) ** 2, 0.0, None)
    return t * t


def ellipse(u: Plane, v: Plane, half_u: float, half_v: float) -> Plane:
    """Return 1 at the centre, 0 on an ellipse around the origin, negative outside of it."""
    return 1.0 - np.sqrt((u / half_u) ** 2 + (v / half_v) ** 2)


def chord(level: np.ndarray) -> np.ndarray:
    """Return how much of a round body a ray crosses: 1 in the middle, 0 outside.

    ``level`` is what ``ellipse`` returns.
    """
    radius = 1.0 - level
    return np.sqrt(np.clip(1.0 - radius * radius, 0.0, None))


def smooth_noise(rng: np.random.Generator, size_px: tuple[int, int], cells: float) -> Plane:
    """Return smooth noise of mean 0 and variance about 1/2.

    Parameters
    ----------
    rng
        Where the numbers come from.
    size_px
        Height and width.
    cells
        How many independent values lie along the longer side; more is finer.
    """
    height, width = size_px
    step = max(height, width) / cells
    rows, columns = math.ceil(height / step) + 4, math.ceil(width / step) + 4
    coarse = rng.standard_normal((rows, columns))
    offset = 1.0 + rng.random(2)
    y = _spline(np.arange(height) / step + offset[0], rows)
    x = _spline(np.arange(width) / step + offset[1], columns)
    tall = sum(weight[:, None] * coarse[index] for index, weight in y)
    plane = sum(weight * tall[:, index] for index, weight in x)
    return np.asarray(plane) * 1.7


def _spline(position: np.ndarray, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the four neighbours and weights of a uniform cubic B-spline at each position."""
    base = np.floor(position).astype(np.int64)
    t = position - base
    weights = (
        (1 - t) ** 3 / 6,
        (3 * t**3 - 6 * t**2 + 4) / 6,
        (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
        t**3 / 6,
    )
    return [(np.clip(base + k - 1, 0, count - 1), w) for k, w in enumerate(weights)]


def fractal_noise(
    rng: np.random.Generator,
    size_px: tuple[int, int],
    cells: float,
    *,
    octaves: int = 3,
    gain: float = 0.5,
) -> Plane:
    """Return a sum of smooth noises, each twice as fine and ``gain`` times as strong."""
    plane = np.zeros(size_px)
    for octave in range(octaves):
        plane += gain**octave * smooth_noise(rng, size_px, cells * 2**octave)
    return plane


def blurred(plane: np.ndarray, sigma_px: float) -> np.ndarray:
    """Return the plane after a Gaussian blur that continues the border's values."""
    smooth: np.ndarray = ndimage.gaussian_filter(plane, sigma_px, mode="nearest", truncate=3.0)
    return smooth


def to_uint8(unit: np.ndarray) -> np.ndarray:
    """Return values in [0, 1], cut at both ends, as whole numbers 0..255."""
    whole: np.ndarray = np.rint(np.clip(unit, 0.0, 1.0) * 255.0).astype(np.uint8)
    return whole
