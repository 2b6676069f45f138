"""Train one cell of a study and write what came of it, in whatever process."""

from __future__ import annotations

import json
import logging
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from medglean.classify import task
from medglean.classify.study.cells import training_key
from medglean.classify.study.plan import CELLS, Plan
from medglean.classify.study.rows import Cell
from medglean.data.cache import Progress
from medglean.errors import DataError, Interrupted, MedgleanError, NonFiniteLossError, UsageError
from medglean.files import write_json
from medglean.fitting import checkpoint
from medglean.runs.lock import is_locked

log = logging.getLogger("medglean")

SEEDS = "seeds"
"""Folder in a run of the trainings of several seeds."""
_WHERE = re.compile(r"(step \d+ \(epoch \d+, batch \d+\)): (.+?)\. Images", re.DOTALL)
_OF_STATUS: dict[int, type[MedgleanError]] = {
    kind.exit_code: kind for kind in (UsageError, DataError, Interrupted)
}


@dataclass(frozen=True)
class Outcome:
    """What came of a training.

    Attributes
    ----------
    state
        ``diverged``: it met NaN or infinity, and there are no weights to score.
    key
        Hash of all settings that decide what was computed.
    epochs
        Passes over the training images; of several seeds the first's.
    best_step
        Step whose weights were kept; None where they are the last.
    seconds
        In the training loop, over all sittings and seeds.
    note
        Why it diverged.
    """

    state: Literal["trained", "diverged"]
    key: str
    epochs: int
    best_step: int | None
    seconds: float
    note: str = ""


def outcome_of(plan: Plan, cell: Cell) -> Outcome | None:
    """Return what came of a cell; None where it is to be trained, or was with other settings."""
    try:
        stored = Outcome(**json.loads(_file(plan, cell).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return stored if stored.key == training_key(cell) else None


def is_being_trained(plan: Plan, cell: Cell) -> bool:
    """Say whether some process trains a cell at this moment."""
    folder = plan.folder_of(cell)
    return folder.is_dir() and is_locked(folder)


def train_cell(plan: Plan, cell: Cell, *, progress: Progress | None = None) -> Outcome:
    """Train a cell, or go on with it; one that is done is left as it is.

    Parameters
    ----------
    plan
        The study.
    cell
        One of its cells.
    progress
        Called as ``progress(done, total)`` while images are decoded.

    Raises
    ------
    RunFolderError
        If another process trains it, or its folder holds a training with other settings.
    Interrupted
        After Ctrl-C or SIGTERM, resumable.
    """
    known = outcome_of(plan, cell)
    if known is not None:
        return known
    folder = plan.folder_of(cell)
    _failure(plan, cell).unlink(missing_ok=True)
    try:
        task.fit(
            plan.manifest_of(cell),
            cell.preset,
            out=folder,
            command=plan.command,
            resume=True,
            cache=plan.cache,
            workers=plan.workers,
            progress=progress,
        )
    except NonFiniteLossError as error:
        note = _why(str(error))
        log.warning("cell %s diverged: %s", cell.name, note)
        outcome = _outcome(cell, folder, note=note)
    else:
        outcome = _outcome(cell, folder)
    write_json(_file(plan, cell), asdict(outcome))
    if not plan.preset.study.keep_checkpoints:
        for place in training_folders(cell, folder):
            shutil.rmtree(place / "checkpoints", ignore_errors=True)
            (place / "best.safetensors").unlink(missing_ok=True)
    return outcome


def write_failure(plan: Plan, cell: Cell, error: MedgleanError) -> None:
    """Leave word for the process that waits for a job why there is no outcome."""
    _failure(plan, cell).parent.mkdir(parents=True, exist_ok=True)
    write_json(_failure(plan, cell), {"status": error.exit_code, "text": str(error)})


def read_failure(plan: Plan, cell: Cell) -> MedgleanError | None:
    """Return why a job ended without an outcome, where it left word."""
    try:
        stored = json.loads(_failure(plan, cell).read_text(encoding="utf-8"))
        return _OF_STATUS.get(stored["status"], MedgleanError)(stored["text"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def training_folders(cell: Cell, folder: Path) -> list[Path]:
    """Return where the logs and checkpoints of a cell's run lie, one folder for each seed."""
    if cell.preset.seeds == 1:
        return [folder]
    first = cell.preset.fit.seed
    return [folder / SEEDS / str(seed) for seed in range(first, first + cell.preset.seeds)]


def _file(plan: Plan, cell: Cell) -> Path:
    return plan.folder / CELLS / f"{cell.name}.json"


def _failure(plan: Plan, cell: Cell) -> Path:
    return plan.folder / CELLS / f"{cell.name}.failed.json"


def _outcome(cell: Cell, folder: Path, *, note: str = "") -> Outcome:
    """Read from the last checkpoints how long a training was, and which step was kept."""
    found = [checkpoint.latest(one / "checkpoints") for one in training_folders(cell, folder)]
    facts = [one.facts for one in found if one is not None]
    kept_best = facts and cell.preset.keep == "best" and not note
    return Outcome(
        state="diverged" if note else "trained",
        key=training_key(cell),
        epochs=int(facts[0]["epoch"]) if facts else 0,
        best_step=facts[0]["state"]["best_step"] if kept_best else None,
        seconds=float(sum(one["state"]["seconds"] for one in facts)),
        note=note,
    )


def _why(text: str) -> str:
    """Return what was not finite and where; the ids of the images are left to the run's log."""
    found = _WHERE.search(text)
    return f"{found[2]} at {found[1]}" if found else text.partition(". ")[0]
