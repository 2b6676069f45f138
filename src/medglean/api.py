"""The verbs of the command line as functions: each names its capability and hands over.

Importing this loads pandas; torch is loaded only by the functions that need it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from medglean.capabilities import Found, capability_of
from medglean.capabilities import capability as find_capability
from medglean.console import progress
from medglean.data.manifest import Manifest
from medglean.errors import UsageError
from medglean.given import as_manifest, images_given

if TYPE_CHECKING:
    import pandas as pd

    from medglean.data.audit_result import AuditResult
    from medglean.data.index import IndexResult
    from medglean.runs.report import Report

ENGINES = ("local", "ray")
PICTURES = (".tif", ".tiff", ".dzi")
"""Ends of names that are one file and no folder, where a slide is stained."""


def index(
    source: str | Path,
    *,
    out: str | Path,
    layout: str = "auto",
    columns: Mapping[str, str] | None = None,
    single_label: bool = False,
    include_ct: bool = False,
    frames: Literal["each", "file"] = "each",
    slices: tuple[int, int] | None = None,
    keep_ids: bool = False,
    key_file: str | Path | None = None,
    follow_links: bool = False,
    overwrite: bool = False,
    workers: int = 2,
) -> IndexResult:
    """Write a manifest of the images in a folder; see :func:`medglean.data.index.index`."""
    from medglean.data.index import index as make_manifest

    with progress("reading headers") as tell:
        return make_manifest(
            source,
            out=out,
            layout=layout,
            columns=columns,
            single_label=single_label,
            include_ct=include_ct,
            frames=frames,
            slices=slices,
            keep_ids=keep_ids,
            key_file=key_file,
            follow_links=follow_links,
            overwrite=overwrite,
            workers=workers,
            progress=tell,
        )


def audit(
    manifest: str | Path | Manifest,
    *,
    out: Path | None = None,
    fail_on: Sequence[str] = (),
    workers: int = 2,
    command: Sequence[str] | None = None,
) -> AuditResult:
    """Look at every image once and tell what is wrong with a data set.

    Parameters
    ----------
    manifest
        A file, or a manifest.
    out
        Folder to make for the report and the lists; by default nothing is written.
    fail_on
        Kinds of findings that are not acceptable, such as ``"unreadable"`` or ``"shortcut:0.9"``.

    Raises
    ------
    GateError
        If one of ``fail_on`` was found; the report is written before.
    """
    from medglean.audit_page import write_audit
    from medglean.data.audit import audit as look
    from medglean.data.audit_result import check_gates

    check_gates(fail_on)
    given = as_manifest(manifest)
    with progress("looking at images", total=len(given)) as tell:
        found = look(given, workers=workers, progress=tell)
    if out is not None:
        write_audit(found, given, out=out, command=sys.argv if command is None else command)
    found.check(fail_on)
    return found


def curate(
    manifest: str | Path | Manifest,
    *,
    budget: str | float,
    out: str | Path,
    preset: str | Path = "curate",
    overrides: Sequence[str] = (),
    preselected: str | Path | None = None,
    resume: bool = False,
    cache: str | Path | None = None,
    workers: int = 2,
    engine: Literal["local", "ray"] = "local",
    shards: int | None = None,
    oversample: float | None = None,
    address: str | None = None,
    command: Sequence[str] | None = None,
) -> Report:
    """Choose which images to label; see :func:`medglean.curate.task.curate`.

    Parameters
    ----------
    manifest
        A file, or a manifest.
    budget
        How many images: a number, or a share such as ``"44%"``.
    out
        Folder to make for the work list, the lists beside it, and the report.
    preset
        Name of a preset, or the path of a TOML file.
    overrides
        Settings to change, such as ``"selection.method=enrich"``.
    preselected
        CSV or Parquet with a column ``id``: images taken beforehand.
    resume
        Go on with the run in ``out``.
    cache
        Folder of decoded images; by default ``.medglean-cache`` beside the manifest.
    workers
        Images decoded at the same time.
    engine
        ``"ray"``: over shards, with Ray; see :func:`medglean.curate.sharded.task.curate_sharded`.
    shards, oversample, address
        For ``"ray"`` alone.

    Raises
    ------
    UsageError
        If an argument is of the other engine, or cannot be met.
    """
    from medglean.curate.settings import CuratePreset
    from medglean.runs.preset import load_preset

    _check_engine(engine, shards=shards, oversample=oversample, address=address, cache=cache)
    settings = load_preset(preset, CuratePreset, overrides=overrides)
    if engine == "ray":
        from medglean.curate.sharded.task import curate_sharded

        with progress("embedding shards") as tell:
            return curate_sharded(
                as_manifest(manifest),
                settings,
                budget=budget,
                out=Path(out),
                command=sys.argv if command is None else command,
                shards=shards,
                oversample=oversample,
                address=address,
                preselected=None if preselected is None else Path(preselected),
                resume=resume,
                workers=workers,
                progress=lambda stage, done, of: tell(done, of) if stage == "embed" else None,
            )
    from medglean.curate import task

    with progress("decoding and embedding images") as tell:
        return task.curate(
            as_manifest(manifest),
            settings,
            budget=budget,
            out=Path(out),
            command=sys.argv if command is None else command,
            preselected=None if preselected is None else Path(preselected),
            resume=resume,
            cache=None if cache is None else Path(cache),
            workers=workers,
            progress=tell,
        )


def _check_engine(engine: str, *, cache: str | Path | None, **of_shards: object) -> None:
    if engine not in ENGINES:
        raise UsageError(f"engine {engine!r}: expected one of {', '.join(ENGINES)}.")
    given = [name for name, value in of_shards.items() if value is not None]
    if engine == "local" and given:
        raise UsageError(
            f"{', '.join(given)}: for the engine ray alone. Add --engine ray, or leave it out."
        )
    if engine == "ray" and cache is not None:
        raise UsageError(
            "cache: over shards no decoded image is kept. Leave it out; embeddings are kept in the "
            "run's folder."
        )


def train(
    capability: str,
    preset: str | Path,
    manifest: str | Path | Manifest,
    *,
    out: str | Path,
    overrides: Sequence[str] = (),
    resume: bool = False,
    cache: str | Path | None = None,
    workers: int = 2,
    command: Sequence[str] | None = None,
) -> Report:
    """Train a network by a preset and measure it on images that were kept aside.

    Parameters
    ----------
    capability
        One of `medglean.capabilities.CAPABILITIES`.
    preset
        Name of a preset, or the path of a TOML file.
    manifest
        A file, or a manifest.
    out
        Run folder to make.
    overrides
        Settings to change, such as ``"fit.epochs=3"``.
    resume
        Go on with the run in ``out``.
    cache
        Folder of decoded images; by default ``.medglean-cache`` beside the manifest.
    workers
        Images decoded at the same time.
    """
    kind = find_capability(capability)
    settings = kind.load_preset(preset, overrides)
    given = as_manifest(manifest)
    with progress("decoding images") as tell:
        return kind.verbs.fit(
            given,
            settings,
            out=Path(out),
            command=sys.argv if command is None else command,
            resume=resume,
            cache=None if cache is None else Path(cache),
            workers=workers,
            progress=tell,
        )


def predict(
    run: str | Path,
    source: str | Path | Manifest,
    *,
    out: str | Path,
    resume: bool = False,
    workers: int = 2,
    accelerator: str = "auto",
    keep_ids: bool = False,
    key_file: str | Path | None = None,
    overrides: Sequence[str] = (),
    command: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Apply a trained run to a folder of images, a manifest or one image.

    Parameters
    ----------
    run
        Folder of a finished training run.
    source
        A folder, which is indexed first; a manifest's file; a manifest; or one image or slide.
    out
        Folder to make: predictions, problems, log. For a stain of one slide it may be the file to
        write, such as ``stained.ome.tif``.
    resume
        Go on where an earlier call stopped.
    overrides
        Settings to change while applying, such as ``"slide.mpp=0.5"``; for stains.

    Raises
    ------
    UsageError
        If the run's capability takes no settings here, or writes no single file.
    """
    kind = capability_of(Path(run))
    words = sys.argv if command is None else command
    if overrides and kind.name != "stain":
        raise UsageError(
            f"{overrides[0]!r}: settings can be changed while applying a stain, and {run} is of "
            f"{kind.name!r}. Leave it out, or train again."
        )
    changes = {"overrides": overrides} if overrides else {}
    if Path(out).suffix.lower() in PICTURES:
        return _predict_file(
            kind,
            Path(run),
            source,
            out=Path(out),
            command=words,
            resume=resume,
            accelerator=accelerator,
            **changes,
        )
    given, problems = images_given(source, keep_ids=keep_ids, key_file=key_file, workers=workers)
    with progress("scoring images") as tell:
        return kind.verbs.apply(
            Path(run),
            given,
            out=Path(out),
            command=words,
            resume=resume,
            workers=workers,
            accelerator=accelerator,
            told=problems,
            progress=tell,
            **changes,
        )


def _predict_file(
    kind: Found,
    run: Path,
    source: str | Path | Manifest,
    *,
    out: Path,
    **how: Any,  # noqa: ANN401 - handed on as they came
) -> pd.DataFrame:
    """Apply a stain to one slide, and write one file and what belongs beside it."""
    if kind.name != "stain" or isinstance(source, Manifest) or Path(source).is_dir():
        raise UsageError(
            f"{out}: a single file is written for a stain of one slide, and this is a run of "
            f"{kind.name!r} on {source}. Name a folder with --out."
        )
    from medglean.stain.task import apply_to_slide

    with progress("staining") as tell:
        return apply_to_slide(run, Path(source), out=out, progress=tell, **how)


def evaluate(
    run: str | Path,
    manifest: str | Path | Manifest,
    *,
    out: str | Path,
    split: str | None = None,
    label_map: Mapping[str, str] | None = None,
    resume: bool = False,
    cache: str | Path | None = None,
    workers: int = 2,
    accelerator: str = "auto",
    command: Sequence[str] | None = None,
) -> Report:
    """Measure a trained run on the labelled images of a manifest.

    Parameters
    ----------
    split
        Only this part: the manifest's own split, or where it has none the run's.
    label_map
        For classifiers: from the name of a class in ``manifest`` to the run's, or to the empty
        text, which leaves it out; see :func:`medglean.classify.label_map.mapped`.

    Raises
    ------
    UsageError
        If a label map is given for a run that has no classes.
    """
    kind = capability_of(Path(run))
    if label_map and kind.name != "classify":
        raise UsageError(
            f"{run}: a run of {kind.name!r}, which has no classes to map. Leave the label map out."
        )
    changes = {"label_map": label_map} if label_map else {}
    with progress("decoding images") as tell:
        return kind.verbs.evaluate(
            Path(run),
            as_manifest(manifest),
            out=Path(out),
            split=split,
            command=sys.argv if command is None else command,
            resume=resume,
            cache=None if cache is None else Path(cache),
            workers=workers,
            accelerator=accelerator,
            progress=tell,
            **changes,
        )
