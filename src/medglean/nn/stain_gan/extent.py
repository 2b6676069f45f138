"""How far the U-Net sees, and which of its tokens belong to a part of an image."""

from __future__ import annotations

from typing import NamedTuple

from medglean.errors import UsageError


class Seen(NamedTuple):
    """The pixels from ``first`` to ``last``, both included."""

    first: int
    last: int


def seen_by(pixel: int, *, halvings: int, patch_px: int) -> Seen:
    """Return which pixels of one axis an output pixel depends on, without attention.

    Goes up the decoder and down the encoder, whose layers all have kernels of 4, steps of 2 and a
    border of 1. Attention sees everything, but for given sums it sees no farther than this.

    Examples
    --------
    >>> seen_by(0, halvings=1, patch_px=1)
    Seen(first=-3, last=2)
    """
    first = last = pixel // patch_px
    for _ in range(halvings):  # o = 2 i - 1 + k for an input i and k from 0 to 3
        first, last = -((2 - first) // 2), (last + 1) // 2
    for _ in range(halvings):  # an output i sees 2 i - 1 to 2 i + 2
        first, last = 2 * first - 1, 2 * last + 2
    return Seen(first * patch_px, last * patch_px + patch_px - 1)


def reach_of(*, halvings: int, patch_px: int) -> int:
    """Return how far any output pixel sees at most, in pixels to each side.

    Examples
    --------
    >>> reach_of(halvings=8, patch_px=1)
    765
    """
    farthest = 0
    for pixel in range(patch_px * 2**halvings):  # after as many pixels it repeats
        seen = seen_by(pixel, halvings=halvings, patch_px=patch_px)
        farthest = max(farthest, pixel - seen.first, seen.last - pixel)
    return farthest


def tokens_inside(inside: slice, *, side: int, stride_px: int) -> slice:
    """Return which tokens have their middle in a range of pixels of one axis.

    Ranges that share out the pixels share out the tokens, whatever their borders.

    Parameters
    ----------
    inside
        Pixels of the image, from a start to a stop that is left out; no step.
    side
        Pixels of the image on this axis.
    stride_px
        Pixels of a token.

    Examples
    --------
    >>> tokens_inside(slice(8, 20), side=32, stride_px=8)
    slice(1, 2, None)
    >>> tokens_inside(slice(20, None), side=32, stride_px=8)
    slice(2, 4, None)
    """
    start, stop, step = inside.indices(side)
    if step != 1:
        raise UsageError(f"the range of pixels {inside} has a step: give a start and a stop.")
    half = stride_px // 2
    return slice(-((half - start) // stride_px), -((half - stop) // stride_px))
