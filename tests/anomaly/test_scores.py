import numpy as np
import pytest

from medglean.anomaly.scores import image_scores


def test_the_largest_values_decide():
    maps = np.zeros((1, 20, 20), np.float32)
    maps[0, 0, :4] = [8.0, 4.0, 2.0, 2.0]

    assert image_scores(maps).tolist() == [4.0]  # 1 % of 400 pixels
    assert image_scores(maps, share=0.001).tolist() == [8.0]  # one at least
    assert image_scores(maps, kind="mean").tolist() == [16.0 / 400]


def test_only_pixels_inside_count():
    maps = np.zeros((2, 10, 10), np.float32)
    maps[:, 0, 0], maps[:, 5, 5] = 9.0, 3.0
    inside = np.zeros((2, 10, 10), dtype=bool)
    inside[0, 4:8, 4:8] = True

    assert image_scores(maps, inside=inside).tolist() == [3.0, 0.0]


def test_a_map_of_nan_has_no_score():
    maps = np.ones((2, 4, 4), np.float32)
    maps[0] = np.nan

    np.testing.assert_array_equal(image_scores(maps), [np.nan, 1.0])


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_a_share_beyond_its_range_is_refused(share):
    with pytest.raises(ValueError, match=rf"share must lie in \(0, 1\], got {share}"):
        image_scores(np.zeros((1, 2, 2)), share=share)
