r"""Fixed-Point GAN as a baseline: translates an image to "healthy", and a healthy one to itself.

In the formulas x is a real image of domain :math:`c_x`, :math:`c_y` the domain that is drawn for
it, G the generator, D the realness and :math:`p_D` the domain probabilities of the discriminator.
Expectations are means over the images of a batch, :math:`\|\cdot\|_1` is the mean over pixels.

References
----------
.. [1] Rahman Siddiquee, Zhou, Tajbakhsh, Feng, Gotway, Bengio, Liang. Learning Fixed Points in
   Generative Adversarial Networks: From Image-to-Image Translation to Disease Detection and
   Localization. ICCV 2019.
.. [2] Gulrajani, Ahmed, Arjovsky, Dumoulin, Courville. Improved Training of Wasserstein GANs.
   NeurIPS 2017.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from medglean.anomaly.settings import GanSettings
from medglean.fitting.loader import Batch
from medglean.fitting.loop import Step
from medglean.fitting.update import Update
from medglean.nn.fixed_point_gan import Judgement

GENERATOR, DISCRIMINATOR = "generator", "discriminator"
"""Names of the networks and of their optimisers."""


def gradient_penalty(slope: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
    r"""Return how far the critic's slope is from 1, equation 3 of [2]_.

    .. math:: \mathbb E \big( \|\nabla_{\hat x} D(\hat x)\|_2 - 1 \big)^2

    Parameters
    ----------
    slope
        Gradient of the realness with respect to the pixels, from
        `medglean.nn.fixed_point_gan.Discriminator`.

    Examples
    --------
    >>> gradient_penalty(torch.full((2, 1, 2, 2), 1.5)).item()
    4.0
    """
    norm = torch.linalg.vector_norm(slope.float().flatten(1), dim=1)
    penalty: Tensor = (norm - 1.0).square().mean()
    return penalty


class CriticLoss(NamedTuple):
    """The discriminator's loss and its parts, before their weights."""

    total: Tensor
    wasserstein: Tensor
    penalty: Tensor
    domain: Tensor


def critic_loss(
    real: Judgement,
    fake: Judgement,
    slope: Float[Tensor, "b c h w"],
    domain: Int[Tensor, " b"],
    *,
    settings: GanSettings,
) -> CriticLoss:
    r"""Return the loss of the discriminator.

    .. math::

       L_D = \mathbb E\, D(G(x, c_y)) - \mathbb E\, D(x)
             + \lambda_{gp}\, \mathbb E (\|\nabla D(\hat x)\|_2 - 1)^2
             - \lambda_{cls}\, \mathbb E \log p_D(c_x | x)

    One translation is held against each real image, as in the authors' release. With those to
    :math:`c_x` added there would be two, and the loss no lower bound: it would fall as a constant
    is taken from D.

    Parameters
    ----------
    real, fake
        Of x, and of :math:`G(x, c_y)` without gradients.
    slope
        At points between the two.
    domain
        :math:`c_x`.
    settings
        The weights.
    """
    wasserstein = real.realness.mean() - fake.realness.mean()
    penalty = gradient_penalty(slope)
    cross_entropy = F.cross_entropy(real.domain, domain)
    total = -wasserstein + settings.lambda_gp * penalty + settings.lambda_cls * cross_entropy
    return CriticLoss(total, wasserstein, penalty, cross_entropy)


class Translated(NamedTuple):
    """Images translated to one domain, what the discriminator says of them, and the way back."""

    images: Tensor
    judgement: Judgement
    back: Tensor


class GeneratorLoss(NamedTuple):
    """The generator's loss and its parts, before their weights; each sums both translations."""

    total: Tensor
    adversarial: Tensor
    domain: Tensor
    cycle: Tensor
    identity: Tensor


def generator_loss(
    images: Float[Tensor, "b c h w"],
    other: Translated,
    same: Translated,
    domain: Int[Tensor, " b"],
    target: Int[Tensor, " b"],
    *,
    settings: GanSettings,
) -> GeneratorLoss:
    r"""Return the loss of the generator: StarGAN's, for both translations, and the identity.

    .. math::

       L_G &= \sum_{c \in \{c_x, c_y\}} \Big( -\mathbb E\, D(G(x, c))
             - \lambda_{cls}\, \mathbb E \log p_D(c | G(x, c))
             + \lambda_{rec}\, \mathbb E \|G(G(x, c), c_x) - x\|_1 \Big) \\
           &+ \lambda_{id}\, \mathbb E \|G(x, c_x) - x\|_1

    The first line at :math:`c = c_x` supervises the translation to the own domain, the last is the
    conditional identity loss: what makes a healthy image a fixed point of "to healthy".

    Parameters
    ----------
    images
        x, in [-1, 1].
    other
        :math:`G(x, c_y)`.
    same
        :math:`G(x, c_x)`.
    domain, target
        :math:`c_x` and :math:`c_y`.
    settings
        The weights.
    """
    adversarial = -other.judgement.realness.mean() - same.judgement.realness.mean()
    cross_entropy = F.cross_entropy(other.judgement.domain, target)
    cross_entropy = cross_entropy + F.cross_entropy(same.judgement.domain, domain)
    cycle = F.l1_loss(other.back, images) + F.l1_loss(same.back, images)
    identity = F.l1_loss(same.images, images)
    total = (
        adversarial
        + settings.lambda_cls * cross_entropy
        + settings.lambda_rec * cycle
        + settings.lambda_id * identity
    )
    return GeneratorLoss(total, adversarial, cross_entropy, cycle, identity)


def gan_step(networks: Mapping[str, nn.Module], settings: GanSettings) -> Step:
    """Return the training step of ``generator`` and ``discriminator`` for `medglean.fitting.fit`.

    It takes ``batch["image"]`` in [0, 1] and the class numbers ``batch["target"]``. The batch is
    cut into ``settings.critic_steps`` parts. Each moves the discriminator once, and the last then
    moves the generator, so a step is that many updates of the one and one of the other, every
    update of the discriminator sees other images, and nothing but the step's generator decides
    what is drawn: a resumed fit needs no counter. Batches of 16 with 5 critic steps in the papers
    are ``fit.batch_size = 80`` here, and their iterations are parts: 5 to a step. A last batch
    with fewer images than parts makes as many updates as it has images.

    The drawn domains are those of the part in another order, as in the authors' release, so their
    shares are those of the images.

    Parameters
    ----------
    networks
        The mapping that is passed to ``fit``.
    settings
        Weights of the losses and the number of critic steps. More than one cannot be had together
        with ``fit.accumulate``, and the loop says so.

    Returns
    -------
    Step
        Logs the parts of both losses; of the discriminator's, the mean over its updates.
    """

    def step(batch: Batch, generator: torch.Generator, update: Update) -> dict[str, Tensor]:
        seen: list[CriticLoss] = []
        for images, domain in _parts(batch, settings.critic_steps):
            order = torch.randperm(len(domain), generator=generator, device=generator.device)
            target = domain[order.to(domain.device)]
            critic = _critic(networks, images, domain, target, generator, settings)
            update(critic.total, DISCRIMINATOR)
            seen.append(CriticLoss(*(part.detach() for part in critic)))
        made = _generated(networks, images, domain, target, settings)
        update(made.total, GENERATOR)
        critic_means = [torch.stack(values).mean() for values in zip(*seen, strict=True)]
        named = {f"critic.{n}": v for n, v in zip(CriticLoss._fields, critic_means, strict=True)}
        named |= {f"generator.{name}": v.detach() for name, v in made._asdict().items()}
        return named

    return step


def _parts(batch: Batch, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    count = min(count, len(batch["image"]))
    pairs = zip(
        batch["image"].tensor_split(count), batch["target"].tensor_split(count), strict=True
    )
    for images, domain in pairs:
        yield 2.0 * images - 1.0, domain


def _critic(
    networks: Mapping[str, nn.Module],
    images: Tensor,
    domain: Tensor,
    target: Tensor,
    generator: torch.Generator,
    settings: GanSettings,
) -> CriticLoss:
    with torch.no_grad():
        fake = networks[GENERATOR](images, target)
    share = torch.rand(len(images), 1, 1, 1, generator=generator, device=generator.device)
    share = share.to(images.device)
    between = share * images + (1.0 - share) * fake
    judged: Judgement = networks[DISCRIMINATOR](torch.cat([images, fake]), between)
    if judged.slope is None:
        raise TypeError("the discriminator gave no slope at the points that it was asked about.")
    real, false = (
        Judgement(realness, logits)
        for realness, logits in zip(judged.realness.chunk(2), judged.domain.chunk(2), strict=True)
    )
    return critic_loss(real, false, judged.slope, domain, settings=settings)


def _generated(
    networks: Mapping[str, nn.Module],
    images: Tensor,
    domain: Tensor,
    target: Tensor,
    settings: GanSettings,
) -> GeneratorLoss:
    # both translations in one call: no layer of either network looks across images
    both = torch.cat([images, images])
    made = networks[GENERATOR](both, torch.cat([target, domain]))
    judged: Judgement = networks[DISCRIMINATOR](made)
    back = networks[GENERATOR](made, torch.cat([domain, domain]))
    other, same = (
        Translated(translated, Judgement(realness, logits), returned)
        for translated, realness, logits, returned in zip(
            made.chunk(2),
            judged.realness.chunk(2),
            judged.domain.chunk(2),
            back.chunk(2),
            strict=True,
        )
    )
    return generator_loss(images, other, same, domain, target, settings=settings)


@torch.no_grad()
def gan_rebuild(
    generator: nn.Module, images: Float[Tensor, "b c h w"], *, target: int = 0
) -> Float[Tensor, "b c h w"]:
    """Return the images translated to a domain, in [0, 1]; nothing is drawn.

    Parameters
    ----------
    generator
        `medglean.nn.fixed_point_gan.Generator`, or what Fabric made of it.
    images
        In [0, 1], on the network's device.
    target
        Number of the class; 0 is healthy.

    Raises
    ------
    UsageError
        If the generator cannot take images of that size or number of channels.
    """
    domain = torch.full((len(images),), target, dtype=torch.int64, device=images.device)
    translated: Tensor = generator(2.0 * images - 1.0, domain)
    return 0.5 * (translated + 1.0)
