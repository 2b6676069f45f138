"""How many images each stratum (site, view, manufacturer) gives, from shares and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import numpy as np
from jaxtyping import Int

from medglean.curate.budget import Amount, count_of
from medglean.errors import Problem, UsageError

PLACE = "the quotas"


def resolve_quotas(
    quotas: Mapping[str, Amount],
    *,
    names: list[str],
    available: Int[np.ndarray, " s"],
    budget: int,
) -> tuple[Int[np.ndarray, " s"], list[Problem]]:
    """Return how many images of each stratum make up the budget.

    A quota is a number of images or a share of the budget. Strata without one share what is left
    in proportion to how many images they have (largest remainders, ties to the first name). A
    stratum that has fewer images than it is asked for gives all it has, the strata without a quota
    take over as far as they can, and both are told; a quota itself is never exceeded.

    Parameters
    ----------
    quotas
        Per name of a stratum: ``20``, ``"50%"``, ``0.5``.
    names
        Names of the strata, in the order of their numbers.
    available
        How many images of each may be chosen.
    budget
        How many images are to be chosen.

    Returns
    -------
    allowed : numpy.ndarray
        Per stratum; adds up to the budget, or to less with a warning.
    warnings : list of Problem
        What could not be met.

    Raises
    ------
    UsageError
        If a quota names a stratum that is not there, is not a number or share, or if quotas add
        up to more than the budget, or to less with no stratum left for the rest.
    """
    unknown = [name for name in quotas if name not in names]
    if unknown:
        raise UsageError(
            f"there are {len(quotas)} quotas and {len(names)} strata; no image is of "
            f"{', '.join(map(repr, unknown))}. The strata are {', '.join(map(repr, names))}."
        )
    asked = {
        name: count_of(quota, budget, name=f"the quota of {name!r}", whole="images in the budget")
        for name, quota in quotas.items()
    }
    rest = budget - sum(asked.values())
    free = np.array([name not in asked for name in names])
    if rest < 0 or (rest > 0 and not free.any()):
        raise UsageError(
            f"the quotas add up to {sum(asked.values()):,} images, the budget is {budget:,}"
            + (". Lower them." if rest < 0 else ", and no stratum is without a quota. Raise them.")
        )
    allowed = np.array([asked.get(name, 0) for name in names], dtype=np.int64)
    warnings = []
    for place in np.flatnonzero(allowed > available):
        found = (
            f"stratum {names[place]!r} has {available[place]:,} images of the "
            f"{allowed[place]:,} its quota asks for."
        )
        warnings.append(_warning(found, "Other strata take over where they have no quota."))
    allowed = np.minimum(allowed, available)
    allowed[free] = shared_out(budget - int(allowed.sum()), available[free])
    short = budget - int(allowed.sum())
    if short:
        found = f"they leave {budget - short:,} images for a budget of {budget:,}."
        warnings.append(_warning(found, "Lower the budget, or raise a quota that can be met."))
    return allowed, warnings


def shared_out(total: int, available: Int[np.ndarray, " s"]) -> Int[np.ndarray, " s"]:
    """Share a number out in proportion to what there is: largest remainders, ties to the first.

    Examples
    --------
    >>> shared_out(5, np.array([10, 10, 1])).tolist()
    [3, 2, 0]
    """
    whole = int(available.sum())
    total = min(total, whole)
    if total <= 0:
        return np.zeros(len(available), dtype=np.int64)
    exact = [Fraction(total * int(one), whole) for one in available]
    shares = [int(one) for one in exact]
    order = sorted(range(len(exact)), key=lambda place: (shares[place] - exact[place], place))
    for place in order[: total - sum(shares)]:
        shares[place] += 1
    return np.array(shares, dtype=np.int64)


def _warning(found: str, remedy: str) -> Problem:
    return Problem(PLACE, found, remedy, kind="quota", fatal=False)
