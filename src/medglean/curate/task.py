"""Choose which images of a manifest to label, and write the work list with its reasons."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medglean.curate import tables
from medglean.curate.budget import count_of
from medglean.curate.curation import Curation, look_into
from medglean.curate.duplicates import Leakage, leakage, near_duplicates
from medglean.curate.embed import Embedded, embed
from medglean.curate.embed.result import Embedding, save_embedding
from medglean.curate.lists import write_lists
from medglean.curate.outliers import OutlierGate
from medglean.curate.page import Cost, curation_report
from medglean.curate.pool import Pool, choosable, make_pool
from medglean.curate.select import Selection, select
from medglean.curate.settings import CuratePreset
from medglean.data.cache import Progress, default_cache
from medglean.data.manifest import Manifest
from medglean.errors import Problem, UsageError
from medglean.files import sha256_of_file
from medglean.runs.environment import describe_environment
from medglean.runs.report import Report
from medglean.runs.rundir import RunFolder
from medglean.runs.stored import stored_report

TASK = "curate"
MOST_COMPARED = 1_000_000
"""Near-duplicates that are looked through for pairs across a split; the most similar ones."""
MAY_CHANGE = frozenset({"summary"})
log = logging.getLogger("medglean")


def curate(
    manifest: Manifest,
    preset: CuratePreset,
    *,
    out: Path,
    budget: str | float,
    command: Sequence[str],
    preselected: Path | None = None,
    resume: bool = False,
    cache: Path | None = None,
    workers: int = 2,
    progress: Progress | None = None,
) -> Report:
    """Choose which images to label.

    Where the manifest has a split, images of its training part (and those in no part) can be
    chosen, and no other is looked at but for near-duplicates across the parts.

    Parameters
    ----------
    manifest
        Any images; labels are not used to choose.
    preset
        How to embed and to choose.
    out
        Folder to make: ``selected.csv``, ``order.csv``, ``dropped.csv``, ``duplicates.csv``,
        ``outliers.csv``, ``leakage.csv`` where there is a split, ``redundancy.json``,
        ``embedding.npz``, the report.
    budget
        How many images to label: a number, or a share such as "44%" of those that can be chosen.
    command
        The command line, for the record.
    preselected
        CSV or Parquet with a column ``id``: images taken beforehand, which the choice is made
        beside.
    resume
        Go on with the run in ``out``; one that is done is left as it is.
    cache
        Folder of decoded images and finished embeddings; by default beside the manifest.
    workers
        Images decoded at the same time.
    progress
        Called as ``progress(done, total)`` while images are decoded and embedded.

    Returns
    -------
    Report
        What was written as ``report.html`` and ``report.json``.

    Raises
    ------
    UsageError
        If the budget or a setting cannot be met.
    EmbeddingError
        If embeddings are not finite or do not match the manifest.
    DataError
        If no image can be read or chosen.
    """
    with RunFolder.create(
        out,
        preset_toml=preset.to_toml(),
        command=command,
        manifest_hash=manifest.hash,
        seed=preset.seed,
        asked=asked_for(budget, preselected),
        task=TASK,
        resume=resume,
        may_change=MAY_CHANGE,
    ) as run:
        if run.is_done:
            return stored_report(run)
        kept = default_cache(manifest) if cache is None else cache
        found = embed(
            manifest,
            preset.embedding,
            folder=run.path / "encoder",
            cache=kept,
            seed=preset.seed,
            workers=workers,
            progress=progress,
        )
        _save(run, found.embedding)
        pool = make_pool(
            manifest, found, preset, preselected=preselected, cache=kept, workers=workers
        )
        selection = _select(pool, preset, budget)
        curation = _look_into(pool, selection, preset)
        problems = [*manifest.warnings, *found.problems]
        write_lists(run, curation, problems)
        curation = replace(curation, leaks=_leaks(run, manifest, found, preset))
        report = _page(run, manifest, curation, preset, found, pool, problems)
        report.write(run.path)
        run.write_metrics({metric.name: vars(metric) for metric in report.metrics})
        run.finish()
        return report


def _leaks(
    run: RunFolder, manifest: Manifest, found: Embedded, preset: CuratePreset
) -> Leakage | None:
    """Write ``leakage.csv``: near-duplicates in different parts of a split, of all images."""
    if "split" not in manifest.frame:
        return None
    seen = manifest.select(found.ok)
    pairs = near_duplicates(
        found.embedding.values, threshold=preset.duplicates.min_similarity, most=MOST_COMPARED
    )
    leaks = leakage(
        pairs,
        seen.frame["split"].tolist(),
        patients=seen.frame["patient"].tolist() if "patient" in seen.frame else None,
    )
    listed = tables.duplicates(seen, leaks.pairs, leaks=leaks)
    run.write("leakage.csv", tables.csv_text(listed))
    return leaks


def asked_for(budget: str | float, preselected: Path | None) -> dict[str, str | None]:
    """Return what a resumed curation must be asked for again."""
    before = None
    if preselected is not None and preselected.is_file():  # absent: told when it is read
        before = sha256_of_file(preselected)
    return {"budget": str(budget), "images taken beforehand": before}


def _save(run: RunFolder, embedding: Embedding) -> None:
    """Keep the embedding in the run: what was chosen can be looked into again."""
    save_embedding(run.path / "embedding.npz", embedding)


def _select(pool: Pool, preset: CuratePreset, budget: str | float) -> Selection:
    asked, gate = preset.selection, preset.outliers
    column = _column_of(pool.manifest)
    return select(
        pool.values,
        budget=count_of(budget, len(pool.manifest) - len(pool.taken)),
        method=asked.method,
        groups=column(asked.group),
        patients=column(asked.patient),
        strata=None if asked.stratum is None else _strata(pool.manifest, asked.stratum),
        quotas=asked.quotas or None,
        max_per_group=asked.max_per_group,
        preselected=pool.taken,
        start=asked.start,
        stop_similarity=asked.stop_similarity,
        outlier_gate=OutlierGate(
            neighbour=gate.neighbour,
            deviations=gate.deviations,
            least_deviation=gate.least_deviation,
            least_contrast=gate.least_contrast,
            most_share=gate.most_share,
        )
        if gate.gate
        else None,
        thumbnails=pool.thumbnails,
        neighbours=asked.neighbours,
        draws=asked.draws,
        seed=preset.seed,
        ids=pool.manifest.ids,
    )


def _column_of(manifest: Manifest) -> Callable[[str], np.ndarray | None]:
    """Return a function from a column's name to its groups; None where there is no such column."""

    def column(name: str) -> np.ndarray | None:
        return manifest.groups(name) if name in manifest.frame else None

    return column


def _strata(manifest: Manifest, name: str) -> np.ndarray:
    if name not in manifest.frame:
        raise UsageError(
            f"selection.stratum is {name!r}, and the manifest has no such column. It has "
            f"{', '.join(map(str, manifest.frame.columns))}."
        )
    strata: np.ndarray = manifest.frame[name].fillna("unknown").astype(str).to_numpy()
    return strata


def _look_into(pool: Pool, selection: Selection, preset: CuratePreset) -> Curation:
    return look_into(
        pool.manifest,
        pool.values,
        selection,
        thumbnails=pool.thumbnails if preset.duplicates.structural else None,
        thresholds=preset.report.thresholds,
        min_similarity=preset.duplicates.min_similarity,
        most_pairs=preset.duplicates.most,
        draws=min(preset.selection.draws, 5),
        seed=preset.seed,
    )


def _page(
    run: RunFolder,
    manifest: Manifest,
    curation: Curation,
    preset: CuratePreset,
    found: Embedded,
    pool: Pool,
    problems: Sequence[Problem],
) -> Report:
    thumbnails, encoder = pool.thumbnails, found.embedding.encoder
    outside = int((~choosable(manifest)).sum())
    return curation_report(
        curation,
        name=Path(manifest.path or "the manifest").name,
        picture=None if thumbnails is None else (lambda position: thumbnails[position] / 255.0),
        cost=Cost(preset.report.seconds_per_image, preset.report.minutes_per_mask),
        problems=problems,
        done={
            "preset": preset.name,
            "encoder": encoder["name"],
            "encoder SHA-256": encoder.get("sha256", ""),
            "numbers per image": found.embedding.values.shape[1],
            "source": preset.source.paper or "medglean",
            "deviations": " ".join(preset.source.deviations) or "none",
        },
        data={
            "kept out, being of a validation or test part": outside,
            "manifest SHA-256": run.record["manifest_hash"],
        },
        provenance={**describe_environment(run.record["command"]), "seed": preset.seed},
        seed=preset.seed,
    )
