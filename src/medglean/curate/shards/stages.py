"""The stages of a run over shards, each of which leaves out what is done already."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from medglean.curate.methods.along import ranked
from medglean.curate.methods.simple import random_positions
from medglean.curate.order import Limits, Ranking
from medglean.curate.ranking import uniform_start
from medglean.curate.shards import select
from medglean.curate.shards.cluster import Answer, Cluster, Progress
from medglean.curate.shards.embedding import EMBEDDINGS, Encoder
from medglean.curate.shards.parts import Part
from medglean.curate.shards.plan import ShardPlan, candidate_counts
from medglean.curate.shards.ranking import (
    Terms,
    cover_part,
    gather,
    rank_part,
    read_candidates,
)
from medglean.curate.shards.select import Pool
from medglean.errors import EmbeddingError, Problem

Marks = list[dict[str, Any]]


@dataclass(frozen=True)
class Choice:
    """How many images to select and within what limits.

    Attributes
    ----------
    budget, start, seed
        Length of the order, how much of it is drawn uniformly, and the seed of that draw.
    taken
        Positions of images taken beforehand, ascending.
    limits, stop_similarity
        As on one machine.
    oversample
        See `candidate_counts`.
    """

    budget: int
    start: int
    seed: int
    taken: Int[np.ndarray, " t"]
    limits: Limits
    stop_similarity: float | None
    oversample: float | None

    def check(self, usable: Bool[np.ndarray, " n"]) -> None:
        """Refuse a choice that the images do not allow.

        Raises
        ------
        EmbeddingError
            If an image taken beforehand has no embedding that can be compared, or too few of the
            others have one.
        """
        unusable = int((~usable[self.taken]).sum())
        if unusable:
            raise EmbeddingError(
                f"{unusable} of the {len(self.taken)} preselected images have no embedding that "
                "can be compared. The list of problems tells why; leave them out."
            )
        free = int(usable.sum()) - len(self.taken)
        if free < self.budget:
            raise EmbeddingError(
                f"{self.budget} images are to be selected, and of {len(usable)} there are {free} "
                "that are not preselected and have an embedding that can be compared. Lower the "
                "budget; the list of problems tells what was set aside."
            )

    def begun(self, usable: Bool[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
        """Return the start that one machine draws."""
        everyone = np.flatnonzero(usable)
        rows = uniform_start(
            len(everyone),
            count=self.start,
            seed=self.seed,
            limits=select.limits_at(self.limits, everyone),
            taken=np.searchsorted(everyone, self.taken),
        )
        start: Int[np.ndarray, " m"] = everyone[rows]
        return start

    def drawn(self, usable: Bool[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
        """Return the random selection that one machine makes."""
        everyone = np.flatnonzero(usable)
        rows = random_positions(
            len(everyone),
            count=self.budget,
            seed=self.seed,
            limits=select.limits_at(self.limits, everyone),
            taken=np.searchsorted(everyone, self.taken),
        )
        order: Int[np.ndarray, " m"] = everyone[rows]
        return order


@dataclass
class Stages:
    """A cluster, a folder and a plan, and what can be done with them.

    Attributes
    ----------
    cluster, folder, plan, progress
        Where it runs, where it is written, what is where, and who is told.
    problems
        What was found so far.
    """

    cluster: Cluster
    folder: Path
    plan: ShardPlan
    progress: Progress
    problems: list[Problem] = field(default_factory=list)

    def part(self, kind: str, mark: dict[str, Any]) -> Part:
        """Return the part of one kind that is of the same shard as a mark."""
        return Part(self.folder, kind, mark["shard"])

    def embed(self, encoder: Encoder, *, batch: int) -> Marks:
        """Embed all shards and return their marks, in the order of the shards.

        Raises
        ------
        EmbeddingError
            If no image could be embedded, or vectors are of different lengths.
        """
        answers = self.cluster.embed(
            encoder, self.folder, self.plan.shards, batch=batch, progress=self.progress
        )
        marks = self._marks(answers)
        self.problems += [Problem(**row) for mark in marks for row in mark["problems"]]
        widths = sorted({mark["width"] for mark in marks if mark["usable"]})
        if not widths:
            raise EmbeddingError(
                f"none of the {len(self.plan.shard_of)} images could be embedded. The last: "
                f"{self.problems[-1]}"
            )
        if len(widths) > 1:
            raise EmbeddingError(
                f"the encoder gave vectors of different lengths in different shards, {widths}; "
                "expected one length. Check the encoder."
            )
        return marks

    def usable(self, marks: Marks) -> Bool[np.ndarray, " n"]:
        """Return which images have an embedding that can be compared."""
        usable = np.zeros(len(self.plan.shard_of), dtype=bool)
        for mark in _with_images(marks):
            column = self.part(EMBEDDINGS, mark).read("ok").column("ok")
            usable[self.plan.rows(mark["shard"])] = column.to_numpy()
        return usable

    def farthest(
        self,
        marks: Marks,
        usable: Bool[np.ndarray, " n"],
        choice: Choice,
    ) -> tuple[Ranking, Pool]:
        """Rank each shard and merge; return the order and all that is taken in the end."""
        begun = choice.begun(usable)
        taken = choice.taken
        known = self._gather(marks, np.concatenate([begun, taken]))
        # images that are known or set aside are nobody's candidates
        left = self.plan.count(np.setdiff1d(np.flatnonzero(usable), known.positions))
        counts = candidate_counts(
            left, picks=choice.budget - choice.start, oversample=choice.oversample
        )
        terms = self.cluster.put(Terms(known, choice.limits, choice.stop_similarity))
        jobs = [
            (self.folder, mark["shard"], self.plan.rows(mark["shard"]), terms,
             int(counts[mark["shard"]]), mark["sha256"])
            for mark in _with_images(marks)
        ]  # fmt: skip
        done = self.cluster.map(rank_part, jobs, stage="rank", progress=self.progress)
        candidates = [read_candidates(self.folder, mark["shard"]) for mark in self._marks(done)]
        ranking = select.merge(
            candidates,
            known,
            start=begun,
            count=choice.budget,
            taken=taken,
            limits=choice.limits,
            stop_similarity=choice.stop_similarity,
        )
        pool = Pool.union([known, *candidates])
        return ranking, pool.at(np.concatenate([ranking.order, taken]))

    def random(
        self,
        marks: Marks,
        usable: Bool[np.ndarray, " n"],
        choice: Choice,
    ) -> tuple[Ranking, Pool]:
        """Draw uniformly from all images at once: shards make no difference to it."""
        taken = choice.taken
        order = choice.drawn(usable)
        pool = self._gather(marks, np.concatenate([order, taken]))
        rows = ranked(pool.values, pool.find(order), taken=pool.find(taken), reason="random")
        nearest = np.where(rows.nearest < 0, -1, pool.positions[rows.nearest])
        return replace(rows, order=order, nearest=nearest), pool

    def cover(self, marks: Marks, selected: Pool) -> tuple[float, float]:
        """Return the lowest and the mean similarity of an image to the nearest selected one."""
        stored = self.cluster.put(selected)
        jobs = [
            (self.folder, mark["shard"], stored, mark["sha256"]) for mark in _with_images(marks)
        ]
        done = self._marks(
            self.cluster.map(cover_part, jobs, stage="cover", progress=self.progress)
        )
        images = sum(mark["usable"] for mark in marks)
        lowest = min(mark["lowest"] for mark in done)
        return lowest, sum(mark["total"] for mark in done) / images

    def _gather(self, marks: Marks, wanted: Int[np.ndarray, " m"]) -> Pool:
        """Bring the embeddings of a few images together."""
        homes = set(self.plan.shard_of[wanted].tolist())
        jobs = [
            (self.folder, mark["shard"], self.plan.rows(mark["shard"]), wanted)
            for mark in _with_images(marks)
            if mark["shard"] in homes
        ]
        found = self.cluster.map(gather, jobs, stage="gather", progress=self.progress)
        return Pool.union(found)

    def _marks(self, answers: list[Answer]) -> Marks:
        """Keep what was told and return the marks."""
        for _, told in answers:
            self.problems += told
        return [mark for mark, _ in answers]


def _with_images(marks: Marks) -> Marks:
    """Leave out shards of which no image could be embedded: they have no part."""
    return [mark for mark in marks if mark["usable"]]
