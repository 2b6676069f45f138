import json
import subprocess
import sys

import pandas as pd
import pytest

from medglean import cli
from medglean.data.manifest import Manifest
from medglean.data.phantom import write_brain, write_cxr
from medglean.errors import Interrupted

TRAIN = (
    "images.size_px=[32, 32]",
    "fit.epochs=1",
    "fit.precision=32-true",
    "split.train=0.6",
    "split.val=0.2",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("cli work")
    write_cxr(place / "images", patients=24, images_per_patient=(1, 1), size_px=(64, 64), seed=0)
    assert cli.run(["index", str(place / "images"), "-o", str(place / "data.parquet")]) == 0
    return place


def test_from_a_folder_to_a_report_and_predictions(folder, capsys):
    run, data = str(folder / "run"), str(folder / "data.parquet")
    trained = cli.run(
        ["train", "classify", "cxr-small", data, "-o", run, "--device", "cpu", *TRAIN]
    )
    evaluated = cli.run(
        ["evaluate", run, data, "-o", str(folder / "ev"), "--split", "test", "--device", "cpu"]
    )
    predicted = cli.run(
        ["predict", run, str(folder / "images"), "-o", str(folder / "out"), "--device", "cpu"]
    )
    compared = cli.run(["report", run, str(folder / "ev"), "-o", str(folder / "both")])

    assert (trained, evaluated, predicted, compared) == (0, 0, 0, 0)
    said = capsys.readouterr().out
    plain = [line for line in said.splitlines() if not line.startswith("note: ")]
    assert sum("AUROC" in line for line in plain) == 4
    assert "24 images were scored. Research use only" in said
    assert (folder / "both" / "report.html").is_file()
    assert len(pd.read_csv(folder / "out" / "predictions.csv")) == 24


def test_study_sets_a_network_beside_its_floor(folder, capsys):
    out = folder / "study"

    status = cli.run(["study", "floor", str(folder / "data.parquet"), "-o", str(out), *TRAIN])

    assert status == 0
    records = json.loads((out / "results.json").read_text())
    names = [record["name"] for record in records]
    assert names[0].startswith("AUROC, cxr-small")
    assert names[1].startswith("AUROC, floor")
    assert names[2] == "AUROC, gain over the floor"
    difference = records[0]["value"] - records[1]["value"]
    assert records[2]["value"] == pytest.approx(difference)
    assert any("shortcut probe" in name for name in names)
    assert "AUROC, floor" in capsys.readouterr().out
    page = (out / "report.html").stat().st_mtime_ns
    again = ["study", "floor", str(folder / "data.parquet"), "-o", str(out), "--resume", *TRAIN]
    assert cli.run(again) == 0
    assert (out / "report.html").stat().st_mtime_ns == page
    assert "AUROC, floor" in capsys.readouterr().out


def test_dry_run_writes_nothing(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    status = cli.run(
        ["train", "classify", "cxr-small", str(folder / "data.parquet"), "--dry-run", *TRAIN]
    )

    assert status == 0
    said = capsys.readouterr().out
    assert "classes: normal, opacity" in said
    assert "Nothing was written." in said
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def brains(tmp_path_factory):
    return str(write_brain(tmp_path_factory.mktemp("brains") / "set", patients=8, slices=2,
                           size_px=(32, 32), seed=0))  # fmt: skip


SLICES = ("images.size_px=[32, 32]", "images.channels=['flair']", "method=threshold")


def test_dry_run_of_maps_says_what_is_healthy_and_writes_nothing(
    brains, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)

    status = cli.run(["train", "anomaly", "brain-small", brains, "--dry-run", *SLICES[:2]])

    assert status == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "healthy: healthy; diseased: lesion" in said
    assert "maps: what the network expects of a diseased and not of a healthy image" in said
    assert "Nothing was written." in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("overrides", "status", "told"),
    [
        (["labels.healthy=normal"], 3, "no image is of the healthy class 'normal'"),
        (["translate.noise_level=1001"], 2, "L = 1001 is outside 1..1000"),
        (["translate.scale=-1"], 2, "translate.scale"),
        (["map.channels=['t9']"], 2, "map.channels names 't9'"),
        (["translate.contrast_levels=[200, 100]"], 2, "expected rising noise levels in 1..1000"),
        (["split.train=1.0", "split.val=0.0", "split.test=0.0"], 3, "no image is kept aside"),
    ],
)
def test_errors_of_maps_are_a_message_and_a_status(
    brains, tmp_path, monkeypatch, capsys, overrides, status, told
):
    monkeypatch.chdir(tmp_path)
    common = ["train", "anomaly", "brain-small", brains, "--dry-run"]

    found = cli.run([*common, *SLICES[:2], *overrides])

    error = " ".join(capsys.readouterr().err.split())
    assert found == status, error
    assert told in error
    assert "Traceback" not in error


def test_a_run_of_maps_is_told_by_itself_from_one_of_a_classifier(brains, tmp_path, capsys):
    run, out = str(tmp_path / "run"), str(tmp_path / "out")

    statuses = [
        cli.run(["train", "anomaly", "brain-small", brains, "-o", run, "--device", "cpu",
                 "--cache", str(tmp_path / "cache"), *SLICES]),
        cli.run(["predict", run, brains, "-o", out, "--device", "cpu"]),
    ]  # fmt: skip

    said = capsys.readouterr()
    assert statuses == [0, 0], said.err
    assert "Research use only" in said.out
    table = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert len(table) == 16
    assert (tmp_path / "out" / table["map.file"].iloc[0]).is_file()


def test_audit_gates(folder, tmp_path, capsys):
    data = str(folder / "data.parquet")

    assert cli.run(["audit", data, "-o", str(tmp_path / "audit")]) == 0
    assert (tmp_path / "audit" / "report.html").is_file()
    manifest = Manifest.read(data)
    image = manifest.frame["image"].tolist()
    twice = manifest.with_columns(image=[image[1], *image[1:]], sha256=None, bytes=None)
    twice.write(folder / "twice.parquet")
    capsys.readouterr()

    assert cli.run(["audit", str(folder / "twice.parquet"), "--fail-on", "duplicates"]) == 4

    said = capsys.readouterr()
    assert "duplicates" in said.out
    assert "the audit failed" in said.err


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["train", "classify", "cxr-smal", "DATA"], 2, "Did you mean 'cxr-small'"),
        (["train", "classify", "cxr-small", "DATA", "fit.epoch=3"], 2, "fit.epoch"),
        (["train", "stain", "cxr-small", "DATA"], 2, "stain"),
        (["train", "classify", "cxr-small", "DATA", "--resume"], 2, "--resume needs --out"),
        (["train", "classify", "cxr-small", "no.parquet"], 3, "no.parquet"),
        (["index", "no such folder", "-o", "x.parquet"], 3, "no such folder"),
        (["index", "EMPTY", "-o", "x.parquet"], 3, "the folder is empty"),
        (["index", "EMPTY", "-o", "x.parquet", "--column", "label"], 2, "ours=theirs"),
        (["index", "EMPTY", "-o", "x.parquet", "--slices", "80:128"], 2, "such as 80-128"),
        (["audit", "DATA", "--fail-on", "ugliness"], 2, "ugliness"),
        (["evaluate", "EMPTY", "DATA", "-o", "x"], 2, "not a run"),
        (["no-such-verb"], 2, "No such command"),
        (["report", "EMPTY"], 2, "not a run"),
    ],
)
def test_errors_are_a_message_and_a_status(
    folder, tmp_path, monkeypatch, capsys, arguments, status, told
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    places = {"DATA": str(folder / "data.parquet"), "EMPTY": "empty"}

    found = cli.run([places.get(word, word) for word in arguments])

    error = capsys.readouterr().err
    assert found == status, error
    assert told in error
    assert "Traceback" not in error
    left = {path.name for path in tmp_path.iterdir()}
    assert left <= {"empty", "problems.csv"}  # index tells why it found nothing


def test_interruption_is_130(monkeypatch, capsys):
    def stopped(*_, **__):
        raise Interrupted("stopped after step 3; go on with --resume.")

    monkeypatch.setattr("medglean.api.index", stopped)

    assert cli.run(["index", "x", "-o", "y.parquet"]) == 130
    assert "--resume" in capsys.readouterr().err


@pytest.mark.parametrize(("code", "told"), [(28, "the disk is full"), (13, "not allowed")])
def test_disk_errors_say_what_to_do(monkeypatch, capsys, code, told):
    def failing(*_, **__):
        raise OSError(code, "told by the system", "some/file")

    monkeypatch.setattr("medglean.api.index", failing)

    assert cli.run(["index", "x", "-o", "y.parquet"]) == 3
    assert f"some/file: {told}" in capsys.readouterr().err


def test_what_is_no_patient_is_not_called_one(folder, tmp_path):
    manifest = Manifest.read(folder / "data.parquet")
    clips = manifest.with_columns(patient=None, group=list(manifest.frame["patient"]))
    clips.write(folder / "clips.parquet")

    assert cli.run(["audit", str(folder / "clips.parquet"), "-o", str(tmp_path / "audit")]) == 0

    stored = json.loads((tmp_path / "audit" / "report.json").read_text())
    assert {metric["group_name"] for metric in stored["metrics"]} == {"groups"}


def test_doctor_and_presets(capsys):
    assert cli.run(["doctor"]) in (0, 1)
    assert cli.run(["presets"]) == 0

    said = capsys.readouterr().out
    assert "JPEG 2000" in said
    assert "cxr2022-resnet50" in said


def test_help_of_every_command_loads_no_torch():
    code = (
        "import sys\nfrom medglean import cli\n"
        "for verb in ['index', 'audit', 'train', 'predict', 'evaluate', 'report', 'study']:\n"
        "    assert cli.run([verb, '--help']) == 0\n"
        "heavy = {'torch', 'pandas', 'matplotlib', 'sklearn'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_ends_a_command_with_130(name):
    code = (
        "import os, signal, sys\n"
        "from medglean import api, cli\n"
        f"api.index = lambda *_, **__: os.kill(os.getpid(), signal.{name})\n"
        "sys.argv = ['medglean', 'index', 'x', '-o', 'y.parquet']\n"
        "cli.main()"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.returncode == 130, done.stderr
    assert "Interrupted" in done.stderr
