"""Generator and discriminator of Fixed-Point GAN: those of StarGAN with a residual output.

Images lie in [-1, 1]. A domain is a class of images, such as healthy or diseased, by its number.

References
----------
.. [1] Rahman Siddiquee, Zhou, Tajbakhsh, Feng, Gotway, Bengio, Liang. Learning Fixed Points in
   Generative Adversarial Networks: From Image-to-Image Translation to Disease Detection and
   Localization. ICCV 2019.
.. [2] Choi, Choi, Kim, Ha, Kim, Choo. StarGAN: Unified Generative Adversarial Networks for
   Multi-Domain Image-to-Image Translation. CVPR 2018.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from medglean.errors import UsageError
from medglean.randomness import key_of

HALVINGS = 2
"""Of the generator; the side must be a multiple of 4."""
SMALLEST_PX = 8
"""The generator's smallest map is then 2 x 2, the least that instance normalisation can do with."""
MOST_LAYERS = 6
"""Halvings of the discriminator for images of 128 px and more."""
SLOPE = 0.01
"""Of LeakyReLU below 0, in the discriminator."""


class Judgement(NamedTuple):
    """What the discriminator says of images.

    Attributes
    ----------
    realness
        Shape (b, 1, h', w'): one unbounded score per patch, larger for real images.
    domain
        Shape (b, domains): logits.
    slope
        Shape (b, c, h, w): gradient of the realness, summed over patches, with respect to the
        pixels of the points that were asked about; None where none were.
    """

    realness: Tensor
    domain: Tensor
    slope: Tensor | None = None


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.InstanceNorm2d(channels, affine=True),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.InstanceNorm2d(channels, affine=True),
        )

    def forward(self, maps: Tensor) -> Tensor:
        changed: Tensor = maps + self.body(maps)
        return changed


class Generator(nn.Module):
    r"""Translates images to a domain: :math:`G(x, c) = \tanh(x + \Delta(x, c))`.

    The domain is laid beside the image as planes of 0 and 1. A convolution of 7 x 7, two halvings,
    residual blocks, two doublings, a convolution of 7 x 7; instance normalisation and ReLU between
    them, as in [2]_. That the network gives a change of the image is from [1]_. Normalisation
    uses each image's own statistics, in training and after.

    Parameters
    ----------
    in_channels
        Channels of the image.
    domains
        Number of classes.
    width
        Channels after the first convolution; 2 and 4 times as many after the halvings.
    blocks
        Residual blocks.
    """

    def __init__(
        self, *, in_channels: int = 1, domains: int = 2, width: int = 64, blocks: int = 6
    ) -> None:
        super().__init__()
        _check_positive(in_channels=in_channels, domains=domains, width=width)
        self.in_channels, self.domains = in_channels, domains
        layers: list[nn.Module] = [
            nn.Conv2d(in_channels + domains, width, 7, padding=3, bias=False),
            *_normalised(width),
        ]
        for i in (width, 2 * width):
            layers += [nn.Conv2d(i, 2 * i, 4, stride=2, padding=1, bias=False)]
            layers += _normalised(2 * i)
        layers += [_Residual(4 * width) for _ in range(blocks)]
        for i in (4 * width, 2 * width):
            layers += [nn.ConvTranspose2d(i, i // 2, 4, stride=2, padding=1, bias=False)]
            layers += _normalised(i // 2)
        layers += [nn.Conv2d(width, in_channels, 7, padding=3, bias=False)]
        self.body = nn.Sequential(*layers)

    def forward(
        self, images: Float[Tensor, "b c h w"], domain: Int[Tensor, " b"]
    ) -> Float[Tensor, "b c h w"]:
        """Return the images in the given domains, in (-1, 1).

        Parameters
        ----------
        images
            In [-1, 1]; any height and width from 8 pixels on that are multiples of 4.
        domain
            Numbers of classes, from 0.

        Raises
        ------
        UsageError
            If a side is not such, or there are other channels than the network's.
        """
        channels, *sides = images.shape[1:]
        if channels != self.in_channels:
            raise UsageError(
                f"the images have {channels} channel(s), this generator takes {self.in_channels}. "
                "Prepare them with the preset that it was trained with."
            )
        for side in sides:
            _check_side(side)
        planes = F.one_hot(domain, self.domains).to(images.dtype)[:, :, None, None]
        beside = torch.cat([images, planes.expand(-1, -1, *sides)], dim=1)
        return torch.tanh(images + self.body(beside))


class Discriminator(nn.Module):
    """Says of each patch how real it is, and of the image which domain it is of.

    Convolutions (kernel 4, stride 2, LeakyReLU, no normalisation, as WGAN-GP asks for) down to a
    map of 2 x 2 or, from 128 px on, six of them; then one head of 3 x 3 for the realness of
    patches and one that sees the whole map for the domain. The published networks halve images of
    128 px six times; smaller ones are halved less here, so that there still is more than one patch.

    Parameters
    ----------
    side_px
        Side of the square images, a multiple of 4 from 8 on.
    in_channels
        Channels of the image.
    domains
        Number of classes.
    width
        Channels after the first convolution, doubled by each of the others.

    Raises
    ------
    UsageError
        If the side is another.
    """

    def __init__(
        self, *, side_px: int, in_channels: int = 1, domains: int = 2, width: int = 64
    ) -> None:
        super().__init__()
        _check_positive(in_channels=in_channels, domains=domains, width=width)
        _check_side(side_px)
        self.shape = (in_channels, side_px, side_px)
        layers: list[nn.Module] = []
        i, o = in_channels, width
        depth = discriminator_layers(side_px)
        for _ in range(depth):
            layers += [nn.Conv2d(i, o, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE)]
            i, o = o, 2 * o
        self.body = nn.Sequential(*layers)
        self.to_realness = nn.Conv2d(i, 1, 3, padding=1, bias=False)
        self.to_domain = nn.Conv2d(i, domains, side_px // 2**depth, bias=False)

    def forward(
        self, images: Float[Tensor, "b c h w"], points: Float[Tensor, "n c h w"] | None = None
    ) -> Judgement:
        """Judge images; with ``points``, also give the slope of the realness at these.

        The slope is computed in here, and in float32 whatever the precision of the rest: a
        gradient in bfloat16 has two digits, and its norm is to be held at 1. It can be
        differentiated with respect to the weights; the points themselves get no gradient.

        Raises
        ------
        UsageError
            If the images are of another size than the network was built for.
        """
        if tuple(images.shape[1:]) != self.shape:
            raise UsageError(
                f"the images have (channels, height, width) = {tuple(images.shape[1:])}, this "
                f"discriminator takes {self.shape}. Prepare them with the preset that it was "
                "trained with."
            )
        maps = self.body(images)
        slope = None if points is None else self._slope(points)
        return Judgement(self.to_realness(maps), self.to_domain(maps).flatten(1), slope)

    def _slope(self, points: Tensor) -> Tensor:
        points = points.detach().float().requires_grad_()
        with torch.autocast(points.device.type, enabled=False):
            realness = self.to_realness(self.body(points)).sum()
        return torch.autograd.grad(realness, points, create_graph=True)[0]


def discriminator_layers(side_px: int) -> int:
    """Return how often the discriminator halves the side: 6 times at most, to 2 px or an odd side.

    Examples
    --------
    >>> [discriminator_layers(side_px) for side_px in (8, 64, 128, 240, 256)]
    [2, 5, 6, 4, 6]
    """
    layers = 0
    while layers < MOST_LAYERS and side_px % 2 == 0 and side_px > 2:
        layers, side_px = layers + 1, side_px // 2
    return layers


def build_generator(
    *, in_channels: int = 1, domains: int = 2, width: int = 64, blocks: int = 6, seed: int = 0
) -> Generator:
    """Build the generator, initialised from ``seed``; no global random state is changed.

    Examples
    --------
    >>> network = build_generator(width=4, blocks=1)
    >>> tuple(network(torch.zeros(2, 1, 16, 16), torch.tensor([0, 1])).shape)
    (2, 1, 16, 16)
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key_of(seed, "initialisation", "generator"))
        return Generator(in_channels=in_channels, domains=domains, width=width, blocks=blocks)


def build_discriminator(
    *, side_px: int, in_channels: int = 1, domains: int = 2, width: int = 64, seed: int = 0
) -> Discriminator:
    """Build the discriminator, initialised from ``seed``; no global random state is changed.

    Examples
    --------
    >>> network = build_discriminator(side_px=64, width=4)
    >>> judgement = network(torch.zeros(3, 1, 64, 64))
    >>> tuple(judgement.realness.shape), tuple(judgement.domain.shape)
    ((3, 1, 2, 2), (3, 2))
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key_of(seed, "initialisation", "discriminator"))
        return Discriminator(side_px=side_px, in_channels=in_channels, domains=domains, width=width)


def _normalised(channels: int) -> list[nn.Module]:
    return [nn.InstanceNorm2d(channels, affine=True), nn.ReLU(inplace=True)]


def _check_side(side_px: int) -> None:
    times = 2**HALVINGS
    if side_px < SMALLEST_PX or side_px % times:
        near = max(SMALLEST_PX, side_px // times * times)
        raise UsageError(
            f"Fixed-Point GAN takes sides of {SMALLEST_PX} pixels and more that are multiples of "
            f"{times}, got {side_px}. Set images.size_px to [{near}, {near}], or another multiple."
        )


def _check_positive(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise UsageError(f"Fixed-Point GAN's {name} is {number}, expected at least 1.")
