import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.color import separate_stains

from medglean.errors import DataError
from medglean.stain.optics import (
    DAB,
    EOSIN,
    HAEMATOXYLIN,
    apply_white,
    as_share,
    dab_density,
    normalise_white,
    optical_density,
    perturb_stains,
    remix,
    stain_vectors,
    transmitted,
    unmix,
    white_point,
)

WHITE = np.array([0.9, 0.85, 0.7])


def section(*, haematoxylin, dab, rest=0.0, white=WHITE, size_px=(2, 3)):
    """Light through one even section, from the law of Beer and Lambert by hand."""
    vectors = [np.array(v) / np.linalg.norm(v) for v in (HAEMATOXYLIN, DAB)]
    cross = np.cross(*vectors)
    vectors.append(cross / np.linalg.norm(cross))
    od = sum(amount * v for amount, v in zip((haematoxylin, dab, rest), vectors, strict=True))
    return np.broadcast_to((white * 10.0**-od)[:, None, None], (3, *size_px)).copy()


@pytest.mark.parametrize(("basis", "second"), [("h-dab", DAB), ("h-e", EOSIN)])
def test_vectors_are_the_published_ones_at_length_1_and_the_rest_at_right_angles(basis, second):
    vectors = stain_vectors(basis)

    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1)
    np.testing.assert_allclose(vectors[0], np.array([0.65, 0.70, 0.29]) / np.sqrt(0.9966))
    np.testing.assert_allclose(vectors[1] * np.linalg.norm(second), second)
    np.testing.assert_allclose(vectors[:2] @ vectors[2], 0, atol=1e-15)


def test_density_of_a_tenth_of_the_white_is_1():
    light = np.array([0.09, 0.85, 0.0])[:, None, None]

    od = optical_density(light, WHITE)

    # black is taken for one step of 8 bits: log10(255) = 2.4065
    np.testing.assert_allclose(od.ravel(), [1.0, 0.0, 2.406540], atol=1e-6)


def test_light_above_white_is_below_0_so_that_noise_around_white_has_the_mean_0():
    od = optical_density(np.full((3, 1, 1), 1.0), np.full(3, 0.5))

    np.testing.assert_allclose(od.ravel(), -np.log10(2))


def test_8_bits_are_shares_of_255_and_16_bits_are_refused():
    image = np.array([0, 51, 255], np.uint8).reshape(3, 1, 1)

    assert as_share(image).ravel().tolist() == pytest.approx([0, 0.2, 1])
    with pytest.raises(DataError, match="image of uint16: expected 8 bits"):
        as_share(image.astype(np.uint16))


@given(seed=st.integers(0, 2**16), basis=st.sampled_from(["h-dab", "h-e"]))
def test_unmixing_is_undone_by_mixing(seed, basis):
    amounts = np.random.default_rng(seed).normal(size=(2, 3, 2, 2))

    np.testing.assert_allclose(unmix(remix(amounts, basis), basis), amounts, atol=1e-12)
    np.testing.assert_allclose(remix(unmix(amounts, basis), basis), amounts, atol=1e-12)


def test_amounts_of_a_mix_are_found_and_not_interchanged():
    image = section(haematoxylin=0.5, dab=0.3, rest=-0.1)

    amounts = unmix(optical_density(image, WHITE))

    np.testing.assert_allclose(amounts[:, 1, 2], [0.5, 0.3, -0.1], atol=1e-12)


def test_amounts_agree_with_scikit_image_but_for_their_units():
    image = np.random.default_rng(0).uniform(0.2, 1, size=(3, 4, 5))

    ours = unmix(optical_density(image, np.ones(3)))

    # theirs: logarithm to the base of one in a million, vectors of any length, cut off at 0
    vectors = np.array([HAEMATOXYLIN, DAB, np.cross(HAEMATOXYLIN, DAB)])
    theirs = np.moveaxis(separate_stains(np.moveaxis(image, 0, -1), np.linalg.inv(vectors)), -1, 0)
    expected = theirs * (6 * np.linalg.norm(vectors, axis=1))[:, None, None]
    np.testing.assert_allclose(np.maximum(ours, 0), expected, atol=1e-9)
    assert (expected > 0.05).sum() > 20


def test_density_of_dab_is_that_of_the_mix_whatever_the_white_point():
    one = section(haematoxylin=0.4, dab=0.25)
    other = section(haematoxylin=0.4, dab=0.25, white=np.array([0.7, 0.7, 0.68]))

    found = dab_density(np.stack([one, other]), np.array([WHITE, [0.7, 0.7, 0.68]]))

    np.testing.assert_allclose(found, np.full((2, 2, 3), 0.25), atol=1e-12)
    assert dab_density(one, np.ones(3))[0, 0] > 0.3  # a yellowish white taken for stain


def test_transmitted_light_is_undone_by_density():
    image = section(haematoxylin=0.2, dab=0.6)

    np.testing.assert_allclose(transmitted(optical_density(image, WHITE), WHITE), image)


@given(percentile=st.floats(1, 100), seed=st.integers(0, 2**16))
def test_white_point_is_numpys_percentile_over_all_images(percentile, seed):
    images = np.random.default_rng(seed).integers(1, 256, size=(3, 3, 5, 4), dtype=np.uint8)

    white = white_point(iter(images), percentile=percentile)

    expected = np.percentile(images.transpose(1, 0, 2, 3).reshape(3, -1), percentile, axis=1) / 255
    np.testing.assert_allclose(white, expected, rtol=1e-12)


def test_white_point_of_floats_and_of_8_bits_is_the_same():
    images = np.random.default_rng(0).integers(100, 256, size=(2, 3, 6, 6), dtype=np.uint8)

    shares = white_point(images.astype(np.float64) / 255, percentile=99)

    np.testing.assert_allclose(shares, white_point(images, percentile=99), rtol=1e-12)


def test_white_point_needs_light():
    with pytest.raises(DataError, match="no pixels: expected at least one image"):
        white_point([], percentile=99)
    with pytest.raises(DataError, match=r"green and blue is \[1\.0, 1\.0, 0\.0\].*normalise"):
        white_point([np.array([1.0, 1.0, 0.0])[:, None, None]], percentile=99)
    with pytest.raises(ValueError, match=r"\(0, 100\], got 0"):
        white_point([np.ones((3, 1, 1))], percentile=0)


def test_normalising_makes_the_white_point_1_and_reapplying_undoes_it():
    image = section(haematoxylin=0.1, dab=0.1)
    image[:, 0, 0] = WHITE
    image[:, 0, 1] = 1.0  # brighter than white: cut off

    normal = normalise_white(image, WHITE)

    np.testing.assert_allclose(normal[:, 0, :2], 1)
    np.testing.assert_allclose(apply_white(normal, WHITE)[:, 1:], image[:, 1:])
    np.testing.assert_allclose(apply_white(normal, WHITE)[:, 0, 1], WHITE)
    np.testing.assert_allclose(
        dab_density(normal, np.ones(3))[1], dab_density(image, WHITE)[1], atol=1e-12
    )


def test_white_point_of_0_is_refused():
    for divide in (optical_density, normalise_white):
        with pytest.raises(DataError, match="expected shares of full scale above 0"):
            divide(np.ones((3, 1, 1)), np.array([1.0, 0.0, 1.0]))


def test_stains_are_perturbed_one_by_one():
    vectors = stain_vectors("h-e")
    image = (10.0 ** -(0.3 * vectors[0] + 0.4 * vectors[1]))[:, None, None]

    changed = perturb_stains(image, np.array([1.5, 1.0, 1.0]), np.array([0.0, -0.1, 0.0]))

    expected = 10.0 ** -(0.45 * vectors[0] + 0.3 * vectors[1])
    np.testing.assert_allclose(changed.ravel(), expected, rtol=1e-9)


def test_no_perturbation_is_the_image_and_each_image_has_its_own():
    images = np.random.default_rng(0).uniform(0.1, 1, size=(2, 3, 4, 4)).astype(np.float32)
    multipliers = np.array([[1.0, 1.0, 1.0], [1.2, 1.2, 1.2]])

    changed = perturb_stains(images, multipliers, np.zeros((2, 3)))

    assert changed.dtype == np.float32
    np.testing.assert_allclose(changed[0], images[0], atol=1e-6)
    np.testing.assert_allclose(changed[1], images[1] ** 1.2, rtol=1e-5)


def test_an_unknown_basis_is_named():
    with pytest.raises(ValueError, match="'h-dab' or 'h-e', got 'hed'"):
        stain_vectors("hed")


def test_white_points_of_real_slides_differ(real_data):
    from PIL import Image

    folder = real_data("path_he_ihc_pairs")
    whites = [
        white_point(
            [np.moveaxis(np.asarray(Image.open(file).convert("RGB")), -1, 0)], percentile=99
        )
        for file in sorted(folder.glob("bci/IHC/*.png"))
    ]

    grey = 255 * np.mean(whites, axis=1)
    assert len(whites) == 5
    assert grey.min() < 180
    assert grey.max() > 245
