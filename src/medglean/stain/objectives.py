"""What the generator and its opponent learn: one training step of both, and how it is judged.

A step first moves the discriminator, on generated images that are cut off from the generator, and
then the generator, on a fresh judgement of the same images: pix2pix's order [1]_. Without an
adversarial loss there is no discriminator, and the generator is a U-Net trained by regression.

Images are in [-1, 1]. The level is a target of the discriminator's second head and of nothing
else: what the generator is given are features of the H&E image.

References
----------
.. [1] Isola, Zhu, Zhou, Efros. Image-to-Image Translation with Conditional Adversarial Networks.
   CVPR 2017.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medglean.fitting.loader import Batch
from medglean.fitting.loop import Step
from medglean.fitting.update import Update
from medglean.nn.stain_gan import PatchJudgement
from medglean.stain.losses import adversarial_loss, generator_losses, level_loss
from medglean.stain.networks import DISCRIMINATOR, GENERATOR, needs_discriminator
from medglean.stain.settings import StainPreset


def gan_step(networks: Mapping[str, nn.Module], preset: StainPreset) -> Step:
    """Return the training step of ``generator`` and ``discriminator`` for `medglean.fitting.fit`.

    It takes ``batch`` as `medglean.stain.fetch.PairFetch` gives it.

    Parameters
    ----------
    networks
        The mapping that is passed to ``fit``; without a discriminator if the preset needs none.
    preset
        Weights of the losses.

    Returns
    -------
    Step
        Logs each weighted loss of the generator, their sum ``generator``, and of the
        discriminator ``discriminator.patches`` and ``discriminator.level``.
    """
    opposed = needs_discriminator(preset)

    def step(batch: Batch, generator: torch.Generator, update: Update) -> dict[str, Tensor]:
        he, real, level = batch["image"], batch["target"], batch["level"]
        fake = networks[GENERATOR](he, batch.get("features")).float()
        logged, judged = dict[str, Tensor](), None
        if opposed:
            losses = _critic(networks[DISCRIMINATOR], he, real, fake.detach(), level, preset)
            update(torch.stack([*losses.values()]).sum(), DISCRIMINATOR)
            logged |= {f"discriminator.{name}": loss.detach() for name, loss in losses.items()}
            with _fixed(networks[DISCRIMINATOR]):
                judged = networks[DISCRIMINATOR](he, fake)
        terms = generator_losses(fake, real, batch["white"], judged, level, preset.losses)
        total = torch.stack([*terms.values()]).sum()
        update(total, GENERATOR)
        logged |= {name: term.detach() for name, term in terms.items()}
        return {**logged, "generator": total.detach()}

    return step


@contextlib.contextmanager
def _fixed(network: nn.Module) -> Iterator[None]:
    """Let what is computed inside send no gradient into a network's weights, only through it.

    The loop drops such gradients anyway; this spares computing them. On several devices they are
    computed, for there every weight is waited for.
    """
    alone = not (torch.distributed.is_available() and torch.distributed.is_initialized())
    weights = [each for each in network.parameters() if each.requires_grad and alone]
    for weight in weights:
        weight.requires_grad = False
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad = True


def _critic(
    discriminator: nn.Module,
    he: Tensor,
    real: Tensor,
    fake: Tensor,
    level: Tensor,
    preset: StainPreset,
) -> dict[str, Tensor]:
    """Return the losses of the discriminator: on patches, the mean of generated and real halves.

    The level is told of real images alone: of a generated one nobody knows whether it shows it.
    """
    # one after the other, not in one batch: its BatchNorm would see both kinds together
    false: PatchJudgement = discriminator(he, fake)
    true: PatchJudgement = discriminator(he, real)
    halves = adversarial_loss(false.patches, real=False) + adversarial_loss(true.patches, real=True)
    losses = {"patches": 0.5 * halves}
    if true.levels is not None:
        losses["level"] = preset.losses.level * level_loss(true.levels, level)
    return losses


def gan_validation(
    batches: Callable[[], Iterator[Batch]],
) -> Callable[[Mapping[str, nn.Module]], dict[str, float]]:
    """Return the closure that judges the generator on a few pairs that it does not learn from.

    It returns ``loss``, the mean absolute difference in [-1, 1], and ``psnr`` in decibels: mean
    over images of 20 log10(2) - 10 log10(mean square), before rounding to 8 bits.

    Parameters
    ----------
    batches
        Gives the same pairs each time it is called.
    """

    def validate(networks: Mapping[str, nn.Module]) -> dict[str, float]:
        network = networks[GENERATOR]
        device = next(network.parameters()).device
        distances, decibels = list[Tensor](), list[Tensor]()
        for given in batches():
            batch = {name: value.to(device) for name, value in given.items()}
            fake = network(batch["image"], batch.get("features")).float()
            distances.append((fake - batch["target"]).abs().mean(dim=(1, 2, 3)).cpu())
            decibels.append(_psnr(fake, batch["target"]).cpu())
        return {
            "loss": float(torch.cat(distances).mean()),
            "psnr": float(torch.cat(decibels).mean()),
        }

    return validate


def _psnr(fake: Float[Tensor, "b 3 h w"], real: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
    """Return the peak signal-to-noise ratio of images in [-1, 1]; finite also where they agree."""
    square = (fake - real).square().mean(dim=(1, 2, 3)).clamp(min=1e-10)
    return 10.0 * torch.log10(4.0 / square)
