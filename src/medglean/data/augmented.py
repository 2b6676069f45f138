"""Augmented copies: the same picture turned, flipped, shifted or zoomed, found in two steps.

(1) Candidates. The magnitude of a picture's spectrum does not change when the picture is shifted,
or turned by 180 degrees, and turns with it otherwise. So the spectra of a picture's fine structure,
seen mirrored, turned by a quarter, by up to 20 degrees and enlarged, are compared with those of all
other pictures, each less the mean of all: what every chest X-ray has in common says nothing. The
most similar pictures are looked at more closely.

(2) Decision. The peak of the cross-correlation tells the shift; a few Gauss-Newton steps after
Lucas and Kanade [1]_ fit the affine map that is left. What is decided on is the correlation of the
finest structure where both pictures show something. The structure that the map was fitted to would
not do: ribs can be laid over other ribs.

References
----------
.. [1] Baker, Matthews. Lucas-Kanade 20 Years On. International Journal of Computer Vision, 2004.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int

from medglean.data.duplicates import FLAT, Thumbnails, fine_structure, finest_structure

MIN_SIMILARITY = 0.85
"""Of the finest structure, once aligned."""
_MIN_ALIGNED = 0.85  # of the structure that is aligned, below which the finest is not looked at
ANGLES = tuple(range(-20, 21, 5))
"""Degrees; half a step is left to the decision."""
ZOOMS = (1.0, 1.15)
CANDIDATES = 8
"""Pictures that each picture is compared with more closely."""
MIN_OVERLAP = 0.45
"""Share of the disc inside the picture that both must show."""
MOST_STRETCH = 1.4
"""In any direction: a map that stretches more makes anything look like anything."""
_PEAK = 0.25  # of the cross-correlation, below which no map is fitted
_STEPS = 5
_ROWS = 128  # pictures whose versions are compared with all others at a time
_PAIRS = 256
_LOW, _HIGH = 2.0, 16.0  # cycles per picture that the spectra are compared at


@dataclass(frozen=True)
class Copies:
    """Pairs of pictures, one of which is a changed copy of the other.

    Attributes
    ----------
    first, second
        Positions, ``first < second``.
    similarity
        Correlation of the finest structure after alignment, 0..1.
    mirrored
        Whether one is a mirror image of the other, in whatever direction.
    """

    first: Int[np.ndarray, " p"]
    second: Int[np.ndarray, " p"]
    similarity: Float[np.ndarray, " p"]
    mirrored: Bool[np.ndarray, " p"]

    def __len__(self) -> int:
        return len(self.first)


def augmented_copies(thumbnails: Thumbnails, *, min_similarity: float = MIN_SIMILARITY) -> Copies:
    """Find pairs of pictures that are copies of one another but for an affine change.

    Parameters
    ----------
    thumbnails
        Grey images; nearly constant ones are left out.
    min_similarity
        To be a pair, in 0..1.
    """
    shown = np.flatnonzero(thumbnails.std(axis=(1, 2)) > FLAT)
    details = fine_structure(thumbnails[shown])
    finest = finest_structure(thumbnails[shown])
    best: dict[tuple[int, int], tuple[float, bool]] = {}
    for i, j, maps in _candidates(details):
        for start in range(0, len(i), _PAIRS):
            part = np.s_[start : start + _PAIRS]
            aligned, fitted = _aligned(details[i[part]], details[j[part]], maps[part])
            close = aligned >= _MIN_ALIGNED
            left, right, through = i[part][close], j[part][close], fitted[close]
            if not left.size:
                continue
            similarity = _seen_through(finest[left], finest[right], through)
            mirrored = np.linalg.det(through[:, :, :2]) < 0
            numbers = (array.tolist() for array in (left, right, similarity, mirrored))
            for a, b, value, flipped in zip(*numbers, strict=True):
                key = (min(a, b), max(a, b))
                if value >= min_similarity and value > best.get(key, (0.0, False))[0]:
                    best[key] = (value, flipped)
    keys = sorted(best)
    positions = shown[np.array(keys, dtype=np.int64).reshape(-1, 2)]
    return Copies(
        positions[:, 0],
        positions[:, 1],
        np.array([best[key][0] for key in keys], dtype=np.float64),
        np.array([best[key][1] for key in keys], dtype=bool),
    )


def _candidates(
    details: Float[np.ndarray, "n s s"],
) -> Iterator[tuple[np.ndarray, np.ndarray, Float[np.ndarray, "p 2 3"]]]:
    """Yield positions of pictures and of those they may copy, and the map between them."""
    if len(details) < 2:
        return
    spectra = _spectra(details)
    mean = spectra.mean(axis=0)
    known = _unit(spectra - mean)
    maps = _versions()
    count = min(CANDIDATES, len(details) - 1)
    for start in range(0, len(details), _ROWS):
        rows = np.arange(start, min(start + _ROWS, len(details)))
        best = np.full((len(rows), len(details)), -np.inf, np.float32)
        which = np.zeros(best.shape, np.int16)
        for number, version in enumerate(maps):
            seen = np.stack([_warped(details[row], version) for row in rows])
            found = _unit(_spectra(seen) - mean) @ known.T
            better = found > best
            best[better], which[better] = found[better], number
        best[np.arange(len(rows)), rows] = -np.inf
        nearest = np.argpartition(-best, count - 1, axis=1)[:, :count]
        i, j = np.repeat(rows, count), nearest.ravel()
        yield i, j, maps[which[i - start, j]]


def _versions() -> Float[np.ndarray, "v 2 3"]:
    """Return the maps of all versions: mirrored, turned by a quarter, by an angle, enlarged."""
    maps = []
    for mirror in (1.0, -1.0):
        for quarter in (0.0, 90.0):
            for angle in ANGLES:
                for zoom in ZOOMS:
                    turn = np.deg2rad(quarter + angle)
                    rotation = np.array(
                        [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
                    )
                    maps.append(np.c_[rotation @ np.diag([mirror, 1.0]) / zoom, np.zeros(2)])
    return np.array(maps)


def _warped(image: Float[np.ndarray, "s s"], mapping: Float[np.ndarray, "2 3"]) -> np.ndarray:
    """Return the image seen through a map of coordinates from the centre; zeros outside."""
    side = len(image)
    centre = np.full(2, (side - 1) / 2)
    matrix = np.c_[mapping[:, :2], mapping[:, 2] + centre - mapping[:, :2] @ centre]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, matrix, (side, side), flags=flags)


def _centred(side: int) -> tuple[np.ndarray, np.ndarray]:
    at = np.arange(side, dtype=np.float32) - (side - 1) / 2
    return at[:, None] + 0 * at, at + 0 * at[:, None]


def _disc(side: int) -> Float[np.ndarray, "s s"]:
    """Return 1 in the middle, smoothly 0 towards the circle inside the picture."""
    y, x = _centred(side)
    edge = np.clip((side / 2 - 2 - np.hypot(y, x)) / (side / 8), 0.0, 1.0)
    smooth: np.ndarray = (edge * edge * (3 - 2 * edge)).astype(np.float32)
    return smooth


def _spectra(details: Float[np.ndarray, "n s s"]) -> Float[np.ndarray, "n d"]:
    """Return the root of the spectrum's magnitude at middle frequencies."""
    side = details.shape[1]
    inside = details * _disc(side)
    inside -= inside.mean(axis=(1, 2), keepdims=True)
    frequency = np.fft.fftfreq(side) * side
    half = frequency[: side // 2 + 1].copy()
    half[-1] = side / 2
    radius = np.hypot(frequency[:, None], half)
    kept = (radius >= _LOW) & (radius <= _HIGH) & ((half > 0) | (frequency[:, None] > 0))
    magnitude = np.abs(np.fft.rfft2(inside)[:, kept])
    root: np.ndarray = np.sqrt(magnitude).astype(np.float32)
    return root


def _unit(rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    scaled: np.ndarray = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
    return scaled


def _aligned(
    left: Float[np.ndarray, "p s s"],
    right: Float[np.ndarray, "p s s"],
    maps: Float[np.ndarray, "p 2 3"],
) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, "p 2 3"]]:
    """Return how well each left picture fits the right one at best, and the map that fits it."""
    disc = _disc(left.shape[1])
    target = np.conj(np.fft.rfft2(right * disc))
    scale = np.sqrt(((right * disc) ** 2).sum(axis=(1, 2)))
    peak, start = np.full(len(left), -1.0), maps.copy()
    for half_turn in (1.0, -1.0):  # the spectra do not tell the two apart
        turned = maps * half_turn
        seen = np.stack([_warped(a, m) for a, m in zip(left, turned, strict=True)]) * disc
        field = np.fft.irfft2(np.fft.rfft2(seen) * target, s=left.shape[1:])
        field /= (scale * np.sqrt((seen**2).sum(axis=(1, 2))) + 1e-6)[:, None, None]
        flat = field.reshape(len(field), -1)
        where = flat.argmax(axis=1)
        better = flat.max(axis=1) > peak
        shift = np.stack([where % left.shape[2], where // left.shape[2]], axis=1).astype(float)
        shift -= left.shape[1] * (shift > left.shape[1] / 2)
        moved = turned.copy()
        moved[:, :, 2] = np.einsum("pij,pj->pi", turned[:, :, :2], shift)
        start[better], peak[better] = moved[better], flat.max(axis=1)[better]
    similarity = np.zeros(len(left))
    tried = np.flatnonzero(peak > _PEAK)
    if tried.size:
        similarity[tried], start[tried] = _fitted(left[tried], right[tried], start[tried])
    return similarity, start


def _fitted(
    left: Float[np.ndarray, "p s s"],
    right: Float[np.ndarray, "p s s"],
    maps: Float[np.ndarray, "p 2 3"],
) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, "p 2 3"]]:
    """Refine each map by Gauss-Newton steps; return its best correlation, and where it was."""
    side = left.shape[1]
    y, x = _centred(side)
    disc = _disc(side).sum()
    best, kept = np.zeros(len(left)), maps.copy()
    for step in range(_STEPS + 1):
        seen = np.stack([_warped(a, m) for a, m in zip(left, maps, strict=True)])
        weight = _weight(maps, side)
        similarity = _correlation(seen, right, weight)
        stretch = np.linalg.svd(maps[:, :, :2], compute_uv=False)
        bent = (stretch[:, 0] > MOST_STRETCH) | (stretch[:, 1] < 1 / MOST_STRETCH)
        similarity[bent | (weight.sum(axis=(1, 2)) < MIN_OVERLAP * disc)] = 0.0
        better = similarity > best
        best[better], kept[better] = similarity[better], maps[better]
        if step == _STEPS:
            break
        dy, dx = np.gradient(seen, axis=1), np.gradient(seen, axis=2)
        terms = np.stack([seen, dx, dy, dx * x, dx * y, dy * x, dy * y], axis=1)
        terms = terms.reshape(len(seen), 7, -1)
        weighted = terms * weight.reshape(len(seen), 1, -1)
        products = weighted @ terms.transpose(0, 2, 1)
        products += 1e-6 * np.trace(products, axis1=1, axis2=2)[:, None, None] * np.eye(7)
        fit = np.linalg.solve(products, weighted @ right.reshape(len(seen), -1, 1))[:, :, 0]
        moves = fit[:, 1:] / np.maximum(fit[:, :1], 0.1)
        shift = np.clip(moves[:, :2], -3.0, 3.0)
        bend = np.clip(moves[:, 2:].reshape(-1, 2, 2), -0.1, 0.1)
        linear = maps[:, :, :2]
        maps = np.concatenate(
            [
                linear @ (np.eye(2) + bend),
                maps[:, :, 2:] + linear @ shift[:, :, None],
            ],
            axis=2,
        )
    return best, kept


def _weight(maps: Float[np.ndarray, "p 2 3"], side: int) -> Float[np.ndarray, "p s s"]:
    """Return where a picture seen through each map shows something, within the disc."""
    inside = np.zeros((side, side), np.float32)
    inside[3:-3, 3:-3] = 1.0  # the outermost pixels of a filtered picture say little
    weight: np.ndarray = np.stack([_warped(inside, m) for m in maps]) * _disc(side)
    return weight


def _seen_through(
    left: Float[np.ndarray, "p s s"],
    right: Float[np.ndarray, "p s s"],
    maps: Float[np.ndarray, "p 2 3"],
) -> Float[np.ndarray, " p"]:
    """Return the correlation of each left picture, seen through its map, with the right one."""
    seen = np.stack([_warped(a, m) for a, m in zip(left, maps, strict=True)])
    return _correlation(seen, right, _weight(maps, left.shape[1]))


def _correlation(
    left: Float[np.ndarray, "p s s"],
    right: Float[np.ndarray, "p s s"],
    weight: Float[np.ndarray, "p s s"],
) -> Float[np.ndarray, " p"]:
    total = np.maximum(weight.sum(axis=(1, 2), keepdims=True), 1e-6)
    left = left - (weight * left).sum(axis=(1, 2), keepdims=True) / total
    right = right - (weight * right).sum(axis=(1, 2), keepdims=True) / total
    top = (weight * left * right).sum(axis=(1, 2))
    bottom = (weight * left**2).sum(axis=(1, 2)) * (weight * right**2).sum(axis=(1, 2))
    correlation: np.ndarray = top / np.sqrt(np.maximum(bottom, 1e-12))
    return correlation
