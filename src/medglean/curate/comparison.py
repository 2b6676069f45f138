"""What a selection covers and repeats, beside random ones and a fixed interval of the same size.

Similarities here are float32 products in blocks: right to about 1e-6, and nothing is decided by
them. Memory: a block of 1,024 images against the selection's blocks of 4,096. A comparison of many
images looks at random ones of them, the same for all that is compared, and says how many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int

from medglean.curate.methods.simple import interval_positions, random_positions
from medglean.curate.similarity import unit_rows
from medglean.errors import UsageError
from medglean.randomness import key_of, numpy_generator

ROWS, COLUMNS = 1024, 4096
LOOKED_AT, ASKED = 8192, 2048  # images whose coverage, selected ones whose nearest is computed
LOW_PERCENTILE = 5.0
REDUNDANT = 0.9


@dataclass(frozen=True)
class Summary:
    """What one selection is like.

    Attributes
    ----------
    coverage_mean, coverage_low, coverage_worst
        Of each image's largest cosine similarity to the selection (1 for those selected): mean,
        5th percentile, smallest. High is good.
    nearest_mean
        Mean similarity of each selected image to the nearest other one: low is varied. NaN with
        one image.
    redundant_share
        Share of selected images that have another one above 0.9; NaN with one image.
    groups, patients, strata
        How many of each have an image in the selection; NaN where they are not known.
    """

    coverage_mean: float
    coverage_low: float
    coverage_worst: float
    nearest_mean: float
    redundant_share: float
    groups: float
    patients: float
    strata: float


@dataclass(frozen=True)
class Comparison:
    """A selection beside what costs nothing to make.

    Attributes
    ----------
    selection, interval
        The selection, and every (n / budget)-th image of the manifest's order.
    random_mean, random_sd
        Mean and standard deviation over ``draws`` random selections; the SD is NaN for one draw.
    draws
        How many were drawn.
    looked_at
        Of how many random images coverage was computed; all images where they are no more.
    """

    selection: Summary
    random_mean: Summary
    random_sd: Summary
    interval: Summary
    draws: int
    looked_at: int


@dataclass(frozen=True)
class CoverageCurve:
    """How well the first images of an order cover all images.

    Attributes
    ----------
    budgets
        Numbers of images, rising.
    mean, low, worst
        Mean, 5th percentile and smallest of each image's largest similarity to the first ones.
    """

    budgets: Int[np.ndarray, " b"]
    mean: Float[np.ndarray, " b"]
    low: Float[np.ndarray, " b"]
    worst: Float[np.ndarray, " b"]


@dataclass(frozen=True)
class Membership:
    """Numbers of what each image belongs to, shape (n,) each; None where it is not known."""

    groups: Int[np.ndarray, " n"] | None = None
    patients: Int[np.ndarray, " n"] | None = None
    strata: Int[np.ndarray, " n"] | None = None


def compare(
    values: Float[np.ndarray, "n d"],
    chosen: Int[np.ndarray, " m"],
    *,
    taken: Sequence[int] | Int[np.ndarray, " t"] = (),
    membership: Membership | None = None,
    draws: int = 5,
    seed: int = 0,
) -> Comparison:
    """Compare a selection with random ones and with a fixed interval.

    Parameters
    ----------
    values
        Embedding of the images that could be chosen, without zero rows.
    chosen
        Positions of the selection.
    taken
        Positions of the images taken beforehand: they count as selected in all that is compared.
    membership
        What the images belong to.
    draws
        How many random selections.
    seed
        Of the draws.

    Raises
    ------
    UsageError
        If nothing is chosen or ``draws`` is below 1.
    """
    if len(chosen) == 0 or draws < 1:
        raise UsageError(
            f"a comparison needs at least 1 image and 1 draw, got {len(chosen)} and {draws}."
        )
    before = np.asarray(taken, dtype=np.int64)
    n, count = len(values), len(chosen)
    return compare_sets(
        values,
        chosen,
        random=random_draws(n, count=count, taken=before, draws=draws, seed=seed),
        interval=interval_positions(n, count=count, taken=before),
        look_at=looked_at(n, seed=seed),
        taken=before,
        membership=membership,
        seed=seed,
    )


def random_draws(
    n: int, *, count: int, taken: Int[np.ndarray, " t"], draws: int, seed: int
) -> list[Int[np.ndarray, " m"]]:
    """Return the positions of the random selections that a selection is compared with."""
    return [
        random_positions(n, count=count, seed=key_of(seed, "comparison", r), taken=taken)
        for r in range(draws)
    ]


def looked_at(n: int, *, seed: int) -> Int[np.ndarray, " m"]:
    """Return the images whose coverage is computed: all, or 8,192 random ones, ascending."""
    return np.sort(_some(np.arange(n), LOOKED_AT, seed))


def compare_sets(
    values: Float[np.ndarray, "n d"],
    chosen: Int[np.ndarray, " m"],
    *,
    random: Sequence[Int[np.ndarray, " m"]],
    interval: Int[np.ndarray, " m"],
    look_at: Int[np.ndarray, " l"],
    taken: Sequence[int] | Int[np.ndarray, " t"] = (),
    membership: Membership | None = None,
    seed: int = 0,
) -> Comparison:
    """Compare a selection with others that were drawn already.

    Parameters
    ----------
    values
        Embedding of all images that are named by the other arguments, without zero rows.
    chosen, random, interval
        Positions of the selection, and of each one to compare it with.
    look_at
        Positions of the images whose coverage is computed.
    taken, membership
        As for `compare`.
    seed
        Of the selected images whose nearest other one is looked for, where there are many.
    """
    unit = unit_rows(values).astype(np.float32, copy=False)
    before = np.asarray(taken, dtype=np.int64)

    def told(positions: np.ndarray) -> Summary:
        selected = np.concatenate([before, positions])
        ask = _some(selected, ASKED, seed)
        return _summary(unit, selected, membership or Membership(), look_at, ask)

    table = np.array([list(vars(told(drawn)).values()) for drawn in random])
    spread = table.std(axis=0, ddof=1) if len(random) > 1 else np.full(table.shape[1], np.nan)
    return Comparison(
        selection=told(chosen),
        random_mean=Summary(*table.mean(axis=0).tolist()),
        random_sd=Summary(*spread.tolist()),
        interval=told(interval),
        draws=len(random),
        looked_at=len(look_at),
    )


def summarise(
    values: Float[np.ndarray, "n d"],
    chosen: Int[np.ndarray, " m"],
    *,
    membership: Membership | None = None,
) -> Summary:
    """Return what one selection covers and repeats, looking at all images."""
    unit = unit_rows(values).astype(np.float32, copy=False)
    return _summary(unit, chosen, membership or Membership(), np.arange(len(unit)), chosen)


def coverage_curve(
    values: Float[np.ndarray, "n d"],
    order: Int[np.ndarray, " m"],
    budgets: Sequence[int] | Int[np.ndarray, " b"],
    *,
    taken: Sequence[int] | Int[np.ndarray, " t"] = (),
) -> CoverageCurve:
    """Return how coverage grows along an order; each selected image is looked at once.

    Parameters
    ----------
    values
        Embedding without zero rows.
    order
        Positions, the first to be labelled first.
    budgets
        Where to look; sorted, repeated ones and those beyond the order are left out.
    taken
        Positions of images taken beforehand, which cover from the beginning.

    Raises
    ------
    UsageError
        If a budget is below 1.
    """
    places = np.unique(np.asarray(budgets, dtype=np.int64))
    if len(places) and places[0] < 1:
        raise UsageError(f"budgets of a coverage curve must be at least 1, got {places[0]}.")
    places = places[places <= len(order)]
    unit = unit_rows(values).astype(np.float32, copy=False)
    nearest = np.full(len(unit), -1.0, dtype=np.float32)
    everything = np.arange(len(unit))
    _raise_to(unit, everything, np.asarray(taken, dtype=np.int64), nearest)
    rows, done = [], 0
    for place in places:
        _raise_to(unit, everything, np.asarray(order[done:place]), nearest)
        done = int(place)
        rows.append(_coverage(nearest))
    columns = np.array(rows, dtype=np.float64).reshape(-1, 3).T
    return CoverageCurve(places, *columns)


def _some(positions: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Return all positions, or so many random ones where there are more."""
    if len(positions) <= most:
        return positions
    return numpy_generator(seed, "curate", "looked at").choice(positions, most, replace=False)


def _summary(
    unit: Float32[np.ndarray, "n d"],
    chosen: np.ndarray,
    of: Membership,
    look_at: np.ndarray,
    ask: np.ndarray,
) -> Summary:
    """Return the summary of selected positions.

    Coverage is that of the images to look at; redundancy that of the selected ones to ask.
    """
    nearest = np.full(len(look_at), -np.inf, dtype=np.float32)
    _raise_to(unit, look_at, chosen, nearest)
    nearest[np.isin(look_at, chosen)] = 1.0
    others = np.full(len(ask), -np.inf, dtype=np.float32)
    _raise_to(unit, ask, chosen, others, skip_self=True)
    alone = len(chosen) < 2
    known = (of.groups, of.patients, of.strata)
    reached = [np.nan if codes is None else len(np.unique(codes[chosen])) for codes in known]
    return Summary(
        *_coverage(nearest),
        np.nan if alone else float(others.astype(np.float64).mean()),
        np.nan if alone else float((others > REDUNDANT).mean()),
        *map(float, reached),
    )


def _coverage(nearest: Float32[np.ndarray, " n"]) -> tuple[float, float, float]:
    """Return mean, 5th percentile and smallest."""
    exact = np.clip(nearest, -1.0, 1.0).astype(np.float64)
    return float(exact.mean()), float(np.percentile(exact, LOW_PERCENTILE)), float(exact.min())


def _raise_to(
    unit: Float32[np.ndarray, "n d"],
    rows: np.ndarray,
    chosen: np.ndarray,
    nearest: np.ndarray,
    *,
    skip_self: bool = False,
) -> None:
    """Raise the largest similarity of each of ``rows`` to what it is to ``chosen``, in place."""
    place = np.full(len(unit), -1)
    for left in range(0, len(chosen), COLUMNS):
        part = chosen[left : left + COLUMNS]
        columns = unit[part].T
        place[:] = -1
        place[part] = np.arange(len(part))
        for low in range(0, len(rows), ROWS):
            block = rows[low : low + ROWS]
            product = unit[block] @ columns
            if skip_self:
                itself = np.flatnonzero(place[block] >= 0)
                product[itself, place[block[itself]]] = -np.inf
            best = product.max(axis=1)
            np.maximum(nearest[low : low + ROWS], best, out=nearest[low : low + ROWS])
