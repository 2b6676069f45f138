"""The numbers, tables and sentences of a report, from images whose worth is known."""

import dataclasses

import numpy as np
import pytest
from tests.stain.standins import known_stainer
from tests.stain.test_measured import yellow

from medglean.runs.rundir import RunFolder
from medglean.stain import assess as known
from medglean.stain import figures, panels
from medglean.stain import measured as module
from medglean.stain.measured import measure
from medglean.stain.page import (
    metrics_of,
    quoted,
    result_figures,
    result_tables,
    shown_of,
    with_interval,
)
from medglean.stain.reporting import (
    counted_as,
    evaluation_report,
    part_sizes,
    training_report,
)


@pytest.fixture(autouse=True)
def _without_pictures(monkeypatch):
    monkeypatch.setattr(module, "check_pairs", lambda pairs, rows: [])
    monkeypatch.setattr(panels, "to_png", lambda figure: b"\x89PNG")
    monkeypatch.setattr(figures, "to_svg", lambda figure: b"<svg/>")


@pytest.fixture
def found(start):
    stainer = known_stainer(start, yellow, judge=True)
    return measure(stainer, start.pairs, start.pairs.positions("test"))


def test_psnr_stands_first_and_the_mean_colour_beside_it(found):
    metrics = metrics_of(found, group_name="patients")

    assert [metric.name for metric in metrics[:3]] == [known.PSNR, known.FLAT_PSNR, known.GAIN]
    assert {metric.unit for metric in metrics[:3]} == {"dB"}
    assert metrics[3].unit == ""


def test_the_sentence_tells_the_mean_colour_too(found):
    flat = found.assessment.metrics[known.FLAT_PSNR].value

    told = quoted(found, counted="patients")

    assert f"mean colour has {flat:.1f} dB" in told
    assert "On 4 pairs of" in told
    assert "The background's DAB is off by +0." in told


def test_every_number_is_explained(found):
    table = result_tables(found)[-1]

    assert table.title == "What the measures mean"
    assert {row[0] for row in table.rows} == set(found.assessment.metrics)


def test_parts_by_level_are_told(found, start):
    table = result_tables(found)[0]

    assert table.title == "By the level"
    tested = start.pairs.levels[found.made.rows]
    assert [row[1] for row in table.rows] == np.bincount(tested)[np.bincount(tested) > 0].tolist()


def test_a_pair_is_shown_with_its_level_and_what_the_judge_says(found, start):
    row, one = next(iter(found.made.kept.items()))

    shown = shown_of(start.pairs, start.preset, row, {"tiny": (found, one)})

    assert shown.level == start.preset.level.names[start.pairs.levels[row]]
    assert shown.told["tiny"].startswith("PSNR ")
    assert ", judged " in shown.told["tiny"]
    # yellow reads as DAB: more of it in the generated image
    assert shown.density["tiny"].mean() > shown.density_real.mean() + 0.03


def test_figures_show_pairs_and_how_much_dab(found, start):
    titles = [figure.title for figure in result_figures(found, start.pairs, start.preset)]

    assert titles == ["From H&E to the stain", "How much DAB there is"]


def test_a_missing_number_is_not_available():
    assert with_interval(None) == "n/a"


def run_of(path, start):
    return RunFolder.create(
        path,
        preset_toml=start.preset.to_toml(),
        command=["medglean"],
        manifest_hash="m",
        split_hash="s",
        seed=0,
        task="stain",
    )


def test_the_training_report_warns_of_all_that_flatters(found, start, tmp_path):
    sizes = part_sizes(start.pairs)
    stainer = dataclasses.replace(known_stainer(start), networks={})
    with run_of(tmp_path / "run", start) as run:
        report = training_report(
            run, stainer, start.pairs, found, {}, part="val", sizes=sizes, problems=[]
        )
        report.write(run.path)

    told = " ".join(report.warnings)
    assert "synthetic" in told
    assert "no test part" in told
    assert "Only 4 pairs" in told
    assert "whole slide" in told
    assert report.metrics[1].name == known.FLAT_PSNR
    assert report.data["pairs"]["train"] == sizes["train"]
    assert "mean colour" in report.to_html()
    assert known.FLAT_PSNR in run.read_json("metrics.json")
    assert report.summary().startswith("PSNR ")


def test_an_evaluation_tells_of_pairs_that_were_learnt_from(found, start, tmp_path):
    trained = tmp_path / "trained"
    with run_of(trained, start) as run:
        frame = start.pairs.manifest.frame[["id", "split"]].assign(split="train")
        run.write("split.csv", frame.to_csv(index=False))
    with run_of(tmp_path / "run", start) as run:
        report = evaluation_report(
            run, trained, known_stainer(start), start.pairs, found, split=None, problems=[]
        )

    assert report.title == "tiny: evaluated on 4 pairs"
    assert any("trained or chosen on" in warning for warning in report.warnings)
    assert report.done["part"] == "all"


def test_groups_are_called_what_they_are(start):
    assert counted_as(start.pairs) in ("patients", "slides")
