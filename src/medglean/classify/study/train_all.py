"""Train every cell of a study: one after another, or several at once on machines and clusters."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from medglean.classify.study import jobs
from medglean.classify.study.cells import trainings_of
from medglean.classify.study.plan import Plan
from medglean.classify.study.rows import Cell
from medglean.classify.study.train import (
    Outcome,
    is_being_trained,
    outcome_of,
    read_failure,
    train_cell,
)
from medglean.data.cache import Progress
from medglean.errors import Interrupted, MedgleanError

log = logging.getLogger("medglean")

PATIENCE_S = 120.0
"""How long jobs that were told to stop are waited for."""


def train_all(plan: Plan, *, progress: Progress | None = None) -> dict[str, Outcome]:
    """Train the cells that are not done, and return what came of each, by its name.

    A cell that another process trains, such as a job whose study was killed, is waited for.

    Raises
    ------
    MedgleanError
        If a training failed: at once where cells are trained here; once all others are done
        where they are jobs.
    Interrupted
        After Ctrl-C or SIGTERM, resumable.
    """
    cells = trainings_of(plan.cells)
    missing = [cell for cell in cells if outcome_of(plan, cell) is None]
    log.info("%d of %d trainings are to do", len(missing), len(cells))
    if plan.preset.study.executor == "here":
        for number, cell in enumerate(missing, start=1):
            _wait_for(plan, cell)
            log.info("training %d of %d: %s", number, len(missing), cell.name)
            train_cell(plan, cell, progress=progress)
    elif missing:
        _Queue(plan, missing).run()
    found = {}
    for cell in cells:
        outcome = outcome_of(plan, cell)
        if outcome is None:
            raise MedgleanError(
                f"{plan.folder_of(cell)}: its training ended without a result. Look at its log.txt "
                "and start the study again with --resume."
            )
        found[cell.name] = outcome
    return found


def _wait_for(plan: Plan, cell: Cell) -> None:
    """Wait while another process trains a cell."""
    told = False
    while is_being_trained(plan, cell):
        if not told:
            log.info("waiting for %s, which another process trains", cell.name)
            told = True
        time.sleep(1.0)


class _Queue:
    """Cells that wait for a place, and the jobs that have one."""

    def __init__(self, plan: Plan, cells: Sequence[Cell]) -> None:
        self.plan, self.waiting = plan, list(cells)
        self.start = jobs.starter(plan)
        self.places = list(range(plan.preset.study.jobs))
        self.running: dict[str, tuple[Cell, jobs.Job, int]] = {}
        self.failed: dict[str, MedgleanError] = {}

    def run(self) -> None:
        """Start, watch and end jobs until no cell is left."""
        try:
            while self.waiting or self.running:
                self._end_done()
                self._start_waiting()
                time.sleep(jobs.LOOK_EVERY_S[self.plan.preset.study.executor])
        except BaseException as error:
            self._stop()
            if isinstance(error, KeyboardInterrupt):
                raise Interrupted(
                    f"{self.plan.folder}: stopped, with checkpoints of the trainings that ran. Go "
                    "on with --resume."
                ) from error
            raise
        if self.failed:
            name, first = next(iter(self.failed.items()))
            raise type(first)(
                f"{len(self.failed)} training(s) failed: {', '.join(self.failed)}; the others are "
                f"done. {name}: {first}"
            ) from first

    def _start_waiting(self) -> None:
        for cell in list(self.waiting):
            if not self.places:
                return
            if is_being_trained(self.plan, cell):
                continue
            self.waiting.remove(cell)
            if outcome_of(self.plan, cell) is not None:
                continue
            place = self.places.pop(0)
            job = self.start(cell.name, place)
            self.running[cell.name] = cell, job, place
            log.info("job %s trains %s, %d wait", job.job_id, cell.name, len(self.waiting))

    def _end_done(self) -> None:
        for name, (cell, job, place) in list(self.running.items()):
            if not job.done():
                continue
            outcome, failure = self._left_by(cell)
            del self.running[name]
            self.places.append(place)
            if outcome is not None:
                log.info("%s: %s", name, outcome.state)
                continue
            self.failed[name] = failure or MedgleanError(
                f"job {job.job_id} ended without a result; its output is in {job.paths.stdout}. "
                "Start the study again with --resume."
            )
            log.error("%s failed: %s", name, self.failed[name])

    def _left_by(self, cell: Cell) -> tuple[Outcome | None, MedgleanError | None]:
        """Return what an ended job left; files of another machine may take a moment to come."""
        until = time.monotonic() + jobs.FILES_COME_S[self.plan.preset.study.executor]
        while True:
            outcome, failure = outcome_of(self.plan, cell), read_failure(self.plan, cell)
            if outcome is not None or failure is not None or time.monotonic() >= until:
                return outcome, failure
            time.sleep(1.0)

    def _stop(self) -> None:
        """Tell all jobs to stop, and wait until they have written their checkpoints."""
        for _, job, _ in self.running.values():
            jobs.stop(job)
        until = time.monotonic() + PATIENCE_S
        while self.running and time.monotonic() < until:
            for name, (_, job, _) in list(self.running.items()):
                if job.done():
                    del self.running[name]
            time.sleep(0.1)
