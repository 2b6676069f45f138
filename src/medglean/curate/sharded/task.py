"""Choose which images to label among more than one machine can hold: the command over shards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medglean.curate.lists import write_lists
from medglean.curate.page import Cost, curation_report
from medglean.curate.pool import choosable, taken_beforehand
from medglean.curate.settings import CuratePreset
from medglean.curate.sharded.ask import (
    ask,
    check_shards,
    choosable_part,
    default_shards,
    limits_of,
    refuse_preset,
)
from medglean.curate.sharded.look import Sharded, look_into_shards
from medglean.curate.sharded.page import charts_of_sample, over_shards
from medglean.curate.shards.cluster import Progress
from medglean.curate.shards.encoders import ImageEncoder, make_encoder
from medglean.curate.shards.engine import ShardedRun, run_sharded
from medglean.curate.task import asked_for
from medglean.data.manifest import Manifest
from medglean.runs.environment import describe_environment
from medglean.runs.report import Report
from medglean.runs.rundir import RunFolder
from medglean.runs.stored import stored_report

TASK = "curate over shards"
MAY_CHANGE = frozenset({"summary"})
SHARDS_FOLDER = "shards"


def curate_sharded(
    manifest: Manifest,
    preset: CuratePreset,
    *,
    out: Path,
    budget: str | float,
    command: Sequence[str],
    shards: int | None = None,
    oversample: float | None = None,
    address: str | None = None,
    preselected: Path | None = None,
    resume: bool = False,
    workers: int = 2,
    progress: Progress | None = None,
) -> Report:
    """Choose which images to label, with Ray, in shards of whole patients.

    Nothing but parts of the embedding is ever in memory. Images of a validation or test part are
    neither chosen nor embedded.

    Parameters
    ----------
    manifest
        Any images; labels are not used to choose.
    preset
        How to embed and to choose: method ``enrich`` or ``random``, no outlier gate.
    out
        Folder to make, on a disk that all workers see: what `medglean.curate.task.curate` writes,
        but for ``embedding.npz``; what the shards gave is in ``shards``.
    budget
        How many images to label: a number, or a share of those that can be chosen, those that
        turn out to be unreadable among them.
    command
        The command line, for the record.
    shards
        How many; None: one for 20,000 images, and at most one for each patient.
    oversample
        Each shard puts forward so many times its share of the budget. None: the whole budget,
        for which a factor is proven beforehand.
    address
        Of a Ray cluster that runs already, such as ``"auto"``; None: one is started here.
    preselected
        CSV or Parquet with a column ``id``: images taken beforehand.
    resume
        Go on with the run in ``out``: shards that are done are not computed again.
    workers
        Images decoded at the same time while the encoder learns.
    progress
        Called with the stage, how many shards are done, and how many there are.

    Returns
    -------
    Report
        What was written as ``report.html`` and ``report.json``.

    Raises
    ------
    UsageError
        If a setting needs all images at once, the budget cannot be met, or Ray is missing.
    EmbeddingError
        If fewer images than are to be selected could be embedded.
    DataError
        If no image can be chosen.
    """
    refuse_preset(preset)
    pool = choosable_part(manifest)
    taken = taken_beforehand(pool, preset, preselected)
    asked = ask(pool, preset, budget, taken)
    limits = limits_of(pool, preset)
    count = default_shards(pool) if shards is None else shards
    check_shards(pool, asked, shards=count, oversample=oversample)
    with RunFolder.create(
        out,
        preset_toml=preset.to_toml(),
        command=command,
        manifest_hash=manifest.hash,
        seed=preset.seed,
        asked={
            **asked_for(budget, preselected),
            "shards": count,
            "oversample": oversample,
        },
        task=TASK,
        resume=resume,
        may_change=MAY_CHANGE,
    ) as run:
        if run.is_done:
            return stored_report(run)
        encoder = make_encoder(
            pool, preset.embedding, folder=run.path / "encoder", seed=preset.seed, workers=workers
        )
        folder = run.path.resolve() / SHARDS_FOLDER  # workers start elsewhere
        done = run_sharded(
            pool,
            encoder=encoder,
            out=folder,
            shards=count,
            budget=asked.budget,
            start=asked.start,
            seed=preset.seed,
            method=asked.method,
            preselected=taken,
            limits=limits,
            oversample=oversample,
            stop_similarity=preset.selection.stop_similarity,
            batch=preset.embedding.batch_size,
            alike=preset.duplicates.min_similarity,
            most_pairs=preset.duplicates.most,
            address=address,
            progress=progress,
        )
        found = look_into_shards(pool, done, folder, asked=asked, preset=preset)
        problems = [*manifest.warnings, *encoder.problems, *done.problems]
        write_lists(run, found.curation, problems, counted=found.counted)
        report = _page(run, manifest, found, done, encoder, preset, oversample)
        report.write(run.path)
        run.write_metrics({metric.name: vars(metric) for metric in report.metrics})
        run.finish()
        return report


def _page(
    run: RunFolder,
    manifest: Manifest,
    found: Sharded,
    done: ShardedRun,
    encoder: ImageEncoder,
    preset: CuratePreset,
    oversample: float | None,
) -> Report:
    report = curation_report(
        found.curation,
        name=Path(manifest.path or "the manifest").name,
        cost=Cost(preset.report.seconds_per_image, preset.report.minutes_per_mask),
        problems=[*manifest.warnings, *encoder.problems, *done.problems],
        figures=charts_of_sample(found, seed=preset.seed),
        done={
            "preset": preset.name,
            "engine": "ray",
            "encoder": encoder.record["name"],
            "encoder SHA-256": encoder.record["sha256"],
            "numbers per image": found.values.shape[1],
            "source": preset.source.paper or "medglean",
            "deviations": " ".join(preset.source.deviations) or "none",
        },
        data={
            "kept out, being of a validation or test part": int((~choosable(manifest)).sum()),
            "manifest SHA-256": run.record["manifest_hash"],
        },
        provenance={**describe_environment(run.record["command"]), "seed": preset.seed},
    )
    asked = preset.selection
    return over_shards(
        report,
        found,
        done,
        oversample=oversample,
        bounded=asked.method == "enrich"
        and asked.max_per_group is None
        and asked.stop_similarity is None,
    )
