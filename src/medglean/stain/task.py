"""Train a virtual stain, apply it, and measure it: the three verbs, from manifest to files."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from medglean.data.cache import Progress, default_cache
from medglean.data.manifest import Manifest
from medglean.data.splits import split_hash
from medglean.errors import DataError, Problem
from medglean.runs.applied import drop_parts, in_parts, with_the_runs_split
from medglean.runs.names import safe_names
from medglean.runs.report import Report
from medglean.runs.rundir import RunFolder
from medglean.runs.stored import stored_report
from medglean.stain.applying import StainWriter, changed_for_use, slide_row
from medglean.stain.measured import measure, result_frame
from medglean.stain.model import load_stainer, make_stainer, save_stainer
from medglean.stain.pairs import choose, open_pairs
from medglean.stain.registration import check_pairs
from medglean.stain.reporting import evaluation_report, part_sizes, training_report
from medglean.stain.settings import MAY_CHANGE, StainPreset
from medglean.stain.slide.task import stain_slide_file
from medglean.stain.training import check_parts, fit_networks

log = logging.getLogger("medglean")

ROWS = 16
"""Images stained between two writes of a prediction: what a kill costs."""


def fit(
    manifest: Manifest,
    preset: StainPreset,
    *,
    out: Path,
    command: Sequence[str] = (),
    resume: bool = False,
    cache: Path | None = None,
    workers: int = 2,
    progress: Progress | None = None,
) -> Report:
    """Train on pairs of H&E and immunohistochemistry, and measure what is generated of others.

    Parameters
    ----------
    manifest
        With ``image`` (H&E) and ``target`` (IHC); ``label``, the expression level, where it is
        known. A ``split`` that stands in it is kept.
    preset
        What to do.
    out
        Run folder to make: weights, per-image results, report.
    command
        The command line, for the record.
    resume
        Go on with the run in ``out``; one that is done is left as it is.
    cache
        Folder of decoded images; by default beside the manifest.
    workers
        Images decoded at the same time.
    progress
        Called as ``progress(done, total)`` while images are decoded and stained.

    Returns
    -------
    Report
        What was written as ``report.html`` and ``report.json``.

    Raises
    ------
    DataError
        If the pairs cannot be learnt from.
    RunFolderError
        If ``out`` holds something else or is in use.
    Interrupted
        After Ctrl-C or SIGTERM, resumable.
    """
    chosen = choose(manifest, preset)
    with RunFolder.create(
        out,
        preset_toml=preset.to_toml(),
        command=command,
        manifest_hash=manifest.hash,
        seed=preset.fit.seed,
        split_hash=split_hash(chosen.manifest),
        task="stain",
        resume=resume,
        may_change=MAY_CHANGE,
    ) as run:
        if run.is_done:
            return stored_report(run)
        parts = chosen.manifest.frame[["id", "split"]]
        run.write("split.csv", parts.to_csv(index=False, lineterminator="\n"))
        pairs = open_pairs(
            chosen.manifest,
            preset,
            cache=default_cache(manifest) if cache is None else cache,
            workers=workers,
            progress=progress,
        )
        problems = [*manifest.warnings, *chosen.problems, *pairs.failures, *pairs.warnings]
        run.write_problems(problems)
        check_parts(pairs, chosen)
        problems += check_pairs(pairs, pairs.positions("train"))
        run.write_problems(problems)
        sizes = part_sizes(pairs)
        log.info("%s", ", ".join(f"{count} {part}" for part, count in sizes.items()))
        networks, results = fit_networks(run, pairs, chosen, preset)
        stainer = make_stainer(networks, preset, pairs)
        save_stainer(run, stainer)
        stainer = stainer.on_device(preset.fit.accelerator)
        part = next((name for name in ("test", "val") if len(pairs.positions(name))), "train")
        measured = measure(stainer, pairs, pairs.positions(part), progress=progress)
        run.write_results(result_frame(measured))
        problems += measured.problems
        run.write_problems(problems)
        report = training_report(
            run, stainer, pairs, measured, results, part=part, sizes=sizes, problems=problems
        )
        report.write(run.path)
        run.finish()
        return report


def evaluate(
    run_path: Path,
    manifest: Manifest,
    *,
    out: Path,
    split: str | None = None,
    command: Sequence[str] = (),
    resume: bool = False,
    cache: Path | None = None,
    workers: int = 2,
    accelerator: str = "auto",
    progress: Progress | None = None,
) -> Report:
    """Measure a trained run on pairs, with intervals over patients or slides.

    Parameters
    ----------
    run_path
        Folder of a finished training run.
    manifest
        With ``image`` and ``target``; ``label`` where it is known.
    out
        Folder to make, a run of its own.
    split
        Only this part: of the manifest's split, or where it has none, of the run's, by id. All
        pairs by default.

    Raises
    ------
    DataError
        If no pair can be read.
    RunFolderError
        If ``run_path`` is not a finished run of a stain, or ``out`` is taken.
    """
    stainer = load_stainer(run_path)
    if split is not None and "split" not in manifest.frame:
        manifest = with_the_runs_split(manifest, run_path)
    with RunFolder.create(
        out,
        preset_toml=stainer.preset.to_toml(),
        command=command,
        manifest_hash=manifest.hash,
        seed=stainer.preset.fit.seed,
        split_hash=stainer.weights_sha256,
        asked={"split": split},
        task="stain-evaluate",
        resume=resume,
        may_change=MAY_CHANGE,
    ) as run:
        if run.is_done:
            return stored_report(run)
        pairs = open_pairs(
            manifest,
            stainer.preset,
            cache=default_cache(manifest) if cache is None else cache,
            workers=workers,
            progress=progress,
        )
        rows = pairs.positions(split)
        problems = [*manifest.warnings, *pairs.failures, *pairs.warnings]
        run.write_problems(problems)
        if len(rows) == 0:
            raise DataError(
                f"{manifest.path or 'the manifest'}: no pair that can be read"
                + (f" in part {split!r}." if split else ".")
                + " Check the columns 'image', 'target' and 'split', and problems.csv."
            )
        stainer = stainer.on_device(accelerator)
        measured = measure(stainer, pairs, rows, progress=progress)
        run.write_results(result_frame(measured))
        problems += measured.problems
        run.write_problems(problems)
        report = evaluation_report(
            run, run_path, stainer, pairs, measured, split=split, problems=problems
        )
        report.write(run.path)
        run.finish()
        return report


def apply(
    run_path: Path,
    manifest: Manifest,
    *,
    out: Path,
    command: Sequence[str] = (),
    resume: bool = False,
    workers: int = 2,
    accelerator: str = "auto",
    told: Sequence[Problem] = (),
    overrides: Sequence[str] = (),
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Stain every image of a manifest: patches become PNG, whole slides become OME-TIFF.

    Parameters
    ----------
    run_path
        Folder of a finished training run.
    manifest
        H&E images; a column ``target`` is not looked at.
    out
        Folder to make: ``predictions.parquet`` and ``.csv`` with id, file, and how much DAB there
        is; ``stained/``; ``problems.csv``.
    workers
        Images decoded at the same time.
    told
        Problems that were found before, such as by indexing, for the same list.
    overrides
        Settings of ``predict``, ``slide`` and ``white.reapply`` to change.

    Returns
    -------
    DataFrame
        As written.

    Raises
    ------
    DataError
        If not one image could be stained.
    RunFolderError
        If ``run_path`` is not a finished run of a stain, or ``out`` is taken.
    """
    stainer = changed_for_use(load_stainer(run_path), overrides)
    with RunFolder.create(
        out,
        preset_toml=stainer.preset.to_toml(),
        command=command,
        manifest_hash=manifest.hash,
        seed=stainer.preset.fit.seed,
        split_hash=stainer.weights_sha256,
        task="stain-predict",
        resume=resume,
        may_change={"summary", "study"},
    ) as run:
        if run.is_done:
            return pd.read_parquet(run.path / "predictions.parquet")
        stainer = stainer.on_device(accelerator)
        names = dict(zip(manifest.ids, safe_names(manifest.ids), strict=True))
        writer = StainWriter(run, stainer, names, command=command, resume=resume)
        table, problems = in_parts(
            run, manifest, writer.write, rows=ROWS, told=told, progress=progress
        )
        run.write_problems(problems)
        run.write_results(table, name="predictions")
        drop_parts(run)
        run.finish()
        return table


def apply_to_slide(
    run_path: Path,
    slide: Path,
    *,
    out: Path,
    command: Sequence[str] = (),
    resume: bool = False,
    accelerator: str = "auto",
    overrides: Sequence[str] = (),
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Stain one whole slide into one file.

    Parameters
    ----------
    run_path
        Folder of a finished training run.
    slide
        Its file.
    out
        File to write, such as ``stained.ome.tif``; what belongs to it is written beside it. While
        the work goes on, everything is in ``OUT.part``.
    resume
        Go on where an earlier call stopped.
    overrides
        Settings of ``predict``, ``slide`` and ``white.reapply`` to change.

    Returns
    -------
    DataFrame
        One row, as `apply` has it.

    Raises
    ------
    ReadError
        If the slide cannot be read.
    DataError
        If it has no resolution, or the disk has no room.
    RunFolderError
        If ``run_path`` is not a finished run of a stain, or ``out`` is taken.
    """
    stainer = changed_for_use(load_stainer(run_path), overrides).on_device(accelerator)
    result = stain_slide_file(
        stainer, slide, out, resume=resume, progress=progress, command=command
    )
    for warning in result.warnings:
        log.warning("%s", warning)
    return pd.DataFrame([slide_row(result, id=slide.stem, image=str(slide))])
