"""Shrinking a whole slide in blocks."""

from __future__ import annotations

import cv2
import numpy as np

from medglean.data.slides.slide import BLOCK_PX, Pixels, Slide


def shrunk(slide: Slide, longest_px: int) -> Pixels:
    """Return a slide whose longer side has at most ``longest_px`` pixels; see ``thumbnail``.

    Raises
    ------
    ValueError
        If ``longest_px`` is below 1.
    """
    if longest_px < 1:
        raise ValueError(f"longest_px must be at least 1, got {longest_px}.")
    longest = max(slide.size_px)
    level = slide.best_level(max(1.0, longest / longest_px))
    height, width = slide.levels[level].size_px
    scale = min(1.0, longest_px / longest)
    size = tuple(max(1, round(side * scale)) for side in slide.size_px)
    step = max(1, max(height, width) // max(size))
    means = np.empty((-(-height // step), -(-width // step), 3), np.uint8)
    block = max(1, BLOCK_PX // step) * step
    for y in range(0, height, block):
        for x in range(0, width, block):
            w, h = min(block, width - x), min(block, height - y)
            part = block_means(slide.read(level, x, y, w, h), step)
            top, left = y // step, x // step
            means[top : top + part.shape[0], left : left + part.shape[1]] = part
    if means.shape[:2] == size:
        return means
    return cv2.resize(means, (size[1], size[0]), interpolation=cv2.INTER_AREA)


def block_means(pixels: Pixels, step: int) -> Pixels:
    """Return the means of squares of ``step`` pixels; those at the far border may be smaller.

    Examples
    --------
    >>> block_means(np.arange(9, dtype=np.uint8).reshape(3, 3, 1).repeat(3, 2), 2)[:, :, 0].tolist()
    [[2, 4], [6, 8]]
    """
    if step == 1:
        return pixels
    height, width = pixels.shape[:2]
    if height % step == 0 and width % step == 0:  # many times as fast
        size = (width // step, height // step)
        return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    padded = np.pad(pixels, ((0, -height % step), (0, -width % step), (0, 0)), mode="constant")
    total = padded.reshape(padded.shape[0] // step, step, padded.shape[1] // step, step, 3)
    sums = total.sum(axis=(1, 3), dtype=np.uint32)
    rows = np.minimum(step, height - step * np.arange(sums.shape[0]))
    columns = np.minimum(step, width - step * np.arange(sums.shape[1]))
    counts = (rows[:, None] * columns[None, :])[:, :, None]
    return np.asarray(np.rint(sums / counts), np.uint8)
