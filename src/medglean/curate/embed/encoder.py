"""What every encoder is to the rest: a function from a batch of images to rows of numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from medglean.arrays import UnitBatch
from medglean.data.augment import to_float
from medglean.errors import EmbeddingError, Problem
from medglean.randomness import numpy_generator

Progress = Callable[[int, int], None]
"""Called as ``progress(done, total)``."""

Apply = Callable[[UnitBatch, Int[np.ndarray, " b"]], np.ndarray]
"""From images (b, c, h, w) in [0, 1] and their rows (b,) in the manifest to (b, d)."""


@dataclass(frozen=True)
class Encoder:
    """A trained or given network, ready to be applied.

    Attributes
    ----------
    apply
        From images and their rows to embeddings.
    record
        What it is, as JSON has it; with ``name`` and ``sha256``.
    weights
        safetensors bytes of what was learnt from these images; None where nothing was.
    problems
        What to know about it.
    """

    apply: Apply
    record: dict[str, Any]
    weights: bytes | None = None
    problems: tuple[Problem, ...] = ()


def draw_training_rows(
    usable: Int[np.ndarray, " n"], *, count: int, seed: int
) -> Int[np.ndarray, " m"]:
    """Return at most ``count`` of the rows, drawn by the seed, in ascending order."""
    if len(usable) <= count:
        return usable
    drawn = numpy_generator(seed, "embedding-train-images").permutation(len(usable))[:count]
    rows: np.ndarray = np.sort(usable[drawn])
    return rows


def encode(
    encoder: Encoder,
    stored: np.ndarray,
    positions: Int[np.ndarray, " m"],
    *,
    batch_size: int,
    progress: Progress | None = None,
) -> Float[np.ndarray, "m d"]:
    """Apply an encoder to some rows of stored images.

    Parameters
    ----------
    encoder
        What to apply.
    stored
        Images as the cache keeps them, shape (n, c, h, w).
    positions
        Rows to encode, in this order.
    batch_size
        Images at a time.
    progress
        Told after every batch.

    Raises
    ------
    EmbeddingError
        If the encoder does not give one row per image, always of the same length.
    """
    values: np.ndarray | None = None
    for start in range(0, len(positions), batch_size):
        rows = positions[start : start + batch_size]
        given = np.asarray(encoder.apply(to_float(np.ascontiguousarray(stored[rows])), rows))
        rows_of = _as_rows(given, len(rows), encoder.record)
        if values is None:
            values = np.empty((len(positions), rows_of.shape[1]), dtype=np.float32)
        if rows_of.shape[1] != values.shape[1]:
            raise EmbeddingError(
                f"{_named(encoder.record)}: {rows_of.shape[1]} numbers an image in one batch and "
                f"{values.shape[1]} in another, expected as many in all. Export it with a fixed "
                "number of outputs."
            )
        values[start : start + len(rows)] = rows_of
        if progress is not None:
            progress(start + len(rows), len(positions))
    return np.zeros((0, 0), np.float32) if values is None else values


def _named(record: dict[str, Any]) -> str:
    return str(record.get("file", f"encoder {record['name']}"))


def _as_rows(given: np.ndarray, count: int, record: dict[str, Any]) -> Float[np.ndarray, "b d"]:
    """Return (b, d) of what may be (b, d, 1, 1); refuse anything else."""
    flat = given
    if given.ndim == 4 and given.shape[2:] == (1, 1):
        flat = given[:, :, 0, 0]
    if flat.ndim != 2 or len(flat) != count or flat.shape[1] == 0:
        raise EmbeddingError(
            f"{_named(record)}: gave an array of shape {given.shape} for {count} images, expected "
            f"({count}, d) or ({count}, d, 1, 1). Export the network with global pooling and "
            "without its classifier."
        )
    if flat.dtype.kind != "f":
        raise EmbeddingError(
            f"{_named(record)}: gave values of type {flat.dtype}, expected floating point. Export "
            "the network so that it gives its features."
        )
    return flat
