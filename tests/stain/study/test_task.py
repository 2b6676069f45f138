import json

import numpy as np
import pandas as pd
import pytest
from tests.stain.study.conftest import METHODS, small_study

from medglean.data.manifest import Manifest
from medglean.errors import DataError
from medglean.stain.study import rows as rows_module
from medglean.stain.study import task
from medglean.stain.study.task import bci2024


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setattr(task, "check_pairs", lambda pairs, rows: [])


@pytest.fixture
def fitted(monkeypatch):
    """Note which network is trained, for whom, on which rows."""
    told = []
    whole = rows_module.fit_network

    def fit_network(name, *args, folder, rows, **more):
        told.append((name, folder.parent.name, None if rows is None else tuple(rows.tolist())))
        return whole(name, *args, folder=folder, rows=rows, **more)

    monkeypatch.setattr(rows_module, "fit_network", fit_network)
    return told


def few(stained, pairs):
    """Return the first pair of as many slides."""
    manifest = Manifest.read(stained)
    return manifest.select(np.arange(0, 2 * pairs, 2))


def test_the_division_of_the_preset_is_one_fold(stained, fitted, tmp_path):
    preset, out = small_study(), tmp_path / "study"
    report = bci2024(
        Manifest.read(stained), preset, out=out, command=["/bin/medglean", "study"], cache=None
    )

    names = [*METHODS, "Mean colour"]
    tables = {table.title: table for table in report.tables}
    for title in ("Methods", "The stain itself", "Cost", "With white glass"):
        assert [row[0] for row in tables[title].rows] == names
    assert [row[0] for row in tables["What GAN gains"].rows] == names[1:]
    assert len(tables["Pair by pair"].rows) == 4
    trained = [name for name, _, _ in fitted]
    assert trained.count("generator") == 3  # two rows differ in what is done afterwards
    assert {rows for _, _, rows in fitted} == {None}  # as a training run of its own
    assert len(list((out / "networks" / "split").glob("generator-*"))) == 3  # kept
    records = {record["name"]: record for record in json.loads((out / "results.json").read_text())}
    assert records["GAN: PSNR"]["unit"] == "dB"
    assert records["GAN: PSNR"]["command"] == "medglean study"
    assert records["Mean colour: PSNR"]["n"] == 4
    assert records["U-Net: CPU time of one training"]["value"] > 0
    assert "mean colour has" in report.sentence
    titles = [figure.title for figure in report.figures]
    assert titles[:2] == ["The same pairs by each method", "The methods compared"]
    assert (out / "report.html").is_file()
    again = bci2024(Manifest.read(stained), preset, out=out, command=[], resume=True, cache=None)
    assert again.metrics[0].text() == report.metrics[0].text()


def test_one_pair_at_a_time_each_is_measured_once_and_not_learnt_from(stained, fitted, tmp_path):
    methods = {"U-Net": METHODS["U-Net"]}
    report = bci2024(
        few(stained, 5),
        small_study(folds="pair", methods=methods),
        out=tmp_path / "study",
        command=[],
        cache=None,
    )

    division = pd.read_csv(tmp_path / "study" / "split.csv")
    assert sorted(division["fold"]) == [f"pair-{number}" for number in range(5)]
    learnt = {fold: set(rows) for _, fold, rows in fitted}
    assert len(learnt) == 5
    for fold, rows in learnt.items():
        (tested,) = np.flatnonzero(division["fold"] == fold)
        assert rows == set(range(5)) - {tested}
    for name in ("level", "judge", "generator"):  # no classifier has seen the pair, either
        assert sorted(fold for one, fold, _ in fitted if one == name) == sorted(learnt)
    assert not list((tmp_path / "study" / "networks").glob("*/*"))  # nothing needs them
    table = next(one for one in report.tables if one.title == "Methods")
    assert [row[0] for row in table.rows] == ["U-Net", "Mean colour"]
    assert report.data["pairs"]["measured"] == 5


def test_a_group_at_a_time(stained, tmp_path):
    report = bci2024(
        few(stained, 3),
        small_study(folds="group", methods={"Mean colour": ("method=mean-colour",)}),
        out=tmp_path / "study",
        command=[],
        cache=None,
    )

    assert report.data["pairs"] == {"measured": 3, "learnt from": 2, "could not be used": 0}
    assert not any("same patient or slide" in warning for warning in report.warnings)


def test_a_study_that_was_killed_goes_on_with_what_is_missing(
    stained, fitted, tmp_path, monkeypatch
):
    preset = small_study(folds="pair", methods={name: METHODS[name] for name in ("GAN", "U-Net")})
    manifest = few(stained, 3)
    whole = bci2024(manifest, preset, out=tmp_path / "whole", command=[], cache=None)
    fitted.clear()
    made = []
    measure_rows = task.measure_rows

    def stops(*args, **more):
        made.append(1)
        if len(made) == 5:  # the second fold's second row, its networks trained
            raise KeyboardInterrupt
        return measure_rows(*args, **more)

    monkeypatch.setattr(task, "measure_rows", stops)
    run = {"out": tmp_path / "study", "command": [], "cache": None}
    with pytest.raises(KeyboardInterrupt):
        bci2024(manifest, preset, **run)
    monkeypatch.setattr(task, "measure_rows", measure_rows)
    before = list(fitted)
    fitted.clear()

    again = bci2024(manifest, preset, resume=True, **run)

    assert len(before) == 2 * 4  # level, judge and two generators, of two folds
    assert "pair-0" not in {fold for _, fold, _ in fitted}  # all its cells were there
    assert ("generator", "pair-1") in {one[:2] for one in fitted}  # read again, not trained
    assert sum(one[:2] == ("generator", "pair-1") for one in fitted) == 1  # the GAN is measured
    for first, second in zip(whole.metrics, again.metrics, strict=True):
        assert (first.name, first.value) == (second.name, pytest.approx(second.value, abs=1e-6))


def test_rows_may_be_added_when_a_study_goes_on(stained, tmp_path, monkeypatch):
    flat = {"Flat": ("method=mean-colour",)}
    manifest = few(stained, 3)
    run = {"out": tmp_path / "study", "command": [], "cache": None}

    def stops(*args, **more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(task, "study_report", stops)
        with pytest.raises(KeyboardInterrupt):
            bci2024(manifest, small_study(folds="pair", methods=flat), **run)

    more = {**flat, "U-Net": METHODS["U-Net"]}
    report = bci2024(manifest, small_study(folds="pair", methods=more), resume=True, **run)

    assert [row[0] for row in report.tables[0].rows] == ["Flat", "U-Net"]


def test_without_a_test_part_there_is_nothing_to_compare_on(stained, tmp_path):
    preset = small_study()
    split = preset.split.model_copy(update={"train": 0.7, "val": 0.3, "test": 0.0})

    with pytest.raises(DataError, match=r"Set split\.test above 0"):
        bci2024(
            Manifest.read(stained).with_columns(split=None),
            preset.model_copy(update={"split": split}),
            out=tmp_path / "study",
            command=[],
            cache=None,
        )
