"""Train a classifier, apply it, and measure it: the three verbs, each from a manifest to files."""

from __future__ import annotations

import dataclasses
import io
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from medglean.classify.model import Classifier, load_classifier, save_classifier
from medglean.classify.prepare import choose, column_of, open_images
from medglean.classify.reporting import evaluation_report, training_report
from medglean.classify.scores import score_frame, score_rows
from medglean.classify.settings import ClassifyPreset
from medglean.classify.training import check_parts, fit_network
from medglean.data.cache import Progress, default_cache
from medglean.data.manifest import Manifest
from medglean.data.splits import split_hash
from medglean.errors import DataError, Problem, UsageError
from medglean.fitting import make_fabric
from medglean.fitting.settings import CHANGEABLE
from medglean.runs.report import Report
from medglean.runs.rundir import RunFolder
from medglean.runs.stored import stored_report

log = logging.getLogger("medglean")

MAY_CHANGE = frozenset({f"fit.{name}" for name in CHANGEABLE} | {"summary", "predict.batch_size"})
"""Settings that a resumed run may change: they do not change what it computes."""


def fit(
    manifest: Manifest,
    preset: ClassifyPreset,
    *,
    out: Path,
    command: Sequence[str] = (),
    resume: bool = False,
    cache: Path | None = None,
    workers: int = 2,
    progress: Progress | None = None,
) -> Report:
    """Train a classifier and measure it on the part that was kept aside.

    Parameters
    ----------
    manifest
        With ``label`` or ``labels``. A ``split`` that stands in it is kept.
    preset
        What to do.
    out
        Run folder to make: weights, scores, report.
    command
        The command line, for the record.
    resume
        Go on with the run in ``out``; one that is done is left as it is.
    cache
        Folder of decoded images; by default beside the manifest.
    workers
        Images decoded at the same time.
    progress
        Called as ``progress(done, total)`` while images are decoded.

    Returns
    -------
    Report
        What was written as ``report.html`` and ``report.json``.

    Raises
    ------
    DataError
        If the data cannot be learnt from.
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
        task="classify",
        resume=resume,
        may_change=MAY_CHANGE,
    ) as run:
        if run.is_done:
            return stored_report(run)
        parts = chosen.manifest.frame[["id", "split"]]
        run.write("split.csv", parts.to_csv(index=False, lineterminator="\n"))
        images = open_images(
            chosen.manifest,
            preset,
            column=chosen.column,
            classes=chosen.classes,
            cache=default_cache(manifest) if cache is None else cache,
            workers=workers,
            progress=progress,
        )
        problems = [*manifest.warnings, *chosen.problems, *images.failures, *images.warnings]
        run.write_problems(problems)
        sizes = {part: len(images.positions(part)) for part in ("train", "val", "test")}
        check_parts(images, sizes, chosen.classes, chosen.kind)
        log.info("%d images to learn from, %d to choose on, %d to test on", *sizes.values())
        network, result, normalise = fit_network(run, images, chosen, preset)
        classifier = save_classifier(
            run,
            network,
            preset=preset,
            classes=chosen.classes,
            kind=chosen.kind,
            normalise=normalise,
        )
        report = training_report(run, classifier, images, result, problems, sizes)
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
    """Measure a trained classifier on the labelled images of a manifest.

    Parameters
    ----------
    run_path
        Folder of a finished training run.
    manifest
        Its classes must be among the classifier's.
    out
        Folder to make, a run of its own.
    split
        Only this part: of the manifest's split, or where it has none, of the run's, by id. All
        labelled images by default.

    Raises
    ------
    DataError
        If no image is labelled, or a class is not one of the classifier's.
    RunFolderError
        If ``run_path`` is not a finished run of a classifier, or ``out`` is taken.
    """
    classifier = load_classifier(run_path)
    column = column_of(classifier.kind)
    if column not in manifest.frame:
        raise DataError(
            f"{manifest.path or 'the manifest'}: no column {column!r}, which holds the truth to "
            "compare with. Add it, or use `medglean predict`, which needs none."
        )
    if split is not None and "split" not in manifest.frame:
        manifest = _with_the_runs_split(manifest, run_path)
    with RunFolder.create(
        out,
        preset_toml=classifier.preset.to_toml(),
        command=command,
        manifest_hash=manifest.hash,
        seed=classifier.preset.fit.seed,
        split_hash=classifier.weights_sha256,
        task="classify-evaluate",
        resume=resume,
    ) as run:
        if run.is_done:
            return stored_report(run)
        images = open_images(
            manifest,
            classifier.preset,
            column=column,
            classes=classifier.classes,
            cache=default_cache(manifest) if cache is None else cache,
            workers=workers,
            progress=progress,
        )
        rows = images.positions(split)
        problems = [*manifest.warnings, *images.failures, *images.warnings]
        run.write_problems(problems)
        if len(rows) == 0:
            raise DataError(
                f"{manifest.path or 'the manifest'}: no labelled image that can be read"
                + (f" in part {split!r}." if split else ".")
                + " Check the columns 'label' and 'split', and problems.csv."
            )
        _to_device(classifier, accelerator)
        scores = score_rows(classifier, images, rows)
        run.write_results(score_frame(classifier, images, scores, truth=True))
        report = evaluation_report(run, run_path, classifier, images, scores, problems, split)
        report.write(run.path)
        run.finish()
        return report


def _with_the_runs_split(manifest: Manifest, run_path: Path) -> Manifest:
    """Give each image the part that it had when the run was trained, found by its id."""
    known = pd.read_csv(run_path / "split.csv", dtype=str, keep_default_na=False)
    parts = dict(zip(known["id"], known["split"], strict=True))
    placed = pd.Series([parts.get(one) for one in manifest.ids], dtype="str")
    if placed.isna().all():
        raise DataError(
            f"{manifest.path or 'the manifest'}: has no column 'split', and none of its ids is in "
            f"the split of {run_path}. Leave --split out to evaluate on all its images."
        )
    return type(manifest)(
        manifest.frame.assign(split=placed),
        manifest.root,
        path=manifest.path,
        warnings=manifest.warnings,
    )


def _to_device(classifier: Classifier, accelerator: str) -> None:
    """Move the network to where Fabric says."""
    settings = classifier.preset.fit.model_copy(update={"accelerator": accelerator, "devices": 1})
    if accelerator not in ("auto", "cpu", "gpu", "cuda", "mps"):
        raise UsageError(f"device {accelerator!r}: expected auto, cpu, gpu, cuda or mps.")
    classifier.network.to(make_fabric(settings).device)


PART_BYTES = 64 << 20
"""Prepared images that prediction holds at once: what a kill costs at most."""


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
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Apply a trained classifier to every image of a manifest, labelled or not.

    Scores are written part by part, so that ``resume`` goes on where an earlier call stopped.

    Parameters
    ----------
    run_path
        Folder of a finished training run.
    manifest
        Any images.
    out
        Folder to make: ``predictions.parquet`` and ``.csv`` with id, call, probabilities, logits
        and warnings, and ``problems.csv`` with the images that could not be read.
    told
        Problems that were found before, such as by indexing, for the same list.

    Returns
    -------
    DataFrame
        As written.

    Raises
    ------
    DataError
        If not one image could be read.
    RunFolderError
        If ``run_path`` is not a finished run of a classifier, or ``out`` is taken.
    """
    classifier = load_classifier(run_path)
    with RunFolder.create(
        out,
        preset_toml=classifier.preset.to_toml(),
        command=command,
        manifest_hash=manifest.hash,
        seed=classifier.preset.fit.seed,
        split_hash=classifier.weights_sha256,
        task="classify-predict",
        resume=resume,
        may_change=MAY_CHANGE,
    ) as run:
        if run.is_done:
            return pd.read_parquet(run.path / "predictions.parquet")
        _to_device(classifier, accelerator)
        rows = _rows_at_a_time(classifier.preset)
        frames, problems = [], [*told, *manifest.warnings]
        for number, start in enumerate(range(0, len(manifest), rows)):
            place = np.arange(start, min(start + rows, len(manifest)))
            frame, told = _part(run, classifier, manifest, place, number, workers)
            frames.append(frame)
            problems += told
            if progress is not None:
                progress(int(place[-1]) + 1, len(manifest))
        table = pd.concat(frames, ignore_index=True)
        run.write_problems(problems)
        if table.empty:
            first = next((p for p in problems if p.fatal), None)
            raise DataError(
                f"none of the {len(manifest)} images could be read. "
                + (f"The first: {first}" if first else "See problems.csv.")
            )
        run.write_results(table, name="predictions")
        shutil.rmtree(run.path / "parts")
        run.finish()
        return table


def _rows_at_a_time(preset: ClassifyPreset) -> int:
    image_bytes = int(np.prod(preset.images.shape)) * np.dtype(preset.images.dtype).itemsize
    return int(np.clip(PART_BYTES // image_bytes, 16, 1024))


def _part(
    run: RunFolder,
    classifier: Classifier,
    manifest: Manifest,
    place: np.ndarray,
    number: int,
    workers: int,
) -> tuple[pd.DataFrame, list[Problem]]:
    """Score some rows, or read what an earlier call has scored."""
    name = f"parts/part-{number:06d}"
    scored, told = run.path / f"{name}.parquet", f"{name}.json"
    if scored.is_file() and (run.path / told).is_file():
        problems = [Problem(**entry) for entry in run.read_json(told)]
        return pd.read_parquet(scored), problems
    images = open_images(
        manifest.select(place),
        classifier.preset,
        column=None,
        classes=None,
        cache=None,
        workers=workers,
    )
    scores = score_rows(classifier, images, images.positions(labelled=False))
    frame = score_frame(classifier, images, scores, truth=False)
    problems = [
        dataclasses.replace(p, row=None if p.row is None else p.row + int(place[0]))
        for p in (*images.failures, *images.warnings)
    ]
    run.write_json(told, [problem.to_row() for problem in problems])
    parquet = io.BytesIO()
    frame.to_parquet(parquet, index=False)
    run.write(f"{name}.parquet", parquet.getvalue())
    return frame, problems
