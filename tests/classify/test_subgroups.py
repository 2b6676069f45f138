import numpy as np
import pytest
from tests.classify.judged import judge, two_classes

from medglean.classify.subgroups import MOST_SUBGROUPS, subgroups_part
from medglean.measure.curves import auroc
from medglean.runs.report import Report


def cells(part, place=0):
    return {row[0]: row[1:] for row in part.tables[place].rows}


def test_each_subgroup_is_measured_on_its_own_images():
    probability, targets = two_classes(300, separation=2.0)
    source = np.where(np.arange(300) < 200, "A", "B")

    part = subgroups_part(judge(probability, targets, source=source))

    rows = cells(part)
    for name, mask in (("A", source == "A"), ("B", source == "B")):
        images, ill, area, sensitive, specific, why = rows[name]
        truth, score = targets[mask] == 1, probability[mask, 1]
        assert (images, ill) == (mask.sum(), truth.sum())
        assert area.startswith(f"{auroc(truth, score):.3f} (")
        assert sensitive.startswith(f"{(score[truth] > 0.5).mean():.3f} (")
        assert specific.startswith(f"{(score[~truth] <= 0.5).mean():.3f} (")
        assert why == "-"
    assert part.tables[0].columns[2] == "ill"
    assert not part.warnings


def test_a_gap_is_told_and_one_that_is_not_there_is_not():
    good, first = two_classes(300, separation=5.0, seed=1)
    poor, second = two_classes(300, separation=0.5, seed=2)
    probability, targets = np.concatenate([good, poor]), np.concatenate([first, second])
    view = ["PA"] * 300 + ["AP"] * 300

    part = subgroups_part(judge(probability, targets, view=view))

    assert len(part.warnings) == 1
    assert "AUROC (of ill) differs by view" in part.warnings[0]
    assert "for PA, 0.6" in part.warnings[0]
    assert "Largest gap in AUROC: PA above AP" in part.tables[0].note
    alternating = ["PA", "AP"] * 300
    assert subgroups_part(judge(probability, targets, view=alternating)).warnings == ()


def test_small_subgroups_are_shown_and_said_to_be_too_small():
    probability, targets = two_classes(200, separation=2.0)
    source = ["A"] * 100 + ["B"] * 95 + ["C"] * 4 + ["D"]

    part = subgroups_part(judge(probability, targets, source=source))

    rows = cells(part)
    assert "4 images (few: below 50)" in rows["C"][-1]
    assert rows["D"][2] == "n/a"
    assert "2 of 4 subgroups are too small to say anything about (C, D)" in part.warnings[0]


def test_missing_values_are_a_row_of_their_own():
    probability, targets = two_classes(150, separation=2.0)

    part = subgroups_part(judge(probability, targets, sex=["F"] * 60 + ["M"] * 60 + [None] * 30))

    assert list(cells(part)) == ["F", "M", "not known"]
    assert cells(part)["not known"][0] == 30


def test_a_class_of_one_source_is_told_and_its_area_is_not_made_up():
    generator = np.random.default_rng(0)
    targets = np.repeat([0, 1, 2], 60)
    logits = generator.normal(size=(180, 3)) + 2.0 * (targets[:, None] == np.arange(3))
    shares = np.exp(logits)
    probability = shares / shares.sum(axis=1, keepdims=True)
    source = np.where(targets == 2, "archive", "hospital")

    part = subgroups_part(judge(probability, targets, classes=("a", "b", "c"), source=source))

    assert any(
        "All images of a class have the same source" in one and "c of archive" in one
        for one in part.warnings
    )
    assert cells(part)["archive"][2] == "n/a"
    assert "of no class" in part.tables[0].note
    assert part.figures == ()
    assert cells(part)["hospital"][1].startswith("a 60, b 60")


def test_averages_are_over_the_classes_that_large_subgroups_share():
    generator = np.random.default_rng(0)
    truth = (generator.random((240, 3)) < 0.4).astype(np.float32)
    truth[:120, 2] = 0.0
    probability = np.clip(0.3 * truth + 0.7 * generator.random((240, 3)), 0, 1)
    source = np.repeat(["A", "B"], 120)

    part = subgroups_part(judge(probability, truth, classes=("x", "y", "z"), source=source))

    expected = np.mean([auroc(truth[120:, j] > 0, probability[120:, j]) for j in (0, 1)])
    assert cells(part)["B"][2].startswith(f"{expected:.3f} (")
    assert "mean of x, y, which every large subgroup has" in part.tables[0].note


def test_ages_are_put_in_bands_and_what_is_no_age_is_counted():
    probability, targets = two_classes(120, separation=2.0)
    ages = ["17", "18", "45", "61.5", "-1", "unknown"] * 20

    part = subgroups_part(judge(probability, targets, age=ages))

    rows = cells(part)
    assert list(rows) == ["under 18", "18 to 39", "40 to 59", "60 to 79", "not known"]
    assert [row[0] for row in rows.values()] == [20, 20, 20, 20, 40]
    assert "40 entries of age are no number of years" in part.tables[0].note


def test_many_values_are_pooled():
    probability, targets = two_classes(400, separation=2.0)
    source = [f"site {min(row // 20, 19):02d}" for row in range(300)] + ["site 00"] * 100

    part = subgroups_part(judge(probability, targets, source=source))

    rows = cells(part)
    assert len(rows) == MOST_SUBGROUPS
    assert sum(row[0] for row in rows.values()) == 400
    assert list(rows)[-1] == "4 other values"


def test_columns_that_say_nothing_are_passed_over():
    probability, targets = two_classes(60, separation=2.0)

    part = subgroups_part(judge(probability, targets, source=["A"] * 60, colour=["x", "y"] * 30))

    assert part.tables == part.figures == part.warnings == ()


def test_patients_are_counted_and_resampled():
    probability, targets = two_classes(240, separation=2.0)
    patients = [str(row // 6) for row in range(240)]
    source = ["A", "B"] * 120

    alone = subgroups_part(judge(probability, targets, source=source))
    grouped = subgroups_part(judge(probability, targets, source=source, patients=patients))

    assert "Patients" not in alone.tables[0].columns
    assert cells(grouped)["A"][:2] == [120, 40]
    assert grouped.tables[0].columns[2] == "Patients"


@pytest.mark.parametrize("column", ["source", "view", "sex"])
def test_the_page_can_be_made(column):
    probability, targets = two_classes(160, separation=2.0)

    part = subgroups_part(judge(probability, targets, **{column: ["<A>", "B"] * 80}))

    page = Report("t", "s", tables=part.tables, figures=part.figures, warnings=part.warnings)
    assert "&lt;A&gt;" in page.to_html()
