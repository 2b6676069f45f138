"""Near-duplicates over shards: pairs of images that lie in one shard.

Frames of a clip and images of a patient share a shard, and most near-duplicates are among them.
Pairs of images in different shards are not looked for: that would bring every two shards together.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from medglean.curate.duplicates import Pairs, near_duplicates
from medglean.curate.shards.parts import Part
from medglean.curate.shards.ranking import hash_of, pool_of
from medglean.curate.shards.stages import Marks, Stages
from medglean.errors import Problem
from medglean.files import sha256_of_json

PAIRS = "pairs"


def list_pairs(stages: Stages, marks: Marks, *, threshold: float, most: int) -> Pairs:
    """Return the near-duplicates within the shards; positions are those in the collection.

    Parameters
    ----------
    stages, marks
        The run, and the marks of its embeddings.
    threshold, most
        As `medglean.curate.duplicates.near_duplicates` takes them. Each shard keeps ``most`` pairs,
        and of all of them as many are returned.
    """
    jobs = [
        (stages.folder, mark["shard"], stages.plan.rows(mark["shard"]), threshold, most,
         mark["sha256"])
        for mark in marks
        if mark["usable"]
    ]  # fmt: skip
    answers = stages.cluster.map(pairs_part, jobs, stage="pairs", progress=stages.progress)
    for _, told in answers:
        stages.problems += told
    tables = [Part(stages.folder, PAIRS, mark["shard"]).read() for mark, _ in answers]
    first, second, similarity = (
        np.concatenate([table.column(name).to_numpy() for table in tables])
        for name in ("first", "second", "similarity")
    )
    best = np.lexsort((second, first, -similarity))[:most]
    total = sum(mark["total"] for mark, _ in answers)
    return Pairs(first[best], second[best], similarity[best], total, threshold)


def pairs_part(
    folder: Path,
    shard: int,
    positions: Int[np.ndarray, " n"],
    threshold: float,
    most: int,
    source: str,
) -> tuple[dict[str, Any], list[Problem]]:
    """Write the near-duplicates of one shard, unless that is done already, and return the mark.

    The part has the columns ``first``, ``second`` (positions in the collection) and
    ``similarity``; ``total`` of the mark counts also those that are not kept. For the parameters
    see `medglean.curate.shards.ranking.rank_part`.
    """
    key = sha256_of_json([source, hash_of(positions), threshold, most])
    part = Part(folder, PAIRS, shard)
    mark, told = part.find(key)
    if mark is not None:
        return mark, told
    pool = pool_of(folder, shard, positions)
    found = near_duplicates(pool.values, threshold=threshold, most=most)
    columns = {
        "first": pa.array(pool.positions[found.first], pa.int64()),
        "second": pa.array(pool.positions[found.second], pa.int64()),
        "similarity": pa.array(found.similarity, pa.float64()),
    }
    return part.write(columns, key=key, total=found.total), told
