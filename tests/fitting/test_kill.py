"""SIGKILL at random moments and at every file operation; the same bits come out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from .killing import KILLED, Killer, difference, kill_once_and_resume

SHORT = {"epochs": 2, "max_steps": 5}


@pytest.fixture(scope="module")
def killer(tmp_path_factory) -> Iterator[Killer]:
    killer = Killer(tmp_path_factory.mktemp("killed"))
    yield killer
    killer.close()


@pytest.fixture(scope="module")
def moments(killer) -> tuple[Path, list[str]]:
    """An uninterrupted short run, and all moments around its file operations."""
    whole, trace = killer.fresh(), killer.folder / "trace.txt"
    assert killer.run(whole, changes=SHORT, trace=str(trace)).code == 0
    return whole, trace.read_text().splitlines()


def test_killed_at_every_file_operation(killer, moments):
    whole, names = moments
    # "after" one operation and "before" the next are the same for the files; bench/soak_kill.py
    # kills at both
    targets = [at for at, name in enumerate(names) if not name.startswith("after")]
    problems = {
        f"{at}: {names[at]}": problem
        for at in [*targets, len(names) - 1]
        if (problem := kill_once_and_resume(killer, whole, changes=SHORT, kill_at=at))
    }

    assert len(targets) > 40
    assert problems == {}


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("in place", "none of 1 checkpoints is whole"),
        ("forgets the optimiser", "differs"),
        ("forgets the average", "differs"),
    ],
)
def test_a_bad_writer_is_caught_by_the_same_trial(killer, fault, told):
    whole, trace = killer.fresh(), killer.folder / f"{fault}.txt"
    assert killer.run(whole, changes=SHORT, fault=fault, trace=str(trace)).code == 0
    names = trace.read_text().splitlines()
    in_writes = [at for at, name in enumerate(names) if name == "middle of write"]

    problems = [
        str(kill_once_and_resume(killer, whole, changes=SHORT, kill_at=at, fault=fault))
        for at in in_writes[2:5]
    ]

    assert any(told in problem for problem in problems), problems
    assert not any("was not killed" in problem for problem in problems)


def test_data_are_durable_before_the_name_is_taken(moments):
    _, names = moments
    operations = [name.split()[1] for name in names if name.startswith("before")]
    writes = [at for at, operation in enumerate(operations) if operation == "write"]

    assert len(writes) > 5
    for at in writes:
        assert operations[at - 1] == "open"
        # the file is synced, renamed, and then the folder is opened and synced
        assert operations[at + 1 : at + 5] == ["fsync", "replace", "open", "fsync"]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_killed_at_random_moments_again_and_again(killer, workers):
    changes = {"workers": workers}
    whole, folder = killer.fresh(), killer.fresh()
    assert killer.run(whole, changes={}).code == 0
    generator, killed = np.random.default_rng(workers), 0

    # on a slow machine most kills come before the first step, on a fast one after the last: go on
    # until some have come between, a folder that is finished replaced by a fresh one
    for _ in range(60):
        wait = float(generator.uniform(0.0, 0.35))
        answer = killer.run(folder, signals=[[wait, "SIGKILL"]], slow_s=0.01, changes=changes)
        assert answer.code in {0, KILLED}, answer.stderr
        killed += answer.code == KILLED
        if answer.code == 0:
            assert difference(folder, whole) is None
            if killed >= 3:
                return
            folder = killer.fresh()

    assert killed >= 3
    assert killer.run(folder, changes=changes).code == 0
    assert difference(folder, whole) is None


@pytest.mark.parametrize(("name", "workers"), [("SIGTERM", 0), ("SIGINT", 0), ("SIGTERM", 2)])
def test_a_request_to_stop_saves_the_step_and_can_be_resumed(killer, name, workers):
    whole, folder, changes = killer.fresh(), killer.fresh(), {"workers": workers}
    assert killer.run(whole).code == 0

    answer = killer.run(folder, signals=[[0.25, name]], slow_s=0.05, changes=changes)
    assert answer.code == 130, answer.stderr
    told = re.search(rf"stopped by {name} after step (\d+) of 9; (\S+) is saved", answer.stderr)
    assert told is not None
    assert Path(told[2]).name == f"last-{int(told[1]):010d}.safetensors"
    assert Path(told[2]).exists()

    assert killer.run(folder, changes=changes).code == 0
    assert difference(folder, whole) is None


def test_a_second_ctrl_c_stops_at_once(killer):
    folder = killer.fresh()

    answer = killer.run(folder, signals=[[0.3, "SIGINT"], [0.2, "SIGINT"]], slow_s=5.0)

    assert answer.code == 1
    assert "KeyboardInterrupt" in answer.stderr
    assert "in call\n    time.sleep(slow)" in answer.stderr  # in the middle of the step
