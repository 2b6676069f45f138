"""How many images to label, as people write it: ``200``, ``"44%"``, ``0.44``."""

from __future__ import annotations

import math
import numbers
import re

from medglean.errors import UsageError

_NUMBER = re.compile(r"[+-]?\d[\d_]*(\.\d+)?|[+-]?\.\d+")
Amount = str | int | float
"""A number of images, or a share of them, as `count_of` reads it."""

FORMS = "Write a number of images such as 200, or a share such as 44% or 0.44"


def count_of(text: Amount, n: int, *, name: str = "budget", whole: str = "images") -> int:
    """Return how many of ``n`` images a number or a share means.

    A whole number counts images: ``200``, ``"200"``. A share is a number with a per cent sign,
    ``"44%"``, or one below 1 with a decimal point, ``0.44`` or ``"0.44"``; it is rounded to the
    nearest whole number, halves up, and to at least one image. ``"1"`` is one image, and all
    images are ``"100%"``; ``1.0`` could mean either and is refused.

    Parameters
    ----------
    text
        What the user wrote.
    n
        Number of images there are.
    name
        What the number is, for messages.
    whole
        What there are ``n`` of, for messages.

    Raises
    ------
    UsageError
        If it is not a number, not above 0, above ``n`` or 100 %, or between two whole numbers.

    Examples
    --------
    >>> count_of("44%", 45_460), count_of(0.1, 25), count_of("200", 1_248)
    (20002, 3, 200)
    """
    number, is_share = _parsed(text, name)
    if number <= 0:
        raise UsageError(f"{name} must be above 0, got {text}. {FORMS}.")
    if is_share:
        if number > 1:
            raise UsageError(f"{name} must be at most 100 %, got {text}. {FORMS}.")
        return min(n, max(1, math.floor(number * n + 0.5)))
    if number > n:
        raise UsageError(
            f"{name} is {int(number):,}, and there are {n:,} {whole}. Ask for at most {n:,}, or "
            "for a share such as 44%."
        )
    return int(number)


def _parsed(text: Amount, name: str) -> tuple[float, bool]:
    """Return the number and whether it is a share of the whole."""
    wrong = UsageError(f"{name} must be a number, got {text!r}. {FORMS}.")
    if isinstance(text, str):
        digits = text.strip().removesuffix("%").rstrip()
        if not _NUMBER.fullmatch(digits):
            raise wrong
        number, is_whole = float(digits.replace("_", "")), "." not in digits
        if text.strip().endswith("%"):
            return number / 100, True
    else:
        if isinstance(text, bool) or not math.isfinite(text):
            raise wrong
        number, is_whole = float(text), isinstance(text, numbers.Integral)
    if not is_whole and number >= 1:
        raise UsageError(
            f"{name} is {text}: neither a whole number of images nor a share below 1. {FORMS}."
        )
    return number, not is_whole


def check_start(budget: int, start: int) -> None:
    """Refuse a budget that the random start alone uses up.

    Raises
    ------
    UsageError
        If the budget is smaller than the start.
    """
    if budget < start:
        raise UsageError(
            f"the budget is {budget:,} images, and {start:,} are drawn at random to start with. "
            f"Raise the budget above {start:,}, or lower the start below {budget:,} (such as "
            f"{default_start(budget):,}, what is taken when no start is given)."
        )


def default_start(budget: int) -> int:
    """Return how many images are drawn at random where nothing is said: a tenth of the budget.

    At least 1 and at most 1,000. The paper draws 1,000 of 45,460 images for subsets of about
    20,000, which this gives, and 200 of 1,248, which has to be asked for. A start that is a share
    of all images would use up a low budget: 2.2 % of 1,820 images is 40.

    Examples
    --------
    >>> default_start(45), default_start(20_000)
    (4, 1000)
    """
    return min(1000, max(1, budget // 10))
