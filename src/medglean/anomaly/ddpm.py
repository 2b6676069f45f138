r"""Translation with noise: the stochastic ablation beside Algorithm 1.

The image is noised to level L at once, and taken back by the ancestral steps of [1]_ under
classifier guidance as in Algorithm 1 of [2]_: the mean of each step moves by s times the step's
variance times the gradient. What is drawn is lost from the image, which is why [3]_ encodes
instead.

References
----------
.. [1] Ho, Jain, Abbeel. Denoising Diffusion Probabilistic Models. NeurIPS 2020. Algorithm 2.
.. [2] Dhariwal, Nichol. Diffusion Models Beat GANs on Image Synthesis. NeurIPS 2021.
.. [3] Wolleb, Bieder, Sandkuehler, Cattin. Diffusion Models for Medical Anomaly Detection.
   MICCAI 2022.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from medglean.anomaly.guidance import Gradient, check_scale
from medglean.anomaly.losses import (
    Moments,
    interpolated_log_variance,
    posterior,
    predicted_x0,
    split_output,
)
from medglean.anomaly.schedule import Schedule, per_image
from medglean.anomaly.translate import Output
from medglean.errors import UsageError

Variance = Literal["posterior", "beta"]


def standard_normal(
    x: Float[Tensor, "b c h w"], generator: torch.Generator | Sequence[torch.Generator]
) -> Float[Tensor, "b c h w"]:
    """Draw noise for images.

    Parameters
    ----------
    x
        Images whose shape, type and device the noise takes.
    generator
        One for the batch, or one per image: then an image's noise does not depend on the batch
        that it is in. On any device; the noise is drawn there and carried over.

    Raises
    ------
    UsageError
        If there are not as many generators as images.
    """
    if isinstance(generator, torch.Generator):
        noise = torch.randn(
            x.shape, generator=generator, device=generator.device, dtype=torch.float32
        )
        return noise.to(x)
    if len(generator) != len(x):
        raise UsageError(
            f"got {len(generator)} generators for {len(x)} images: give one per image, or one for "
            "the batch."
        )
    return torch.cat([standard_normal(x[row : row + 1], one) for row, one in enumerate(generator)])


def reverse_moments(
    output: Float[Tensor, "b outputs h w"],
    x_t: Float[Tensor, "b c h w"],
    t: Int[Tensor, " b"],
    schedule: Schedule,
    *,
    variance: Variance = "posterior",
    clip: tuple[float, float] | None = (-1.0, 1.0),
) -> Moments:
    """Return mean and log variance of the step from ``x_t`` to the level below.

    Parameters
    ----------
    output
        What the network says of ``x_t``: noise, or noise and v.
    x_t
        Images after timestep ``t``.
    t
        Timesteps of ``schedule``.
    schedule
        The noising process, respaced where levels are left out.
    variance
        Which variance a network without v takes: the posterior's (``posterior``), or that of the
        noising step (``beta``).
    clip
        Where the predicted clean image is cut off; none: nowhere.
    """
    eps, v = split_output(output, x_t.shape[1])
    x_0 = predicted_x0(x_t, eps, t, schedule)
    if clip is not None:
        x_0 = x_0.clamp(*clip)
    mean, log_variance = posterior(x_0, x_t, t, schedule)
    if v is not None:
        log_variance = interpolated_log_variance(v, t, schedule)
    elif variance == "beta":
        log_variance = per_image(np.log(schedule.betas), t, x_t)
    return Moments(mean, log_variance)


def ddpm_translate(
    x: Float[Tensor, "b c h w"],
    output: Output,
    schedule: Schedule,
    levels: Sequence[int],
    *,
    gradient: Gradient | None = None,
    scale: float = 0.0,
    generator: torch.Generator | Sequence[torch.Generator],
    variance: Variance = "posterior",
    clip: tuple[float, float] | None = (-1.0, 1.0),
) -> Float[Tensor, "b c h w"]:
    """Noise images to the last level and take them back by stochastic steps.

    Parameters
    ----------
    x
        Clean images.
    output
        What the network says of images at a level: noise, or noise and v; see
        `medglean.anomaly.translate.output_of`.
    schedule
        The noising process.
    levels
        Noise levels to visit, increasing from 0; see `medglean.anomaly.schedule.levels_of`. Where
        some are left out, variances are those of the longer steps, as in improved DDPM.
    gradient
        Of log C(h | x_t, t); none: no guidance.
    scale
        s, 0 or more.
    generator
        Where the noise comes from; see `standard_normal`.
    variance, clip
        As for `reverse_moments`. The authors clip to [-1, 1].

    Returns
    -------
    Tensor
        Images at level 0; the last step adds no noise.

    Raises
    ------
    UsageError
        If levels do not increase from 0 or lie outside 0..T, or the scale is negative.
    """
    check_scale(scale)
    few = schedule.respaced(levels)
    signal = float(schedule.abar[levels[-1]])
    x_t = math.sqrt(signal) * x + math.sqrt(1 - signal) * standard_normal(x, generator)
    for index in range(few.steps, 0, -1):
        t = torch.full((len(x),), index - 1, dtype=torch.long, device=x.device)
        said = output(x_t, levels[index])
        mean, log_variance = reverse_moments(said, x_t, t, few, variance=variance, clip=clip)
        if gradient is not None and scale > 0:
            mean = mean + scale * torch.exp(log_variance) * gradient(x_t, levels[index])
        if index > 1:
            mean = mean + torch.exp(0.5 * log_variance) * standard_normal(x, generator)
        x_t = mean
    return x_t
