"""``problems.csv``: what was wrong with files, beside the manifest, for people and programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

from medglean import files
from medglean.errors import Problem, UsageError

PROBLEMS_NAME = "problems.csv"
COLUMNS = ("manifest", *(field.name for field in fields(Problem)))


def check_problem_list(path: Path) -> None:
    """Make sure that the file is ours or not there.

    Raises
    ------
    UsageError
        If a file of this name is something else: it is not overwritten.
    """
    _others(path, manifest="")


def write_problems(path: Path, problems: Iterable[Problem], *, manifest: str) -> None:
    """Write the problems of one manifest; those of others in the same folder are kept."""
    rows = _others(path, manifest=manifest)
    for problem in problems:
        row = {"manifest": manifest} | problem.to_row()
        rows.append({name: "" if row[name] is None else str(row[name]) for name in COLUMNS})
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files.write_text(path, text.getvalue())


def _others(path: Path, *, manifest: str) -> list[dict[str, str]]:
    """Return the rows of other manifests in an existing list."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise UsageError(
                f"{path}: exists and was not written by index, which keeps its list of problems "
                "under this name. Move it, or write the manifest into another folder."
            )
        return [row for row in reader if row["manifest"] != manifest]
