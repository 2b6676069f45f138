"""Train a classifier, apply it, and measure it: the three verbs, each from a manifest to files."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from medglean.classify.decisions import Decisions, decide
from medglean.classify.frozen import check_frozen
from medglean.classify.label_map import mapped
from medglean.classify.model import (
    Classifier,
    load_classifier,
    save_classifier,
    with_decisions,
)
from medglean.classify.prepare import choose, column_of, open_images
from medglean.classify.reporting import evaluation_report, training_report
from medglean.classify.scores import score_frame, score_rows
from medglean.classify.settings import ClassifyPreset
from medglean.classify.training import check_parts, fit_networks
from medglean.data.cache import Progress, default_cache
from medglean.data.imageset import ImageSet
from medglean.data.manifest import Manifest
from medglean.data.splits import split_hash
from medglean.errors import DataError, Problem
from medglean.fitting import device_of
from medglean.fitting.settings import CHANGEABLE
from medglean.runs.applied import drop_parts, in_parts, rows_at_a_time, with_the_runs_split
from medglean.runs.report import Report
from medglean.runs.rundir import RunFolder
from medglean.runs.stored import stored_report

log = logging.getLogger("medglean")

SPLIT_COLUMNS = ("id", "split", "patient", "sha256")
"""Kept of every image, for a later evaluation to know what was learnt from."""

MAY_CHANGE = frozenset(
    {f"fit.{name}" for name in CHANGEABLE}
    | {"summary", "predict.batch_size", "predict.zooms", "measure"}
)
"""Settings that a resumed run may change: they do not change what it learns."""


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
    UsageError
        If only the last layer is to be trained, of images that augmentation changes.
    Interrupted
        After Ctrl-C or SIGTERM, resumable.
    """
    if preset.model.train == "head":
        check_frozen(preset)
    cache = default_cache(manifest) if cache is None else cache
    chosen = choose(manifest, preset, workers=workers, cache=cache)
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
        known = [name for name in SPLIT_COLUMNS if name in chosen.manifest.frame]
        parts = chosen.manifest.frame[known]
        run.write("split.csv", parts.to_csv(index=False, lineterminator="\n"))
        images = open_images(
            chosen.manifest,
            preset,
            column=chosen.column,
            classes=chosen.classes,
            cache=cache,
            workers=workers,
            progress=progress,
        )
        problems = [*manifest.warnings, *chosen.problems, *images.failures, *images.warnings]
        run.write_problems(problems)
        sizes = {part: len(images.positions(part)) for part in ("train", "val", "test")}
        check_parts(images, sizes, chosen.classes, chosen.kind)
        log.info("%d images to learn from, %d to choose on, %d to test on", *sizes.values())
        fitted = fit_networks(run, images, chosen, preset)
        classifier = save_classifier(
            run,
            fitted.network,
            preset=preset,
            classes=chosen.classes,
            kind=chosen.kind,
            normalise=fitted.normalise,
        )
        if sizes["val"]:
            classifier = with_decisions(run, classifier, _decided(classifier, images))
        report = training_report(run, classifier, images, fitted, problems, sizes)
        report.write(run.path)
        run.finish()
        return report


def _decided(classifier: Classifier, images: ImageSet) -> Decisions:
    """Choose temperature and operating points on the validation part."""
    rows = images.positions("val")
    return decide(
        score_rows(classifier, images, rows).logits,
        images.targets[rows],
        images.groups[rows],
        kind=classifier.kind,
        classes=classifier.classes,
        settings=classifier.preset.decide,
    )


def evaluate(
    run_path: Path,
    manifest: Manifest,
    *,
    out: Path,
    split: str | None = None,
    label_map: Mapping[str, str] | None = None,
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
        Its classes must be among the classifier's, after ``label_map``.
    out
        Folder to make, a run of its own.
    split
        Only this part: of the manifest's split, or where it has none, of the run's, by id. All
        labelled images by default.
    label_map
        What the manifest's classes are called by the run: `medglean.classify.label_map.mapped`.

    Raises
    ------
    DataError
        If no image is labelled, or a class is not one of the classifier's.
    RunFolderError
        If ``run_path`` is not a finished run of a classifier, or ``out`` is taken.
    """
    classifier = load_classifier(run_path)
    column = column_of(classifier.kind)
    if not {"label", "labels"} & set(manifest.frame):
        raise DataError(
            f"{manifest.path or 'the manifest'}: no column {column!r}, which holds the truth to "
            "compare with. Add it, or use `medglean predict`, which needs none."
        )
    given = manifest.hash
    manifest, renamed = mapped(
        manifest, column=column, classes=classifier.classes, label_map=label_map
    )
    if split is not None and "split" not in manifest.frame:
        manifest = with_the_runs_split(manifest, run_path)
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
        problems = [*manifest.warnings, *renamed, *images.failures, *images.warnings]
        run.write_problems(problems)
        if len(rows) == 0:
            raise DataError(
                f"{manifest.path or 'the manifest'}: no labelled image that can be read"
                + (f" in part {split!r}." if split else ".")
                + " Check the columns 'label' and 'split', and problems.csv."
            )
        classifier.network.to(device_of(classifier.preset.fit, accelerator))
        scores = score_rows(classifier, images, rows)
        run.write_results(score_frame(classifier, images, scores, truth=True))
        report = evaluation_report(
            run, run_path, classifier, images, scores, problems, split, manifest_hash=given
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
        classifier.network.to(device_of(classifier.preset.fit, accelerator))
        table, _ = in_parts(
            run,
            manifest,
            lambda part: _scored(classifier, part, workers),
            rows=rows_at_a_time(classifier.preset.images),
            told=told,
            progress=progress,
        )
        run.write_results(table, name="predictions")
        drop_parts(run)
        run.finish()
        return table


def _scored(
    classifier: Classifier, part: Manifest, workers: int
) -> tuple[pd.DataFrame, list[Problem]]:
    """Score the rows of one part."""
    images = open_images(
        part, classifier.preset, column=None, classes=None, cache=None, workers=workers
    )
    scores = score_rows(classifier, images, images.positions(labelled=False))
    frame = score_frame(classifier, images, scores, truth=False)
    return frame, [*images.failures, *images.warnings]
