"""What a selection is given, checked: rows, labels of images, and images taken beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from medglean.curate.similarity import Checked, centred, check_embeddings, unit_rows
from medglean.errors import EmbeddingError, Problem, UsageError
from medglean.randomness import numpy_generator

PLACE = "the embedding"
SHOWN = 10
SAMPLE = 1000
ALIKE, ALIKE_SHARE = 0.9, 0.95


@dataclass(frozen=True)
class Codes:
    """Labels of images as numbers.

    Attributes
    ----------
    codes
        Number of each image's label.
    names
        The labels, in the order of their numbers.
    """

    codes: Int[np.ndarray, " n"]
    names: list[str]

    def of(self, rows: Int[np.ndarray, " m"]) -> Int[np.ndarray, " m"]:
        """Return the numbers of some images; a name may be left without an image."""
        codes: np.ndarray = self.codes[rows]
        return codes


def checked_rows(
    values: Float[np.ndarray, "n d"], *, centre: bool, ids: Sequence[str] | None
) -> Checked:
    """Check an embedding, and subtract the mean of its rows where that is asked for.

    Raises
    ------
    EmbeddingError
        If it is no table of finite numbers, or has another length than ``ids``.
    """
    checked = check_embeddings(values, ids=ids)
    if not checked.usable.any():
        raise EmbeddingError("every row of the embedding is zero: nothing can be compared.")
    if not centre:
        return checked
    moved = checked.values.copy()
    moved[checked.usable] = centred(checked.values[checked.usable])
    again = check_embeddings(moved, ids=ids)
    return again


def codes_of(labels: Sequence[object] | np.ndarray | None, *, n: int, name: str) -> Codes | None:
    """Give numbers to the labels of images, in sorted order of their text.

    Raises
    ------
    UsageError
        If there is not one label per image.
    """
    if labels is None:
        return None
    if len(labels) != n:
        raise UsageError(f"{name}: expected one entry per image, {n:,}, found {len(labels):,}.")
    names, codes = np.unique(np.array([str(label) for label in labels]), return_inverse=True)
    return Codes(codes.astype(np.int64).reshape(-1), [str(name) for name in names])


def positions_of(
    preselected: Sequence[int | str] | np.ndarray, *, n: int, ids: Sequence[str] | None
) -> Int[np.ndarray, " t"]:
    """Return the positions of images taken beforehand, rising, each once.

    Raises
    ------
    UsageError
        If an id is unknown, a position is not 0 to n - 1, or ids are used and not given.
    """
    wanted = list(preselected)
    if any(isinstance(one, str) for one in wanted):
        if ids is None:
            raise UsageError("preselected holds ids, and the images have none. Give positions.")
        known = {name: position for position, name in enumerate(ids)}
        unknown = [one for one in wanted if one not in known]
        if unknown:
            raise UsageError(
                f"preselected: {len(unknown):,} of {len(wanted):,} ids are not in the manifest: "
                f"{_listed(unknown)}. Correct or remove them."
            )
        wanted = [known[str(one)] for one in wanted]
    positions = np.unique(np.array(wanted, dtype=np.int64))
    beyond = positions[(positions < 0) | (positions >= n)]
    if len(beyond):
        raise UsageError(
            f"preselected: positions must be 0 to {n - 1:,}, found {_listed(beyond.tolist())}."
        )
    return positions


def refuse_unusable(taken: np.ndarray, usable: np.ndarray, *, ids: Sequence[str] | None) -> None:
    """Refuse images taken beforehand that nothing can be compared with.

    Raises
    ------
    EmbeddingError
        If the embedding of one is zero; lists them.
    """
    zero = taken[~usable[taken]]
    if len(zero):
        raise EmbeddingError(
            f"{len(zero):,} preselected images have an embedding of zeros, to which nothing is "
            f"similar: {_named(zero, ids)}. Leave them out of preselected."
        )


def warnings_about(
    values: Float[np.ndarray, "n d"],
    usable: np.ndarray,
    *,
    ids: Sequence[str] | None,
    seed: int,
) -> list[Problem]:
    """Return what is odd about an embedding: rows of zeros, and rows that are all alike.

    Alike are those of which more than 95 % of the pairs of 1,000 random images are above 0.9.
    """
    warnings = []
    zero = np.flatnonzero(~usable)
    if len(zero):
        found = (
            f"{len(zero):,} of {len(values):,} rows are zero and were set aside, since nothing is "
            f"similar to them: {_named(zero, ids)}."
        )
        remedy = "Look at these images; they may be blank."
        warnings.append(Problem(PLACE, found, remedy, kind="zero-vector", fatal=False))
    share = share_alike(values[usable], seed=seed)
    if share > ALIKE_SHARE:
        found = f"{share:.0%} of pairs of images have a cosine similarity above {ALIKE}."
        remedy = "Centre the embedding (subtract its mean), so that similarities tell more."
        warnings.append(Problem(PLACE, found, remedy, kind="all-alike", fatal=False))
    return warnings


def share_alike(values: Float[np.ndarray, "n d"], *, seed: int) -> float:
    """Return the share of pairs above 0.9 among 1,000 random images; 0 for fewer than two."""
    n = len(values)
    if n < 2:
        return 0.0
    drawn = numpy_generator(seed, "curate", "alike").permutation(n)[:SAMPLE]
    rows = unit_rows(values[drawn]).astype(np.float32, copy=False)
    above = (rows @ rows.T)[np.triu_indices(len(rows), 1)] > ALIKE
    return float(above.mean())


def _named(positions: np.ndarray, ids: Sequence[str] | None) -> str:
    names = positions.tolist() if ids is None else [ids[position] for position in positions]
    return _listed(names)


def _listed(names: Sequence[object]) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(str(name) for name in names[:SHOWN]) + more
