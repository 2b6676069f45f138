import numpy as np
import pytest
import torch
from tests.stain.tiny import tiny_preset

from medglean.nn.backbones import ARCHITECTURES
from medglean.stain.levels import (
    LevelClassifier,
    LevelFetch,
    level_features,
    level_validation,
    predict_levels,
    shrinking,
    shrunk,
    shrunken_store,
)
from medglean.stain.settings import AugmentSettings

PLAIN = AugmentSettings(flips=False, quarter_turns=False)
IMAGES = np.random.default_rng(0).random((3, 3, 64, 64), dtype=np.float32)


@pytest.fixture(scope="module")
def network():
    return LevelClassifier("tiny", levels=4).eval()


def test_four_pixels_become_their_mean():
    image = np.arange(32, dtype=np.float32).reshape(1, 2, 4, 4)

    small = shrunk(image, 2.0)

    assert small[0, 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]
    assert small[0, 1, 0, 0] == 2.5 + 16
    assert shrunk(image, 1.0) is image


def test_the_longer_side_decides_how_much_images_are_shrunk():
    wide = tiny_preset(images={"size_px": [64, 128]})
    small = tiny_preset(level={"size_px": 256})

    assert shrinking(tiny_preset()) == 2.0
    assert shrinking(wide) == 4.0
    assert shrinking(small) == 1.0  # never enlarged


@pytest.mark.parametrize("architecture", ["tiny", "alexnet", "resnet18"])
def test_features_are_the_mean_of_the_last_map(architecture):
    classifier = LevelClassifier(architecture, levels=4).eval()
    images = torch.randn(2, 3, 64, 64)

    given = []
    with torch.no_grad():
        found = classifier.features(images)
        if architecture == "alexnet":
            expected = classifier.backbone.features(images).mean(dim=(2, 3))
        else:
            classifier.backbone.fc.register_forward_pre_hook(lambda _layer, x: given.append(x[0]))
            classifier(images)
            expected = given[0]

    torch.testing.assert_close(found, expected)
    assert classifier.feature_count == {"tiny": 8, "alexnet": 256, "resnet18": 512}[architecture]
    assert not classifier.backbone.get_submodule(
        ARCHITECTURES[architecture].last_map
    )._forward_hooks


def test_features_are_of_the_shrunken_image_in_the_range_of_networks(network):
    found = level_features(network, IMAGES, tiny_preset())

    small = IMAGES.reshape(3, 3, 32, 2, 32, 2).mean(axis=(3, 5))
    with torch.no_grad():
        expected = network.features(torch.from_numpy(2 * small - 1))
    assert found.shape == (3, 8)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)
    assert level_features(network, IMAGES[:0], tiny_preset()).shape == (0, 8)


def test_probabilities_of_levels_add_up_to_one(network):
    found = predict_levels(network, IMAGES, tiny_preset())

    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    with torch.no_grad():
        logits = network(torch.from_numpy(2 * shrunk(IMAGES, 2.0) - 1))
    np.testing.assert_allclose(found, logits.softmax(dim=1).numpy(), atol=1e-6)
    assert predict_levels(network, IMAGES[:0], tiny_preset()).shape == (0, 4)


def test_only_images_that_are_asked_for_are_shrunk_and_kept():
    store = shrunken_store(lambda rows: IMAGES[rows], np.array([0, 2]), tiny_preset(), count=3)

    np.testing.assert_allclose(store[2] / 255, shrunk(IMAGES, 2.0)[2], atol=0.5 / 255 + 1e-6)
    assert not store[1].any()
    assert store.shape == (3, 3, 32, 32)


@pytest.fixture
def store():
    return shrunken_store(lambda rows: IMAGES[rows], np.arange(3), tiny_preset(), count=3)


def test_a_batch_is_in_the_range_of_networks(store):
    batch = LevelFetch(store, np.array([2, 0, 1]))(np.array([1, 2]), 0)

    np.testing.assert_allclose(batch["image"], 2 * (store[1:] / np.float32(255)) - 1, atol=1e-6)
    assert batch["target"].tolist() == [0, 1]
    assert batch["index"].tolist() == [1, 2]


def test_mirroring_and_turning_move_pixels_and_change_none(store):
    settings = AugmentSettings(flips=True, quarter_turns=True)
    fetch = LevelFetch(store, np.zeros(3, np.int64), augment=settings, seed=3)
    rows = np.arange(3)

    seen = [fetch(rows, epoch)["image"] for epoch in range(4)]

    plain = LevelFetch(store, np.zeros(3, np.int64))(rows, 0)["image"]
    for images in seen:
        assert torch.equal(images.flatten(2).sort().values, plain.flatten(2).sort().values)
    assert any(not torch.equal(images, plain) for images in seen)
    assert torch.equal(fetch(rows[1:], 2)["image"], seen[2][1:])  # whatever batch it is in


def test_stains_change_in_colour_alone_and_stay_within_range(store):
    fetch = LevelFetch(store, np.zeros(3, np.int64), augment=PLAIN, stain=0.3, seed=1)

    first, again, later = (fetch(np.arange(3), epoch)["image"] for epoch in (0, 0, 1))

    plain = LevelFetch(store, np.zeros(3, np.int64))(np.arange(3), 0)["image"]
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
    assert first.min() >= -1
    assert first.max() <= 1
    assert 0.01 < (first - plain).abs().mean() < 0.3


def test_images_that_are_not_square_are_turned_by_no_quarter():
    store = np.random.default_rng(0).integers(0, 255, (2, 3, 32, 48), dtype=np.uint8)
    settings = AugmentSettings(flips=False, quarter_turns=True)

    images = LevelFetch(store, np.zeros(2, np.int64), augment=settings)(np.arange(2), 5)["image"]

    assert images.shape == (2, 3, 32, 48)


def test_a_classifier_is_judged_by_loss_and_accuracy(store):
    class Answers(torch.nn.Module):
        """Says level 1 with probability 0.8 of whatever it sees."""

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor([[0.2, 0.8]]).log())

        def forward(self, images):
            return self.weight.expand(len(images), 2)

    fetch = LevelFetch(store, np.array([1, 0, 1]))

    found = level_validation(fetch, np.arange(3))({"network": Answers()})

    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["loss"] == pytest.approx(-(2 * np.log(0.8) + np.log(0.2)) / 3, abs=1e-6)
