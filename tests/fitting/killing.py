"""The other end of ``kill_server.py``: kill a fit, take it up again, compare."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from medglean.fitting import checkpoint
from medglean.fitting.loggers import CsvLog

SERVER = Path(__file__).with_name("kill_server.py")
KILLED = -9


@dataclass(frozen=True)
class Answer:
    """How a fit ended."""

    code: int
    stderr: str


class Killer:
    """Runs fits in processes of their own and kills them at will."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", str(SERVER), str(folder / "warm")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def fresh(self) -> Path:
        self.count += 1
        return self.folder / f"run-{self.count}"

    def run(self, folder: Path, **request: object) -> Answer:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"folder": str(folder), **request}) + "\n")
        self.process.stdin.flush()
        return Answer(**json.loads(self.process.stdout.readline()))

    def close(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=20)  # an orphan of a killed fit would hold the pipe open


def difference(folder: Path, whole: Path) -> str | None:
    """Say how what a resumed run left differs from what an uninterrupted one left."""
    found = checkpoint.latest(folder / "checkpoints", set_aside=False)
    right = checkpoint.latest(whole / "checkpoints", set_aside=False)
    if found is None or right is None:
        return "no checkpoint"
    problem = _tensors_differ(found, right)
    if problem is not None:
        return problem
    best = checkpoint.read(folder / "best.safetensors")
    right_best = checkpoint.read(whole / "best.safetensors")
    if best.facts != right_best.facts:
        return f"best.safetensors says {best.facts}"
    problem = _tensors_differ(best, right_best)
    if problem is not None:
        return f"best: {problem}"
    if CsvLog(folder / "log.csv").rows() != CsvLog(whole / "log.csv").rows():
        return "log.csv differs"
    return None


def _tensors_differ(found: checkpoint.Checkpoint, right: checkpoint.Checkpoint) -> str | None:
    if found.path.name != right.path.name:
        return f"{found.path.name}, not {right.path.name}"
    if found.tensors.keys() != right.tensors.keys():
        return "other keys"
    for key, value in right.tensors.items():
        if found.tensors[key].numpy().tobytes() != value.numpy().tobytes():
            return f"{key} differs"
    return None


def kill_once_and_resume(killer: Killer, whole: Path, **request: object) -> str | None:
    """Kill a fit as asked, take it up again, and say what went wrong, if anything."""
    folder = killer.fresh()
    changes = request.get("changes", {})
    fault = request.get("fault")
    first = killer.run(folder, **request)
    if first.code != KILLED:
        return f"was not killed: exit {first.code} {first.stderr}"
    again = killer.run(folder, changes=changes, fault=fault)
    if again.code != 0:
        return f"not resumed: exit {again.code} {again.stderr}"
    return difference(folder, whole)
