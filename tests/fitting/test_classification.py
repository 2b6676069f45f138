import math

import numpy as np
import pytest
import torch
from torch import nn

from medglean.fitting.classification import (
    class_weights,
    classification_loss,
    logits_of,
    make_step,
    mix_pairs,
    probabilities,
)


def test_cross_entropy_by_hand():
    # logits (0, ln 3): probabilities 1/4 and 3/4; the target is class 0: -ln(1/4)
    logits = torch.tensor([[0.0, math.log(3.0)]])

    loss = classification_loss(logits, torch.tensor([0]), kind="single")

    assert loss.item() == pytest.approx(math.log(4.0), abs=1e-6)


def test_binary_cross_entropy_by_hand():
    # sigmoid(ln 3) = 3/4: -ln(3/4) where present, -ln(1/4) where absent; the mean of the two
    logits = torch.tensor([[math.log(3.0), math.log(3.0)]])

    loss = classification_loss(logits, torch.tensor([[1.0, 0.0]]), kind="multi")

    assert loss.item() == pytest.approx(-0.5 * (math.log(0.75) + math.log(0.25)), abs=1e-6)


def test_smoothing_moves_the_multi_label_target_towards_one_half():
    logits = torch.tensor([[2.0]])

    smoothed = classification_loss(logits, torch.tensor([[1.0]]), kind="multi", smoothing=0.2)

    # target 0.9: -0.9 ln s(2) - 0.1 ln(1 - s(2)), with ln(1 - s(2)) = ln s(2) - 2
    log_s = -math.log(1 + math.exp(-2.0))
    assert smoothed.item() == pytest.approx(-0.9 * log_s - 0.1 * (log_s - 2.0), abs=1e-6)


def test_balanced_weights_make_classes_count_alike():
    weights = class_weights(np.array([0, 0, 0, 1]), kind="single", classes=2)

    assert weights.tolist() == pytest.approx([4 / (2 * 3), 4 / (2 * 1)])
    assert class_weights(np.array([0, 0]), kind="single", classes=2).tolist() == [0.5, 0.0]
    findings = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    assert class_weights(findings, kind="multi", classes=2).tolist() == [2.0, 1.0]


def test_mixed_pairs_keep_the_mean_and_repeat_with_the_seed():
    images = torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    target = torch.eye(2)[torch.arange(8) % 2]

    def mixed(seed):
        generator = torch.Generator().manual_seed(seed)
        return mix_pairs(images, target, alpha=0.4, generator=generator)

    first, first_target = mixed(3)
    again, _ = mixed(3)
    other, _ = mixed(4)

    torch.testing.assert_close(first.mean(), images.mean())
    torch.testing.assert_close(first_target.sum(dim=1), torch.ones(8))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, images)


@pytest.mark.parametrize("mixup", [0.0, 0.2])
def test_a_step_hands_its_loss_to_update_once(mixup):
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    step = make_step({"network": network}, kind="single", classes=2, mixup=mixup)
    handed = []

    losses = step(
        {"image": torch.rand(4, 1, 4, 4), "target": torch.tensor([0, 1, 1, 0])},
        torch.Generator().manual_seed(0),
        lambda loss, name: handed.append((loss, name)),
    )

    assert [name for _, name in handed] == ["network"]
    assert handed[0][0].requires_grad
    assert losses["loss"].item() == handed[0][0].item()


def test_logits_keep_the_order_and_the_mode():
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(4, 2)).train()
    batches = [torch.rand(3, 1, 2, 2), torch.rand(2, 1, 2, 2)]

    found = logits_of(network, batches)

    assert network.training
    network.eval()
    expected = network(torch.cat(batches)).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_flipping_averages_with_the_mirror_image():
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 1, bias=False))
    image = torch.rand(1, 1, 2, 2)

    both = logits_of(network, [image], flip=True)

    expected = 0.5 * (network(image) + network(image.flip(-1)))
    np.testing.assert_allclose(both, expected.detach().numpy(), rtol=1e-6)
    np.testing.assert_allclose(both, logits_of(network, [image.flip(-1)], flip=True), rtol=1e-6)


def test_probabilities():
    logits = np.array([[0.0, math.log(3.0)]], np.float32)

    np.testing.assert_allclose(probabilities(logits, kind="single"), [[0.25, 0.75]], rtol=1e-6)
    np.testing.assert_allclose(probabilities(logits, kind="multi"), [[0.5, 0.75]], rtol=1e-6)
