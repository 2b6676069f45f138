"""The page of the 2022 study, from made-up trainings; numbers are checked by scikit-learn."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    hamming_loss,
    precision_score,
    recall_score,
    roc_auc_score,
)
from tests.classify.study.made_up import (
    FINDINGS,
    NAMES,
    PRESET,
    ablations_of,
    chosen_of,
    classes_of,
    networks_of,
    trained_of,
    truth_of,
)

from medglean.classify.study import curves, figures
from medglean.classify.study.measured import undefined
from medglean.classify.study.page import by_theme, metrics_of, study_report
from medglean.errors import Problem, UsageError
from medglean.runs.rundir import RunFolder

COMMAND = ["medglean", "study", "cxr2022"]


@pytest.fixture
def drawn(monkeypatch):
    """Keep figures from being written, which takes longer than drawing them."""
    monkeypatch.setattr(figures, "to_svg", lambda figure: b"<svg/>")
    monkeypatch.setattr(curves, "to_svg", lambda figure: b"<svg/>")


def report_of(tmp_path, trained, chosen, preset=PRESET, problems=()):
    with RunFolder.create(
        tmp_path / "study", preset_toml=preset.to_toml(), command=COMMAND, manifest_hash="m",
        seed=0, split_hash="s", task="classify-study",
    ) as run:  # fmt: skip
        report = study_report(
            run, preset, trained, dataset="made-up", chosen=chosen, problems=problems,
            command=COMMAND,
        )  # fmt: skip
        report.write(run.path)
    return report


def table(report, title):
    (found,) = [one for one in report.tables if one.title.startswith(title)]
    return found


def value(text):
    """Read the number in front of an interval."""
    return float(re.match(r"-?[\d.e-]+", str(text)).group())


def cell(report, title, row, column):
    found = table(report, title)
    (line,) = [line for line in found.rows if str(line[0]).startswith(row)]
    return line[list(found.columns).index(column)]


@pytest.mark.parametrize("classes", [2, 4])
def test_the_main_table_has_what_scikit_learn_measures(tmp_path, drawn, classes):
    names = NAMES[:classes]
    targets = truth_of("single", classes, 90)
    trained = networks_of(targets, classes=names)
    report = report_of(tmp_path, trained, chosen_of(targets, classes=names))

    main = table(report, "The networks")
    assert [str(row[0]) for row in main.rows] == [
        "Constant answer: COVID-19", "AlexNet", "VGG11", "ResNet50", "VGG11, pretrained",
    ]  # fmt: skip
    area = "AUROC" if classes == 2 else "Macro AUROC"
    for one, row in zip(trained, main.rows[1:], strict=True):
        got = dict(zip(main.columns, row, strict=True))
        called = one.found.probability.argmax(axis=1)
        how = {"average": "macro", "zero_division": 0}
        probability = one.found.probability
        expected = {
            "Accuracy": accuracy_score(targets, called),
            area: roc_auc_score(
                targets, probability[:, 1] if classes == 2 else probability, multi_class="ovr"
            ),
            "Macro precision": precision_score(targets, called, **how),
            "Macro recall": recall_score(targets, called, **how),
            "Macro F1": f1_score(targets, called, **how),
            "Gain": accuracy_score(targets, called)
            - accuracy_score(targets, np.zeros_like(targets)),
        }
        assert {name: value(got[name]) for name in expected} == pytest.approx(expected, abs=6e-4)
    always = dict(zip(main.columns, main.rows[0], strict=True))
    assert value(always["Accuracy"]) == pytest.approx((targets == 0).mean(), abs=6e-4)
    assert value(always[area]) == 0.5
    assert always["Gain"] == "0"


def test_several_findings_have_exact_match_hamming_and_their_calls(tmp_path, drawn):
    targets = truth_of("multi", 5, 80)
    trained = networks_of(targets, kind="multi", classes=FINDINGS)
    chosen = chosen_of(targets, kind="multi", classes=FINDINGS)
    report = report_of(tmp_path, trained, chosen)

    called = trained[2].found.probability >= 0.5
    how = {"average": "macro", "zero_division": 0}
    for column, expected in {
        "Exact match": accuracy_score(targets, called),
        "Hamming loss": hamming_loss(targets, called),
        "Macro precision": precision_score(targets, called, **how),
        "Macro recall": recall_score(targets, called, **how),
        "Macro F1": f1_score(targets, called, **how),
    }.items():
        got = value(cell(report, "The networks", "ResNet50", column))
        assert got == pytest.approx(expected, abs=6e-4)
    for kind in ("weighted", "micro"):
        for name, score in (
            ("precision", precision_score), ("recall", recall_score), ("F1", f1_score),
        ):  # fmt: skip
            got = value(cell(report, "The same", "AlexNet", f"{kind.capitalize()} {name}"))
            expected = score(
                targets, trained[0].found.probability >= 0.5, average=kind, zero_division=0
            )
            assert got == pytest.approx(expected, abs=6e-4)
    # three of five findings are always named: all of three, none of two are found
    always = "Constant answer: COVID-19 + Pneumonia + Viral"
    assert value(cell(report, "The networks", always, "Macro recall")) == pytest.approx(0.6)
    j = FINDINGS.index("Pneumonia")
    counts = cell(report, "Right and wrong", "Pneumonia", "ResNet50")
    true, wrong, missed, rest = (int(part) for part in counts.split(" / "))
    assert true == (called[:, j] & (targets[:, j] == 1)).sum()
    assert wrong == (called[:, j] & (targets[:, j] == 0)).sum()
    assert missed == (~called[:, j] & (targets[:, j] == 1)).sum()
    assert true + wrong + missed + rest == len(targets)


def test_all_themes_have_a_table_and_a_figure(tmp_path, drawn):
    targets = truth_of("single", 4, 90)
    trained = [*networks_of(targets), *ablations_of(targets), *classes_of(90)]
    report = report_of(tmp_path, trained, chosen_of(targets))

    titles = [one.title for one in report.tables]
    assert [t for t in titles if t.startswith("Ablation")] == [
        "Ablation: learning rate", "Ablation: batch size", "Ablation: optimizer",
        "Ablation: number of classes", "Ablation: number of training images",
    ]  # fmt: skip
    assert [one.title for one in report.figures] == [
        "The networks beside the constant answer",
        "Confusion matrices: what was called what",
        "From pretrained weights and from scratch",
        "How training went",
        *(t for t in titles if t.startswith("Ablation")),
    ]
    rates = [row[0] for row in table(report, "Ablation: learning rate").rows[1:]]
    assert rates == ["0.1 (diverged)", "0.01", "0.0001"]
    assert any("Learning rate 0.1 diverged: the loss" in warning for warning in report.warnings)
    # each row of the classes' table has a constant answer of its own
    for one in trained[-3:]:
        always = cell(report, "Ablation: number of classes", one.cell.label, "Constant answer")
        assert value(always) == pytest.approx(one.found.truth[:, 0].mean(), abs=6e-4)
        gain = cell(report, "Ablation: number of classes", one.cell.label, "Gain")
        right = (one.found.truth == one.found.called).all(axis=1).mean()
        assert value(gain) == pytest.approx(right - one.found.truth[:, 0].mean(), abs=6e-4)


def test_one_cell_makes_a_page(tmp_path):
    targets = truth_of("single", 3, 90)
    one = trained_of(targets, classes=NAMES[:3])
    report = report_of(tmp_path, [one], chosen_of(targets, classes=NAMES[:3]))

    assert report.sentence.startswith("On 90 test images of 45 patients, AlexNet had accuracy ")
    assert not any(one.title == "Differences between networks" for one in report.tables)
    assert all(one.data.startswith(b"<?xml") for one in report.figures)
    assert (tmp_path / "study" / "report.html").is_file()


def test_without_a_cell_there_is_nothing_to_report(tmp_path):
    with pytest.raises(UsageError, match="no training to report"):
        report_of(tmp_path, [], chosen_of(truth_of("single", 4, 40)))


def test_an_ablation_alone_makes_a_page(tmp_path, drawn):
    targets = truth_of("single", 4, 90)
    trained = ablations_of(targets)[:3]
    report = report_of(tmp_path, trained, chosen_of(targets))

    assert [one.title for one in report.figures] == ["Ablation: learning rate"]
    assert report.metrics[0].name == "Learning rate 0.1: accuracy"


def test_results_hold_primary_constant_and_gain(tmp_path, drawn):
    targets = truth_of("single", 4, 90)
    trained = [*networks_of(targets), *ablations_of(targets)]
    report = report_of(tmp_path, trained, chosen_of(targets))
    results = json.loads((tmp_path / "study" / "results.json").read_text())

    kept = {one["name"]: one for one in results}
    assert len(kept) == len(results)
    right = (trained[0].found.truth == trained[0].found.called).all(axis=1).mean()
    always = (targets == 0).mean()
    assert kept["AlexNet: accuracy"]["value"] == pytest.approx(right)
    assert kept["constant answer (COVID-19): accuracy"]["value"] == pytest.approx(always)
    gain = kept["AlexNet: gain in accuracy over the constant answer"]
    assert gain["value"] == pytest.approx(right - always)
    assert gain["low"] < gain["value"] < gain["high"]
    assert kept["Batch size 8: accuracy"]["command"] == "medglean study cxr2022"
    assert report.metrics[0].name == "AlexNet: accuracy"
    assert "AlexNet: accuracy" in report.summary()


def test_a_training_in_two_tables_is_counted_once(tmp_path, drawn):
    targets = truth_of("single", 4, 90)
    (network,) = networks_of(targets)[:1]
    rate = trained_of(targets, theme="learning-rate", label="0.0001", at=1e-4, name="alexnet")
    report = report_of(tmp_path, [network, rate], chosen_of(targets))

    costs = table(report, "Cost").rows
    assert [row[:2] for row in costs] == [["AlexNet", "The networks, Learning rate"]]
    found = by_theme([network, rate], replicates=50, seed=0)
    times = [one.name for one in metrics_of(found, "patients") if one.unit == "s"]
    assert times == ["AlexNet: time in the training loop"]


def test_the_average_that_is_asked_for_stands_in_front(tmp_path, drawn):
    targets = truth_of("single", 4, 90)
    study = PRESET.study.model_copy(update={"averaging": "weighted"})
    preset = PRESET.model_copy(update={"study": study})
    trained = networks_of(targets)[:1]
    report = report_of(tmp_path, trained, chosen_of(targets), preset)

    called = trained[0].found.probability.argmax(axis=1)
    got = value(cell(report, "The networks", "AlexNet", "Weighted precision"))
    expected = precision_score(targets, called, average="weighted", zero_division=0)
    assert got == pytest.approx(expected, abs=6e-4)
    assert list(table(report, "The same").columns[1:4]) == [
        "Macro precision", "Macro recall", "Macro F1",
    ]  # fmt: skip


def test_a_network_that_diverged_has_no_numbers(tmp_path, drawn):
    targets = truth_of("single", 4, 90)
    trained = networks_of(targets)
    broken = replace(trained[0], found=undefined(trained[0].constant), note="NaN in step 3.")
    report = report_of(tmp_path, [broken, *trained[1:]], chosen_of(targets))

    assert table(report, "The networks").rows[1] == ["AlexNet (diverged)", *["n/a"] * 6]
    assert table(report, "A check").rows[1][-1] is None
    assert cell(report, "Differences", "AlexNet less VGG11,", "Accuracy") == "n/a"
    assert value(cell(report, "Differences", "VGG11 less ResNet50", "Accuracy"))
    assert any("AlexNet diverged: NaN in step 3." in one for one in report.warnings)
    values = [one.found.headline["accuracy"].value for one in trained[1:]]
    assert f"{min(values):.3f} to {max(values):.3f}" in report.sentence


def test_an_undefined_class_is_not_a_number(tmp_path, drawn):
    targets = truth_of("single", 3, 60)  # of four classes the last has no test image
    trained = networks_of(targets)[:2]
    problems = [Problem("a.png", "could not be read.", "Replace it.")]
    report = report_of(tmp_path, trained, chosen_of(targets), problems=problems)

    assert cell(report, "AUROC of each class", "Tuberculosis", "AlexNet") == "n/a"
    assert any("Tuberculosis" in warning for warning in report.warnings)
    assert report.problems == problems


def test_the_difference_between_two_networks_is_paired(tmp_path, drawn):
    targets = truth_of("single", 2, 90)
    trained = networks_of(targets, classes=NAMES[:2])
    report = report_of(tmp_path, trained, chosen_of(targets, classes=NAMES[:2]))

    first, second = trained[0].found, trained[3].found
    row = "AlexNet less VGG11, pretrained"
    right = [(one.truth == one.called).all(axis=1).mean() for one in (first, second)]
    areas = [roc_auc_score(targets, one.probability[:, 1]) for one in (first, second)]
    got = value(cell(report, "Differences", row, "Accuracy"))
    assert got == pytest.approx(right[0] - right[1], abs=6e-4)
    got = value(cell(report, "Differences", row, "AUROC"))
    assert got == pytest.approx(areas[0] - areas[1], abs=6e-4)
    assert value(cell(report, "Differences", row, "p of the AUROC (DeLong)")) < 0.05
    assert len(table(report, "Differences").rows) == math.comb(4, 2)
