import io
import xml.etree.ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from medglean.runs import curves, figures, grids, style
from medglean.runs.curves import Line, OperatingPoint

HOSTILE = "<script>$x_{$&\x00\u202e\n\\frac 中文"


@pytest.fixture
def words(monkeypatch):
    """Read a figure's words from its SVG, which otherwise draws them as outlines."""
    monkeypatch.setitem(style._SETTINGS, "svg.fonttype", "none")

    def read(svg):
        root = ET.fromstring(svg)
        assert root.tag.endswith("svg")
        return " | ".join(
            text for element in root.iter() if (text := "".join(element.itertext()).strip())
        )

    return read


@pytest.fixture
def line():
    rate = np.linspace(0, 1, 11)
    return Line("pneumonia", rate, np.sqrt(rate), 176, 144, 0.943, 0.918, 0.964)


def test_learning_curves_mark_the_kept_epoch(words):
    svg = figures.learning_curves(
        [1, 2, 3],
        [0.7, 0.5, 0.4],
        [0.8, float("nan"), 0.95],
        validation_name="AUROC",
        validation_loss=[0.7, 0.6, float("nan")],
        best_epoch=3,
        images={"training": 4012, "validation": 511},
    )

    told = words(svg)
    assert "kept: epoch 3, 0.950" in told
    assert "Loss (4,012 training, 511 validation images)" in told
    assert "Epoch (passes over the training images)" in told


def test_confusion_matrix_tells_counts_and_shares_of_rows(words):
    told = words(figures.confusion_matrix(np.array([[75, 25], [0, 0]]), ["normal", "pneumonia"]))

    for expected in ("75", "75 %", "25 %", "(n = 100)", "(n = 0)", "of 100 images"):
        assert expected in told
    assert "0 %" not in told.replace("100 %", "")
    assert "nan" not in told


def test_many_classes_are_drawn(words):
    names = [f"finding {number}" for number in range(12)]

    assert "finding 11" in words(figures.confusion_matrix(np.eye(12, dtype=int), names))


def test_roc_tells_area_interval_images_and_operating_point(words, line):
    grid = np.linspace(0, 1, 5)
    told = words(
        curves.roc(
            [line],
            band=(grid, grid * 0.9, grid),
            points=[OperatingPoint(0.1, 0.8, 0.512), OperatingPoint(0.3, 0.9, 0.2, "Youden")],
        )
    )

    for expected in (
        "pneumonia: AUROC 0.943",
        "95 % CI 0.918-0.964; 176 of 320 images positive",
        "operating point: score >= 0.512",
        "Youden: score >= 0.2",
        "95 % band",
        "False-positive rate = 1 - specificity",
    ):
        assert expected in told


def test_precision_recall_tells_prevalence(words, line):
    told = words(curves.precision_recall([line]))

    assert "pneumonia: average precision 0.943" in told
    assert "chance: 55 % of images positive" in told


def panel(name="before", **changes):
    settings = {
        "edges": np.array([0, 0.5, 1.0]),
        "count": np.array([1204, 0]),
        "predicted": np.array([0.2, np.nan]),
        "observed": np.array([0.25, np.nan]),
        "error": 0.05,
        **changes,
    }
    return curves.Panel(name, **settings)


def test_reliability_stands_side_by_side_with_counts_and_errors(words):
    told = words(curves.reliability([panel(low=0.04, high=0.07), panel("after", error=0.01)]))

    for expected in (
        "before",
        "calibration error 0.050 (0.040-0.070)",
        "after",
        "calibration error 0.010",
        "Share that came true",
        "Cases per bin",
    ):
        assert expected in told
    alone = words(curves.reliability([panel()]))
    for once in ("1,204", "Predicted probability"):
        assert told.count(once) == 2 * alone.count(once) > 0
    assert "nan" not in told


def test_reliability_of_nothing_is_drawn(words):
    empty = panel(
        count=np.zeros(2, int),
        predicted=np.full(2, np.nan),
        observed=np.full(2, np.nan),
        error=float("nan"),
    )
    assert "calibration error n/a" in words(curves.reliability([empty]))


def test_without_an_interval_none_is_told(words, line):
    bare = Line("x", line.x, line.y, 3, 1, float("nan"))

    told = words(curves.precision_recall([bare, line]))
    assert "x: average precision n/a" in told
    assert told.count("95 % CI") == words(curves.precision_recall([line])).count("95 % CI")


def test_scores_calibration_and_counts_tell_their_images(words):
    scores = {"normal": np.array([0.1, 0.2, 0.6]), "pneumonia": np.array([0.9]), "none": []}
    scores = {name: np.array(values, dtype=float) for name, values in scores.items()}
    told = words(figures.score_histogram(scores, score_name="Probability", threshold=0.5))
    assert "normal (n = 3)" in told
    assert "none (n = 0)" in told
    assert "threshold 0.5" in told

    told = words(
        figures.reliability_diagram(
            np.array([0, 0.5, 1.0]),
            np.array([4, 0]),
            np.array([0.2, np.nan]),
            np.array([0.25, np.nan]),
            calibration_error=0.05,
        )
    )
    assert "Calibration on 4 images (error 0.050)" in told

    told = words(
        figures.class_counts({"train": {"normal": 1200, "flu": 30}, "test": {"normal": 7}})
    )
    assert "train (n = 1,230)" in told
    assert "test (n = 7)" in told
    assert "1,200" in told


def test_hostile_names_are_drawn_as_text(words, line):
    named = Line(HOSTILE, line.x, line.y, 1, 1, 0.5)
    drawn = [
        curves.roc([named]),
        curves.precision_recall([named, named]),
        curves.reliability([panel(HOSTILE)]),
        figures.confusion_matrix(np.eye(2, dtype=int), [HOSTILE, "b"]),
        figures.class_counts({HOSTILE: {HOSTILE: 1}}),
        figures.score_histogram({HOSTILE: np.array([0.5])}, score_name=HOSTILE),
        figures.learning_curves([1], [1.0], [0.5], validation_name=HOSTILE),
    ]
    for svg in drawn:
        assert b"<script" not in svg
        assert "script" in words(svg)


def test_the_same_figure_is_the_same_bytes_and_leaves_no_trace(line):
    before = dict(mpl.rcParams)

    assert curves.roc([line]) == curves.roc([line])
    assert dict(mpl.rcParams) == before
    assert b"<dc:date>" not in curves.roc([line])


def test_names_are_shortened_in_the_middle():
    assert style.plain("short") == "short"
    assert style.plain("abcdefghij", limit=9) == "abc...hij"
    assert len(style.plain("x" * 100, limit=40)) <= 40
    assert style.plain("a\tb") == "a?b"


def test_colours_repeat_only_with_other_dashes():
    looks = [(style.colour(number), style.dash(number)) for number in range(24)]

    assert len(set(looks)) == 24


def example(image, **changes):
    settings = {"id": "a", "truth": "normal", "predicted": "normal", "probability": 0.9}
    return grids.Example(image, **{**settings, **changes})


def test_images_are_shown_with_the_full_window():
    # A dim image must stay dim: 0.2 is shown as 51 of 255 wherever it is shown.
    png = grids.image_grid([example(np.full((1, 32, 32), 0.2))])
    picture = np.asarray(Image.open(io.BytesIO(png)).convert("L"))

    values, counts = np.unique(picture[picture < 250], return_counts=True)
    assert values[counts.argmax()] == 51


def test_right_and_wrong_are_framed_apart_and_colour_is_shown():
    png = grids.image_grid(
        [
            example(np.zeros((8, 8))),
            example(np.zeros((8, 8)), predicted="flu"),
            example(np.stack([np.ones((8, 8)), np.zeros((8, 8)), np.zeros((8, 8))])),
        ],
        columns=2,
    )
    picture = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).reshape(-1, 3)
    colours, counts = np.unique(picture, axis=0, return_counts=True)
    common = {tuple(int(v) for v in c) for c, n in zip(colours, counts, strict=True) if n > 500}

    assert {(0, 0x72, 0xB2), (0xD5, 0x5E, 0), (255, 0, 0), (0, 0, 0)} <= common


def test_hostile_ids_do_not_break_the_grid():
    png = grids.image_grid([example(np.zeros((8, 8)), id=HOSTILE, truth=HOSTILE)])

    assert Image.open(io.BytesIO(png)).format == "PNG"


def test_what_cannot_be_shown_is_told():
    with pytest.raises(ValueError, match="expected at least one image, found none"):
        grids.image_grid([])
    with pytest.raises(ValueError, match=r"image 'a': expected shape .* found \(4, 8, 8\)"):
        grids.image_grid([example(np.zeros((4, 8, 8)))])
