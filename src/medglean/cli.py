"""The command line: one entry point, verbs, ``key=value`` overrides after the options.

Nothing heavy is imported before a command needs it, so that ``medglean --help`` answers at once.
Exit status: 0 done, 1 failed, 2 wrong usage, 3 bad data, 4 a gate not met, 130 interrupted.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medglean.exits import status_of
from medglean.options import (
    Cache,
    Capability,
    Data,
    Device,
    DryRun,
    Engine,
    Frames,
    KeepIds,
    KeyFile,
    OnDevice,
    Out,
    Part,
    Resume,
    Run,
    Seed,
    Study,
    Workers,
    named_pairs,
    new_run_folder,
)

if TYPE_CHECKING:
    from medglean.runs.report import Report

app = typer.Typer(
    name="medglean",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help=(
        "Glean more from fewer labels: curate, classify, map disease and stain medical images. "
        "Research software, never a diagnosis."
    ),
)


def _say(text: str = "") -> None:
    typer.echo(text)


def _say_report(report: Report) -> None:
    """Say what a run came to, and what to know before believing it."""
    _say(report.summary())
    for warning in report.warnings:
        _say(f"note: {warning}")


def _say_plan(lines: list[str]) -> None:
    for line in lines:
        _say(line)
    _say("Nothing was written.")


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to create.")] = Path(
        "medglean-demo"
    ),
    seed: Annotated[int, typer.Option(help="Seed of the phantoms and of the training.")] = 0,
) -> None:
    """Run the whole pipeline on made-up images and end with a report."""
    from medglean.demo import run_demo

    report = run_demo(out, seed=seed, say=_say)
    _say(f"Open this in a browser: {report}")


@app.command()
def doctor() -> None:
    """Tell what works here: versions, devices, codecs, optional parts."""
    from medglean.doctor import examine

    findings = examine()
    for finding in findings:
        _say(f"{finding.state:<7}{finding.part}: {finding.detail}")
    faults = sum(finding.state == "fault" for finding in findings)
    _say(f"{faults} fault{'' if faults == 1 else 's'}." if faults else "All well.")
    if faults:
        raise typer.Exit(code=1)


@app.command()
def presets() -> None:
    """List the recipes that come with medglean."""
    from medglean.runs.preset import list_presets

    for name, summary in list_presets():
        _say(f"{name:<20} {summary}")
    _say("A path to a TOML file works in their place.")


@app.command()
def index(
    source: Annotated[Path, typer.Argument(help="Folder of images, or a CSV above its images.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Manifest to write: .parquet or .csv.")],
    layout: Annotated[str, typer.Option(help="auto, or the name of a layout.")] = "auto",
    column: Annotated[
        list[str] | None, typer.Option(help="For tables: ours=theirs, such as label=subtype.")
    ] = None,
    single_label: Annotated[
        bool, typer.Option("--single-label", help="One class per image where a set has several.")
    ] = False,
    include_ct: Annotated[bool, typer.Option("--include-ct", help="Keep CT slices.")] = False,
    frames: Annotated[Frames, typer.Option(help="A row for each frame, or for the file.")] = (
        Frames.each
    ),
    keep_ids: KeepIds = False,
    key_file: KeyFile = None,
    follow_links: Annotated[bool, typer.Option("--follow-links", help="Follow links.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the manifest.")] = False,
    workers: Workers = 2,
) -> None:
    """Write a manifest of the images in a folder, and a list of problems beside it.

    Example: medglean index scans/ -o scans.parquet
    """
    from medglean import api

    made = api.index(
        source,
        out=out,
        layout=layout,
        columns=named_pairs(column or []),
        single_label=single_label,
        include_ct=include_ct,
        frames=frames.value,
        keep_ids=keep_ids,
        key_file=key_file,
        follow_links=follow_links,
        overwrite=overwrite,
        workers=workers,
    )
    _say(made.summary())
    _say(f"Next: medglean audit {out}")


@app.command()
def audit(
    data: Data,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder to make for a report and lists.")
    ] = None,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(help="Exit 4 on this kind, such as unreadable or shortcut:0.9. Repeatable."),
    ] = None,
    workers: Workers = 2,
) -> None:
    """Look for unreadable files, duplicates, patients on both sides, and shortcuts.

    Example: medglean audit scans.parquet -o audit/ --fail-on unreadable
    """
    from medglean import api
    from medglean.data.audit_result import check_gates

    check_gates(fail_on or [])
    found = api.audit(data, out=out, workers=workers)
    for line in found.summary_lines():
        _say(line)
    if out is not None:
        _say(f"Report: {out / 'report.html'}")
    found.check(fail_on or [])


@app.command()
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
        _say_plan(planned)
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
    _say(report.sentence)
    for table in report.tables:
        if table.title.startswith("Beside"):
            _say("\n".join(table.lines()))
    _say_report(report)
    _say(f"Report: {out / 'report.html'}")
    _say(f"Next: label {out / 'selected.csv'}")


@app.command()
def train(
    capability: Annotated[Capability, typer.Argument(help="What to train.")],
    preset: Annotated[str, typer.Argument(help="Name or TOML file; see `medglean presets`.")],
    data: Data,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings to change, such as fit.epochs=3.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Run folder to make; by default in runs/.")
    ] = None,
    seed: Seed = None,
    device: OnDevice = Device.auto,
    resume: Resume = False,
    dry_run: DryRun = False,
    cache: Cache = None,
    workers: Workers = 2,
) -> None:
    """Train a network and measure it on images that were kept aside.

    Example: medglean train classify cxr-small scans.parquet -o runs/first fit.epochs=3
    """
    from medglean import api, plans

    changes = [f"fit.accelerator={device.value}"] if device is not Device.auto else []
    changes += [] if seed is None else [f"fit.seed={seed}"]
    changes += overrides or []
    if dry_run:
        _say_plan(plans.training(capability.value, preset, data, overrides=changes))
        return
    place = out or new_run_folder(preset, resume=resume)
    report = api.train(
        capability.value,
        preset,
        data,
        out=place,
        overrides=changes,
        resume=resume,
        cache=cache,
        workers=workers,
    )
    _say_report(report)
    _say(f"Report: {place / 'report.html'}")


@app.command()
def predict(
    run: Run,
    source: Annotated[Path, typer.Argument(help="Folder of images, or a manifest.")],
    out: Out,
    device: OnDevice = Device.auto,
    resume: Resume = False,
    keep_ids: KeepIds = False,
    key_file: KeyFile = None,
    workers: Workers = 2,
) -> None:
    """Apply a trained run to images, labelled or not.

    Example: medglean predict runs/first new-scans/ -o predictions/
    """
    from medglean import api

    table = api.predict(
        run,
        source,
        out=out,
        resume=resume,
        workers=workers,
        accelerator=device.value,
        keep_ids=keep_ids,
        key_file=key_file,
    )
    _say(f"{len(table):,} images were scored. Research use only, never a diagnosis.")
    _say(f"Predictions: {out / 'predictions.csv'}; problems: {out / 'problems.csv'}")


@app.command()
def evaluate(
    run: Run,
    data: Data,
    out: Out,
    split: Annotated[Part | None, typer.Option(help="Only this part of the split.")] = None,
    device: OnDevice = Device.auto,
    resume: Resume = False,
    cache: Cache = None,
    workers: Workers = 2,
) -> None:
    """Measure a trained run on labelled images, with intervals over patients.

    Example: medglean evaluate runs/first other-hospital.parquet -o evaluation/
    """
    from medglean import api

    report = api.evaluate(
        run,
        data,
        out=out,
        split=None if split is None else split.value,
        resume=resume,
        cache=cache,
        workers=workers,
        accelerator=device.value,
    )
    _say_report(report)
    _say(f"Report: {out / 'report.html'}")


@app.command()
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
        _say(line)


@app.command()
def study(
    name: Annotated[Study, typer.Argument(help="Which experiment.")],
    data: Data,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings to change, such as fit.epochs=3.")
    ] = None,
    out: Out = Path("study"),
    preset: Annotated[
        str | None, typer.Option(help="Recipe; by default cxr-small, or enrich-small.")
    ] = None,
    seed: Seed = None,
    resume: Resume = False,
    cache: Cache = None,
    workers: Workers = 2,
) -> None:
    """Run an experiment and write its table and its figures.

    `floor` sets a network beside what needs no network. `enrich` compares ways of choosing the
    images to label by what is learnt from them.

    Example: medglean study enrich clips.parquet -o runs/clips labels.positive=ill
    """
    from medglean import studies

    run = {Study.floor: studies.floor, Study.enrich: studies.enrich}[name]
    key = "fit.seed" if name is Study.floor else "seed"
    found = run(
        data,
        **({} if preset is None else {"preset": preset}),
        out=out,
        overrides=[*([] if seed is None else [f"{key}={seed}"]), *(overrides or [])],
        resume=resume,
        cache=cache,
        workers=workers,
    )
    _say(found.sentence)
    for metric in found.metrics:
        _say(metric.text())
    _say(f"{name.value}: {out / 'report.html'}")


def main() -> None:
    """Run the command line and turn medglean's own errors into a message and an exit status."""
    # SIGTERM ends a command as Ctrl-C does: what is open is closed, the status is 130. While a
    # network is trained, the loop takes both signals itself and writes a checkpoint first.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit status.

    Parameters
    ----------
    arguments
        The command line without the program's name.

    Returns
    -------
    int
        As `medglean.exits.status_of` says.
    """
    return status_of(lambda: app(args=arguments, prog_name="medglean"))
