"""Choosing images: the one call behind the command line, the API and `Curator`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Num

from medglean.curate import inputs
from medglean.curate.budget import Amount, check_start, count_of, default_start
from medglean.curate.comparison import Comparison, Membership, compare
from medglean.curate.methods.table import BEGIN_AT_RANDOM, DEFAULT, Wish, method_named
from medglean.curate.order import Limits, Ranking
from medglean.curate.outliers import OutlierGate, Outliers, find_outliers
from medglean.curate.quotas import resolve_quotas
from medglean.curate.ranking import uniform_start
from medglean.errors import Problem, UsageError

PLACE = "the selection"
TOO_MANY = 0.05  # of the images on the junk list, above which the gate is told to be too narrow


@dataclass(frozen=True)
class Selection:
    """What was chosen, in what order, and what was not looked at.

    All positions are rows of the embedding that was given.

    Attributes
    ----------
    method
        Name of the method.
    budget
        How many images to label, those taken beforehand not counted.
    start
        How many of them were drawn at random to begin with.
    ranking
        One nested order; its first ``budget`` are the selection.
    taken
        Positions of the images taken beforehand.
    eligible
        Positions of the images that were looked at, those taken beforehand among them.
    set_aside
        Positions of the images whose embedding is zero: nothing is similar to them.
    outliers
        The junk list of the gate; None where the gate was off.
    warnings
        What was found that does not stop the work.
    comparison
        The selection beside random ones and a fixed interval; None where it was not asked for.
    """

    method: str
    budget: int
    start: int
    ranking: Ranking
    taken: Int[np.ndarray, " t"]
    eligible: Int[np.ndarray, " e"]
    set_aside: Int[np.ndarray, " z"]
    outliers: Outliers | None
    warnings: tuple[Problem, ...]
    comparison: Comparison | None

    @property
    def chosen(self) -> Int[np.ndarray, " m"]:
        """Positions of the images to label, the first to be labelled first."""
        return self.ranking.order[: self.budget]


def select(
    values: Float[np.ndarray, "n d"],
    *,
    budget: int,
    method: str = DEFAULT,
    groups: Sequence[object] | np.ndarray | None = None,
    patients: Sequence[object] | np.ndarray | None = None,
    strata: Sequence[object] | np.ndarray | None = None,
    quotas: Mapping[str, Amount] | None = None,
    max_per_group: int | None = None,
    preselected: Sequence[int | str] | np.ndarray = (),
    start: Amount | None = None,
    stop_similarity: float | None = None,
    outlier_gate: OutlierGate | None = None,
    thumbnails: Num[np.ndarray, "n h w"] | None = None,
    centre: bool = False,
    neighbours: int | None = None,
    order_length: int | None = None,
    draws: int = 5,
    seed: int = 0,
    ids: Sequence[str] | None = None,
) -> Selection:
    """Choose which images to label.

    Parameters
    ----------
    values
        Embedding, a row per image in the manifest's order. Zero rows are set aside and told.
    budget
        How many images to choose, beside those in ``preselected``; `budget.count_of` reads shares.
    method
        A name of `methods.METHODS`.
    groups, patients, strata
        What each image belongs to, as names or numbers: its clip or volume, its patient, its site
        (or view, or manufacturer).
    quotas
        Per stratum, how many images of the budget: ``{"site A": "50%", "site B": 20}``. The rest
        is shared in proportion. The order then ends at the budget, for which quotas are made.
    max_per_group
        How many images of one group at most, those in ``preselected`` among them.
    preselected
        Images taken beforehand: positions, or ids if ``ids`` is given. They are not in the order.
    start
        ENRICH: how many images to draw at random to begin with, as a number or as a share of the
        images; None: `budget.default_start`, and none where some are preselected.
    stop_similarity
        ENRICH: stop where all that is left resembles something taken more than this.
    outlier_gate
        Settings of the gate; None: off. What is preselected is never gated.
    thumbnails
        Small grey images for the gate, in [0, 1] or of 8 bits.
    centre
        Whether to subtract the mean of all images first.
    neighbours
        Coverage methods: neighbours per image in their graph; None: their default.
    order_length
        How long the order is to be, at least the budget; None: all images.
    draws
        Random selections to compare with; 0: no comparison.
    seed
        Of everything that is drawn.
    ids
        Name of each image for messages and ``preselected``.

    Returns
    -------
    Selection
        With a warning for everything that could not be met.

    Raises
    ------
    EmbeddingError
        If the embedding holds NaN or infinity, or does not have a row per image.
    UsageError
        If an argument is wrong, or the budget is below the start or above the images not taken.

    Examples
    --------
    >>> values = np.array([[1.0, 0.0], [0.9, 0.2], [0.8, 0.4], [0.0, 1.0]])
    >>> sorted(select(values, budget=2, method="coverage", draws=0).chosen.tolist())
    [2, 3]
    """
    rank = method_named(method)
    checked = inputs.checked_rows(values, centre=centre, ids=ids)
    n = len(checked.values)
    taken = inputs.positions_of(preselected, n=n, ids=ids)
    inputs.refuse_unusable(taken, checked.usable, ids=ids)
    codes = {
        name: inputs.codes_of(labels, n=n, name=name)
        for name, labels in (("groups", groups), ("patients", patients), ("strata", strata))
    }
    warnings = inputs.warnings_about(checked.values, checked.usable, ids=ids, seed=seed)

    outliers, eligible = _gated(
        checked.values, checked.usable, taken, outlier_gate, thumbnails, warnings
    )
    choosable = len(eligible) - len(taken)
    _check_budget(budget, choosable, n - len(taken), order_length)
    reachable = min(budget, choosable)
    rows = checked.values[eligible]
    within = {name: None if one is None else one.of(eligible) for name, one in codes.items()}
    before = np.searchsorted(eligible, taken)

    limits = Limits()
    allowed = None
    if quotas:
        allowed = _allowed(quotas, codes["strata"], within, before, budget, max_per_group, warnings)
    if quotas or max_per_group is not None:
        limits = Limits(
            within["groups"],
            max_per_group,
            within["strata"] if quotas else None,
            allowed,
        )
    first = _start_positions(
        method, start, reachable, len(eligible), before, limits=limits, seed=seed,
        stop_similarity=stop_similarity,
    )  # fmt: skip
    length = choosable if order_length is None else min(order_length, choosable)
    wish = Wish(
        count=reachable,
        length=reachable if quotas else length,
        seed=seed,
        limits=limits,
        taken=before,
        groups=within["groups"],
        patients=within["patients"],
        start=first,
        stop_similarity=stop_similarity,
        neighbours=neighbours,
        thumbnails=None if thumbnails is None else _rows_of(thumbnails, eligible),
    )
    ranking = rank(rows, wish)
    if len(ranking) < budget:
        warnings.append(_short(ranking, budget, choosable))
    comparison = None
    if draws:
        comparison = compare(
            rows,
            ranking.order[:budget],
            taken=before,
            membership=Membership(within["groups"], within["patients"], within["strata"]),
            draws=draws,
            seed=seed,
        )
    return Selection(
        method=method,
        budget=budget,
        start=len(first),
        ranking=_moved(ranking, eligible),
        taken=taken,
        eligible=eligible,
        set_aside=np.flatnonzero(~checked.usable),
        outliers=outliers,
        warnings=tuple(warnings),
        comparison=comparison,
    )


def _gated(
    values: np.ndarray,
    usable: np.ndarray,
    taken: np.ndarray,
    gate: OutlierGate | None,
    thumbnails: np.ndarray | None,
    warnings: list[Problem],
) -> tuple[Outliers | None, np.ndarray]:
    """Return the junk list, by positions in the whole, and the positions that may be looked at."""
    rows = np.flatnonzero(usable)
    if gate is None:
        return None, rows
    found = find_outliers(
        values[rows],
        gate=gate,
        thumbnails=None if thumbnails is None else _rows_of(thumbnails, rows),
    )
    keep = ~np.isin(rows[found.position], taken)
    nearest = found.nearest[keep]
    listed = Outliers(
        rows[found.position[keep]],
        found.score[keep],
        np.where(nearest < 0, -1, rows[nearest]),
        tuple(np.array(found.reason, dtype=object)[keep].tolist()),
        found.threshold,
        found.neighbour,
        found.alone,
    )
    if len(listed):
        told = (
            f"the outlier gate leaves out {len(listed):,} of {len(rows):,} images "
            f"({len(listed) / len(rows):.1%})."
        )
        remedy = "Look at the list of outliers; those that belong to the task can be preselected."
        if len(listed) > TOO_MANY * len(rows):
            remedy += " So many are hardly outliers: raise deviations, or lower most_share."
        warnings.append(Problem(PLACE, told, remedy, kind="outliers", fatal=False))
    return listed, np.setdiff1d(rows, listed.position, assume_unique=True)


def _rows_of(thumbnails: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return some thumbnails; all of them without a copy."""
    chosen: np.ndarray = thumbnails if len(rows) == len(thumbnails) else thumbnails[rows]
    return chosen


def _check_budget(budget: int, choosable: int, most: int, order_length: int | None) -> None:
    """Refuse a budget that is not between 1 and the images not taken, or nothing to choose."""
    if budget < 1:
        raise UsageError(f"budget must be at least 1, got {budget}.")
    if budget > most:
        raise UsageError(
            f"the budget is {budget:,}, and there are {most:,} images beside those preselected. "
            "Lower the budget."
        )
    if choosable < 1:
        raise UsageError(
            f"none of {most:,} images can be chosen: all are set aside or outliers. Raise the "
            "gate's deviations, or switch it off."
        )
    if order_length is not None and order_length < budget:
        raise UsageError(
            f"order_length must be at least the budget of {budget:,}, got {order_length:,}."
        )


def _allowed(
    quotas: Mapping[str, Amount],
    strata: inputs.Codes | None,
    within: Mapping[str, np.ndarray | None],
    taken: np.ndarray,
    budget: int,
    max_per_group: int | None,
    warnings: list[Problem],
) -> np.ndarray:
    """Return how many of each stratum may be taken, those taken beforehand among them."""
    codes, groups = within["strata"], within["groups"]
    if strata is None or codes is None:
        raise UsageError("quotas need to know the strata of the images. Name their column.")
    before = np.bincount(codes[taken], minlength=len(strata.names))
    available = np.bincount(codes, minlength=len(strata.names)) - before
    if max_per_group is not None and groups is not None:
        available = _within_groups(codes, groups, taken, max_per_group, len(strata.names))
    allowed, told = resolve_quotas(quotas, names=strata.names, available=available, budget=budget)
    warnings.extend(told)
    return allowed + before


def _within_groups(
    strata: np.ndarray, groups: np.ndarray, taken: np.ndarray, most: int, count: int
) -> np.ndarray:
    """Return how many images each stratum can give if no group gives more than ``most``.

    Exact where a group lies in one stratum, as the clips of a site do; otherwise an upper limit.
    """
    shape = (count, int(groups.max()) + 1)
    sizes, used = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    np.add.at(sizes, (strata, groups), 1)
    np.add.at(used, (strata[taken], groups[taken]), 1)
    room = np.maximum(most - used.sum(axis=0), 0)
    available: np.ndarray = np.minimum(sizes - used, room).sum(axis=1)
    return available


def _start_positions(
    method: str,
    start: Amount | None,
    budget: int,
    n: int,
    taken: np.ndarray,
    *,
    limits: Limits,
    seed: int,
    stop_similarity: float | None,
) -> np.ndarray:
    """Return the images that ENRICH begins with."""
    if stop_similarity is not None and method != "enrich":
        raise UsageError(
            f"stop_similarity concerns the method enrich alone, and the method is {method}. Leave "
            "stop_similarity out."
        )
    if method not in BEGIN_AT_RANDOM:
        if start is not None:
            raise UsageError(
                f"start concerns the method enrich alone, and the method is {method}. Leave start "
                "out."
            )
        return np.empty(0, dtype=np.int64)
    if start is None:
        count = 0 if len(taken) else default_start(budget)
    else:
        count = 0 if start in (0, "0") else count_of(start, n, name="start")
    if count == 0 and len(taken) == 0:
        raise UsageError(f"{method} needs a start of at least 1 image, or preselected images.")
    check_start(budget, count)
    return uniform_start(n, count=count, seed=seed, limits=limits, taken=taken)


def _short(ranking: Ranking, budget: int, choosable: int) -> Problem:
    """Return the warning that fewer images were chosen than asked for."""
    why = ranking.stopped or "the limits leave no more"
    if len(ranking) == choosable:
        why = "the others were set aside or are outliers"
    return Problem(
        PLACE,
        f"{len(ranking):,} images were chosen for a budget of {budget:,}: {why.rstrip('.')}.",
        "Lower the budget, or loosen max_per_group, the quotas or the stop similarity.",
        kind="short",
        fatal=False,
    )


def _moved(ranking: Ranking, eligible: np.ndarray) -> Ranking:
    """Return a ranking of eligible images with their positions among all images."""
    return Ranking(
        eligible[ranking.order],
        ranking.similarity,
        np.where(ranking.nearest < 0, -1, eligible[ranking.nearest]),
        ranking.reason,
        ranking.stopped,
    )
