r"""How much signal and how much noise an image holds at each noise level.

Level 0 is the clean image, level t has seen t of the T noising steps:
:math:`x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\, \epsilon` with
:math:`\bar\alpha_t = \prod_{i \le t} (1 - \beta_i)`. Networks are told the *timestep* t - 1, so
that their index 0 is the least noisy level, as in the code released with [3]_.

Numbers are float64; samplers take them one level at a time as Python floats, training takes them
for a batch of timesteps with `per_image`.

References
----------
.. [1] Ho, Jain, Abbeel. Denoising Diffusion Probabilistic Models. NeurIPS 2020.
.. [2] Nichol, Dhariwal. Improved Denoising Diffusion Probabilistic Models. ICML 2021.
.. [3] Wolleb, Bieder, Sandkuehler, Cattin. Diffusion Models for Medical Anomaly Detection.
   MICCAI 2022.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from medglean.errors import UsageError

Spacing = Literal["even", "quadratic"]

REFERENCE_STEPS = 1000
"""The T that the first and last variance of the linear schedule are given for."""


@dataclass(frozen=True, eq=False)
class Schedule:
    """The variances of the noising steps, and what follows from them.

    Parameters
    ----------
    betas
        Variance of the noise that each step adds, shape (T,), each in (0, 1): ``betas[t]`` leads
        from level t to level t + 1.

    Raises
    ------
    UsageError
        If a variance is outside (0, 1).

    Examples
    --------
    >>> schedule = Schedule.linear()
    >>> schedule.steps, len(schedule.abar), float(schedule.abar[0])
    (1000, 1001, 1.0)
    >>> round(float(schedule.abar[500]), 4)
    0.0786
    """

    betas: Float[np.ndarray, " t"]

    def __post_init__(self) -> None:
        betas = self.betas
        if betas.ndim != 1 or not len(betas) or not ((betas > 0) & (betas < 1)).all():
            raise UsageError(
                f"the variance of every noising step must lie between 0 and 1, got "
                f"{np.min(betas, initial=np.inf):.4g} to {np.max(betas, initial=-np.inf):.4g} in "
                f"{betas.size} steps. Set diffusion.beta closer to 0, or more diffusion.steps."
            )

    @classmethod
    def linear(cls, steps: int = 1000, beta: tuple[float, float] = (1e-4, 0.02)) -> Schedule:
        """Return the linear schedule of [1]_.

        Parameters
        ----------
        steps
            T, at least 1.
        beta
            First and last variance for T = 1000; scaled by 1000 / T, so that the last level is
            about as noisy whatever T is.
        """
        if steps < 1:
            raise UsageError(f"a schedule has at least 1 step, got {steps}. Set diffusion.steps.")
        scale = REFERENCE_STEPS / steps
        return cls(np.linspace(scale * beta[0], scale * beta[1], steps, dtype=np.float64))

    @property
    def steps(self) -> int:
        """T."""
        return len(self.betas)

    @cached_property
    def abar(self) -> Float[np.ndarray, " levels"]:
        r"""Share of the signal's power :math:`\bar\alpha` at levels 0..T, shape (T + 1,)."""
        return np.concatenate([[1.0], np.cumprod(1 - self.betas)])

    @cached_property
    def snr(self) -> Float[np.ndarray, " levels"]:
        """Signal-to-noise ratio of levels 0..T, shape (T + 1,); infinite at level 0."""
        noise = 1 - self.abar
        ratio: np.ndarray = np.divide(
            self.abar, noise, out=np.full_like(noise, np.inf), where=noise > 0
        )
        return ratio

    @cached_property
    def posterior_variance(self) -> Float[np.ndarray, " t"]:
        """Variance of q(x_{t-1} | x_t, x_0) for each timestep, shape (T,); 0 at index 0."""
        variance: np.ndarray = self.betas * (1 - self.abar[:-1]) / (1 - self.abar[1:])
        return variance

    @cached_property
    def posterior_log_variance(self) -> Float[np.ndarray, " t"]:
        """Natural logarithm of the posterior variance, shape (T,).

        Index 0, where the variance is 0, takes the value of index 1, as in [2]_.
        """
        variance = self.posterior_variance.copy()
        variance[0] = variance[1] if self.steps > 1 else self.betas[0]
        logarithm: np.ndarray = np.log(variance)
        return logarithm

    @cached_property
    def posterior_mean_x0(self) -> Float[np.ndarray, " t"]:
        """Weight of x_0 in the mean of q(x_{t-1} | x_t, x_0), shape (T,): equation 7 of [1]_."""
        weight: np.ndarray = self.betas * np.sqrt(self.abar[:-1]) / (1 - self.abar[1:])
        return weight

    @cached_property
    def posterior_mean_xt(self) -> Float[np.ndarray, " t"]:
        """Weight of x_t in that mean, shape (T,)."""
        noise = 1 - self.abar
        weight: np.ndarray = noise[:-1] * np.sqrt(1 - self.betas) / noise[1:]
        return weight

    def respaced(self, levels: Sequence[int]) -> Schedule:
        """Return the schedule that steps over some levels, with the same noise at the others.

        Parameters
        ----------
        levels
            Increasing, from 0. Level i of the result is ``levels[i]`` of this one.

        Examples
        --------
        >>> full = Schedule.linear()
        >>> few = full.respaced((0, 250, 500))
        >>> few.steps, bool(np.isclose(few.abar[2], full.abar[500]))
        (2, True)
        """
        check_levels(levels, self)
        if levels[0] != 0:
            raise UsageError(f"the levels of a schedule start at 0, got {levels[0]}.")
        kept = self.abar[list(levels)]
        return Schedule(1 - kept[1:] / kept[:-1])


def check_levels(levels: Sequence[int], schedule: Schedule) -> None:
    """Raise `UsageError` unless levels are at least two, increase, and lie in 0..T."""
    total = schedule.steps
    outside = [level for level in levels if not 0 <= level <= total]
    if outside:
        raise UsageError(
            f"noise level L = {outside[-1]} is outside 0..{total}: set translate.noise_level, or "
            "diffusion.steps, which is T."
        )
    if len(levels) < 2 or any(high <= low for low, high in itertools.pairwise(levels)):
        raise UsageError(
            f"noise levels must be two or more that increase, got {tuple(levels)}. Take those of "
            "levels_of."
        )


def check_noise_level(noise_level: int, schedule: Schedule) -> None:
    """Raise `UsageError` unless L lies in 1..T."""
    if not 1 <= noise_level <= schedule.steps:
        raise UsageError(
            f"noise level L = {noise_level} is outside 1..{schedule.steps}: set "
            "translate.noise_level, or diffusion.steps, which is T."
        )


def levels_of(
    noise_level: int, steps: int | None = None, *, spacing: Spacing = "even"
) -> tuple[int, ...]:
    """Return the noise levels that a translation visits: 0 ... L.

    Parameters
    ----------
    noise_level
        L, at least 1.
    steps
        Steps from 0 to L, 1..L; by default every level is visited.
    spacing
        ``even``: equally far apart. ``quadratic``: near L (i / steps)^2, denser where the image is
        almost clean. There the predicted noise changes fastest wherever images vary little, such
        as in a background, and most of what a round trip loses is lost.

    Raises
    ------
    UsageError
        If L is below 1, or the steps are not 1..L.

    Examples
    --------
    >>> levels_of(10, 4)
    (0, 2, 5, 8, 10)
    >>> levels_of(500, 5, spacing="quadratic")
    (0, 20, 80, 180, 320, 500)
    >>> levels_of(3)
    (0, 1, 2, 3)
    """
    if noise_level < 1:
        raise UsageError(f"noise level L must be 1 or more, got {noise_level}.")
    steps = noise_level if steps is None else steps
    if not 1 <= steps <= noise_level:
        raise UsageError(
            f"translate.steps must lie in 1..{noise_level}, the noise level L, got {steps}: there "
            "are no more levels to step over. Set fewer steps, or none for every level."
        )
    power = 2 if spacing == "quadratic" else 1
    levels = [0]
    for index in range(1, steps + 1):
        # two levels never fall together: the first ones are then neighbours
        levels.append(max(levels[-1] + 1, round(noise_level * (index / steps) ** power)))
    return tuple(levels)


def timestep_of(level: int) -> int:
    """Return the timestep that a network is told at a level: t - 1, and 0 for the clean image."""
    return max(level - 1, 0)


def timesteps_like(x: Float[Tensor, "b c h w"], level: int) -> Int[Tensor, " b"]:
    """Return the timestep of ``level``, once for each image of ``x``, on its device."""
    return torch.full((len(x),), timestep_of(level), dtype=torch.long, device=x.device)


def per_image(
    table: Float[np.ndarray, " n"], index: Int[Tensor, " b"], like: Float[Tensor, "b c h w"]
) -> Float[Tensor, "b 1 1 1"]:
    """Return a number of the schedule for each image, shaped to multiply images.

    Parameters
    ----------
    table
        One of the schedule's arrays.
    index
        Where to look for each image.
    like
        The images whose type and device the numbers take.
    """
    values = torch.from_numpy(table).to(dtype=like.dtype).to(device=like.device)
    return values[index.to(like.device)].view(-1, *[1] * (like.ndim - 1))


def q_sample(
    x: Float[Tensor, "b c h w"],
    noise: Float[Tensor, "b c h w"],
    t: Int[Tensor, " b"],
    schedule: Schedule,
) -> Float[Tensor, "b c h w"]:
    r"""Noise clean images: :math:`\sqrt{\bar\alpha} x + \sqrt{1 - \bar\alpha} \epsilon`.

    Parameters
    ----------
    x
        Clean images.
    noise
        Standard normal.
    t
        Timesteps in 0..T-1: timestep t gives level t + 1.
    schedule
        The noising process.

    Examples
    --------
    >>> x, noise = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    >>> q_sample(x, noise, torch.tensor([0]), Schedule(np.array([0.36]))).item()
    0.800000011920929
    """
    signal = per_image(np.sqrt(schedule.abar), t + 1, x)
    spread = per_image(np.sqrt(1 - schedule.abar), t + 1, x)
    return signal * x + spread * noise


def min_snr_weights(
    t: Int[Tensor, " b"], schedule: Schedule, *, gamma: float
) -> Float[Tensor, " b"]:
    """Return min(SNR, gamma) / SNR: weights of the squared error of the noise, in (0, 1].

    References
    ----------
    .. [1] Hang, Gu, Li, Bao, Chen, Hu, Geng, Guo. Efficient Diffusion Training via Min-SNR
       Weighting Strategy. ICCV 2023. Section 3.4: the weight for predicted noise.

    Examples
    --------
    >>> schedule = Schedule(np.array([0.1, 0.5]))  # SNR 9, then 0.45 / 0.55
    >>> min_snr_weights(torch.tensor([0, 1]), schedule, gamma=4.5).tolist()
    [0.5, 1.0]
    """
    if not gamma > 0:
        raise UsageError(f"diffusion.min_snr must be above 0, got {gamma}; leave it out for none.")
    snr = schedule.snr[1:]
    weights = np.minimum(snr, gamma) / snr
    return torch.from_numpy(weights).to(torch.float32).to(t.device)[t]
