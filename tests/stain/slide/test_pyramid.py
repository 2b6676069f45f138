from __future__ import annotations

import io

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image
from tests.stain.slide.painted import tissue_like

from medglean.errors import RunFolderError
from medglean.stain.slide import deep_zoom
from medglean.stain.slide.bigtiff import (
    TiffLevel,
    append_directories,
    empty_header,
    point_header,
)
from medglean.stain.slide.encode import bytes_per_pixel, encode_jpeg, encode_tile, halved, padded
from medglean.stain.slide.folder import PartFolder, opened
from medglean.stain.slide.pyramid import (
    DEEP,
    TILES,
    PyramidWriter,
    level_sizes,
    levels_of,
    read_index,
)

SIZE = (150, 203)
TILE = 32


def write(folder, pixels, *, block_px=64, rows=None, resume=False, **settings):
    """Write rows of blocks, committing each, and close."""
    with opened(folder, {"a": 1}, resume=resume) as part:
        first = part.state.get("row", 0)
        with PyramidWriter(part, size_px=pixels.shape[:2], tile_px=TILE, **settings) as writer:
            writer.take_up(part.arrays())
            for row in range(first, -(-pixels.shape[0] // block_px))[:rows]:
                y = row * block_px
                for x in range(0, pixels.shape[1], block_px):
                    writer.add(y, x, pixels[y : y + block_px, x : x + block_px])
                writer.drain()
                part.commit({"row": row + 1}, writer.arrays())


def tiff_of(folder, out, *, size_px=SIZE, pyramid="pages", compression="none", mpp=(0.5, 0.5)):
    levels = levels_of(read_index(folder), level_sizes(size_px, TILE), TILE)
    out.write_bytes((folder / TILES).read_bytes())
    with out.open("r+b") as file:
        start = file.seek(0, 2)
        append_directories(
            file, levels, tile_px=TILE, compression=compression, description="a picture",
            software="test", mpp=mpp, pyramid=pyramid,
        )  # fmt: skip
        point_header(file, start)
    return out


def halved_by_hand(pixels):
    """Return means of 2 x 2, to the nearest and halves upwards, in whole numbers."""
    whole = np.pad(
        pixels, ((0, pixels.shape[0] % 2), (0, pixels.shape[1] % 2), (0, 0)), mode="edge"
    ).astype(int)
    return (whole[::2, ::2] + whole[1::2, ::2] + whole[::2, 1::2] + whole[1::2, 1::2] + 2) // 4


@pytest.mark.parametrize("compression", ["none", "deflate"])
@pytest.mark.parametrize("pyramid", ["pages", "subifds"])
def test_every_level_is_the_mean_of_the_one_above(tmp_path, compression, pyramid):
    pixels = tissue_like(SIZE)
    write(tmp_path / "part", pixels, compression=compression)

    out = tiff_of(tmp_path / "part", tmp_path / "a.tif", compression=compression, pyramid=pyramid)

    with tifffile.TiffFile(out) as file:
        levels = [level.asarray() for level in file.series[0].levels]
        assert len(file.pages) == (1 if pyramid == "subifds" else 4)
    assert [level.shape[:2] for level in levels] == [(150, 203), (75, 102), (38, 51), (19, 26)]
    wanted = pixels
    for level in levels:
        np.testing.assert_array_equal(level, wanted)
        wanted = halved_by_hand(wanted).astype(np.uint8)


def test_jpeg_opens_in_three_readers_alike(tmp_path):
    pixels = tissue_like(SIZE)
    write(tmp_path / "part", pixels, compression="jpeg", quality=95)

    out = tiff_of(tmp_path / "part", tmp_path / "a.tif", compression="jpeg", mpp=(0.25, 0.5))

    seen = tifffile.imread(out)
    assert np.abs(seen.astype(int) - pixels).mean() < 2
    with openslide.OpenSlide(out) as slide:
        assert [(h, w) for w, h in slide.level_dimensions] == level_sizes(SIZE, TILE)
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.5)
        assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(0.25)
        region = slide.read_region((0, 0), 0, slide.dimensions).convert("RGB")
        np.testing.assert_array_equal(np.asarray(region), seen)
    with Image.open(out) as picture:
        assert np.abs(np.asarray(picture.convert("RGB")).astype(int) - seen).max() <= 2


def test_the_same_bytes_whatever_the_blocks_and_the_stops(tmp_path):
    pixels = tissue_like(SIZE)
    write(tmp_path / "once", pixels, deep_zoom=True)
    for _ in range(3):
        write(tmp_path / "twice", pixels, rows=1, resume=True, deep_zoom=True)

    for name in (TILES, DEEP):
        assert (tmp_path / "twice" / name).read_bytes() == (tmp_path / "once" / name).read_bytes()
    first, second = (
        levels_of(read_index(tmp_path / one), level_sizes(SIZE, TILE), TILE)
        for one in ("once", "twice")
    )
    for ours, theirs in zip(first, second, strict=True):
        np.testing.assert_array_equal(ours.offsets, theirs.offsets)


def test_a_missing_tile_is_noticed(tmp_path):
    write(tmp_path / "part", tissue_like(SIZE), rows=2)

    with pytest.raises(ValueError, match="level 0 lacks 7 of 35 tiles"):
        levels_of(read_index(tmp_path / "part"), level_sizes(SIZE, TILE), TILE)


def test_a_file_without_directories_is_no_tiff(tmp_path):
    out = tmp_path / "a.tif"
    out.write_bytes(empty_header() + b"tiles")

    with pytest.raises(openslide.OpenSlideError):
        openslide.OpenSlide(out)
    with tifffile.TiffFile(out) as file:
        assert len(file.pages) == 0


def test_offsets_beyond_four_gigabytes(tmp_path):
    out, tile = tmp_path / "a.tif", encode_tile(np.full((16, 16, 3), 7, np.uint8), "none", 90)
    far = 5_000_000_000
    with out.open("wb") as file:
        file.write(empty_header())
        file.seek(far)  # a hole, which takes no room
        file.write(tile)
        level = TiffLevel((16, 16), np.array([far], np.uint64), np.array([len(tile)], np.uint64))
        start = file.tell()
        append_directories(
            file, [level], tile_px=16, compression="none", description="", software="test",
            mpp=(1, 1), pyramid="pages",
        )  # fmt: skip
        point_header(file, start)

    assert (tifffile.imread(out) == 7).all()


def test_white_tiles_stay_white(tmp_path):
    pixels = np.full((*SIZE, 3), 255, np.uint8)
    write(tmp_path / "part", pixels, quality=60)

    out = tiff_of(tmp_path / "part", tmp_path / "a.tif", compression="jpeg")

    assert (tifffile.imread(out) == 255).all()


@pytest.mark.parametrize("compression", ["jpeg", "deflate"])
def test_deep_zoom_tiles_make_the_whole_picture(tmp_path, compression):
    pixels = tissue_like(SIZE)
    write(tmp_path / "part", pixels, compression=compression, quality=95, deep_zoom=True)
    index = read_index(tmp_path / "part")
    own = levels_of(index, level_sizes(SIZE, 1), TILE, deep=True)
    shared = levels_of(index, level_sizes(SIZE, TILE), TILE)

    with (
        (tmp_path / "part" / TILES).open("rb") as one,
        (tmp_path / "part" / DEEP).open("rb") as two,
    ):
        count = deep_zoom.write_tiles(
            tmp_path / "a_files", shared=one, shared_levels=shared, own=two, own_levels=own,
            tile_px=TILE,
        )  # fmt: skip

    # 203 -> 102 -> 51 -> 26 -> 13 -> 7 -> 4 -> 2 -> 1
    assert sorted(int(one.name) for one in (tmp_path / "a_files").iterdir()) == list(range(9))
    assert count == len(list((tmp_path / "a_files").rglob("*.jpeg"))) == 35 + 12 + 4 + 6
    made = np.zeros_like(pixels)
    for file in (tmp_path / "a_files" / "8").iterdir():
        column, row = map(int, file.stem.split("_"))
        with Image.open(file) as picture:
            tile = np.asarray(picture)
        y, x = row * TILE, column * TILE
        assert made[y : y + TILE, x : x + TILE].shape == tile.shape
        made[y : y + TILE, x : x + TILE] = tile
    assert np.abs(made.astype(int) - pixels).mean() < 2
    with Image.open(tmp_path / "a_files" / "0" / "0_0.jpeg") as picture:
        assert picture.size == (1, 1)
    text = deep_zoom.descriptor(SIZE, TILE)
    assert 'Width="203" Height="150"' in text
    assert "Synthetic, not for diagnosis" in text


def test_halving_rounds_to_the_nearest():
    tile = np.array([[[0], [1]], [[0], [0]]], np.uint8).repeat(3, axis=2)

    assert halved(tile).tolist() == [[[0, 0, 0]]]
    assert halved(tile + 1).tolist() == [[[1, 1, 1]]]
    assert halved(255 - tile).tolist() == [[[255, 255, 255]]]  # 254.75
    random = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    np.testing.assert_array_equal(halved(random), halved_by_hand(random))


def test_padding_repeats_the_rim():
    tile = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)

    assert padded(tile, 3)[:, :, 0].tolist() == [[0, 3, 3]] * 3
    whole = np.zeros((3, 3, 3), np.uint8)
    assert padded(whole, 3) is whole


@pytest.mark.parametrize("quality", [50, 75, 90, 95, 100])
def test_tissue_takes_no_more_bytes_than_reckoned(quality):
    # as rough as stained tissue under a sharp objective gets
    noise = np.random.default_rng(0).normal(0, 12, (256, 256, 3))
    pixels = np.clip(tissue_like((256, 256)) + noise, 0, 255).astype(np.uint8)

    assert len(encode_jpeg(pixels, quality)) / 256**2 < bytes_per_pixel("jpeg", quality) * 1.5


def test_a_folder_keeps_what_was_committed_and_no_more(tmp_path):
    folder = PartFolder(tmp_path / "part", {"a": 1}, resume=False)
    file = folder.append_to("data")
    file.write(b"kept")
    folder.commit({"row": 1}, {"x": np.arange(3)})
    folder.commit({"row": 2})
    file.write(b"lost")
    folder.close()

    again = PartFolder(tmp_path / "part", {"a": 1}, resume=True)
    file = again.append_to("data")
    assert file.tell() == 4
    assert again.state["row"] == 2
    assert again.arrays()["x"].tolist() == [0, 1, 2]
    again.commit({"row": 3}, {"x": np.arange(2)})
    again.commit({"row": 4}, {"x": np.arange(1)})
    assert again.arrays()["x"].tolist() == [0]
    with pytest.raises(RunFolderError, match="in use by"):
        PartFolder(tmp_path / "part", {"a": 1}, resume=True)
    again.close()
    assert (tmp_path / "part" / "data").read_bytes() == b"kept"


def test_a_folder_of_something_else_or_cut_short_is_refused(tmp_path):
    with opened(tmp_path / "part", {"a": 1, "b": 2}, resume=False) as folder:
        folder.append_to("data").write(b"1234")
        folder.commit({})

    with pytest.raises(RunFolderError, match=r"stopped here\. Go on with --resume"):
        PartFolder(tmp_path / "part", {"a": 1, "b": 2}, resume=False)
    with pytest.raises(RunFolderError, match="differs in b"):
        PartFolder(tmp_path / "part", {"a": 1, "b": 3}, resume=True)
    (tmp_path / "part" / "data").write_bytes(b"12")
    with pytest.raises(RunFolderError, match="holds 2 bytes, 4 were written"):
        PartFolder(tmp_path / "part", {"a": 1, "b": 2}, resume=True)


def test_publishing_may_be_repeated(tmp_path):
    with opened(tmp_path / "part", {}, resume=False) as folder:
        (folder.path / "a").write_text("1")
        (folder.path / "b").write_text("2")
        moves = {"a": tmp_path / "x", "b": tmp_path / "y"}
        (folder.path / "a").replace(tmp_path / "x")  # a kill after the first
        folder.publish(moves)
        folder.publish(moves)
        folder.remove()

    assert (tmp_path / "x").read_text() + (tmp_path / "y").read_text() == "12"
    assert not (tmp_path / "part").exists()


def test_a_directory_is_laid_out_as_the_standard_says():
    file = io.BytesIO()
    file.write(empty_header())
    level = TiffLevel((8, 8), np.array([16], np.uint64), np.array([192], np.uint64))
    append_directories(
        file, [level], tile_px=16, compression="jpeg", description="x", software="y",
        mpp=(0.5, 0.5), pyramid="subifds",
    )  # fmt: skip
    data = file.getvalue()

    codes = [
        int.from_bytes(data[24 + 20 * n : 26 + 20 * n], "little")
        for n in range(int.from_bytes(data[16:24], "little"))
    ]
    assert codes == sorted(codes)
    assert {254, 256, 257, 258, 259, 262, 270, 277, 282, 283, 296, 322, 323, 324, 325, 530} < {
        *codes
    }
    assert 330 not in codes  # one level has no children
