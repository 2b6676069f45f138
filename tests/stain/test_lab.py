import numpy as np
import pytest
from skimage.color import rgb2lab

from medglean.stain.lab import lab


def test_lab_agrees_with_scikit_image():
    image = np.random.default_rng(0).uniform(0, 1, size=(2, 3, 5, 4))
    image[0, :, 0, 0], image[0, :, 0, 1] = 0.0, 0.02  # where both curves are straight

    found = lab(image)

    np.testing.assert_allclose(found, rgb2lab(image, channel_axis=1), atol=1e-3)


def test_grey_has_no_hue_and_yellow_has_b_above_0():
    grey, yellow = lab(np.full((3, 1, 1), 0.7)), lab(np.array([0.9, 0.85, 0.6])[:, None, None])

    assert grey[1:].ravel().tolist() == pytest.approx([0, 0], abs=0.01)
    assert yellow[2, 0, 0] > 20


def test_8_bits_are_taken_as_such():
    image = np.random.default_rng(0).integers(0, 256, size=(3, 4, 4), dtype=np.uint8)

    np.testing.assert_allclose(lab(image), lab(image / 255), atol=1e-3)
