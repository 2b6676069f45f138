"""The study `wolleb2022`: the paper's table and figures, on any healthy and diseased images."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medglean.anomaly.measured import Measured, assess, rows_of
from medglean.anomaly.model import Mapper
from medglean.anomaly.prepare import Chosen, choose, column_of, open_images
from medglean.anomaly.settings import AnomalyPreset
from medglean.anomaly.study.curves import Sweep, few, part_of, sweep, translating
from medglean.anomaly.study.page import study_report
from medglean.anomaly.study.rows import (
    Cells,
    Networks,
    Row,
    calibration_key,
    mapper_of,
    rows_of_study,
    train_all,
)
from medglean.anomaly.task import MAY_CHANGE, calibrated
from medglean.anomaly.training import check_parts
from medglean.data.cache import Progress, default_cache
from medglean.data.imageset import ImageSet
from medglean.data.manifest import Manifest
from medglean.data.splits import split_hash
from medglean.errors import DataError
from medglean.runs.report import Report
from medglean.runs.rundir import RunFolder
from medglean.runs.stored import stored_report

log = logging.getLogger("medglean")


def wolleb2022(
    manifest: Manifest,
    preset: AnomalyPreset,
    *,
    out: Path,
    command: Sequence[str],
    resume: bool = False,
    cache: Path | None = None,
    workers: int = 2,
    progress: Progress | None = None,
) -> Report:
    """Train every method, map the same test images with each, and set them beside one another.

    Parameters
    ----------
    manifest, preset
        As for `medglean.anomaly.task.fit`; ``preset.study`` says which methods, and over which
        noise levels and guidance scales the figures go.
    out
        Folder to make. Networks are in ``networks/``, maps in ``cells/``: a study that was stopped
        goes on with what is missing.

    Returns
    -------
    Report
        With one metric per method and measure; ``results.json`` holds them for the documentation.

    Raises
    ------
    DataError
        If the preset keeps no test part, or no test image has a mask.
    """
    rows = rows_of_study(preset)
    chosen = choose(manifest, preset)
    if not (chosen.manifest.frame["split"] == "test").any():
        raise DataError(
            "the study compares on a test part, and there is none. Set split.test above 0."
        )
    with RunFolder.create(
        out,
        preset_toml=preset.to_toml(),
        command=command,
        manifest_hash=manifest.hash,
        seed=preset.fit.seed,
        split_hash=split_hash(chosen.manifest),
        task="anomaly-wolleb2022",
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
        networks = train_all(run, images, chosen, rows)
        measured = _measured(run, images, chosen, rows, networks, progress)
        swept = _swept(run, measured, rows, networks, chosen, preset)
        report = study_report(run, preset, chosen, images, measured, swept, networks, command)
        report.write(run.path)
        run.finish()
        return report


def _measured(
    run: RunFolder,
    images: ImageSet,
    chosen: Chosen,
    rows: Sequence[Row],
    networks: Networks,
    progress: Progress | None,
) -> dict[str, tuple[Mapper, Measured]]:
    """Map the test images with every row's method, and measure the maps."""
    test = images.positions("test", labelled=False)
    column = column_of(chosen.manifest)
    found: dict[str, tuple[Mapper, Measured]] = {}
    for row in rows:
        mapper = mapper_of(row, networks, chosen).on_device(row.preset.fit.accelerator)
        of = rows_of(images, test, chosen.targets, mapper, column)
        if not of.has_masks:
            raise DataError(
                "no test image has a mask, so there is nothing to compare methods by. Give the "
                "manifest a column 'mask', or use `medglean train anomaly` with one method."
            )
        mapper = _calibrated(run, row, mapper, images, chosen)
        cell = Cells(run, of.images, of.ids).of(row, mapper, progress=progress)
        assessment = assess(mapper, of, cell.mapped)
        found[row.name] = (mapper, Measured(of, cell.mapped, assessment, cell.cpu_seconds))
        name, interval = assessment.primary
        log.info("%s: %s %.3f", row.name, name, interval.value)
    return found


def _calibrated(
    run: RunFolder, row: Row, mapper: Mapper, images: ImageSet, chosen: Chosen
) -> Mapper:
    """Measure scales and thresholds on healthy validation images, once."""
    name = f"cells/{row.slug}-{calibration_key(mapper)}-scales.json"
    if (run.path / name).is_file():
        stored = run.read_json(name)
        return replace(mapper, scales=stored["scales"], thresholds=stored["thresholds"])
    mapper = calibrated(mapper, images, chosen.targets)
    run.write_json(name, {"scales": dict(mapper.scales), "thresholds": dict(mapper.thresholds)})
    return mapper


def _swept(
    run: RunFolder,
    measured: dict[str, tuple[Mapper, Measured]],
    rows: Sequence[Row],
    networks: Networks,
    chosen: Chosen,
    preset: AnomalyPreset,
) -> Sweep | None:
    """Map a few images under every L and s, with the first row that translates under guidance."""
    row = translating(rows)
    if row is None or preset.study.curve_images == 0:
        return None
    mapper, found = measured[row.name]
    places = few(found.of, count=preset.study.curve_images)
    of = part_of(found.of, places)
    return sweep(Cells(run, of.images, of.ids), mapper, of, preset)
