"""Measured numbers as the documentation's tables take them: with how and where they were made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medglean.runs.report import Metric

_KEYS = ("name", "value", "unit", "low", "high", "n", "groups", "note")


def records(
    measured: Sequence[Metric], command: Sequence[str], *, cores: int
) -> list[dict[str, Any]]:
    """Return metrics with the command that made them and the kind of machine.

    Parameters
    ----------
    measured
        The metrics.
    command
        The command line; that it was taken up again is left out.
    cores
        Of the machine's processor.
    """
    words = ["medglean" if word.endswith("medglean") else word for word in command]
    # how it was measured, not in what sittings
    line = " ".join(word for word in words if word != "--resume")
    return [
        {
            **{key: vars(metric)[key] for key in _KEYS},
            "command": line,
            "machine": f"{cores} CPU cores",
        }
        for metric in measured
    ]
