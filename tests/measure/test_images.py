import math

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from medglean.measure.images import psnr, ssim


def noisy_pair(seed=0, size_px=(20, 24)):
    rng = np.random.default_rng(seed)
    real = rng.integers(0, 256, size=(*size_px, 3), dtype=np.uint8)
    fake = np.clip(real + rng.normal(0, 20, real.shape), 0, 255).astype(np.uint8)
    return fake, real


def test_psnr_by_hand():
    # one of 7 x 7 x 3 values differs by 21: mean square 441 / 147 = 3, 10 log10(65025 / 3) = 43.36
    first = np.full((7, 7, 3), 100, np.uint8)
    second = first.copy()
    second[3, 3, 1] = 79

    assert psnr(first, second) == pytest.approx(10 * math.log10(21675))
    assert psnr(second, first) == psnr(first, second)  # 8 bits do not wrap around


def test_both_agree_with_scikit_image():
    fake, real = noisy_pair()

    assert psnr(fake, real) == pytest.approx(peak_signal_noise_ratio(real, fake, data_range=255))
    expected = structural_similarity(fake, real, win_size=7, channel_axis=2, data_range=255)
    assert ssim(fake, real) == pytest.approx(expected)


def test_ssim_by_hand_in_one_window():
    # one window of 7 x 7 and sample variances over 48, as in the paper's formula
    fake, real = noisy_pair(size_px=(7, 7))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for channel in range(3):
        x, y = (image[:, :, channel].astype(float).ravel() for image in (fake, real))
        covariance = np.cov(x, y)
        top = (2 * x.mean() * y.mean() + c1) * (2 * covariance[0, 1] + c2)
        bottom = (x.mean() ** 2 + y.mean() ** 2 + c1) * (covariance[0, 0] + covariance[1, 1] + c2)
        values.append(top / bottom)

    assert ssim(fake, real) == pytest.approx(np.mean(values))


def test_equal_images():
    _, real = noisy_pair()

    assert psnr(real, real) == math.inf
    assert ssim(real, real) == 1.0


@pytest.mark.parametrize("measure", [psnr, ssim])
def test_sizes_are_checked(measure):
    small, large = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9, 3), np.uint8)

    with pytest.raises(ValueError, match=r"\(8, 8\) and \(8, 9\) pixels: expected one size"):
        measure(small, large)
    with pytest.raises(ValueError, match="at least 7 x 7"):
        measure(small[:6], small[:6])


def test_one_flat_colour_beats_published_networks_on_real_pairs(real_data):
    # published on the whole test part: pyramid pix2pix 21.16 dB (Liu et al. 2022)
    from PIL import Image

    values = []
    for file in sorted((real_data("path_he_ihc_pairs") / "bci" / "IHC").glob("*.png")):
        real = np.asarray(Image.open(file).convert("RGB"))
        flat = np.empty_like(real)
        flat[:] = real.mean(axis=(0, 1)).round().astype(np.uint8)
        values.append(psnr(flat, real))

    assert len(values) == 5
    assert np.mean(values) > 23
    assert min(values) > 18
