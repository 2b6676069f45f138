"""The numbers, tables, pictures and sentences of a report, from maps whose worth is known."""

import dataclasses

import numpy as np
import pytest
from tests.anomaly.test_measured import MAPPER, mapped, rows

from medglean.anomaly.measured import Measured, assess
from medglean.anomaly.page import (
    case_of,
    learning_figures,
    metrics_of,
    quoted,
    result_figures,
    result_of,
    result_tables,
)
from medglean.fitting import FitResult

SICK = [True, True, True, False, False, False]


def measured(diseased=SICK, *, sign=1.0, mapper=MAPPER, **changes):
    of = rows(diseased, **changes)
    made = mapped(of, sign)
    return Measured(of, made, assess(mapper, of, made))


def test_the_number_to_quote_is_first_and_those_of_the_foreground_stand_in_a_table():
    found = measured()

    names = [metric.name for metric in metrics_of(found, group_name="patients")]

    assert names[0] == "best Dice"
    assert not any("foreground" in name for name in names)
    table = result_tables(found)[0]
    assert table.title == "Counting the foreground alone"
    assert "pixel AUROC" in [row[0] for row in table.rows]


def test_the_sentence_names_images_patients_and_numbers():
    found = measured(groups=["a", "a", "b", "c", "d", "e"])

    assert quoted(found, counted="patients") == (
        "On 3 diseased images of 2 other patients the best Dice at one threshold is 1.000, the "
        "pixel AUROC 1.000."
    )


def test_without_masks_the_sentence_is_about_whole_images():
    nothing = np.zeros((6, 16, 16), bool)
    found = measured(masks=nothing, known=[False] * 3 + [True] * 3)

    assert quoted(found, counted="patients") == (
        "On 6 images of 6 other patients the image AUROC is 1.000; no masks were there to measure "
        "pixels against."
    )
    assert not any(case.mask is not None for case in [case_of(MAPPER, found, 0, "tiny")])


def test_one_class_without_masks_has_nothing_to_measure():
    nothing = np.zeros((2, 16, 16), bool)
    found = measured([True, True], masks=nothing, known=[False, False])

    assert "Images of one class alone" in quoted(found, counted="patients")


def test_thresholds_are_told_with_where_they_come_from():
    fixed = dataclasses.replace(MAPPER, thresholds={"healthy 99 %": 0.125})
    of = rows(SICK)
    made = mapped(of)
    tables = result_tables(Measured(of, made, assess(fixed, of, made)))

    table = next(one for one in tables if one.title == "Thresholds")
    assert 0.125 in [row[1] for row in table.rows]
    assert "without masks" in table.note


def test_every_number_is_explained():
    found = measured()

    table = result_tables(found)[-1]

    assert table.title == "What the measures mean"
    names = [metric.name for metric in metrics_of(found, group_name="patients")]
    assert {row[0] for row in table.rows} == set(names)


def test_figures_show_cases_and_the_scores_of_both_classes():
    figures = result_figures(MAPPER, measured())

    assert [figure.title for figure in figures] == ["From image to map", "Scores of whole images"]
    assert "position-matched" not in figures[1].caption  # there are no positions here
    assert figures[0].data.startswith(b"\x89PNG")
    assert figures[0].section == "examples"  # alone there, as wide as the page
    one_class = result_figures(MAPPER, measured([True, True]))
    assert [figure.title for figure in one_class] == ["From image to map"]


def test_maps_without_a_number_are_not_shown():
    found = measured()
    found.mapped.maps[:] = np.nan
    found = dataclasses.replace(found, assessment=assess(MAPPER, found.of, found.mapped))

    assert result_figures(MAPPER, found) == []


def test_a_case_has_its_dice_and_its_mask():
    found = measured(known=[True, False, True, True, True, True])

    with_mask, unknown, healthy = (case_of(MAPPER, found, place, "tiny") for place in (0, 1, 3))

    assert with_mask.results["tiny"].told == "Dice at Otsu 1.00"
    assert with_mask.has_outline
    assert unknown.mask is None
    assert healthy.mask is not None
    assert healthy.results["tiny"].told == ""
    found.mapped.maps[0, 0, 0] = np.nan
    assert result_of(found, 0).told == ""


def history(*rows):
    return FitResult(
        steps=4, epochs=2, seconds=1.0, history=list(rows), best=None, last=None,
        best_step=None, best_value=None, stopped_early=False, resumed_from=(), warnings=(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "count"),
    [
        ([{"epoch": 0, "train.loss": 1.0, "val.loss": 2.0},
          {"epoch": 1, "train.loss": 0.5, "val.loss": 1.0}], 1),
        ([{"epoch": 0, "train.loss": 1.0}], 0),
        ([{"epoch": 0, "train.loss": 1.0, "val.loss": float("nan")}], 0),
        ([], 0),
    ],
)  # fmt: skip
def test_learning_is_drawn_where_it_was_judged(rows, count):
    drawn = learning_figures({"unet": history(*rows)}, {"train, healthy": 3, "val, healthy": 2})

    assert len(drawn) == count
    if count:
        assert "unet" in drawn[0].title
