import json

import numpy as np
import pandas as pd
import pytest
from tests.classify.study import trees

from medglean.classify.study import plan as plan_module
from medglean.classify.study import task, train
from medglean.classify.study.measured import constant_answer
from medglean.classify.study.task import cxr2022
from medglean.data.manifest import Manifest
from medglean.errors import CheckpointError, DataError, NonFiniteLossError, RunFolderError

SETS = {
    "radiography": ("radiography", "cxr2022-radiography", trees.radiography),
    "pneumonia": ("pneumonia", "cxr2022-pneumonia", trees.pneumonia),
    "kermany": ("pneumonia", "cxr2022-pneumonia", trees.kermany),
    "covid": ("covid-chestxray", "cxr2022-covid", trees.covid_chestxray),
    "views": ("covid-chestxray", "cxr2022-covid-views", trees.covid_chestxray),
}
pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture(autouse=True)
def _without_the_cells_pictures(monkeypatch):
    """A cell's own page is tested elsewhere; the study's is drawn."""
    monkeypatch.setattr("medglean.classify.reporting.result_figures", lambda *_, **__: [])
    monkeypatch.setattr("medglean.classify.reporting.example_figures", lambda *_: [])
    monkeypatch.setattr("medglean.classify.reporting.counts_figure", lambda *_: _figure())


def _figure():
    from medglean.runs.report import Figure

    return Figure("Counts", "no picture", b"\x89PNG", "png")


@pytest.fixture
def trained(monkeypatch):
    """Note what is trained, on how many training images."""
    told = []
    whole = train.task.fit

    def fit(manifest, preset, *, out, **more):
        told.append(out.name)
        return whole(manifest, preset, out=out, **more)

    monkeypatch.setattr(train.task, "fit", fit)
    return told


def run(source, preset, dataset, out, **more):
    return cxr2022(source, preset, dataset=dataset, out=out, command=["/bin/medglean"], **more)


def test_the_study_runs_on_the_folder_of_the_first_set(tmp_path, trained):
    source, out = trees.radiography(tmp_path / "in"), tmp_path / "study"
    report = run(source, trees.small("cxr2022-radiography"), "radiography", out)

    assert trained == [
        "resnet-tiny",
        "resnet-tiny-optimizer-sgd",
        "resnet-tiny-classes-2-classes",
        "resnet-tiny-images-0.5",
    ]
    titles = " ".join(table.title for table in report.tables)
    assert all(f"{one}" in titles.casefold() for one in ("networks", "learning rate", "classes"))
    records = {one["name"]: one for one in json.loads((out / "results.json").read_text())}
    assert records["resnet-tiny: accuracy"]["command"] == "medglean"
    assert "constant answer" in " ".join(records)
    parts = pd.read_csv(out / "split.csv", dtype=str).set_index("id")["split"]
    whole = pd.read_csv(out / "cells/resnet-tiny/split.csv", dtype=str).set_index("id")["split"]
    half = pd.read_csv(out / "cells/resnet-tiny-images-0.5/split.csv", dtype=str)
    pd.testing.assert_series_equal(whole.sort_index(), parts.sort_index())
    assert (half.set_index("id")["split"] == parts.loc[half["id"]]).all()
    assert (half["split"] == "test").sum() == (parts == "test").sum()
    assert (half["split"] == "train").sum() == -(-(parts == "train").sum() // 2)
    two = pd.read_parquet(out / "cells/resnet-tiny-classes-2-classes/results.parquet")
    assert sorted(set(two["label"])) == ["Normal", "Viral Pneumonia"]  # they have the most images
    assert not list(out.glob("cells/*/checkpoints"))  # of a finished cell its weights are kept
    assert len(list(out.glob("cells/*/network.safetensors"))) == 4
    again = run(source, trees.small("cxr2022-radiography"), "radiography", out, resume=True)
    assert again.metrics[0].text() == report.metrics[0].text()
    assert len(trained) == 4


@pytest.mark.parametrize("name", ["pneumonia", "kermany", "covid", "views"])
def test_the_study_runs_on_the_folders_of_the_other_sets(tmp_path, name):
    dataset, preset, write = SETS[name]
    small = trees.small(preset, "study.ablations=[]")

    report = run(write(tmp_path / "in"), small, dataset, tmp_path / "study")

    assert (tmp_path / "study" / "report.html").is_file()
    indexed = Manifest.read(tmp_path / "study" / "indexed.parquet")
    assert indexed.missing_files() == []
    parts = pd.read_csv(tmp_path / "study" / "split.csv", dtype=str).merge(indexed.frame, on="id")
    assert set(parts["split_x" if "split_x" in parts else "split"]) == {"train", "val", "test"}
    if name in ("covid", "views"):
        assert "exact match" in report.sentence
        assert "COVID-19 + Pneumonia + Viral" in report.sentence
    if name == "views":
        assert set(parts.loc[parts["split"] == "test", "view"]) == {"AP Supine"}
        assert set(parts.loc[parts["split"] != "test", "view"]) == {"PA", "AP"}
        assert any("groups-across" in one or "on more than one side" in one
                   for one in report.warnings)  # fmt: skip
    elif name != "pneumonia":  # which names no patients
        sides = parts.groupby("patient")["split_x" if "split_x" in parts else "split"].nunique()
        assert (sides == 1).all()


def test_the_constant_answer_is_chosen_on_the_training_part():
    single = constant_answer(np.array([2, 0, 2, 1, 1]), kind="single", classes=4)
    assert single.tolist() == [0, 1, 0, 0]  # of equally frequent classes the first
    sets = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 0], [0, 0, 1], [1, 0, 1]])
    assert constant_answer(sets, kind="multi", classes=3).tolist() == [1, 1, 0]


def test_a_study_that_was_killed_goes_on_with_what_is_missing(tmp_path, trained, monkeypatch):
    source = trees.radiography(tmp_path / "in")
    small = trees.small("cxr2022-radiography", "study.ablations=['optimizer', 'classes']")
    write_json = train.write_json

    def stops(path, value):
        if path.name == "resnet-tiny-optimizer-sgd.json":  # trained, and not told yet
            raise KeyboardInterrupt
        write_json(path, value)

    with monkeypatch.context() as patch:
        patch.setattr(train, "write_json", stops)
        with pytest.raises(KeyboardInterrupt):
            run(source, small, "radiography", tmp_path / "study")
    assert trained == ["resnet-tiny", "resnet-tiny-optimizer-sgd"]
    stamps = {
        file: file.stat().st_mtime_ns for file in tmp_path.glob("study/cells/*/network.safetensors")
    }
    trained.clear()
    # the folder is not read again: a file that came in the meantime is not seen
    trees.draw(source / "COVID-19_Radiography_Dataset/Normal/images/new.png", 1, 1)

    report = run(source, small, "radiography", tmp_path / "study", resume=True)

    assert trained == ["resnet-tiny-optimizer-sgd", "resnet-tiny-classes-2-classes"]
    assert len(stamps) == 2
    assert all(file.stat().st_mtime_ns == stamp for file, stamp in stamps.items())
    assert report.tables[0].title == "The networks"


def test_a_training_that_diverges_is_a_row_and_not_the_end(tmp_path, monkeypatch):
    source = trees.radiography(tmp_path / "in")
    changes = ("study.ablations=['learning-rate', 'batch-size']", "study.rates=[1e30]",
               "study.batches=[64]")  # fmt: skip
    small = trees.small("cxr2022-radiography", *changes)
    told = []
    fit = train.task.fit

    def noted(*args, **more):
        try:
            return fit(*args, **more)
        except NonFiniteLossError as error:
            told.append(str(error))
            raise

    monkeypatch.setattr(train.task, "fit", noted)

    report = run(source, small, "radiography", tmp_path / "study")

    assert len(told) == 1
    stored = json.loads((tmp_path / "study/cells/resnet-tiny-learning-rate-1e-30.json").read_text())
    assert stored["state"] == "diverged"
    assert "is nan at step 1 (epoch 1, batch 1)" in stored["note"]
    assert ".png" not in stored["note"]
    rate = next(table for table in report.tables if "earning rate" in table.title)
    assert "n/a" in " ".join(map(str, rate.rows[1]))  # below the constant answer
    assert any("diverged" in warning and "at step 1" in warning for warning in report.warnings)
    assert (tmp_path / "study" / "done").exists()


def test_scores_that_are_not_finite_are_a_training_that_diverged(tmp_path):
    source = trees.radiography(tmp_path / "in")
    changes = ("study.ablations=[]", "fit.batch_size=64", "fit.optimizer.learning_rate=1e30")
    small = trees.small("cxr2022-radiography", *changes)

    run(source, small, "radiography", tmp_path / "study")

    stored = json.loads((tmp_path / "study/cells/resnet-tiny.json").read_text())
    assert stored["state"] == "diverged"


def test_another_sets_folder_is_refused_and_nothing_is_written(tmp_path):
    source = trees.pneumonia(tmp_path / "in")

    with pytest.raises(DataError, match="looks like layout 'covid-pneumonia-normal'"):
        run(source, trees.small("cxr2022-radiography"), "radiography", tmp_path / "study")

    assert not (tmp_path / "study").exists()


def test_missing_weights_and_a_missing_test_part_are_told_before_anything_is_written(tmp_path):
    source = trees.radiography(tmp_path / "in")
    small = trees.small("cxr2022-radiography", f"study.pretrained={tmp_path}/none.pth")
    with pytest.raises(CheckpointError, match=r"none\.pth.*study\.pretrained=FILE"):
        run(source, small, "radiography", tmp_path / "study")

    untested = ("split.train=0.8", "split.val=0.2", "split.test=0.0")
    with pytest.raises(DataError, match=r"Set split\.test above 0"):
        run(source, trees.small("cxr2022-radiography", *untested), "radiography", tmp_path / "s")
    assert not (tmp_path / "study").exists()
    assert not (tmp_path / "s").exists()


def test_a_cell_of_other_settings_is_not_taken_for_this_ones(tmp_path, monkeypatch):
    source = trees.radiography(tmp_path / "in")

    def stops(*args, **more):
        raise KeyboardInterrupt

    small = trees.small("cxr2022-radiography", "study.ablations=['optimizer']")
    with monkeypatch.context() as patch:
        patch.setattr(task, "study_report", stops)
        with pytest.raises(KeyboardInterrupt):
            run(source, small, "radiography", tmp_path / "study")
    other = trees.small(
        "cxr2022-radiography",
        "study.ablations=['optimizer']",
        'study.optimizers={"SGD" = ["fit.optimizer.name=sgd", "fit.optimizer.momentum=0.5"]}',
    )

    with pytest.raises(RunFolderError, match=r"fit\.optimizer\.momentum: 0\.9 then, 0\.5 now"):
        run(source, other, "radiography", tmp_path / "study", resume=True)

    manifest = Manifest.read(tmp_path / "study" / "indexed.parquet")
    with pytest.raises(RunFolderError, match="dataset: radiography then, pneumonia now"):
        run(manifest, small, "pneumonia", tmp_path / "study", resume=True, cache=tmp_path / "c")


def test_a_study_is_read_back_as_it_was_planned(tmp_path, monkeypatch):
    plans = []
    read_plan = plan_module.read_plan

    def noted(folder):
        plans.append(read_plan(folder))
        raise KeyboardInterrupt

    monkeypatch.setattr(task, "read_plan", noted)
    source = trees.radiography(tmp_path / "in")
    with pytest.raises(KeyboardInterrupt):
        run(source, trees.small("cxr2022-radiography"), "radiography", tmp_path / "study")

    (plan,) = plans
    assert plan.chosen.classes == ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")
    assert plan.cache == tmp_path / ".medglean-cache"
    assert plan.chosen.manifest.missing_files() == []
    assert len(plan.cells) == 6
