"""The report of a run that is done already, read back from its folder."""

from __future__ import annotations

import math

from medglean.runs.report import Metric, Report
from medglean.runs.rundir import RunFolder


def stored_report(run: RunFolder) -> Report:
    """Return the headline of a finished run: title, sentence and numbers.

    Raises
    ------
    RunFolderError
        If the run has no ``report.json``.
    """
    stored = run.read_json("report.json")
    metrics = [
        Metric(**{**entry, "value": math.nan if entry["value"] is None else entry["value"]})
        for entry in stored["metrics"]
    ]
    return Report(stored["title"], stored["sentence"], metrics=metrics)
