import numpy as np
import pytest

from medglean.curate.embed.components import fit_pca, principal_components, standardised
from medglean.curate.embed.encoder import encode
from medglean.curate.embed.hog import oriented_gradients
from medglean.curate.embed.settings import PcaSettings
from medglean.errors import DataError, UsageError

PIXELS = PcaSettings(features="pixels")


def test_two_points_by_hand():
    # (0, 0) and (6, 8): the only component is (0.6, 0.8), deviation sqrt(2 * 25 / 1)
    mean, components, sd = principal_components(np.array([[0.0, 0.0], [6.0, 8.0]]), count=5)

    np.testing.assert_allclose(mean, [3.0, 4.0])
    np.testing.assert_allclose(components, [[0.6, 0.8]])
    np.testing.assert_allclose(sd, [np.sqrt(50.0)])


@pytest.mark.parametrize(("n", "p"), [(40, 7), (7, 40)])
def test_components_agree_with_the_singular_values(n, p):
    rows = np.random.default_rng(0).normal(size=(n, p)) * np.linspace(1, 3, p)

    _, components, sd = principal_components(rows, count=5)

    _, singular, right = np.linalg.svd(rows - rows.mean(axis=0))
    np.testing.assert_allclose(sd, singular[:5] / np.sqrt(n - 1))
    np.testing.assert_allclose(np.abs(components @ right[:5].T), np.eye(5), atol=1e-8)
    assert (components[np.arange(5), np.abs(components).argmax(axis=1)] > 0).all()


def test_each_image_is_standardised_so_that_gain_and_offset_do_not_count():
    image = np.random.default_rng(1).random((1, 1, 4, 4), dtype=np.float32)

    one, other = standardised(image), standardised(0.25 * image + 0.5)

    np.testing.assert_allclose(one, other, atol=1e-6)
    assert one.std() == pytest.approx(1.0)
    assert (standardised(np.full((1, 1, 4, 4), 0.5, np.float32)) == 0).all()


def test_the_encoder_keeps_distances_and_learns_from_its_rows_alone():
    stored = np.random.default_rng(2).integers(0, 256, (9, 1, 6, 6), dtype=np.uint8)
    rows = np.arange(9)
    encoder = fit_pca(stored, rows, settings=PcaSettings(features="pixels", components=99), seed=0)

    values = encode(encoder, stored, rows, batch_size=4)

    assert values.shape == (9, 8)  # nine rows span eight directions
    flat = standardised(stored / np.float32(255))
    ours = np.linalg.norm(values[:, None] - values[None], axis=2)
    np.testing.assert_allclose(ours, np.linalg.norm(flat[:, None] - flat[None], axis=2), atol=1e-4)
    assert encoder.record["quality"]["variance_explained"] == pytest.approx(1.0)
    fewer = fit_pca(stored, rows[:5], settings=PIXELS, seed=0)
    changed = stored.copy()
    changed[5:] = 0
    assert fit_pca(changed, rows[:5], settings=PIXELS, seed=0).weights == fewer.weights


def test_whitened_components_have_deviation_1():
    stored = np.random.default_rng(2).integers(0, 256, (30, 1, 6, 6), dtype=np.uint8)
    encoder = fit_pca(
        stored,
        np.arange(30),
        settings=PcaSettings(features="pixels", components=4, whiten=True),
        seed=0,
    )

    values = encode(encoder, stored, np.arange(30), batch_size=30)

    np.testing.assert_allclose(values.std(axis=0, ddof=1), 1.0, rtol=1e-4)


def test_too_few_and_identical_images_are_refused():
    stored = np.full((3, 1, 4, 4), 7, dtype=np.uint8)

    with pytest.raises(DataError, match=r"1 image\(s\) to find components of"):
        fit_pca(stored, np.arange(1), settings=PIXELS, seed=0)
    with pytest.raises(DataError, match="all 3 images are the same"):
        fit_pca(stored, np.arange(3), settings=PIXELS, seed=0)


def test_gradients_tell_form_and_neither_brightness_nor_contrast():
    image = np.zeros((1, 1, 32, 32), np.float32)
    image[..., 16:] = 0.8
    found = oriented_gradients(image)

    assert found.shape == (1, 3 * 3 * 36)
    np.testing.assert_allclose(oriented_gradients(0.5 * image + 0.2), found, atol=1e-3)
    turned = oriented_gradients(np.ascontiguousarray(image.swapaxes(2, 3)))
    cosine = (found * turned).sum() / (np.linalg.norm(found) * np.linalg.norm(turned))
    assert cosine < 0.1  # an upright edge and a level one share nothing
    assert (oriented_gradients(np.full((1, 1, 16, 16), 0.5, np.float32)) == 0).all()


def test_gradients_need_whole_cells():
    with pytest.raises(UsageError, match="30 x 64: histograms of gradients need sides"):
        oriented_gradients(np.zeros((1, 1, 30, 64), np.float32))


def test_components_of_gradients_are_the_default():
    stored = np.random.default_rng(3).integers(0, 256, (12, 1, 16, 16), dtype=np.uint8)
    encoder = fit_pca(stored, np.arange(12), settings=PcaSettings(), seed=0)

    assert encoder.record["features"] == "hog"
    flat = oriented_gradients(stored / np.float32(255))
    values = encode(encoder, stored, np.arange(12), batch_size=5)
    ours = np.linalg.norm(values[:, None] - values[None], axis=2)
    np.testing.assert_allclose(ours, np.linalg.norm(flat[:, None] - flat[None], axis=2), atol=1e-4)
