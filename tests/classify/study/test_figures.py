"""What the study's figures draw; how they look is looked at, not tested."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from tests.classify.study.made_up import (
    FINDINGS,
    NAMES,
    ablations_of,
    classes_of,
    networks_of,
    trained_of,
    truth_of,
)

from medglean.classify.study import curves, figures
from medglean.classify.study.compared import compared
from medglean.classify.study.measured import undefined
from medglean.runs.style import RED


@pytest.fixture
def canvas(monkeypatch):
    """Keep matplotlib's figures instead of their SVG."""
    kept = []

    def keep(figure):
        kept.append(figure)
        return b"<svg/>"

    monkeypatch.setattr(figures, "to_svg", keep)
    monkeypatch.setattr(curves, "to_svg", keep)
    return kept


def compare(trained):
    return [compared(one, replicates=30, seed=0) for one in trained]


def words(axes):
    return [text.get_text() for text in axes.texts]


def test_the_log_is_read_epoch_by_epoch():
    history = [
        {"epoch": 1, "step": 5, "train.loss": 0.8},
        {"epoch": 1, "step": 10, "train.loss": 0.6},
        {"epoch": 1, "step": 10, "val.loss": 0.7, "val.auroc": 0.75},
        {"epoch": 2, "step": 20, "train.loss": math.inf},
        {"epoch": 2, "step": 20, "val.loss": math.nan, "val.auroc": 0.8},
    ]
    log = curves.by_epoch(history)
    assert log.loc[1, "train.loss"] == pytest.approx(0.7)
    assert math.isnan(log.loc[2, "train.loss"])
    assert math.isnan(log.loc[2, "val.loss"])
    assert log["val.auroc"].tolist() == [0.75, 0.8]
    assert curves.epoch_of_step(history, 20) == 2
    assert curves.epoch_of_step(history, None) is None
    assert curves.epoch_of_step(history, 7) is None
    assert curves.by_epoch([]).empty


def test_training_has_a_column_for_each_network(canvas):
    trained = networks_of(truth_of("single", 4, 90))
    assert curves.training_figure(trained) is not None
    axes = canvas[0].axes
    assert len(axes) == 8  # loss and AUROC of four networks
    assert [one.get_title(loc="left") for one in axes[:4]] == [t.cell.label for t in trained]
    assert len({one.get_ylim() for one in axes[:4]}) == 1
    train, val = axes[0].lines[:2]
    log = curves.by_epoch(trained[0].history)
    assert np.allclose(train.get_ydata(), log["train.loss"])
    assert np.allclose(val.get_ydata(), log["val.loss"])


def test_five_networks_take_a_second_row(canvas):
    targets = truth_of("single", 4, 90)
    trained = [*networks_of(targets), trained_of(targets, label="ResNet18", name="r18")]
    assert curves.training_figure(trained) is not None
    shown = [one for one in canvas[0].axes if one.get_visible()]
    assert len(shown) == 10


def test_without_a_log_no_training_is_drawn(canvas):
    one = trained_of(truth_of("single", 4, 90), epochs=1)
    assert curves.training_figure([one]) is not None
    empty = [replace(one, history=())]
    assert curves.training_figure(empty) is None


def test_pretrained_and_scratch_are_paired(canvas):
    trained = networks_of(truth_of("single", 4, 90))
    figure = curves.pretrained_figure(trained, counted="patients")
    assert figure is not None
    assert "VGG11, pretrained accuracy" in figure.alt
    loss, area, test = canvas[0].axes
    assert len(loss.lines) == len(area.lines) == 4  # two lines, two rings
    expected = {f"{trained[i].found.headline['accuracy'].value:.3f}" for i in (1, 3)}
    assert expected <= set(words(test))
    assert curves.pretrained_figure(trained[:3], counted="patients") is None


def test_confusions_have_a_panel_for_each_network(canvas):
    trained = networks_of(truth_of("single", 3, 90), classes=NAMES[:3])
    assert figures.confusions_figure(trained) is not None
    panels = [one for one in canvas[0].axes if len(one.texts) == 9]
    assert len(panels) == 4
    matrix = trained[2].found.confusion
    shown = [int(text.split("\n")[0]) for text in words(panels[2])]
    assert shown == matrix.ravel().tolist()
    several = networks_of(truth_of("multi", 5, 40), kind="multi", classes=FINDINGS)
    assert figures.confusions_figure(several) is None


def test_the_constant_answer_is_dashed(canvas):
    targets = truth_of("single", 4, 90)
    figure = figures.networks_figure(compare(networks_of(targets)), counted="patients")
    assert "always COVID-19" in figure.caption
    dashed = [line for line in canvas[0].axes[0].lines if line.get_linestyle() == "--"]
    assert dashed[0].get_xdata()[0] == pytest.approx((targets == 0).mean())


def test_a_diverged_cell_is_marked(canvas):
    cells = compare(ablations_of(truth_of("single", 4, 90))[:3])
    figures.ablation_figure("learning-rate", cells, counted="patients")
    accuracy = canvas[0].axes[0]
    assert [t.get_text() for t in accuracy.get_xticklabels()] == ["0.0001", "0.01", "0.1"]
    marked = [line for line in accuracy.lines if line.get_marker() == "X" and len(line.get_xdata())]
    assert [line.get_color() for line in marked] == [RED]
    assert marked[0].get_xdata()[0] == 2
    assert "diverged" in [text.get_text() for text in canvas[0].legends[0].get_texts()]


def test_a_cell_without_scores_is_said_to_have_diverged(canvas):
    trained = ablations_of(truth_of("single", 4, 90))[:3]
    broken = replace(trained[0], found=undefined(trained[0].constant))
    cells = compare([broken, *trained[1:]])
    figures.ablation_figure("learning-rate", cells, counted="patients")
    figures.networks_figure(cells, counted="patients")
    assert figures.confusions_figure([broken]) is None
    for figure in canvas:
        assert all(words(axes).count("diverged") == 1 for axes in figure.axes)


def test_fewer_classes_have_their_own_constants(canvas):
    trained = classes_of(90)
    figures.ablation_figure("classes", compare(trained), counted="patients")
    accuracy = canvas[0].axes[0]
    dashes = [
        line for line in accuracy.lines if line.get_linestyle() == "--" and len(line.get_xdata())
    ]
    levels = [float(line.get_ydata()[0]) for line in dashes]
    assert levels == pytest.approx([one.found.truth[:, 0].mean() for one in trained])
    assert canvas[0].axes[1].get_title(loc="left") == "Mean AUROC on the test images"


def test_images_are_placed_by_how_many_were_learnt_from(canvas):
    trained = ablations_of(truth_of("single", 4, 90))[-4:]
    figures.ablation_figure("images", compare(trained[::-1]), counted="patients")
    labels = [text.get_text() for text in canvas[0].axes[0].get_xticklabels()]
    assert labels == ["40", "100", "200", "400"]


def test_optimizers_stand_by_name(canvas):
    trained = [t for t in ablations_of(truth_of("single", 4, 90)) if t.cell.theme == "optimizer"]
    figure = figures.ablation_figure("optimizer", compare(trained), counted="patients")
    labels = [text.get_text() for text in canvas[0].axes[0].get_xticklabels()]
    assert labels == ["Adam", "SGD"]
    assert figure.alt.startswith("Ablation, optimizer; accuracy: Adam ")
