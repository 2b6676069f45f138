"""What an operating point may promise, given the patients that it was chosen on.

References
----------
.. [1] Wilks. Determination of sample sizes for setting tolerance limits. Annals of Mathematical
   Statistics 12, 1941.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

CERTAIN = 0.95
"""How sure a promise such as "sensitivity >= 0.95" should be."""


def patients_needed(least: float, *, certain: float = CERTAIN) -> float:
    """Return how many patients must lie beyond a threshold before it can promise a rate.

    With all of them called right, the true rate is at least ``least`` with probability
    1 - least ** patients [1]_.

    Parameters
    ----------
    least
        Rate to promise, in (0, 1].
    certain
        How sure, in (0, 1).

    Returns
    -------
    float
        A whole number; infinite for a rate of 1, which nothing can promise.

    Examples
    --------
    >>> patients_needed(0.95)
    59.0
    """
    return math.inf if least >= 1.0 else float(math.ceil(math.log1p(-certain) / math.log(least)))


def promised(rule: str) -> tuple[str, float] | None:
    """Return the rate that an operating rule promises and its least value; None for Youden's.

    Examples
    --------
    >>> promised("sensitivity=0.95"), promised("specificity >= 0.9"), promised("Youden")
    (('sensitivity', 0.95), ('specificity', 0.9), None)
    """
    name, _, least = rule.replace(">=", "=").partition("=")
    return (name.strip(), float(least)) if least else None


def patients_of_each_kind(truth: np.ndarray, patients: np.ndarray) -> tuple[int, int]:
    """Return patients with a positive image, and with a negative one."""
    names = patients.astype(str)
    return len(np.unique(names[truth])), len(np.unique(names[~truth]))


def too_few(rule: str, kinds: Mapping[str, tuple[int, int]]) -> str:
    """Say for which classes a promise rests on too few validation patients.

    Parameters
    ----------
    rule
        As for `promised`.
    kinds
        For each class what `patients_of_each_kind` gives.

    Returns
    -------
    str
        A sentence; empty where nothing is promised, or there are enough.
    """
    asked = promised(rule)
    if asked is None:
        return ""
    name, least = asked
    needed = patients_needed(least)
    counts = {key: pair[0 if name == "sensitivity" else 1] for key, pair in kinds.items()}
    short = [f"{key} ({count})" for key, count in counts.items() if count < needed]
    if not short:
        return ""
    which = "with" if name == "sensitivity" else "without"
    told = (
        f"no number of patients {which} the finding can promise that"
        if math.isinf(needed)
        else f"to be {100 * CERTAIN:g} % sure of it takes {needed:.0f} validation patients {which} "
        f"the finding, and there are fewer for {listed(short)}"
    )
    return f"A {name} of {least:g} is aimed at, not promised: {told}."


def listed(names: Iterable[str], *, most: int = 6) -> str:
    """Join names, the later ones as a number.

    Examples
    --------
    >>> listed("abcd", most=2)
    'a, b and 2 more'
    """
    shown = list(names)
    further = len(shown) - most
    return ", ".join(shown[:most]) + (f" and {further} more" if further > 0 else "")
