"""The exact nearest neighbours of every image, and the graph that joins them.

All pairs are looked at once, in tiles of a float32 product that are offered to the rows and to the
columns; a heap per image keeps a few more than asked for. Those are then compared in float64 by
the canonical similarity, which settles the order and the ties; where float32 could have lost one,
the whole row is computed again. Single-threaded but for the product.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64, Int
from scipy.sparse import csr_array

from medglean.curate.methods import neighbour_kernels as kernels
from medglean.curate.similarity import check_comparable, inverse_norms
from medglean.curate.similarity_kernels import filter_slack, gather_unit, similarities_to
from medglean.errors import UsageError

TILE = 512
SLACK = 16
REFINED = 4096
PAIRS = 4_000_000
FEWEST = 32


@dataclass(frozen=True)
class Neighbours:
    """The k nearest others of each image.

    Attributes
    ----------
    position
        Positions of the neighbours, best first, ties to the lowest position; shape (n, k).
    similarity
        Their cosine similarities in float64; shape (n, k).
    """

    position: Int[np.ndarray, "n k"]
    similarity: Float64[np.ndarray, "n k"]


@dataclass(frozen=True)
class Graph:
    """Images joined to those they resemble, as compressed rows.

    Attributes
    ----------
    start
        The neighbours of image i are ``column[start[i] : start[i + 1]]``; shape (n + 1,).
    column
        Positions, rising within each row.
    weight
        Cosine similarity of each pair, float32 of the float64 number.
    neighbours
        How many neighbours of each image were looked for; rows are longer where an image is a
        neighbour of others that are not its own.
    """

    start: Int[np.ndarray, " n_plus_1"]
    column: Int[np.ndarray, " e"]
    weight: Float32[np.ndarray, " e"]
    neighbours: int

    def __len__(self) -> int:
        return len(self.start) - 1


def default_neighbours(n: int) -> int:
    """Return how many neighbours are looked for where nothing is said.

    As many as 4 million pairs allow, at least 32: all of 2,000 images, 87 of each of 45,460. A
    graph cut shorter than the clusters are large makes coverage count heads instead of weighing
    similarities.
    """
    return max(1, min(n - 1, max(FEWEST, PAIRS // max(n, 1))))


def nearest_neighbours(values: Float[np.ndarray, "n d"], *, k: int) -> Neighbours:
    """Find the k nearest others of each image, exactly.

    Parameters
    ----------
    values
        Embedding without zero rows, n at least 2.
    k
        Number of neighbours, 1 to n - 1.

    Returns
    -------
    Neighbours
        The same whatever the tiles, the threads or the machine: by canonical similarity.

    Raises
    ------
    UsageError
        If ``k`` is not 1 to n - 1.

    Notes
    -----
    n² d multiplications, and n (d + 3 k) numbers beside the result. Where thousands of rows are
    identical the rows that float32 cannot settle are computed in full, which is slower.
    """
    values = check_comparable(values)
    n = len(values)
    if not 1 <= k <= n - 1:
        raise UsageError(f"neighbours must be 1 to {n - 1:,} for {n:,} images, got {k}.")
    kept = min(k + SLACK, n - 1)
    inverse = inverse_norms(values)
    smallest = np.full(n, -np.inf, dtype=np.float32)
    candidates = np.empty((n, kept), dtype=np.int32)
    if kept == n - 1:
        kernels.list_all_others(candidates)
    else:
        _find_candidates(values, inverse, candidates, smallest)
    best = np.empty((n, k), dtype=np.int32)
    exact = np.empty((n, k), dtype=np.float64)
    for low in range(0, n, REFINED):
        part = slice(low, low + REFINED)
        _refine(values, inverse, low, candidates[part], smallest[part], best[part], exact[part])
    return Neighbours(best, exact)


def _refine(
    values: Float[np.ndarray, "n d"],
    inverse: Float64[np.ndarray, " n"],
    first: int,
    candidates: Int[np.ndarray, "m c"],
    smallest: Float32[np.ndarray, " m"],
    best: Int[np.ndarray, "m k"],
    exact: Float64[np.ndarray, "m k"],
) -> None:
    """Write the exact neighbours of images ``first...`` into ``best`` and ``exact``."""
    n, k = len(values), best.shape[1]
    offered = np.sort(candidates, axis=1)  # positions rising: a stable sort then breaks ties
    found = np.empty(offered.shape)
    kernels.canonical_of_pairs(values, inverse, first, offered, found)
    place = np.argsort(-found, axis=1, kind="stable")[:, :k]
    best[:] = np.take_along_axis(offered, place, axis=1)
    exact[:] = np.take_along_axis(found, place, axis=1)
    if candidates.shape[1] == n - 1:
        return
    # an image that is no candidate is at most the worst candidate plus the error of float32
    unsure = exact[:, -1] <= smallest + filter_slack(values.shape[1])
    whole = np.empty(n)
    for row in np.flatnonzero(unsure).tolist():
        similarities_to(values, inverse, first + row, whole)
        whole[first + row] = -np.inf
        best[row] = np.argsort(-whole, kind="stable")[:k]
        exact[row] = whole[best[row]]


def _find_candidates(
    values: Float[np.ndarray, "n d"],
    inverse: Float64[np.ndarray, " n"],
    candidates: Int[np.ndarray, "n c"],
    smallest: Float32[np.ndarray, " n"],
) -> None:
    """Write the c best others of each image by float32, and the similarity of the worst of them."""
    n = len(values)
    rows = np.empty(values.shape, dtype=np.float32)
    gather_unit(values, inverse, np.arange(n), rows)
    similarity = np.full(candidates.shape, -np.inf, dtype=np.float32)
    for row in range(0, n, TILE):
        for column in range(row, n, TILE):
            tile = rows[row : row + TILE] @ rows[column : column + TILE].T
            kernels.offer_tile(tile, row, column, similarity, candidates, smallest)


def similarity_graph(values: Float[np.ndarray, "n d"], *, neighbours: int | None = None) -> Graph:
    """Join each image with its nearest neighbours.

    Symmetric by union: two images are joined where either is a neighbour of the other. An image
    that many resemble keeps all of them, which is what coverage asks about. Pairs at or below
    similarity 0 may be missing: nothing is covered by its opposite.

    Parameters
    ----------
    values
        Embedding without zero rows.
    neighbours
        How many of each image; None: `default_neighbours`. More than n - 1 means n - 1.
    """
    n = len(values)
    k = min(default_neighbours(n) if neighbours is None else neighbours, n - 1)
    if k == n - 1:
        return _complete_graph(values)
    found = nearest_neighbours(values, k=k)
    shape = (n, n)
    ends = np.arange(0, n * k + 1, k)
    one_way = csr_array(
        (found.similarity.astype(np.float32).ravel(), found.position.ravel(), ends), shape=shape
    )
    # the larger of similarity and nothing: what is joined one way gets the other, too
    both_ways = one_way.maximum(one_way.T.tocsr())
    both_ways.sort_indices()
    start = both_ways.indptr.astype(np.int64)
    return Graph(start, both_ways.indices.astype(np.int32), both_ways.data, neighbours=k)


def _complete_graph(values: Float[np.ndarray, "n d"]) -> Graph:
    """Join all images with one another: nothing has to be sorted."""
    values = check_comparable(values)
    n = len(values)
    inverse = inverse_norms(values)
    column = np.empty((n, n - 1), dtype=np.int32)
    weight = np.empty((n, n - 1), dtype=np.float32)
    kernels.list_all_others(column)
    row = np.empty(n)
    for image in range(n):
        similarities_to(values, inverse, image, row)
        weight[image] = row[column[image]]
    start = np.arange(n + 1, dtype=np.int64) * (n - 1)
    return Graph(start, column.reshape(-1), weight.reshape(-1), n - 1)
