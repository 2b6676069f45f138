r"""What pulls a translation towards a class.

Classifier guidance [1]_ subtracts from the predicted noise the gradient of what a noise-aware
classifier says: :math:`\hat\epsilon = \epsilon - s \sqrt{1 - \bar\alpha_t}\, \nabla_{x_t} \log
C(h \mid x_t, t)`. Because :math:`-\epsilon / \sqrt{1 - \bar\alpha_t}` is the score of
:math:`x_t`, s = 1 is Bayes' rule: the score of images of class h. Classifier-free guidance [2]_
gets the same direction as a difference of two predictions of one network.

References
----------
.. [1] Dhariwal, Nichol. Diffusion Models Beat GANs on Image Synthesis. NeurIPS 2021. Algorithm 2.
.. [2] Ho, Salimans. Classifier-Free Diffusion Guidance. 2022.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from medglean.anomaly.schedule import Schedule, timesteps_like
from medglean.anomaly.translate import Eps
from medglean.errors import UsageError

Gradient = Callable[[Tensor, int], Tensor]
"""The gradient of log C(h | x_t, t) in images (b, c, h, w) at a noise level, same shape."""

Classifier = Callable[[Tensor, Tensor], Tensor]
"""A noise-aware classifier: images (b, c, h, w) and timesteps (b,) to logits (b, classes)."""


def log_probability_gradient(
    classifier: Classifier, x: Float[Tensor, "b c h w"], timestep: Int[Tensor, " b"], target: int
) -> Float[Tensor, "b c h w"]:
    """Return the gradient, with respect to the images, of the log probability of a class.

    Parameters
    ----------
    classifier
        A network; it is left as it is, and its parameters get no gradient.
    x
        Noised images.
    timestep
        What the classifier is told of their noise.
    target
        Index of the class.

    Notes
    -----
    Gradients are switched on within, whether the caller has them on or not. Parameters are held
    fixed meanwhile, so that activations which only their gradients need are not kept.
    """
    with torch.inference_mode(mode=False), torch.enable_grad(), _fixed(classifier):
        inputs = x.detach().clone().requires_grad_(True)
        logits = classifier(inputs, timestep.clone())
        # half precision is too coarse for a logarithm near 0
        exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
        log_probability = torch.log_softmax(exact, dim=1)[:, target]
        # summed over the batch: each image's gradient depends on itself alone
        (gradient,) = torch.autograd.grad(log_probability.sum(), inputs)
    return gradient


def gradient_of(classifier: Classifier, *, target: int) -> Gradient:
    """Return `log_probability_gradient` as a function of images and noise level."""

    def gradient(x: Tensor, level: int) -> Tensor:
        return log_probability_gradient(classifier, x, timesteps_like(x, level), target)

    return gradient


def classifier_guided(
    eps: Eps, gradient: Gradient, schedule: Schedule, *, scale: float, normalised: bool = False
) -> Eps:
    r"""Return noise that leads to images of the class that ``gradient`` points to.

    Parameters
    ----------
    eps
        Noise predicted by the network.
    gradient
        Of log C(h | x_t, t).
    schedule
        The noising process.
    scale
        s, 0 or more; 0 gives ``eps`` back, and the classifier is not called.
    normalised
        Take :math:`g\, \mathrm{rms}(\epsilon) / \mathrm{rms}(g)` for the gradient g, with the
        root mean square over channels and pixels of each image, so that s is the size of the
        push relative to the noise: :math:`\hat\epsilon = \epsilon - s \sqrt{1 - \bar\alpha_t}\, g
        \, \mathrm{rms}(\epsilon) / \mathrm{rms}(g)`. Where the gradient is 0 there is no push.

    Raises
    ------
    UsageError
        If the scale is negative or not finite.
    """
    check_scale(scale)
    if scale == 0:
        return eps

    def guided(x: Tensor, level: int) -> Tensor:
        noise, push = eps(x, level), gradient(x, level)
        if normalised:
            push = _divided(push * _rms(noise), _rms(push))
        return noise - scale * math.sqrt(1 - float(schedule.abar[level])) * push

    return guided


def classifier_free(conditional: Eps, unconditional: Eps, *, scale: float) -> Eps:
    """Return the noise without a class plus ``scale`` times what the class adds to it.

    Parameters
    ----------
    conditional, unconditional
        Noise predicted with the class, and without.
    scale
        0: without the class; 1: with the class; above: more of it. At 0 and 1 only one of the two
        is called.

    Raises
    ------
    UsageError
        If the scale is negative or not finite.
    """
    check_scale(scale)
    if scale in (0, 1):
        return conditional if scale else unconditional

    def guided(x: Tensor, level: int) -> Tensor:
        without = unconditional(x, level)
        return without + scale * (conditional(x, level) - without)

    return guided


def check_scale(scale: float) -> None:
    """Raise `UsageError` unless the guidance scale is 0 or more, and finite."""
    if not (scale >= 0 and math.isfinite(scale)):
        raise UsageError(
            f"translate.scale, the guidance scale s, must be 0 or more, got {scale}. To translate "
            "away from healthy, exchange the classes instead."
        )


@contextlib.contextmanager
def _fixed(classifier: Classifier) -> Iterator[None]:
    """Hold a network's parameters fixed within; afterwards they are as before."""
    parameters = classifier.parameters() if isinstance(classifier, nn.Module) else iter(())
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def _rms(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 1 1"]:
    """Return the root mean square of each image."""
    return images.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()


def _divided(top: Tensor, bottom: Tensor) -> Tensor:
    """Return the ratio, and 0 where ``bottom`` is 0."""
    return torch.where(bottom > 0, top / torch.where(bottom > 0, bottom, 1.0), 0.0)
