"""Synthetic axial slices of skull-stripped brains in four MR contrasts, with tumour-like lesions.

A slice is a map of tissue fractions (fluid, grey and white matter, oedema, necrosis, enhancing rim)
mixed with one brightness per tissue and contrast. Slices of a volume belong to one anatomy, which
changes smoothly with height, so that neighbours are as alike as in a scan.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, UInt8

from medglean.data.phantom import shapes
from medglean.data.phantom.shapes import Plane, bump, ramp
from medglean.randomness import numpy_generator

CHANNELS = ("t1", "t1ce", "t2", "flair")
_TISSUES = ("fluid", "grey", "white", "oedema", "necrosis", "rim")
_SICK = _TISSUES[3:]
_BRIGHTNESS = {  # of each tissue in 0..1, in the order of _TISSUES
    "t1": (0.14, 0.50, 0.76, 0.42, 0.22, 0.46),
    "t1ce": (0.16, 0.47, 0.60, 0.38, 0.20, 0.98),
    "t2": (0.92, 0.50, 0.33, 0.74, 0.86, 0.62),
    "flair": (0.10, 0.47, 0.37, 0.86, 0.45, 0.74),
}


@dataclass(frozen=True)
class _Brain:
    """One patient's anatomy; lengths are in units of half the image's longer side."""

    width: float
    length: float
    egg: float  # how much narrower the front is
    ventricles: float
    atrophy: float  # width of the sulci
    folding: int  # key of the pattern of gyri

    @classmethod
    def of(cls, seed: int, volume: int) -> _Brain:
        rng = numpy_generator(seed, "brain-volume", volume)
        return cls(
            width=rng.uniform(0.60, 0.68),
            length=rng.uniform(0.78, 0.86),
            egg=rng.uniform(0.02, 0.09),
            ventricles=rng.uniform(0.6, 1.5),
            atrophy=rng.uniform(0.6, 1.7),
            folding=int(rng.integers(2**31)),
        )


@dataclass(frozen=True)
class _Lesion:
    """A tumour with its oedema: where it lies in the volume, and how large it is."""

    at: tuple[float, float, float]
    core: float  # radius of the tumour
    oedema: float  # radius of the swelling around it
    enhancing: bool
    key: int

    @classmethod
    def of(cls, seed: int, volume: int) -> _Lesion:
        rng = numpy_generator(seed, "brain-lesion", volume)
        side = rng.choice([-1.0, 1.0])
        core = rng.uniform(0.09, 0.19)
        return cls(
            at=(side * rng.uniform(0.22, 0.40), rng.uniform(-0.40, 0.42), rng.uniform(0.25, 0.75)),
            core=core,
            oedema=core + rng.uniform(0.06, 0.20),
            enhancing=bool(rng.random() < 0.7),
            key=int(rng.integers(2**31)),
        )


def brain_slice(
    seed: int,
    volume: int,
    height: float,
    *,
    lesion: bool,
    size_px: tuple[int, int] = (240, 240),
    contrast: float = 1.0,
) -> tuple[UInt8[np.ndarray, "4 h w"], Bool[np.ndarray, "h w"]]:
    """Draw one axial slice, front up, the patient's right at the viewer's left.

    Parameters
    ----------
    seed, volume
        Which patient: the same numbers give the same anatomy, contrast and lesion.
    height
        Where the slice lies, from 0 (level of the thalami) to 1 (near the top of the head).
    lesion
        Whether the patient has a lesion; it does not reach every slice. Without it the slice is
        the same, but for tissue that the lesion displaces.
    size_px
        Height and width.
    contrast
        How much the lesion's tissues differ from grey matter: 1 as a rule, 0 not at all.

    Returns
    -------
    tuple
        The four channels t1, t1ce, t2, flair in 0..255 with 0 outside of the brain, and where
        the lesion (oedema included) lies.

    Examples
    --------
    >>> channels, mask = brain_slice(0, 1, 0.5, lesion=False, size_px=(64, 64))
    >>> channels.shape, bool(mask.any())
    ((4, 64, 64), False)
    """
    brain = _Brain.of(seed, volume)
    u, v = _own_shape(brain, *shapes.grid(size_px))
    rng = numpy_generator(seed, "brain-scan", volume)
    u, v = shapes.moved(
        u, v, angle=rng.uniform(-0.08, 0.08), scale=1.0, at=(rng.uniform(-0.03, 0.03), 0.0)
    )
    growth = _Lesion.of(seed, volume) if lesion else None
    inside = _outline(brain, u, v, height)
    sick = _lesion_parts(growth, u, v, height) if growth else {}
    if growth:
        u, v = _pushed(growth, u, v, height)
    tissue = _tissues(brain, u, v, height, _outline(brain, u, v, height))
    chamber = _ventricles(brain, np.abs(u), v, height)
    tissue = _with_lesion(tissue, sick, chamber)
    stack = []
    for number, channel in enumerate(CHANNELS):
        scan = numpy_generator(seed, "brain-noise", volume, round(height * 1e6), number)
        stack.append(_scan(rng, scan, _brightness(channel, contrast), tissue, inside))
    whole = np.zeros(size_px, dtype=bool)
    if sick:
        whole = np.maximum(sick["oedema"], sick["tumour"]) * inside * (1 - chamber) > 0.5
    return np.stack(stack), whole


def _own_shape(brain: _Brain, u: Plane, v: Plane) -> tuple[Plane, Plane]:
    """Return coordinates bent so that no two patients' outlines and ventricles coincide."""
    size_px = (u.shape[0], u.shape[1])
    rng = numpy_generator(brain.folding, "shape")
    sideways = 0.035 * shapes.smooth_noise(rng, size_px, 3.0)
    return u + sideways, v + 0.035 * shapes.smooth_noise(rng, size_px, 3.0)


def _outline(brain: _Brain, u: Plane, v: Plane, height: float) -> Plane:
    """Return how much of a pixel is brain."""
    return ramp(_depth(brain, u, v, height) + 0.008, 0.02)


def _depth(brain: _Brain, u: Plane, v: Plane, height: float) -> Plane:
    """Return about how far inside of the brain's surface a point lies; negative outside."""
    shrink = float(np.sqrt(max(1.0 - (0.78 * height) ** 2.4, 0.05)))
    narrow = 1.0 + brain.egg * np.clip(v / brain.length, -1, 1)
    half_u, half_v = brain.width * shrink, brain.length * shrink
    wavy = numpy_generator(brain.folding, "outline").uniform(-1, 1, 4)
    angle = np.arctan2(v, u)
    ripple = 0.010 * (wavy[0] * np.cos(2 * angle + wavy[1]) + wavy[2] * np.sin(3 * angle + wavy[3]))
    depth: Plane = shapes.ellipse(u / narrow, v, half_u, half_v) * half_u + ripple
    return depth


def _pushed(lesion: _Lesion, u: Plane, v: Plane, height: float) -> tuple[Plane, Plane]:
    """Return coordinates of the healthy anatomy that the lesion's mass pushed here."""
    du, dv = u - lesion.at[0], v - lesion.at[1]
    reach = 2.2 * lesion.oedema
    strength = 0.45 * bump(np.hypot(du, dv), 0.0, reach) * _share(lesion, height)
    return u - du * strength, v - dv * strength


def _share(lesion: _Lesion, height: float) -> float:
    """Return how wide the lesion is at this height: 1 at its middle, 0 beyond its poles."""
    return float(np.sqrt(max(1.0 - ((height - lesion.at[2]) / (1.6 * lesion.oedema)) ** 2, 0.0)))


def _noise_at(
    key: int, name: str, size_px: tuple[int, int], cells: float, turn: float, octaves: int = 2
) -> Plane:
    """Return noise that changes smoothly with ``turn`` (radians)."""
    rng = numpy_generator(key, name)
    one = shapes.fractal_noise(rng, size_px, cells, octaves=octaves)
    two = shapes.fractal_noise(rng, size_px, cells, octaves=octaves)
    noise: Plane = np.cos(turn) * one + np.sin(turn) * two
    return noise


def _folds(brain: _Brain, u: Plane, v: Plane, height: float, outer: Plane, inner: Plane) -> Plane:
    """Return the distance to the nearest sulcus.

    Sulci are winding level lines of a wave. One wave runs around the brain, for those that enter
    from outside, one along the midline, for those that enter from the fissure between the
    hemispheres; each fades with the distance from its surface (``outer``, ``inner``).
    """
    size_px = (u.shape[0], u.shape[1])
    bend = 3.0 * _noise_at(brain.folding, "gyri", size_px, 9, 2.5 * height)
    long = 0.16 + 0.07 * _noise_at(brain.folding, "reach", size_px, 6, 2.0 * height, octaves=1)
    nearest = np.full(size_px, np.inf)
    around = 13 * np.arctan2(v, 0.8 * u)
    along = 20 * v + 9 * np.sign(u)
    for phase, surface, limit in ((around, outer, long), (along, inner, 0.7 * long)):
        wave = np.cos(phase + bend)
        slope = np.hypot(*np.gradient(wave)) * max(size_px) / 2 + 2.0
        faded = np.abs(wave) / slope + 0.8 * np.clip(surface - limit, 0, None)
        nearest = np.minimum(nearest, faded)
    return nearest


def _tissues(brain: _Brain, u: Plane, v: Plane, height: float, inside: Plane) -> dict[str, Plane]:
    """Return the fraction of each healthy tissue per pixel; together they fill the brain."""
    s = np.abs(u)
    depth = _depth(brain, u, v, height)
    joined = 1 - float(ramp(np.asarray(height - 0.52), 0.15))  # by the corpus callosum
    split = s + 0.40 * joined * ramp(0.27 - np.abs(v + 0.02), 0.12)
    shore = np.minimum(depth, split)  # the fissure between the hemispheres is a surface, too
    if height < 0.55:  # the Sylvian fissure and the island behind it
        along = np.clip((brain.width - s) / 0.22, 0, 1)
        sylvian = np.hypot(s - (brain.width - 0.22 * along), (v + 0.10 - 0.10 * along) * 1.2)
        shore = np.minimum(shore, sylvian + 0.10 * ramp(np.asarray(height - 0.35), 0.3))
    sulcus = _folds(brain, u, v, height, depth, split)
    ribbon = np.minimum(sulcus, shore)
    gap = 0.007 * brain.atrophy
    fluid = 0.9 * ramp(gap * np.clip(1.4 - shore / 0.13, -1.0, 1.4) - sulcus, 0.014)
    fluid = np.maximum(fluid, ramp(0.7 * gap - split, 0.012))
    fluid = np.maximum(fluid, ramp(0.004 * brain.atrophy - depth, 0.014))
    grey = ramp(0.036 - ribbon, 0.016)
    low = 1.0 - ramp(np.asarray(height - 0.36), 0.22)
    for at, half in (
        ((0.12, 0.06), (0.085, 0.12)),
        ((0.27, -0.05), (0.07, 0.15)),
        ((0.125, -0.24), (0.045, 0.09)),
    ):
        nucleus = shapes.ellipse(s - at[0], v - at[1], *half)
        grey = np.maximum(grey, 0.75 * low * ramp(nucleus, 0.3))
    chamber = _ventricles(brain, s, v, height)
    fluid = np.maximum(fluid, chamber)
    grey = np.maximum(grey - fluid, 0.0)
    return {"fluid": fluid, "grey": grey, "white": 1.0 - fluid - grey}


def _ventricles(brain: _Brain, s: Plane, v: Plane, height: float) -> Plane:
    """Return the fluid in the lateral ventricles (horns in front and behind) and the third."""
    open_ = float(np.clip(1.15 - (height / 0.62) ** 2, 0, 1)) * brain.ventricles
    if open_ <= 0.05:
        return np.zeros_like(s)
    middle = 0.055 + 0.055 * np.clip(-v / 0.30, 0, 1) ** 2 + 0.16 * np.clip(v / 0.34, 0, 1) ** 1.5
    half = 0.018 + 0.026 * bump(v, -0.24, 0.16) + 0.040 * bump(v, 0.27, 0.22)
    ends = ramp(v + 0.36, 0.07) * ramp(0.42 - v, 0.08)
    lateral = ramp(half * open_ * ends - 0.010 - np.abs(s - middle), 0.018) * ramp(s - 0.008, 0.012)
    third = ramp(0.012 * open_ - s, 0.014) * ramp(0.11 - np.abs(v - 0.06), 0.04)
    fade = float(ramp(np.asarray(0.30 - height), 0.2))
    fluid: Plane = np.maximum(lateral, third * fade)
    return fluid


def _lesion_parts(lesion: _Lesion, u: Plane, v: Plane, height: float) -> dict[str, Plane]:
    """Return the soft masks of oedema, necrosis and enhancing rim; empty when out of reach."""
    share = _share(lesion, height)
    if share <= 0.15:
        return {}
    size_px = (u.shape[0], u.shape[1])
    radius = np.hypot(u - lesion.at[0], v - lesion.at[1])
    finger = _noise_at(lesion.key, "oedema", size_px, 9, 2.0 * height, octaves=3)
    wall = _noise_at(lesion.key, "core", size_px, 8, 2.0 * height, octaves=3)
    swollen = ramp(lesion.oedema * share * (1 + 0.40 * finger) - radius, 0.030)
    swollen *= ramp(u * np.sign(lesion.at[0]) - 0.03, 0.03)  # rarely crosses the midline
    core = lesion.core * share * (1 + 0.22 * wall)
    tumour = ramp(core - radius, 0.020)
    thick = (0.030 + 0.020 * wall) * min(1.0, lesion.core / 0.12)
    centre = ramp(core - np.clip(thick, 0.008, None) - radius, 0.018)
    if not lesion.enhancing:
        return {"oedema": swollen, "tumour": 0.55 * tumour, "centre": 0.55 * tumour}
    return {"oedema": swollen, "tumour": tumour, "centre": centre}


def _with_lesion(
    tissue: dict[str, Plane], sick: dict[str, Plane], chamber: Plane
) -> dict[str, Plane]:
    """Replace healthy tissue by the lesion; oedema follows white matter and spares ventricles."""
    nothing = np.zeros_like(tissue["white"])
    if not sick:
        return {**tissue, "oedema": nothing, "necrosis": nothing, "rim": nothing}
    tumour, centre = sick["tumour"], sick["centre"]
    room = 0.92 * tissue["white"] + 0.65 * tissue["grey"] + 0.7 * (tissue["fluid"] - chamber)
    wet = sick["oedema"] * (1 - tumour) * room
    left = (1 - tumour) * (1 - sick["oedema"]) + (1 - tumour) * sick["oedema"] * (1 - room)
    mixed = {name: part * left for name, part in tissue.items()}
    return {**mixed, "oedema": wet, "necrosis": centre, "rim": np.maximum(tumour - centre, 0)}


def _brightness(channel: str, contrast: float) -> tuple[float, ...]:
    """Return the brightness of each tissue, of the lesion's with some contrast to grey matter."""
    levels = dict(zip(_TISSUES, _BRIGHTNESS[channel], strict=True))
    grey = levels["grey"]
    return tuple(
        grey + contrast * (level - grey) if name in _SICK else level
        for name, level in levels.items()
    )


def _scan(
    contrast: np.random.Generator,
    noise: np.random.Generator,
    levels: tuple[float, ...],
    tissue: dict[str, Plane],
    inside: Plane,
) -> UInt8[np.ndarray, "h w"]:
    """Mix the tissues to one channel: contrast and gain per volume, noise per slice."""
    size_px = (inside.shape[0], inside.shape[1])
    shift = contrast.normal(0.0, 0.03, len(_TISSUES))
    gain, gamma = contrast.uniform(0.72, 1.08), contrast.uniform(0.8, 1.25)
    signal = sum(
        (level + float(d)) * tissue[name]
        for name, level, d in zip(_TISSUES, levels, shift, strict=True)
    )
    texture = 0.035 * shapes.smooth_noise(noise, size_px, 40)
    field = 1.0 + 0.10 * shapes.smooth_noise(contrast, size_px, 2.0)
    signal = np.clip(signal * field + texture, 0, None) ** gamma
    signal = shapes.blurred(signal, 0.5 * max(size_px) / 240)
    sigma = contrast.uniform(0.012, 0.035)
    real = signal + sigma * noise.standard_normal(size_px)
    rician = np.hypot(real, sigma * noise.standard_normal(size_px))
    return shapes.to_uint8(gain * rician * (inside > 0.5))
