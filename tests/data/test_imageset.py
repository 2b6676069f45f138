import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from medglean.data.augment_settings import Augment
from medglean.data.fetch import Fetch, Normalise, channel_statistics
from medglean.data.imageset import ImageSet
from medglean.data.manifest import Manifest
from medglean.data.prepare import prepare
from medglean.data.readers import read
from medglean.data.recipe import Recipe
from medglean.data.splits import split_by_group
from medglean.errors import DataError

RECIPE = Recipe(size_px=(16, 16))


@pytest.fixture
def images(tmp_path, write_images):
    return write_images(tmp_path / "images", 8)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "caches"


def several(images, labels):
    return images.with_columns(label=None, labels=labels)


def test_a_sample_says_what_is_known(images, folder):
    image_set = ImageSet(images, RECIPE, cache=folder, workers=0)
    assert len(image_set) == 8
    assert image_set.classes == ("normal", "pneumonia")
    sample = image_set[5]
    assert (sample.id, sample.group, sample.label, sample.target) == ("i5", "p2", "pneumonia", 1)
    assert sample.spacing_mm is None
    assert sample.image.dtype == np.float32
    exact = prepare(read("5.png", root=images.root), RECIPE)
    np.testing.assert_allclose(sample.image, exact, atol=0.5 / 255 + 1e-7)
    assert image_set[-1].id == "i7"
    assert [one.id for one in image_set[2:4]] == ["i2", "i3"]
    assert [one.id for one in image_set][-1] == "i7"
    with pytest.raises(IndexError):
        image_set[8]


def test_targets_follow_the_given_classes(images):
    image_set = ImageSet(
        images, RECIPE, cache=None, workers=0, classes=["covid", "pneumonia", "normal"]
    )
    assert image_set.classes == ("covid", "pneumonia", "normal")
    assert image_set.targets.tolist() == [2, 1] * 4
    assert image_set.targets.dtype == np.int64


def test_a_class_that_is_not_expected_is_an_error_before_anything_is_decoded(images, folder):
    with pytest.raises(DataError, match=r"'pneumonia' has 4 image\(s\).*expected are \['normal'\]"):
        ImageSet(images, RECIPE, cache=folder, classes=["normal"])
    assert not folder.exists()
    with pytest.raises(DataError, match="name one twice"):
        ImageSet(images, RECIPE, cache=folder, classes=["normal", "normal", "pneumonia"])


def test_rows_without_a_label_keep_their_place(images):
    labels = [None, "a", "b", "a", None, "b", "a", "b"]
    image_set = ImageSet(images.with_columns(label=labels), RECIPE, cache=None, workers=0)
    assert image_set.targets.tolist() == [-1, 0, 1, 0, -1, 1, 0, 1]
    assert image_set.positions().tolist() == [1, 2, 3, 5, 6, 7]
    assert image_set.positions(labelled=False).tolist() == list(range(8))
    assert image_set[0].label is None
    assert image_set[0].target is None
    assert image_set.ids == [f"i{row}" for row in range(8)]


def test_several_labels_per_image(images):
    labels = ["a;b", "", None, "b", "c;a", "a", "", "c"]
    image_set = ImageSet(
        several(images, labels), RECIPE, cache=None, workers=0, label_column="labels"
    )
    assert image_set.classes == ("a", "b", "c")
    assert image_set.targets.dtype == np.float32
    assert image_set.targets[[0, 1, 3, 4]].tolist() == [[1, 1, 0], [0, 0, 0], [0, 1, 0], [1, 0, 1]]
    assert np.isnan(image_set.targets[2]).all()
    assert image_set.positions().tolist() == [0, 1, 3, 4, 5, 6, 7]
    assert image_set[4].target.tolist() == [1, 0, 1]
    assert image_set[1].label == ""
    assert image_set[2].label is None


def test_images_that_failed_are_left_out_of_positions_but_keep_their_ids(images, folder):
    (images.root / "2.png").write_bytes(b"damaged")
    image_set = ImageSet(
        images.with_columns(sha256=None, bytes=None), RECIPE, cache=folder, workers=0
    )
    assert image_set.positions().tolist() == [0, 1, 3, 4, 5, 6, 7]
    assert image_set.positions(labelled=False).tolist() == [0, 1, 3, 4, 5, 6, 7]
    assert len(image_set.ids) == 8
    assert [failure.file for failure in image_set.failures] == ["2.png"]
    with pytest.raises(DataError, match=r"2\.png"):
        image_set[2]


def test_positions_of_a_part(images):
    split = split_by_group(images, fractions={"train": 0.75, "test": 0.25}, seed=0)
    image_set = ImageSet(split, RECIPE, cache=None, workers=0)
    train, test = image_set.positions("train"), image_set.positions("test")
    assert len(train) == 6
    assert sorted([*train, *test]) == list(range(8))
    assert not set(image_set.groups[train]) & set(image_set.groups[test])
    with pytest.raises(DataError, match=r"no column 'split'.*split_by_group"):
        ImageSet(images, RECIPE, cache=None, workers=0).positions("train")


def test_without_labels_there_are_no_classes(images):
    image_set = ImageSet(images.with_columns(label=None), RECIPE, cache=None, workers=0)
    assert image_set.classes == ()
    assert image_set.positions().tolist() == []
    assert len(image_set.positions(labelled=False)) == 8
    assert image_set[0].label is None


def test_missing_labels_read_as_text_are_labels(tmp_path, images):
    # "NA" is the name of a class; only the empty cell is missing
    labels = ["NA", "nan", None, "NA", "nan", None, "NA", "nan"]
    path = images.root / "manifest.csv"
    images.with_columns(label=labels).write(path)
    image_set = ImageSet(Manifest.read(path), RECIPE, cache=None, workers=0)
    assert image_set.classes == ("NA", "nan")
    assert len(image_set.positions()) == 6


def fetch_of(images, folder, **options):
    image_set = ImageSet(images, RECIPE, cache=folder, workers=0)
    return Fetch(image_set.stored, image_set.targets, **options)


def test_a_batch_is_tensors_in_the_order_asked_for(images, folder):
    image_set = ImageSet(images, RECIPE, cache=folder, workers=0)
    batch = Fetch(image_set.stored, image_set.targets)(np.array([6, 1, 3]), 0)
    assert batch["index"].tolist() == [6, 1, 3]
    assert batch["target"].tolist() == [0, 1, 1]
    assert batch["target"].dtype == batch["index"].dtype == torch.int64
    assert batch["image"].shape == (3, 1, 16, 16)
    assert batch["image"].dtype == torch.float32
    assert batch["image"].is_contiguous()
    for place, row in enumerate([6, 1, 3]):
        np.testing.assert_array_equal(batch["image"][place].numpy(), image_set[row].image)


@pytest.mark.parametrize("rule", ["none", "mean-sd", "image"])
def test_a_batch_depends_on_its_indices_epoch_and_seed_alone(images, folder, rule):
    constants = {"mean": (0.5,), "sd": (0.25,)} if rule == "mean-sd" else {}
    options = {
        "augment": Augment(rotation_deg=20, gamma=(0.5, 2), noise_sd=0.05),
        "normalise": Normalise(rule=rule, **constants),
    }
    fetch = fetch_of(images, folder, seed=3, **options)
    together = fetch(np.arange(8), 5)["image"]
    for row in range(8):
        torch.testing.assert_close(
            fetch(np.array([row]), 5)["image"][0], together[row], rtol=0, atol=0
        )
    assert not torch.equal(together, fetch(np.arange(8), 6)["image"])
    assert not torch.equal(
        together, fetch_of(images, folder, seed=4, **options)(np.arange(8), 5)["image"]
    )


def test_evaluation_is_the_same_in_every_epoch(images, folder):
    for augment in (None, Augment()):
        fetch = fetch_of(images, folder, augment=augment)
        first, later = (fetch(np.arange(8), epoch)["image"] for epoch in (0, 7))
        assert torch.equal(first, later)


def test_pickling_sends_the_name_of_the_file_not_the_images(images, folder):
    fetch = fetch_of(images, folder, augment=Augment(flip_horizontal=0.5))
    sent = pickle.dumps(fetch)
    assert len(sent) < 5000
    arrived = pickle.loads(sent)
    assert isinstance(arrived.stored, np.memmap)
    assert torch.equal(arrived(np.arange(8), 2)["image"], fetch(np.arange(8), 2)["image"])


def test_pickling_a_part_of_a_file_sends_that_part(images, folder):
    image_set = ImageSet(images, RECIPE, cache=folder, workers=0)
    part = Fetch(image_set.stored[3:], image_set.targets[3:])
    arrived = pickle.loads(pickle.dumps(part))
    np.testing.assert_array_equal(arrived.stored, image_set.stored[3:])


def test_normalising_by_constants_by_hand():
    images = torch.tensor([[[[0.5, 1.0]], [[0.2, 0.0]]]])
    out = Normalise(rule="mean-sd", mean=(0.5, 0.2), sd=(0.25, 0.1))(images)
    torch.testing.assert_close(out, torch.tensor([[[[0.0, 2.0]], [[0.0, -2.0]]]]))


def test_normalising_each_image_by_itself():
    images = torch.rand(3, 2, 8, 8) * 0.3 + 0.2
    images[1, 0] = 0.7  # constant
    out = Normalise(rule="image")(images.clone())
    np.testing.assert_allclose(out.mean(dim=(2, 3)), 0, atol=1e-4)
    spread = out.std(dim=(2, 3), correction=0)
    assert spread[1, 0] == 0
    assert torch.isfinite(out).all()
    spread[1, 0] = 1
    np.testing.assert_allclose(spread, 1, atol=1e-4)


def test_statistics_are_those_of_the_training_part_only():
    rng = np.random.default_rng(0)
    stored = rng.integers(0, 256, (600, 2, 4, 4), dtype=np.uint8)
    stored[:, 1] //= 2
    train = np.arange(0, 600, 2)
    found = channel_statistics(stored, train)
    values = stored[train] / 255
    np.testing.assert_allclose(found.mean, values.mean(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(found.sd, values.std(axis=(0, 2, 3)), rtol=1e-6)


def test_statistics_of_a_constant_channel_only_shift():
    found = channel_statistics(np.full((3, 1, 2, 2), 51, np.uint8), np.arange(3))
    assert found.mean == pytest.approx((0.2,))
    assert found.sd == (1.0,)


def test_targets_must_be_as_many_as_images(images, folder):
    image_set = ImageSet(images, RECIPE, cache=folder, workers=0)
    with pytest.raises(ValueError, match="8 images and 7 targets"):
        Fetch(image_set.stored, image_set.targets[1:])


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"rule": "mean-sd"}, "one mean and one sd per channel, got 0 and 0"),
        ({"rule": "mean-sd", "mean": (0.5,), "sd": (0.0,)}, "each sd must be at least"),
        ({"rule": "image", "mean": (0.5,), "sd": (0.2,)}, "are for rule 'mean-sd'"),
    ],
)
def test_bad_normalisation_is_refused(settings, match):
    with pytest.raises(ValidationError, match=match):
        Normalise(**settings)


def test_real_chest_x_rays(real_data, tmp_path):
    root = real_data("cxr_kermany_224")
    files = (
        sorted(root.rglob("*.jpeg"))[:4]
        or sorted(path for path in root.rglob("*") if path.suffix.lower() in (".png", ".jpg"))[:4]
    )
    frame = pd.DataFrame(
        {"id": [path.stem for path in files], "image": [str(p.relative_to(root)) for p in files]}
    )
    manifest = Manifest.from_frame(frame, root)
    image_set = ImageSet(manifest, Recipe(size_px=(64, 64)), cache=tmp_path, workers=0)
    assert image_set.failures == ()
    assert all(0.05 < sample.image.std() < 0.5 for sample in image_set)
