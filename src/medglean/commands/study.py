"""Commands that set runs beside one another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medglean.commands.saying import say
from medglean.options import (
    Cache,
    Out,
    ReportSet,
    Resume,
    Seed,
    Study,
    Workers,
)


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder to make for a page beside another.")
    ] = None,
) -> None:
    """Say what finished runs came to, in a line each; with --out, on one page.

    Example: medglean report runs/first runs/second -o comparison/
    """
    from medglean.compare import compare_runs

    for line in compare_runs(runs, out=out):
        say(line)


def study(
    name: Annotated[Study, typer.Argument(help="Which experiment.")],
    data: Annotated[
        Path, typer.Argument(help="Manifest; with --dataset also the folder of that set.")
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings to change, such as fit.epochs=3.")
    ] = None,
    out: Out = Path("study"),
    preset: Annotated[
        str | None,
        typer.Option(help="Recipe; by default the small one of the study, or that of the set."),
    ] = None,
    dataset: Annotated[
        ReportSet | None, typer.Option(help="Which set it is; for cxr2022, and only for it.")
    ] = None,
    seed: Seed = None,
    resume: Resume = False,
    cache: Cache = None,
    workers: Workers = 2,
) -> None:
    """Run an experiment and write its table and its figures.

    `floor` sets a network beside what needs no network. `cxr2022` trains the classifiers of a
    report of 2022 on one of its three sets. `enrich` compares ways of choosing the
    images to label by what is learnt from them. `wolleb2022` compares methods that map where the
    disease is. `bci2024` compares virtual stains.

    Example: medglean study enrich clips.parquet -o runs/clips labels.positive=ill
    """
    from medglean.studies import run_study

    found = run_study(
        name.value,
        data,
        preset=preset,
        dataset=None if dataset is None else dataset.value,
        out=out,
        overrides=overrides or [],
        seed=seed,
        resume=resume,
        cache=cache,
        workers=workers,
    )
    say(found.sentence)
    for metric in found.metrics:
        say(metric.text())
    say(f"{name.value}: {out / 'report.html'}")
