"""Near-duplicates: which pairs of images are almost the same, and what trouble that makes.

Two embeddings whose cosine is close to 1 are usually neighbouring frames of a clip, a copy of a
file, or the same view of the same patient. Such pairs cost labelling time twice; across the parts
of a split they make a test too easy; and where their labels differ, one of the two is probably
wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int, Num
from scipy import sparse
from scipy.sparse import csgraph

from medglean.curate.similarity import check_embeddings, inverse_norms
from medglean.curate.ssim import ssim_pairs
from medglean.errors import UsageError

MIN_SIMILARITY = 0.95
SAME_PICTURE = 0.98
"""From here on two images so often are one picture that different labels are worth a look. In a
set of breast ultrasound whose copies are known (`tests/curate/test_duplicates.py`) the six
contradicting pairs of copies lie above it, the next pair, of two different breasts, at 0.90; in
lung ultrasound clips dark images of different patients reach 0.96."""
MOST_PAIRS = 100_000
_ROWS, _COLUMNS = 1_024, 2_048  # of a block: 16 MiB in float64
_PAIRS = 2_000
_DECIMALS = 12  # beyond these a product of matrices depends on where in a block a pair stands
_HALF_UNIT = 0.5 * 10.0**-_DECIMALS


@dataclass(frozen=True)
class Pairs:
    """Pairs of images, the most similar first; of equally similar ones the lowest positions first.

    Attributes
    ----------
    first, second
        Positions of the two images, ``first < second``.
    similarity
        Cosine of their embeddings, in [-1, 1], to 12 decimals.
    total
        How many pairs reach ``threshold``: more than are kept where there are very many.
    threshold
        Similarity from which on two images are a pair.
    structure
        Structural similarity of their thumbnails in [-1, 1]; None where it was not measured. Where
        it was, pairs stand in its order.
    """

    first: Int[np.ndarray, " p"]
    second: Int[np.ndarray, " p"]
    similarity: Float[np.ndarray, " p"]
    total: int
    threshold: float
    structure: Float[np.ndarray, " p"] | None = None

    def __len__(self) -> int:
        return len(self.first)

    @property
    def left_out(self) -> int:
        """How many pairs are counted in ``total`` and not kept."""
        return self.total - len(self)

    def select(self, which: np.ndarray) -> Pairs:
        """Return the pairs of a mask or of positions, in that order; ``total`` becomes theirs."""
        first = self.first[which]
        structure = None if self.structure is None else self.structure[which]
        return Pairs(
            first, self.second[which], self.similarity[which], len(first), self.threshold, structure
        )


def near_duplicates(
    values: Float[np.ndarray, "n d"],
    *,
    threshold: float = MIN_SIMILARITY,
    most: int = MOST_PAIRS,
) -> Pairs:
    """Find all pairs of images whose embeddings have at least this cosine similarity.

    All n (n - 1) / 2 pairs are compared, block by block in float64. Memory: the data once more in
    float64, blocks of 16 MiB, and at most a few times ``most`` pairs.

    Parameters
    ----------
    values
        One embedding per row. A row of zeros has no direction and is in no pair.
    threshold
        In [-1, 1].
    most
        How many pairs are kept at most: the most similar ones. All are counted.

    Raises
    ------
    EmbeddingError
        If values are not a table of finite numbers, or there are none.
    UsageError
        If ``threshold`` or ``most`` has no meaning.

    Examples
    --------
    >>> import numpy as np
    >>> pairs = near_duplicates(np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 0.1]]))
    >>> pairs.first.tolist(), pairs.second.tolist(), pairs.similarity.round(4).tolist()
    ([0], [2], [0.9994])
    """
    if not -1.0 <= threshold <= 1.0:
        raise UsageError(f"threshold: a cosine similarity lies in [-1, 1], got {threshold:g}.")
    if most < 1:
        raise UsageError(f"most: expected at least one pair to keep, got {most}.")
    unit, usable = _unit_rows(values)
    kept = _Best(most)
    total = 0
    for rows, columns in _blocks(len(unit)):
        product = unit[rows] @ unit[columns].T
        np.clip(product, -1.0, 1.0, out=product)
        if rows.start == columns.start:
            product[np.tril_indices(len(product))] = -np.inf
        total += int(np.count_nonzero(product >= threshold - _HALF_UNIT))
        i, j = np.nonzero(product >= max(threshold, kept.lowest) - _HALF_UNIT)
        kept.add(usable[rows][i], usable[columns][j], np.round(product[i, j], _DECIMALS))
    first, second, similarity = kept.sorted()
    return Pairs(first, second, similarity, total, threshold)


def _unit_rows(values: np.ndarray) -> tuple[Float[np.ndarray, "m d"], Int[np.ndarray, " m"]]:
    """Return the rows that have a direction at length 1 in float64, and their positions."""
    checked = check_embeddings(values)
    usable = np.flatnonzero(checked.usable)
    rows = checked.values[usable].astype(np.float64)
    return rows * inverse_norms(rows)[:, None], usable


def _blocks(count: int) -> Iterator[tuple[slice, slice]]:
    """Yield rows and columns of blocks on and above the diagonal; both begin alike only on it."""
    for start in range(0, count, _ROWS):
        rows = slice(start, min(start + _ROWS, count))
        yield rows, rows
        for column in range(rows.stop, count, _COLUMNS):
            yield rows, slice(column, min(column + _COLUMNS, count))


class _Best:
    """The most similar pairs seen so far."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._count = 0
        self.lowest = -np.inf
        """Below it no further pair can be among the best."""

    def add(self, first: np.ndarray, second: np.ndarray, similarity: np.ndarray) -> None:
        if len(first) == 0:
            return
        self._kept.append((first, second, similarity))
        self._count += len(first)
        # trimmed only now and then: sorting after every block would cost more than the products
        if self._count > 4 * self._most or (self.lowest == -np.inf and self._count > self._most):
            self._trim()

    def _trim(self) -> None:
        joined = [np.concatenate(parts) for parts in zip(*self._kept, strict=True)]
        first, second, similarity = joined
        if len(similarity) > self._most:
            # all that tie with the last one kept are sorted by position, so that a pair's place
            # does not depend on when its block came
            bar = np.partition(similarity, -self._most)[-self._most]
            reached = similarity >= bar
            first, second, similarity = first[reached], second[reached], similarity[reached]
            self.lowest = float(bar)
        order = np.lexsort((second, first, -similarity))[: self._most]
        self._kept = [(first[order], second[order], similarity[order])]
        self._count = len(order)

    def sorted(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if not self._kept:
            none = np.zeros(0, dtype=np.int64)
            return none, none, np.zeros(0)
        self._trim()
        return self._kept[0]


def by_structure(pairs: Pairs, thumbnails: Num[np.ndarray, "n h w"]) -> Pairs:
    """Put pairs in the order of the structural similarity of their thumbnails.

    The embedding finds the candidates, the pictures themselves decide which come first.

    Parameters
    ----------
    pairs
        As `near_duplicates` gives them.
    thumbnails
        Grey values of all images, such as 64 x 64 pixels: in [0, 1], or of 8 bits.
    """
    structure = np.empty(len(pairs))
    for low in range(0, len(pairs), _PAIRS):  # the pictures of all pairs may not fit into memory
        part = slice(low, low + _PAIRS)
        used, places = np.unique(
            np.concatenate([pairs.first[part], pairs.second[part]]), return_inverse=True
        )
        shown = thumbnails[used]
        if shown.dtype == np.uint8:
            shown = shown.astype(np.float32) / 255.0
        structure[part] = ssim_pairs(shown, *np.split(places, 2))
    order = np.lexsort((pairs.second, pairs.first, -structure))
    chosen = replace(pairs, structure=structure).select(order)
    return replace(chosen, total=pairs.total)


def families(pairs: Pairs, *, count: int) -> Int[np.ndarray, " n"]:
    """Return for each of ``count`` images which family of near-duplicates it belongs to.

    Two images are of one family if a chain of pairs leads from one to the other. Families are
    numbered from 0, the largest first; -1 for an image without a near-duplicate.

    Examples
    --------
    >>> import numpy as np
    >>> pairs = Pairs(np.array([3, 0, 0]), np.array([4, 1, 2]), np.ones(3), 3, 0.95)
    >>> families(pairs, count=6).tolist()
    [0, 0, 0, 1, 1, -1]
    """
    links = (np.ones(len(pairs), dtype=bool), (pairs.first, pairs.second))
    graph = sparse.coo_matrix(links, shape=(count, count))
    _, component = csgraph.connected_components(graph, directed=False)
    size = np.bincount(component)
    first = np.unique(component, return_index=True)[1]
    order = np.lexsort((first, -size))
    number = np.full(len(size), -1, dtype=np.int64)
    number[order] = np.arange(len(size))
    number[size == 1] = -1
    named: Int[np.ndarray, " n"] = number[component].astype(np.int64)
    return named


@dataclass(frozen=True)
class Leakage:
    """Pairs whose two images stand in different parts of a split.

    Attributes
    ----------
    pairs
        The most similar first.
    parts
        For each pair the part of its first and of its second image.
    same_patient
        Whether both are of one patient; None where patients are not known.
    """

    pairs: Pairs
    parts: tuple[tuple[str, str], ...]
    same_patient: Bool[np.ndarray, " p"] | None

    def counts(self) -> dict[tuple[str, str], int]:
        """Return how many pairs there are between two parts, whichever comes first."""
        counted: dict[tuple[str, str], int] = {}
        for one, other in self.parts:
            key = (min(one, other), max(one, other))
            counted[key] = counted.get(key, 0) + 1
        return dict(sorted(counted.items()))

    def images(self) -> dict[str, int]:
        """Return how many images of each part have a near-duplicate in another part."""
        found: dict[str, set[int]] = {}
        for i, j, (one, other) in zip(
            self.pairs.first.tolist(), self.pairs.second.tolist(), self.parts, strict=True
        ):
            found.setdefault(one, set()).add(i)
            found.setdefault(other, set()).add(j)
        return {part: len(found[part]) for part in sorted(found)}


def leakage(
    pairs: Pairs, split: Sequence[object], *, patients: Sequence[object] | None = None
) -> Leakage:
    """Find the pairs that stand on both sides of a split.

    Parameters
    ----------
    pairs
        Near-duplicates.
    split
        Part of each image, such as train, val, test; missing (None or NaN) is in no part.
    patients
        Who is shown on each image. Two images of unknown patients are not of the same one.
    """
    part = np.array([_text(value) for value in split], dtype=object)
    one, other = part[pairs.first], part[pairs.second]
    crosses = (one != "") & (other != "") & (one != other)
    chosen = pairs.select(crosses)
    same = None
    if patients is not None:
        name = np.array([_text(value) for value in patients], dtype=object)
        left, right = name[chosen.first], name[chosen.second]
        same = np.asarray((left != "") & (left == right), dtype=bool)
    return Leakage(chosen, tuple(zip(one[crosses], other[crosses], strict=True)), same)


@dataclass(frozen=True)
class LabelConflicts:
    """Near-duplicates with different labels: one of the two is probably wrong.

    Attributes
    ----------
    pairs
        The most similar first: the surest errors.
    labels
        For each pair the label of its first and of its second image.
    majority
        What most images in the neighbourhood of the pair are called; ``""`` where two names are
        equally frequent, as in a pair that has no further near-duplicates.
    votes
        How many images of the neighbourhood bear the majority's name, and how many there are.
    suspect
        Position of the image that the majority contradicts; -1 where there is none, or where it
        contradicts both.
    """

    pairs: Pairs
    labels: tuple[tuple[str, str], ...]
    majority: tuple[str, ...]
    votes: tuple[tuple[int, int], ...]
    suspect: Int[np.ndarray, " p"]


def label_conflicts(
    pairs: Pairs, labels: Sequence[object], *, min_similarity: float = SAME_PICTURE
) -> LabelConflicts:
    """Find near-duplicates that are labelled differently.

    The neighbourhood of a pair are its two images and all labelled images that are a near-duplicate
    of either of them.

    Parameters
    ----------
    pairs
        Near-duplicates.
    labels
        Name of each image's class, or several joined by ``;`` in any order; missing (None or NaN)
        is not labelled and contradicts nothing.
    min_similarity
        Only pairs from this cosine on; the neighbourhood uses all pairs.
    """
    name = np.array([_label(value) for value in labels], dtype=object)
    present = ~pd.isna(np.array(list(labels), dtype=object))
    one, other = name[pairs.first], name[pairs.second]
    differ = present[pairs.first] & present[pairs.second] & (one != other)
    differ &= pairs.similarity >= min_similarity
    chosen = pairs.select(np.flatnonzero(differ))
    near = _neighbours(pairs, set(chosen.first.tolist()) | set(chosen.second.tolist()))
    majority, votes, suspect = [], [], []
    for i, j in zip(chosen.first.tolist(), chosen.second.tolist(), strict=True):
        around = sorted(k for k in near[i] | near[j] | {i, j} if present[k])
        names, counts = np.unique(name[around].astype(str), return_counts=True)
        most = int(counts.max())
        decided = int((counts == most).sum()) == 1
        called = str(names[counts.argmax()]) if decided else ""
        majority.append(called)
        votes.append((most, len(around)))
        wrong = [k for k in (i, j) if decided and name[k] != called]
        suspect.append(wrong[0] if len(wrong) == 1 else -1)
    return LabelConflicts(
        chosen,
        tuple(zip(one[differ], other[differ], strict=True)),
        tuple(majority),
        tuple(votes),
        np.array(suspect, dtype=np.int64),
    )


def _neighbours(pairs: Pairs, wanted: set[int]) -> dict[int, set[int]]:
    near: dict[int, set[int]] = {position: set() for position in wanted}
    for i, j in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True):
        if i in near:
            near[i].add(j)
        if j in near:
            near[j].add(i)
    return near


def _text(value: object) -> str:
    return "" if value is None or value is pd.NA or value != value else str(value)


def _label(value: object) -> str:
    """Return a label's text, several names in one order."""
    return ";".join(sorted(part.strip() for part in _text(value).split(";")))
