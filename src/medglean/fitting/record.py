"""What a fit leaves in its folder: the log, checkpoints, the best weights."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning_fabric import Fabric

from medglean.fitting import checkpoint
from medglean.fitting.loggers import CsvLog, Logger, Row, make_loggers
from medglean.fitting.settings import FitSettings
from medglean.fitting.state import FitState, Identity, Trained, check_same, facts, state_of


@dataclass(frozen=True)
class FitResult:
    """What came out of a fit."""

    steps: int
    """Optimiser steps done, over all sittings."""
    epochs: int
    """Whole epochs done."""
    best_step: int | None
    """After how many steps the best validation was made; ``None`` without validation."""
    best_value: float | None
    """What ``settings.monitor`` was then."""
    history: list[Row]
    """The rows of ``log.csv``."""
    best: Path | None
    """Weights of the best validation, for :func:`medglean.fitting.load_weights`."""
    last: Path
    """The newest checkpoint."""
    seconds: float
    """Time in the loop, over all sittings."""
    stopped_early: bool
    """Whether patience ran out before the last step."""
    resumed_from: tuple[int, ...]
    """Steps at which the fit was taken up again after an interruption."""
    warnings: tuple[str, ...]
    """Sentences for the report, such as a damaged checkpoint that was passed over."""


class Record:
    """Writes the log, checkpoints and best weights; only the first device writes.

    Parameters
    ----------
    folder
        Of the run.
    fabric
        Tells which device this is, and holds the loss scale of half precision.
    trained
        What checkpoints keep.
    settings
        Kept in each checkpoint.
    identity
        What a resumed run must share.
    steps_per_epoch, total_steps
        The length of the fit.
    """

    def __init__(
        self,
        folder: Path,
        *,
        fabric: Fabric,
        trained: Trained,
        settings: FitSettings,
        identity: Identity,
        steps_per_epoch: int,
        total_steps: int,
    ) -> None:
        self.folder, self.checkpoints = folder, folder / "checkpoints"
        self.fabric, self.trained, self.settings = fabric, trained, settings
        self.identity = identity
        self.steps_per_epoch, self.total_steps = steps_per_epoch, total_steps
        self.writes = fabric.global_rank == 0
        self.state = FitState()
        self.warnings: list[str] = []
        self.last: Path | None = None
        self._log = CsvLog(folder / "log.csv")
        self._loggers: list[Logger] = []
        self._saved_at = self._counted_to = time.monotonic()

    def take_up(self) -> None:
        """Go on from the newest checkpoint that is whole, if there is any."""
        found = checkpoint.latest(self.checkpoints, set_aside=self.writes)
        if found is None:
            return
        check_same(found, self.identity, total_steps=self.total_steps)
        self.trained.restore(found)
        if found.facts["scaler"]:
            self.fabric.strategy.precision.load_state_dict(found.facts["scaler"])
        self.state = state_of(found)
        self.last = found.path
        self.warnings.extend(found.warnings)
        if self.state.step < self.total_steps:
            self.state.resumed_from.append(self.state.step)
        self._warn_if_longer(found.facts["total_steps"])
        if self.state.best_step == self.state.step:
            self.save_best()  # a kill may have come between the checkpoint and this file

    def _warn_if_longer(self, before: int) -> None:
        name = self.settings.schedule.name
        if before != self.total_steps and name != "constant":
            self.warnings.append(
                f"the fit was lengthened from {before} to {self.total_steps} steps at step "
                f"{self.state.step}: from there on the learning rate follows the longer {name} "
                "schedule."
            )

    def open(self, loggers: Sequence[Logger]) -> None:
        """Cut the log to where the fit stands, and open the further ones."""
        if not self.writes:
            return
        self._log.cut(self.state.step)
        names = self.settings.loggers
        self._loggers = [*make_loggers(names, self.folder, first_step=self.state.step), *loggers]

    def close(self) -> None:
        """Close the further logs."""
        for logger in self._loggers:
            logger.close()

    def row(self, epoch: int, rates: Mapping[str, float], values: Mapping[str, float]) -> None:
        """Write a row to every log."""
        if not self.writes:
            return
        named = {f"lr.{name}": rate for name, rate in rates.items()}
        row: Row = {"step": self.state.step, "epoch": epoch + 1, **named, **values}
        self._log.append(row)
        for logger in self._loggers:
            logger.log(row, step=self.state.step)

    def clock_rang(self) -> bool:
        """Say whether the last checkpoint is older than the settings allow."""
        minutes = self.settings.checkpoint_every_minutes
        waited_s = time.monotonic() - self._saved_at
        return self.writes and minutes is not None and waited_s > 60.0 * minutes

    def is_saved(self) -> bool:
        """Say whether there is a checkpoint of the present step."""
        return self.last is not None and self.last.name == self._path().name

    def save(self) -> None:
        """Write a checkpoint of where the fit stands."""
        now = time.monotonic()
        self.state.seconds += now - self._counted_to
        self._counted_to = self._saved_at = now
        if self.writes:
            everything = facts(
                self.state,
                self.trained,
                self.settings,
                self.identity,
                steps_per_epoch=self.steps_per_epoch,
                total_steps=self.total_steps,
                scaler=self.fabric.strategy.precision.state_dict(),
            )
            checkpoint.save(self.checkpoints, self.trained.tensors(), everything)
        self.last = self._path()

    def save_best(self) -> None:
        """Write the present weights, averaged where there is an average, as the best."""
        if not self.writes:
            return
        about = {
            "step": self.state.best_step,
            "monitor": self.settings.monitor,
            "value": self.state.best_value,
            "averaged": bool(self.trained.emas),
            "identity": self.identity,
        }
        checkpoint.write(self.folder / "best.safetensors", self.trained.weights(), about)

    def _path(self) -> Path:
        return checkpoint.path_of(self.checkpoints, self.state.step)

    def result(self, *, stopped_early: bool) -> FitResult:
        """Return what came out."""
        state = self.state
        return FitResult(
            steps=state.step,
            epochs=state.step // self.steps_per_epoch,
            best_step=state.best_step,
            best_value=state.best_value,
            history=self._log.rows(),
            best=None if state.best_step is None else self.folder / "best.safetensors",
            last=self._path(),
            seconds=state.seconds,
            stopped_early=stopped_early,
            resumed_from=tuple(state.resumed_from),
            warnings=tuple(self.warnings),
        )
