"""The study `bci2024`: the report's table and its figure of examples, on any pairs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medglean.data.cache import Progress, default_cache
from medglean.data.division import SplitSettings
from medglean.data.manifest import Manifest
from medglean.data.splits import split_hash
from medglean.runs.report import Report
from medglean.runs.rundir import RunFolder
from medglean.runs.stored import stored_report
from medglean.stain.assess import PSNR
from medglean.stain.measured import assessed, measure_rows, shown_rows
from medglean.stain.pairs import Chosen, Pairs, choose, open_pairs
from medglean.stain.registration import check_pairs
from medglean.stain.settings import MAY_CHANGE, StainPreset
from medglean.stain.study.cells import Cell, joined, read_cell, write_cell
from medglean.stain.study.folds import Fold, folds_of
from medglean.stain.study.page import Compared, study_report
from medglean.stain.study.rows import Row, Trainer, cell_key, rows_of_study

log = logging.getLogger("medglean")


def bci2024(
    manifest: Manifest,
    preset: StainPreset,
    *,
    out: Path,
    command: Sequence[str],
    resume: bool = False,
    cache: Path | None = None,
    workers: int = 2,
    progress: Progress | None = None,
) -> Report:
    """Train every method, generate the same pairs with each, and set them beside one another.

    Parameters
    ----------
    manifest, preset
        As for training; ``preset.study`` says which methods, and how pairs are divided.
    out
        Folder to make. Numbers are in ``cells/``, networks in ``networks/``: a study that was
        stopped goes on with what is missing. Where one pair or group is left out at a time, the
        networks of a fold are removed once nothing needs them.
    command
        The command line, for the record.
    resume
        Go on with the study in ``out``.
    cache
        Folder of decoded images; by default beside the manifest.
    workers
        Images decoded at the same time.
    progress
        Called as ``progress(done, total)`` while images are decoded.

    Returns
    -------
    Report
        With one metric per method and measure; ``results.json`` holds them for the documentation.

    Raises
    ------
    DataError
        If there are no pairs to learn from or to compare on.
    PresetError
        If the rows of ``study.methods`` do not go together.
    Interrupted
        After Ctrl-C or SIGTERM, resumable.
    """
    rows = rows_of_study(preset)
    kind = preset.study.folds
    chosen = choose(manifest, preset if kind == "split" else _undivided(preset))
    with RunFolder.create(
        out,
        preset_toml=preset.to_toml(),
        command=command,
        manifest_hash=manifest.hash,
        seed=preset.fit.seed,
        split_hash=split_hash(chosen.manifest),
        asked={"folds": kind},
        task="stain-bci2024",
        resume=resume,
        may_change=MAY_CHANGE,
    ) as run:
        if run.is_done:
            return stored_report(run)
        pairs = open_pairs(
            chosen.manifest,
            preset,
            cache=default_cache(manifest) if cache is None else cache,
            workers=workers,
            progress=progress,
        )
        parts = chosen.manifest.frame["split"].to_numpy(dtype=object)
        folds = folds_of(kind, pairs.positions(), pairs.images.groups, parts)
        _write_folds(run, pairs, folds)
        problems = [*manifest.warnings, *chosen.problems, *pairs.failures, *pairs.warnings]
        tested = np.sort(np.concatenate([fold.test for fold in folds]))
        apart = check_pairs(pairs, tested)
        run.write_problems([*problems, *apart])
        shown = shown_rows(pairs, tested, count=preset.study.shown)
        cells = _cells(run, pairs, chosen, folds, rows, shown)
        found = {}
        for row in rows:
            cell = joined(cells[row.name])
            own = replace(pairs, white=row.preset.white)
            measured = assessed(cell.made, own, row.preset, problems=apart)
            found[row.name] = Compared(row, measured, cell.cost)
            log.info("%s: PSNR %.2f dB", row.name, measured.assessment.metrics[PSNR].value)
        report = study_report(
            run, preset, pairs, folds, found, shown=shown, problems=[*problems, *apart],
            command=command,
        )  # fmt: skip
        report.write(run.path)
        run.finish()
        return report


def _undivided(preset: StainPreset) -> StainPreset:
    """Return the preset with all pairs in one part: the study divides them."""
    split = SplitSettings(
        train=1.0, val=0.0, test=0.0, group="id", stratify=None, anew=True, seed=preset.split.seed
    )
    return preset.model_copy(update={"split": split})


def _cells(
    run: RunFolder,
    pairs: Pairs,
    chosen: Chosen,
    folds: Sequence[Fold],
    rows: Sequence[Row],
    shown: Sequence[int],
) -> dict[str, list[Cell]]:
    """Return each row's cells, fold by fold: read, or trained, generated and measured."""
    cells: dict[str, list[Cell]] = {row.name: [] for row in rows}
    for number, fold in enumerate(folds, start=1):
        names = {
            row.name: f"cells/{fold.name}/{row.slug}-{cell_key(row, fold, pairs)}" for row in rows
        }
        known = {row.name: read_cell(run, names[row.name], shown) for row in rows}
        missing = [row for row in rows if known[row.name] is None]
        trainer = Trainer(run, pairs, chosen, fold, missing, keep=fold.name == "split")
        for row in rows:
            cell = known[row.name]
            if cell is None:
                log.info("fold %d of %d, %s", number, len(folds), row.name)
                cell = _made(trainer, row, pairs, fold, shown)
                write_cell(run, names[row.name], cell)
                trainer.done(row)
            cells[row.name].append(cell)
    return cells


def _made(trainer: Trainer, row: Row, pairs: Pairs, fold: Fold, shown: Sequence[int]) -> Cell:
    """Train a row's networks, and measure what they make of the fold's test rows."""
    stainer, cost = trainer.of(row)
    own = replace(pairs, white=row.preset.white)
    stainer = stainer.on_device(row.preset.fit.accelerator)
    keep = sorted(set(fold.test.tolist()) & set(shown))
    return Cell(measure_rows(stainer, own, fold.test, keep=keep), cost)


def _write_folds(run: RunFolder, pairs: Pairs, folds: Sequence[Fold]) -> None:
    """Write in which fold each pair is measured; the others it is learnt from, or left out."""
    frame = pairs.manifest.frame[["id", "split"]].copy()
    places = np.full(len(frame), "", dtype=object)
    for fold in folds:
        places[fold.test] = fold.name
    frame["fold"] = places
    run.write("split.csv", frame.to_csv(index=False, lineterminator="\n"))
