import errno
import json
import logging
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medglean.errors import Interrupted, Problem, ReadError, RunFolderError
from medglean.runs import disk, lock, rundir
from medglean.runs.rundir import RunFolder

PRESET = 'name = "x"\n[fit]\nepochs = 3\nworkers = 1\n'


@pytest.fixture(autouse=True)
def quick_environment(monkeypatch):
    monkeypatch.setattr(rundir, "describe_environment", lambda command: {"python": "x"})
    monkeypatch.setattr(lock, "_PATIENCE_S", 0.1)


def create(path, **changes):
    settings = {
        "preset_toml": PRESET,
        "command": ["medglean", "train", str(Path.home() / "data.csv")],
        "manifest_hash": "abc",
        "seed": 1,
    }
    return RunFolder.create(path, **{**settings, **changes})


def test_a_run_from_start_to_done(tmp_path):
    folder = tmp_path / "läufe mit Leerzeichen" / "Größe 1"
    problem = Problem("a.png", "found nothing.", "Do something.", row=3, kind="ReadError")
    frame = pd.DataFrame({"id": ["007", "b,c"], "p": [0.25, 1 / 3]})
    with create(folder, task="classify", split_hash="def") as run:
        assert run.status() == "running"
        run.write_metrics({"auroc": np.float64(0.5), "f1": [float("nan"), 1.0]})
        run.write_results(frame)
        run.write_problems([problem])
        run.finish()

    again = RunFolder.open(folder)
    assert again.status() == "done"
    assert again.is_done
    assert again.record["command"] == ["medglean", "train", "~/data.csv"]
    assert again.record["manifest_hash"] == "abc"
    assert again.record["split_hash"] == "def"
    assert again.record["seed"] == 1
    assert again.preset_path.read_text() == PRESET
    assert again.read_json("metrics.json") == {"auroc": 0.5, "f1": [None, 1.0]}
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "results.parquet"), frame)
    pd.testing.assert_frame_equal(pd.read_csv(folder / "results.csv", dtype={"id": str}), frame)
    problems = pd.read_csv(folder / "problems.csv")
    assert problems.loc[0, ["file", "row", "kind"]].tolist() == ["a.png", 3, "ReadError"]
    lines = (folder / "log.txt").read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (INFO|ERROR) ", line) for line in lines)
    assert lines[0].split(" INFO ")[1].startswith("started with medglean")
    assert lines[-1].endswith("INFO done")
    assert not list(folder.glob("*.tmp"))
    assert not (folder / ".holder.json").exists()


def test_what_medglean_logs_is_in_the_log_while_the_run_is_open(tmp_path):
    with create(tmp_path / "a"):
        logging.getLogger("medglean.fitting").info("epoch %d\n2026-01-01 INFO done", 1)
    logging.getLogger("medglean.fitting").info("epoch 2")

    text = (tmp_path / "a" / "log.txt").read_text()
    assert "INFO epoch 1\n    2026-01-01 INFO done\n" in text
    assert "epoch 2" not in text


def test_a_done_run_stays_as_it_is(tmp_path):
    with create(tmp_path / "a") as run:
        run.finish()
        with pytest.raises(RunFolderError, match="this run is done and stays as it is"):
            run.write_metrics({})
    before = {file: file.read_bytes() for file in (tmp_path / "a").glob("*.*")}

    with create(tmp_path / "a", resume=True) as run:
        assert run.is_done
    with pytest.raises(RunFolderError, match="a run is here already"):
        create(tmp_path / "a")
    assert {file: file.read_bytes() for file in (tmp_path / "a").glob("*.*")} == before


def test_a_folder_with_something_in_it_is_refused_and_left(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")

    for resume in (False, True):
        with pytest.raises(RunFolderError, match=r"not empty and not a run \(found 'notes.txt'\)"):
            create(tmp_path, resume=resume)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_errors_inside_mark_the_run_failed_and_resuming_clears_it(tmp_path):
    with pytest.raises(ReadError), create(tmp_path / "a"):
        raise ReadError("a.png", "found nothing.", "Do something.")
    run = RunFolder.open(tmp_path / "a")

    assert run.status() == "failed"
    assert (
        run.read_json("failed.json")["reason"] == "ReadError: a.png: found nothing. Do something."
    )
    with create(tmp_path / "a", resume=True) as again:
        assert again.status() == "running"
        assert len(again.record["resumed"]) == 1
    assert run.status() == "interrupted"
    assert (tmp_path / "a" / "environment-1.json").exists()
    assert "INFO resumed with medglean" in (tmp_path / "a" / "log.txt").read_text()


def test_text_of_foreign_errors_is_not_written(tmp_path):
    with pytest.raises(KeyError), create(tmp_path / "a"):
        raise KeyError("Mustermann, Erika")

    assert "Mustermann" not in (tmp_path / "a" / "failed.json").read_text()
    assert "Mustermann" not in (tmp_path / "a" / "log.txt").read_text()


@pytest.mark.parametrize("stop", [Interrupted("stopped"), KeyboardInterrupt()])
def test_a_stop_is_no_failure(tmp_path, stop):
    with pytest.raises(type(stop)), create(tmp_path / "a"):
        raise stop

    assert RunFolder.open(tmp_path / "a").status() == "interrupted"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": 2}, "seed: 1 then, 2 now"),
        ({"manifest_hash": "xyz"}, "manifest_hash: abc then, xyz now"),
        ({"split_hash": "q"}, "split_hash: None then, q now"),
        ({"asked": {"budget": 7}}, "budget: None then, 7 now"),
        ({"preset_toml": PRESET.replace("3", "4")}, "fit.epochs: 3 then, 4 now"),
        ({"preset_toml": PRESET + "x = 1\n"}, "fit.x: 'unset' then, 1 now"),
    ],
)
def test_other_work_cannot_go_on_in_the_same_folder(tmp_path, change, told):
    create(tmp_path / "a").close()

    with pytest.raises(RunFolderError, match=f"would be other work:\n  {told}"):
        create(tmp_path / "a", resume=True, **change)
    assert RunFolder.open(tmp_path / "a").preset_path.read_text() == PRESET


@pytest.mark.parametrize("named", ["fit.workers", "fit"])
def test_named_settings_and_tables_may_change_when_resuming(tmp_path, named):
    create(tmp_path / "a").close()
    changed = PRESET.replace("workers = 1", "workers = 2")

    create(tmp_path / "a", resume=True, preset_toml=changed, may_change=[named]).close()

    assert RunFolder.open(tmp_path / "a").preset_path.read_text() == changed


def test_resuming_nothing_starts(tmp_path):
    with create(tmp_path / "a", resume=True) as run:
        assert run.record["resumed"] == []


def test_a_second_opener_is_refused_with_the_holder(tmp_path):
    with create(tmp_path / "a"):
        with pytest.raises(RunFolderError, match=f"in use by process {os.getpid()} on "):
            create(tmp_path / "a", resume=True)
        with pytest.raises(RunFolderError, match=f"in use by process {os.getpid()} on "):
            RunFolder.open(tmp_path / "a", write=True)
        assert RunFolder.open(tmp_path / "a").status() == "running"
    with RunFolder.open(tmp_path / "a", write=True) as run:
        run.write("extra/notes.txt", "later")


def test_opened_for_reading_nothing_is_written(tmp_path):
    create(tmp_path / "a").close()

    with pytest.raises(RunFolderError, match="opened for reading"):
        RunFolder.open(tmp_path / "a").write("x", "y")


HOLD = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    from medglean.runs import rundir
    rundir.describe_environment = lambda command: {}
    run = rundir.RunFolder.create(
        Path(sys.argv[1]), preset_toml="name = 'x'", command=[], manifest_hash="m", seed=0
    )
    Path(sys.argv[2]).write_text("held")
    time.sleep(60)
    """
)


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_another_process_holds_the_folder_until_it_is_killed(tmp_path):
    folder, sign = tmp_path / "a", tmp_path / "sign"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(folder), str(sign)])
    same = {"preset_toml": "name = 'x'", "manifest_hash": "m", "seed": 0}
    try:
        limit = time.monotonic() + 60
        while not sign.exists():
            assert time.monotonic() < limit
            assert holder.poll() is None
            time.sleep(0.02)
        with pytest.raises(RunFolderError, match=f"in use by process {holder.pid} on "):
            create(folder, resume=True, **same)
        with pytest.raises(RunFolderError, match=rf"already, in use by process {holder.pid} on "):
            create(folder, **same)
        assert RunFolder.open(folder).status() == "running"
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()

    assert RunFolder.open(folder).status() == "interrupted"
    with create(folder, resume=True, **same) as run:
        assert run.status() == "running"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "expected run.json, found no such file"),
        ("{", "expected run.json, found damaged content"),
        ("{}", "expected run.json, found damaged content"),
        ('{"format": 99, "medglean": "9.9"}', "format 99, this medglean reads 1"),
    ],
)
def test_what_is_no_run_is_told(tmp_path, content, told):
    if content is not None:
        (tmp_path / "run.json").write_text(content)

    with pytest.raises(RunFolderError, match=told):
        RunFolder.open(tmp_path)


def test_half_a_run_is_told_and_can_be_taken_up(tmp_path):
    create(tmp_path / "a").close()
    (tmp_path / "a" / "preset.toml").unlink()

    with pytest.raises(RunFolderError, match=r"preset.toml is missing. Start it again"):
        RunFolder.open(tmp_path / "a")
    create(tmp_path / "a", resume=True).close()
    assert RunFolder.open(tmp_path / "a").preset_path.read_text() == PRESET


def test_a_missing_or_damaged_part_is_told(tmp_path):
    with create(tmp_path / "a") as run:
        with pytest.raises(RunFolderError, match=r"metrics.json: expected a JSON file, found no"):
            run.read_json("metrics.json")
        (tmp_path / "a" / "metrics.json").write_text("{")
        with pytest.raises(RunFolderError, match="found damaged content"):
            run.read_json("metrics.json")


def test_a_parent_that_may_not_be_written_is_told(tmp_path, monkeypatch):
    parent = tmp_path / "read only"
    parent.mkdir()
    parent.chmod(0o500)
    if os.access(parent, os.W_OK):  # root may write anywhere: let the system call say no
        mkdir = Path.mkdir

        def refuse(self, *arguments, **options):
            if self.parent == parent:
                raise PermissionError(errno.EACCES, "Permission denied", str(self))
            mkdir(self, *arguments, **options)

        monkeypatch.setattr(Path, "mkdir", refuse)

    with pytest.raises(RunFolderError, match=r"read only.a: not allowed to write here .* --out"):
        create(parent / "a")
    parent.chmod(0o700)


def test_a_parent_that_is_a_file_is_told(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(RunFolderError, match=r"file.a: cannot be written \(Not a directory\)"):
        create(tmp_path / "file" / "a")


def test_a_full_disk_is_told_and_loses_nothing(tmp_path, monkeypatch):
    run = create(tmp_path / "a")
    run.write_metrics({"auroc": 0.5})
    fsync = os.fsync

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("medglean.files.os.fsync", full)
    with pytest.raises(
        RunFolderError, match=r"a: the disk is full \([\d,]+ MB free\)\. Free space and go on"
    ):
        run.write_metrics({"auroc": 0.6})
    monkeypatch.setattr("medglean.files.os.fsync", fsync)

    assert run.read_json("metrics.json") == {"auroc": 0.5}
    assert not list((tmp_path / "a").glob("*.tmp")) + list((tmp_path / "a").glob(".*.tmp"))
    assert run.status() == "running"
    run.close()


def test_a_disk_full_from_the_start_gives_the_lock_back(tmp_path, monkeypatch):
    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(rundir, "write_bytes", full)
        with pytest.raises(RunFolderError, match="the disk is full"):
            create(tmp_path / "a")
    create(tmp_path / "a").close()


def test_a_log_that_cannot_be_written_is_told_once_and_stops_nothing(tmp_path, capsys):
    handler = disk.log_into(tmp_path / "log.txt")
    try:
        stream, handler.stream = handler.stream, Broken()
        logging.getLogger("medglean").info("one")
        logging.getLogger("medglean").info("two")
        handler.stream = stream
    finally:
        logging.getLogger("medglean").removeHandler(handler)
        handler.close()

    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert told[0].endswith("log.txt: log lines are lost: [Errno 28] No space left on device")


class Broken:
    def write(self, text):
        raise OSError(errno.ENOSPC, "No space left on device")

    def flush(self):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_the_record_is_json_that_others_can_read(tmp_path):
    create(tmp_path / "a").close()
    record = json.loads((tmp_path / "a" / "run.json").read_text())

    assert record["format"] == 1
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", record["created"])
