from __future__ import annotations

import numpy as np
import pytest

from medglean.data.slides import open_slide, slide_of, slide_white, tissue_mask
from medglean.data.slides.tissue import SAMPLE_PX, _samples

PINK, RED_INK, BLUE_INK, GREEN_INK, BLACK_INK = (
    (214, 130, 178), (225, 30, 40), (30, 70, 190), (20, 120, 60), (12, 12, 14),
)  # fmt: skip


def glass(level=240, size=(300, 400)):
    noise = np.random.default_rng(0).normal(0, 1.5, (*size, 3))
    return np.clip(level + noise, 0, 255).round().astype(np.uint8)


def piece(colour, *, level=240):
    """Glass with a rectangle of 100 x 150 pixels in one colour."""
    picture = glass(level)
    picture[80:180, 120:270] = colour
    return picture


def overlap(mask):
    truth = np.zeros(mask.shape, dtype=bool)
    truth[80:180, 120:270] = True
    return (mask & truth).sum() / (mask | truth).sum()


@pytest.mark.parametrize("level", [180, 240])
@pytest.mark.parametrize("colour", [PINK, (90, 60, 130), (140, 95, 60)])
def test_stained_tissue_is_found_whatever_the_glass(level, colour):
    dimmed = np.array(colour) * level / 240

    assert overlap(tissue_mask(piece(dimmed, level=level))) > 0.95


def test_pale_tissue_beside_dark_tissue():
    picture = piece((224, 200, 214))
    picture[200:280, 20:100] = (60, 30, 90)

    mask = tissue_mask(picture)

    assert mask[90:170, 130:260].all()
    assert mask[210:270, 30:90].all()
    assert not mask[:60].any()


def test_white_above_the_glass_makes_no_tissue_of_glass():
    picture = piece(PINK)

    assert overlap(tissue_mask(picture, white=np.ones(3))) > 0.95
    assert not tissue_mask(glass(), white=np.ones(3)).any()


def test_empty_glass_and_filled_picture():
    assert not tissue_mask(glass()).any()
    assert tissue_mask(np.full((60, 80, 3), PINK, np.uint8), white=np.full(3, 0.94)).all()


@pytest.mark.parametrize("ink", [RED_INK, BLUE_INK, GREEN_INK, BLACK_INK])
def test_ink_is_no_tissue(ink):
    picture = piece(PINK)
    picture[220:260, 40:300] = ink

    mask = tissue_mask(picture)

    assert mask[225:255, 50:290].mean() < 0.02
    assert mask[85:175, 125:265].all()


def test_dust_is_removed_and_small_gaps_are_closed():
    picture = piece(PINK)
    picture[20, 30] = picture[250, 350] = (100, 80, 90)
    picture[120:122, 120:270] = 240

    mask = tissue_mask(picture)

    assert not mask[:60].any()
    assert not mask[240:].any()
    assert mask[100:160, 130:260].all()


def test_phantom_slide(svs):
    with open_slide(svs) as slide:
        mask = tissue_mask(slide.thumbnail(500))
        small = slide.thumbnail(500)
        white = slide_white(slide)

    assert 0.25 < mask.mean() < 0.6
    assert small[~mask].mean() > 235
    assert small[mask].mean() < 190
    # glass of 0.95 with grain
    np.testing.assert_allclose(white, 0.957, atol=0.006)


def test_white_is_the_percentile_of_every_pixel():
    pixels = np.random.default_rng(0).integers(1, 256, (300, 500, 3), np.uint8)

    white = slide_white(slide_of(pixels), percentile=90)

    expected = np.percentile(pixels.reshape(-1, 3), 90, axis=0, method="inverted_cdf") / 255
    np.testing.assert_allclose(white, expected)


def test_white_leaves_out_what_was_not_scanned():
    class HalfScanned:
        def rgba(self, level, x, y, w, h):
            region = np.full((h, w, 4), 200, np.uint8)
            region[:, :, 3] = 255 * (np.arange(x, x + w) < 300)
            return region

        def close(self):
            pass

    slide = slide_of(np.zeros((400, 600, 3), np.uint8))
    object.__setattr__(slide, "source", HalfScanned())

    np.testing.assert_allclose(slide_white(slide), 200 / 255)
    assert slide.read(0, 299, 0, 2, 1).tolist() == [[[200] * 3, [255] * 3]]


@pytest.mark.parametrize("size_px", [(100, 300), (4096, 4096), (20_000, 50_000), (300, 90_000)])
def test_samples_lie_inside_and_are_few(size_px):
    squares = _samples(size_px)

    assert len(squares) <= 256
    assert len(set(squares)) == len(squares)
    for x, y, w, h in squares:
        assert 0 <= x <= size_px[1] - w
        assert 0 <= y <= size_px[0] - h
    if max(size_px) <= 4096:
        assert sum(w * h for _, _, w, h in squares) == size_px[0] * size_px[1]
    else:
        assert max(x + w for x, _, w, _ in squares) == size_px[1]
        assert max(y + h for _, y, _, h in squares) == size_px[0]
    assert SAMPLE_PX == 256


def test_real_slide(real_data):
    with open_slide(real_data("wsi_small") / "CMU-1-Small-Region.svs") as slide:
        small = slide.thumbnail(1024)
        white = slide_white(slide)
        mask = tissue_mask(small, white=white)

    # looked at: the section down the middle, glass on both sides
    assert 0.33 < mask.mean() < 0.44
    assert not mask[400:, :150].any()
    assert mask[800:1000, 300:450].mean() > 0.97
    assert (white > 0.95).all()
