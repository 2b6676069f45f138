"""The anatomy of a synthetic chest: path lengths through tissue, bone and air.

Lengths are in units of half the image's longer side, with the origin in the middle of the image,
u to the viewer's right and v downwards; s is the distance from the midline.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from scipy import ndimage

from medglean.data.phantom import shapes
from medglean.data.phantom.shapes import Plane, bump, ramp
from medglean.randomness import numpy_generator

Point = tuple[float, float]


@dataclass(frozen=True)
class Thorax:
    """One patient's build; lengths are in units of half the image's longer side."""

    half_width: float  # of the lungs at their widest
    apex: float  # v of the lung tops
    dome: tuple[float, float]  # v of the diaphragm, viewer's left (patient's right) and right
    heart: float  # size of the left ventricle
    knob: float  # size of the aortic arch
    ribs: float  # how steeply ribs descend
    bone: float  # how dense bones are
    fat: float  # thickness of soft tissue
    tree: int  # key of the vessel tree
    scoliosis: float
    lean: float  # how much larger one half of the chest is than the other
    shape: int  # key of what is this patient's own in the course of all outlines

    @classmethod
    def of(cls, seed: int, patient: int) -> Thorax:
        """Draw a patient's build."""
        rng = numpy_generator(seed, "cxr-patient", patient)
        draw = rng.uniform
        right = draw(0.30, 0.50)
        return cls(
            half_width=draw(0.53, 0.70),
            apex=draw(-0.80, -0.64),
            dome=(right, right + draw(0.02, 0.09)),
            heart=draw(0.16, 0.36),
            knob=draw(0.02, 0.06),
            ribs=draw(0.05, 0.26),
            bone=draw(0.75, 1.25),
            fat=draw(0.8, 1.3),
            tree=int(rng.integers(2**31)),
            scoliosis=draw(-0.04, 0.04),
            lean=draw(-0.08, 0.08),
            shape=int(rng.integers(2**31)),
        )


def in_patient(build: Thorax, u: Plane, v: Plane) -> tuple[Plane, Plane]:
    """Return coordinates in which every patient has the same chest, from those of this patient.

    Without this the chests of two patients would differ in a dozen numbers only, and be taken for
    near copies of one another.
    """
    rng = numpy_generator(build.shape, "cxr-shape")
    size_px = (u.shape[0], u.shape[1])
    sideways = 0.030 * shapes.smooth_noise(rng, size_px, 3.5)
    downwards = 0.034 * shapes.smooth_noise(rng, size_px, 3.5)
    bent = u + build.scoliosis * np.sin(2.5 * v)
    return bent * (1 + build.lean * ramp(bent, 0.6)) + sideways, v + downwards


def lungs(build: Thorax, u: Plane, v: Plane, breath: float) -> tuple[Plane, Plane]:
    """Return the soft mask of both lung fields and their depth, 0..1."""
    mask, depth = np.zeros_like(u), np.zeros_like(u)
    height = build.dome[0] - build.apex
    t = (v - build.apex) / height  # 0 at the apex, 1 at the right dome
    lateral = build.half_width * np.sqrt(
        np.clip(1 - (np.clip(1 - t / 0.85, 0, 1.05)) ** 2.3, 0.0, 1)
    )
    lateral += 0.05 * np.clip(t - 0.6, 0, 0.6)
    for side, dome in ((-1, build.dome[0]), (1, build.dome[1])):
        s = u * side  # grows away from the spine
        medial = _medial_edge(build, v, side)
        arch = dome - breath + 0.26 * np.abs((s - 0.28) / 0.42) ** 2.4
        arch += 0.10 * np.clip((s - 0.45) / 0.15, 0, 2) ** 2  # costophrenic angle
        one = ramp(lateral - s, 0.05) * ramp(s - medial, 0.045) * ramp(arch - v, 0.035)
        one *= ramp(v - build.apex, 0.08)
        middle, half = (lateral + medial) / 2, np.clip((lateral - medial) / 2, 0.03, None)
        across = np.sqrt(np.clip(1 - ((s - middle) / half) ** 2, 0, 1))
        along = np.clip(ramp(t - 0.12, 0.55) * (0.55 + 0.45 * ramp(arch - v - 0.08, 0.3)), 0.05, 1)
        mask = np.maximum(mask, one)
        depth = np.where(s > 0, (0.42 + 0.58 * across) * (0.45 + 0.55 * along), depth)
    return mask, depth


def _medial_edge(build: Thorax, v: Plane, side: int) -> Plane:
    """Return how far from the midline the lung begins: the outline of heart and great vessels."""
    neck = 0.10 + 0.05 * ramp(-0.45 - v, 0.4)
    if side < 0:  # patient's right: superior vena cava, right atrium
        return neck + 0.02 * bump(v, -0.30, 0.3) + 0.35 * build.heart * bump(v, 0.22, 0.42)
    knob = build.knob * bump(v, -0.36, 0.12)
    trunk = 0.045 * bump(v, -0.16, 0.2)
    ventricle = build.heart * bump(v, 0.30, 0.50)
    return neck + knob + trunk + 1.15 * ventricle


def soft_tissue(build: Thorax, u: Plane, v: Plane, breath: float) -> Plane:
    """Return the path through the body without lungs, in centimetres of water or so."""
    shoulder = ramp(v + 0.80, 0.35)
    half = 0.20 + (build.half_width + 0.13 * build.fat) * shoulder
    half += 0.30 * bump(v, -0.48, 0.45)  # shoulders and the roots of the arms
    inside = np.clip(1 - (np.abs(u) / half) ** 2, 0, None)
    trunk = 8.5 * np.sqrt(np.sqrt(inside)) * (0.72 + 0.28 * ramp(v + 0.45, 0.9))
    arm_u, arm_v = np.abs(u) - 1.04, v - 0.45
    arm = 3.0 * shapes.chord(shapes.ellipse(arm_u + 0.12 * arm_v, arm_v, 0.17, 1.1))
    dome = np.where(u < 0, build.dome[0], build.dome[1]) - breath
    abdomen = 1.9 * ramp(v - dome + 0.05, 0.35) * np.sqrt(inside)
    breast = (
        0.7
        * (build.fat - 0.8)
        * shapes.chord(shapes.ellipse(np.abs(u) - 0.38, v - 0.25, 0.27, 0.26))
    )
    skin = 0.5 * build.fat * ramp(np.abs(u) - build.half_width, 0.1) * np.sqrt(inside)
    path: Plane = np.maximum(trunk + abdomen + breast + skin, arm)
    return path


def mediastinum(build: Thorax, u: Plane, v: Plane) -> Plane:
    """Return spine, heart and windpipe, which show through one another."""
    column = np.clip(1 - (u / 0.085) ** 2, 0, None) ** 0.5
    level = v / 0.115
    disc = (0.5 + 0.5 * np.cos(4 * np.pi * level)) ** 4  # spaces between the vertebrae
    spine = 1.1 * column * (1 - 0.45 * disc) * (0.75 + 0.25 * ramp(v, 1.0))
    around = ((level + 0.25) % 1.0) * 0.115 - 0.0575
    pedicle = ramp(0.017 - np.hypot((np.abs(u) - 0.045) * 0.8, around), 0.014)
    process = ramp(0.012 - np.hypot(u, around * 0.45 - 0.006), 0.012)
    edge = bump(np.abs(u), 0.083, 0.012) * (1 - 0.7 * disc)
    spine += build.bone * (0.35 * pedicle + 0.35 * process + 0.30 * edge)
    heart = shapes.chord(shapes.ellipse(u - 0.10 - 0.2 * (v - 0.2), v - 0.20, 0.27, 0.40))
    carina = -0.22
    wind = np.clip(1 - (u / 0.045) ** 2, 0, None) ** 0.5 * ramp(carina - v, 0.05)
    below = v - carina
    for side in (-1, 1):
        branch = u * side - 0.95 * below if side > 0 else u * side - 0.75 * below
        near = ramp(below, 0.04) * ramp(0.17 - below, 0.10)
        wind = np.maximum(wind, 0.75 * np.clip(1 - (branch / 0.040) ** 2, 0, None) ** 0.5 * near)
    path: Plane = spine + 1.3 * heart * ramp(0.75 - v, 0.4) - 1.25 * wind
    return path


def _tube(across: Plane, half: float) -> Plane:
    """Return the path through a hollow bone: denser at its two edges than in its middle."""
    t = np.abs(across) / half
    solid = ramp(1 - t, 0.35)
    path: Plane = solid * (0.55 + 0.65 * np.clip(t, 0, 1) ** 4)
    return path


def skeleton(build: Thorax, u: Plane, v: Plane) -> Plane:
    """Return ribs, collar bones, shoulder blades and heads of the upper arms.

    They are drawn once for both sides in a frame where the patient stands upright, in which each
    rib is a curve v(s), and then looked up where the patient lies in this exposure.
    """
    per_unit = max(u.shape) / 2
    s = np.arange(0.0, 1.35, 1.0 / per_unit)
    rows = np.arange(-1.35, 1.35, 1.0 / per_unit)
    bones = np.zeros((rows.size, s.size))
    _add_ribs(bones, build, s, rows)
    top = build.apex
    along = np.clip((s - 0.07) / 0.62, 0, 1)
    clavicle = top + 0.19 - 0.19 * along + 0.035 * np.sin(2 * np.pi * along)
    shown = ramp(s - 0.075, 0.03) * ramp(0.70 - s, 0.04)
    _add_tube(bones, rows, clavicle, half=0.026, density=1.5 * shown)
    y, x = rows[:, None], s[None, :]
    blade = shapes.ellipse(x - 0.66 - 0.35 * (y + 0.25), y + 0.28, 0.12, 0.33)
    head = shapes.ellipse(x - 0.86, y - top - 0.12, 0.12, 0.12)
    shaft = _tube(x - 0.90 - 0.10 * (y - top), 0.060) * ramp(y - top - 0.16, 0.08)
    bones += 0.55 * ramp(blade, 0.15) + 1.4 * shapes.chord(head) + 1.2 * shaft
    where = np.stack([(v + 1.35) * per_unit, np.abs(u) * per_unit])
    placed: Plane = ndimage.map_coordinates(bones, where, order=1, mode="nearest")
    return placed


def _add_ribs(bones: Plane, build: Thorax, s: np.ndarray, rows: np.ndarray) -> None:
    """Add eleven ribs: from the spine outwards and down, then forwards, fainter and steeper."""
    rng = numpy_generator(build.shape, "cxr-ribs")
    pitch = (build.dome[0] - build.apex) / rng.uniform(7.9, 9.3)
    for rib in range(11):
        root = build.apex + 0.02 + (rib + rng.uniform(-0.12, 0.12)) * pitch
        arch = float(np.sqrt(max(1 - max(1 - rib / 4.6, 0.0) ** 2.2, 0.06)))
        reach = build.half_width * arch + 0.035
        t = np.clip(s / reach, 0, 1.0)
        fall = build.ribs * (0.75 + 0.05 * rib)
        back = root - 0.10 * np.sin(np.pi * t) * (1 - 0.04 * rib) + fall * t**2.2
        shown = ramp(reach - s, 0.03) * ramp(s - 0.05, 0.03)
        _add_tube(
            bones, rows, back, half=rng.uniform(0.017, 0.025), density=rng.uniform(1.0, 1.4) * shown
        )
        if rib < 8:
            front = root + fall + (0.12 + 0.85 * build.ribs) * (1 - t) ** 0.75
            faint = ramp(reach - s, 0.03) * ramp(s - 0.36 * reach - 0.02 * rib, 0.16)
            _add_tube(bones, rows, front, half=0.028, density=0.70 * faint)


def _add_tube(
    bones: Plane, rows: np.ndarray, curve: np.ndarray, *, half: float, density: np.ndarray
) -> None:
    """Add a bone of thickness ``2 * half`` that follows ``curve``, one v per column."""
    first, last = np.searchsorted(rows, [curve.min() - half, curve.max() + half])
    columns = np.flatnonzero(density)
    band = np.s_[first:last, columns[0] : columns[-1] + 1]
    across = rows[first:last, None] - curve[None, band[1]]
    bones[band] += _tube(across, half) * density[band[1]]


def tree(
    build: Thorax, u: Plane, v: Plane, size_px: tuple[int, int], *, airways: bool = False
) -> Plane:
    """Return the branching vessels, or the airways, which are seen only inside an opacity."""
    # drawn upright, then looked up where the patient lies in this exposure
    return _look_up(_drawn_tree(build.tree, size_px, airways), u, v)


@lru_cache(maxsize=4)  # a patient's images are usually drawn one after another
def _drawn_tree(key: int, size_px: tuple[int, int], airways: bool) -> Plane:
    name, thick = ("airways", 0.8) if airways else ("vessels", 1.0)
    return _draw_tree(numpy_generator(key, "cxr-tree", name), size_px, thick=thick)


def _look_up(plane: Plane, u: Plane, v: Plane) -> Plane:
    height, width = plane.shape
    longer = max(height, width)
    row = np.clip(np.rint((v * longer + height - 1) / 2), 0, height - 1).astype(np.int64)
    column = np.clip(np.rint((u * longer + width - 1) / 2), 0, width - 1).astype(np.int64)
    path: Plane = plane[row, column]
    return path


def _draw_tree(rng: np.random.Generator, size_px: tuple[int, int], *, thick: float = 1.0) -> Plane:
    """Draw branching lines that leave both hila and thin out towards the chest wall."""
    canvas = np.zeros(size_px, np.uint8)
    height, width = size_px
    longer = max(size_px)
    stack: list[tuple[Point, float, float, int]] = []
    for side in (-1, 1):
        for k in range(7):
            angle = -1.2 + 2.5 * k / 6 + rng.uniform(-0.3, 0.3)
            stack.append(
                ((side * 0.13, -0.12 + 0.03 * k), angle if side > 0 else np.pi - angle, 1.0, 0)
            )
    while stack:
        (x, y), angle, size, generation = stack.pop()
        length = 0.13 * rng.uniform(0.5, 1.4)
        end = (x + length * np.cos(angle), y + length * np.sin(angle))
        value = int(255 * min(1.0, 0.25 + 0.75 * size))
        pixels = [
            (round((px * longer + width - 1) * 8), round((py * longer + height - 1) * 8))
            for px, py in ((x, y), end)
        ]
        weight = max(1, round(thick * 3.2 * size * longer / 256))
        cv2.line(canvas, pixels[0], pixels[1], value, weight, cv2.LINE_AA, 4)
        if generation < 3:
            for turn in (-1, 1):
                bend = angle + turn * rng.uniform(0.08, 0.6)
                stack.append((end, bend, size * rng.uniform(0.58, 0.78), generation + 1))
    return shapes.blurred(canvas / 255.0, 0.7 * longer / 256)
