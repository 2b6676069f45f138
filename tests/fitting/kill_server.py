"""A warmed-up process that forks one fit per request and kills it where it is told to.

Run as a script; it reads a JSON request per line and answers with a JSON line. Starting torch
takes seconds, a fork none, so hundreds of real SIGKILLs fit into a test.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

import tiny
import torch

from medglean.errors import MedgleanError
from medglean.fitting import checkpoint, state
from medglean.fitting.record import Record


class KillPoints:
    """Counts the moments before, inside and after each file operation of the record.

    At moment number ``target`` the process kills itself. Only operations made inside ``Record``'s
    writing methods count.
    """

    def __init__(self, target: int | None, trace: Path | None) -> None:
        self.target, self.trace = target, trace
        self.passed = 0
        self.inside = 0
        for name in ("open", "fsync", "replace", "rename", "unlink"):
            setattr(os, name, self.counted(name, getattr(os, name)))
        fdopen = os.fdopen
        os.fdopen = lambda *args, **options: SplitFile(fdopen(*args, **options), self)
        for name in ("save", "save_best", "row"):
            setattr(Record, name, self.watched(getattr(Record, name)))

    def watched(self, method):
        def call(*args, **options):
            self.inside += 1
            try:
                return method(*args, **options)
            finally:
                self.inside -= 1

        return call

    def counted(self, name, operation):
        def call(*args, **options):
            self.moment(f"before {name} {args[0]}")
            result = operation(*args, **options)
            self.moment(f"after {name} {args[0]}")
            return result

        return call

    def moment(self, what: str) -> None:
        if not self.inside:
            return
        if self.target == self.passed:
            os.kill(os.getpid(), signal.SIGKILL)
        self.passed += 1
        if self.trace is not None:
            with self.trace.open("a") as file:
                file.write(what + "\n")


class SplitFile:
    """A file whose writes can be cut in the middle."""

    def __init__(self, file, points: KillPoints) -> None:
        self.file, self.points = file, points

    def write(self, data) -> None:
        half = len(data) // 2
        self.points.moment("before write")
        self.file.write(data[:half])
        self.file.flush()
        self.points.moment("middle of write")
        self.file.write(data[half:])
        self.points.moment("after write")

    def __enter__(self):
        self.file.__enter__()
        return self

    def __exit__(self, *problem):
        return self.file.__exit__(*problem)

    def __getattr__(self, name):
        return getattr(self.file, name)


class InPlace:
    """The writer that must be caught: it opens the one file that counts and writes over it."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        self.file = os.fdopen(descriptor, "wb")

    def __enter__(self):
        return self.file.__enter__()

    def __exit__(self, *problem):
        return self.file.__exit__(*problem)


def spoil(fault: str | None) -> None:
    if fault == "in place":
        checkpoint.atomic_writer = InPlace
        checkpoint.path_of = lambda folder, _: folder / "last-0000000000.safetensors"
    elif fault == "forgets the optimiser":
        state._restore_optimizer = lambda *_: None
    elif fault == "forgets the average":
        state.Ema.load = lambda *_args, **_options: None
    elif fault is not None:
        raise ValueError(fault)


def fit_in_child(request: dict) -> int:
    folder = Path(request["folder"])
    errors = os.open(folder.with_suffix(".txt"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(errors, 2)
    spoil(request.get("fault"))
    trace = request.get("trace")
    KillPoints(request.get("kill_at"), None if trace is None else Path(trace))
    slow = request.get("slow_s", 0.0)

    def slowed(networks):
        step = tiny.tiny_step(networks)

        def call(batch, generator, update):
            time.sleep(slow)
            return step(batch, generator, update)

        return call

    try:
        tiny.tiny_fit(folder, resume=True, step=slowed, **request.get("changes", {}))
    except MedgleanError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}")
        return error.exit_code
    except BaseException:  # noqa: BLE001 - the child must not return into the server
        traceback.print_exc()
        return 1
    return 0


def serve() -> None:
    torch.set_num_threads(1)
    warm = Path(sys.argv[1])
    tiny.tiny_fit(warm)
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)
            code = fit_in_child(request)
            sys.stderr.flush()
            os._exit(code)
        with contextlib.suppress(OSError):  # whichever of the two comes first
            os.setpgid(child, child)
        if "signals" in request:
            for wait_s, name in request["signals"]:
                time.sleep(wait_s)
                # a terminal and Slurm signal the workers too; a kill for want of memory does not
                send = os.kill if name == "SIGKILL" else os.killpg
                send(child, getattr(signal, name))
        _, status = os.waitpid(child, 0)
        problem = Path(request["folder"]).with_suffix(".txt")
        answer = {
            "code": os.waitstatus_to_exitcode(status),
            "stderr": problem.read_text() if problem.exists() else "",
        }
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve()
