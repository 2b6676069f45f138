import dataclasses
import pickle
import time

import numpy as np
import pytest
import torch
from tests.stain.made_pairs import picture, preset, write_pairs

from medglean.errors import PresetError
from medglean.fitting import Loader
from medglean.stain.fetch import PairFetch, crop_positions, draw, perturbed
from medglean.stain.optics import perturb_stains
from medglean.stain.pairs import image_of, open_pairs, target_of
from medglean.stain.settings import AugmentSettings, WhiteSettings

STILL = {"flips": False, "quarter_turns": False}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    rows = write_pairs(folder, 4, label=["3+", "0", None, "1+"])
    return open_pairs(rows, preset(), cache=folder / "cache", workers=0)


def test_whole_images_without_augmentation(pairs):
    features = np.arange(8, dtype=np.float32).reshape(4, 2)

    batch = PairFetch(pairs, augment=None, features=features)(np.array([2, 0]), 5)

    np.testing.assert_allclose(batch["image"], 2 * image_of(pairs, [2, 0]) - 1, atol=1e-6)
    np.testing.assert_allclose(batch["target"], 2 * target_of(pairs, [2, 0]) - 1, atol=1e-6)
    assert batch["level"].tolist() == [-1, 3]
    assert batch["index"].tolist() == [2, 0]
    assert batch["features"].tolist() == [[4, 5], [0, 1]]
    np.testing.assert_allclose(batch["white"], pairs.white_targets[[2, 0]], rtol=1e-6)
    assert {name: value.dtype for name, value in batch.items()} == {
        "image": torch.float32,
        "target": torch.float32,
        "level": torch.int64,
        "white": torch.float32,
        "index": torch.int64,
        "features": torch.float32,
    }


def test_both_images_of_a_pair_are_cut_mirrored_and_turned_alike(tmp_path):
    rows = write_pairs(tmp_path, 2)
    pairs = open_pairs(rows, preset(), cache=None, workers=0)
    # the target holds where each pixel of the image came from
    pairs.images.cached.array.flags.writeable = True
    pairs.targets.cached.array.flags.writeable = True
    y, x = np.mgrid[:32, :32]
    for stored in (pairs.images.cached.array, pairs.targets.cached.array):
        stored[:, 0], stored[:, 1], stored[:, 2] = y, x, 7
    settings = AugmentSettings(crop_px=16, crops_per_image=30)
    batch = PairFetch(pairs, augment=settings)(crop_positions(np.arange(2), 30), 0)

    np.testing.assert_array_equal(batch["image"], batch["target"])
    place = ((batch["image"][:, :2].numpy() + 1) * 127.5).round().astype(int)
    corners = place[:, :, ::15, ::15]  # each crop is a square of 16 neighbouring pixels
    assert (corners.max(axis=(2, 3)) - corners.min(axis=(2, 3)) == 15).all()
    steps = np.stack(
        [corners[..., 1, 0] - corners[..., 0, 0], corners[..., 0, 1] - corners[..., 0, 0]], axis=1
    )
    ways = np.unique(steps.reshape(len(steps), 4), axis=0)
    assert len(ways) == 8  # all mirrorings and turns of a square occur
    starts = corners.min(axis=(2, 3))
    assert starts.min() >= 0
    assert starts.max() <= 16
    assert len(np.unique(starts, axis=0)) > 40


def test_a_crop_is_where_and_how_it_was_drawn(pairs):
    settings = AugmentSettings(crop_px=16, crops_per_image=3)
    position = np.array([3 * 3 + 1])
    drawn = draw(settings, size_px=(32, 32), seed=8, epoch=4, positions=position)

    batch = PairFetch(pairs, augment=settings, seed=8)(position, 4)

    (top, left), (upended, mirrored) = drawn.corner[0], drawn.flips[0]
    expected = (picture(3) / 255)[top : top + 16, left : left + 16]
    expected = np.flipud(expected) if upended else expected
    expected = np.fliplr(expected) if mirrored else expected
    expected = np.rot90(expected, int(drawn.turns[0]))
    np.testing.assert_allclose(batch["image"][0], 2 * expected.transpose(2, 0, 1) - 1, atol=1e-6)


def test_what_is_drawn_depends_on_seed_epoch_and_position_alone(pairs):
    settings = AugmentSettings(crop_px=16, crops_per_image=2, stain=0.1)
    fetch = PairFetch(pairs, augment=settings, seed=1)

    both, alone = fetch(np.array([5, 6]), 3), fetch(np.array([6]), 3)

    assert torch.equal(both["image"][1], alone["image"][0])
    assert both["index"].tolist() == [2, 3]
    for other in (
        fetch(np.array([6]), 4),
        fetch(np.array([7]), 3),  # the other crop of the same row
        PairFetch(pairs, augment=settings, seed=2)(np.array([6]), 3),
    ):
        assert not torch.equal(other["image"], alone["image"])


def test_switching_one_change_on_leaves_what_others_draw(pairs):
    positions = np.arange(4)
    plain = AugmentSettings(crop_px=16)
    more = plain.model_copy(update={"stain": 0.2})

    target = [PairFetch(pairs, augment=one)(positions, 0)["target"] for one in (plain, more)]

    assert torch.equal(*target)  # the target's stains stay, and the geometry is the same


def test_the_stains_of_the_image_are_changed_and_not_those_of_the_target(pairs):
    settings = AugmentSettings(crop_px=None, stain=0.3, **STILL)

    batch = PairFetch(pairs, augment=settings, seed=3)(np.arange(4), 0)

    drawn = draw(settings, size_px=(32, 32), seed=3, epoch=0, positions=np.arange(4))
    expected = perturb_stains(image_of(pairs, range(4)), drawn.multipliers, drawn.shifts)
    np.testing.assert_allclose(batch["image"], 2 * expected - 1, atol=1e-5)
    np.testing.assert_allclose(batch["target"], 2 * target_of(pairs, range(4)) - 1, atol=1e-6)
    assert np.abs(drawn.multipliers - 1).max() <= 0.3
    assert np.abs(drawn.shifts).max() <= 0.2 * 0.3
    assert np.abs(drawn.shifts).max() > 0.2 * 0.15


def test_the_quick_change_of_stains_equals_the_plain_one():
    rng = np.random.default_rng(0)
    image = rng.random((3, 9, 7), dtype=np.float32)
    image[:, 0, 0], image[:, 0, 1] = 0.0, 1.0
    multipliers, shifts = np.array([1.2, 0.7, 1.05]), np.array([0.05, -0.04, 0.02])

    expected = perturb_stains(image, multipliers, shifts)

    np.testing.assert_allclose(perturbed(image, multipliers, shifts), expected, atol=2e-6)


def test_white_is_divided_by_as_the_preset_says(pairs):
    normal = dataclasses.replace(pairs, white=WhiteSettings(normalise=True, inputs=True))

    batch = PairFetch(normal, augment=None)(np.array([1]), 0)

    np.testing.assert_allclose(batch["target"], 2 * target_of(normal, [1]) - 1, atol=1e-6)
    np.testing.assert_allclose(batch["image"], 2 * image_of(normal, [1]) - 1, atol=1e-6)
    assert batch["target"].max() == 1.0  # glass was 204 of 255
    assert batch["white"].tolist() == [[1, 1, 1]]


def test_it_travels_to_other_processes_by_the_names_of_its_files(pairs):
    fetch = PairFetch(pairs, augment=AugmentSettings(crop_px=16), seed=1)

    packed = pickle.dumps(fetch)

    assert len(packed) < 10_000  # images and targets take 24 kB
    again = pickle.loads(packed)(np.array([0, 3]), 2)
    assert torch.equal(again["image"], fetch(np.array([0, 3]), 2)["image"])
    assert torch.equal(again["target"], fetch(np.array([0, 3]), 2)["target"])


def test_a_loader_gives_every_crop_once_an_epoch(pairs):
    settings = AugmentSettings(crop_px=16, crops_per_image=3)
    positions = crop_positions(pairs.positions(), 3)
    loader = Loader(PairFetch(pairs, augment=settings), positions, batch_size=5, seed=0)

    rows = torch.cat([batch["index"] for batch in loader.epoch(0)]).tolist()

    assert sorted(rows) == sorted([0, 1, 2, 3] * 3)


def test_quarter_turns_of_oblong_images_are_refused(tmp_path):
    rows = write_pairs(tmp_path, 2)
    oblong = preset(images={"size_px": (16, 32), "channels": "rgb", "resize": "centre"})
    pairs = open_pairs(rows, oblong, cache=None, workers=0)

    with pytest.raises(PresetError, match="16 x 32 uncropped"):
        PairFetch(pairs, augment=AugmentSettings(crop_px=None))

    batch = PairFetch(pairs, augment=AugmentSettings(crop_px=None, quarter_turns=False))
    assert batch(np.array([0]), 0)["image"].shape == (1, 3, 16, 32)


def test_targets_and_matching_features_are_needed(pairs):
    with pytest.raises(ValueError, match="opened without targets"):
        PairFetch(dataclasses.replace(pairs, targets=None), augment=None)
    with pytest.raises(ValueError, match="3 rows of features for 4 pairs"):
        PairFetch(pairs, augment=None, features=np.zeros((3, 2), np.float32))


def test_a_crop_of_a_large_pair_takes_little_time(tmp_path):
    """A training step on a GPU takes some 20 ms; here 3 to 6 are measured."""
    rows = write_pairs(tmp_path, 1)
    large = preset(images={"size_px": (1024, 1024), "channels": "rgb", "resize": "stretch"})
    pairs = open_pairs(rows, large, cache=tmp_path / "cache", workers=0)
    fetch = PairFetch(pairs, augment=AugmentSettings(crop_px=512, stain=0.05))
    fetch(np.array([0]), 0)

    start = time.process_time()
    for epoch in range(5):
        fetch(np.array([0]), epoch)

    assert (time.process_time() - start) / 5 < 0.1  # five times the limit, for a slow machine
