"""What is measured of generated images that are known, by hand."""

from dataclasses import replace

import numpy as np
import pytest
from tests.stain.standins import known_stainer
from tests.stain.tiny import tiny_stainer

from medglean.measure.images import psnr
from medglean.stain import assess as known
from medglean.stain import measured as module
from medglean.stain.measured import (
    as_colours,
    assessed,
    measure,
    measure_rows,
    result_frame,
    shown_rows,
    stored_of,
)
from medglean.stain.optics import apply_white
from medglean.stain.pairs import target_of

WHITE = {"white": {"normalise": True}}


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setattr(module, "check_pairs", lambda pairs, rows: [])


def yellow(image):
    """Return an image with less blue everywhere."""
    return image * np.array([1.0, 1.0, 0.8], dtype=np.float32)[:, None, None]


def test_the_real_image_itself_has_no_error(start):
    rows = start.pairs.positions()
    found = measure(known_stainer(start, judge=True), start.pairs, rows)

    metrics = found.assessment.metrics
    assert found.assessment.identical == len(rows)
    assert np.isnan(metrics[known.PSNR].value)  # infinite for each
    assert metrics[known.SSIM].value == pytest.approx(1.0)
    for name in (known.DAB_ERROR, known.BACKGROUND, known.B_SHIFT):
        assert metrics[name].value == pytest.approx(0.0, abs=1e-9), name
    assert metrics[known.DICE].value == 1.0
    assert metrics[known.DAB_R].value == pytest.approx(1.0)
    assert metrics[known.AGREEMENT].value == 1.0


def test_the_mean_colour_beside_it_is_that_of_the_training_images(start):
    rows = start.pairs.positions("test")
    colour = (0.8, 0.7, 0.6)

    table = measure_rows(known_stainer(start, colour=colour), start.pairs, rows).table

    flat = np.broadcast_to(np.rint(np.array(colour) * 255).astype(np.uint8), (64, 64, 3))
    for place, row in enumerate(rows):
        real = np.moveaxis(start.pairs.targets.stored[row], 0, -1)
        assert table["flat.psnr"][place] == pytest.approx(psnr(np.ascontiguousarray(flat), real))


def test_a_stainer_without_networks_is_its_own_mean_colour(start):
    flat = tiny_stainer(start.with_preset(method="mean-colour", measure={"judge": False}))
    found = measure(flat, start.pairs, start.pairs.positions("test"))

    assert found.assessment.metrics[known.GAIN].value == 0.0
    table = found.made.table
    np.testing.assert_array_equal(table["psnr"], table["flat.psnr"])


def test_a_yellow_background_is_seen_and_not_divided_away(start):
    found = measure(known_stainer(start, yellow), start.pairs, start.pairs.positions())

    metrics = found.assessment.metrics
    assert metrics[known.BACKGROUND].value > 0.03
    assert metrics[known.B_SHIFT].value > 5
    assert metrics[known.DAB_ERROR].value > 0.03
    turned = measure(known_stainer(start, lambda image: 1 - yellow(1 - image)), start.pairs,
                     start.pairs.positions()).assessment.metrics  # fmt: skip
    assert turned[known.B_SHIFT].value < 0  # more blue instead


def test_with_white_glass_both_kinds_of_psnr_are_told(start):
    normal = start.with_preset(**WHITE)
    pairs = replace(start.pairs, white=normal.preset.white)
    rows = pairs.positions("test")

    table = measure_rows(known_stainer(normal), pairs, rows).table

    assert np.isposinf(table["psnr.normalised"]).all()
    np.testing.assert_allclose(table["ssim.normalised"], 1.0)
    grey = np.full((64, 64, 3), 128, np.uint8)  # of the mean colour, without any white put back
    glass = as_colours(target_of(pairs, rows[:1])[0])
    assert table["flat.psnr.normalised"][0] == pytest.approx(psnr(grey, glass))
    one, real = target_of(pairs, rows[:1])[0], stored_of(pairs, int(rows[0]))
    assert table["psnr"][0] == pytest.approx(psnr(as_colours(one), as_colours(real)))
    assert np.isfinite(table["psnr"]).all()  # glass is white in one and not in the other
    np.testing.assert_allclose(table["dab.error"], 0.0, atol=0.01)  # of 8 bits


@pytest.mark.parametrize("reapply", ["training", "input", "own"])
def test_white_that_is_put_back_counts_for_psnr_and_not_for_densities(start, reapply):
    normal = start.with_preset(white={"normalise": True, "reapply": reapply})
    pairs = replace(start.pairs, white=normal.preset.white)
    rows = pairs.positions("test")
    stainer = known_stainer(normal)

    made = measure_rows(stainer, pairs, rows, keep=rows[:1])

    row = int(rows[0])
    whites = {"input": pairs.white_images, "own": pairs.white_targets}
    white = stainer.white if reapply == "training" else whites[reapply][row]
    one = as_colours(apply_white(target_of(pairs, [row])[0], white))
    real = as_colours(stored_of(pairs, row))
    assert made.table["psnr"][0] == pytest.approx(psnr(one, real))
    np.testing.assert_array_equal(made.kept[row].generated, one)
    np.testing.assert_allclose(made.kept[row].white, white)
    assert np.isposinf(made.table["psnr.normalised"]).all()  # as if nothing were put back
    np.testing.assert_allclose(made.table["dab.error"], 0.0, atol=0.012)
    if reapply == "own":
        assert (made.table["psnr"] > 45).all()  # the real image again, but for clipped glass


def test_a_trained_stainer_is_measured_as_it_stains(start):
    stainer = tiny_stainer(start)
    rows = start.pairs.positions("test")

    found = measure(stainer, start.pairs, rows)

    assert set(found.made.kept) == set(shown_rows(start.pairs, rows, count=4))
    assert known.AGREEMENT in found.assessment.metrics
    assert found.cpu_seconds > 0
    row = next(iter(found.made.kept))
    given = start.pairs.images.stored[row : row + 1].astype("f4") / np.float32(255)
    expected = as_colours(stainer.stain(given)[0])
    assert np.abs(found.made.kept[row].generated.astype(int) - expected).max() <= 1


def test_the_table_has_a_row_for_each_pair(start):
    rows = start.pairs.positions("test")
    frame = result_frame(measure(known_stainer(start, yellow, judge=True), start.pairs, rows))

    assert frame["id"].tolist() == [start.pairs.images.ids[row] for row in rows]
    assert frame["label"].tolist() == start.pairs.manifest.frame["label"].iloc[rows].tolist()
    assert {"psnr", "ssim", "flat.psnr", "dab.error", "dice", "judged.real"} <= set(frame)
    assert str(frame["judged.generated"].dtype) == "Int64"


def test_what_is_shown_is_spread_over_levels_and_chosen_beforehand(start):
    rows = start.pairs.positions()
    levels = start.pairs.levels

    assert [levels[row] for row in shown_rows(start.pairs, rows, count=4)] == [0, 1, 2, 3]
    two = shown_rows(start.pairs, rows, count=2)
    assert [levels[row] for row in two] == [2, 3]  # with more stain to see
    everything = shown_rows(start.pairs, rows, count=99)
    assert sorted(everything) == rows.tolist()
    unknown = replace(start.pairs, levels=np.full(len(levels), -1))
    assert len(shown_rows(unknown, rows, count=3)) == 3


def test_pairs_that_do_not_lie_on_one_another_are_told(start):
    made = measure_rows(known_stainer(start), start.pairs, start.pairs.positions("test"))

    found = assessed(made, start.pairs, start.preset, problems=["shifted"])  # type: ignore[list-item]

    assert found.problems == ["shifted"]
    assert any("1 of 4 pairs are shifted" in note for note in found.notes)


def test_progress_counts_pairs(start):
    told = []
    rows = start.pairs.positions("test")

    measure_rows(known_stainer(start), start.pairs, rows, progress=lambda *at: told.append(at))

    assert told[-1] == (len(rows), len(rows))
