"""Commands to begin with: the demonstration, what works here, which recipes there are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medglean.commands.saying import say


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to create.")] = Path(
        "medglean-demo"
    ),
    seed: Annotated[int, typer.Option(help="Seed of the phantoms and of the training.")] = 0,
) -> None:
    """Run the whole pipeline on made-up images and end with a report."""
    from medglean.demo import run_demo

    report = run_demo(out, seed=seed, say=say)
    say(f"Open this in a browser: {report}")


def doctor() -> None:
    """Tell what works here: versions, devices, codecs, optional parts."""
    from medglean.doctor import examine

    findings = examine()
    for finding in findings:
        say(f"{finding.state:<7}{finding.part}: {finding.detail}")
    faults = sum(finding.state == "fault" for finding in findings)
    say(f"{faults} fault{'' if faults == 1 else 's'}." if faults else "All well.")
    if faults:
        raise typer.Exit(code=1)


def presets() -> None:
    """List the recipes that come with medglean."""
    from medglean.runs.preset import list_presets

    for name, summary in list_presets():
        say(f"{name:<20} {summary}")
    say("A path to a TOML file works in their place.")
