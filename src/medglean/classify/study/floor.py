"""The study `floor`: a network beside what needs no network, on the same test patients.

A classifier is worth its training only if it beats PCA of thumbnails with a logistic regression,
and if the label cannot be told from the file or the border alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from medglean.classify import task
from medglean.classify.assess import Assessment, assess
from medglean.classify.prepare import Chosen, choose, open_images
from medglean.classify.scores import read_probability
from medglean.classify.settings import ClassifyPreset
from medglean.data.audit import audit
from medglean.data.cache import Progress, default_cache
from medglean.data.imageset import ImageSet
from medglean.data.manifest import Manifest
from medglean.data.shortcuts import Probe
from medglean.data.splits import split_hash
from medglean.errors import DataError
from medglean.fitting import checkpoint
from medglean.measure import weighted
from medglean.measure.intervals import Interval, cluster_bootstrap
from medglean.nn.floor import pca_floor
from medglean.runs.environment import describe_environment
from medglean.runs.records import records
from medglean.runs.report import Metric, Report, Table, group_name
from medglean.runs.rundir import RunFolder
from medglean.runs.stored import stored_report


def floor(
    manifest: Manifest,
    preset: ClassifyPreset,
    *,
    out: Path,
    command: Sequence[str],
    resume: bool = False,
    cache: Path | None = None,
    workers: int = 2,
    progress: Progress | None = None,
) -> Report:
    """Train a network, and measure it beside its floor and the shortcut probes.

    Parameters
    ----------
    manifest, preset
        As for `medglean.classify.task.fit`.
    out
        Folder to make; the network's own run is ``network`` in it.

    Returns
    -------
    Report
        With one metric per method; ``results.json`` holds them for the documentation.

    Raises
    ------
    DataError
        If the preset keeps no test part.
    """
    kept = default_cache(manifest) if cache is None else cache
    chosen = choose(manifest, preset, workers=workers, cache=kept)
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
        task="classify-floor",
        resume=resume,
        may_change=task.MAY_CHANGE,
    ) as run:
        if run.is_done:
            return stored_report(run)
        trained = task.fit(
            manifest,
            preset,
            out=out / "network",
            command=command,
            resume=True,
            cache=kept,
            workers=workers,
            progress=progress,
        )
        images = open_images(
            chosen.manifest,
            preset,
            column=chosen.column,
            classes=chosen.classes,
            cache=kept,
            workers=workers,
        )
        rows = images.positions("test")
        network = _network(out / "network", chosen, images, rows, preset)
        base = _floor(chosen, images, rows, preset)
        probes = audit(chosen.manifest, workers=workers, seed=preset.fit.seed).probes
        report = _report(preset, chosen, network, base, images.groups[rows], probes, trained)
        report = replace(
            report,
            metrics=[*report.metrics, _training_time(out / "network", chosen)],
            provenance=describe_environment(command),
        )
        cores = report.provenance["cpu"]["count"]
        run.write_json("results.json", records(report.metrics, command, cores=cores))
        report.write(run.path)
        run.finish()
        return report


def _training_time(run: Path, chosen: Chosen) -> Metric:
    """Return the seconds in the training loop, over all sittings, as its last checkpoint has it."""
    last = checkpoint.latest(run / "checkpoints")
    seconds = math.nan if last is None else float(last.facts["state"]["seconds"])
    learnt = int((chosen.manifest.frame["split"] == "train").sum())
    return Metric("training time of the network", seconds, "s", n=learnt)


def _network(
    path: Path, chosen: Chosen, images: ImageSet, rows: np.ndarray, preset: ClassifyPreset
) -> Assessment:
    """Read the network's own scores of the test part and assess them."""
    frame = pd.read_parquet(path / "results.parquet").set_index("id")
    frame = frame.loc[[images.ids[row] for row in rows]]
    probability = read_probability(frame, chosen.classes, file=str(path / "results.parquet"))
    return _assessed(chosen, images, rows, probability, preset)


def _floor(
    chosen: Chosen, images: ImageSet, rows: np.ndarray, preset: ClassifyPreset
) -> Assessment:
    probability = pca_floor(
        images.stored,
        images.targets,
        train=images.positions("train"),
        test=rows,
        kind=chosen.kind,
        classes=len(chosen.classes),
    )
    return _assessed(chosen, images, rows, probability, preset)


def _assessed(
    chosen: Chosen,
    images: ImageSet,
    rows: np.ndarray,
    probability: np.ndarray,
    preset: ClassifyPreset,
) -> Assessment:
    return assess(
        images.targets[rows],
        probability,
        images.groups[rows],
        kind=chosen.kind,
        classes=chosen.classes,
        threshold=preset.labels.threshold,
        seed=preset.fit.seed,
    )


def gain(
    first: Assessment, second: Assessment, groups: Sequence[str] | np.ndarray, *, seed: int
) -> Interval:
    """Return by how much the mean AUROC of one exceeds the other's, on the same resamples."""
    differences = []
    for j, count in enumerate(first.support):
        if not 0 < count < first.n:
            continue
        truth = first.truth[:, j]
        a = weighted.auroc(truth, first.probability[:, j])
        b = weighted.auroc(truth, second.probability[:, j])
        differences.append(_difference(a, b))
    return cluster_bootstrap(weighted.macro(differences), groups, seed=seed)


def _difference(a: weighted.Statistic, b: weighted.Statistic) -> weighted.Statistic:
    def statistic(weights: np.ndarray) -> np.ndarray:
        change: np.ndarray = a(weights) - b(weights)
        return change

    return statistic


def _report(
    preset: ClassifyPreset,
    chosen: Chosen,
    network: Assessment,
    base: Assessment,
    groups: np.ndarray,
    probes: Sequence[Probe],
    trained: Report,
) -> Report:
    name = network.primary[0]
    counted = group_name(chosen.manifest.grouped_by)
    compared = {
        f"{preset.name} ({preset.model.architecture})": network.primary[1],
        "floor: PCA of 48 px + logistic regression": base.primary[1],
        "gain over the floor": gain(network, base, groups, seed=preset.fit.seed),
    }
    metrics = [
        *(
            Metric.of(f"{name}, {what}", interval, group_name=counted)
            for what, interval in compared.items()
        ),
        *(
            Metric(
                f"AUROC, shortcut probe: {probe.family} alone",
                probe.auroc,
                low=probe.low,
                high=probe.high,
                n=probe.images,
                groups=probe.patients,
                note="all images, cross-validated by patient",
                group_name=counted,
            )
            for probe in probes
        ),
    ]
    rows = [
        [measure, network.headline[measure].value, base.headline[measure].value]
        for measure in network.headline
    ]
    quoted = network.primary[1]
    return Report(
        title=f"{preset.name} beside its floor",
        sentence=(
            f"On {network.n:,} images of {network.groups:,} {counted} kept aside the network has "
            f"{name} {quoted.value:.3f}, its floor {base.primary[1].value:.3f}."
        ),
        metrics=metrics,
        tables=[
            Table("All measures on the same images", ["Measure", "Network", "Floor"], rows),
            *trained.tables,
        ],
        warnings=[*network.notes],
        done={"preset": preset.name, "classes": ", ".join(chosen.classes)},
        data={"kept together": chosen.manifest.grouped_by},
    )
