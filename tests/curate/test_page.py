import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from medglean.curate import map as layout
from medglean.curate import page
from medglean.curate.curation import look_into
from medglean.curate.outliers import OutlierGate
from medglean.curate.page import Cost, curation_report
from medglean.curate.page_tables import duration
from medglean.curate.select import select
from medglean.curate.similarity import to_set
from medglean.data.manifest import Manifest
from medglean.errors import EmbeddingError, Problem


@pytest.fixture(autouse=True)
def quick_map(monkeypatch):
    """PCA, since t-SNE takes a second each time."""
    monkeypatch.setattr(layout, "MOST_NEIGHBOURS_MAP", 0)


@pytest.fixture(scope="module")
def values():
    """Ten clips of six near-copies each; a row of zeros; one image unlike all others."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(10, 16))
    clips = np.repeat(centres, 6, axis=0) + 0.02 * rng.normal(size=(60, 16))
    return np.concatenate([clips, np.zeros((1, 16)), -10 * centres[:1] + rng.normal(size=16)])


def table(count):
    clip = np.arange(count) // 6
    return pd.DataFrame(
        {
            "id": [f"i{k:02}" for k in range(count)],
            "image": [f"{k:02}.png" for k in range(count)],
            "group": [f"clip{k}" for k in clip],
            "patient": [f"p{k // 2}" for k in clip],
            "label": ["sick" if k % 2 else "well" for k in clip],
            "split": ["test" if k == 0 else "train" for k in range(count)],
        }
    )


@pytest.fixture(scope="module")
def curation(values):
    frame = table(62)
    frame.loc[4, "label"] = "sick"  # its five near-copies are well
    manifest = Manifest.from_frame(frame, ".")
    selection = select(
        values,
        budget=12,
        method="enrich",
        groups=manifest.groups("group"),
        patients=manifest.groups("patient"),
        outlier_gate=OutlierGate(neighbour=4),
        order_length=30,
    )
    thumbnails = np.random.default_rng(1).random((62, 12, 12))
    return look_into(manifest, values, selection, thumbnails=thumbnails, draws=2)


@pytest.fixture
def no_charts(monkeypatch):
    """Leave out what takes seconds and is not looked at."""
    monkeypatch.setattr(page, "charts", lambda *_given, **_settings: [])


def picture(position):
    return np.full((8, 8), position / 100)


@pytest.fixture(scope="module")
def report(curation):
    return curation_report(
        curation,
        name="scans.csv",
        picture=picture,
        problems=[Problem("x.png", "it cannot be read.", "Look at it.", kind="unreadable")],
        done={"preset": "enrich2023"},
    )


def rows_of(report, title):
    (found,) = [one for one in report.tables if one.title.startswith(title)]
    return {row[0]: row[1:] for row in found.rows}


# --- what is found ------------------------------------------------------------------------------


def test_every_image_knows_the_selected_one_that_stands_for_it(curation, values):
    usable = np.delete(np.arange(62), 60)
    chosen = curation.selection.chosen
    largest, nearest = to_set(values[usable], np.searchsorted(usable, chosen))

    np.testing.assert_array_equal(curation.similarity[usable], largest)
    np.testing.assert_array_equal(curation.nearest[usable], usable[nearest])
    assert np.isnan(curation.similarity[60])
    assert curation.nearest[60] == -1
    assert set(curation.nearest[usable]) <= set(chosen.tolist())


def test_what_is_set_aside_has_a_reason(curation):
    assert curation.set_aside == {
        60: "embedding of zeros: nothing is similar to it",
        61: "outlier: looks like nothing else",
    }


def test_trouble_is_found(curation):
    assert curation.grouped_by == "group"
    assert curation.redundancy.pairs["within"] == 10 * 15
    assert curation.pairs.structure is not None
    assert curation.leaks.counts() == {("test", "train"): 5}
    assert len(curation.conflicts.pairs) == 5
    assert set(curation.conflicts.suspect.tolist()) == {4}
    budgets = curation.curves["this selection"][0].budgets
    assert budgets.tolist() == [2, 3, 4, 6, 8, 12, 17, 24]


def test_without_split_label_groups_and_pictures(values):
    manifest = Manifest.from_frame(table(62)[["id", "image"]], ".")
    selection = select(values, budget=3, method="random", draws=0, order_length=3)

    found = look_into(manifest, values, selection, draws=1)
    report = curation_report(found, name="scans.csv")

    assert (found.leaks, found.conflicts, found.label, found.grouped_by) == (None, None, None, "")
    assert list(found.redundancy.pairs) == ["all"]
    assert found.pairs.structure is None
    assert {figure.section for figure in report.figures} == {"results"}
    assert report.sentence.endswith("each with the reason.")
    report.to_html()


def test_embeddings_of_other_images_are_refused(curation, values):
    with pytest.raises(EmbeddingError, match="61 embeddings for 62 images"):
        look_into(curation.manifest, values[:61], curation.selection)


# --- what the page says -------------------------------------------------------------------------


def test_the_sentence_says_what_to_do_and_what_it_brings(report, curation):
    beside = curation.selection.comparison
    assert report.sentence.startswith("Label these 12 of 62 images: selected.csv lists them")
    assert f"by {beside.selection.coverage_mean:.3f} (1 is the same)" in report.sentence
    assert f"at random, by {beside.random_mean.coverage_mean:.3f}." in report.sentence


def test_headline_numbers(report):
    told = [metric.text() for metric in report.metrics]

    assert told[0] == "Images to label 12"
    assert len({metric.name for metric in report.metrics}) == len(told)  # a file is keyed by them
    assert "19.4 % of 62 images" in report.metrics[0].note
    assert told[-2:] == ["Time saved, classes 50 s", "Time saved, masks 250 min"]
    assert "one class per image (1 s)" in report.metrics[-2].note


def test_a_label_may_cost_more(curation, no_charts):
    report = curation_report(curation, name="x", cost=Cost(30.0, 10.0))

    assert [metric.text() for metric in report.metrics[-2:]] == [
        "Time saved, classes 25 min",
        "Time saved, masks 500 min",
    ]
    assert rows_of(report, "Labelling time")["one mask per image (10 min)"] == [
        "10 h",
        "2.0 h",
        "8.3 h",
    ]


def test_the_selection_stands_beside_random_and_interval(report, curation):
    rows = rows_of(report, "Beside a random choice")
    beside = curation.selection.comparison
    mean, random, interval = rows[
        "Similarity of the average image to its nearest labelled one (high is good)"
    ]

    assert mean == beside.selection.coverage_mean
    assert interval == beside.interval.coverage_mean
    assert random.startswith(f"{beside.random_mean.coverage_mean:.3f} (SD ")
    assert rows["Patients with a selected image"][0] == 5
    assert not any(name.startswith("Strata") for name in rows)


def test_redundancy_within_and_between_groups(report):
    rows = rows_of(report, "How much of the set")

    assert rows["Two images of one group"] == [150, "100 %", "100 %", "100 %"]
    assert rows["All pairs of images"][0] == 61 * 60 // 2
    assert rows["Images of two groups"][0] == 61 * 60 // 2 - 150


def test_near_duplicates_are_counted(report):
    rows = rows_of(report, "Near-duplicates and doubtful")

    assert rows["Pairs of near-duplicates (similarity at least 0.95)"] == [150]
    assert rows["Families of near-duplicates (connected by such pairs)"] == [10]
    assert rows["Images in the largest family"] == [6]
    assert rows["Pairs between test and train"] == [5]
    assert rows["Pairs across the split of one patient"] == [5]
    assert rows["Pairs with different labels"] == [5]
    assert rows["Images set aside (outliers.csv)"] == [2]


def test_suspected_label_errors_name_the_image_to_check(report):
    (found,) = [one for one in report.tables if one.title.startswith("Suspected label")]

    assert len(found.rows) == 5
    assert {row[3] for row in found.rows} == {"well (5 of 6)"}
    wrong = "i04 (sick)"
    assert {row[0] if row[4] == "first" else row[1] for row in found.rows} == {wrong}
    assert {row[4] for row in found.rows} == {"first", "second"}


def test_warnings_tell_everything_that_must_be_known(report):
    told = "\n".join(report.warnings)

    for expected in (
        "1 of 62 rows are zero and were set aside",
        "The outlier gate leaves out 1 of 61 images",
        "could not be read and are in no list: 1.",
        "different parts of the split (1 of test, 5 of train)",
        "Pairs of near-duplicates with different labels: 5.",
        "must not be used as a test set",
    ):
        assert expected in told
    assert "no better than a random one" not in told


def test_a_selection_worse_than_random_says_so(curation, no_charts):
    beside = curation.selection.comparison
    worse = replace(beside, random_mean=replace(beside.random_mean, coverage_mean=1.0))
    changed = replace(curation, selection=replace(curation.selection, comparison=worse))

    told = "\n".join(curation_report(changed, name="x").warnings)

    assert "no better than a random one" in told
    assert "random 1.000" in told


def test_pairs_that_were_not_kept_are_told(curation, no_charts):
    fewer = replace(curation, pairs=replace(curation.pairs, total=1_000_000))

    report = curation_report(fewer, name="x")

    (found,) = [one for one in report.tables if one.title.startswith("Near-duplicates and")]
    assert found.rows[0][1] == 1_000_000
    assert "Only the 150 most similar pairs are listed" in found.note


def test_the_next_steps_begin_with_what_needs_a_look(report):
    steps = rows_of(report, "What to do next")

    assert "outliers.csv" in steps[1][0]
    assert "suspected label errors" in steps[2][0]
    assert steps[3][0].startswith("Fill the column label in selected.csv")
    assert steps[4][1] == "medglean train classify cxr-small selected.csv -o runs/curated"


def test_all_figures_are_there(report):
    assert [figure.title for figure in report.figures] == [
        "What a budget covers",
        "How similar the images are to one another",
        "Where the selected images lie",
        "The first images to label",
        "Left out, because of",
        "Suspected label errors",
        "Set aside as outliers",
    ]


def test_the_page_is_written(report, tmp_path):
    written = report.write(tmp_path)

    assert "Which images to label: scans.csv" in written.read_text()
    record = json.loads((tmp_path / "report.json").read_text())
    assert record["done"] == {"method": "enrich", "drawn at random": 1, "preset": "enrich2023"}
    assert record["data"]["could be chosen"] == "60"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.5, "0.5 s"), (90, "90 s"), (60, "1 min"), (660, "11 min"), (36_001, "10 h"), (7200, "2 h")],
)
def test_durations(seconds, told):
    assert duration(seconds) == told
