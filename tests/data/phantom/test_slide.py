from __future__ import annotations

import numpy as np
import openslide
import pytest

from medglean.data.phantom.slide import write_slide
from medglean.data.slides import open_slide
from medglean.errors import UsageError


@pytest.fixture(scope="module")
def svs(tmp_path_factory):
    return write_slide(tmp_path_factory.mktemp("slides") / "a.svs", (1100, 1500), mpp=0.5)


def test_it_is_the_same_again_and_another_with_another_seed(tmp_path, svs):
    again = write_slide(tmp_path / "b.svs", (1100, 1500), mpp=0.5)
    other = write_slide(tmp_path / "c.svs", (1100, 1500), mpp=0.5, seed=1)

    assert again.read_bytes() == svs.read_bytes()
    assert other.read_bytes() != svs.read_bytes()


def test_levels_agree(svs):
    with open_slide(svs) as slide:
        whole = slide.read(0, 0, 0, 1500, 1100)[:1100, :1500]
        lower = slide.read(1, 0, 0, 375, 275)
    means = whole.reshape(275, 4, 375, 4, 3).mean(axis=(1, 3))

    def error(moved):
        return np.abs(means[:, 1:-1] - moved).mean()

    assert error(lower[:, 1:-1]) < 0.5 * min(error(lower[:, 2:]), error(lower[:, :-2]))


def test_a_plain_pyramid(tmp_path):
    path = write_slide(tmp_path / "a.tif", (600, 700), vendor="generic", mpp=0.25)

    assert openslide.OpenSlide.detect_format(path) == "generic-tiff"
    with open_slide(path) as slide:
        assert slide.mpp == pytest.approx((0.25, 0.25), rel=1e-4)
    with open_slide(write_slide(tmp_path / "b.tif", (600, 700), vendor="generic", mpp=None)) as it:
        assert it.mpp is None


def test_it_opens_as_aperio_and_says_that_it_is_synthetic(svs):
    assert openslide.OpenSlide.detect_format(svs) == "aperio"
    with openslide.OpenSlide(svs) as slide:
        assert slide.properties["openslide.objective-power"] == "20"
        assert (
            slide.properties["aperio.Title"]
            == "synthetic image made by medglean; not of any person"
        )
        thumbnail = np.asarray(slide.associated_images["thumbnail"])
    with open_slide(svs) as slide:
        small = slide.thumbnail(750)
    assert thumbnail.shape == (550, 750, 4)
    assert np.abs(thumbnail[:, :, :3].astype(int) - small).mean() < 4


def test_small_slide_has_one_level(tmp_path):
    with open_slide(write_slide(tmp_path / "a.svs", (70, 90))) as slide:
        assert [level.size_px for level in slide.levels] == [(70, 90)]
        assert slide.read(0, 0, 0, 90, 70).shape == (70, 90, 3)


@pytest.mark.parametrize(
    ("size_px", "options"),
    [((0, 10), {}), ((10, 10), {"tile_px": 100}), ((10, 10), {"downsamples": (2, 4)})],
)
def test_impossible_numbers(tmp_path, size_px, options):
    with pytest.raises(UsageError, match="expected at least 1 x 1 pixels, tiles of a multiple"):
        write_slide(tmp_path / "a.svs", size_px, **options)
