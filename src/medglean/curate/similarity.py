"""Cosine similarity of embeddings: what can be compared, and how close each row is to a set.

The similarity of two images is the cosine of the angle between their embeddings, the complement of
the cosine distance of the paper. It lies in [-1, 1] up to rounding. What decides an order is always
the *canonical* similarity, a float64 number that depends on the two rows alone
(`medglean.curate.similarity_kernels`); float32 matrix products only say which pairs need it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from medglean.curate import similarity_kernels as kernels
from medglean.errors import EmbeddingError, UsageError

ROWS, COLUMNS = 2048, 512  # of one matrix product: its result (4 MB) stays in the cache
_NORMS = (1e-140, 1e140)  # beyond these the product of two norms leaves the range of float64
_SHOWN = 5


@dataclass(frozen=True)
class Checked:
    """Embeddings that can be compared.

    Attributes
    ----------
    values
        One row per image, shape (n, d), C-contiguous float32 or float64. What came as float32 or
        float64 is not copied unless it was laid out otherwise.
    usable
        False where a row is all zeros: it has no direction, so its cosine is undefined.
    """

    values: Float[np.ndarray, "n d"]
    usable: Bool[np.ndarray, " n"]


def _laid_out(values: Num[np.ndarray, ...]) -> np.ndarray:
    """Return the values as a C-contiguous matrix of float32 or float64."""
    if values.ndim != 2:
        raise EmbeddingError(
            f"Embeddings have shape {values.shape}; expected one row per image and one column per "
            "component: (n, d). Flatten each image's embedding."
        )
    if 0 in values.shape:
        raise EmbeddingError(
            f"Embeddings have shape {values.shape}: there is nothing to compare. Expected at least "
            "one row and one column."
        )
    if values.dtype.kind not in "fiub":
        raise EmbeddingError(
            f"Embeddings have type {values.dtype}; expected real numbers (float32 or float64)."
        )
    small = values.dtype in (np.float16, np.float32)
    return np.ascontiguousarray(values, dtype=np.float32 if small else np.float64)


def _named(rows: np.ndarray, ids: Sequence[str] | None) -> str:
    names = [f"row {i}" if ids is None else repr(ids[i]) for i in rows[:_SHOWN]]
    more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    return ", ".join(names) + more


def check_embeddings(values: Num[np.ndarray, ...], *, ids: Sequence[str] | None = None) -> Checked:
    """Check that embeddings can be compared.

    Parameters
    ----------
    values
        One row per image, shape (n, d), any real type; float16 becomes float32, integers float64.
    ids
        The images' names, for messages; their number is compared with the rows.

    Returns
    -------
    Checked
        The rows, and which of them have a direction. Rows of zeros are not an error: the caller
        sets them aside and says so.

    Raises
    ------
    EmbeddingError
        If the shape or type is wrong, the number of ids differs, a row has NaN or infinity (ids
        are listed), or a row is so long or short that products leave the range of float64.

    Examples
    --------
    >>> import numpy as np
    >>> checked = check_embeddings(np.array([[3.0, 4.0], [0.0, 0.0]]))
    >>> checked.usable.tolist()
    [True, False]
    """
    rows = _laid_out(np.asarray(values))
    if ids is not None and len(ids) != len(rows):
        raise EmbeddingError(
            f"{len(rows)} embeddings for {len(ids)} images: the two do not match. Embed the same "
            "images again, or give the ids that belong to the embeddings."
        )
    squared = kernels.squared_norms(rows)
    if not np.isfinite(squared).all():
        odd = np.flatnonzero(~np.isfinite(squared))
        broken = np.array([i for i in odd if not np.isfinite(rows[i]).all()], dtype=np.int64)
        if len(broken):
            raise EmbeddingError(
                f"{len(broken)} of {len(rows)} embeddings have NaN or infinite values: "
                f"{_named(broken, ids)}. Embed these images again, or leave them out."
            )
    norms = np.sqrt(squared)
    usable = squared > 0
    for i in np.flatnonzero(~usable):
        usable[i] = rows[i].any()  # its square is 0, it is not: it is told of below
    outside = np.flatnonzero(usable & ~((norms >= _NORMS[0]) & (norms <= _NORMS[1])))
    if len(outside):
        raise EmbeddingError(
            f"{len(outside)} embeddings are longer than {_NORMS[1]:g} or shorter than "
            f"{_NORMS[0]:g}: {_named(outside, ids)}. Cosine similarity does not depend on the "
            "length: divide each row by its largest entry."
        )
    return Checked(rows, usable)


def check_comparable(values: Num[np.ndarray, ...]) -> Float[np.ndarray, "n d"]:
    """Check embeddings of which each must have a direction.

    Raises
    ------
    EmbeddingError
        As `check_embeddings`, and if a row is all zeros.
    """
    checked = check_embeddings(values)
    if not checked.usable.all():
        zeros = np.flatnonzero(~checked.usable)
        raise EmbeddingError(
            f"{len(zeros)} embeddings are all zeros: {_named(zeros, None)}. Their cosine "
            "similarity is undefined; set them aside (check_embeddings tells which) and say so."
        )
    return checked.values


def inverse_norms(values: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
    """Return 1 over the length of every row, in float64; the rows are not zeros."""
    inverse: np.ndarray = 1.0 / np.sqrt(kernels.squared_norms(values))
    return inverse


def unit_rows(values: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Return the rows scaled to length 1, in the type they came in.

    Raises
    ------
    EmbeddingError
        As `check_comparable`.

    Examples
    --------
    >>> import numpy as np
    >>> unit_rows(np.array([[3.0, 4.0]])).round(12).tolist()
    [[0.6, 0.8]]
    """
    rows = check_comparable(values)
    scaled: np.ndarray = (rows * inverse_norms(rows)[:, None]).astype(rows.dtype)
    return scaled


def centred(values: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Return the rows minus their mean, in the type they came in.

    Embeddings that share a large common part have cosines near 1, all of them; without that part
    the differences decide. Two images then can be alike, unrelated (0) or opposite (-1).

    Raises
    ------
    EmbeddingError
        As `check_embeddings`.

    Examples
    --------
    >>> import numpy as np
    >>> centred(np.array([[1.0, 5.0], [3.0, 5.0]])).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    """
    rows = check_embeddings(values).values
    moved: np.ndarray = (rows - rows.mean(axis=0, dtype=np.float64)).astype(rows.dtype)
    return moved


def similarity_matrix(values: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n n"]:
    """Return the canonical similarity of all pairs, for small sets: 8 n² bytes.

    Raises
    ------
    EmbeddingError
        As `check_comparable`.

    Examples
    --------
    >>> import numpy as np
    >>> similarity_matrix(np.array([[1.0, 0.0], [3.0, 4.0]])).round(12).tolist()
    [[1.0, 0.6], [0.6, 1.0]]
    """
    rows = check_comparable(values)
    inverse = inverse_norms(rows)
    table = np.empty((len(rows), len(rows)))
    for j in range(len(rows)):
        kernels.similarities_to(rows, inverse, j, table[j])
    return table


def spans(count: int, size: int) -> Iterator[slice]:
    """Cut ``count`` things into consecutive slices of at most ``size``."""
    for begin in range(0, count, size):
        yield slice(begin, min(begin + size, count))


def raise_to_set(
    values: Float[np.ndarray, "n d"],
    inverse_norm: Float[np.ndarray, " n"],
    rows: Int[np.ndarray, " r"],
    chosen: Int[np.ndarray, " c"],
    *,
    largest: Float[np.ndarray, " n"],
    nearest: Int[np.ndarray, " n"],
) -> int:
    """Raise ``largest`` and ``nearest`` of some rows, in place, by their similarity to ``chosen``.

    Float32 products of unit rows, block by block, find the pairs that may matter; those are
    computed canonically. Extra memory: 8 MB at d = 128, whatever the number of rows.

    Returns
    -------
    int
        How many canonical similarities were computed.
    """
    d = values.shape[1]
    slack = kernels.filter_slack(d)
    exact = 0
    left = np.empty((min(ROWS, len(rows)), d), dtype=np.float32)
    right = np.empty((min(COLUMNS, len(chosen)), d), dtype=np.float32)
    products = np.empty(left.shape[0] * right.shape[0], dtype=np.float32)
    for down in spans(len(rows), ROWS):
        some = rows[down]
        kernels.gather_unit(values, inverse_norm, some, left)
        for across in spans(len(chosen), COLUMNS):
            columns = chosen[across]
            kernels.gather_unit(values, inverse_norm, columns, right)
            shape = (len(some), len(columns))
            filtered = products[: shape[0] * shape[1]].reshape(shape)
            np.matmul(left[: shape[0]], right[: shape[1]].T, out=filtered)
            exact += kernels.absorb(
                values, inverse_norm, some, columns, filtered, slack, largest, nearest
            )
    return exact


def to_set(
    values: Float[np.ndarray, "n d"], chosen: Sequence[int] | Int[np.ndarray, " c"]
) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Return how close every row is to a set of rows.

    Parameters
    ----------
    values
        One row per image, shape (n, d).
    chosen
        Positions of the set, at least one; a chosen row counts as its own neighbour.

    Returns
    -------
    tuple of array
        The largest similarity of each row to the chosen ones, float64, shape (n,), and the position
        of the chosen row that has it, the lowest where several do.

    Raises
    ------
    EmbeddingError
        As `check_comparable`.
    UsageError
        If nothing is chosen, or a position does not exist.

    Examples
    --------
    >>> import numpy as np
    >>> largest, nearest = to_set(np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]), np.array([0, 1]))
    >>> largest.round(12).tolist(), nearest.tolist()
    ([1.0, 1.0, 0.8], [0, 1, 1])
    """
    rows = check_comparable(values)
    columns = check_positions(chosen, count=len(rows), what="chosen")
    if not len(columns):
        raise UsageError("No row is chosen; expected at least one position to compare with.")
    largest = np.full(len(rows), -np.inf)
    nearest = np.full(len(rows), -1, dtype=np.int64)
    everything = np.arange(len(rows))
    raise_to_set(rows, inverse_norms(rows), everything, columns, largest=largest, nearest=nearest)
    return largest, nearest


def check_positions(
    positions: Sequence[int] | Int[np.ndarray, " c"], *, count: int, what: str
) -> Int[np.ndarray, " c"]:
    """Return positions as int64 after checking that each is one of ``count`` rows.

    Raises
    ------
    UsageError
        If one is not a whole number or not in 0..count-1.
    """
    found = np.asarray(positions)
    if found.size == 0:
        return np.zeros(0, dtype=np.int64)
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise UsageError(f"{what} must be a list of positions (whole numbers), got {found.dtype}.")
    outside = found[(found < 0) | (found >= count)]
    if len(outside):
        raise UsageError(
            f"{what}: position {int(outside[0])} does not exist; there are {count} embeddings, "
            f"counted from 0 to {count - 1}."
        )
    return found.astype(np.int64)
