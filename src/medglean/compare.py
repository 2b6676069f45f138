"""Finished runs beside one another."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medglean.classify.between import Paired, against_first
from medglean.classify.between_page import lines_of, pairs_figure, table_of
from medglean.classify.stored_scores import StoredScores, read_scores
from medglean.errors import DataError, RunFolderError
from medglean.runs.environment import describe_environment
from medglean.runs.report import Metric, Report, Table
from medglean.runs.rundir import RunFolder

_SCORED = ("classify", "classify-evaluate")


@dataclass
class _Gathered:
    """What runs came to, run by run."""

    lines: list[str] = field(default_factory=list)
    rows: list[list[object]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    scored: list[tuple[str, StoredScores]] = field(default_factory=list)


def compare_runs(paths: Sequence[Path], *, out: Path | None = None) -> list[str]:
    """Say what runs came to, in a line each, and whether classifiers differ.

    Classifiers that were tested on the same images are compared with the first of them, by
    DeLong's test clustered by patient; see `medglean.classify.between`.

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
    found = _Gathered()
    for path in paths:
        _gather(path, found)
    pairs = _pairs(found)
    for paired in pairs:
        found.lines += lines_of(paired)
        found.notes += [str(problem) for problem in paired.problems]
    found.lines += [f"note: {note}" for note in found.notes]
    if out is not None:
        found.lines.append(f"Comparison: {_write(found, pairs, len(paths), out)}")
    return found.lines


def _gather(path: Path, found: _Gathered) -> None:
    run = RunFolder.open(path)
    if not run.is_done:
        found.lines.append(f"{path}: {run.status()}")
        return
    stored: dict[str, Any] = run.read_json("report.json")
    found.lines.append(f"{path}: {stored['summary']}")
    found.lines.append(f"    {path / 'report.html'}")
    for entry in stored["metrics"]:
        metric = Metric(**{**entry, "value": _number(entry["value"])})
        found.rows.append(
            [str(path), metric.name, metric.value, metric.shown_interval, metric.n, metric.groups]
        )
    task = run.record.get("task")
    if task not in _SCORED:
        return
    try:
        found.scored.append((_weights_of(run), read_scores(path, training=task == "classify")))
    except (RunFolderError, DataError) as error:
        found.notes.append(f"{error} It is not compared image by image.")


def _weights_of(run: RunFolder) -> str:
    """Return what tells networks apart: a run and its own evaluation are not two classifiers."""
    if run.record.get("task") == "classify":
        return str(run.read_json("model.json").get("weights_sha256"))
    return str(run.record.get("split_hash"))


def _pairs(found: _Gathered) -> list[Paired]:
    if not found.scored:
        return []
    (weights, first), *others = found.scored
    compared = against_first(first, [scores for other, scores in others if other != weights])
    found.notes += [str(one) for one in compared if isinstance(one, DataError)]
    return [one for one in compared if isinstance(one, Paired)]


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _write(found: _Gathered, pairs: Sequence[Paired], count: int, out: Path) -> Path:
    columns = ["Run", "Measure", "Value", "95 % interval", "Images", "Patients or groups"]
    sentence = "Numbers of different runs can be compared where they are of the same images."
    if pairs:
        sentence += " Those of classifiers that share test images are compared on these below."
    page = Report(
        title=f"{count} runs",
        sentence=sentence,
        tables=[*map(table_of, pairs), Table("All measures", columns, found.rows)],
        figures=[pairs_figure(pairs)] if pairs else [],
        warnings=found.notes,
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
