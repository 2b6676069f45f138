import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional as F

from medglean.data.phantom.stain import stain_pair
from medglean.errors import UsageError
from medglean.nn.stain_gan import PatchJudgement
from medglean.stain import optics, optics_torch
from medglean.stain.lab import lab
from medglean.stain.losses import (
    adversarial_loss,
    block_statistics,
    colour_l1,
    density_l1,
    generator_losses,
    level_loss,
    pyramid_l1,
)
from medglean.stain.settings import LossSettings

WHITE = torch.tensor([[0.9, 0.85, 0.7], [1.0, 1.0, 1.0]], dtype=torch.float64)
BLUR = np.exp(-0.5 * np.array([1.0, 0.0, 1.0])) / np.exp(-0.5 * np.array([1.0, 0.0, 1.0])).sum()


def image_pair(seed=0, size_px=(32, 48)):
    """Two batches of two random images in [-1, 1], in double precision."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, 2, 3, *size_px, generator=generator, dtype=torch.float64) * 1.9 - 0.95


def phantom(level=3, size_px=(128, 128)):
    ihc = stain_pair(0, 0, level=level, size_px=size_px)[1]
    return torch.from_numpy(np.moveaxis(ihc, -1, 0)[None] / 127.5 - 1)


def amounts_of(images):
    """The numpy twin: amounts of haematoxylin, DAB and rest."""
    return optics.unmix(optics.optical_density((images.numpy() + 1) / 2, WHITE.numpy()))


def test_tensors_have_the_same_optics_as_arrays():
    image = (image_pair()[0] + 1) / 2
    image[0, :, 0, 0] = 0.0

    od = optics_torch.optical_density(image, WHITE)

    expected = optics.optical_density(image.numpy(), WHITE.numpy())
    np.testing.assert_allclose(od.numpy(), expected, atol=1e-12)
    for basis in ("h-dab", "h-e"):
        amounts = optics_torch.unmix(od, basis)
        np.testing.assert_allclose(amounts.numpy(), optics.unmix(expected, basis), atol=1e-12)
    np.testing.assert_allclose(optics_torch.lab(image).numpy(), lab(image.numpy()), atol=1e-9)


def test_adversarial_loss_is_the_cross_entropy_of_every_patch():
    patches = torch.tensor([[[[2.0, -1.0]]], [[[0.5, 0.0]]]])
    share = 1 / (1 + np.exp(-patches.numpy()))

    assert adversarial_loss(patches, real=True).item() == pytest.approx(-np.log(share).mean())
    assert adversarial_loss(patches, real=False).item() == pytest.approx(-np.log(1 - share).mean())
    assert (
        adversarial_loss(torch.full((1, 1, 1, 1), -200.0), real=True).item() == 200
    )  # no overflow


def test_level_loss_skips_images_without_a_level():
    logits = torch.tensor([[1.0, 2.0, 0.0], [5.0, 0.0, 0.0], [0.0, 0.0, 0.0]], requires_grad=True)

    loss = level_loss(logits, torch.tensor([1, -1, 2]))
    loss.backward()

    # log(e + e^2 + 1) - 2 and log 3
    by_hand = (math.log(math.e + math.e**2 + 1) - 2 + math.log(3)) / 2
    assert loss.item() == pytest.approx(by_hand)
    assert logits.grad[1].tolist() == [0, 0, 0]
    alone = level_loss(logits, torch.tensor([-1, -1, 2]))
    assert alone.item() == pytest.approx(math.log(3))


def test_level_loss_of_no_level_is_0_and_has_a_gradient_of_0():
    logits = torch.ones(2, 4, requires_grad=True)

    loss = level_loss(logits, torch.tensor([-1, -1]))
    loss.backward()

    assert loss.item() == 0
    assert logits.grad.abs().max() == 0


@pytest.mark.parametrize("octaves", [1, 2, 3])
def test_pyramid_is_four_blurs_and_every_other_pixel(octaves):
    fake, real = image_pair()
    levels = []
    planes = [fake.numpy(), real.numpy()]
    for octave in range(octaves):
        if octave:
            for _ in range(4):
                for axis in (2, 3):
                    # "mirror" repeats without the border's own pixel
                    planes = [ndimage.correlate1d(p, BLUR, axis, mode="mirror") for p in planes]
            planes = [plane[:, :, ::2, ::2] for plane in planes]
        levels.append(np.abs(planes[0] - planes[1]).mean())

    assert pyramid_l1(fake, real, octaves=octaves).item() == pytest.approx(np.mean(levels))


def test_one_octave_is_l1():
    fake, real = image_pair()

    torch.testing.assert_close(pyramid_l1(fake, real, octaves=1), F.l1_loss(fake, real))


def test_pyramid_forgives_a_shift_of_two_pixels_but_not_a_wrong_colour():
    real = phantom()
    shifted = torch.roll(real, (2, 2), dims=(2, 3))
    other = real + 0.2

    # how much of L1 is left: a shift hardly shows in the small octaves, a colour does in all
    left_of_shift = pyramid_l1(shifted, real, octaves=4) / F.l1_loss(shifted, real)
    left_of_colour = pyramid_l1(other, real, octaves=4) / F.l1_loss(other, real)

    assert left_of_shift.item() < 0.6
    assert left_of_colour.item() == pytest.approx(1)


def test_pyramid_refuses_images_without_room():
    small = torch.zeros(1, 3, 19, 32)

    with pytest.raises(UsageError, match="at least 20"):
        pyramid_l1(small, small, octaves=4)
    assert pyramid_l1(small, small, octaves=3).item() == 0
    assert pyramid_l1(torch.zeros(1, 3, 20, 20), torch.zeros(1, 3, 20, 20), octaves=4).item() == 0


def test_density_l1_equals_its_numpy_twin():
    fake, real = image_pair()
    real[:, :, :16] = 2 * WHITE[:, :, None, None] - 1  # glass

    loss = density_l1(fake, real, WHITE, background=4.0)

    od = optics.optical_density((real.numpy() + 1) / 2, WHITE.numpy())
    weights = np.where(od.mean(axis=1, keepdims=True) < 0.05, 5.0, 1.0)
    assert (weights == 5).mean() == pytest.approx(0.5, abs=0.02)
    difference = np.abs(amounts_of(fake) - amounts_of(real))[:, :2]
    assert loss.item() == pytest.approx((weights * difference).mean())


def test_yellow_costs_more_in_the_background_than_in_tissue():
    od = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
    od[:, :, :4] = 0.4  # tissue above, background below
    real = 2 * 10**-od - 1
    in_tissue, in_background = (
        2 * 10 ** -(od + torch.tensor([0, 0, 0.1])[:, None, None] * where) - 1
        for where in ((od > 0.2).double(), (od < 0.2).double())
    )
    white = torch.ones(1, 3, dtype=torch.float64)

    tissue, background = (
        density_l1(fake, real, white, background=4.0).item() for fake in (in_tissue, in_background)
    )

    assert background == pytest.approx(5 * tissue)
    even = density_l1(in_background, real, white, background=0.0).item()
    assert even == pytest.approx(tissue)


def test_pale_yellow_is_little_to_l1_and_much_to_the_density_of_the_background():
    # blue of 0.9 instead of 1 in the background, or of 0.3 instead of 0.4 in dark tissue
    pale, dark = torch.ones(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.4)
    yellow, other = pale.clone(), dark.clone()
    yellow[:, 2] -= 0.1
    other[:, 2] -= 0.1
    pairs = [(2 * fake - 1, 2 * real - 1) for fake, real in ((yellow, pale), (other, dark))]

    l1 = [F.l1_loss(*pair).item() for pair in pairs]
    density = [density_l1(*pair, torch.ones(1, 3), background=4.0).item() for pair in pairs]

    assert l1[0] == pytest.approx(l1[1])
    assert density[0] > 1.5 * density[1]


def test_colour_l1_equals_its_numpy_twin_and_is_blind_to_lightness():
    fake, real = image_pair()

    def shrunk(images):
        return ((images.numpy() + 1) / 2).reshape(2, 3, 8, 4, 12, 4).mean(axis=(3, 5))

    expected = np.abs(lab(shrunk(fake)) - lab(shrunk(real)))[:, 1:].mean() / 100
    assert colour_l1(fake, real).item() == pytest.approx(expected)
    grey, black = torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), -1.0)
    assert colour_l1(grey, black).item() == pytest.approx(0, abs=1e-4)
    assert colour_l1(torch.zeros(1, 3, 2, 3), torch.zeros(1, 3, 2, 3)).item() == 0


def test_block_statistics_equal_their_numpy_twin():
    fake, real = image_pair(size_px=(33, 50))

    loss = block_statistics(fake, real, WHITE, block_px=16)

    def statistics(images):
        dab = amounts_of(images)[:, 1, :32, :48].reshape(2, 2, 16, 3, 16)
        blocks = dab.transpose(0, 1, 3, 2, 4).reshape(2, 6, 256)
        high = np.percentile(blocks, 90, axis=2, method="inverted_cdf")
        return np.stack([blocks.mean(axis=2), high])

    assert loss.item() == pytest.approx(np.abs(statistics(fake) - statistics(real)).mean())


def test_block_statistics_do_not_see_where_in_a_block_a_pixel_lies():
    real = image_pair(size_px=(16, 16))[1]
    inside, across = real.clone(), real.clone()
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    for rows in (slice(0, 8), slice(8, 16)):
        for columns in (slice(0, 8), slice(8, 16)):
            block = inside[:, :, rows, columns]
            inside[:, :, rows, columns] = block.flatten(2)[:, :, order].reshape(block.shape)
    across[:, :, :8], across[:, :, 8:] = real[:, :, 8:], real[:, :, :8]

    assert block_statistics(inside, real, WHITE, block_px=8).item() == pytest.approx(0, abs=1e-12)
    assert F.l1_loss(inside, real) > 0.1
    assert block_statistics(across, real, WHITE, block_px=8).item() > 0.01


def test_a_small_image_is_one_block():
    fake, real = image_pair(size_px=(8, 8))

    whole, one = (block_statistics(fake, real, WHITE, block_px=side) for side in (64, 8))

    torch.testing.assert_close(whole, one)


LOSSES = {
    "adversarial": lambda fake, real: adversarial_loss(fake[:, :1] * 100, real=True),
    "pyramid": lambda fake, real: pyramid_l1(fake, real, octaves=2),
    "density": lambda fake, real: density_l1(fake, real, WHITE[:1].float(), background=4.0),
    "colour": colour_l1,
    "blocks": lambda fake, real: block_statistics(fake, real, WHITE[:1].float(), block_px=8),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
def test_gradients_are_finite_at_black_and_at_white(name, value):
    fake = torch.full((1, 3, 16, 16), value, requires_grad=True)
    real = torch.linspace(-1, 1, 256).reshape(1, 1, 16, 16).repeat(1, 3, 1, 1)

    loss = LOSSES[name](fake, real)
    loss.backward()

    assert loss.isfinite()
    assert fake.grad.isfinite().all()


@pytest.mark.parametrize(("name", "left"), [("density", 0.1), ("colour", 0.1), ("blocks", 0.5)])
def test_gradients_lead_to_the_right_colour(name, left):
    brown = torch.tensor([0.2, -0.2, -0.6])[None, :, None, None].expand(1, 3, 8, 8)
    fake = torch.tensor([0.2, 0.3, 0.6])[None, :, None, None].repeat(1, 1, 8, 8).requires_grad_()
    losses = []
    for _ in range(60):
        losses.append(LOSSES[name](fake, brown))
        (slope,) = torch.autograd.grad(losses[-1], fake)
        fake = (fake - 0.02 * slope.sign()).detach().requires_grad_()

    # the percentile of a block moves one pixel at a time
    assert losses[-1] < left * losses[0]


def test_generator_losses_are_the_single_ones_times_their_weights():
    fake, real = image_pair()
    judged = PatchJudgement(
        patches=torch.tensor([[[[0.3]]], [[[-2.0]]]]), levels=torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    )
    level = torch.tensor([1, -1])
    settings = LossSettings(
        adversarial=2, level=3, l1=5, pyramid=7, octaves=2, density=11, background=1.5, colour=13,
        blocks=17, block_px=8,
    )  # fmt: skip

    losses = generator_losses(fake, real, WHITE, judged, level, settings, background_od=0.1)

    expected = {
        "adversarial": 2 * adversarial_loss(judged.patches, real=True),
        "level": 3 * level_loss(judged.levels, level),
        "l1": 5 * (fake - real).abs().mean(),
        "pyramid": 7 * pyramid_l1(fake, real, octaves=2),
        "density": 11 * density_l1(fake, real, WHITE, background=1.5, background_od=0.1),
        "colour": 13 * colour_l1(fake, real),
        "blocks": 17 * block_statistics(fake, real, WHITE, block_px=8),
    }
    assert losses.keys() == expected.keys()
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name])


def test_what_weighs_nothing_is_left_out():
    fake, real = image_pair()
    level = torch.tensor([0, 1])
    judged = PatchJudgement(patches=torch.zeros(2, 1, 1, 1), levels=None)

    alone = generator_losses(fake, real, WHITE, None, level, LossSettings(adversarial=0))
    headless = generator_losses(fake, real, WHITE, judged, level, LossSettings())

    assert alone.keys() == {"l1"}
    assert headless.keys() == {"adversarial", "l1"}
    with pytest.raises(UsageError, match="is 1 and there is no discriminator"):
        generator_losses(fake, real, WHITE, None, level, LossSettings())
