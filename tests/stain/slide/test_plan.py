from __future__ import annotations

import numpy as np
import pytest

from medglean.errors import UsageError
from medglean.stain.slide.blend import Blender
from medglean.stain.slide.plan import Box, plan_tiles, ramp


def plan(size_px=(100, 150), **changes):
    settings = {"tile_px": 32, "stride_px": 16, "reach_px": 20, "feather_px": 6}
    return plan_tiles(size_px, **(settings | changes))


def boxes(plan, kind):
    return [getattr(plan, kind)(row, column)
            for row in range(plan.rows) for column in range(plan.columns)]  # fmt: skip


@pytest.mark.parametrize("size_px", [(100, 150), (32, 64), (1, 1), (97, 33)])
def test_cores_partition_the_slide_and_tokens_the_padded_one(size_px):
    tiles = plan(size_px)
    for kind, size in (("core", size_px), ("core_of_tokens", tiles.padded_px)):
        seen = np.zeros(size, int)
        for box in boxes(tiles, kind):
            seen[box.y0 : box.y1, box.x0 : box.x1] += 1
        assert (seen == 1).all()


def test_windows_lie_on_the_stride_and_hold_all_that_is_seen():
    tiles = plan()

    assert tiles.padded_px == (112, 160)
    assert tiles.overlap_px == (32, 32)  # 20 and 26, up to multiples of 16
    for extent, window in zip(boxes(tiles, "extent"), boxes(tiles, "window"), strict=True):
        assert not any(side % 16 for side in (*window, *window.size_px))
        for first, last, begin, end, border in (
            (extent.y0, extent.y1, window.y0, window.y1, 112),
            (extent.x0, extent.x1, window.x0, window.x1, 160),
        ):
            assert begin == 0 or begin <= first - 20
            assert end == border or end >= last + 20
    assert tiles.window(1, 1) == Box(0, 96, 0, 96)
    assert tiles.window(1, 1, overlap_px=(16, 0)) == Box(16, 64, 16, 64)


def test_a_tile_fits_network_and_file():
    assert plan(tile_px=33).tile_px == 48
    assert plan(stride_px=24, tile_px=32).tile_px == 48  # of 24 and of 16
    assert plan(tile_px=1024, stride_px=256).file_tile_px == 256
    assert plan(tile_px=96).file_tile_px == 32


def test_a_legend_below_lengthens_the_canvas_alone():
    tiles = plan((64, 64), below_px=40)

    assert (tiles.slide_px, tiles.canvas_px, tiles.padded_px) == ((64, 64), (104, 64), (64, 64))
    assert [tiles.on_slide(row, 0) for row in range(tiles.rows)] == [True, True, False, False]


def test_a_feather_that_is_not_generated_is_refused():
    with pytest.raises(UsageError, match="wider than the overlap of 16 or the tile of 32"):
        plan(overlap_px=5, feather_px=17)
    with pytest.raises(UsageError, match=r"a smaller slide\.feather_px"):
        plan(feather_px=33)


@pytest.mark.parametrize("feather_px", [0, 6, 32])
@pytest.mark.parametrize("size_px", [(100, 150), (65, 70), (64, 96), (10, 9)])
def test_blending_what_is_cut_from_one_picture_gives_that_picture(size_px, feather_px):
    tiles = plan(size_px, feather_px=feather_px)
    picture = np.random.default_rng(0).uniform(0, 255, (*size_px, 3)).astype(np.float32)
    blender, found = Blender(tiles), np.zeros_like(picture)
    for row in range(tiles.rows):
        for column in range(tiles.columns):
            box, core = tiles.extent(row, column), tiles.core(row, column)
            part = picture[box.y0 : box.y1, box.x0 : box.x1].copy()
            found[core.y0 : core.y1, core.x0 : core.x1] = blender.add(row, column, part)
        blender.end_row()

    np.testing.assert_allclose(found, picture, atol=1e-3)


def test_one_tile_fades_into_the_next():
    tiles = plan((64, 64), feather_px=4)
    blender, found = Blender(tiles), np.zeros((64, 64, 3), np.float32)
    for row in range(2):
        for column in range(2):
            value = 100.0 * (1 + column + 2 * row)
            core = tiles.core(row, column)
            made = np.full((*tiles.extent(row, column).size_px, 3), value, np.float32)
            found[core.y0 : core.y1, core.x0 : core.x1] = blender.add(row, column, made)
        blender.end_row()

    # weights of the later tile: 1/8, 3/8, 5/8, 7/8
    np.testing.assert_allclose(
        found[10, 30:38, 0], [100, 100, 112.5, 137.5, 162.5, 187.5, 200, 200]
    )
    np.testing.assert_allclose(found[32:36, 10, 1], [125, 175, 225, 275])
    assert found[32, 32, 2] == pytest.approx(100 + 100 / 8 + 200 / 8)
    assert found[63, 63, 0] == 400


def test_a_tile_left_out_counts_as_nothing():
    tiles = plan((32, 64), feather_px=4)
    blender = Blender(tiles)
    blender.add(0, 0, np.full((32, 36, 3), 80, np.float32))

    found = blender.add(0, 1, None)

    np.testing.assert_allclose(found[5, :5, 0], [70, 50, 30, 10, 0])


def test_ramps_are_even_and_add_up_to_one():
    assert ramp(0).tolist() == []
    np.testing.assert_allclose(ramp(7) + ramp(7)[::-1], 1)
