import numpy as np
import pytest

from medglean.data.recipe import Recipe
from medglean.data.resize import resize
from medglean.data.restore import restore
from medglean.errors import DataError

MODES = ["stretch", "pad", "crop", "centre"]


def centre_of_mass(image):
    total = np.nansum(image)
    y, x = np.indices(image.shape)
    return np.nansum(image * y) / total, np.nansum(image * x) / total


@pytest.mark.parametrize("how", MODES)
@pytest.mark.parametrize("size", [(24, 24), (64, 64), (40, 80), (31, 45)])
@pytest.mark.parametrize("crop", [1.0, 0.8])
def test_a_landmark_returns_to_where_it_was(how, size, crop):
    recipe = Recipe(size_px=size, resize=how, centre_crop=crop)
    image = np.zeros((1, 48, 61), np.float32)
    image[0, 20:23, 33:36] = 1  # 3 x 3 around (21, 34): the smallest grid still sees it

    there = resize(image, size, how=how, centre_crop=crop).image[0]
    back = restore(there, (48, 61), recipe, outside=0.0)

    assert back.shape == (48, 61)
    np.testing.assert_allclose(centre_of_mass(back), (21, 34), atol=0.5)


@pytest.mark.parametrize("how", MODES)
def test_a_ramp_comes_back_exactly_where_it_was_seen(how):
    # along x, through pixel centres: linear interpolation of a linear function loses nothing
    ramp = np.broadcast_to((np.arange(64, dtype=np.float32) + 0.5) / 64, (1, 32, 64)).copy()
    recipe = Recipe(size_px=(40, 40), resize=how)

    back = restore(resize(ramp, (40, 40), how=how).image[0], (32, 64), recipe)

    seen = ~np.isnan(back)
    inside = np.zeros_like(seen)
    inside[:, 20:44] = True  # away from the rim, where the nearest value is repeated
    assert seen[inside].all()
    np.testing.assert_allclose(back[inside], ramp[0][inside], atol=2e-3)


@pytest.mark.parametrize("shape", [(240, 240), (256, 300), (10, 11), (255, 257)])
def test_centre_is_undone_without_loss(shape):
    image = np.random.default_rng(0).random((1, *shape), dtype=np.float32)
    recipe = Recipe(size_px=(256, 256), resize="centre")

    back = restore(resize(image, (256, 256), how="centre").image[0], shape, recipe)

    seen = ~np.isnan(back)
    assert seen.sum() == min(shape[0], 256) * min(shape[1], 256)
    np.testing.assert_array_equal(back[seen], image[0][seen])


def test_what_was_cut_off_is_not_called_healthy():
    recipe = Recipe(size_px=(4, 4), resize="crop")
    back = restore(np.ones((4, 4), np.float32), (4, 8), recipe)

    assert np.isnan(back[:, [0, 1, 6, 7]]).all()
    assert (back[:, 2:6] == 1).all()
    assert (restore(np.ones((4, 4), np.float32), (4, 8), recipe, outside=0.0)[:, :2] == 0).all()


def test_nothing_of_the_padding_comes_in():
    recipe = Recipe(size_px=(20, 20), resize="pad")
    there = resize(np.ones((1, 10, 40), np.float32), (20, 20), how="pad").image[0]

    assert (restore(there, (10, 40), recipe) == 1).all()


def test_a_map_of_another_size_is_refused():
    with pytest.raises(DataError, match=r"shape \(8, 8\).*shape \(4, 4\).*the run was made with"):
        restore(np.zeros((8, 8), np.float32), (4, 8), Recipe(size_px=(4, 4)))
    with pytest.raises(DataError, match="at least 1 x 1"):
        restore(np.zeros((4, 4), np.float32), (0, 8), Recipe(size_px=(4, 4)))
