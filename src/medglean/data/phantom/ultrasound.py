"""Synthetic lung ultrasound clips: near-duplicate frames with A-lines or B-lines.

A convex probe's picture is made in its own coordinates (depth along each scan line, angle across)
and then spread out to a sector. Echoes are Rayleigh speckle times how strongly tissue scatters; the
pleura slides and speckle below it changes a little from frame to frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from scipy import ndimage

from medglean.data.phantom import shapes
from medglean.data.phantom.shapes import Plane, bump, ramp
from medglean.randomness import numpy_generator

CLASSES = ("a-lines", "b-lines")
_DEPTHS, _LINES = 192, 128  # samples along and across the beam


@dataclass(frozen=True)
class _Probe:
    """How a clip was taken, and the chest wall under the probe; depths are shares of the whole."""

    half_angle: float
    near: float  # radius of the probe's face, as a share of the sector's outer radius
    gain: float
    range_db: float  # dynamic range
    pleura: float
    tilt: float
    fading: float
    rib: float  # angle of a rib's shadow; beyond 1 there is none
    speed: float
    lines: tuple[tuple[float, float, float], ...]  # of B-lines: angle, width, strength
    echoes: float  # strength of A-lines

    @classmethod
    def of(cls, seed: int, clip: int, *, b_lines: bool) -> _Probe:
        rng = numpy_generator(seed, "us-clip", clip)
        draw = rng.uniform
        settings = {
            "half_angle": draw(0.42, 0.62),
            "near": draw(0.16, 0.30),
            "gain": draw(-12.0, 12.0),
            "range_db": draw(46.0, 66.0),
            "pleura": draw(0.16, 0.30),
            "tilt": draw(-0.05, 0.05),
            "fading": draw(20.0, 44.0) if b_lines else draw(8.0, 36.0),
            "rib": draw(-0.8, 0.8) if rng.random() < 0.45 else 2.0,
            "speed": draw(0.2, 0.5),
            "echoes": draw(11.0, 17.0),
        }
        count = int(rng.integers(2, 6)) if b_lines else int(rng.random() < 0.25)
        # one single B-line occurs in healthy lungs, too; their haze fades less, or else the rays
        # would tell the class by brightness alone
        lines = tuple(
            (draw(-0.85, 0.85), draw(0.035, 0.11), draw(11.0, 19.0)) for _ in range(count)
        )
        if b_lines:
            settings["echoes"] *= draw(0.1, 0.5)
        return cls(**settings, lines=lines)


def ultrasound_frame(
    seed: int,
    clip: int,
    frame: int,
    *,
    b_lines: bool,
    size_px: tuple[int, int] = (192, 192),
) -> UInt8[np.ndarray, "h w"]:
    """Draw one frame of a clip of the lung, the probe on top.

    Parameters
    ----------
    seed, clip
        Which clip: the same numbers give the same chest wall and settings of the machine.
    frame
        Counted from 0; neighbours are nearly the same.
    b_lines
        Whether bright rays run from the pleura to the bottom (fluid in the lung). Without them
        the pleura's echo repeats at equal distances (A-lines: air).
    size_px
        Height and width.

    Returns
    -------
    ndarray
        0..255, black outside of the sector.

    Examples
    --------
    >>> ultrasound_frame(0, 1, 0, b_lines=True, size_px=(64, 64)).shape
    (64, 64)
    """
    probe = _Probe.of(seed, clip, b_lines=b_lines)
    decibels = _tissue(probe, seed, clip, frame) + _lung(probe, seed, clip, frame)
    amplitude = _speckle(seed, clip, frame) * 10 ** (decibels / 20)
    amplitude = ndimage.gaussian_filter(amplitude, (0.7, 1.1), mode="nearest")
    shown = (20 * np.log10(amplitude + 1e-4) + probe.gain + probe.range_db - 18.0) / probe.range_db
    return shapes.to_uint8(_sector(probe, np.clip(shown, 0, 1), size_px))


def _polar() -> tuple[Plane, Plane]:
    """Return depth 0..1 and angle -1..1 of every sample."""
    depth = (np.arange(_DEPTHS) + 0.5) / _DEPTHS
    angle = (2 * np.arange(_LINES) + 1 - _LINES) / _LINES
    shape = (_DEPTHS, _LINES)
    return np.broadcast_to(depth[:, None], shape), np.broadcast_to(angle, shape)


def _pleura(probe: _Probe, frame: int) -> np.ndarray:
    """Return the depth of the pleura along each scan line: it heaves a little with breath."""
    angle = _polar()[1][0]
    breath = 0.008 * math.sin(probe.speed * frame)
    line: np.ndarray = probe.pleura + breath + probe.tilt * angle + 0.02 * angle**2
    return line


def _speckle(seed: int, clip: int, frame: int) -> Plane:
    """Return Rayleigh speckle of mean about 1; most of it stays from frame to frame."""
    turn = 0.10 * frame
    parts = []
    for part in range(2):
        one = numpy_generator(seed, "us-speckle", clip, part, 0).standard_normal((_DEPTHS, _LINES))
        two = numpy_generator(seed, "us-speckle", clip, part, 1).standard_normal((_DEPTHS, _LINES))
        parts.append(math.cos(turn) * one + math.sin(turn) * two)
    blurred = [ndimage.gaussian_filter(p, (0.8, 1.0), mode="nearest") * 3.2 for p in parts]
    speckle: Plane = np.hypot(*blurred) / 1.25
    return speckle


def _tissue(probe: _Probe, seed: int, clip: int, frame: int) -> Plane:
    """Return the echo of skin, muscle and fascia above the pleura, in decibels."""
    depth, angle = _polar()
    pleura = _pleura(probe, frame)[None, :]
    rng = numpy_generator(seed, "us-layers", clip)
    above = ramp(pleura - depth, 0.02)
    layers = np.full(depth.shape, -14.0)
    for _ in range(6):
        at = rng.uniform(0.02, 1.0) * probe.pleura
        wave = 0.006 * np.sin(rng.uniform(2, 5) * angle + rng.uniform(0, 6))
        layers += rng.uniform(6, 15) * bump(depth - wave, at, rng.uniform(0.008, 0.018))
    layers += 5.0 * shapes.smooth_noise(rng, depth.shape, 14) + 12.0 * bump(depth, 0.0, 0.03)
    shadow = ramp(0.16 - np.abs(angle - probe.rib), 0.08) * ramp(depth - 0.62 * probe.pleura, 0.02)
    bone = (
        14.0 * bump(depth, 0.62 * probe.pleura, 0.02) * ramp(0.15 - np.abs(angle - probe.rib), 0.08)
    )
    tissue: Plane = above * (layers + 60.0) - 60.0 + above * bone - 26.0 * shadow
    return tissue


def _lung(probe: _Probe, seed: int, clip: int, frame: int) -> Plane:
    """Return what is added below: the pleura, its repetitions, rays, and haze that fades."""
    depth, angle = _polar()
    pleura = _pleura(probe, frame)[None, :]
    rng = numpy_generator(seed, "us-lung", clip)
    below = ramp(depth - pleura, 0.02)
    slide = 0.02 * frame * probe.speed
    ragged = shapes.smooth_noise(rng, depth.shape, 20)
    level = -18.0 - probe.fading * (depth - pleura) + 3.0 * ragged
    line = 22.0 * bump(depth, pleura, 0.016) * (1 + 0.2 * np.sin(9 * (angle + slide)))
    for repeat in range(2, 6):
        fade = probe.echoes * 0.75 ** (repeat - 2)
        level = level + fade * bump(depth, pleura * repeat, 0.014 + 0.003 * repeat)
    rays = np.zeros(depth.shape)
    for number, (at, width, strength) in enumerate(probe.lines):
        sway = at + 0.05 * math.sin(probe.speed * frame + number)
        grain = 1 + 0.15 * np.sin(60 * depth + 7 * number)
        ray = bump(angle, sway, width * (1 + 0.8 * (depth - pleura))) * strength * grain
        rays = np.maximum(rays, ray + 0.5 * probe.fading * (depth - pleura) * (ray > 2.0))
    added: Plane = below * (level + rays + 60.0) + 0.9 * line
    return added


def _sector(probe: _Probe, polar: Plane, size_px: tuple[int, int]) -> Plane:
    """Spread scan lines out to the sector that the probe sees, probe on top."""
    height, width = size_px
    y = (np.arange(height) + 0.5)[:, None] / height
    x = (np.arange(width) + 0.5 - width / 2)[None, :] / height
    top = probe.near * math.cos(probe.half_angle)
    scale = (1.0 - top) / 0.92  # the deepest point lies just above the lower edge
    dx, dy = x * scale, (y - 0.02) * scale + top
    radius, angle = np.hypot(dx, dy), np.arctan2(dx, dy)
    depth = (radius - probe.near) / (1.0 - probe.near)
    across = angle / probe.half_angle
    where = np.stack([depth * _DEPTHS - 0.5, (across + 1) / 2 * _LINES - 0.5])
    picture = ndimage.map_coordinates(polar, where, order=1, mode="nearest")
    inside = (depth >= 0) & (depth <= 1) & (np.abs(across) <= 1)
    return np.asarray(picture * inside)
