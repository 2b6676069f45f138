"""The study `enrich`: subsets by several methods, and what they teach, beside all images."""

from __future__ import annotations

import io
import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medglean.curate.study import page
from medglean.curate.study.analysis import Findings, analyse
from medglean.curate.study.cells import Cell, run_cells, table
from medglean.curate.study.material import Material, open_material, usable_rows
from medglean.curate.study.orders import embed_pool, subsets
from medglean.curate.study.plan import Replicate, is_fixed, replicates
from medglean.curate.study.redundant import redundancy_of_pool
from medglean.curate.study.settings import FULL, EnrichStudyPreset
from medglean.data.cache import Progress, default_cache
from medglean.data.manifest import Manifest
from medglean.errors import Problem
from medglean.runs.environment import describe_environment
from medglean.runs.records import records as records_of
from medglean.runs.report import Figure, Report, Table
from medglean.runs.rundir import RunFolder
from medglean.runs.stored import stored_report

TASK = "enrich-study"
MAY_CHANGE = frozenset({"processes", "summary"})
log = logging.getLogger("medglean")


def enrich(
    manifest: Manifest,
    preset: EnrichStudyPreset,
    *,
    out: Path,
    command: Sequence[str],
    resume: bool = False,
    cache: Path | None = None,
    workers: int = 2,
    progress: Progress | None = None,
) -> Report:
    """Run the paper's experiment on a manifest.

    For each replicate the training pool is embedded, every method selects from it, and a learner
    is trained on every subset and on the whole pool and measured on other patients.

    Parameters
    ----------
    manifest
        With ``label`` (or the column that the preset names) or, for a U-Net, ``mask``.
    preset
        Sizes, methods, replicates, learner.
    out
        Folder to make: ``cells/`` with one file per cell, ``cells.csv``, ``selections/``,
        ``replicates.csv``, ``results.json``, the report.
    command
        As typed.
    resume
        Go on with the study in ``out``: cells that are there are not trained again.
    cache
        Folder of decoded images; by default ``.medglean-cache`` beside the manifest.
    workers
        Images decoded at the same time. How many cells run at the same time says
        ``preset.processes``.
    progress
        Called as ``progress(done, total)``: while images are decoded, then for each cell.

    Returns
    -------
    Report
        With one metric per method and size; ``results.json`` holds them for the documentation.

    Raises
    ------
    DataError
        If there is nothing to learn or to test on; `medglean.curate.study.material` and
        `medglean.curate.study.plan` say when.
    UsageError
        If a size is larger than the pool, or a method is not known.
    """
    with RunFolder.create(
        out,
        preset_toml=preset.to_toml(),
        command=command,
        manifest_hash=manifest.hash,
        seed=preset.seed,
        task=TASK,
        resume=resume,
        may_change=MAY_CHANGE,
    ) as run:
        if run.is_done:
            return stored_report(run)
        rows, classes, problems = usable_rows(manifest, preset)
        repeated = replicates(rows, preset)  # before an hour of decoding
        material, rows, unread = open_material(
            rows,
            preset,
            classes,
            cache=default_cache(manifest) if cache is None else cache,
            folder=run.path / "work",
            workers=workers,
            progress=progress,
        )
        if unread:
            repeated = replicates(rows, preset)
        study = _Study(run, rows, material, preset, repeated, [*problems, *unread])
        _write_replicates(study)
        redundant = study.select(
            cache=default_cache(manifest) if cache is None else cache,
            workers=workers,
            progress=progress,
        )
        records = study.learn(progress)
        report = _report(study, table(records, primary=preset.primary), redundant, command)
        report.write(run.path)
        shutil.rmtree(run.path / "work", ignore_errors=True)
        run.finish()
        return report


class _Study:
    """What the steps of one study share.

    Parameters
    ----------
    run
        Where everything is written.
    rows
        The manifest's rows that can be used.
    material, preset, repeated
        What is learnt from, how, and how often.
    problems
        What was left out; selections add what they warn of.
    """

    def __init__(
        self,
        run: RunFolder,
        rows: Manifest,
        material: Material,
        preset: EnrichStudyPreset,
        repeated: list[Replicate],
        problems: list[Problem],
    ) -> None:
        self.run, self.rows, self.material = run, rows, material
        self.preset, self.repeated, self.problems = preset, repeated, problems
        self.fixed = is_fixed(rows, preset)
        self.groups = rows.groups(preset.group)
        self.selections: list[pd.DataFrame] = []

    def select(
        self, *, cache: Path | None, workers: int, progress: Progress | None
    ) -> list[Figure | Table]:
        """Let every method select for every replicate; tell how redundant the first pool is."""
        values: np.ndarray | None = None
        redundant: list[Figure | Table] = []
        for one in self.repeated:
            name = f"selections/{one.number:03}.parquet"
            kept = self.run.path / name
            is_first = one.number == 0
            if kept.is_file() and not is_first:
                self.selections.append(pd.read_parquet(kept))
                continue
            if values is None or not self.fixed:
                values, told = embed_pool(
                    self.rows,
                    one,
                    self.preset,
                    folder=self.run.path / "work",
                    cache=cache,
                    fixed=self.fixed,
                    workers=workers,
                    progress=progress,
                )
                if is_first:
                    self.problems += told
            if is_first:
                named = self._group_name()
                redundant += redundancy_of_pool(values, self.groups[one.pool], named)
            chosen, told_of = subsets(self.rows, one, values, self.preset)
            if is_first:
                self.problems += _once(told_of)
            self.selections.append(chosen)
            if not kept.is_file():
                self._write_selection(name, chosen)
        return redundant

    def _write_selection(self, name: str, chosen: pd.DataFrame) -> None:
        ids = np.array(self.rows.ids, dtype=object)
        with_ids = chosen.assign(id=ids[chosen["row"].to_numpy()])
        content = io.BytesIO()
        with_ids.to_parquet(content, index=False)
        self.run.write(name, content.getvalue())

    def _group_name(self) -> str:
        return self.preset.group if self.preset.group in self.rows.frame else "patient"

    def learn(self, progress: Progress | None) -> list[dict[str, Any]]:
        """Train and measure every cell that is not there yet; return the records of all."""
        cells = self.cells()
        known = {cell.name: self._record_of(cell) for cell in cells}
        records = [record for record in known.values() if record is not None]
        missing = [cell for cell in cells if known[cell.name] is None]
        log.info("%d of %d cells are to do", len(missing), len(cells))
        names = {(cell.replicate, cell.method, cell.size): cell.name for cell in cells}
        for record in run_cells(
            missing,
            self.material,
            self.preset.learner,
            seed=self.preset.seed,
            folder=self.run.path / "work",
            processes=self.preset.processes,
        ):
            name = names[(record["replicate"], record["method"], record["size"])]
            self.run.write_json(f"cells/{name}.json", record)
            records.append(record)
            log.info("cell %s: %s in %.1f s", name, record["scores"], record["seconds"])
            if progress is not None:
                progress(len(records), len(cells))
        return records

    def _record_of(self, cell: Cell) -> dict[str, Any] | None:
        """Return a cell's record from an earlier sitting; None where it is to be done (again)."""
        file = self.run.path / "cells" / f"{cell.name}.json"
        if not file.is_file():
            return None
        record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return record if record.get("fingerprint") == cell.fingerprint() else None

    def cells(self) -> list[Cell]:
        """Return all cells: those of the first replicate first, so that a broken study is whole."""
        found = []
        for one, chosen in zip(self.repeated, self.selections, strict=True):
            for (method, size), part in chosen.groupby(["method", "size"], sort=False):
                found.append(self._cell(one, str(method), str(size), part["row"].to_numpy()))
            found.append(self._cell(one, FULL, FULL, one.pool))
        return found

    def _cell(self, one: Replicate, method: str, size: str, rows: np.ndarray) -> Cell:
        classes = self.material.classes
        counts: list[int] = []
        if classes:
            counts = np.bincount(self.material.targets[rows], minlength=len(classes)).tolist()
        return Cell(
            one.number,
            method,
            size,
            rows,
            one.test,
            one.pool,
            patients=len(set(self.material.patients[rows])),
            groups=len(set(self.groups[rows])),
            classes=dict(zip(classes, counts, strict=True)),
        )


def _once(problems: Sequence[Problem]) -> list[Problem]:
    """Return each kind of problem once: every method and size tells the same of an embedding."""
    return list({problem.kind: problem for problem in reversed(problems)}.values())


def _write_replicates(study: _Study) -> None:
    """Write who was in the pool and who in the test of each replicate."""
    frame = pd.DataFrame({"id": study.rows.ids})
    for one in study.repeated:
        parts = np.full(len(frame), "", dtype=object)
        parts[one.pool], parts[one.test] = "pool", "test"
        frame[f"replicate {one.number}"] = parts
    study.run.write("replicates.csv", frame.to_csv(index=False, lineterminator="\n"))


def _report(
    study: _Study,
    cells: pd.DataFrame,
    redundant: Sequence[Figure | Table],
    command: Sequence[str],
) -> Report:
    preset, run = study.preset, study.run
    share = float(np.mean([one.test_share for one in study.repeated]))
    findings = analyse(
        cells,
        methods=preset.methods,
        baselines=preset.baselines,
        level=preset.level,
        paired=not study.fixed,
        test_share=share,
    )
    group = study._group_name()
    measured = page.metrics(findings, preset)
    provenance = {**describe_environment(command), "seed": preset.seed}
    run.write("cells.csv", cells.to_csv(index=False, lineterminator="\n"))
    run.write_metrics({metric.name: vars(metric) for metric in measured})
    cores = provenance["cpu"]["count"]
    run.write_json("results.json", records_of(measured, command, cores=cores))
    run.write_problems(study.problems)
    return Report(
        title=f"{preset.name}: {preset.learner.name} on {len(study.rows):,} images",
        sentence=page.sentence(findings, preset),
        metrics=measured[:1],
        tables=[
            page.score_table(findings, preset),
            *(page.gain_table(findings, other) for other in (*preset.baselines, FULL)),
            page.enough_table(findings, preset),
            page.subset_table(findings, group=group),
            *(one for one in redundant if isinstance(one, Table)),
        ],
        figures=[
            *page.figures(findings, preset, group=group),
            *(one for one in redundant if isinstance(one, Figure)),
        ],
        problems=study.problems,
        warnings=_warnings(findings, preset),
        done=_done(study, cells),
        data={
            "images used": len(study.rows),
            "kept together": study.rows.grouped_by,
            "classes": ", ".join(study.material.classes or study.material.structures),
            "manifest SHA-256": run.record["manifest_hash"],
        },
        provenance=provenance,
    )


def _warnings(findings: Findings, preset: EnrichStudyPreset) -> list[str]:
    warnings = [page.cannot_reach(findings, preset)]
    if preset.balanced_groups is not None:
        warnings.append(
            f"The training pool was first reduced to {preset.balanced_groups} random image(s) of "
            "every group: 'all images' means all of these."
        )
    return [text for text in warnings if text]


def _done(study: _Study, cells: pd.DataFrame) -> dict[str, object]:
    preset = study.preset
    learner = preset.learner
    length = f"components of the {learner.components}" if learner.name == "pca-logistic" else (
        f"{learner.steps} steps for every subset" if learner.length == "steps"
        else f"{learner.fit.epochs} epochs for every subset"
    )  # fmt: skip
    return {
        "preset": preset.name,
        "methods": ", ".join(preset.methods),
        "embedding": preset.embedding.encoder,
        "learner": learner.name,
        "training": length,
        "replicates": preset.replicates,
        "test images": "the same for all replicates"
        if study.fixed
        else f"{100 * preset.test.share:g} % of the patients, others for each replicate",
        "selection sees": "the training pool's images, no labels, no test image",
        "cells": len(cells),
        "seconds per cell": round(float(cells["seconds"].mean()), 2),
        "settings SHA-256": preset.hash(),
        "source": preset.source.paper or "medglean",
        "deviations": " ".join(preset.source.deviations) or "none",
    }
