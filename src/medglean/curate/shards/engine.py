"""Embed and select with Ray, shard by shard, so that a killed job goes on where it was.

::

    plan.json       what the folder was made with
    images/         the manifest of each shard
    embeddings/     one part per shard, see `parts`
    candidates/     what each shard put forward
    coverage/       how similar each image is to the nearest selected one
    pairs/          near-duplicates within each shard, where they were asked for

All workers must see the folder and the images under the same paths. The process that calls
`run_sharded` holds the manifest, the start and the candidates; never all embeddings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int

from medglean.curate.duplicates import MOST_PAIRS, Pairs
from medglean.curate.order import Limits, Ranking
from medglean.curate.shards import covering, select
from medglean.curate.shards.cluster import Progress, connect
from medglean.curate.shards.covering import Certificate
from medglean.curate.shards.embedding import EMBEDDINGS, Encoder, check_encoder
from medglean.curate.shards.folder import prepare_folder
from medglean.curate.shards.pairs import list_pairs
from medglean.curate.shards.plan import ShardPlan, by_unit, candidate_counts
from medglean.curate.shards.stages import Choice, Stages
from medglean.data.manifest import Manifest
from medglean.errors import Problem, UsageError


@dataclass(frozen=True, eq=False)
class ShardedRun:
    """What a run over shards gave.

    Attributes
    ----------
    parts
        The Parquet file of embeddings of each shard.
    ranking
        The merged order; positions are rows of the manifest.
    problems
        Images that were set aside, parts that were damaged and made again, warnings.
    plan
        Which image is in which shard.
    usable
        Which images have an embedding that can be compared, shape (n,).
    mean_similarity
        Mean over those of the largest cosine similarity to a selected image.
    certificate
        What the selection can lose in covering radius; its factor is infinite where nothing can
        be said (method ``"random"``, limits, a stop similarity).
    pairs
        Near-duplicates of which both images are in one shard; None where they were not asked for.
    """

    parts: tuple[Path, ...]
    ranking: Ranking
    problems: tuple[Problem, ...]
    plan: ShardPlan
    usable: Bool[np.ndarray, " n"]
    mean_similarity: float
    certificate: Certificate
    pairs: Pairs | None = None


def run_sharded(
    manifest: Manifest,
    *,
    encoder: Encoder,
    out: Path,
    shards: int,
    budget: int,
    start: int,
    seed: int = 0,
    method: str = "enrich",
    preselected: Sequence[int] | Int[np.ndarray, " t"] = (),
    limits: Limits | None = None,
    oversample: float | None = None,
    stop_similarity: float | None = None,
    batch: int = 64,
    alike: float | None = None,
    most_pairs: int = MOST_PAIRS,
    address: str | None = None,
    cpus: int | None = None,
    gpus_per_worker: float = 0.0,
    resume: bool = True,
    progress: Progress | None = None,
) -> ShardedRun:
    """Embed all images of a manifest over shards of whole patients, rank each shard, and merge.

    Parameters
    ----------
    manifest
        All images.
    encoder
        What embeds them; pickled to the workers.
    out
        Folder of the parts, on a disk that all workers see.
    shards
        How many; a shard's embeddings must fit into a worker's memory about three times.
    budget
        How many images to select, the start among them, those preselected not.
    start
        How many of them are drawn uniformly at the beginning, as `medglean.curate.select.select`
        does; may be 0 if some are preselected. Not used by ``"random"``.
    seed
        Of the draw.
    method
        ``"enrich"`` or ``"random"``; the others need all images at once and are refused.
    preselected
        Rows of the manifest that are labelled already.
    limits
        How many may be taken of a group and of a stratum; kept in each shard and in the merge.
    oversample
        See `medglean.curate.shards.plan.candidate_counts`. None gives the proven factor.
    stop_similarity
        As on one machine.
    batch
        How many images the encoder is given at once.
    alike, most_pairs
        Similarity from which on two images of one shard are listed as near-duplicates, and how
        many pairs are kept; None: none are looked for.
    address, cpus, gpus_per_worker
        See `medglean.curate.shards.cluster.connect`.
    resume
        Go on with what is in ``out``; parts that are whole are not made again. False: ``out``
        must not hold a run.
    progress
        Called with the stage, how many shards are done, and how many there are.

    Raises
    ------
    UsageError
        If an option cannot be met, Ray is missing, or ``out`` holds a run and ``resume`` is False.
    EmbeddingError
        If no image, or fewer than are to be selected, could be embedded.
    """
    select.check_method(method)
    _check_counts(budget, start, method, preselected=len(preselected) > 0)
    plan = by_unit(manifest.groups("patient"), shards=shards, by=manifest.grouped_by)
    candidate_counts(plan.sizes, picks=budget, oversample=oversample)  # refuses what cannot be
    prepare_folder(Path(out), manifest, plan, check_encoder(encoder), resume=resume)
    with connect(address=address, cpus=cpus, gpus_per_worker=gpus_per_worker) as cluster:
        stages = Stages(cluster, Path(out), plan, progress or _silent)
        marks = stages.embed(encoder, batch=batch)
        usable = stages.usable(marks)
        choice = Choice(
            budget=budget,
            start=start,
            seed=seed,
            taken=np.unique(np.asarray(preselected, dtype=np.int64)),
            limits=limits or Limits(),
            stop_similarity=stop_similarity,
            oversample=oversample,
        )
        choice.check(usable)
        choose = stages.farthest if method == "enrich" else stages.random
        ranking, selected = choose(marks, usable, choice)
        lowest, mean = stages.cover(marks, selected)
        pairs = None
        if alike is not None:
            pairs = list_pairs(stages, marks, threshold=alike, most=most_pairs)
    bounded = method == "enrich" and not choice.limits.any and stop_similarity is None
    return ShardedRun(
        parts=tuple(stages.part(EMBEDDINGS, mark).path for mark in marks if mark["usable"]),
        ranking=ranking,
        problems=(*_warnings(plan), *stages.problems),
        plan=plan,
        usable=usable,
        mean_similarity=mean,
        certificate=covering.certify(ranking, picks=budget - start, lowest_similarity=lowest)
        if bounded
        else Certificate(covering.angle(lowest), 0.0, math.inf),
        pairs=pairs,
    )


def _check_counts(budget: int, start: int, method: str, *, preselected: bool) -> None:
    if budget < 1:
        raise UsageError(f"budget must be at least 1, got {budget}.")
    least = 0 if preselected else 1
    if method == "enrich" and not least <= start <= budget:
        raise UsageError(
            f"start must lie between {least} and the budget {budget}, got {start}: the start is a "
            "part of the selection, and without it only preselected images can be begun with."
        )


def _warnings(plan: ShardPlan) -> list[Problem]:
    if "patient" in plan.by or "group" in plan.by:
        return []
    found = "no patient and no group is known, so images are dealt into shards one by one."
    remedy = (
        "Near-duplicates may lie in different shards, and the merged selection covers less than "
        "one machine's. Fill the column 'patient' or 'group'."
    )
    return [
        Problem("the manifest", found, remedy, column="patient", kind="no-patients", fatal=False)
    ]


def _silent(stage: str, done: int, total: int) -> None:
    """Report progress to nobody."""
