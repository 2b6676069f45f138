r"""Translation as the authors' released code does it, which is not Algorithm 1 of their paper.

Counted by the network's timesteps k, whose :math:`\bar\alpha` is that of level k + 1:

1. Noise is added at timestep 0: :math:`x \leftarrow \sqrt{\bar\alpha_0}\, x +
   \sqrt{1 - \bar\alpha_0}\, n`.
2. Encoding runs over k = 1..L-1, from the signal of timestep k to that of k + 1, though the image
   it starts from is at timestep 0.
3. Decoding runs over k = L-2..0, from the signal of timestep k to that of k - 1.
4. The network is told the target class both ways.
5. The predicted clean image is clipped to [-1, 1], and the noise derived from it again. After
   guidance it is not clipped.

References
----------
.. [1] Wolleb, Bieder, Sandkuehler, Cattin. Diffusion Models for Medical Anomaly Detection.
   MICCAI 2022.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from medglean.anomaly.guidance import Classifier, check_scale, log_probability_gradient
from medglean.anomaly.losses import split_output
from medglean.anomaly.schedule import Schedule, check_noise_level
from medglean.anomaly.translate import Network


def released_translate(
    unet: Network,
    classifier: Classifier,
    x: Float[Tensor, "b c h w"],
    schedule: Schedule,
    *,
    noise_level: int,
    target: int,
    scale: float,
    noise: Float[Tensor, "b c h w"],
) -> Float[Tensor, "b c h w"]:
    """Translate images to the target class with the released sampler.

    Parameters
    ----------
    unet
        Images, timesteps (b,) and classes (b,) to noise, or noise and v.
    classifier
        Noised images and timesteps to logits; not called where ``scale`` is 0.
    x
        Clean images; the authors' lie in [0, 1].
    schedule
        The noising process.
    noise_level
        L, 1..T. Every level is visited.
    target
        Index of the class.
    scale
        s, 0 or more.
    noise
        Standard normal noise that is added at timestep 0.

    Returns
    -------
    Tensor
        The images' counterparts in the target class.

    Raises
    ------
    UsageError
        If L is outside 1..T, or the scale is negative.
    """
    check_noise_level(noise_level, schedule)
    check_scale(scale)
    # timestep k has the signal of level k + 1; after the last one nothing is left
    signal = [*(float(abar) for abar in schedule.abar[1:]), 0.0]

    def clipped_x0(x_t: Tensor, k: int) -> Tensor:
        labels = torch.full((len(x_t),), target, dtype=torch.long, device=x_t.device)
        output = unet(x_t, _timesteps(x_t, k), labels)
        eps = split_output(output, x_t.shape[1])[0].to(x_t.dtype)
        return _x0_of(x_t, eps, signal[k]).clamp(-1, 1)

    x_t = math.sqrt(signal[0]) * x + math.sqrt(1 - signal[0]) * noise
    for k in range(1, noise_level):
        x_0 = clipped_x0(x_t, k)
        eps = _eps_of(x_t, x_0, signal[k])
        x_t = math.sqrt(signal[k + 1]) * x_0 + math.sqrt(1 - signal[k + 1]) * eps
    for k in range(noise_level - 2, -1, -1):
        x_0 = clipped_x0(x_t, k)
        eps = _eps_of(x_t, x_0, signal[k])
        if scale > 0:
            push = log_probability_gradient(classifier, x_t, _timesteps(x_t, k), target)
            eps = eps - scale * math.sqrt(1 - signal[k]) * push
            x_0 = _x0_of(x_t, eps, signal[k])
        before = signal[k - 1] if k > 0 else 1.0
        x_t = math.sqrt(before) * x_0 + math.sqrt(1 - before) * eps
    return x_t


def _timesteps(x: Tensor, k: int) -> Tensor:
    return torch.full((len(x),), k, dtype=torch.long, device=x.device)


def _x0_of(x_t: Tensor, eps: Tensor, signal: float) -> Tensor:
    """Return the clean image that x_t and its noise stand for."""
    return math.sqrt(1 / signal) * x_t - math.sqrt(1 / signal - 1) * eps


def _eps_of(x_t: Tensor, x_0: Tensor, signal: float) -> Tensor:
    """Return the noise between the clean image and x_t."""
    return (math.sqrt(1 / signal) * x_t - x_0) / math.sqrt(1 / signal - 1)
