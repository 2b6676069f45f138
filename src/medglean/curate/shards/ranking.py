"""What a worker does next with a shard: put candidates forward, and measure what is covered."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from medglean.curate.order import Limits
from medglean.curate.shards import covering, select
from medglean.curate.shards.embedding import EMBEDDINGS, read_embeddings
from medglean.curate.shards.parts import Part, matrix, vectors
from medglean.curate.shards.select import Pool
from medglean.errors import Problem
from medglean.files import sha256_of_json

CANDIDATES = "candidates"
COVERAGE = "coverage"


@dataclass(frozen=True)
class Terms:
    """What the ranking of every shard depends on besides the shard.

    Attributes
    ----------
    known
        What all shards start from.
    limits
        Of the whole collection.
    stop_similarity
        As for one machine.
    """

    known: Pool
    limits: Limits
    stop_similarity: float | None = None

    def key(self) -> str:
        """Return the hash of all of it."""
        limits = self.limits
        return sha256_of_json(
            [
                hash_of(self.known.positions),
                hash_of(self.known.values),
                hash_of(limits.groups),
                limits.max_per_group,
                hash_of(limits.strata),
                hash_of(limits.stratum_max),
                self.stop_similarity,
            ]
        )


def pool_of(folder: Path, shard: int, positions: Int[np.ndarray, " n"]) -> Pool:
    """Return the images of a shard that may be compared; ``positions`` are all of its images'."""
    values, usable = read_embeddings(folder, shard)
    return Pool(positions[usable], values[usable])


def gather(
    folder: Path, shard: int, positions: Int[np.ndarray, " n"], wanted: Int[np.ndarray, " m"]
) -> Pool:
    """Return those of the shard's images that are wanted."""
    pool = pool_of(folder, shard, positions)
    return pool.at(np.intersect1d(pool.positions, wanted))


def rank_part(
    folder: Path,
    shard: int,
    positions: Int[np.ndarray, " n"],
    terms: Terms,
    count: int,
    source: str,
) -> tuple[dict[str, Any], list[Problem]]:
    """Write the candidates of one shard, unless that is done already, and return the mark.

    Parameters
    ----------
    folder, shard
        Where, and which.
    positions
        Positions of all of its images in the collection, in the order of its manifest.
    terms
        What the shards have in common.
    count
        How many candidates it puts forward.
    source
        SHA-256 of its embeddings.

    Returns
    -------
    tuple
        The mark, and what was found damaged and made again.
    """
    key = sha256_of_json([source, hash_of(positions), terms.key(), count])
    part = Part(folder, CANDIDATES, shard)
    mark, told = part.find(key)
    if mark is not None:
        return mark, told
    pool = pool_of(folder, shard, positions)
    order = select.rank_shard(
        pool,
        terms.known,
        count=count,
        limits=terms.limits,
        stop_similarity=terms.stop_similarity,
    )
    columns = {"position": pa.array(order), "values": vectors(pool.values[pool.find(order)])}
    return part.write(columns, key=key), told


def read_candidates(folder: Path, shard: int) -> Pool:
    """Return what one shard put forward, sorted by position."""
    table = Part(folder, CANDIDATES, shard).read("position", "values")
    positions = table.column("position").to_numpy()
    rows = np.argsort(positions)
    return Pool(positions[rows], matrix(table.column("values"))[rows])


def cover_part(
    folder: Path, shard: int, selected: Pool, source: str
) -> tuple[dict[str, Any], list[Problem]]:
    """Write how similar each image of a shard is to the nearest selected one.

    The part has the columns ``id``, ``similarity`` and ``nearest`` (position in the collection);
    both are missing for an image that was set aside. The mark has ``lowest`` and ``total``, the
    smallest similarity and the sum of all.
    """
    key = sha256_of_json([source, hash_of(selected.positions), hash_of(selected.values)])
    part = Part(folder, COVERAGE, shard)
    mark, told = part.find(key)
    if mark is not None:
        return mark, told
    values, usable = read_embeddings(folder, shard)
    similarity = np.full(len(values), np.nan)
    nearest = np.full(len(values), -1, dtype=np.int64)
    similarity[usable], rows = covering.nearest_selected(values[usable], selected.values)
    nearest[usable] = selected.positions[rows]
    columns = {
        "id": Part(folder, EMBEDDINGS, shard).read("id").column("id").combine_chunks(),
        "similarity": pa.array(similarity, mask=~usable),
        "nearest": pa.array(nearest, mask=~usable),
    }
    lowest, total = float(similarity[usable].min()), float(similarity[usable].sum())
    return part.write(columns, key=key, lowest=lowest, total=total), told


def hash_of(array: np.ndarray | None) -> str:
    """Return a hash of an array's type, shape and bytes; of None the empty text."""
    if array is None:
        return ""
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
