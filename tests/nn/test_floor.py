import numpy as np
import pytest

from medglean.errors import DataError
from medglean.measure.curves import auroc
from medglean.nn.floor import component_features, logistic, pca_floor, thumbnails


def _images(count=80):
    """Class 1 is brighter on the left than on the right; brightness as such says nothing."""
    generator = np.random.default_rng(0)
    target = np.arange(count) % 2
    images = generator.normal(100, 10, (count, 1, 64, 64)) + generator.normal(
        0, 20, (count, 1, 1, 1)
    )
    images[target == 1, :, :, :32] += 15
    return np.clip(images, 0, 255).astype(np.uint8), target


def test_the_floor_learns_what_a_mean_picture_shows():
    stored, target = _images()
    train, test = np.arange(60), np.arange(60, 80)

    found = pca_floor(stored, target, train=train, test=test, kind="single", classes=2)

    assert found.shape == (20, 2)
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    assert auroc(target[test] == 1, found[:, 1]) > 0.95
    assert auroc(target[test] == 0, found[:, 0]) > 0.95


def test_a_class_absent_from_training_has_probability_zero():
    stored, target = _images()

    found = pca_floor(
        stored, target, train=np.arange(60), test=np.arange(60, 80), kind="single", classes=3
    )

    assert (found[:, 2] == 0).all()


def test_several_findings_with_one_that_never_varies():
    stored, target = _images()
    findings = np.stack([target, np.zeros(80), np.ones(80)], axis=1)

    found = pca_floor(
        stored, findings, train=np.arange(60), test=np.arange(60, 80), kind="multi", classes=3
    )

    assert auroc(target[60:] == 1, found[:, 0]) > 0.95
    assert (found[:, 1] == 0).all()
    assert (found[:, 2] == 1).all()


def test_one_class_is_refused():
    stored, _ = _images()

    with pytest.raises(DataError, match="one class only"):
        pca_floor(
            stored,
            np.zeros(80, int),
            train=np.arange(60),
            test=np.arange(60, 80),
            kind="single",
            classes=2,
        )


def test_thumbnails_average_areas():
    image = np.zeros((1, 1, 96, 96))
    image[..., ::2] = 2.0

    assert thumbnails(image, size_px=48) == pytest.approx(np.ones((1, 48 * 48)))


def test_components_are_those_that_the_floor_learns_from():
    rng = np.random.default_rng(3)
    stored = rng.integers(0, 255, (60, 1, 48, 48)).astype(np.uint8)
    targets = np.arange(60) % 2
    stored[targets == 1, :, 10:30, 10:30] //= 2
    train, test = np.arange(40), np.arange(40, 60)

    features = component_features(thumbnails(stored), train)

    assert features.shape == (60, 10)  # a quarter of the 40
    np.testing.assert_allclose(
        logistic(features[train], targets[train], features[test], kind="single", classes=2),
        pca_floor(stored, targets, train=train, test=test, kind="single", classes=2),
        atol=1e-6,
    )


def test_levels_add_brightness_and_contrast_that_components_leave_out():
    rng = np.random.default_rng(4)
    pattern = rng.random((1, 30)) + 0.1 * rng.random((50, 30))
    brighter = 3 * pattern + 2

    plain = component_features(np.concatenate([pattern, brighter]), np.arange(50))
    both = component_features(np.concatenate([pattern, brighter]), np.arange(50), levels=True)

    np.testing.assert_allclose(plain[:50], plain[50:], atol=1e-3)
    np.testing.assert_array_equal(both[:, :-2], plain)
    assert (both[50:, -2:] > both[:50, -2:] + 1).all()
    np.testing.assert_allclose(both[:50, -2:].std(axis=0), 1.0)


def test_pictures_that_are_all_alike_have_no_components():
    flat = np.full((12, 30), 0.5)

    assert component_features(flat, np.arange(12)).shape == (12, 0)
    assert component_features(flat, np.arange(12), levels=True).tolist() == [[0.0, 0.0]] * 12
