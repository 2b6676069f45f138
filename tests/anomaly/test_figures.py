import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from medglean.anomaly import figures
from medglean.anomaly.assess import assess_maps
from medglean.anomaly.measures import BEST_DICE, PIXEL_AP, PIXEL_AUROC
from medglean.measure.intervals import Interval
from medglean.runs import style


@pytest.fixture
def words(monkeypatch):
    """Read a figure's words from its SVG, which otherwise draws them as outlines."""
    monkeypatch.setitem(style._SETTINGS, "svg.fonttype", "none")

    def read(figure):
        root = ET.fromstring(figure.data)
        return " | ".join(
            text for element in root.iter() if (text := "".join(element.itertext()).strip())
        )

    return read


def measured(value, *, spread=0.05):
    return Interval(value, value - spread, value + spread, 0.95, 40, 12, 100)


def metrics(value):
    return {BEST_DICE: measured(value), PIXEL_AP: measured(value), PIXEL_AUROC: measured(value)}


def assessment(*, masks=True):
    rng = np.random.default_rng(0)
    truth = np.zeros((8, 8, 8), dtype=bool)
    truth[:4, 2:5, 2:5] = True
    maps = np.round(rng.random(truth.shape) + 0.5 * truth, 1)
    diseased = np.arange(8) < 4
    return assess_maps(
        maps, truth if masks else None, None, diseased, list("abcdabcd"), replicates=20
    )


def test_over_scale_has_a_panel_per_measure_and_a_line_per_level(words):
    curves = {
        "L = 250": {0.0: metrics(0.3), 10.0: metrics(0.5), 100.0: metrics(0.6)},
        "L = 500": {0.0: metrics(0.4), 10.0: metrics(0.7), 100.0: metrics(0.2)},
    }
    shown = figures.over_scale(curves)
    told = words(shown)

    for expected in (
        "Best Dice (higher is better)",
        "Pixel AUROC (higher is better)",
        "Guidance scale s",
        "L = 250",
        "L = 500",
        "| 100 |",
    ):
        assert expected in told
    assert "L = 250: 100 (0.600); L = 500: 10 (0.700)" in shown.alt
    assert "40 diseased images of 12 patients" in shown.caption


def test_over_scale_takes_undefined_values(words):
    nan = Interval(float("nan"), float("nan"), float("nan"), 0.95, 0, 0, 0)
    shown = figures.over_scale({"L = 5": {1.0: {BEST_DICE: nan}}}, measures=[BEST_DICE])

    assert "L = 5: n/a" in shown.alt
    assert "L = 5" in words(shown)


def test_curves_tell_area_and_chance(words):
    found = assessment()
    methods = {"diffusion": found, "no masks": assessment(masks=False)}
    roc = figures.pixel_roc_figure(methods)
    recall = figures.pixel_precision_recall_figure(methods)
    area = found.metrics[PIXEL_AUROC].value

    assert f"diffusion: AUROC {area:.3f} (" in words(roc)
    assert "no masks" not in words(roc)
    assert f"diffusion {area:.3f}" in roc.alt
    assert "diffusion: average precision" in words(recall)
    assert "chance: 14 % of pixels diseased" in words(recall)  # 9 of 64
    assert "4 diseased images of 4 patients" in recall.caption
    assert figures.pixel_precision_recall_figure({}).kind == "svg"


def test_methods_have_a_dot_with_its_number(words):
    methods = {
        "diffusion": metrics(0.61),
        "threshold": {BEST_DICE: measured(0.655)},
        "odd": {BEST_DICE: Interval(float("nan"), float("nan"), float("nan"), 0.95, 0, 0, 0)},
    }
    shown = figures.methods_figure(methods)
    told = words(shown)

    assert len(re.findall(r"\b0\.610\b", told)) >= 3
    assert "0.655" in told
    assert "n/a" in told
    for name in methods:
        assert name in told
    assert shown.alt.endswith("diffusion 0.610; threshold 0.655; odd n/a.")


def test_the_same_figure_is_the_same_bytes():
    methods = {"diffusion": metrics(0.61)}

    assert figures.methods_figure(methods).data == figures.methods_figure(methods).data
