"""Classifiers and segmenters on images whose answer is easy to see."""

import math

import numpy as np
import pytest
import torch

from medglean.curate.study.classifiers import class_scores, classify
from medglean.curate.study.material import Material
from medglean.curate.study.segmenters import PairFetch, mask_scores, segment
from medglean.curate.study.settings import LearnerSettings
from medglean.curate.study.training import length_of, one_thread
from medglean.data.augment_settings import Augment
from medglean.data.fetch import Fetch, Normalise
from medglean.data.recipe import Recipe
from medglean.errors import DataError
from medglean.fitting.settings import FitSettings, OptimizerSettings
from medglean.measure.pixels import overlap
from medglean.nn.floor import logistic, pool_components


def squares(count=40, side=32, masks=False):
    """Noise; class 1 has a bright square in its middle, which is its mask."""
    generator = np.random.default_rng(0)
    stored = generator.integers(0, 100, (count, 1, side, side), dtype=np.uint8)
    targets = np.arange(count) % 2
    inside = np.zeros((count, 1, side, side), dtype=bool)
    inside[targets == 1, :, 8:24, 8:24] = True
    stored[inside] += 120
    patients = np.array([f"p{row // 4}" for row in range(count)], dtype=object)
    if not masks:
        return Material(Fetch(stored, targets), ("without", "with"), patients)
    return Material(
        Fetch(stored, np.full(count, -1)), (), patients, Fetch(inside, targets), ("square",)
    )


LEARN, TEST = np.arange(24), np.arange(24, 40)


def settings(name, steps=12, **changes):
    return LearnerSettings(
        name=name,
        images=Recipe(size_px=(32, 32)),
        thumbnail_px=16,
        steps=steps,
        fit=FitSettings(
            batch_size=8, accelerator="cpu", optimizer=OptimizerSettings(learning_rate=1e-2)
        ),
        **changes,
    )


def test_pca_and_logistic_regression_learn_and_repeat_themselves(tmp_path):
    first, again = (
        classify(
            squares(),
            settings("pca-logistic"),
            learn=LEARN,
            test=TEST,
            pool=LEARN,
            seed=1,
            folder=tmp_path,
        )
        for _ in range(2)
    )

    assert first["auroc"] > 0.95
    assert again == first


def test_components_of_the_pool_are_found_without_labels(tmp_path):
    few = LEARN[:6]  # a quarter of six gives two components, the pool gives as many as it spans
    how = {"learn": few, "test": TEST, "seed": 1, "folder": tmp_path}
    pool = settings("pca-logistic", components="pool")
    found = classify(squares(), pool, pool=LEARN, **how)

    assert found == classify(squares(), pool, pool=LEARN, **how)
    material = squares()
    features = pool_components(material.images.stored, LEARN, size_px=16)
    np.testing.assert_allclose(features[LEARN].mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(features[LEARN].std(axis=0, ddof=1), 1, atol=1e-3)
    expected = logistic(
        features[few], material.targets[few], features[TEST], kind="single", classes=2
    )
    assert found == class_scores(material.targets[TEST], expected)
    assert found != classify(squares(), settings("pca-logistic"), pool=LEARN, **how)


def test_a_network_is_scored_and_leaves_nothing_behind(tmp_path):
    with one_thread():
        found = classify(
            squares(), settings("resnet18", steps=2), learn=LEARN, test=TEST, pool=LEARN, seed=1,
            folder=tmp_path / "w",
        )  # fmt: skip

    assert set(found) == {"auroc", "accuracy", "f1"}
    assert all(0 <= value <= 1 for value in found.values())
    assert not (tmp_path / "w").exists()


def test_a_subset_of_one_class_teaches_nothing(tmp_path):
    found = classify(
        squares(), settings("resnet18"), learn=np.array([1, 3, 5]), test=TEST, pool=LEARN, seed=0,
        folder=tmp_path,
    )  # fmt: skip

    assert found == {"auroc": 0.5, "accuracy": 0.5, "f1": pytest.approx(1 / 3)}


def test_class_scores_by_hand():
    # class 0: scores .9 .2 .4 of truths 1 0 1 -> all right, 1.0; class 1: only image 1 -> 1.0;
    # class 2 is not in the test part: no AUROC, and F1 counts it, for image 2 was called so
    target = np.array([0, 1, 0])
    probability = np.array([[0.9, 0.05, 0.05], [0.2, 0.7, 0.1], [0.4, 0.1, 0.5]])
    found = class_scores(target, probability)

    assert found["auroc"] == 1.0
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["f1"] == pytest.approx((2 / 3 + 1.0 + 0.0) / 3)
    assert math.isnan(class_scores(np.array([1, 1]), np.eye(2))["auroc"])


def test_a_unet_learns_and_repeats_itself(tmp_path):
    def scores(steps):
        chosen = settings("unet", steps=steps, augment=Augment(flip_horizontal=0.5))
        with one_thread():
            return segment(
                squares(masks=True), chosen, learn=LEARN, test=TEST, seed=3, folder=tmp_path / "w"
            )

    first = scores(40)
    assert first["jaccard"] > 0.5
    assert first["jaccard of square"] == first["jaccard"]
    assert scores(2) == scores(2)


def test_mask_scores_by_hand():
    # patient a: images with 1 of 2 and 0 of 1 pixels -> 1 / 3; b: nothing there, nothing found;
    # c: 1 of 1. Mean of 1/3 and 1; per image: (1/2 + 0 + 1) / 3; pooled 2 of 4
    truth = np.array([[1, 1], [0, 0], [0, 0], [1, 0]], dtype=bool)[:, None]
    predicted = np.array([[1, 0], [0, 1], [0, 0], [1, 0]], dtype=bool)[:, None]
    found = mask_scores(overlap(truth, predicted), np.array(["a", "a", "b", "c"]), ("one",))

    assert found["jaccard"] == pytest.approx(2 / 3)
    assert found["jaccard per image"] == pytest.approx(0.5)
    assert found["jaccard pooled"] == pytest.approx(0.5)
    assert found["dice"] == pytest.approx((0.5 + 1.0) / 2)


def test_nothing_in_any_mask_is_undefined():
    empty = np.zeros((2, 1, 3), dtype=bool)

    assert math.isnan(mask_scores(overlap(empty, empty), np.array(["a", "b"]), ("one",))["jaccard"])


def test_images_and_masks_flip_together():
    material = squares(masks=True)
    stored, masks = material.images.stored, material.masks_of(np.arange(40))
    masks[:, :, :, :12] = False  # so that a flip can be seen
    material = Material(
        material.images, (), material.patients, Fetch(masks, np.zeros(40)), ("square",)
    )
    fetch = PairFetch(
        material,
        augment=Augment(flip_horizontal=1.0, flip_vertical=1.0),
        seed=0,
        normalise=Normalise(),
    )
    batch = fetch(np.array([1, 3]), 0)

    np.testing.assert_allclose(batch["image"].numpy(), stored[[1, 3], :, ::-1, ::-1] / 255, 1e-6)
    assert torch.equal(batch["mask"], torch.from_numpy(masks[[1, 3], :, ::-1, ::-1] * 1.0).float())


def test_every_subset_gets_as_many_steps_or_as_many_epochs():
    by_steps = settings("resnet18", steps=50)
    assert [length_of(by_steps, n).max_steps for n in (4, 100)] == [50, 50]
    assert length_of(by_steps, 4).epochs == 50
    assert length_of(by_steps, 4).batch_size == 4
    assert length_of(by_steps, 17).epochs == 25  # 2 batches an epoch: the last one would be 1 image
    by_epochs = by_steps.model_copy(update={"length": "epochs"})
    assert length_of(by_epochs, 100).max_steps is None
    assert length_of(by_epochs, 100).epochs == by_epochs.fit.epochs


def test_masks_are_asked_of_a_study_without_any():
    with pytest.raises(DataError, match="this study has no masks"):
        squares().masks_of(TEST)
