"""What every selection method takes and gives: limits, and a nested order with its reasons."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from medglean.errors import UsageError

START, METHOD, PRESELECTED = "random start", "least similar to those before it", "preselected"
UNLIMITED = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Limits:
    """How many images may be taken of a group and of a stratum.

    Attributes
    ----------
    groups
        Number of each image's group (clip, volume, patient), shape (n,), 0-based without gaps;
        None: no groups.
    max_per_group
        How many may be taken of one group, those taken beforehand among them; None: any number.
    strata
        Number of each image's stratum (site, view, manufacturer), shape (n,); None: no strata.
    stratum_max
        How many may be taken of each stratum, shape (s,); None: any number.

    Raises
    ------
    UsageError
        If a limit is given without the numbers it counts by, or is not positive.
    """

    groups: Int[np.ndarray, " n"] | None = None
    max_per_group: int | None = None
    strata: Int[np.ndarray, " n"] | None = None
    stratum_max: Int[np.ndarray, " s"] | None = None

    def __post_init__(self) -> None:
        if self.max_per_group is not None and self.groups is None:
            raise UsageError(
                "max_per_group is given and no groups are known. Name the column that holds them, "
                "or leave max_per_group out."
            )
        if self.max_per_group is not None and self.max_per_group < 1:
            raise UsageError(f"max_per_group must be at least 1, got {self.max_per_group}.")
        if (self.strata is None) != (self.stratum_max is None):
            raise UsageError("quotas need both the strata of the images and a limit for each.")

    @property
    def any(self) -> bool:
        """Whether anything is limited."""
        return self.max_per_group is not None or self.stratum_max is not None

    def counter(self, n: int) -> Counter:
        """Return a counter for ``n`` images of which none is taken yet."""
        return Counter(self, n)


class Counter:
    """Which images may still be taken.

    Parameters
    ----------
    limits
        What is counted.
    n
        Number of images.

    Attributes
    ----------
    free
        Whether each image may still be taken, shape (n,); changed in place by `take`.
    """

    def __init__(self, limits: Limits, n: int) -> None:
        self.free: Bool[np.ndarray, " n"] = np.ones(n, dtype=bool)
        self._tables: list[tuple[np.ndarray, np.ndarray]] = []
        if limits.groups is not None and limits.max_per_group is not None:
            count = int(limits.groups.max(initial=-1)) + 1
            left = np.full(count, limits.max_per_group, dtype=np.int64)
            self._tables.append((limits.groups, left))
        if limits.strata is not None and limits.stratum_max is not None:
            self._tables.append((limits.strata, limits.stratum_max.astype(np.int64).copy()))
        for codes, left in self._tables:
            self.free &= left[codes] > 0

    def take(self, position: int) -> None:
        """Take an image: it is not free any more, nor are those of a group that is now full."""
        self.free[position] = False
        for codes, left in self._tables:
            code = codes[position]
            left[code] -= 1
            if left[code] == 0:
                self.free[codes == code] = False


@dataclass(frozen=True)
class Ranking:
    """One nested order: the first k images are the selection at budget k.

    Attributes
    ----------
    order
        Positions of the images, the first to be labelled first; without those taken beforehand.
    similarity
        Largest cosine similarity of each to all taken before it (those taken beforehand, too), at
        the moment when it was picked; in the order of ``order``. NaN where nothing was taken yet.
    nearest
        Position of the image that similarity is to; -1 where nothing was taken yet.
    reason
        Why each was picked, such as ``"random start"``.
    stopped
        Why the order ends before all images; empty where it does not.
    """

    order: Int[np.ndarray, " m"]
    similarity: Float[np.ndarray, " m"]
    nearest: Int[np.ndarray, " m"]
    reason: tuple[str, ...]
    stopped: str = ""

    def __len__(self) -> int:
        return len(self.order)

    def first(self, count: int) -> Ranking:
        """Return the selection at a smaller budget."""
        return Ranking(
            self.order[:count],
            self.similarity[:count],
            self.nearest[:count],
            self.reason[:count],
            self.stopped if count >= len(self) else "",
        )
