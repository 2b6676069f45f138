"""What readers are warned of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats.contingency import association
from tests.classify.study.made_up import (
    FINDINGS,
    NAMES,
    chosen_of,
    networks_of,
    trained_of,
    truth_of,
    with_note,
)

from medglean.classify.study import told
from medglean.errors import Problem


def test_the_association_is_scipys():
    targets = truth_of("single", 3, 60)
    names = NAMES[:3]
    label = chosen_of(targets, classes=names).manifest.frame["label"].to_numpy(dtype=object)
    random = np.random.default_rng(5).choice(["a", "b", "c"], size=len(label))
    source = np.where(np.arange(len(label)) % 4 == 0, random, np.where(label == names[0], "a", "b"))
    chosen = chosen_of(targets, classes=names, source=source)
    counts = np.array(
        [[((label == one) & (source == where)).sum() for where in "abc"] for one in names]
    )
    expected = association(counts, method="cramer", correction=False)
    table, (warning,) = told.source_table(chosen)
    assert 0.5 < expected < 1.0
    assert f"Here it is {expected:.3f}." in table.note
    assert f"(Cramer's V {expected:.3f})" in warning


def test_sources_that_are_the_classes_are_told():
    targets = truth_of("single", 3, 60)
    names = NAMES[:3]
    chosen = chosen_of(targets, classes=names)
    label = chosen.manifest.frame["label"].to_numpy(dtype=object)
    source = np.where(label == "Normal", "NIH", np.where(label == "COVID-19", "SIRM", "RSNA"))
    chosen = chosen_of(targets, classes=names, source=source)
    table, (warning,) = told.source_table(chosen)

    assert "Cramer's V 1.000" in warning
    assert "right on 100.0 % of the test images" in warning
    row = dict(zip(table.columns, table.rows[list(names).index("Normal")], strict=True))
    assert row["NIH"] == (label == "Normal").sum()
    assert row["SIRM"] == row["RSNA"] == 0


def test_sources_that_tell_nothing_are_counted_only():
    targets = truth_of("single", 2, 200)
    chosen = chosen_of(targets, classes=NAMES[:2], source=["a", "b"] * 250)
    table, warnings = told.source_table(chosen)
    assert table is not None
    assert warnings == []
    assert sum(int(n) for row in table.rows for n in row[1:]) == 500
    assert told.source_table(chosen_of(targets, classes=NAMES[:2])) == (None, [])
    one = chosen_of(targets, classes=NAMES[:2], source=["a"] * 500)
    assert told.source_table(one) == (None, [])


def test_the_source_of_a_finding_is_told():
    targets = truth_of("multi", 5, 60)
    plain = chosen_of(targets, kind="multi", classes=FINDINGS)
    has = plain.manifest.frame["labels"].str.contains("Fibrosis").to_numpy()
    sources = [f"s{i % 9}" for i in range(len(has))]
    chosen = chosen_of(
        targets, kind="multi", classes=FINDINGS, source=np.where(has, "fibrosis clinic", sources)
    )
    table, (warning,) = told.source_table(chosen)
    assert "finding 'Fibrosis' go together (Cramer's V 1.000)" in warning
    assert table.columns[-2:] == ["others", "Cramer's V"]
    assert len(table.columns) == 1 + told.MOST_SOURCES + 2
    row = table.rows[FINDINGS.index("Fibrosis")]
    assert sum(int(n) for n in row[1:-1]) == has.sum()
    assert row[-1] == pytest.approx(1.0)


def test_guessing_by_source_is_learnt_from_the_training_part():
    targets = np.array([0, 0, 0, 1])
    chosen = chosen_of(targets, classes=NAMES[:2], learn=6)
    frame = chosen.manifest.frame
    label = ["Normal", "Normal", "COVID-19", "COVID-19", "COVID-19", "Normal", *frame["label"][6:]]
    source = ["a", "a", "a", "b", "b", "b", "a", "b", "b", "new"]
    chosen = chosen_of(targets, classes=NAMES[:2], learn=6, source=source)
    chosen.manifest.frame["label"] = label
    # a: Normal, b: COVID-19, a new source: the first of the two that are equally frequent
    note = told.source_table(chosen)[0].note
    assert "right on 50.0 % of the test images" in note


def test_patients_on_both_sides_are_told():
    targets = truth_of("single", 2, 40)
    apart = chosen_of(targets, classes=NAMES[:2])
    assert told.patients_told(apart) == []

    views = ["PA"] * 300 + ["AP Supine"] * 40
    patients = [f"p{i % 170}" for i in range(340)]
    torn = chosen_of(targets, classes=NAMES[:2], view=views, patient=patients)
    (warning,) = told.patients_told(torn)
    assert warning.startswith(
        "The split by view (PA against AP Supine) crosses patients: 40 of them, with 40 of 40 test"
    )
    crossing = Problem("m.csv", "40 patients.", "", kind="groups-across-parts", fatal=False)
    assert told.patients_told(replace(torn, problems=(crossing,))) == []
    mixed = chosen_of(targets, classes=NAMES[:2], view=["PA", "AP"] * 170, patient=patients)
    assert told.patients_told(mixed)[0].startswith("The split crosses patients")
    (unknown,) = told.patients_told(chosen_of(targets, classes=NAMES[:2], patients=False))
    assert unknown.startswith("Patients are not known")


def test_short_and_diverged_trainings_are_told_once():
    targets = truth_of("single", 2, 40)
    full = trained_of(targets, classes=NAMES[:2], epochs=50)
    assert told.training_told([full]) == []
    short = trained_of(targets, classes=NAMES[:2], epochs=3, name="short", label="Short")
    (warning,) = told.training_told([full, short, short])
    assert "shorter than the report's 50 epochs (1 of 2 trainings: 3)" in warning
    assert "no reproduction" in warning
    broken = with_note(full, "its loss was NaN in step 7.")
    assert told.training_told([broken]) == ["AlexNet diverged: its loss was NaN in step 7."]


def test_a_constant_answer_that_wins_is_told():
    targets = truth_of("multi", 5, 80)
    poor = [
        trained_of(targets, kind="multi", classes=FINDINGS, skill=0.3, label=name, name=name)
        for name in ("a", "b")
    ]
    (warning,) = told.constant_told(poor)
    assert warning.startswith("Always answering COVID-19 + Pneumonia + Viral has exact match")
    assert "macro recall 0.600" in warning
    good = networks_of(targets, kind="multi", classes=FINDINGS)[-1:]
    assert told.constant_told([*poor, *good]) == []
    assert told.constant_told([]) == []

    targets = truth_of("single", 4, 60)
    (warning,) = told.constant_told([trained_of(targets, skill=-2.0)])
    assert "how frequent that class is" in warning


def test_an_answer_without_a_finding_has_a_name():
    targets = truth_of("multi", 5, 40)
    one = trained_of(targets, kind="multi", classes=FINDINGS, always=[])
    assert told.answer_of(one.constant) == "no finding"
