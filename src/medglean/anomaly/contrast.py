r"""What a network expects of a diseased image and not of a healthy one, at some noise levels.

A class-conditional diffusion network predicts the clean image of x_t in two ways, told *diseased*
and told *healthy*. Their difference is large where the classes differ and what is left of the
image in x_t does not say which it is. Unlike translation nothing is decoded step by step: each
level is asked once, twice the network, so that a few low levels make a map. Levels are averaged
with weights; noise is drawn, or the image is encoded without drawing any.

In a mixture of classes the sum over pixels of `likelihood_ratio` is, up to a factor, the evidence
that a level's noise gives for *diseased* (the classifier of [1]_), here not summed.

References
----------
.. [1] Li, Prabhudesai, Duggal, Brown, Pathak. Your Diffusion Model is Secretly a Zero-Shot
   Classifier. ICCV 2023.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from medglean.anomaly.ddpm import standard_normal
from medglean.anomaly.schedule import Schedule, check_levels
from medglean.anomaly.translate import Eps, encode
from medglean.errors import UsageError

Measure = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From clean images, and what is expected of diseased and of healthy ones, to a map."""


class Contrasts(NamedTuple):
    """Both measures of the contrast, at each level.

    Attributes
    ----------
    difference, likelihood_ratio
        Shape (levels, b, c, h, w).
    """

    difference: Tensor
    likelihood_ratio: Tensor


def difference(x: Tensor, diseased: Tensor, healthy: Tensor) -> Tensor:
    """Return what is expected brighter of a diseased image than of a healthy one.

    ``x`` is not looked at.
    """
    return diseased - healthy


def likelihood_ratio(x: Tensor, diseased: Tensor, healthy: Tensor) -> Tensor:
    """Return how much closer an image is to what is expected of diseased than of healthy ones."""
    return (x - healthy).square() - (x - diseased).square()


def expected_images(
    x_t: Float[Tensor, "b c h w"], eps: Eps, schedule: Schedule, level: int
) -> Float[Tensor, "b c h w"]:
    """Return the clean images that a network expects behind images at a level, 1..T.

    Examples
    --------
    >>> x_t = torch.full((1, 1, 1, 1), 0.3)
    >>> expected_images(x_t, lambda x, level: 0 * x, Schedule.linear(), 1).item()
    0.30001500248908997
    """
    abar = float(schedule.abar[level])
    return math.sqrt(1 / abar) * x_t - math.sqrt(1 / abar - 1) * eps(x_t, level)


def noised_contrast(
    x: Float[Tensor, "b c h w"],
    diseased: Eps,
    healthy: Eps,
    schedule: Schedule,
    *,
    levels: Sequence[int],
    generator: torch.Generator | Sequence[torch.Generator],
    draws: int = 1,
    weights: Sequence[float] | None = None,
    measure: Measure = difference,
) -> Float[Tensor, "b c h w"]:
    r"""Average the contrast of the classes over levels and draws of noise.

    :math:`\sum_t w_t\, m(x, \hat{x}_0(x_t, d), \hat{x}_0(x_t, h)) / \sum_t w_t`: both classes are
    asked about the same x_t.

    Parameters
    ----------
    x
        Clean images.
    diseased, healthy
        Noise predicted when told the class.
    schedule
        The noising process.
    levels
        Noise levels, increasing, each in 1..T.
    generator
        One for the batch, or one per image; see `medglean.anomaly.ddpm.standard_normal`.
    draws
        Draws of noise at each level.
    weights
        Of each level, 0 or more; by default equal.
    measure
        `difference` or `likelihood_ratio`.

    Notes
    -----
    Calls ``diseased`` and ``healthy`` once for each level and draw.

    Raises
    ------
    UsageError
        If levels or weights are not as said, or there is no draw.
    """
    shares = dict(zip(levels, _shares(levels, weights, schedule), strict=True))
    total = torch.zeros_like(x)
    for level, *expected in _expectations(
        x, diseased, healthy, schedule, levels, generator=generator, draws=draws
    ):
        total += shares[level] / draws * measure(x, *expected)
    return total


def noised_contrasts(
    x: Float[Tensor, "b c h w"],
    diseased: Eps,
    healthy: Eps,
    schedule: Schedule,
    *,
    levels: Sequence[int],
    generator: torch.Generator | Sequence[torch.Generator],
    draws: int = 1,
) -> Contrasts:
    """Return both contrasts at every level from one set of evaluations.

    They differ in size from level to level and from one another: divide each by a scale measured
    on validation images, such as its standard deviation inside the foreground, before adding.

    Parameters
    ----------
    x, diseased, healthy, schedule, levels, generator, draws
        As for `noised_contrast`, with the same noise from the same generator.
    """
    _shares(levels, None, schedule)
    shape = (len(levels), *x.shape)
    found = Contrasts(x.new_zeros(shape), x.new_zeros(shape))
    for level, *expected in _expectations(
        x, diseased, healthy, schedule, levels, generator=generator, draws=draws
    ):
        row = levels.index(level)
        found.difference[row] += difference(x, *expected) / draws
        found.likelihood_ratio[row] += likelihood_ratio(x, *expected) / draws
    return found


def encoded_contrast(
    x: Float[Tensor, "b c h w"],
    diseased: Eps,
    healthy: Eps,
    schedule: Schedule,
    *,
    levels: Sequence[int],
    encoder: Eps,
    iterations: int = 1,
    weights: Sequence[float] | None = None,
    measure: Measure = difference,
) -> Float[Tensor, "b c h w"]:
    """Average the contrast of the classes over levels of the encoded image; nothing is drawn.

    Parameters
    ----------
    x, diseased, healthy, schedule, levels, weights, measure
        As for `noised_contrast`.
    encoder
        Noise that leads the image from level to level; see `medglean.anomaly.translate.encode`.
    iterations
        Fixed-point iterations of each step of the encoding.

    Notes
    -----
    Calls ``diseased`` and ``healthy`` once, and ``encoder`` 1 + ``iterations`` times, per level.
    """
    shares = _shares(levels, weights, schedule)
    total, x_t = torch.zeros_like(x), x
    for (before, level), share in zip(itertools.pairwise((0, *levels)), shares, strict=True):
        x_t = encode(x_t, encoder, schedule, (before, level), iterations=iterations)
        expected = [expected_images(x_t, eps, schedule, level) for eps in (diseased, healthy)]
        total += share * measure(x, *expected)
    return total


def _expectations(
    x: Tensor,
    diseased: Eps,
    healthy: Eps,
    schedule: Schedule,
    levels: Sequence[int],
    *,
    generator: torch.Generator | Sequence[torch.Generator],
    draws: int,
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield the level and what is expected of both classes, for each level and draw of noise."""
    if draws < 1:
        raise UsageError(f"a contrast map needs at least 1 draw of noise, got {draws}.")
    for level in levels:
        abar = float(schedule.abar[level])
        for _ in range(draws):
            x_t = math.sqrt(abar) * x + math.sqrt(1 - abar) * standard_normal(x, generator)
            yield (
                level,
                expected_images(x_t, diseased, schedule, level),
                expected_images(x_t, healthy, schedule, level),
            )


def _shares(
    levels: Sequence[int], weights: Sequence[float] | None, schedule: Schedule
) -> list[float]:
    """Return the share of each level; they add up to 1."""
    check_levels((0, *levels), schedule)
    weights = [1.0] * len(levels) if weights is None else weights
    whole = sum(weights)
    if len(weights) != len(levels) or min(weights) < 0 or not whole > 0:
        raise UsageError(
            f"got the weights {tuple(weights)} for the noise levels {tuple(levels)}: give one per "
            "level, 0 or more, and not all 0."
        )
    return [weight / whole for weight in weights]
