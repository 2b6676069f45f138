import math

import pytest

from medglean.classify import page

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
