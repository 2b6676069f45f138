r"""What a diffusion network is trained on.

The *simple* loss is the squared error of the predicted noise. The *hybrid* loss of [1]_ adds the
variational bound, from which the network learns the variance of each step: of its 2 c outputs, the
second c are v in about [-1, 1], and the logarithm of the variance lies between that of the
posterior (v = -1) and that of :math:`\beta` (v = 1). The bound trains v alone: the predicted noise
is held fixed in it.

References
----------
.. [1] Nichol, Dhariwal. Improved Denoising Diffusion Probabilistic Models. ICML 2021. Section 3.1.
.. [2] Ho, Jain, Abbeel. Denoising Diffusion Probabilistic Models. NeurIPS 2020. Section 3.3.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from medglean.anomaly.schedule import Schedule, per_image
from medglean.errors import UsageError

HALF_BIN = 1 / 255
"""Half the distance of two grey values in the discretised likelihood, for images in [-1, 1]. The
authors keep it, and the ends -1 and 1, though their images lie in [0, 1]."""
SMALLEST_PROBABILITY = 1e-12


class Moments(NamedTuple):
    """Mean and natural logarithm of the variance of a normal distribution, per value."""

    mean: Tensor
    log_variance: Tensor


def split_output(
    output: Float[Tensor, "b outputs h w"], channels: int
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"] | None]:
    """Return the predicted noise and v, or no v where the network gives noise alone.

    Raises
    ------
    UsageError
        If the output has neither c nor 2 c channels.
    """
    if output.shape[1] == channels:
        return output, None
    if output.shape[1] != 2 * channels:
        raise UsageError(
            f"the network gives {output.shape[1]} channels for images of {channels}; expected "
            f"{channels} (noise) or {2 * channels} (noise and range of the variance). Build it "
            "with the out_channels that diffusion.learned_range asks for."
        )
    eps, v = output.chunk(2, dim=1)
    return eps, v


def predicted_x0(
    x_t: Float[Tensor, "b c h w"],
    eps: Float[Tensor, "b c h w"],
    t: Int[Tensor, " b"],
    schedule: Schedule,
) -> Float[Tensor, "b c h w"]:
    """Return the clean image that x_t and its noise stand for."""
    abar = schedule.abar
    return (
        per_image(1 / np.sqrt(abar), t + 1, x_t) * x_t
        - per_image(np.sqrt(1 / abar - 1), t + 1, x_t) * eps
    )


def posterior(
    x_0: Float[Tensor, "b c h w"],
    x_t: Float[Tensor, "b c h w"],
    t: Int[Tensor, " b"],
    schedule: Schedule,
) -> Moments:
    """Return q(x_{t-1} | x_t, x_0), the step back when the clean image is known; eq. 6-7 of [2]_.

    The log variance has shape (b, 1, 1, 1).
    """
    mean = (
        per_image(schedule.posterior_mean_x0, t, x_t) * x_0
        + per_image(schedule.posterior_mean_xt, t, x_t) * x_t
    )
    return Moments(mean, per_image(schedule.posterior_log_variance, t, x_t))


def interpolated_log_variance(
    v: Float[Tensor, "b c h w"], t: Int[Tensor, " b"], schedule: Schedule
) -> Float[Tensor, "b c h w"]:
    """Return the log variance that v stands for: equation 15 of [1]_."""
    share = (v + 1) / 2
    largest = per_image(np.log(schedule.betas), t, v)
    return share * largest + (1 - share) * per_image(schedule.posterior_log_variance, t, v)


def simple_loss(
    eps: Float[Tensor, "b c h w"], noise: Float[Tensor, "b c h w"]
) -> Float[Tensor, " b"]:
    """Return the mean squared error of the predicted noise, per image.

    Examples
    --------
    >>> simple_loss(torch.ones(1, 1, 2, 2), torch.full((1, 1, 2, 2), 3.0)).item()
    4.0
    """
    return (eps - noise).square().flatten(1).mean(dim=1)


def variational_bound(
    eps: Float[Tensor, "b c h w"],
    v: Float[Tensor, "b c h w"],
    x: Float[Tensor, "b c h w"],
    x_t: Float[Tensor, "b c h w"],
    t: Int[Tensor, " b"],
    schedule: Schedule,
) -> Float[Tensor, " b"]:
    """Return one term of the variational bound, per image, in bits per value.

    At timestep 0 it is the negative log likelihood of the discretised clean image, elsewhere the
    divergence of the predicted step from the posterior. Predicted clean images are not clipped.
    """
    truth = posterior(x, x_t, t, schedule)
    mean = posterior(predicted_x0(x_t, eps, t, schedule), x_t, t, schedule).mean
    predicted = Moments(mean, interpolated_log_variance(v, t, schedule))
    divergence = normal_kl(truth, predicted).flatten(1).mean(dim=1)
    likelihood = -discretised_log_likelihood(x, predicted).flatten(1).mean(dim=1)
    return torch.where(t == 0, likelihood, divergence) / math.log(2)


def hybrid_loss(
    output: Float[Tensor, "b outputs h w"],
    x: Float[Tensor, "b c h w"],
    x_t: Float[Tensor, "b c h w"],
    noise: Float[Tensor, "b c h w"],
    t: Int[Tensor, " b"],
    schedule: Schedule,
    *,
    vb_weight: float = 1.0,
    rescaled: bool = False,
    mse_weights: Float[Tensor, " b"] | None = None,
) -> dict[str, Float[Tensor, " b"]]:
    """Return the hybrid loss of [1]_ and its two parts, per image.

    Parameters
    ----------
    output
        What the network says of ``x_t``: noise and v, 2 c channels.
    x
        Clean images.
    x_t
        Those images at timesteps ``t``; see `medglean.anomaly.schedule.q_sample`.
    noise
        The noise in them.
    t
        Timesteps in 0..T-1.
    schedule
        The noising process.
    vb_weight
        Weight of the bound in the total.
    rescaled
        Multiply the bound by T / 1000, so that it weighs as much for any T; the authors do not,
        and have T = 1000.
    mse_weights
        Weight of each image's squared error in the total, such as those of
        `medglean.anomaly.schedule.min_snr_weights`; by default 1.

    Returns
    -------
    dict
        ``mse``, without weights; ``vb``, in bits per value; ``total``.
    """
    eps, v = split_output(output, x.shape[1])
    if v is None:
        raise UsageError(
            f"the hybrid loss needs noise and v, {2 * x.shape[1]} channels, got {output.shape[1]}. "
            "Set diffusion.learned_range to false, or build the network with 2 c out_channels."
        )
    mse = simple_loss(eps, noise)
    # the noise is held fixed: as in the paper, only v learns from the bound
    vb = variational_bound(eps.detach(), v, x, x_t, t, schedule)
    if rescaled:
        vb = vb * (schedule.steps / 1000)
    weighted = mse if mse_weights is None else mse_weights.to(mse) * mse
    return {"mse": mse, "vb": vb, "total": weighted + vb_weight * vb}


def normal_kl(first: Moments, second: Moments) -> Tensor:
    """Return KL(first || second) of normal distributions, per value, in nats.

    Examples
    --------
    >>> zero, one = torch.zeros(1), torch.ones(1)
    >>> normal_kl(Moments(one, zero), Moments(zero, zero)).item()
    0.5
    """
    gap = first.log_variance - second.log_variance
    distance = (first.mean - second.mean).square() * torch.exp(-second.log_variance)
    return 0.5 * (torch.exp(gap) - gap - 1 + distance)


def discretised_log_likelihood(
    x: Float[Tensor, "b c h w"], predicted: Moments
) -> Float[Tensor, "b c h w"]:
    """Return the log probability of each grey value's bin, in nats: equation 13 of [2]_.

    The bins at -1 and 1 reach to infinity. The normal distribution function is the tanh
    approximation that the authors use; it is within 4e-4 of the exact one.
    """
    precision = torch.exp(-0.5 * predicted.log_variance)
    upper = _normal_cdf(precision * (x - predicted.mean + HALF_BIN))
    lower = _normal_cdf(precision * (x - predicted.mean - HALF_BIN))
    probability = torch.where(x < -0.999, upper, torch.where(x > 0.999, 1 - lower, upper - lower))
    return probability.clamp(min=SMALLEST_PROBABILITY).log()


def _normal_cdf(x: Tensor) -> Tensor:
    """Return the standard normal distribution function by Page's approximation (1977)."""
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
