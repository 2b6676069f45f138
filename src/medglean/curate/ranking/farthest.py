"""ENRICH's ranking: each next image is the one least similar to all that are already taken.

Start from some images drawn uniformly; then, one at a time, take the image whose *largest*
similarity to all taken so far is *smallest*; ties go to the lowest position [1]_. Known elsewhere
as farthest-first traversal or greedy k-centre: the result covers the set within twice the smallest
radius that any set of that size can reach [2]_. One nested order serves every budget.

Three algorithms give the same order, similarities and nearest images, bit for bit, ties included:

- ``naive``: n d operations a pick; the reference.
- ``blocked``: stale values are lower bounds; pools, and matrix products (`ranking.blocked`).
- ``pruned``: the triangle inequality rules out whole clusters (`ranking.pruned`).

``auto`` tries ``pruned`` and goes over to ``blocked`` where it does not pay. The choice depends on
counts, never on a clock, and not on the result.

References
----------
.. [1] Chinn, Arora, Arnaout, Arnaout. ENRICHing medical imaging training sets enables more
   efficient machine learning. JAMIA 30(6), 2023.
.. [2] Gonzalez. Clustering to minimize the maximum intercluster distance. Theoretical Computer
   Science 38, 1985.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from medglean.curate.order import Limits, Ranking
from medglean.curate.ranking.batch import rank_batches
from medglean.curate.ranking.begin import begin, check_beginning
from medglean.curate.ranking.blocked import rank_blocked
from medglean.curate.ranking.naive import RowOf, rank_naively
from medglean.curate.ranking.pruned import rank_pruned
from medglean.curate.similarity import check_comparable, inverse_norms
from medglean.curate.similarity_kernels import similarities_to
from medglean.errors import EmbeddingError, UsageError

Algorithm = Literal["auto", "pruned", "blocked", "naive"]
Rule = Literal["largest", "mean", "batch"]
_WORTH_CLUSTERING = 4096  # images, below which clusters cost more than they save


@dataclass(frozen=True)
class Work:
    """What an order cost.

    Attributes
    ----------
    algorithm
        What was used, such as ``"pruned"`` or ``"pruned, then blocked"``.
    similarities
        How many similarities (or products with a cluster's centre) were computed.
    share
        The same over n times the number of images taken, which is what ``naive`` computes.
    """

    algorithm: str
    similarities: int
    share: float


def rank_farthest(
    values: Float[np.ndarray, "n d"],
    *,
    start: Sequence[int] | Int[np.ndarray, " s"],
    count: int | None = None,
    taken: Sequence[int] | Int[np.ndarray, " t"] = (),
    limits: Limits | None = None,
    rule: Rule = "largest",
    batch_size: int = 100,
    stop_similarity: float | None = None,
    algorithm: Algorithm = "auto",
) -> Ranking:
    """Rank images so that each next one is the least similar to those already taken.

    Parameters
    ----------
    values
        Embeddings, one row per image, shape (n, d), in the manifest's order; float32 or float64.
    start
        Positions that the order begins with, as `uniform_start` draws them.
    count
        Length of the order, start included; None: all images that are not taken beforehand.
    taken
        Positions of images labelled beforehand: they count as taken and are not in the order.
    limits
        How many may be taken of a group and of a stratum; images of a full one are skipped.
    rule
        ``"largest"``: the paper's, smallest largest similarity. For comparison, ``"mean"``:
        smallest mean similarity to all taken (always computed naively), and ``"batch"``: as
        ``"largest"``, but the values are renewed only after every ``batch_size`` picks.
    batch_size
        Of rule ``"batch"``.
    stop_similarity
        In [-1, 1]: the order stops once every image left is at least this similar to one taken
        (rule ``"batch"``: by the values that it decides by); None: it does not stop.
    algorithm
        ``"auto"``, or one of the others to compare; all give the same result.

    Returns
    -------
    Ranking
        The order, for each image its largest similarity when it was picked and the taken image
        that has it (the lowest position of several), and why the order ended early, if so.

    Raises
    ------
    EmbeddingError
        If the embeddings cannot be compared; rows of zeros are to be set aside first.
    UsageError
        If start, taken, count, limits or an option cannot be; the message says which.

    Examples
    --------
    >>> import numpy as np
    >>> angles = np.deg2rad([0, 10, 90, 45, 91])
    >>> rows = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    >>> ranking = rank_farthest(rows, start=[0])
    >>> ranking.order.tolist(), ranking.nearest.tolist()
    ([0, 4, 3, 1, 2], [-1, 0, 0, 0, 4])
    >>> ranking.similarity.round(2).tolist()
    [nan, -0.02, 0.71, 0.98, 1.0]
    """
    ranking, _ = rank_and_count(
        values,
        start=start,
        count=count,
        taken=taken,
        limits=limits,
        rule=rule,
        batch_size=batch_size,
        stop_similarity=stop_similarity,
        algorithm=algorithm,
    )
    return ranking


def rank_and_count(
    values: Float[np.ndarray, "n d"],
    *,
    start: Sequence[int] | Int[np.ndarray, " s"],
    count: int | None = None,
    taken: Sequence[int] | Int[np.ndarray, " t"] = (),
    limits: Limits | None = None,
    rule: Rule = "largest",
    batch_size: int = 100,
    stop_similarity: float | None = None,
    algorithm: Algorithm = "auto",
) -> tuple[Ranking, Work]:
    """Rank as `rank_farthest`, and tell how many similarities that took."""
    limits = limits or Limits()
    stop = _check_options(rule, algorithm, batch_size, stop_similarity)
    rows = check_comparable(values)
    first, before, total = check_beginning(
        len(rows), start=start, taken=taken, count=count, limits=limits
    )
    if algorithm == "naive" or rule == "mean":
        ranking = rank_naively(
            _rows_of(rows),
            n=len(rows),
            start=first,
            count=total,
            taken=before,
            limits=limits,
            rule=rule,
            batch_size=batch_size,
            stop_similarity=stop,
        )
        return ranking, Work("naive", len(rows) * (len(ranking) + len(before)), 1.0)
    state = begin(rows, start=first, taken=before, count=total, limits=limits, stop_similarity=stop)
    if rule == "batch":
        rank_batches(state, batch_size=batch_size)
    elif algorithm == "pruned":
        rank_pruned(state)
    else:
        if algorithm == "auto" and len(rows) >= _WORTH_CLUSTERING:
            rank_pruned(state, give_up=True)
        if not state.done:
            rank_blocked(state)
    similarities = state.exact + state.filtered
    everything = len(rows) * (state.picked + len(before))
    return state.ranking(), Work(
        ", then ".join(state.used), similarities, similarities / everything
    )


def rank_matrix(
    similarities: Float[np.ndarray, "n n"],
    *,
    start: Sequence[int] | Int[np.ndarray, " s"],
    count: int | None = None,
    rule: Rule = "largest",
    batch_size: int = 100,
    taken: Sequence[int] | Int[np.ndarray, " t"] = (),
    limits: Limits | None = None,
) -> Ranking:
    """Rank by a given matrix of similarities, naively: any measure, small sets.

    Parameters
    ----------
    similarities
        Similarity of all pairs, symmetric; the diagonal is not read.
    start, count, rule, batch_size, taken, limits
        As in `rank_farthest`.

    Raises
    ------
    EmbeddingError
        If the matrix is not square, not symmetric, or has NaN or infinite entries.
    UsageError
        As in `rank_farthest`.

    Examples
    --------
    >>> import numpy as np
    >>> rank_matrix(np.array([[1, 0.9, 0.2], [0.9, 1, 0.3], [0.2, 0.3, 1]]), start=[0]).order
    array([0, 2, 1])
    """
    table = np.asarray(similarities, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1]:
        raise EmbeddingError(f"A matrix of similarities is square, found shape {table.shape}.")
    if not np.isfinite(table).all():
        raise EmbeddingError(
            "The matrix of similarities has NaN or infinite entries; give numbers."
        )
    if not np.array_equal(table, table.T):
        raise EmbeddingError(
            "The matrix of similarities is not symmetric; a is as similar to b as b to a. Use the "
            "mean of the matrix and its transpose, if that is what you mean."
        )
    _check_options(rule, "naive", batch_size, None)
    within = Limits() if limits is None else limits
    first, before, total = check_beginning(
        len(table), start=start, taken=taken, count=count, limits=within
    )
    return rank_naively(
        lambda position: table[position],
        n=len(table),
        start=first,
        count=total,
        taken=before,
        limits=within,
        rule=rule,
        batch_size=batch_size,
        stop_similarity=np.inf,
    )


def _rows_of(values: Float[np.ndarray, "n d"]) -> RowOf:
    """Return the function that gives canonical similarities to one image."""
    inverse = inverse_norms(values)
    row = np.empty(len(values))

    def row_of(position: int) -> Float[np.ndarray, " n"]:
        similarities_to(values, inverse, position, row)
        return row

    return row_of


def _check_options(
    rule: str, algorithm: str, batch_size: int, stop_similarity: float | None
) -> float:
    """Check the options and return the similarity to stop at, infinite for none."""
    if rule not in get_args(Rule):
        raise UsageError(
            f"rule {rule!r} is not known; expected one of {', '.join(get_args(Rule))}."
        )
    if algorithm not in get_args(Algorithm):
        known = ", ".join(get_args(Algorithm))
        raise UsageError(f"algorithm {algorithm!r} is not known; expected one of {known}.")
    if batch_size < 1:
        raise UsageError(f"batch_size must be at least 1, got {batch_size}.")
    if stop_similarity is None:
        return np.inf
    if not -1 <= stop_similarity <= 1:
        raise UsageError(f"stop_similarity must lie in [-1, 1], got {stop_similarity}.")
    return float(stop_similarity)
