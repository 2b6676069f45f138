"""What every measure asks of its input, said once."""

from __future__ import annotations

import numpy as np


def check_same_length(**arrays: np.ndarray) -> None:
    """Refuse arrays that do not describe the same images.

    Raises
    ------
    ValueError
        If the first axes differ in length.
    """
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ValueError(f"expected one entry per image everywhere, found: {told}.")


def check_finite(**arrays: np.ndarray) -> None:
    """Refuse scores that are NaN or infinite: an order over them would be an accident.

    Raises
    ------
    ValueError
        If any entry is not finite; says how many and where the first one is.
    """
    for name, array in arrays.items():
        bad = ~np.isfinite(array)
        if bad.any():
            first = tuple(int(position) for position in np.argwhere(bad)[0])
            raise ValueError(
                f"{name}: expected finite numbers, found {int(bad.sum())} of {array.size} that are "
                f"NaN or infinite, the first at {first}. Leave these images out and report them."
            )


def check_probabilities(**arrays: np.ndarray) -> None:
    """Refuse numbers outside [0, 1].

    Raises
    ------
    ValueError
        If any entry is not finite or lies outside [0, 1].
    """
    check_finite(**arrays)
    for name, array in arrays.items():
        if array.size and (array.min() < 0.0 or array.max() > 1.0):
            raise ValueError(
                f"{name}: expected probabilities in [0, 1], found {array.min():g} to "
                f"{array.max():g}. Turn raw scores into probabilities first."
            )


def check_classes(count: int, **targets: np.ndarray) -> None:
    """Refuse class indices outside 0..count-1.

    Raises
    ------
    ValueError
        If any index does not name a class.
    """
    for name, array in targets.items():
        if array.size and (array.min() < 0 or array.max() >= count):
            raise ValueError(
                f"{name}: expected class indices 0 to {count - 1}, found {array.min()} to "
                f"{array.max()}."
            )


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divide, giving NaN and no warning where the denominator is 0: undefined is not zero."""
    top = np.asarray(numerator, dtype=np.float64)
    bottom = np.asarray(denominator, dtype=np.float64)
    undefined = np.full(np.broadcast(top, bottom).shape, np.nan)
    quotient: np.ndarray = np.divide(top, bottom, out=undefined, where=bottom != 0)
    return quotient
