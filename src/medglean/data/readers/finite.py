"""Counting values that are no finite numbers, so that a picture can tell of them."""

from __future__ import annotations

import numpy as np


def non_finite(values: np.ndarray, noun: str = "value") -> tuple[str, ...]:
    """Return a sentence that counts NaN and infinite values, if there are any."""
    if values.dtype.kind != "f":
        return ()
    count = int(values.size - np.isfinite(values).sum())
    return (f"{count:,} {noun}(s) are NaN or infinite and were left as they are.",) if count else ()
