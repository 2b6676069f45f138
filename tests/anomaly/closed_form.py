"""A distribution of images whose scores are known exactly: a mixture of normal distributions.

At a noise level a class of mean m and spread s is normal with mean sqrt(abar) m and variance
abar s^2 + 1 - abar, so that noise, class probabilities and their gradient are formulas, and
translation can be tested without training anything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from medglean.anomaly.schedule import Schedule

HEALTHY, DISEASED = 0, 1


class GaussianMixture:
    """Classes of images, each normal with independent pixels.

    Parameters
    ----------
    means
        Mean image of each class, (k, c, h, w).
    spreads
        Standard deviation of every pixel, per class.
    shares
        Share of each class; they add up to 1.
    schedule
        The noising process.
    """

    def __init__(
        self, means: Tensor, spreads: Sequence[float], shares: Sequence[float], schedule: Schedule
    ) -> None:
        self.means, self.spreads, self.shares = means, tuple(spreads), tuple(shares)
        self.schedule = schedule

    def sample(self, label: int, count: int, *, generator: torch.Generator) -> Tensor:
        mean = self.means[label]
        noise = torch.randn(count, *mean.shape, generator=generator, dtype=mean.dtype)
        return mean + self.spreads[label] * noise

    def at(self, level: int, label: int) -> tuple[Tensor, float]:
        """Return mean and variance of a class at a level."""
        abar = float(self.schedule.abar[level])
        variance = abar * self.spreads[label] ** 2 + 1 - abar
        return math.sqrt(abar) * self.means[label], variance

    def log_joint(self, x: Tensor, level: int) -> Tensor:
        """Return log p(x_t, class), up to a constant, as (b, k)."""
        columns = []
        for label, share in enumerate(self.shares):
            mean, variance = self.at(level, label)
            distance = (x - mean.to(x)).square().flatten(1).sum(dim=1) / variance
            columns.append(
                math.log(share) - 0.5 * distance - 0.5 * mean.numel() * math.log(variance)
            )
        return torch.stack(columns, dim=1)

    def score(self, x: Tensor, level: int, label: int) -> Tensor:
        mean, variance = self.at(level, label)
        return (mean.to(x) - x) / variance

    def mixed_score(self, x: Tensor, level: int) -> Tensor:
        probability = self.log_joint(x, level).softmax(dim=1)
        scores = torch.stack(
            [self.score(x, level, label) for label in range(len(self.shares))], dim=1
        )
        return (probability[:, :, None, None, None] * scores).sum(dim=1)

    def conditional(self, label: int):
        """Return the exact noise of images of one class."""

        def eps(x: Tensor, level: int) -> Tensor:
            return -math.sqrt(1 - float(self.schedule.abar[level])) * self.score(x, level, label)

        return eps

    def unconditional(self, x: Tensor, level: int) -> Tensor:
        """Return the exact noise of images of any class."""
        return -math.sqrt(1 - float(self.schedule.abar[level])) * self.mixed_score(x, level)

    def gradient(self, label: int):
        """Return the exact gradient of log p(class | x_t)."""
        return lambda x, level: self.score(x, level, label) - self.mixed_score(x, level)

    def classifier(self, x: Tensor, timestep: Tensor) -> Tensor:
        """Return logits of the exact class probabilities, as a network would."""
        (level,) = {int(t) + 1 for t in timestep}
        return self.log_joint(x, level)
