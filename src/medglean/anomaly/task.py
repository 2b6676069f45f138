"""Train what maps anomalies, apply it, and measure it: the three verbs, from manifest to files."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from medglean.anomaly.mapping import map_images, measure_scales, needs_scales
from medglean.anomaly.measured import fixed_thresholds, measure, result_frame, rows_of
from medglean.anomaly.model import Mapper, load_mapper, make_mapper, save_mapper
from medglean.anomaly.outputs import MapWriter
from medglean.anomaly.prepare import HEALTHY, NULL, choose, column_of, open_images, targets_of
from medglean.anomaly.reporting import evaluation_report, part_sizes, training_report
from medglean.anomaly.settings import AnomalyPreset
from medglean.anomaly.training import check_parts, fit_networks
from medglean.anomaly.volumes import slices_of
from medglean.data.cache import Progress, default_cache
from medglean.data.imageset import ImageSet
from medglean.data.manifest import Manifest
from medglean.data.splits import split_hash
from medglean.errors import DataError, Problem
from medglean.fitting.settings import CHANGEABLE
from medglean.runs.applied import drop_parts, in_parts, rows_at_a_time, with_the_runs_split
from medglean.runs.report import Report
from medglean.runs.rundir import RunFolder
from medglean.runs.stored import stored_report

log = logging.getLogger("medglean")

MAY_CHANGE = frozenset(
    {f"fit.{name}" for name in CHANGEABLE}
    | {f"classifier.fit.{name}" for name in CHANGEABLE}
    | {"summary", "predict.batch_size", "predict.compile", "study"}
)
"""Settings that a resumed run may change: they do not change what it computes."""
MOST_CALIBRATED = 64
"""Healthy validation images that scales and thresholds are measured on, at most."""
ROWS = 256
"""Images mapped between two writes of a prediction, at most: what a kill costs."""


def fit(
    manifest: Manifest,
    preset: AnomalyPreset,
    *,
    out: Path,
    command: Sequence[str] = (),
    resume: bool = False,
    cache: Path | None = None,
    workers: int = 2,
    progress: Progress | None = None,
) -> Report:
    """Train on images that are called healthy or diseased, and measure the maps of others.

    Parameters
    ----------
    manifest
        With ``label`` or ``labels``; masks are only measured against. A ``split`` that stands in
        it is kept.
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
        Called as ``progress(done, total)`` while images are decoded and mapped.

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
        task="anomaly",
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
            cache=default_cache(manifest) if cache is None else cache,
            workers=workers,
            progress=progress,
        )
        problems = [*manifest.warnings, *chosen.problems, *images.failures, *images.warnings]
        run.write_problems(problems)
        check_parts(images, chosen)
        sizes = part_sizes(images, chosen.targets)
        log.info("%s", ", ".join(f"{count} {part}" for part, count in sizes.items()))
        networks, results = fit_networks(run, images, chosen, preset)
        mapper = make_mapper(networks, preset, healthy=chosen.healthy, diseased=chosen.diseased)
        mapper = calibrated(mapper.on_device(preset.fit.accelerator), images, chosen.targets)
        save_mapper(run, mapper)
        part = "test" if len(images.positions("test", labelled=False)) else "val"
        of = rows_of(
            images,
            images.positions(part, labelled=False),
            chosen.targets,
            mapper,
            column_of(manifest),
        )
        measured = measure(mapper, of, progress=progress)
        run.write_results(result_frame(measured))
        problems += measured.problems
        run.write_problems(problems)
        report = training_report(
            run, mapper, images, measured, results, part=part, sizes=sizes, problems=problems
        )
        report.write(run.path)
        run.finish()
        return report


def calibrated(mapper: Mapper, images: ImageSet, targets: np.ndarray) -> Mapper:
    """Measure scales and thresholds on healthy validation images, without masks.

    Where there is no validation part they are of healthy training images.
    """
    rows = calibration_rows(images, targets)
    of = rows_of(images, rows, targets, mapper, column_of(images.manifest))
    if needs_scales(mapper.preset):
        measured = measure_scales(mapper, of.images, ids=of.ids, seed=mapper.preset.fit.seed)
        mapper = replace(mapper, scales=measured)
    mapped = map_images(mapper, of.images, ids=of.ids, seed=mapper.preset.fit.seed)
    return replace(mapper, thresholds=fixed_thresholds(mapped.maps, of))


def calibration_rows(images: ImageSet, targets: np.ndarray) -> np.ndarray:
    """Return healthy validation images, spread evenly, or where there are none, of training."""
    split = images.manifest.frame["split"].to_numpy(dtype=object)
    usable = images.positions(labelled=False)
    healthy = usable[targets[usable] == HEALTHY]
    rows = healthy[split[healthy] == "val"]
    if len(rows) == 0:
        rows = healthy[split[healthy] == "train"]
    spread: np.ndarray = np.linspace(0, len(rows) - 1, min(MOST_CALIBRATED, len(rows)))
    return np.asarray(rows[spread.astype(int)])


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
    """Measure a trained run on the labelled images of a manifest, and their masks.

    Parameters
    ----------
    run_path
        Folder of a finished training run.
    manifest
        With ``label`` or ``labels``, and masks where there are some.
    out
        Folder to make, a run of its own.
    split
        Only this part: of the manifest's split, or where it has none, of the run's, by id. All
        labelled images by default.

    Raises
    ------
    DataError
        If no image has a name that was healthy or diseased in training, or none can be read.
    RunFolderError
        If ``run_path`` is not a finished run of an anomaly method, or ``out`` is taken.
    """
    mapper = load_mapper(run_path)
    targets = targets_of(manifest, mapper.preset.labels)
    unknown = check_names(manifest, targets, mapper)
    if split is not None and "split" not in manifest.frame:
        manifest = with_the_runs_split(manifest, run_path)
    with RunFolder.create(
        out,
        preset_toml=mapper.preset.to_toml(),
        command=command,
        manifest_hash=manifest.hash,
        seed=mapper.preset.fit.seed,
        split_hash=mapper.weights_sha256,
        asked={"split": split},
        task="anomaly-evaluate",
        resume=resume,
        may_change=MAY_CHANGE,
    ) as run:
        if run.is_done:
            return stored_report(run)
        images = open_images(
            manifest,
            mapper.preset,
            cache=default_cache(manifest) if cache is None else cache,
            workers=workers,
            progress=progress,
        )
        rows = images.positions(split, labelled=False)
        rows = rows[targets[rows] != NULL]
        problems = [*manifest.warnings, *unknown, *images.failures, *images.warnings]
        run.write_problems(problems)
        if len(rows) == 0:
            raise DataError(
                f"{manifest.path or 'the manifest'}: no labelled image that can be read"
                + (f" in part {split!r}." if split else ".")
                + " Check the columns 'label' and 'split', and problems.csv."
            )
        mapper = mapper.on_device(accelerator)
        of = rows_of(images, rows, targets, mapper, column_of(manifest))
        measured = measure(mapper, of, progress=progress)
        run.write_results(result_frame(measured))
        problems += measured.problems
        run.write_problems(problems)
        report = evaluation_report(
            run, run_path, mapper, images, measured, split=split, problems=problems
        )
        report.write(run.path)
        run.finish()
        return report


def check_names(manifest: Manifest, targets: np.ndarray, mapper: Mapper) -> list[Problem]:
    """Refuse a manifest whose classes are all foreign to a run, and tell of some that are.

    Raises
    ------
    DataError
        If no image is of a class that the run was trained on.
    """
    column, name = column_of(manifest), str(manifest.path or "the manifest")
    found = manifest.classes(column)
    trained = {mapper.healthy, *mapper.diseased}
    if (targets == NULL).all() or not trained & set(found):
        raise DataError(
            f"{name}: no image is {mapper.healthy!r} (healthy) or diseased "
            f"({', '.join(map(repr, mapper.diseased))}), as in training; the classes in column "
            f"{column!r} are {', '.join(map(repr, found)) or 'none'}. Name them as in training, or "
            "use `medglean predict`, which needs none."
        )
    foreign = [one for one in found if one not in trained]
    if mapper.preset.labels.diseased is not None or not foreign:
        return []  # with a list, others are left out
    told = (
        f"the run was not trained on {', '.join(map(repr, foreign))}: such images count as diseased"
    )
    return [
        Problem(name, f"{told}.", "Name them as in training, or leave them out.",
                column=column, kind="unknown-class", fatal=False)
    ]  # fmt: skip


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
    """Map every image of a manifest, labelled or not; volumes slice by slice.

    Maps are written part by part, so that ``resume`` goes on where an earlier call stopped.

    Parameters
    ----------
    run_path
        Folder of a finished training run.
    manifest
        Any images; a volume stands for all its axial slices.
    out
        Folder to make: ``predictions.parquet`` and ``.csv`` with id, score and the map's file;
        ``maps/``, on the grid of the images themselves; ``problems.csv``.
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
        If ``run_path`` is not a finished run of an anomaly method, or ``out`` is taken.
    """
    mapper = load_mapper(run_path)
    with RunFolder.create(
        out,
        preset_toml=mapper.preset.to_toml(),
        command=command,
        manifest_hash=manifest.hash,
        seed=mapper.preset.fit.seed,
        split_hash=mapper.weights_sha256,
        task="anomaly-predict",
        resume=resume,
        may_change=MAY_CHANGE,
    ) as run:
        if run.is_done:
            return pd.read_parquet(run.path / "predictions.parquet")
        mapper = mapper.on_device(accelerator)
        slices, unread = slices_of(manifest, mapper.preset.images)
        writer = MapWriter(run, mapper, slices, workers=workers)
        table, problems = in_parts(
            run,
            slices,
            writer.write,
            rows=rows_at_a_time(mapper.preset.images, most=ROWS),
            told=[*told, *unread],
            progress=progress,
        )
        problems += writer.join_volumes(table)
        run.write_problems(problems)
        run.write_results(table, name="predictions")
        drop_parts(run)
        run.finish()
        return table
