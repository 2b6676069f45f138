import matplotlib.text
import numpy as np
import pytest

from medglean.measure.intervals import Interval
from medglean.stain import assess as known
from medglean.stain import figures


@pytest.fixture
def drawn(monkeypatch):
    kept = []
    monkeypatch.setattr(figures, "to_svg", lambda figure: kept.append(figure) or b"<svg/>")
    return kept


def words(figure):
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


def test_dab_is_drawn_by_level_with_how_many(drawn):
    generated, real = np.array([0.1, 0.2, np.nan, 0.4]), np.array([0.1, 0.3, 0.2, 0.5])
    r = Interval(0.9, 0.8, 1.0, 0.95, 3, 3, 100)

    figures.dab_figure(generated, real, np.array([0, 1, 1, -1]), ["0", "1+"], correlation=r)
    told = words(drawn[0])

    assert "Mean DAB of 3 pairs (Pearson r 0.900)" in told
    assert "level 1+ (n = 1)" in told  # the other has no number
    assert "level not known (n = 1)" in told


def test_methods_stand_beside_one_another_with_what_is_better(drawn):
    found = Interval(20.0, 19.0, 21.0, 0.95, 5, 5, 100)
    nothing = Interval(np.nan, np.nan, np.nan, 0.95, 5, 5, 0)
    methods = {"GAN": {known.PSNR: found, known.DAB_ABSOLUTE: found},
               "flat": {known.PSNR: nothing}}  # fmt: skip

    figure = figures.methods_figure(
        methods, measures=(known.PSNR, known.DAB_ABSOLUTE), counted="slides"
    )
    told = words(drawn[0])

    assert "PSNR (dB)\n(higher is better)" in told
    assert "DAB mean OD error,\nabsolute\n(lower is better)" in told
    assert "n/a" in told
    assert "over slides" in figure.caption
    assert "GAN 20.000" in figure.alt


def test_losses_are_drawn_over_epochs_and_psnr_below(drawn):
    history = [
        {"epoch": epoch, "train.l1": 10.0 / epoch, "train.adversarial": 1.0, "val.psnr": 20.0}
        for epoch in (1, 1, 2)
    ]

    figure = figures.losses_figure(history, name="generator", pairs=7)

    assert figure is not None
    assert figure.section == "training"
    assert "Training of the generator on 7 pairs" in words(drawn[0])
    assert "PSNR (dB)" in words(drawn[0])
    assert not any("mathdefault" in word for word in words(drawn[0]))
    line = drawn[0].axes[0].lines[0]
    np.testing.assert_allclose(line.get_ydata(), [10.0, 5.0])  # means of each epoch
    assert figures.losses_figure([], name="generator", pairs=7) is None
