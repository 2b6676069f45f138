import cv2
import numpy as np
import pandas as pd
import pytest

from medglean.curate.embed import EmbeddingSettings, embed
from medglean.curate.masking import (
    coloured_marks,
    content_box,
    fill_marks,
    mask_clip,
    sector_mask,
    static_marks,
    text_marks,
)
from medglean.data.manifest import Manifest
from medglean.data.phantom.ultrasound import ultrasound_frame
from medglean.data.recipe import Recipe

SIZE = (256, 256)


def frame(clip=0, number=0):
    return ultrasound_frame(0, clip, number, b_lines=clip % 2 == 1, size_px=SIZE)


def burn(grey, text="R12 ABOVE", *, at=(70, 150), level=235, thickness=1):
    """Return the image with letters and a caliper, and where they are."""
    ink = np.zeros_like(grey)
    cv2.putText(ink, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.45, 255, thickness)
    cv2.drawMarker(ink, (128, 110), 255, cv2.MARKER_CROSS, 9, 1)
    return np.where(ink > 0, np.uint8(level), grey), ink > 0


# -- borders


def test_dark_constant_and_nearly_dark_edges_are_cut():
    image = np.random.default_rng(0).integers(60, 200, (100, 120), dtype=np.uint8)
    image[:10] = 0
    image[-5:] = 255  # constant, not dark
    image[:, :20] = 9  # the noise of JPEG
    image[:, -1] = 3
    image[4, 50] = 255  # a stray pixel

    assert content_box(image) == (10, 95, 20, 119)


def test_an_empty_image_is_kept_whole():
    assert content_box(np.zeros((8, 9), np.uint8)) == (0, 8, 0, 9)
    assert content_box(np.full((8, 9), 200, np.uint8)) == (0, 8, 0, 9)


def test_dark_rows_inside_stay():
    image = np.random.default_rng(0).integers(60, 200, (40, 40), dtype=np.uint8)
    image[15:25] = 0

    assert content_box(image) == (0, 40, 0, 40)


# -- sector


def test_the_sector_leaves_letters_beside_it_out():
    plain = frame()
    written, ink = burn(plain, "DEPTH 12", at=(2, 12))
    ink &= np.hypot(*(np.mgrid[:256, :256] - np.array([0, 30])[:, None, None])) < 60

    inside = sector_mask(written)

    assert inside[plain > 40].mean() > 0.97
    assert inside[ink].mean() < 0.2
    assert inside.mean() < 0.8


def test_a_fan_in_two_parts_is_one_sector():
    image = np.zeros(SIZE, np.uint8)
    image[20:120, 30:220] = 90
    image[160:250, 60:150] = 60

    inside = sector_mask(image)

    assert inside[140, 100]
    assert not inside[10, 100]
    assert not inside[250, 240]


def test_without_a_sector_all_is_kept():
    assert sector_mask(np.zeros(SIZE, np.uint8)).all()


# -- text


@pytest.mark.parametrize("clip", [0, 1, 2, 3, 4])
def test_letters_are_found_and_anatomy_is_not(clip):
    plain = frame(clip)
    written, ink = burn(plain)

    found = text_marks(written)

    assert found[ink].mean() > 0.7
    assert text_marks(plain).mean() < 0.002
    assert (found & ~cv2.dilate(ink.astype(np.uint8), np.ones((5, 5))).astype(bool)).mean() < 0.002


def test_faint_letters_blurred_spots_and_a_skin_line_are_no_text():
    flat = np.full(SIZE, 60, np.uint8)
    faint, _ = burn(flat, level=120)
    assert not text_marks(faint).any()
    spot = flat.copy()
    cv2.circle(spot, (100, 100), 3, 250, -1)
    assert text_marks(spot).any()
    assert not text_marks(cv2.GaussianBlur(spot, (0, 0), 4)).any()
    line = flat.copy()
    cv2.line(line, (20, 30), (110, 33), 240, 2)
    assert not text_marks(line).any()


def test_a_large_bright_region_is_no_text():
    image = np.full(SIZE, 30, np.uint8)
    cv2.circle(image, (128, 128), 50, 230, -1)

    assert not text_marks(image).any()


# -- static and coloured marks


def clip_of(count=8, *, level=130):
    frames = np.stack([frame(1, 3 * number) for number in range(count)])
    written = [burn(one, "MI 0.9", at=(90, 190), level=level) for one in frames]
    return frames, np.stack([one for one, _ in written]), written[0][1]


def test_what_never_changes_is_found_though_it_is_faint():
    plain, written, ink = clip_of()

    assert text_marks(written[0])[ink].mean() < 0.3  # too faint to be told from one frame
    assert static_marks(written)[ink].mean() > 0.6
    assert static_marks(plain).mean() < 0.002


def test_too_few_frames_and_a_clip_that_stands_still_say_nothing():
    _, written, _ = clip_of()

    assert not static_marks(written[:4]).any()
    assert not static_marks(np.repeat(written[:1], 8, axis=0)).any()


def test_coloured_pixels_are_found_beyond_the_noise_of_chroma():
    image = np.full((3, 6, 6), 100, np.uint8)
    image[0, 0, 0] = 141
    image[2, 1, 1] = 140

    found = coloured_marks(image)

    assert np.argwhere(found).tolist() == [[0, 0]]
    assert not coloured_marks(image[:1]).any()


# -- filling


@pytest.mark.parametrize("how", ["inpaint", "median"])
def test_marks_are_replaced_by_their_surroundings_and_the_rest_is_left(how):
    y, x = np.mgrid[:64, :64]
    image = (50 + 2 * x + y * 0).astype(np.uint8)
    marks = np.zeros((64, 64), bool)
    marks[30:34, 20:24] = True
    spoiled = np.where(marks, np.uint8(255), image)

    filled = fill_marks(spoiled, marks, how=how)

    near = cv2.dilate(marks.astype(np.uint8), np.ones((3, 3))).astype(bool)
    assert np.abs(filled[near].astype(int) - image[near]).max() <= 8
    np.testing.assert_array_equal(filled[~near], image[~near])


def test_black_fills_with_zero():
    image = np.full((9, 9), 200, np.uint8)
    marks = np.zeros((9, 9), bool)
    marks[4, 4] = True

    filled = fill_marks(image, marks, how="black")

    assert (filled == 0).sum() == 9
    assert (filled[3:6, 3:6] == 0).all()


# -- together


def test_a_margin_with_letters_is_still_a_margin():
    image = np.zeros((1, 1, *SIZE), np.uint8)
    texture = np.random.default_rng(0).integers(40, 120, (196, 256))
    image[0, 0, 60:] = cv2.GaussianBlur(texture.astype(np.uint8), (0, 0), 2)
    image[0, 0], _ = burn(image[0, 0], "ADULT LUNG 5.0", at=(60, 30))
    image[0, 0, 80:140] = image[0, 0, 150:210]  # the caliper

    (kept,) = mask_clip(image, borders=True)
    assert kept.shape[1] > 200
    (cut,) = mask_clip(image, borders=True, text=True)
    assert 190 <= cut.shape[1] <= 200


def test_nothing_asked_nothing_done():
    image = frame()[None, None]

    (same,) = mask_clip(image)

    np.testing.assert_array_equal(same, image[0])


def test_colour_images_are_masked_in_every_channel():
    grey, ink = burn(frame())
    image = np.stack([grey, grey, grey])[None]

    (masked,) = mask_clip(image, text=True)

    assert masked.shape == (3, *SIZE)
    assert (masked[0] == masked[2]).all()
    assert np.median(masked[0][ink]) < 150


@pytest.mark.parametrize("cache", [True, False])
def test_the_same_frame_with_and_without_text_comes_closer(tmp_path, cache):
    rows = []
    for clip in range(8):
        plain = frame(clip)
        words = ("LUNG R1", "BASE L4", "0.7 MI", "DEPTH 9")[clip % 4]
        written, _ = burn(plain, words, at=(50, 60 + 15 * clip), thickness=2)
        for name, image in (("plain", plain), ("text", written)):
            cv2.imwrite(str(tmp_path / f"{clip}{name}.png"), image)
            rows.append((f"{clip}{name}", f"{clip}{name}.png", str(clip)))
    manifest = Manifest.from_frame(pd.DataFrame(rows, columns=["id", "image", "group"]), tmp_path)

    def mean_similarity(**mask):
        settings = EmbeddingSettings.model_validate(
            {"encoder": "pca", "images": Recipe(size_px=(64, 64)), "mask": mask}
        )
        place = tmp_path / "cache" if cache else None
        found = embed(manifest, settings, folder=tmp_path / "work", cache=place, workers=0)
        values = found.embedding.values
        unit = values / np.linalg.norm(values, axis=1, keepdims=True)
        return float((unit[::2] * unit[1::2]).sum(axis=1).mean())

    without = mean_similarity()
    assert 1 - mean_similarity(text=True) < 0.5 * (1 - without)
    everything = mean_similarity(text=True, borders=True, sector=True, static=True)
    assert everything > without


def test_a_masked_image_is_cropped_as_an_unmasked_one(tmp_path):
    """An image wider than high: the sides are cut, with masking and without."""
    y, x = np.mgrid[:120, :240]
    image = (90 + 40 * np.sin(x / 9) + 30 * np.cos(y / 7)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    cv2.imwrite(str(tmp_path / "b.png"), image[:, ::-1])
    table = pd.DataFrame({"id": ["a", "b"], "image": ["a.png", "b.png"]})
    manifest = Manifest.from_frame(table, tmp_path)
    from medglean.curate.embed.pictures import prepare_pictures

    plain, text, borders = (
        prepare_pictures(
            manifest, EmbeddingSettings.model_validate({"mask": mask}), cache=None, workers=0
        )
        for mask in ({}, {"text": True}, {"borders": True})
    )

    assert np.abs(plain.stored.astype(int) - text.stored).max() <= 12
    # by way of a padded square of 256 px: a little softer
    assert np.abs(plain.stored.astype(int) - borders.stored).mean() < 4
    assert len({plain.hash, text.hash, borders.hash}) == 3
