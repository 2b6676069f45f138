"""What all ranking algorithms share: how far an order has come, and which images may go on."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from medglean.curate.order import METHOD, START, Limits, Ranking

FULL = "no image is left that the limits allow"
NONE: Int[np.ndarray, " n"] = np.zeros(0, dtype=np.int64)


def alike_enough(similarity: float) -> str:
    """Return the words for an order that stopped by its similarity."""
    return f"every image left has a similarity of at least {similarity:g} to one taken"


@dataclass
class Room:
    """The limits as compiled loops read them; an image may be taken while both counts are positive.

    Attributes
    ----------
    groups, strata
        Number of each image's group and stratum, shape (n,); of length 0 where not limited.
    group_left, stratum_left
        How many more may be taken of each; changed in place.
    """

    groups: Int[np.ndarray, " g"]
    group_left: Int[np.ndarray, " k"]
    strata: Int[np.ndarray, " s"]
    stratum_left: Int[np.ndarray, " m"]

    @classmethod
    def of(cls, limits: Limits) -> Room:
        """Return the room that limits leave before anything is taken."""
        groups, group_left, strata, stratum_left = NONE, NONE, NONE, NONE
        if limits.groups is not None and limits.max_per_group is not None:
            groups = np.asarray(limits.groups, dtype=np.int64)
            group_left = np.full(groups.max(initial=-1) + 1, limits.max_per_group, dtype=np.int64)
        if limits.strata is not None and limits.stratum_max is not None:
            strata = np.asarray(limits.strata, dtype=np.int64)
            stratum_left = np.array(limits.stratum_max, dtype=np.int64)
        return cls(groups, group_left, strata, stratum_left)

    def take(self, position: int) -> None:
        """Count an image as taken."""
        if len(self.groups):
            self.group_left[self.groups[position]] -= 1
        if len(self.strata):
            self.stratum_left[self.strata[position]] -= 1

    def remaining(self, positions: Int[np.ndarray, " c"]) -> Int[np.ndarray, " r"]:
        """Return those of the positions whose group and stratum are not full."""
        if len(self.groups):
            positions = positions[self.group_left[self.groups[positions]] > 0]
        if len(self.strata):
            positions = positions[self.stratum_left[self.strata[positions]] > 0]
        return positions


@dataclass
class State:
    """An order in the making.

    Attributes
    ----------
    values
        Embeddings, shape (n, d), C-contiguous, each row with a direction.
    inverse_norm
        1 over the length of each row, float64, shape (n,).
    room
        What the limits still allow.
    largest
        Largest canonical similarity of each image to the sources that it has seen, shape (n,);
        plus infinity once the image is taken or excluded.
    nearest
        The source that has it, the lowest position of several, shape (n,).
    sources
        Positions of the images taken, in their order, without those whose row repeats a source of
        a lower position: they change no largest similarity and no nearest image.
    seen
        How many sources each image has been compared with, shape (n,): it is up to date when that
        is ``source_count``.
    order, similarity, neighbour
        The order so far, as in `medglean.curate.order.Ranking`; the first ``picked`` are filled.
    stop_similarity
        The order stops before a pick that is at least this similar to an image taken.
    exact
        How many canonical similarities were computed.
    filtered
        How many similarities were computed in float32.
    """

    values: Float[np.ndarray, "n d"]
    inverse_norm: Float[np.ndarray, " n"]
    room: Room
    largest: Float[np.ndarray, " n"]
    nearest: Int[np.ndarray, " n"]
    sources: Int[np.ndarray, " s"]
    seen: Int[np.ndarray, " n"]
    order: Int[np.ndarray, " m"]
    similarity: Float[np.ndarray, " m"]
    neighbour: Int[np.ndarray, " m"]
    stop_similarity: float = np.inf
    source_count: int = 0
    picked: int = 0
    started: int = 0
    stopped: str = ""
    exact: int = 0
    filtered: int = 0
    used: list[str] = field(default_factory=list)

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.values)

    @property
    def done(self) -> bool:
        """Whether the order is complete."""
        return bool(self.stopped) or self.picked == len(self.order)

    def record(self, chosen: Int[np.ndarray, " c"]) -> None:
        """Write images into the order with what is known of them, and make each a source.

        The room is the caller's to count.
        """
        span = slice(self.picked, self.picked + len(chosen))
        self.order[span] = chosen
        alone = self.nearest[chosen] < 0
        self.similarity[span] = np.where(alone, np.nan, self.largest[chosen])
        self.neighbour[span] = self.nearest[chosen]
        self.picked = span.stop
        self.add_sources(chosen)

    def add_sources(self, chosen: Int[np.ndarray, " c"]) -> None:
        """Let images be what others are compared with, and no longer go on themselves."""
        self.largest[chosen] = np.inf
        self.sources[self.source_count : self.source_count + len(chosen)] = chosen
        self.source_count += len(chosen)

    def ranking(self) -> Ranking:
        """Return the order so far."""
        reasons = (START,) * self.started + (METHOD,) * (self.picked - self.started)
        return Ranking(
            self.order[: self.picked].copy(),
            self.similarity[: self.picked].copy(),
            self.neighbour[: self.picked].copy(),
            reasons,
            self.stopped,
        )
