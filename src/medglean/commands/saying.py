"""How commands say things."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from medglean.runs.report import Report


def say(text: str = "") -> None:
    """Write a line."""
    typer.echo(text)


def say_report(report: Report) -> None:
    """Say what a run came to, and what to know before believing it."""
    say(report.summary())
    for warning in report.warnings:
        say(f"note: {warning}")


def say_plan(lines: list[str]) -> None:
    """Say what a dry run found."""
    for line in lines:
        say(line)
    say("Nothing was written.")
