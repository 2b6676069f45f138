import io

import numpy as np
import pytest
from PIL import Image

from medglean.runs.tiles import Tile, displayable, side_by_side, tile_grid


def opened(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def test_grey_values_and_the_frame_are_drawn_as_they_are():
    picture = opened(tile_grid([Tile(np.full((8, 8), 0.2), "a", ("a",), "kept", "#0072B2")]))

    colours, counts = np.unique(picture.reshape(-1, 3), axis=0, return_counts=True)
    common = {tuple(int(v) for v in c) for c, n in zip(colours, counts, strict=True) if n > 500}

    assert {(51, 51, 51), (0, 0x72, 0xB2)} <= common


def test_more_columns_make_a_wider_grid_and_wide_tiles_a_lower_one():
    tiles = [Tile(np.zeros((8, 8)), "a")] * 4
    wide = [Tile(np.zeros((8, 16)), "a")] * 4

    two, four = opened(tile_grid(tiles, columns=2)), opened(tile_grid(tiles, columns=4))

    assert four.shape[1] > 1.8 * two.shape[1]
    assert four.shape[0] < two.shape[0]
    assert opened(tile_grid(wide, columns=4)).shape[0] < four.shape[0]


def test_two_images_stand_side_by_side_at_one_height():
    left, right = np.zeros((4, 4)), np.stack([np.ones((2, 2)), np.zeros((2, 2)), np.zeros((2, 2))])

    pair = side_by_side(left, right, gap_px=1)

    assert pair.shape == (3, 4, 9)
    assert (pair[:, :, :4] == 0).all()
    assert (pair[:, :, 4] == 1).all()
    assert (pair[0, :, 5:] == 1).all()
    assert (pair[1:, :, 5:] == 0).all()


def test_an_enlarged_image_keeps_its_places():
    small = np.array([[0.0, 0.25], [0.5, 0.75]])

    pair = side_by_side(small, np.zeros((4, 4)), gap_px=0)

    np.testing.assert_array_equal(pair[0, :, :4], np.kron(small, np.ones((2, 2))))


def test_what_cannot_be_shown_is_told():
    with pytest.raises(ValueError, match="expected at least one image, found none"):
        tile_grid([])
    with pytest.raises(ValueError, match=r"image 'x': expected shape .* found \(4, 8, 8\)"):
        displayable(np.zeros((4, 8, 8)), "x")
