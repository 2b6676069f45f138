"""The command that chooses which images to label."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medglean.commands.saying import say, say_plan, say_report
from medglean.options import (
    Cache,
    Data,
    Device,
    DryRun,
    Engine,
    OnDevice,
    Out,
    Resume,
    Seed,
    Workers,
)


def curate(
    data: Data,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings, such as selection.method=enrich.")
    ] = None,
    budget: Annotated[
        str, typer.Option("--budget", "-b", help="How many to label: a number, or such as 44%.")
    ] = "10%",
    out: Out = Path("worklist"),
    preset: Annotated[str, typer.Option(help="Name or TOML file.")] = "curate",
    preselected: Annotated[
        Path | None, typer.Option(help="Table with a column id: images taken beforehand.")
    ] = None,
    seed: Seed = None,
    device: OnDevice = Device.auto,
    resume: Resume = False,
    dry_run: DryRun = False,
    cache: Cache = None,
    workers: Workers = 2,
    engine: Annotated[
        Engine, typer.Option(help="ray: over shards of patients; needs the extra ray.")
    ] = Engine.local,
    shards: Annotated[int | None, typer.Option(min=1, help="For ray: number of shards.")] = None,
    oversample: Annotated[
        float | None, typer.Option(help="For ray: candidates per shard, times its share.")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="For ray: a running cluster, such as auto.")
    ] = None,
) -> None:
    """Choose which images to label first, and say why.

    Writes selected.csv (one row per image, with the reason), the whole order, and report.html.

    Example: medglean curate scans.parquet --budget 10% -o worklist/
    """
    from medglean import api, plans

    changes = [] if seed is None else [f"seed={seed}"]
    if device is not Device.auto:
        changes.append(f"embedding.dvae.fit.accelerator={device.value}")
    changes += overrides or []
    if dry_run:
        planned = plans.curation(
            data, budget=budget, preset=preset, overrides=changes, preselected=preselected
        )
        say_plan(planned)
        return
    report = api.curate(
        data,
        budget=budget,
        out=out,
        preset=preset,
        overrides=changes,
        preselected=preselected,
        resume=resume,
        cache=cache,
        workers=workers,
        engine=engine.value,
        shards=shards,
        oversample=oversample,
        address=address,
    )
    say(report.sentence)
    for table in report.tables:
        if table.title.startswith("Beside"):
            say("\n".join(table.lines()))
    say_report(report)
    say(f"Report: {out / 'report.html'}")
    say(f"Next: label {out / 'selected.csv'}")
