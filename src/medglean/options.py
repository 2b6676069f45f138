"""Arguments and options that several commands share, and the words that some of them take."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Capability(StrEnum):
    """What can be trained."""

    classify = "classify"


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
    enrich = "enrich"


Data = Annotated[Path, typer.Argument(help="Manifest: CSV or Parquet, one row per image.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder to make; must not exist.")]
Run = Annotated[Path, typer.Argument(help="Folder of a finished training run.")]
Seed = Annotated[int | None, typer.Option(help="Seed of everything random; else the preset's.")]
OnDevice = Annotated[Device, typer.Option("--device", help="Where the network runs.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where an earlier call stopped.")]
Workers = Annotated[int, typer.Option(min=1, help="Images decoded at the same time.")]
KeepIds = Annotated[
    bool, typer.Option("--keep-ids", help="Keep DICOM patient ids instead of pseudonyms.")
]
KeyFile = Annotated[Path | None, typer.Option(help="Key of the pseudonyms; see the docs.")]
Cache = Annotated[
    Path | None,
    typer.Option(help="Folder of decoded images; by default .medglean-cache by the manifest."),
]
