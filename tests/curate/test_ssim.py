import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity

from medglean.curate.ssim import ssim_matrix, ssim_pairs
from medglean.errors import DataError, UsageError


def textures(count, *, side=64, seed=0):
    """Smooth random pictures, with pairs that range from copies to strangers."""
    rng = np.random.default_rng(seed)
    base = rng.random((3, side, side))
    for _ in range(3):
        base = (base + np.roll(base, 1, axis=1) + np.roll(base, 1, axis=2)) / 3
    noise = rng.random((count, side, side))
    share = np.linspace(0.0, 0.6, count)[:, None, None]
    return (1 - share) * base[np.arange(count) % 3] + share * noise


def reference(a, b):
    """Wang et al.'s index as scikit-image has it."""
    return structural_similarity(
        a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0
    )


def test_agrees_with_scikit_image():
    images = textures(7)

    matrix = ssim_matrix(images)

    expected = np.array([[reference(a, b) for b in images] for a in images])
    np.testing.assert_allclose(matrix, expected, atol=1e-10)
    assert np.ptp(matrix) > 0.5  # from copies to strangers: a constant would not pass


def test_the_negative_of_an_image_is_dissimilar():
    image = textures(1)[0]

    value = ssim_pairs(np.stack([image, 1 - image]), np.array([0]), np.array([1]))[0]

    assert value == pytest.approx(reference(image, 1 - image), abs=1e-10)
    assert value < 0


def test_matrix_is_symmetric_with_ones_and_holds_the_pairs():
    images = textures(6, side=16)
    first, second = np.array([0, 5, 3]), np.array([4, 1, 3])

    matrix = ssim_matrix(images)

    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_array_equal(np.diag(matrix), np.ones(6))
    np.testing.assert_allclose(ssim_pairs(images, first, second), matrix[first, second], atol=1e-15)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**16), height=st.integers(11, 20), width=st.integers(11, 20))
def test_any_size_is_bounded_symmetric_and_one_for_equal(seed, height, width):
    images = np.random.default_rng(seed).random((3, height, width))
    there = ssim_pairs(images, np.array([0, 1, 2]), np.array([1, 2, 2]))
    back = ssim_pairs(images, np.array([1, 2, 2]), np.array([0, 1, 2]))

    np.testing.assert_array_equal(there, back)
    assert (np.abs(there) <= 1).all()
    assert there[2] == pytest.approx(1.0, abs=1e-12)
    assert there[0] == pytest.approx(reference_of_odd_sizes(images[0], images[1]), abs=1e-10)


def reference_of_odd_sizes(a, b):
    """Scikit-image, over the pixels with a whole window only."""
    _, full = structural_similarity(
        a,
        b,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1.0,
        full=True,
    )
    return full[5:-5, 5:-5].mean()


def test_no_pairs_give_no_values():
    none = np.zeros(0, dtype=np.int64)

    assert ssim_pairs(textures(2, side=12), none, none).shape == (0,)


def test_single_precision_is_taken():
    images = textures(3, side=16)

    np.testing.assert_allclose(
        ssim_matrix(images.astype(np.float32)), ssim_matrix(images), atol=1e-5
    )


@pytest.mark.parametrize(
    ("thumbnails", "told"),
    [
        (np.zeros((2, 10, 64)), r"at least 11 x 11 pixels, found shape \(2, 10, 64\)"),
        (np.zeros((64, 64)), r"found shape \(64, 64\)"),
        (np.zeros((2, 16, 16), np.uint8), "found uint8. Divide 8-bit values by 255"),
        (np.full((2, 16, 16), 1.5), r"values in \[0, 1\], found 1.5 to 1.5"),
        (np.full((2, 16, 16), -0.5), r"found -0.5 to -0.5"),
        (np.full((2, 16, 16), np.nan), "found nan to nan"),
    ],
)
def test_bad_thumbnails(thumbnails, told):
    with pytest.raises(DataError, match=told):
        ssim_pairs(thumbnails, np.array([0]), np.array([1]))


def test_too_many_images_for_a_matrix():
    with pytest.raises(UsageError, match=r"at most 2,000 images, found 2,001. Compare embeddings"):
        ssim_matrix(np.zeros((2001, 11, 11)))


@pytest.mark.parametrize("position", [-1, 2])
def test_a_position_beyond_the_thumbnails(position):
    with pytest.raises(IndexError, match=r"there are 2 thumbnails, 0 to 1"):
        ssim_pairs(np.zeros((2, 16, 16)), np.array([0]), np.array([position]))
