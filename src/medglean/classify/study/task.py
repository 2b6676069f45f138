"""The study `cxr2022`: the report's tables and figures on one of its sets."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medglean.classify.prepare import Chosen, choose, open_images
from medglean.classify.study.cells import cells_of_study, check_pretrained, left_out
from medglean.classify.study.measured import measured
from medglean.classify.study.page import study_report
from medglean.classify.study.plan import read_plan, write_plan
from medglean.classify.study.sets import Given, images_of_set, keep_indexed
from medglean.classify.study.settings import MAY_CHANGE, CxrStudyPreset
from medglean.classify.study.train_all import train_all
from medglean.classify.training import check_parts
from medglean.data.cache import CACHE_NAME, Progress, default_cache
from medglean.data.manifest import Manifest
from medglean.data.splits import split_hash
from medglean.errors import DataError
from medglean.runs.report import Report
from medglean.runs.rundir import RunFolder
from medglean.runs.stored import stored_report

log = logging.getLogger("medglean")


def cxr2022(
    source: str | Path | Manifest,
    preset: CxrStudyPreset,
    *,
    dataset: str,
    out: Path,
    command: Sequence[str],
    resume: bool = False,
    cache: Path | None = None,
    workers: int = 2,
    progress: Progress | None = None,
) -> Report:
    """Train every cell of the report's tables on one set, and set them beside one another.

    Parameters
    ----------
    source
        A manifest, its file, or the folder of the set, which is indexed.
    preset
        What all cells start from; ``preset.study`` says which there are.
    dataset
        One of `medglean.classify.study.sets.LAYOUTS`.
    out
        Folder to make. Each training is a run of its own in ``cells/``: a study that was stopped
        goes on with what is missing.
    command
        The command line, for the record.
    resume
        Go on with the study in ``out``.
    cache
        Folder of decoded images; by default beside the manifest, or for a folder beside ``out``.
        A cell on fewer images or classes has a cache of its own in it.
    workers
        Images decoded at the same time.
    progress
        Called as ``progress(done, total)`` while images are indexed and decoded.

    Returns
    -------
    Report
        With the networks' metrics; ``results.json`` holds all for the documentation.

    Raises
    ------
    CheckpointError
        If the weights of the pretrained row cannot be had. Nothing was trained then.
    DataError
        If a folder is of another set, or there is nothing to learn from or to test on.
    Interrupted
        After Ctrl-C or SIGTERM, resumable.
    """
    given = images_of_set(
        source, dataset, out=out, resume=resume, workers=workers, progress=progress
    )
    kept = _cache_of(given, out) if cache is None else cache
    preset = _with_absolute_weights(preset)
    chosen = choose(given.manifest, preset, workers=workers, cache=kept)
    _check(preset, chosen, out)
    with RunFolder.create(
        out,
        preset_toml=preset.to_toml(),
        command=command,
        manifest_hash=given.manifest.hash,
        seed=preset.fit.seed,
        split_hash=split_hash(chosen.manifest),
        asked={"dataset": dataset},
        task="classify-cxr2022",
        resume=resume,
        may_change=MAY_CHANGE,
    ) as run:
        if run.is_done:
            return stored_report(run)
        keep_indexed(run, given)
        write_plan(run, chosen, cache=kept, workers=workers, command=command)
        parts = chosen.manifest.frame[["id", "split"]]
        run.write("split.csv", parts.to_csv(index=False, lineterminator="\n"))
        images = open_images(
            chosen.manifest,
            preset,
            column=chosen.column,
            classes=chosen.classes,
            cache=kept,
            workers=workers,
            progress=progress,
        )
        sizes = {part: len(images.positions(part)) for part in ("train", "val", "test")}
        check_parts(images, sizes, chosen.classes, chosen.kind)
        problems = [
            *given.manifest.warnings,
            *given.problems,
            *chosen.problems,
            *left_out(preset, chosen),
            *images.failures,
            *images.warnings,
        ]
        run.write_problems(problems)
        readable = {images.ids[row] for row in images.positions()}
        plan = read_plan(out)
        outcomes = train_all(plan, progress=progress)
        trained = measured(plan, plan.cells, outcomes, readable=readable)
        report = study_report(
            run,
            preset,
            trained,
            dataset=dataset,
            chosen=chosen,
            problems=problems,
            command=command,
        )
        crossing = [str(one) for one in chosen.problems if one.kind == "groups-across-parts"]
        report = replace(report, warnings=[*crossing, *report.warnings])
        report.write(run.path)
        run.finish()
        return report


def _cache_of(given: Given, out: Path) -> Path:
    return out.absolute().parent / CACHE_NAME if given.is_indexed else default_cache(given.manifest)


def _with_absolute_weights(preset: CxrStudyPreset) -> CxrStudyPreset:
    """Name a weights file so that a job finds it from wherever it is started."""
    weights = preset.study.pretrained
    if weights in ("none", "imagenet"):
        return preset
    study = preset.study.model_copy(update={"pretrained": str(Path(weights).absolute())})
    return preset.model_copy(update={"study": study})


def _check(preset: CxrStudyPreset, chosen: Chosen, out: Path) -> None:
    """Refuse, before anything is written, what would fail after hours."""
    if not (chosen.manifest.frame["split"] == "test").any():
        raise DataError(
            "the study compares on a test part, and there is none. Set split.test above 0."
        )
    cells_of_study(preset, chosen)
    if not (out / "done").exists():
        check_pretrained(preset, len(chosen.classes))
