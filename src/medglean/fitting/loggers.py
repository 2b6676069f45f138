"""Where the numbers of a fit are written: ``log.csv`` always, TensorBoard and MLflow when asked."""

from __future__ import annotations

import csv
import io
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from medglean.errors import UsageError
from medglean.files import write_text

Row = dict[str, int | float]
"""One row of the log. ``step`` (steps done) and ``epoch`` (from 1) are always there; losses are
``train.NAME`` (means since the row before), validation ``val.NAME``, learning rates ``lr.NAME``."""


class Logger(Protocol):
    """A further place for the numbers."""

    def log(self, row: Mapping[str, float], *, step: int) -> None:
        """Take one row."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


class CsvLog:
    """A table that grows by whole lines; columns are added as they turn up.

    Parameters
    ----------
    path
        The file, made when the first row comes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._columns: list[str] | None = None

    def rows(self) -> list[Row]:
        """Return all whole rows; empty cells are left out, a line cut short is not a row."""
        if not self.path.exists():
            return []
        text = self.path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        return [_row(record) for record in csv.DictReader(io.StringIO(whole)) if record["step"]]

    def cut(self, step: int) -> None:
        """Drop the rows of steps after ``step``: a resumed run makes them again."""
        kept = [row for row in self.rows() if row["step"] <= step]
        self._columns = None
        if kept or self.path.exists():
            self._rewrite(kept)

    def append(self, row: Row) -> None:
        """Add a row; where it has new columns the file is rewritten with them."""
        if self._columns is None or not set(row) <= set(self._columns):
            self._rewrite([*self.rows(), row])
            return
        with self.path.open("a", encoding="utf-8", newline="") as file:
            file.write(_line([row.get(name) for name in self._columns]))

    def _rewrite(self, rows: Sequence[Row]) -> None:
        columns = list(dict.fromkeys(name for row in rows for name in row)) or ["step", "epoch"]
        lines = [_line(columns), *(_line([row.get(name) for name in columns]) for row in rows)]
        write_text(self.path, "".join(lines))
        self._columns = columns if rows else None


def _row(record: Mapping[str, str | None]) -> Row:
    row: Row = {}
    for name, text in record.items():
        if text:
            row[name] = int(text) if name in {"step", "epoch"} else float(text)
    return row


def _line(cells: Sequence[object]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(
        ["" if cell is None else repr(cell) if isinstance(cell, float) else cell for cell in cells]
    )
    return buffer.getvalue()


class TensorBoardLog:
    """Scalars for TensorBoard.

    Parameters
    ----------
    folder
        Where the event files go.
    first_step
        Rows of later steps that an earlier, killed process wrote are hidden.
    """

    def __init__(self, folder: Path, *, first_step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise _missing("tensorboard") from error
        self._writer: Any = SummaryWriter(str(folder), purge_step=first_step + 1)

    def log(self, row: Mapping[str, float], *, step: int) -> None:
        """Take one row."""
        for name, value in row.items():
            if name != "step":
                self._writer.add_scalar(name.replace(".", "/", 1), value, step)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


class MlflowLog:
    """Metrics for MLflow, in the store that ``MLFLOW_TRACKING_URI`` names or beside the run.

    Parameters
    ----------
    folder
        Keeps the id of the MLflow run, so that a resumed fit goes on in the same one, and the
        store itself where no other is named.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import mlflow
            from mlflow.entities import Metric
        except ImportError as error:
            raise _missing("mlflow") from error
        folder.mkdir(parents=True, exist_ok=True)
        self._metric = Metric
        self._client = mlflow.MlflowClient(tracking_uri=_mlflow_store(folder))
        known = folder / "run-id.txt"
        if known.exists():
            self._run = known.read_text(encoding="utf-8").strip()
        else:
            experiment = self._client.get_experiment_by_name("medglean")
            place = (
                experiment.experiment_id
                if experiment
                else self._client.create_experiment("medglean")
            )
            self._run = self._client.create_run(place, run_name=folder.parent.name).info.run_id
            write_text(known, self._run)

    def log(self, row: Mapping[str, float], *, step: int) -> None:
        """Take one row; what MLflow cannot store, such as NaN, is left out."""
        now = int(time.time() * 1000)
        metrics = [
            self._metric(name, float(value), now, step)
            for name, value in row.items()
            if name != "step" and math.isfinite(value)
        ]
        self._client.log_batch(self._run, metrics=metrics)

    def close(self) -> None:
        """Mark the MLflow run as ended."""
        self._client.set_terminated(self._run)


def _mlflow_store(folder: Path) -> str:
    named = os.environ.get("MLFLOW_TRACKING_URI")
    if named:
        return named
    # MLflow asks for a database by default, whose driver its small package does not bring
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    return (folder / "store").absolute().as_uri()


def make_loggers(names: Sequence[str], folder: Path, *, first_step: int) -> list[Logger]:
    """Return the loggers of these names, writing under ``folder``.

    Raises
    ------
    UsageError
        If the package of one is not installed, or there is none of that name.
    """
    made: list[Logger] = []
    for name in names:
        if name == "tensorboard":
            made.append(TensorBoardLog(folder / "tensorboard", first_step=first_step))
        elif name == "mlflow":
            made.append(MlflowLog(folder / "mlflow"))
        else:
            raise UsageError(f"no logger {name!r}; there are 'tensorboard' and 'mlflow'.")
    return made


def _missing(extra: str) -> UsageError:
    return UsageError(
        f"the {extra} log needs a package that is not installed. Install it with "
        f"`pip install 'medglean[{extra}]'`, or leave {extra!r} out of fit.loggers."
    )
