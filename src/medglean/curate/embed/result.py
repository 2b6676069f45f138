"""Embeddings with their ids and their origin, and how they are kept on disk."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from medglean.errors import EmbeddingError, Problem
from medglean.files import atomic_writer

SHOWN = 10
"""How many ids a message spells out."""


@dataclass(frozen=True)
class Embedding:
    """One row of numbers per image.

    Attributes
    ----------
    values
        float32 of shape (n, d), all finite.
    ids
        Id of each row: those of the manifest that have an image, in its order.
    encoder
        What made the values, as JSON has it: ``name``, ``sha256`` (of the weights or the file),
        ``preprocessing``, ``dimension`` and more, by encoder.
    """

    values: Float[np.ndarray, "n d"]
    ids: tuple[str, ...]
    encoder: dict[str, Any]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Embedded:
    """What came out of embedding a manifest.

    Attributes
    ----------
    embedding
        Of the rows that have an image: as many as ``ok`` has true values.
    problems
        Why other rows have none, and what to know about the rest.
    ok
        Whether each row of the manifest is in ``embedding``, shape (n,);
        ``manifest.select(ok)`` goes row by row with it.
    from_cache
        Whether the values were computed by an earlier call.
    """

    embedding: Embedding
    problems: tuple[Problem, ...]
    ok: Bool[np.ndarray, " n"]
    from_cache: bool = False


def some_of(ids: list[str]) -> str:
    """Return the first ids as text, and how many more there are.

    Examples
    --------
    >>> some_of(["a", "b"])
    "'a', 'b'"
    >>> some_of([str(number) for number in range(12)])[-19:]
    "'8', '9' and 2 more"
    """
    shown = ", ".join(repr(one) for one in ids[:SHOWN])
    return shown if len(ids) <= SHOWN else f"{shown} and {len(ids) - SHOWN} more"


def check_finite(values: Float[np.ndarray, "n d"], ids: tuple[str, ...], *, source: str) -> None:
    """Refuse embeddings that are not finite.

    Raises
    ------
    EmbeddingError
        Naming ``source`` and the ids.
    """
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        bad = [ids[row] for row in np.flatnonzero(~finite)]
        raise EmbeddingError(
            f"{source}: {len(bad)} of {len(ids)} embeddings hold NaN or infinity, expected finite "
            f"numbers: {some_of(bad)}. Make them again, or leave these images out."
        )


def save_embedding(path: Path, embedding: Embedding) -> None:
    """Write an embedding as ``.npz``, whole or not at all.

    Arrays ``embeddings`` (n, d), ``ids`` (n,) as text, and ``encoder``: JSON as text.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_writer(path) as file:
        np.savez(
            file,
            embeddings=embedding.values,
            ids=np.array(embedding.ids, dtype=np.str_),
            encoder=np.array(json.dumps(embedding.encoder, sort_keys=True)),
        )


def load_embedding(path: Path) -> Embedding | None:
    """Read what :func:`save_embedding` wrote; None where there is none or it is damaged."""
    try:
        # opened here, for np.load leaves a damaged file open
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            encoder = json.loads(str(file["encoder"]))
            ids = tuple(map(str, file["ids"].tolist()))
            return Embedding(file["embeddings"], ids, encoder)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # made anew: it is only a cache
