"""Commands about data: write a manifest of a folder, and look for trouble in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medglean.commands.saying import say
from medglean.options import (
    Data,
    Frames,
    KeepIds,
    KeyFile,
    Workers,
    first_and_last,
    named_pairs,
)


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
    slices: Annotated[
        str | None, typer.Option(help="Of volumes: first and last axial slice, such as 80-128.")
    ] = None,
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
        slices=first_and_last(slices),
        keep_ids=keep_ids,
        key_file=key_file,
        follow_links=follow_links,
        overwrite=overwrite,
        workers=workers,
    )
    say(made.summary())
    say(f"Next: medglean audit {out}")


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
        say(line)
    if out is not None:
        say(f"Report: {out / 'report.html'}")
    found.check(fail_on or [])
