import numpy as np
import pytest
import torch

from medglean.errors import UsageError
from medglean.nn.backbones import parameter_count
from medglean.nn.segmentation import build_unet, segmentation_loss


def test_shape_and_size():
    network = build_unet(2, in_channels=3)

    assert tuple(network(torch.zeros(2, 3, 32, 48)).shape) == (2, 2, 32, 48)
    # counted from MONAI 1.6 for two structures and three channels
    assert 40_000 < parameter_count(network) < 60_000


def test_initialisation_is_a_function_of_the_seed_and_leaves_the_global_state():
    before = torch.random.get_rng_state()
    first, again, other = (
        build_unet(1, channels=(4, 8), seed=seed).state_dict() for seed in (1, 1, 2)
    )

    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("wrong", [{"channels": (8,)}, {"in_channels": 0}, {"residual_units": -1}])
def test_wrong_sizes_are_refused(wrong):
    with pytest.raises(UsageError, match="at least two levels and positive numbers"):
        build_unet(1, **wrong)


def test_loss_by_hand():
    # two pixels, logits 0: p = 0.5 each; one is inside. Cross-entropy ln 2 = 0.693147.
    # Dice 1 - (2 * 0.5 + 1e-5) / (1 + 1 + 1e-5) = 0.4999975
    loss = segmentation_loss(torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, 0.0]]]]))

    assert loss.item() == pytest.approx(0.693147 + 0.5, abs=1e-5)


def test_an_empty_mask_beside_a_full_one_keeps_the_dice_defined():
    masks = torch.zeros(2, 1, 4, 4)
    masks[0] = 1.0
    right = 20.0 * (2 * masks - 1)

    assert segmentation_loss(right, masks).item() == pytest.approx(0.0, abs=1e-5)
    assert segmentation_loss(-right, masks).item() > 10.0


def test_it_learns_a_square():
    network = build_unet(1, channels=(4, 8), seed=0)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(4, 1, 16, 16, generator=generator)
    masks = torch.zeros_like(images)
    masks[:, :, 4:12, 4:12] = 1.0
    images += 2 * masks
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        segmentation_loss(network(images), masks).backward()
        optimizer.step()

    found = (network(images) > 0).numpy()
    assert np.mean(found == masks.numpy().astype(bool)) > 0.9
