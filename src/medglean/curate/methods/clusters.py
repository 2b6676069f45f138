"""One image per cluster: a hierarchy of clusters (nested by itself), and k-means (made nested).

Both work on rows of length 1, on which squared distance is 2 - 2 cosine.
"""

from __future__ import annotations

import heapq
import warnings
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from medglean.curate.methods import cluster_kernels as kernels
from medglean.curate.methods.along import ranked, take_in_order
from medglean.curate.order import Counter, Limits, Ranking
from medglean.curate.similarity import unit_rows
from medglean.randomness import key_of

NO_LIMITS = Limits()
POWER_STEPS, MEAN_STEPS = 8, 10
MINI_BATCH_FROM = 20_000_000
BATCH, EPOCHS = 4096, 5
SPREAD_OUT = 5000


def rank_representatives(
    values: Float[np.ndarray, "n d"],
    *,
    count: int,
    limits: Limits = NO_LIMITS,
    taken: Sequence[int] | Int[np.ndarray, " t"] = (),
) -> Ranking:
    """Split the images into ever more clusters and take one image of each new cluster.

    Bisecting k-means: first the image nearest to the mean of all; then, again and again, the
    cluster with the largest sum of squared distances is cut in two by 2-means, and the part that
    holds no image yet gives the one nearest to its mean. At k images there is one in each of k
    clusters, and the order is nested because a cut never moves what was taken. Nothing is drawn
    at random.

    Parameters
    ----------
    values
        Embedding without zero rows.
    count
        How many to take; fewer come back where the limits leave fewer.
    limits, taken
        What may be taken (a part without a free image gives none), and what was taken
        beforehand: a part that holds such an image gives none, either.

    Notes
    -----
    Identical images cannot be cut apart: those that are left come last, by position.
    """
    rows = np.ascontiguousarray(unit_rows(values), dtype=np.float64)
    counter = limits.counter(len(rows))
    for position in taken:
        counter.take(int(position))
    order, leftover = _bisect(rows, count, counter, np.asarray(taken, dtype=np.int64))
    missing = [image for image in sorted(leftover) if counter.free[image]]
    if len(order) < count:
        for image in missing:
            if len(order) < count and counter.free[image]:
                counter.take(image)
                order.append(image)
    sequence = np.array(order, dtype=np.int64)
    return ranked(values, sequence, taken=taken, reason="centre of a new cluster")


def _bisect(
    rows: np.ndarray, count: int, counter: Counter, taken: np.ndarray
) -> tuple[list[int], list[int]]:
    """Return the representatives in their order, and the images of clusters that have no cut."""
    order: list[int] = []
    leftover: list[int] = []
    has_one = np.zeros(len(rows), dtype=bool)
    has_one[taken] = True
    # (-scatter, lowest position, ...): the arrays behind never get compared
    heap: list[tuple[float, int, np.ndarray, np.ndarray]] = []

    def enter(members: np.ndarray) -> None:
        """Give a new cluster its image, if it has none, and queue it for a cut."""
        if len(members) == 0:
            return
        scatter, centre = kernels.scatter_of(rows, members)
        if len(order) < count and not has_one[members].any():
            image = kernels.nearest_free(rows, members, centre, counter.free)
            if image >= 0:
                counter.take(image)
                has_one[image] = True
                order.append(image)
        if len(members) > 1 and counter.free[members].any():
            heapq.heappush(heap, (-scatter, int(members[0]), members, centre))

    enter(np.arange(len(rows)))
    while heap and len(order) < count:
        _, _, members, centre = heapq.heappop(heap)
        side = kernels.split_in_two(rows, members, centre, POWER_STEPS, MEAN_STEPS)
        if side.all() or not side.any():
            leftover.extend(members.tolist())
            continue
        enter(members[side])
        enter(members[~side])
    return order, leftover


def rank_kmeans(
    values: Float[np.ndarray, "n d"],
    *,
    count: int,
    length: int | None = None,
    seed: int = 0,
    limits: Limits = NO_LIMITS,
    taken: Sequence[int] | Int[np.ndarray, " t"] = (),
) -> Ranking:
    """Cluster into ``count`` by k-means and take the image nearest to each centre.

    Clusters belong to one budget: the first ``count`` are its selection. They come from the
    largest cluster to the smallest, so that a part of them stands for as much as it can; clusters
    that hold an image taken beforehand come later, as if its turn had passed. Beyond ``count``
    the second nearest of each cluster follow, and so on. `rank_representatives` is the method
    whose clusters are nested.

    Parameters
    ----------
    values
        Embedding without zero rows.
    count
        Number of clusters: the budget.
    length
        How long the order is to be; None: ``count``.
    seed
        Of the first centres: k-means++, beyond 5,000 clusters random images, since k-means++
        takes quadratic time. From n x ``count`` = 20 million on, centres learn from batches of
        4,096 images, 5 times through all of them at most.
    limits, taken
        As everywhere.
    """
    rows = np.ascontiguousarray(unit_rows(values), dtype=np.float64)
    n = len(rows)
    cluster, centres = _fit(rows, min(count, n), seed)
    distance = ((rows - centres[cluster]) ** 2).sum(axis=1)
    before = np.zeros(n, dtype=bool)
    before[np.asarray(taken, dtype=np.int64)] = True
    sizes = np.bincount(cluster, minlength=len(centres))
    # within a cluster: taken beforehand first, then the nearest to the centre, then by position
    sequence = np.lexsort((np.arange(n), distance, ~before, cluster))
    starts = np.r_[0, np.cumsum(sizes)[:-1]]
    place = np.arange(n) - starts[cluster[sequence]]
    by_round = np.lexsort((cluster[sequence], -sizes[cluster[sequence]], place))
    order = take_in_order(
        sequence[by_round], n, count=count if length is None else length, limits=limits, taken=taken
    )
    reasons = [
        f"nearest to the centre of a cluster of {sizes[cluster[image]]:,}"
        if rank < count
        else "further image of a cluster"
        for rank, image in enumerate(order)
    ]
    return ranked(values, order, taken=taken, reason=reasons)


def _fit(rows: np.ndarray, clusters: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return each image's cluster and the centres; in one thread, so that sums do not vary."""
    state = key_of(seed, "curate", "k-means") % 2**32
    if len(rows) * clusters < MINI_BATCH_FROM:
        model = KMeans(clusters, n_init=1, max_iter=100, random_state=state)
    else:
        model = MiniBatchKMeans(
            clusters,
            init="k-means++" if clusters <= SPREAD_OUT else "random",
            n_init=1,
            max_iter=EPOCHS,
            batch_size=BATCH,
            random_state=state,
        )
    with threadpool_limits(1), warnings.catch_warnings():
        # fewer distinct images than clusters: the order goes on with identical ones, by design
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(rows)
    return model.labels_.astype(np.int64), model.cluster_centers_
