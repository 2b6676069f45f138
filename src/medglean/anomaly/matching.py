"""Draw images so that both classes are alike in a number, such as the slice's position.

Where tumours lie low in the brain, "low" alone tells a diseased slice from a healthy one, and a
network that is asked what makes a slice diseased will answer with the position.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from medglean.randomness import numpy_generator

BINS = 10
"""Into how many bins of equal size the number is divided at most."""
PER_BIN = 5
"""How many images of the rarer class a bin has on average at least."""
MOST_REPEATS = 8
"""A list of images to draw from is at most so many times as long as there are images."""


def match_weights(
    values: Float[np.ndarray, " n"], targets: Int[np.ndarray, " n"], *, bins: int | None = None
) -> Float[np.ndarray, " n"]:
    """Return weights under which both classes have the same distribution of a number.

    These are overlap weights [1]_: in a bin with a images of one class and b of the other, an
    image of the first weighs b / (a + b). So both classes get a b / (a + b) in every bin: the same
    distribution, the same total, and no weight above 1. Images in a bin without the other class
    weigh 0.

    Parameters
    ----------
    values
        The number for each image; finite. Bins are cut at the quantiles of all of them.
    targets
        Two classes, any two whole numbers.
    bins
        At most: ties make fewer. By default 10, or as many as leave 5 images of the rarer class to
        each.

    Returns
    -------
    ndarray
        Shape (n,), in [0, 1).

    References
    ----------
    .. [1] Li, Morgan, Zaslavsky. Balancing Covariates via Propensity Score Weighting. JASA 2018.

    Examples
    --------
    >>> match_weights(np.array([1.0, 1.0, 1.0, 9.0]), np.array([0, 0, 1, 0]), bins=3).round(
    ...     2
    ... ).tolist()
    [0.33, 0.33, 0.67, 0.0]
    """
    first = targets == targets.min()
    if bins is None:
        rarer = min(int(first.sum()), int((~first).sum()))
        bins = max(1, min(BINS, rarer // PER_BIN))
    inner = np.quantile(values, np.arange(1, bins) / bins)
    place = np.searchsorted(np.unique(inner), values, side="left")
    ours = np.bincount(place[first], minlength=bins)[place]
    theirs = np.bincount(place[~first], minlength=bins)[place]
    weights: np.ndarray = np.where(first, theirs, ours) / (ours + theirs)
    return weights


def drawn(
    rows: Int[np.ndarray, " n"], weights: Float[np.ndarray, " n"], *, seed: int
) -> Int[np.ndarray, " m"]:
    """Return a list in which each row stands about as often as its weight says.

    The list takes the place of the rows in a loader, which visits each of its entries once an
    epoch: how often an image is drawn is settled before training, and a resumed training draws
    the same. It is as long as it must be for the rarest row to stand in it once, between n and
    ``MOST_REPEATS`` n; each row stands in it its expected number of times, rounded up or down by
    systematic sampling.

    Parameters
    ----------
    rows
        Positions in a manifest.
    weights
        0 or more, at least one above 0.
    seed
        Decides what is rounded up.
    """
    share = weights / weights.sum()
    count = int(np.clip(np.ceil(1.0 / share[share > 0].min()), len(rows), MOST_REPEATS * len(rows)))
    start = numpy_generator(seed, "match").uniform()
    ends = np.minimum(np.floor(np.cumsum(share) * count + start).astype(np.int64), count)
    ends[-1] = count  # the shares sum to 1 but for rounding
    return np.repeat(rows, np.diff(ends, prepend=0))
