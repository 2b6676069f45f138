"""What is known of a selection over shards: exactly where parts suffice, else on a sample."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from medglean.curate.comparison import (
    Comparison,
    Membership,
    compare_sets,
    looked_at,
    random_draws,
)
from medglean.curate.curation import Curation, label_column
from medglean.curate.duplicates import Pairs, label_conflicts
from medglean.curate.inputs import codes_of, warnings_about
from medglean.curate.methods.simple import interval_positions
from medglean.curate.order import Ranking
from medglean.curate.redundancy import redundancy
from medglean.curate.select import PLACE, Selection
from medglean.curate.settings import CuratePreset
from medglean.curate.sharded.ask import Asked
from medglean.curate.shards.engine import ShardedRun
from medglean.curate.shards.parts import Part
from medglean.curate.shards.ranking import COVERAGE, gather
from medglean.curate.shards.select import Pool
from medglean.data.manifest import Manifest
from medglean.errors import EmbeddingError, Problem
from medglean.randomness import numpy_generator

SAMPLE = 20_000
MOST_DRAWS = 5


@dataclass(frozen=True)
class Sharded:
    """A curation over shards. All positions are rows of ``curation.manifest``.

    Attributes
    ----------
    curation
        Of the images that have an embedding; its ``values`` are empty and it has no curves.
        Similarities of the images to the selection are exact, near-duplicates those within a
        shard, redundancy that of the sample.
    sample
        Positions of the images that redundancy was counted on: all, or 20,000 random ones.
    drawn, values
        Positions of all images whose embedding was brought together, ascending, and a row each:
        the sample, the selection, and those it is compared with.
    set_aside
        How many images that could be chosen have no embedding that can be compared.
    """

    curation: Curation
    sample: Int[np.ndarray, " s"]
    drawn: Int[np.ndarray, " m"]
    values: Float[np.ndarray, "m d"]
    set_aside: int

    @property
    def counted(self) -> int | None:
        """Size of the sample; None where it is all images."""
        return None if len(self.sample) == len(self.curation.manifest) else len(self.sample)

    def rows(self, positions: Int[np.ndarray, " k"]) -> Float[np.ndarray, "k d"]:
        """Return the embeddings of some of the images in ``drawn``."""
        values: np.ndarray = self.values[np.searchsorted(self.drawn, positions)]
        return values


def look_into_shards(
    manifest: Manifest, run: ShardedRun, folder: Path, *, asked: Asked, preset: CuratePreset
) -> Sharded:
    """Find out what a selection over shards covers and repeats.

    Reads each shard's embeddings once, one after another, and keeps those of the sample and of
    the selections that are compared: at most 20,000 + 8,192 + 7 budgets of rows.

    Parameters
    ----------
    manifest
        The images that the run was given.
    run, folder
        What it gave, and where its parts lie.
    asked, preset
        What was asked of it.
    """
    usable = np.flatnonzero(run.usable)
    whole = len(usable) == len(manifest)
    kept = manifest if whole else manifest.select(usable)
    new = np.cumsum(run.usable) - 1  # position among the images that have an embedding
    ranking = replace(run.ranking, order=new[run.ranking.order], nearest=_moved(run, new))
    taken = new[asked.taken]
    n, seed, draws = len(usable), preset.seed, min(preset.selection.draws, MOST_DRAWS)
    count = len(ranking.order)
    sample = np.arange(n)
    if n > SAMPLE:
        picked = numpy_generator(seed, "curate", "sample").choice(n, SAMPLE, replace=False)
        sample = np.sort(picked)
    random = random_draws(n, count=count, taken=taken, draws=draws, seed=seed)
    interval = interval_positions(n, count=count, taken=taken)
    look_at = looked_at(n, seed=seed)
    drawn = np.unique(np.concatenate([sample, ranking.order, taken, *random, interval, look_at]))
    values = _gathered(run, folder, usable[drawn])

    def place(positions: np.ndarray) -> np.ndarray:
        return np.searchsorted(drawn, positions)

    comparison = compare_sets(
        values,
        place(ranking.order),
        random=[place(one) for one in random],
        interval=place(interval),
        look_at=place(look_at),
        taken=place(taken),
        membership=_membership(kept, drawn, preset),
        seed=seed,
    )
    selection = _selection(run, ranking, taken, n, asked, comparison)
    alike = warnings_about(
        values[place(sample)], np.ones(len(sample), dtype=bool), ids=None, seed=seed
    )
    selection = replace(selection, warnings=(*alike, *selection.warnings))
    curation = _curation(kept, run, folder, selection, new, values[place(sample)], sample, preset)
    return Sharded(curation, sample, drawn, values, len(manifest) - n)


def _curation(
    kept: Manifest,
    run: ShardedRun,
    folder: Path,
    selection: Selection,
    new: np.ndarray,
    sampled: np.ndarray,
    sample: np.ndarray,
    preset: CuratePreset,
) -> Curation:
    if run.pairs is None:
        raise EmbeddingError("the run over shards did not look for near-duplicates.")
    similarity, nearest = _coverage(run, folder)
    pairs: Pairs = replace(run.pairs, first=new[run.pairs.first], second=new[run.pairs.second])
    grouped_by = next((name for name in ("group", "patient") if name in kept.frame), "")
    label = label_column(kept)
    return Curation(
        manifest=kept,
        values=np.empty((0, sampled.shape[1]), dtype=np.float32),
        selection=selection,
        similarity=similarity[run.usable],
        nearest=new[nearest[run.usable]],
        redundancy=redundancy(
            sampled,
            groups=kept.select(sample).groups(grouped_by) if grouped_by else None,
            thresholds=preset.report.thresholds,
        ),
        grouped_by=grouped_by,
        curves={},
        pairs=pairs,
        leaks=None,
        conflicts=label_conflicts(pairs, kept.frame[label].tolist()) if label else None,
    )


def _selection(
    run: ShardedRun,
    ranking: Ranking,
    taken: np.ndarray,
    n: int,
    asked: Asked,
    comparison: Comparison,
) -> Selection:
    warnings = [problem for problem in run.problems if problem.kind == "no-patients"]
    if len(ranking) < asked.budget:
        warnings.append(
            Problem(
                PLACE,
                f"{len(ranking):,} images were chosen for a budget of {asked.budget:,}: "
                f"{(ranking.stopped or 'the limits leave no more').rstrip('.')}.",
                "Lower the budget, or loosen max_per_group or the stop similarity.",
                kind="short",
                fatal=False,
            )
        )
    return Selection(
        method=asked.method,
        budget=asked.budget,
        start=asked.start,
        ranking=ranking,
        taken=taken,
        eligible=np.arange(n),
        set_aside=np.empty(0, dtype=np.int64),
        outliers=None,
        warnings=tuple(warnings),
        comparison=comparison,
    )


def _moved(run: ShardedRun, new: np.ndarray) -> Int[np.ndarray, " k"]:
    nearest: np.ndarray = np.where(run.ranking.nearest < 0, -1, new[run.ranking.nearest])
    return nearest


def _membership(kept: Manifest, drawn: np.ndarray, preset: CuratePreset) -> Membership:
    few = kept.select(drawn)

    def codes(name: str) -> np.ndarray | None:
        if name not in few.frame:
            return None
        found = codes_of(few.groups(name), n=len(few), name=name)
        return None if found is None else found.codes

    return Membership(codes(preset.selection.group), codes(preset.selection.patient))


def _gathered(run: ShardedRun, folder: Path, wanted: np.ndarray) -> Float[np.ndarray, "m d"]:
    """Read the embeddings of some images, shard after shard."""
    homes = np.unique(run.plan.shard_of[wanted]).tolist()
    found = [gather(folder, shard, run.plan.rows(shard), wanted) for shard in homes]
    return Pool.union(found).values


def _coverage(
    run: ShardedRun, folder: Path
) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Read how similar each image is to the nearest selected one, and which that is."""
    similarity = np.full(len(run.usable), np.nan)
    nearest = np.zeros(len(run.usable), dtype=np.int64)
    for shard in np.unique(run.plan.shard_of[run.usable]).tolist():
        table = Part(folder, COVERAGE, shard).read("similarity", "nearest")
        rows = run.plan.rows(shard)
        ok = run.usable[rows]
        similarity[rows[ok]] = table.column("similarity").to_numpy()[ok]
        nearest[rows[ok]] = table.column("nearest").to_numpy()[ok].astype(np.int64)
    return similarity, nearest
