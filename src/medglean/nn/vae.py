"""The convolutional variational autoencoder that reconstructs healthy images.

Encoder: four convolutions (kernel 4, stride 2, padding 1, normalisation, LeakyReLU) of 1, 2, 4 and
8 times the width, and a dense layer to mean and log variance of the code. The decoder mirrors it
and ends in a sigmoid. There is no skip connection: whatever the code cannot say of an image is
missing from what is rebuilt, and a network that saw healthy images alone has no words for a lesion.

Normalisation is needed: without it, images with a black background hold the decoder at one grey
value for hundreds of steps. It is over groups of channels, so that an image is rebuilt alike in
every batch; batches of 32 brain slices ended at the same loss with batch normalisation.

References
----------
.. [1] Kingma, Welling. Auto-Encoding Variational Bayes. ICLR 2014.
.. [2] Higgins, Matthey, Pal, Burgess, Glorot, Botvinick, Mohamed, Lerchner. beta-VAE. ICLR 2017.
.. [3] Zimmerer, Isensee, Petersen, Kohl, Maier-Hein. Unsupervised Anomaly Localization using
   Variational Auto-Encoders. MICCAI 2019.
.. [4] Baur, Denner, Wiestler, Navab, Albarqouni. Autoencoders for unsupervised anomaly
   segmentation in brain MR images: a comparative study. Medical Image Analysis 2021.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from medglean.errors import UsageError
from medglean.nn.dvae import Posterior, kl_divergence, with_noise
from medglean.randomness import key_of

MULTIPLIERS = (1, 2, 4, 8)
"""Channels after each halving, times the width."""
SHRINKS = 2 ** len(MULTIPLIERS)
"""The side must be a multiple of this."""
SLOPE = 0.2
"""Of LeakyReLU below 0."""
MOST_GROUPS = 8
"""Of channels that are normalised together."""


class Vae(nn.Module):
    """The autoencoder for square images.

    Parameters
    ----------
    side_px
        Side of the image, a multiple of 16.
    in_channels
        Channels of the image.
    width
        Channels after the first halving; 2, 4 and 8 times as many after the others.
    latent
        Numbers in the code.

    Raises
    ------
    UsageError
        If the side is no multiple of 16, or a number is not positive.
    """

    def __init__(
        self, *, side_px: int, in_channels: int = 1, width: int = 32, latent: int = 128
    ) -> None:
        super().__init__()
        _check(side_px=side_px, in_channels=in_channels, width=width, latent=latent)
        self.side_px, self.in_channels, self.latent = side_px, in_channels, latent
        self.smallest = (MULTIPLIERS[-1] * width, side_px // SHRINKS, side_px // SHRINKS)
        flat = self.smallest[0] * self.smallest[1] * self.smallest[2]
        widths = [in_channels, *(multiplier * width for multiplier in MULTIPLIERS)]
        self.convolutions = nn.ModuleList(
            _normalised(nn.Conv2d(i, o, kernel_size=4, stride=2, padding=1))
            for i, o in itertools.pairwise(widths)
        )
        self.to_posterior = nn.Linear(flat, 2 * latent)
        self.from_latent = nn.Linear(latent, flat)
        self.deconvolutions = nn.ModuleList(
            _normalised(nn.ConvTranspose2d(i, o, kernel_size=4, stride=2, padding=1))
            for i, o in itertools.pairwise(widths[:0:-1])
        )
        self.to_pixels = nn.ConvTranspose2d(width, in_channels, kernel_size=4, stride=2, padding=1)

    def encode(self, images: Float[Tensor, "b c h w"]) -> Posterior:
        """Return the posterior of images with values in [0, 1].

        Raises
        ------
        UsageError
            If the images have another side or number of channels than the network.
        """
        own = (self.in_channels, self.side_px, self.side_px)
        if tuple(images.shape[1:]) != own:
            raise UsageError(
                f"the images have (channels, height, width) = {tuple(images.shape[1:])}, this VAE "
                f"takes {own}. Prepare them with the preset that it was trained with."
            )
        maps = images
        for convolution in self.convolutions:
            maps = convolution(maps)
        # float32: the exponential of a log variance in bfloat16 is off by a percent
        mean, log_variance = self.to_posterior(maps.flatten(1)).float().chunk(2, dim=1)
        return Posterior(mean, log_variance)

    def decode(self, z: Float[Tensor, "b latent"]) -> Float[Tensor, "b c h w"]:
        """Return the image that a code stands for, with values in [0, 1]."""
        maps: Tensor = F.leaky_relu(self.from_latent(z), SLOPE).view(-1, *self.smallest)
        for deconvolution in self.deconvolutions:
            maps = deconvolution(maps)
        return torch.sigmoid(self.to_pixels(maps).float())

    def forward(
        self, images: Float[Tensor, "b c h w"], noise: Float[Tensor, "b latent"] | None = None
    ) -> tuple[Float[Tensor, "b c h w"], Posterior]:
        """Encode, draw the code with the given standard normal noise, and decode.

        Returns
        -------
        tuple
            The rebuilt images and the posterior. Without noise the code is the posterior's mean.
        """
        posterior = self.encode(images)
        z = posterior.mean if noise is None else with_noise(posterior, noise)
        return self.decode(z), posterior


def build_vae(
    *, side_px: int, in_channels: int = 1, width: int = 32, latent: int = 128, seed: int = 0
) -> Vae:
    """Build the network, initialised from ``seed``; no global random state is changed.

    Weights are drawn after He et al. 2015 for the layers before a LeakyReLU, biases are 0.

    Raises
    ------
    UsageError
        As `Vae`.

    Examples
    --------
    >>> network = build_vae(side_px=32, width=4, latent=8)
    >>> rebuilt, posterior = network(torch.zeros(2, 1, 32, 32))
    >>> tuple(rebuilt.shape), tuple(posterior.mean.shape)
    ((2, 1, 32, 32), (2, 8))
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key_of(seed, "initialisation"))
        network = Vae(side_px=side_px, in_channels=in_channels, width=width, latent=latent)
        for layer in network.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_uniform_(layer.weight, a=SLOPE, nonlinearity="leaky_relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        return network


class VaeLoss(NamedTuple):
    """The loss and its two parts, means over the batch.

    Attributes
    ----------
    total
        ``reconstruction + beta * kl``.
    reconstruction
        Squared error summed over pixels and channels.
    kl
        KL divergence of the posterior from the prior, summed over the code, in nats.
    """

    total: Tensor
    reconstruction: Tensor
    kl: Tensor


def vae_loss(
    rebuilt: Float[Tensor, "b c h w"],
    images: Float[Tensor, "b c h w"],
    posterior: Posterior,
    *,
    beta: float = 1.0,
) -> VaeLoss:
    r"""Return the negative evidence bound of a Gaussian decoder, with a weight on its divergence.

    .. math:: \sum_i (x_i - \hat x_i)^2 + \beta \, \mathrm{KL}(q(z | x) \,\|\, \mathcal N(0, I))

    Equation 4 of [2]_, which for :math:`\beta = 1` is equation 10 of [1]_. The squared error is
    :math:`-\log p(x | z)`, but for a constant, of independent normal numbers with variance 1/2. A
    decoder of standard deviation :math:`\sigma` in the images' unit has this loss, times
    :math:`1 / 2\sigma^2`, at :math:`\beta = 2\sigma^2`.

    Parameters
    ----------
    rebuilt
        From the decoder, in [0, 1].
    images
        In [0, 1].
    posterior
        From the encoder.
    beta
        Weight of the divergence: larger blurs more and leaves less of a lesion.

    Examples
    --------
    >>> code = Posterior(torch.ones(1, 1), torch.zeros(1, 1))
    >>> loss = vae_loss(torch.zeros(1, 1, 1, 2), torch.full((1, 1, 1, 2), 0.5), code, beta=3.0)
    >>> [part.item() for part in loss]
    [2.0, 0.5, 0.5]
    """
    reconstruction = (images.float() - rebuilt.float()).square().flatten(1).sum(dim=1).mean()
    kl = kl_divergence(posterior).sum(dim=1).mean()
    return VaeLoss(reconstruction + beta * kl, reconstruction, kl)


def _normalised(convolution: nn.Conv2d | nn.ConvTranspose2d) -> nn.Sequential:
    channels = convolution.out_channels
    groups = math.gcd(MOST_GROUPS, channels)
    if groups == channels:  # a channel alone has no spread where its map is a single pixel
        groups = max(1, channels // 2)
    return nn.Sequential(convolution, nn.GroupNorm(groups, channels), nn.LeakyReLU(SLOPE))


def _check(*, side_px: int, **positive: int) -> None:
    if side_px < SHRINKS or side_px % SHRINKS:
        below = max(SHRINKS, side_px // SHRINKS * SHRINKS)
        raise UsageError(
            f"the VAE halves the side {len(MULTIPLIERS)} times, so it takes multiples of {SHRINKS} "
            f"pixels, got {side_px}. Set images.size_px to [{below}, {below}], or another multiple."
        )
    for name, number in positive.items():
        if number < 1:
            raise UsageError(f"the VAE's {name} is {number}, expected at least 1.")
