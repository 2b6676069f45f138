"""The variational autoencoder as a baseline: learns healthy images, rebuilds each image as one.

Zimmerer et al. (MICCAI 2019) and Baur et al. (Medical Image Analysis 2021): trained on healthy
images alone, so that the difference between an image and what is rebuilt of it shows what healthy
images do not have.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medglean.fitting.loader import Batch
from medglean.fitting.loop import Step
from medglean.fitting.update import Update
from medglean.nn.vae import Vae, vae_loss

VAE = "vae"
"""Name of the network and of its optimiser."""


def vae_step(networks: Mapping[str, nn.Module], *, beta: float) -> Step:
    """Return the training step of ``networks["vae"]`` for `medglean.fitting.fit`.

    It takes ``batch["image"]`` in [0, 1], all of **healthy** images: which those are is decided
    by the rows that the loader is given, and ``batch["target"]`` is not looked at.

    Parameters
    ----------
    networks
        The mapping that is passed to ``fit``; ``vae`` is a `medglean.nn.vae.Vae`.
    beta
        Weight of the divergence, see `medglean.nn.vae.vae_loss`.

    Returns
    -------
    Step
        Logs ``loss``, ``reconstruction`` and ``kl``.
    """
    network = networks[VAE]
    if not isinstance(network, Vae):
        raise TypeError(f"expected a Vae, got {type(network).__name__}.")
    latent = network.latent

    def step(batch: Batch, generator: torch.Generator, update: Update) -> dict[str, Tensor]:
        images = batch["image"]
        noise = torch.randn(len(images), latent, generator=generator, device=generator.device)
        rebuilt, posterior = networks[VAE](images, noise.to(images.device))
        loss = vae_loss(rebuilt, images, posterior, beta=beta)
        update(loss.total, VAE)
        return {
            "loss": loss.total.detach(),
            "reconstruction": loss.reconstruction.detach(),
            "kl": loss.kl.detach(),
        }

    return step


@torch.no_grad()
def vae_rebuild(network: nn.Module, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Return the decoding of the posterior's mean, in [0, 1]; nothing is drawn.

    Parameters
    ----------
    network
        `medglean.nn.vae.Vae`, or what Fabric made of it.
    images
        In [0, 1], on the network's device.

    Raises
    ------
    UsageError
        If the images have another size or number of channels than the network.
    """
    rebuilt: Tensor = network(images)[0]
    return rebuilt
