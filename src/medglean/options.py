"""Arguments and options that several commands share, and the words that some of them take."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from medglean.errors import UsageError


class Capability(StrEnum):
    """What can be trained."""

    classify = "classify"
    anomaly = "anomaly"
    stain = "stain"


class Frames(StrEnum):
    """What becomes a row of a manifest."""

    each = "each"
    file = "file"


class Device(StrEnum):
    """Where networks run."""

    auto = "auto"
    cpu = "cpu"
    gpu = "gpu"


class Engine(StrEnum):
    """What does the work of choosing images."""

    local = "local"
    ray = "ray"


class Part(StrEnum):
    """A part of a split."""

    train = "train"
    val = "val"
    test = "test"


class Study(StrEnum):
    """Experiments that end in one table."""

    floor = "floor"
    cxr2022 = "cxr2022"
    enrich = "enrich"
    wolleb2022 = "wolleb2022"
    bci2024 = "bci2024"


class ReportSet(StrEnum):
    """Sets of chest X-rays that the study of the 2022 report is about."""

    radiography = "radiography"
    pneumonia = "pneumonia"
    covid_chestxray = "covid-chestxray"


Data = Annotated[Path, typer.Argument(help="Manifest: CSV or Parquet, one row per image.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder to make; must not exist.")]
Run = Annotated[Path, typer.Argument(help="Folder of a finished training run.")]
Seed = Annotated[int | None, typer.Option(help="Seed of everything random; else the preset's.")]
OnDevice = Annotated[Device, typer.Option("--device", help="Where the network runs.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where an earlier call stopped.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything and write nothing.")]
Workers = Annotated[int, typer.Option(min=1, help="Images decoded at the same time.")]
KeepIds = Annotated[
    bool, typer.Option("--keep-ids", help="Keep DICOM patient ids instead of pseudonyms.")
]
KeyFile = Annotated[Path | None, typer.Option(help="Key of the pseudonyms; see the docs.")]
Cache = Annotated[
    Path | None,
    typer.Option(help="Folder of decoded images; by default .medglean-cache by the manifest."),
]


def named_pairs(texts: list[str]) -> dict[str, str]:
    """Read the words of ``--column``: ours=theirs."""
    pairs = dict(text.split("=", 1) for text in texts if "=" in text)
    wrong = [text for text in texts if "=" not in text]
    if wrong:
        raise UsageError(f"--column {wrong[0]!r}: expected ours=theirs, such as label=subtype.")
    return pairs


def first_and_last(text: str | None) -> tuple[int, int] | None:
    """Read the word of ``--slices``: the first and the last, such as 80-128."""
    if text is None:
        return None
    first, _, last = text.partition("-")
    if not (first.isdecimal() and last.isdecimal()):
        raise UsageError(f"--slices {text!r}: expected the first and the last, such as 80-128.")
    return int(first), int(last)


def new_run_folder(preset: str, *, resume: bool) -> Path:
    """Return a folder for a run that was given no name."""
    if resume:
        raise UsageError("--resume needs --out: say which run to go on with.")
    moment = datetime.now().strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{Path(preset).stem}-{moment}"
