import math
from dataclasses import asdict

import numpy as np
import pytest

from medglean.data.phantom.stain import stain_pair
from medglean.stain.measures import (
    PairMeasures,
    background_mask,
    correlations,
    pair_measures,
    pearson,
)
from medglean.stain.optics import remix, stain_vectors, transmitted

WHITE = np.array([0.9, 0.88, 0.8])


def painted(dab, white=WHITE):
    """Return an 8-bit image (h, w, 3) with this much DAB in each pixel."""
    amounts = np.zeros((3, *np.shape(dab)))
    amounts[1] = dab
    return np.moveaxis(np.rint(255 * transmitted(remix(amounts), white)), 0, -1).astype(np.uint8)


def measured(fake, real, **settings):
    return pair_measures(fake, real, white_fake=WHITE, white_real=WHITE, **settings)


def half_stained(od, size_px=(20, 20)):
    dab = np.zeros(size_px)
    dab[:, : size_px[1] // 2] = od
    return dab


def test_densities_of_a_synthetic_mix_in_the_light_of_a_white_that_is_not_white():
    found = measured(painted(half_stained(0.6)), painted(half_stained(0.4)))

    assert found.dab_mean_fake == pytest.approx(0.3, abs=0.003)
    assert found.dab_mean_real == pytest.approx(0.2, abs=0.003)
    assert found.dab_error == pytest.approx(0.1, abs=0.005)
    assert found.dab_p90_fake == pytest.approx(0.6, abs=0.005)
    assert found.dab_p90_real == pytest.approx(0.4, abs=0.005)


def test_each_image_has_its_own_white():
    other = np.array([0.7, 0.7, 0.69])

    found = pair_measures(
        painted(half_stained(0.4), other),
        painted(half_stained(0.4)),
        white_fake=other,
        white_real=WHITE,
    )

    assert found.dab_error == pytest.approx(0, abs=0.005)
    assert found.background_bias == pytest.approx(0, abs=0.005)
    assert found.b_shift == pytest.approx(0, abs=0.5)
    assert found.psnr < 20  # which knows nothing of whites


def test_background_bias_turns_its_sign_as_yellow_is_added_or_taken_away():
    plain, yellow = painted(half_stained(0.5)), painted(half_stained(0.5))
    yellow[:, 10:, 2] -= 12  # less blue

    more, less = measured(yellow, plain), measured(plain, yellow)

    # blue 204 -> 192 is a density of log10(204 / 192) = 0.0263, of which DAB's share is
    # the weight of blue in the inverse of the vectors
    weight = np.linalg.inv(stain_vectors())[2, 1]
    assert more.background_bias == pytest.approx(weight * math.log10(204 / 192), abs=1e-4)
    assert less.background_bias == pytest.approx(-more.background_bias, abs=1e-6)
    assert more.b_shift == pytest.approx(-less.b_shift, abs=1e-4)
    assert more.b_shift > 3
    assert more.background_share == less.background_share == 0.5


def test_background_that_is_brighter_than_white_is_yellow_where_blue_is_not():
    plain, bright = painted(half_stained(0.5)), painted(half_stained(0.5))
    bright[:, 10:, :2] += 20

    assert measured(bright, plain).b_shift > 5


def test_yellow_in_tissue_is_no_bias_of_the_background():
    plain, yellow = painted(half_stained(0.5)), painted(half_stained(0.5))
    yellow[:, :10, 2] //= 2

    found = measured(yellow, plain)

    assert found.background_bias == 0
    assert found.b_shift == 0
    assert found.dab_error > 0.05


def test_dice_of_stained_pixels_by_hand():
    real, fake = np.zeros((10, 10)), np.zeros((10, 10))
    real[:, :4], fake[:, 2:8] = 0.3, 0.3  # 40 and 60 pixels, 20 of them in both

    found = measured(painted(fake), painted(real))

    assert found.dice_positive == pytest.approx(2 * 20 / 100)
    assert (found.positive_fake, found.positive_real) == (0.6, 0.4)


def test_what_counts_as_stained_is_a_setting():
    image = painted(half_stained(0.3))

    assert measured(image, image, positive_od=0.2).positive_real == 0.5
    assert measured(image, image, positive_od=0.4).positive_real == 0.0


def test_what_a_pair_does_not_define_is_nan_and_not_0():
    blank, brown = painted(np.zeros((10, 10))), painted(np.full((10, 10), 0.5))

    nothing, everything = measured(blank, blank), measured(brown, brown)

    assert math.isnan(nothing.dice_positive)
    assert math.isnan(everything.background_bias)
    assert math.isnan(everything.b_shift)
    assert everything.background_share == 0
    assert nothing.background_bias == 0
    assert measured(brown, blank).dice_positive == 0  # found where there is nothing
    assert measured(blank, blank).psnr == math.inf


def test_background_goes_by_the_mean_density_of_the_channels():
    # densities of 0.12 in one channel and of 0.18: means of 0.04 and 0.06
    light = np.rint(255 * np.array([[[1.0]], [[1.0]], [[1.0]]]) * np.ones((3, 1, 2)))
    light[2, 0] = np.rint(255 * 10 ** -np.array([0.12, 0.18]))

    mask = background_mask(light.astype(np.uint8), np.ones(3), background_od=0.05)

    assert mask.tolist() == [[True, False]]


def test_generated_image_equal_to_the_real_one_has_no_error_on_a_phantom():
    _, ihc = stain_pair(0, 0, level=3, size_px=(64, 64))

    found = measured(ihc, ihc)

    assert (found.dab_error, found.background_bias, found.b_shift) == (0, 0, 0)
    assert found.dice_positive == 1
    assert isinstance(found, PairMeasures)
    assert all(isinstance(value, float) for value in asdict(found).values())


def test_correlations_by_hand_and_only_of_three_pairs_and_more():
    fake, real = np.array([1.0, 2.0, 4.0]), np.array([2.0, 1.0, 3.0])

    # deviations (-4, -1, 5) / 3 and (0, -1, 1): 6 / sqrt(42 * 2)
    found = correlations(fake, real, real, 1 - real)

    assert found.mean == pytest.approx(6 / math.sqrt(84))
    assert found.p90 == pytest.approx(-1)
    assert math.isnan(pearson(fake[:2], real[:2]))
    assert math.isnan(pearson(fake, np.ones(3)))
    with pytest.raises(ValueError, match="p90_real has 2"):
        correlations(fake, real, real, real[:2])


def test_sizes_are_checked():
    with pytest.raises(ValueError, match="expected one size"):
        measured(painted(np.zeros((10, 10))), painted(np.zeros((10, 12))))


def test_real_stains_are_found_by_their_density(real_data):
    from PIL import Image

    from medglean.stain.optics import white_point

    folder = real_data("path_he_ihc_pairs") / "bci" / "IHC"
    share = {}
    for name in ("00007_test_1+", "00249_test_2+", "00052_test_3+"):
        ihc = np.asarray(Image.open(folder / f"{name}.png").convert("RGB"))[:512, :512]
        white = white_point([np.moveaxis(ihc, -1, 0)], percentile=99)
        found = pair_measures(ihc, ihc, white_fake=white, white_real=white)
        share[name] = found.positive_real

    assert share["00007_test_1+"] < 0.01
    assert share["00052_test_3+"] > 0.2
    assert share["00007_test_1+"] < share["00249_test_2+"] < share["00052_test_3+"]
