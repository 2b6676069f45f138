import math

import numpy as np
import pytest
from sklearn import metrics

from medglean.classify import page, page_curves
from medglean.classify.assess import PER_CLASS, assess
from medglean.classify.decisions import Decisions, decide
from medglean.classify.settings import DecideSettings

HISTORY = [
    {"step": 5, "epoch": 1, "train.loss": 0.8},
    {"step": 10, "epoch": 1, "train.loss": 0.6},
    {"step": 10, "epoch": 1, "val.loss": 0.7, "val.auroc": 0.75},
    {"step": 20, "epoch": 2, "train.loss": 0.5},
    {"step": 20, "epoch": 2, "val.loss": 0.65, "val.auroc": 0.8},
    {"step": 30, "epoch": 3, "train.loss": 0.4},
]


def test_epochs_are_counted_as_in_the_log(monkeypatch):
    drawn = {}

    def draw(epoch, train_loss, validation, **rest):
        drawn.update(epoch=epoch, train_loss=train_loss, validation=validation, **rest)
        return b"<svg/>"

    monkeypatch.setattr(page.figures, "learning_curves", draw)

    figure = page.learning_figure(
        HISTORY, monitor="auroc", best_step=20, parts={"training": 40, "validation": 8}
    )

    assert figure is not None
    assert drawn["epoch"] == [1.0, 2.0, 3.0]
    assert drawn["train_loss"] == pytest.approx([0.7, 0.5, 0.4])
    assert drawn["validation"][:2] == [0.75, 0.8]
    assert math.isnan(drawn["validation"][2])
    assert drawn["best_epoch"] == 2.0
    assert drawn["validation_name"] == "AUROC"


@pytest.mark.parametrize("history", [[], [{"step": 1, "epoch": 1, "train.loss": 0.5}]])
def test_without_validation_nothing_is_drawn(history):
    assert page.learning_figure(history, monitor="auroc", best_step=None, parts={}) is None


def assessed(classes=("a", "b", "c"), count=120, **settings):
    generator = np.random.default_rng(0)
    k = len(classes)
    target = generator.integers(k, size=count)
    probability = generator.dirichlet(np.ones(k), size=count)
    probability[np.arange(count), target] += 0.4
    probability /= probability.sum(axis=1, keepdims=True)
    found = assess(
        target,
        probability,
        np.arange(count) // 2,
        kind="single",
        classes=classes,
        replicates=50,
        **settings,
    )
    return found, target


def test_averages_stand_under_the_classes_each_by_its_name():
    found, target = assessed()
    table = page.class_table(found, part="test")
    predicted = found.called.argmax(axis=1)

    rows = {row[0]: row for row in table.rows}
    assert list(rows)[:3] == ["a", "b", "c"]
    for name, averaging in zip(list(rows)[3:], ("macro", "weighted", "micro"), strict=True):
        assert name.lower().startswith(averaging)
        values = metrics.precision_recall_fscore_support(target, predicted, average=averaging)
        cells = dict(zip(PER_CLASS, rows[name][2:], strict=True))
        assert cells["precision"].startswith(f"{values[0]:.3f} (")
        assert cells["sensitivity"].startswith(f"{values[1]:.3f} (")
        assert cells["F1"].startswith(f"{values[2]:.3f} (")
        assert (cells["AUROC"] == "") == (averaging != "macro")
        assert rows[name][1] == 120
    precision, recall, mean_f1, _ = metrics.precision_recall_fscore_support(
        target, predicted, average="macro"
    )
    of_means = 2 * precision * recall / (precision + recall)
    assert f"{mean_f1:.3f}" != f"{of_means:.3f}"
    assert f"by the same name, is {of_means:.3f} (" in table.note


def test_an_assessment_without_averages_has_rows_for_classes_only():
    found, _ = assessed()
    bare = page.class_table(type(found)(**{**vars(found), "averages": {}}), part="test")

    assert len(bare.rows) == 3
    assert "Macro F1" not in bare.note


@pytest.fixture
def undrawn(monkeypatch):
    """Draw nothing but what a test looks at."""
    for name in ("confusion_matrix", "score_histogram", "reliability_diagram"):
        monkeypatch.setattr(page.figures, name, lambda *_, **__: b"<svg/>")
    monkeypatch.setattr(page_curves.curves, "precision_recall", lambda *_, **__: b"<svg/>")
    nothing = np.full(101, np.nan)
    monkeypatch.setattr(page_curves, "roc_band", lambda *_, **__: (nothing, nothing))


@pytest.mark.usefixtures("undrawn")
def test_operating_points_are_marked_and_calibration_is_left_to_its_section(monkeypatch):
    found, target = assessed(("well", "ill"))
    decisions = decide(
        np.log(found.probability),
        target,
        np.arange(120),
        kind="single",
        classes=found.classes,
        settings=DecideSettings(calibrate="none"),
    )
    marked = {}
    for name in ("roc", "precision_recall"):
        monkeypatch.setattr(
            page_curves.curves, name, lambda *_, name=name, **rest: marked.update({name: rest})
        )

    figures = page.result_figures(found, np.arange(120) // 2, decisions=decisions)

    chosen = decisions.points["ill"]
    on_roc = marked["roc"]["points"]
    assert [one.y for one in on_roc] == pytest.approx([point.sensitivity for point in chosen])
    assert [1 - one.x for one in on_roc] == pytest.approx([point.specificity for point in chosen])
    assert len(marked["precision_recall"]["points"]) == 3
    titles = [figure.title for figure in figures]
    assert not any("Calibration" in title for title in titles)
    for nothing in (None, Decisions((1.0,))):
        drawn = page.result_figures(found, np.arange(120) // 2, decisions=nothing)
        assert any("Calibration" in figure.title for figure in drawn)
        assert marked["roc"]["points"] == []


@pytest.mark.usefixtures("undrawn")
def test_several_curves_have_no_marks(monkeypatch):
    found, target = assessed()
    decisions = decide(
        np.log(found.probability),
        target,
        np.arange(120),
        kind="single",
        classes=found.classes,
        settings=DecideSettings(),
    )
    marked = {}
    monkeypatch.setattr(page_curves.curves, "roc", lambda *_, **rest: marked.update(rest))

    page.result_figures(found, np.arange(120) // 2, decisions=decisions)

    assert marked["points"] == []
