"""The disentangled variational autoencoder: images to a latent of independent normal numbers.

Encoder: convolutions of 32 channels (kernel 4, stride 2, padding 1, ReLU) down to 4 x 4, two
dense layers of 256, and 2 x latent outputs: mean and log variance. The decoder mirrors it and
ends in logits of pixels.

References
----------
.. [1] Burgess, Higgins, Pal, Matthey, Watters, Desjardins, Lerchner. Understanding disentangling
   in beta-VAE. 2018.
.. [2] Kingma, Welling. Auto-Encoding Variational Bayes. ICLR 2014.
"""

from __future__ import annotations

import itertools
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from medglean.errors import UsageError
from medglean.randomness import key_of

CHANNELS = 32
HIDDEN = 256
SMALLEST_MAP_PX = 4

Reconstruction = Literal["bernoulli", "mse"]


class Posterior(NamedTuple):
    """What the encoder says of each image: independent normal numbers.

    Attributes
    ----------
    mean
        Shape (b, latent): the embedding.
    log_variance
        Shape (b, latent), natural logarithm.
    """

    mean: Tensor
    log_variance: Tensor


class DVae(nn.Module):
    """The autoencoder of [1]_ for square images.

    Parameters
    ----------
    latent
        Numbers per image.
    in_channels
        Channels of the image.
    size_px
        Side of the image: 4 times a power of two, at least 8. 64 gives the four convolutions of
        the paper.

    Raises
    ------
    UsageError
        If the side is another.
    """

    def __init__(self, *, latent: int = 128, in_channels: int = 1, size_px: int = 64) -> None:
        super().__init__()
        self.latent, self.in_channels, self.size_px = latent, in_channels, size_px
        depth = _depth(size_px)
        flat = CHANNELS * SMALLEST_MAP_PX**2
        widths = [in_channels, *[CHANNELS] * depth]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(i, o, kernel_size=4, stride=2, padding=1)
            for i, o in itertools.pairwise(widths)
        )
        self.to_posterior = _dense(flat, HIDDEN, HIDDEN, 2 * latent)
        self.from_latent = _dense(latent, HIDDEN, HIDDEN, flat)
        self.deconvolutions = nn.ModuleList(
            nn.ConvTranspose2d(o, i, kernel_size=4, stride=2, padding=1)
            for i, o in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )

    def encode(self, images: Float[Tensor, "b c h w"]) -> Posterior:
        """Return the posterior of images with values in [0, 1]."""
        maps = images
        for convolution in self.convolutions:
            maps = F.relu(convolution(maps))
        mean, log_variance = self.to_posterior(maps.flatten(1)).chunk(2, dim=1)
        return Posterior(mean, log_variance)

    def decode(self, z: Float[Tensor, "b latent"]) -> Float[Tensor, "b c h w"]:
        """Return logits of pixels; their sigmoid lies in [0, 1]."""
        side = SMALLEST_MAP_PX
        maps: Tensor = F.relu(self.from_latent(z)).view(-1, CHANNELS, side, side)
        for deconvolution in self.deconvolutions[:-1]:
            maps = F.relu(deconvolution(maps))
        logits: Tensor = self.deconvolutions[-1](maps)
        return logits

    def forward(
        self, images: Float[Tensor, "b c h w"], noise: Float[Tensor, "b latent"]
    ) -> tuple[Float[Tensor, "b c h w"], Posterior]:
        """Encode, draw z with the given standard normal noise, and decode.

        Returns
        -------
        tuple
            Logits of pixels, and the posterior.
        """
        posterior = self.encode(images)
        return self.decode(with_noise(posterior, noise)), posterior


def build_dvae(
    *, latent: int = 128, in_channels: int = 1, size_px: int = 64, seed: int = 0
) -> DVae:
    """Build the network, initialised from ``seed``; no global random state is changed.

    Weights are drawn after He et al. 2015 for layers before a ReLU, biases are 0. The paper names
    no initialisation; torch's own is slower over the first thousand steps and ends alike.

    Examples
    --------
    >>> sum(weight.numel() for weight in build_dvae().parameters())
    592865
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key_of(seed, "initialisation"))
        network = DVae(latent=latent, in_channels=in_channels, size_px=size_px)
        for layer in network.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        return network


def _depth(size_px: int) -> int:
    """Return how many halvings lead from the image to the smallest map."""
    depth = (size_px // SMALLEST_MAP_PX).bit_length() - 1
    if depth < 1 or SMALLEST_MAP_PX * 2**depth != size_px:
        raise UsageError(
            f"the d-VAE takes square images of 8, 16, 32, 64, 128 ... pixels a side, got {size_px}."
            " Set images.size_px to [64, 64], as in the paper."
        )
    return depth


def _dense(*widths: int) -> nn.Sequential:
    """Return linear layers with ReLU between them, none after the last."""
    layers: list[nn.Module] = []
    for i, o in itertools.pairwise(widths):
        layers += [nn.Linear(i, o), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def with_noise(posterior: Posterior, noise: Float[Tensor, "b latent"]) -> Float[Tensor, "b latent"]:
    r"""Return :math:`z = \mu + \sigma \epsilon`, the reparameterisation of [2]_."""
    z: Tensor = posterior.mean + torch.exp(0.5 * posterior.log_variance) * noise
    return z


def sample(posterior: Posterior, *, generator: torch.Generator) -> Float[Tensor, "b latent"]:
    """Draw z from the posterior; ``generator`` lives on the posterior's device."""
    mean = posterior.mean
    noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
    return with_noise(posterior, noise)


def reconstruction_loss(
    logits: Float[Tensor, "b c h w"],
    images: Float[Tensor, "b c h w"],
    *,
    kind: Reconstruction = "bernoulli",
) -> Float[Tensor, " b"]:
    """Return how far the rebuilt images are from the images, summed over pixels and channels.

    Parameters
    ----------
    logits
        From the decoder.
    images
        Values in [0, 1].
    kind
        ``bernoulli``: cross-entropy in nats, each value taken as a probability. Its minimum is not
        0 but the entropy of the values. ``mse``: squared difference of sigmoid(logits), in squared
        units of [0, 1].
    """
    if kind == "bernoulli":
        loss = F.binary_cross_entropy_with_logits(logits, images, reduction="none")
    else:
        loss = (torch.sigmoid(logits) - images).square()
    return loss.flatten(1).sum(dim=1)


def kl_divergence(posterior: Posterior) -> Float[Tensor, "b latent"]:
    r"""Return KL(N(mean, variance) || N(0, 1)) of each latent number, in nats.

    .. math:: \tfrac12 (\mu^2 + \sigma^2 - \log \sigma^2 - 1)

    Examples
    --------
    >>> one = torch.tensor([[1.0]])
    >>> kl_divergence(Posterior(one, torch.zeros(1, 1))).item()
    0.5
    """
    mean, log_variance = posterior
    divergence: Tensor = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1.0)
    return divergence


def dvae_loss(
    reconstruction: Float[Tensor, " b"],
    kl: Float[Tensor, " b"],
    *,
    beta: float = 1.0,
    gamma: float | None = None,
    capacity: float = 0.0,
) -> Float[Tensor, ""]:
    """Return the mean over the batch of reconstruction + beta KL, or + gamma |KL - C|.

    Parameters
    ----------
    reconstruction
        From :func:`reconstruction_loss`.
    kl
        Summed over the latent numbers of each image, in nats.
    beta
        Weight of the divergence; 1 is the plain variational autoencoder. Unused with ``gamma``.
    gamma
        Weight of the distance from the capacity, equation 8 of [1]_; None: ``beta`` is used.
    capacity
        C in nats: the mean KL of the batch is pulled towards it, as in [1]_.
    """
    if gamma is None:
        return reconstruction.mean() + beta * kl.mean()
    return reconstruction.mean() + gamma * (kl.mean() - capacity).abs()


def capacity_at(step: int, *, total_steps: int, end: float = 25.0) -> float:
    """Return C at a step: it rises in a straight line from 0 to ``end`` at the last step.

    Examples
    --------
    >>> [capacity_at(step, total_steps=5) for step in (0, 2, 4)]
    [0.0, 12.5, 25.0]
    """
    return end * min(1.0, step / max(1, total_steps - 1))
