"""Finished runs beside one another."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medglean.runs.environment import describe_environment
from medglean.runs.report import Metric, Report, Table
from medglean.runs.rundir import RunFolder


def compare_runs(paths: Sequence[Path], *, out: Path | None = None) -> list[str]:
    """Say what runs came to, in a line each.

    Parameters
    ----------
    paths
        Run folders.
    out
        Folder to make for a page with all their metrics; by default nothing is written.

    Raises
    ------
    RunFolderError
        If a folder is not a run, or ``out`` is taken.
    """
    lines: list[str] = []
    rows: list[list[object]] = []
    for path in paths:
        run = RunFolder.open(path)
        if not run.is_done:
            lines.append(f"{path}: {run.status()}")
            continue
        stored: dict[str, Any] = run.read_json("report.json")
        lines.append(f"{path}: {stored['summary']}")
        lines.append(f"    {path / 'report.html'}")
        for entry in stored["metrics"]:
            metric = Metric(**{**entry, "value": _number(entry["value"])})
            rows.append(
                [
                    str(path),
                    metric.name,
                    metric.value,
                    metric.shown_interval,
                    metric.n,
                    metric.groups,
                ]
            )
    if out is not None:
        lines.append(f"Comparison: {_write(rows, len(paths), out)}")
    return lines


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _write(rows: Sequence[Sequence[object]], count: int, out: Path) -> Path:
    columns = ["Run", "Measure", "Value", "95 % interval", "Images", "Patients or groups"]
    page = Report(
        title=f"{count} runs",
        sentence="Numbers of different runs can be compared where they are of the same images.",
        tables=[Table("All measures", columns, rows)],
        provenance=describe_environment(sys.argv),
    )
    with RunFolder.create(
        out,
        preset_toml='name = "report"\ntask = "report"\n',
        command=sys.argv,
        manifest_hash="",
        seed=0,
        task="report",
    ) as run:
        written = page.write(run.path)
        run.finish()
    return written
