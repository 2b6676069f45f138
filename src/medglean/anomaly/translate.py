r"""From an image up to a noise level and back, without drawing noise.

Algorithm 1 of [1]_: the deterministic step of [2]_ leads from level to level in either direction;
what guides the way back is part of the predicted noise (see `medglean.anomaly.guidance`).

Each way uses the noise predicted at the level that is *left*. Upwards that is an approximation:
the step that the decoder will take back uses the noise at the level *entered*. The gap closes with
fixed-point iterations, each of which predicts the noise at the level entered, for the current
estimate of the image there [3]_. Their limit is the exact inverse of the unguided decoder, for any
number of steps.

The first estimate costs no call of the network: the noise of the last two levels is extended in a
straight line over :math:`\sqrt{1 / \bar\alpha - 1}`, in which the path of an image is
:math:`d(x / \sqrt{\bar\alpha}) = \epsilon\, d\sqrt{1 / \bar\alpha - 1}`. So one iteration per step
costs what the plain encoding costs.

References
----------
.. [1] Wolleb, Bieder, Sandkuehler, Cattin. Diffusion Models for Medical Anomaly Detection.
   MICCAI 2022.
.. [2] Song, Meng, Ermon. Denoising Diffusion Implicit Models. ICLR 2021.
.. [3] Pan, Gherardi, Xie, Huang. Effective Real Image Editing with Accelerated Iterative Diffusion
   Inversion. ICCV 2023.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from medglean.anomaly.losses import split_output
from medglean.anomaly.schedule import Schedule, check_levels, timesteps_like
from medglean.errors import UsageError

Eps = Callable[[Tensor, int], Tensor]
"""The noise predicted in images (b, c, h, w) at a noise level 0..T, same shape."""

Output = Callable[[Tensor, int], Tensor]
"""What a network says of images at a noise level: noise, or noise and v, c or 2 c channels."""

Network = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A diffusion network: images (b, c, h, w), timesteps (b,), classes (b,) to c or 2 c channels."""


def output_of(network: Network, *, label: int) -> Output:
    """Return what a network says when told one class, or with -1 no class."""

    def output(x: Tensor, level: int) -> Tensor:
        labels = torch.full((len(x),), label, dtype=torch.long, device=x.device)
        return network(x, timesteps_like(x, level), labels).to(x.dtype)

    return output


def eps_of(network: Network, *, label: int) -> Eps:
    """Return the noise that a network predicts when told one class, or with -1 no class."""
    output = output_of(network, label=label)

    def eps(x: Tensor, level: int) -> Tensor:
        return split_output(output(x, level), x.shape[1])[0]

    return eps


def ddim_step(
    x: Float[Tensor, "b c h w"],
    eps: Float[Tensor, "b c h w"],
    *,
    abar_from: float,
    abar_to: float,
) -> Float[Tensor, "b c h w"]:
    r"""Move images from one noise level to another without adding noise.

    Equation 12 of [2]_ with :math:`\sigma = 0`. Because nothing random happens, the same function
    serves both ways: ``abar_to > abar_from`` denoises, the reverse encodes, and is then equation
    (6) of [1]_.

    Parameters
    ----------
    x
        Images at the level being left.
    eps
        Noise predicted in them.
    abar_from, abar_to
        Share of the signal's power :math:`\bar\alpha` in (0, 1]: 1 is clean, near 0 is noise.

    Returns
    -------
    Tensor
        Images at the new level. Not clipped: clipping breaks the round trip that maps depend on.

    Raises
    ------
    ValueError
        If either level is outside (0, 1].

    Examples
    --------
    >>> x = torch.full((1, 1, 1, 2), 0.5)
    >>> ddim_step(x, torch.zeros_like(x), abar_from=0.25, abar_to=1.0).flatten().tolist()
    [1.0, 1.0]
    """
    for name, abar in (("abar_from", abar_from), ("abar_to", abar_to)):
        if not 0.0 < abar <= 1.0:
            raise ValueError(f"{name} must lie in (0, 1], got {abar}. Take it from Schedule.abar.")
    scale = math.sqrt(abar_to / abar_from)
    # sqrt(1 - abar_to) - scale * sqrt(1 - abar_from): one product per tensor and no x_0 between
    shift = math.sqrt(1 - abar_to) - scale * math.sqrt(1 - abar_from)
    return scale * x + shift * eps


def encode(
    x: Float[Tensor, "b c h w"],
    eps: Eps,
    schedule: Schedule,
    levels: Sequence[int],
    *,
    iterations: int = 0,
) -> Float[Tensor, "b c h w"]:
    """Lead images from the first of ``levels`` up to the last.

    Parameters
    ----------
    x
        Images at the first level, usually the clean ones at 0.
    eps
        Noise predicted at a level.
    schedule
        The noising process.
    levels
        Noise levels to visit, increasing; see `medglean.anomaly.schedule.levels_of`.
    iterations
        Fixed-point iterations of each step. 0 is equation (6) of [1]_.

    Returns
    -------
    Tensor
        Images at the last level.

    Notes
    -----
    With n steps ``eps`` is called n times without iterations, and 1 + n * ``iterations`` times
    with them. Each iteration shrinks the distance to the fixed point by a factor that falls with
    the length of the step. That of the first steps is the largest, where the noise changes most:
    ``levels`` that lie denser there (``quadratic``) gain more than further iterations.

    Raises
    ------
    UsageError
        If levels do not increase or lie outside 0..T, or iterations are negative.
    """
    check_levels(levels, schedule)
    if iterations < 0:
        raise UsageError(
            f"translate.inversion_iterations must be 0 or more, got {iterations}; 0 is the plain "
            "encoding."
        )
    if iterations:
        return _encode_exactly(x, eps, schedule, levels, iterations)
    for low, high in itertools.pairwise(levels):
        x = ddim_step(
            x, eps(x, low), abar_from=float(schedule.abar[low]), abar_to=float(schedule.abar[high])
        )
    return x


def _encode_exactly(
    x: Tensor, eps: Eps, schedule: Schedule, levels: Sequence[int], iterations: int
) -> Tensor:
    """Encode with fixed-point iterations, at least one a step."""
    noise = guess = eps(x, levels[0])
    spread = [math.sqrt(1 / float(schedule.abar[level]) - 1) for level in levels]
    for step, (low, high) in enumerate(itertools.pairwise(levels)):
        abar_from, abar_to = float(schedule.abar[low]), float(schedule.abar[high])
        if step > 0:
            ahead = (spread[step + 1] - spread[step]) / (spread[step] - spread[step - 1])
            noise, guess = guess, guess + ahead * (guess - noise)
        estimate = ddim_step(x, guess, abar_from=abar_from, abar_to=abar_to)
        for _ in range(iterations):
            guess = eps(estimate, high)
            estimate = ddim_step(x, guess, abar_from=abar_from, abar_to=abar_to)
        x = estimate
    return x


def decode(
    x: Float[Tensor, "b c h w"], eps: Eps, schedule: Schedule, levels: Sequence[int]
) -> Float[Tensor, "b c h w"]:
    """Lead images from the last of ``levels`` down to the first; one call of ``eps`` per step.

    Parameters
    ----------
    x
        Images at the last level.
    eps
        Noise predicted at a level, with guidance or without.
    schedule
        The noising process.
    levels
        Noise levels to visit, increasing, as for `encode`.

    Raises
    ------
    UsageError
        If levels do not increase or lie outside 0..T.
    """
    check_levels(levels, schedule)
    for high, low in itertools.pairwise(reversed(levels)):
        x = ddim_step(
            x, eps(x, high), abar_from=float(schedule.abar[high]), abar_to=float(schedule.abar[low])
        )
    return x
