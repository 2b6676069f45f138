r"""What the networks of a virtual stain are trained on.

Images are red green blue in [-1, 1]; each loss is one number, the mean over a batch. Serial
sections do not lie on one another to the pixel, so besides L1 there are losses that forgive small
shifts (`pyramid_l1`) or any shift within a block (`block_statistics`). Two losses speak of colour
where L1 hardly does: a pale yellow background is a small difference of red green blue and reads
like a weak stain, so `density_l1` weighs it in optical density, and more than it does tissue.

References
----------
.. [1] Isola, Zhu, Zhou, Efros. Image-to-Image Translation with Conditional Adversarial Networks.
   CVPR 2017. Section 3.
.. [2] Liu, Zhu, Xu, et al. BCI: Breast Cancer Immunohistochemical Image Generation through
   Pyramid Pix2pix. CVPR Workshops 2022. Section 4; the blur is that of the authors' code.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from medglean.errors import UsageError
from medglean.nn.stain_gan import PatchJudgement
from medglean.stain import optics_torch as optics

if TYPE_CHECKING:
    from medglean.stain.settings import LossSettings

UNLABELLED = -1
BLUR_TIMES = 4
COLOUR_SHRINK = 4
COLOUR_UNIT = 100.0
HIGH_PERCENTILE = 90

Images = Float[Tensor, "b 3 h w"]
White = Float[Tensor, "b 3"]
Loss = Float[Tensor, ""]


def adversarial_loss(patches: Float[Tensor, "b 1 h w"], *, real: bool) -> Loss:
    """Return the binary cross-entropy of patches, all of them called real or all generated.

    The generator is trained on its own images called real: the form of [1]_ that does not saturate.

    Examples
    --------
    >>> round(adversarial_loss(torch.zeros(1, 1, 2, 2), real=True).item(), 4)
    0.6931
    """
    # -log sigmoid(x) for real, -log(1 - sigmoid(x)) for generated
    return F.softplus(-patches if real else patches).mean()


def level_loss(logits: Float[Tensor, "b k"], level: Int[Tensor, " b"]) -> Loss:
    """Return the cross-entropy of the level over the images that have one.

    Parameters
    ----------
    logits
        One per level.
    level
        Position among the levels, or -1 where it is not known; 0 is the loss of none known.
    """
    known = (level != UNLABELLED).sum().clamp_min(1)
    return F.cross_entropy(logits, level, ignore_index=UNLABELLED, reduction="sum") / known


def pyramid_l1(fake: Images, real: Images, *, octaves: int) -> Loss:
    """Return the L1 of [2]_: the mean over octaves, each half as large as the one before.

    The first octave is the image itself; with 4 octaves and a weight of 100 in all each counts 25,
    as in the authors' training. Between octaves stand four blurs of 3 x 3 with a standard
    deviation of 1 pixel, mirrored at the border, and every other pixel is kept.

    Raises
    ------
    UsageError
        If the images are too small for that many octaves.

    Examples
    --------
    >>> pyramid_l1(torch.ones(1, 3, 16, 16), torch.zeros(1, 3, 16, 16), octaves=2).item()
    1.0
    """
    smallest = (BLUR_TIMES + 1) * 2 ** max(octaves - 2, 0) if octaves > 1 else 1
    if min(fake.shape[2:]) < smallest:
        raise UsageError(
            f"images of {tuple(fake.shape[2:])} pixels are too small for {octaves} octaves: "
            f"expected sides of at least {smallest}. Lower losses.octaves or use larger crops."
        )
    # blurring is linear: that of a difference is the difference of blurs
    difference = fake - real
    total = difference.abs().mean()
    for _ in range(octaves - 1):
        difference = _halved(difference)
        total = total + difference.abs().mean()
    return total / octaves


def density_l1(
    fake: Images, real: Images, white: White, *, background: float, background_od: float = 0.05
) -> Loss:
    """Return the L1 of the optical densities of haematoxylin and DAB, more of it in background.

    Parameters
    ----------
    white
        White point of each real image, as share of full scale: ones where images were divided by
        theirs. It holds for both images: the generated one is in the space of the real one.
    background
        Further weight of pixels where the mean optical density of the real image's channels lies
        below ``background_od``: they count 1 + ``background`` times.
    """
    od = _density(real, white)
    return _density_l1(
        optics.unmix(_density(fake, white)),
        optics.unmix(od),
        _weights(od, background, background_od),
    )


def colour_l1(fake: Images, real: Images) -> Loss:
    """Return the L1 of Lab's a and b, in units of 100, at a quarter of the resolution.

    Lightness is left out: hue and saturation are what goes wrong, and structure is L1's.
    """
    first, second = (optics.lab(_shrunk((image + 1) / 2))[:, 1:] for image in (fake, real))
    return (first - second).abs().mean() / COLOUR_UNIT


def block_statistics(fake: Images, real: Images, white: White, *, block_px: int) -> Loss:
    """Return the L1 of the mean and of the 90th percentile of DAB's density, block by block.

    Where in a block the stain lies makes no difference.

    Parameters
    ----------
    white
        As for `density_l1`.
    block_px
        Side of a block. Rows and columns at the end that fill none are left out; an image that is
        smaller is one block.
    """
    dab = [optics.unmix(_density(image, white))[:, 1] for image in (fake, real)]
    return _block_l1(dab[0], dab[1], block_px)


def generator_losses(
    fake: Images,
    real: Images,
    white: White,
    judged: PatchJudgement | None,
    level: Int[Tensor, " b"],
    settings: LossSettings,
    *,
    background_od: float = 0.05,
) -> dict[str, Loss]:
    """Return what the generator is trained on, by name, each times its weight.

    Parameters
    ----------
    fake, real
        Generated and real targets.
    white
        White point of the real images in the space that they are now in; ones where normalised.
    judged
        What the discriminator says of the generated images; ``None`` without a discriminator.
    level
        Of each image, -1 where it is not known.
    settings
        The weights; a loss whose weight is 0 is neither computed nor returned.
    background_od
        As for `density_l1`.

    Returns
    -------
    dict
        Some of ``adversarial``, ``level``, ``l1``, ``pyramid``, ``density``, ``colour`` and
        ``blocks``; the loss to minimise is their sum.

    Raises
    ------
    UsageError
        If the adversarial loss has a weight and nothing was judged.
    """
    losses: dict[str, Tensor] = {}
    if settings.adversarial:
        if judged is None:
            raise UsageError(
                f"losses.adversarial is {settings.adversarial:g} and there is no discriminator: "
                "expected what it says of the generated images. Set losses.adversarial=0."
            )
        losses["adversarial"] = settings.adversarial * adversarial_loss(judged.patches, real=True)
        if settings.level and judged.levels is not None:
            losses["level"] = settings.level * level_loss(judged.levels, level)
    if settings.l1:
        losses["l1"] = settings.l1 * F.l1_loss(fake, real)
    if settings.pyramid:
        losses["pyramid"] = settings.pyramid * pyramid_l1(fake, real, octaves=settings.octaves)
    if settings.density or settings.blocks:
        # both are of the same densities
        od = _density(real, white)
        amounts, aim = optics.unmix(_density(fake, white)), optics.unmix(od)
        if settings.density:
            weights = _weights(od, settings.background, background_od)
            losses["density"] = settings.density * _density_l1(amounts, aim, weights)
        if settings.blocks:
            blocks = _block_l1(amounts[:, 1], aim[:, 1], settings.block_px)
            losses["blocks"] = settings.blocks * blocks
    if settings.colour:
        losses["colour"] = settings.colour * colour_l1(fake, real)
    return losses


def _density(image: Images, white: White) -> Images:
    return optics.optical_density((image + 1) / 2, white)


def _weights(od: Images, background: float, background_od: float) -> Float[Tensor, "b 1 h w"]:
    return 1 + background * (od.mean(dim=1, keepdim=True) < background_od).to(od)


def _density_l1(amounts: Images, aim: Images, weights: Float[Tensor, "b 1 h w"]) -> Loss:
    return ((amounts - aim)[:, :2].abs() * weights).mean()


def _block_l1(dab: Float[Tensor, "b h w"], aim: Float[Tensor, "b h w"], block_px: int) -> Loss:
    first, second = (_block_values(plane, block_px) for plane in (dab, aim))
    return (first - second).abs().mean()


def _block_values(plane: Float[Tensor, "b h w"], block_px: int) -> Float[Tensor, "2 b n"]:
    """Return the mean and the 90th percentile (nearest rank) of each block."""
    count, height, width = plane.shape
    tall, wide = min(block_px, height), min(block_px, width)
    rows, columns = height // tall, width // wide
    blocks = plane[:, : rows * tall, : columns * wide].reshape(count, rows, tall, columns, wide)
    blocks = blocks.transpose(2, 3).reshape(count, rows * columns, tall * wide)
    above = blocks.shape[2] - math.ceil(HIGH_PERCENTILE / 100 * blocks.shape[2])
    # not kthvalue, which CUDA has in no form that repeats itself
    high = blocks.topk(above + 1, dim=2).values[:, :, -1]
    return torch.stack([blocks.mean(dim=2), high])


def _halved(images: Images) -> Images:
    """Blur four times and keep every other pixel: one filter along each axis is the same."""
    once = torch.tensor([math.exp(-0.5), 1.0, math.exp(-0.5)], dtype=torch.float64)
    taps = once = once / once.sum()
    for _ in range(BLUR_TIMES - 1):
        taps = F.conv1d(taps[None, None], once[None, None], padding=2)[0, 0]
    count, channels, height, width = images.shape
    planes = images.reshape(count * channels, 1, height, width)
    kernel = taps.to(images)
    planes = F.conv2d(_mirrored(planes, 3), kernel[None, None, None, :], stride=(1, 2))
    planes = F.conv2d(_mirrored(planes, 2), kernel[None, None, :, None], stride=(2, 1))
    return planes.reshape(count, channels, *planes.shape[2:])


def _mirrored(planes: Tensor, dim: int) -> Tensor:
    """Add `BLUR_TIMES` mirrored pixels at both ends; torch's own way has no repeatable gradient."""
    start = planes.narrow(dim, 1, BLUR_TIMES).flip(dim)
    end = planes.narrow(dim, planes.shape[dim] - 1 - BLUR_TIMES, BLUR_TIMES).flip(dim)
    return torch.cat([start, planes, end], dim=dim)


def _shrunk(images: Images) -> Images:
    """Average squares of 4 x 4 pixels; fewer where the image is smaller."""
    height, width = images.shape[2:]
    return F.avg_pool2d(images, (min(COLOUR_SHRINK, height), min(COLOUR_SHRINK, width)))
