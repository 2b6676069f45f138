r"""Facility location: take the images that together resemble all images most.

.. math:: F(S) = \sum_j w_j \max_{i \in S} \max(0, \cos(x_i, x_j))

is monotone and submodular, so that taking the image of largest gain, one at a time, reaches at
least 1 - 1/e of the best F of any set of that size [1]_, and its order is nested. A gain only
shrinks while more is taken, so that it is computed anew only for images that could be next [2]_.

References
----------
.. [1] Nemhauser, Wolsey, Fisher. An analysis of approximations for maximizing submodular set
   functions. Mathematical Programming 14, 1978.
.. [2] Minoux. Accelerated greedy algorithms for maximizing submodular set functions. 1978.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from medglean.curate.methods import coverage_kernels as kernels
from medglean.curate.methods.along import ranked
from medglean.curate.methods.neighbours import Graph, similarity_graph
from medglean.curate.order import Limits, Ranking
from medglean.errors import UsageError

NO_LIMITS = Limits()


def group_weights(groups: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return a weight per image such that every group weighs the same; they sum to 1.

    A clip of 300 frames then asks for no more of the selection than one of 10.

    Parameters
    ----------
    groups
        Number of each image's group (clip or patient), 0-based.
    """
    sizes = np.bincount(groups)
    weights: np.ndarray = 1.0 / (np.count_nonzero(sizes) * sizes[groups].astype(np.float64))
    return weights


def rank_coverage(
    values: Float[np.ndarray, "n d"],
    *,
    count: int,
    weights: Float[np.ndarray, " n"] | None = None,
    neighbours: int | None = None,
    graph: Graph | None = None,
    limits: Limits = NO_LIMITS,
    taken: Sequence[int] | Int[np.ndarray, " t"] = (),
) -> Ranking:
    """Rank images by facility location with lazy greedy; equal to plain greedy, ties included.

    Parameters
    ----------
    values
        Embedding without zero rows.
    count
        How many to take; fewer come back where the limits leave fewer.
    weights
        What each image's coverage counts, all above 0; None: all the same. See `group_weights`.
    neighbours
        An image can be covered by those joined to it in the graph of this many nearest
        neighbours, by itself, and by no other; None: see `neighbours.default_neighbours`.
    graph
        The graph, where it is known already; ``neighbours`` is not looked at then.
    limits, taken
        What may be taken, and what was taken beforehand: that covers, too.

    Returns
    -------
    Ranking
        Ties go to the lowest position. Once every image is covered fully, which is when all that
        are left have an identical one in the selection, gains are 0 and the order goes on by
        position. The similarities are to all taken before, not only along the graph.

    Raises
    ------
    UsageError
        If a weight is not above 0.
    """
    n = len(values)
    share = np.full(n, 1.0 / max(n, 1)) if weights is None else weights.astype(np.float64)
    if not (share > 0).all():
        raise UsageError("weights must all be above 0: an image of weight 0 asks for nothing.")
    graph = similarity_graph(values, neighbours=neighbours) if graph is None else graph
    edges = (graph.start, graph.column, graph.weight)
    covered = np.zeros(n)
    counter = limits.counter(n)
    for position in taken:
        counter.take(int(position))
        kernels.cover(int(position), *edges, covered)
    gain = kernels.gains_of_all(*edges, share, covered)
    heap = np.arange(n)
    kernels.heapify(heap, gain)
    size = n
    order: list[int] = []
    stands_for: list[int] = []
    while len(order) < count:
        best, size = kernels.next_best(heap, size, counter.free, gain, *edges, share, covered)
        if best < 0:
            break
        counter.take(best)
        stands_for.append(kernels.cover(best, *edges, covered))
        order.append(best)
    reasons = [f"stands for {images:,} image{'s' * (images != 1)}" for images in stands_for]
    return ranked(values, np.array(order, dtype=np.int64), taken=taken, reason=reasons)
