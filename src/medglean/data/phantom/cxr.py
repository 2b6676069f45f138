"""Synthetic frontal chest X-rays with or without pneumonia-like opacities.

The picture is a sum of path lengths (soft tissue, bone, minus air), turned into grey by a film-like
curve. Exposure, contrast, collimation and markers vary independently of the class, and healthy
anatomy varies widely, so that neither brightness nor the border tells the class.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from medglean.data.phantom import shapes
from medglean.data.phantom import thorax as anatomy
from medglean.data.phantom.shapes import Plane, ramp
from medglean.data.phantom.thorax import Thorax
from medglean.randomness import numpy_generator


def cxr_image(
    seed: int,
    index: int,
    *,
    opacity: bool,
    patient: int | None = None,
    size_px: tuple[int, int] = (256, 256),
) -> tuple[UInt8[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
    """Draw one frontal chest X-ray, air black and bone white.

    Parameters
    ----------
    seed, index
        Which image: the same numbers give the same pixels.
    opacity
        Whether the lungs hold pneumonia-like opacities.
    patient
        Whose anatomy; by default each image is of another patient.
    size_px
        Height and width.

    Returns
    -------
    tuple
        The image in 0..255, and where the opacity lies (nowhere without one).

    Examples
    --------
    >>> image, mask = cxr_image(0, 3, opacity=True, size_px=(64, 64))
    >>> image.shape, bool(mask.any())
    ((64, 64), True)
    """
    build = Thorax.of(seed, index if patient is None else patient)
    rng = numpy_generator(seed, "cxr-image", index)
    frame_u, frame_v = shapes.grid(size_px)
    u, v = shapes.moved(
        frame_u,
        frame_v,
        angle=rng.uniform(-0.05, 0.05),
        scale=rng.uniform(0.88, 1.12),
        at=(rng.uniform(-0.06, 0.06), rng.uniform(-0.06, 0.08)),
    )
    u, v = anatomy.in_patient(build, u, v)
    breath = rng.uniform(-0.06, 0.04)
    lungs, depth = anatomy.lungs(build, u, v, breath)
    vessels = anatomy.tree(build, u, v, size_px)

    path = anatomy.soft_tissue(build, u, v, breath)
    path -= (5.6 + rng.uniform(-0.6, 0.6)) * lungs * depth
    path += anatomy.mediastinum(build, u, v)
    path += build.bone * anatomy.skeleton(build, u, v)
    fine = 0.12 * shapes.fractal_noise(rng, size_px, 18)
    path += lungs * depth * (rng.uniform(0.6, 1.1) * vessels + fine)
    path += _gas(rng, build, u, v, breath)
    if rng.random() < 0.3:
        path += _wires(rng, size_px)
    mask = np.zeros(size_px, dtype=bool)
    if opacity:
        # draws of its own, so that the same index without opacity is the same image otherwise
        density = lungs * _opacities(numpy_generator(seed, "cxr-opacity", index), u, v, size_px)
        airways = anatomy.tree(build, u, v, size_px, airways=True)
        path += density * (0.35 + 0.65 * depth) * (1.0 - 0.45 * airways)
        mask = density >= 0.45
    grey = _film(rng, path, size_px)
    return shapes.to_uint8(_frame(rng, grey, frame_u, frame_v, size_px)), mask


def _opacities(rng: np.random.Generator, u: Plane, v: Plane, size_px: tuple[int, int]) -> Plane:
    """Return extra density of consolidated lung, 0 where there is none, textured, soft-edged."""
    density = np.zeros(size_px)
    pattern = rng.choice(["lobar", "patchy", "bilateral"])
    sides = [-1, 1] if pattern == "bilateral" else [int(rng.choice([-1, 1]))]
    ragged = 0.30 * shapes.fractal_noise(rng, size_px, 7, octaves=4, gain=0.6)
    for side in sides:
        for _ in range(1 if pattern == "lobar" else int(rng.integers(2, 4))):
            at = (side * rng.uniform(0.24, 0.46), rng.uniform(-0.35, 0.30))
            size = rng.uniform(0.24, 0.34) if pattern == "lobar" else rng.uniform(0.13, 0.22)
            du, dv = shapes.moved(u, v, angle=rng.uniform(-0.6, 0.6), scale=1.0, at=at)
            patch = ramp(shapes.ellipse(du, dv, size, size * rng.uniform(0.75, 1.25)) + ragged, 0.8)
            if pattern == "lobar" and rng.random() < 0.6:  # a fissure ends it sharply
                patch *= ramp((v - at[1]) * rng.choice([-1.0, 1.0]) + 0.25 * size, 0.05)
            density = np.maximum(density, rng.uniform(1.5, 3.2) * patch)
    texture = 1.0 + 0.22 * shapes.fractal_noise(rng, size_px, 26, octaves=2)
    return density * np.clip(texture, 0.3, 1.7)


def _gas(rng: np.random.Generator, build: Thorax, u: Plane, v: Plane, breath: float) -> Plane:
    """Return negative paths: gas in the stomach, under the left dome, and in the bowel."""
    gas = np.zeros_like(u)
    if rng.random() < 0.6:
        top = build.dome[1] - breath
        level = shapes.ellipse(
            u - rng.uniform(0.24, 0.36), v - top - 0.14, 0.15, rng.uniform(0.06, 0.1)
        )
        gas -= rng.uniform(1.0, 2.2) * ramp(level, 0.25)
    for _ in range(int(rng.integers(0, 4))):
        level = shapes.ellipse(u - rng.uniform(-0.4, 0.4), v - rng.uniform(0.75, 1.0), 0.1, 0.06)
        gas -= rng.uniform(0.4, 1.2) * ramp(level, 0.5)
    return gas


def _wires(rng: np.random.Generator, size_px: tuple[int, int]) -> Plane:
    """Return a monitoring lead with its electrode, as on a bedside image."""
    canvas = np.zeros(size_px, np.uint8)
    height, width = size_px
    start, bend, end = (rng.uniform(0.1, 0.9, 2) for _ in range(3))
    t = np.linspace(0, 1, 40)[:, None]
    curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * np.where(end < 0.5, 0.0, 1.0)
    points = np.rint(curve * [width, height] * 16).astype(np.int32)
    cv2.polylines(canvas, [points], False, 150, 1, cv2.LINE_AA, 4)
    radius = max(2, round(0.012 * max(size_px)))
    cv2.circle(canvas, tuple(int(p) for p in points[0]), radius * 16, 255, -1, cv2.LINE_AA, 4)
    return 2.2 * canvas / 255.0


def _film(rng: np.random.Generator, path: Plane, size_px: tuple[int, int]) -> Plane:
    """Turn path lengths into grey: scatter, noise, then a curve with a toe and a shoulder."""
    per_px = max(size_px) / 256
    path = shapes.blurred(path, 0.6 * per_px)
    veil = shapes.smooth_noise(rng, size_px, 2.5)
    noise = rng.standard_normal(size_px)
    noise = 0.6 * noise + 0.8 * shapes.blurred(noise, 0.8)
    path = path + rng.uniform(0.05, 0.2) * noise * (0.4 + 0.1 * np.clip(path, 0, 10)) + 0.25 * veil
    centre, slope = rng.uniform(4.2, 6.8), rng.uniform(0.36, 0.62)
    grey: Plane = 1.0 / (1.0 + np.exp(-slope * (path - centre)))
    low, high = rng.uniform(0.0, 0.06), rng.uniform(0.82, 1.0)
    return low + (high - low) * grey


def _frame(
    rng: np.random.Generator, grey: Plane, u: Plane, v: Plane, size_px: tuple[int, int]
) -> Plane:
    """Put on the collimator's edge and a side marker, independent of the class."""
    longer = max(size_px)
    if rng.random() < 0.5:
        edges = rng.uniform(0.86, 1.02, 4)
        open_field = ramp(edges[0] - u, 0.012) * ramp(u + edges[1], 0.012)
        open_field *= ramp(edges[2] - v, 0.012) * ramp(v + edges[3], 0.012)
        grey = grey * (0.04 + 0.96 * open_field)
    if rng.random() < 0.6:
        stamp = np.zeros(size_px, np.uint8)
        left = rng.random() < 0.75  # an R at the patient's right, the viewer's left
        at = (rng.uniform(0.05, 0.12) if left else rng.uniform(0.86, 0.91), rng.uniform(0.08, 0.20))
        place = (int(at[0] * size_px[1]), int(at[1] * size_px[0]))
        height = rng.uniform(0.0018, 0.0034) * longer
        cv2.putText(
            stamp,
            "R" if left else "L",
            place,
            cv2.FONT_HERSHEY_SIMPLEX,
            height,
            255,
            max(1, round(longer / 128)),
            cv2.LINE_AA,
        )
        grey = np.maximum(grey, rng.uniform(0.8, 1.0) * stamp / 255.0)
    return grey
