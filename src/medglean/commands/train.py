"""Commands about networks: train one, apply it, measure it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medglean.commands.saying import say, say_plan, say_report
from medglean.options import (
    Cache,
    Capability,
    Data,
    Device,
    DryRun,
    KeepIds,
    KeyFile,
    OnDevice,
    Out,
    Part,
    Resume,
    Run,
    Seed,
    Workers,
    new_run_folder,
)


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
        say_plan(plans.training(capability.value, preset, data, overrides=changes))
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
    say_report(report)
    say(f"Report: {place / 'report.html'}")


def predict(
    run: Run,
    source: Annotated[Path, typer.Argument(help="Folder of images, manifest, image or slide.")],
    out: Out,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="For stains: settings, such as slide.mpp=0.5.")
    ] = None,
    device: OnDevice = Device.auto,
    resume: Resume = False,
    keep_ids: KeepIds = False,
    key_file: KeyFile = None,
    workers: Workers = 2,
) -> None:
    """Apply a trained run to images, labelled or not.

    For a stain of one slide --out may be the file to write, which ends in .ome.tif.

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
        overrides=overrides or [],
    )
    if not out.is_dir():
        say(f"Synthetic, research use only, never a diagnosis: {out}")
        return
    say(f"{len(table):,} images were scored. Research use only, never a diagnosis.")
    say(f"Predictions: {out / 'predictions.csv'}; problems: {out / 'problems.csv'}")


def evaluate(
    run: Run,
    data: Data,
    out: Out,
    split: Annotated[Part | None, typer.Option(help="Only this part of the split.")] = None,
    maps: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="THEIRS=OURS",
            help="What a class is called by the run; nothing behind = leaves it out. May be given "
            "many times, or as a TOML or CSV file.",
        ),
    ] = None,
    device: OnDevice = Device.auto,
    resume: Resume = False,
    cache: Cache = None,
    workers: Workers = 2,
) -> None:
    """Measure a trained run on labelled images, with intervals over patients.

    For images from elsewhere the report tells what is left of the run's own numbers there.

    Example: medglean evaluate runs/first other.parquet -o evaluation/ --map "No finding=NORMAL"
    """
    from medglean import api
    from medglean.classify.label_words import read_label_map

    report = api.evaluate(
        run,
        data,
        out=out,
        split=None if split is None else split.value,
        label_map=read_label_map(maps) if maps else None,
        resume=resume,
        cache=cache,
        workers=workers,
        accelerator=device.value,
    )
    say_report(report)
    say(f"Report: {out / 'report.html'}")
