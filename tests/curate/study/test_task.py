"""The whole study on phantoms: its files, its going on, its report."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from tests.curate.study.conftest import SMALL, small_preset

from medglean import cli
from medglean.curate.study import cells as cells_module
from medglean.curate.study.settings import EnrichStudyPreset
from medglean.curate.study.task import enrich
from medglean.data.manifest import Manifest
from medglean.errors import DataError, Interrupted, RunFolderError
from medglean.runs.preset import load_preset

COMMAND = ["/bin/medglean", "study", "enrich", "data.parquet", "--resume"]


def without_times(frame):
    return frame.drop(columns="seconds")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def done(clips, cache, tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "run"
    report = enrich(Manifest.read(clips), small_preset(), out=out, command=COMMAND, cache=cache)
    return out, report


def test_every_cell_is_measured_and_told(done, clips):
    out, report = done
    cells = pd.read_csv(out / "cells.csv", dtype={"size": str})

    assert len(cells) == 2 * (2 * 2 + 1)
    assert set(cells["size"]) == {"4", "20%", "full"}
    assert cells["score"].between(0, 1).all()
    assert (cells["score"] == cells["score: auroc"]).all()
    total = cells["images: the rest"] + cells["images: b-lines"]
    assert (total == cells["images"]).all()
    assert not (out / "work").exists()
    assert "Learning curves (classification)" in (out / "report.html").read_text()
    assert report.warnings == [
        "2 replicates against 2 cannot reach significance by Mann-Whitney, whatever the scores "
        "are: its smallest p is 0.33, the level 0.05. Set replicates to 4 or more."
    ]
    assert len(Manifest.read(clips)) == len(pd.read_csv(out / "replicates.csv"))


def test_selections_see_the_pool_only_and_nest(done):
    out, _ = done
    sides = pd.read_csv(out / "replicates.csv", dtype=str).set_index("id")
    for number in (0, 1):
        chosen = pd.read_parquet(out / f"selections/{number:03}.parquet")
        assert (sides.loc[chosen["id"], f"replicate {number}"] == "pool").all()
        for method in ("enrich", "random"):
            of_method = chosen[chosen["method"] == method]
            small = of_method.loc[of_method["size"] == "4", "id"].tolist()
            large = of_method.loc[of_method["size"] == "20%", "id"].tolist()
            assert large[:4] == small
            assert len(set(large)) == len(large)


def test_results_are_what_the_documentation_takes(done):
    out, _ = done
    records = json.loads((out / "results.json").read_text())

    assert records[0]["name"] == "AUROC, all images"
    assert records[1]["name"] == "AUROC, enrich, 4"
    assert records[1]["n"] == 4
    assert records[1]["command"] == "medglean study enrich data.parquet"
    assert "over random (p " in records[1]["note"]
    assert all(0 <= record["low"] <= record["value"] <= record["high"] <= 1 for record in records)


def test_a_finished_study_is_left_alone(done, clips, cache):
    out, report = done
    before = (out / "report.html").stat().st_mtime_ns
    again = enrich(
        Manifest.read(clips), small_preset(), out=out, command=COMMAND, cache=cache, resume=True
    )

    assert again.sentence == report.sentence
    assert (out / "report.html").stat().st_mtime_ns == before


def test_a_killed_study_goes_on_to_the_same_table(done, clips, cache, tmp_path, monkeypatch):
    whole, _ = done
    calls = []

    def killed(cell, *arguments, **named):
        calls.append(cell.name)
        if len(calls) == 4:
            raise Interrupted("stopped")
        return run(cell, *arguments, **named)

    run = cells_module.run_cell
    monkeypatch.setattr(cells_module, "run_cell", killed)
    arguments = {"out": tmp_path / "run", "command": COMMAND, "cache": cache}
    with pytest.raises(Interrupted):
        enrich(Manifest.read(clips), small_preset(), **arguments)
    kept = sorted(path.stem for path in (tmp_path / "run/cells").iterdir())
    assert kept == sorted(calls[:3])
    with pytest.raises(RunFolderError, match="a run is here already"):
        enrich(Manifest.read(clips), small_preset(), **arguments)

    enrich(Manifest.read(clips), small_preset(), **arguments, resume=True)

    assert sorted(calls[3:4] + calls[4:]) == sorted([calls[3], *calls[4:]])
    assert len(calls) == 4 + 7  # three were not trained again
    first, second = (pd.read_csv(path / "cells.csv") for path in (whole, tmp_path / "run"))
    pd.testing.assert_frame_equal(without_times(first), without_times(second))


def test_a_cell_of_other_images_is_done_again(done, clips, cache, tmp_path):
    whole, _ = done
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    (out / "done").unlink()
    name = out / "cells/000-random-4.json"
    record = json.loads(name.read_text())
    name.write_text(json.dumps(record | {"fingerprint": "", "scores": {"auroc": 0.123}}))
    enrich(Manifest.read(clips), small_preset(), out=out, command=COMMAND, cache=cache, resume=True)

    first, second = (pd.read_csv(path / "cells.csv") for path in (whole, out))
    pd.testing.assert_frame_equal(without_times(first), without_times(second))


def test_a_fixed_test_set_and_balanced_groups(clips, cache, tmp_path):
    manifest = Manifest.read(clips)
    names = np.unique(manifest.groups("patient"))
    parts = np.where(np.isin(manifest.groups("patient"), names[:4]), "test", "train")
    preset = small_preset("test.kind=fixed", "balanced_groups=2", "sizes=[4]")
    report = enrich(
        manifest.with_columns(split=pd.Series(parts)),
        preset,
        out=tmp_path / "run",
        command=COMMAND,
        cache=cache,
    )
    cells = pd.read_csv(tmp_path / "run/cells.csv")

    assert cells["test_images"].nunique() == 1
    full = cells[cells["method"] == "full"]
    assert (full["images"] == 2 * full["groups"]).all()
    assert "first reduced to 2 random image(s) of every group" in report.warnings[1]
    gains = next(
        table for table in report.tables if table.title == "Gain over random at the same size"
    )
    assert "paired" not in gains.note


@pytest.mark.slow
def test_a_study_of_masks(brains, tmp_path):
    preset = load_preset(
        "enrich-segment",
        EnrichStudyPreset,
        overrides=[
            "sizes=[6]",
            "methods=['enrich', 'random']",
            "baselines=['random']",
            "replicates=2",
            "start=2",
            "learner.steps=4",
            "learner.images.size_px=[32, 32]",
            "learner.images.channels=['flair']",
            "learner.fit.precision=32-true",
            "embedding.images.size_px=[16, 16]",
            "embedding.images.channels=['flair']",
            "embedding.pca.components=4",
        ],
    )
    report = enrich(brains, preset, out=tmp_path / "run", command=COMMAND, cache=tmp_path / "cache")
    cells = pd.read_csv(tmp_path / "run/cells.csv")

    assert len(cells) == 2 * 3
    assert {"score: jaccard of mask", "score: dice"} <= set(cells.columns)
    assert "300 s per image" in next(t.note for t in report.tables if "few images" in t.title)
    assert not list((tmp_path / "run").glob("**/*.safetensors"))


def test_a_score_that_is_undefined_is_refused():
    record = {
        "replicate": 0, "method": "random", "size": "4", "test_images": 9,
        "scores": {"auroc": None}, "classes": {},
    }  # fmt: skip
    with pytest.raises(DataError, match="cell random 4 of replicate 0: auroc is undefined on"):
        cells_module.table([record], primary="auroc")


def test_the_command_writes_the_study_and_leaves_a_finished_one_alone(clips, tmp_path, capsys):
    out = tmp_path / "study"
    arguments = ["study", "enrich", str(clips), "-o", str(out), "--seed", "5", *SMALL]

    assert cli.run(arguments) == 0
    told = capsys.readouterr().out
    assert f"enrich: {out / 'report.html'}" in told
    records = json.loads((out / "results.json").read_text())
    assert any("enrich" in record["name"] for record in records)
    assert "seed = 5" in (out / "preset.toml").read_text()
    page = (out / "report.html").stat().st_mtime_ns
    assert cli.run([*arguments, "--resume"]) == 0
    assert (out / "report.html").stat().st_mtime_ns == page
