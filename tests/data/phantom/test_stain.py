import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medglean.data.phantom import stain_pair, write_all, write_stain
from medglean.data.phantom.stain import DAB, EOSIN, HAEMATOXYLIN, LEVELS
from medglean.errors import UsageError

SIZE = (128, 128)


def unmixed(image, *vectors):
    """Optical density of each stain, by least squares."""
    density = -np.log10(np.clip(image, 1, 255) / 255.0).reshape(-1, 3)
    return np.linalg.lstsq(np.array(vectors).T, density.T, rcond=None)[0].reshape(
        -1, *image.shape[:2]
    )


def test_same_numbers_same_pixels():
    one, two = stain_pair(0, 1, level=2, size_px=SIZE), stain_pair(0, 1, level=2, size_px=SIZE)
    for a, b in zip(one, two, strict=True):
        assert a.shape == (*SIZE, 3)
        np.testing.assert_array_equal(a, b)


def mean_over_fields(measure, level):
    return np.mean([measure(*stain_pair(0, k, level=level, size_px=SIZE)) for k in range(4)])


def test_brown_rises_with_the_level():
    def measure(he, ihc):
        return unmixed(ihc, HAEMATOXYLIN, DAB)[1].mean()

    brown = [mean_over_fields(measure, level) for level in range(4)]
    assert brown[0] < 0.08
    assert brown[1] > brown[0] + 0.005
    assert brown[2] > brown[1] + 0.03
    assert brown[3] > brown[2] + 0.05


def test_brown_lies_on_the_outlines_and_not_on_the_nuclei():
    ihc = stain_pair(0, 1, level=3, size_px=SIZE)[1]
    blue, brown = unmixed(ihc, HAEMATOXYLIN, DAB)
    assert brown[blue > 0.35].mean() < 0.5 * np.percentile(brown, 95)


def test_nuclei_lie_on_nuclei_and_holes_on_holes():
    he, ihc = stain_pair(0, 2, level=1, size_px=SIZE)
    blue_he = unmixed(he, HAEMATOXYLIN, EOSIN)[0]
    blue_ihc = unmixed(ihc, HAEMATOXYLIN, DAB)[0]
    assert np.corrcoef(blue_he.ravel(), blue_ihc.ravel())[0, 1] > 0.8
    white = he.min(axis=2) > 225
    if white.any():
        assert ihc[white].min(axis=-1).mean() > 215


def test_collagen_is_pink_and_nuclei_are_blue():
    he = np.concatenate(
        [stain_pair(0, k, level=0, size_px=SIZE)[0].reshape(-1, 3) for k in range(3)]
    )
    red, green, blue = he.astype(int).T
    dark = he.sum(axis=1) < 280
    assert (blue[dark] > red[dark]).mean() > 0.9
    bright = (he.sum(axis=1) > 420) & (green < 200)
    assert (red[bright] > blue[bright]).mean() > 0.6


def test_nuclei_grow_with_the_level():
    def measure(he, ihc):
        return (unmixed(he, HAEMATOXYLIN, EOSIN)[0] > 0.5).mean()

    assert mean_over_fields(measure, 3) > 1.15 * mean_over_fields(measure, 0)


@pytest.mark.parametrize("level", [-1, 4, "3+"])
def test_unknown_levels_are_refused(level):
    with pytest.raises(ValueError, match="level must be 0, 1, 2 or 3, got"):
        stain_pair(0, 0, level=level)


def test_written_pairs(tmp_path):
    table = write_stain(tmp_path / "s", slides_per_level=1, fields_per_slide=2, size_px=(48, 64))
    frame = pd.read_csv(table, dtype=str)
    assert sorted(frame.label.unique()) == sorted(LEVELS)
    assert (frame.groupby("slide_id").label.nunique() == 1).all()
    for row in frame.itertuples():
        with (
            Image.open(table.parent / row.image) as he,
            Image.open(table.parent / row.target) as ihc,
        ):
            assert he.size == ihc.size == (64, 48)
            assert he.mode == ihc.mode == "RGB"


def test_too_little_is_refused(tmp_path):
    with pytest.raises(UsageError, match="expected at least 1 of each"):
        write_stain(tmp_path / "s", fields_per_slide=0)


def test_all_sets_are_written(tmp_path, monkeypatch):
    from medglean.data.phantom import sets

    def small(writer, **fewer):
        return lambda folder, *, seed: writer(folder, seed=seed, size_px=(32, 32), **fewer)

    monkeypatch.setattr(sets, "write_cxr", small(sets.write_cxr, patients=2))
    monkeypatch.setattr(sets, "write_brain", small(sets.write_brain, patients=2, slices=1))
    monkeypatch.setattr(
        sets, "write_ultrasound", small(sets.write_ultrasound, patients=2, frames=1)
    )
    monkeypatch.setattr(
        sets, "write_stain", small(sets.write_stain, slides_per_level=1, fields_per_slide=1)
    )
    tables = write_all(tmp_path / "all", seed=4)
    assert sorted(tables) == ["brain", "cxr", "stain", "ultrasound"]
    assert all(path.is_file() for path in tables.values())
