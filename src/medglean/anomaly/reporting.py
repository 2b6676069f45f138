"""The two reports of an anomaly run: of its training, and of its evaluation on other images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from medglean.anomaly.described import method_name, settings_of_maps
from medglean.anomaly.measured import Measured
from medglean.anomaly.model import Mapper
from medglean.anomaly.page import (
    learning_figures,
    metrics_of,
    quoted,
    result_figures,
    result_tables,
)
from medglean.anomaly.prepare import DISEASED, HEALTHY
from medglean.anomaly.settings import AnomalyPreset
from medglean.data.imageset import ImageSet
from medglean.errors import Problem
from medglean.fitting import FitResult
from medglean.runs.applied import seen_before
from medglean.runs.environment import describe_environment
from medglean.runs.report import Report, group_name
from medglean.runs.rundir import RunFolder


def training_report(
    run: RunFolder,
    mapper: Mapper,
    images: ImageSet,
    measured: Measured,
    results: Mapping[str, FitResult],
    *,
    part: str,
    sizes: Mapping[str, int],
    problems: Sequence[Problem],
) -> Report:
    """Make the report of a training run on the part that was kept aside."""
    preset, counted = mapper.preset, group_name(images.manifest.grouped_by)
    warnings = [warning for result in results.values() for warning in result.warnings]
    if part == "val":
        warnings.append(
            "There is no test part: the numbers are of images that scales and thresholds were "
            "chosen on."
        )
    report = Report(
        title=f"{preset.name}: where {_diseases(mapper)} is",
        sentence=f"{_made(preset, sizes)} {quoted(measured, counted=counted)}",
        metrics=metrics_of(measured, group_name=counted),
        tables=result_tables(measured),
        figures=[*result_figures(mapper, measured), *learning_figures(results, sizes)],
        problems=problems,
        warnings=[*warnings, *measured.assessment.notes],
        done={
            "preset": preset.name,
            **settings_of_maps(preset),
            "networks": {
                name: f"{sum(weight.numel() for weight in network.parameters()):,} weights"
                for name, network in mapper.networks.items()
            },
            "training": {
                name: f"{result.steps:,} steps, {result.seconds:.0f} s"
                for name, result in results.items()
            },
            "CPU seconds per map": round(measured.cpu_seconds, 3),
            "source": preset.source.paper or "medglean",
            "deviations": " ".join(preset.source.deviations) or "none",
        },
        data={
            "images": {**sizes, "could not be read": len(images.failures)},
            **_about(run, mapper, images),
            "split SHA-256": run.record["split_hash"],
        },
        provenance={**describe_environment(run.record["command"]), "seed": preset.fit.seed},
    )
    run.write_metrics({metric.name: vars(metric) for metric in report.metrics})
    return report


def evaluation_report(
    run: RunFolder,
    run_path: Path,
    mapper: Mapper,
    images: ImageSet,
    measured: Measured,
    *,
    split: str | None,
    problems: Sequence[Problem],
) -> Report:
    """Make the report of a trained run on the rows of a manifest that were mapped."""
    preset, counted = mapper.preset, group_name(images.manifest.grouped_by)
    count = len(measured.of.rows)
    report = Report(
        title=f"{preset.name}: evaluated on {count:,} images",
        sentence=(
            f"A trained run ({method_name(preset)}) was applied to {count:,} "
            f"{split or 'labelled'} images. {quoted(measured, counted=counted)}"
        ),
        metrics=metrics_of(measured, group_name=counted),
        tables=result_tables(measured),
        figures=result_figures(mapper, measured),
        problems=problems,
        warnings=[
            *seen_before(run_path, measured.of.ids),
            *measured.assessment.notes,
        ],
        done={
            "preset": preset.name,
            **settings_of_maps(preset),
            "weights SHA-256": mapper.weights_sha256,
            "part": split or "labelled",
            "CPU seconds per map": round(measured.cpu_seconds, 3),
        },
        data={
            "images": {"used": count, "could not be read": len(images.failures)},
            **_about(run, mapper, images),
        },
        provenance=describe_environment(run.record["command"]),
    )
    run.write_metrics({metric.name: vars(metric) for metric in report.metrics})
    return report


def part_sizes(images: ImageSet, targets: np.ndarray) -> dict[str, int]:
    """Count the images of each class and part, for the report."""
    sizes = {}
    for part in ("train", "val", "test"):
        rows = images.positions(part, labelled=False)
        for target, name in ((HEALTHY, "healthy"), (DISEASED, "diseased")):
            sizes[f"{part}, {name}"] = int((targets[rows] == target).sum())
    return sizes


def _about(run: RunFolder, mapper: Mapper, images: ImageSet) -> dict[str, object]:
    return {
        "kept together": images.manifest.grouped_by,
        "healthy": mapper.healthy,
        "diseased": ", ".join(mapper.diseased),
        "manifest SHA-256": run.record["manifest_hash"],
    }


def _diseases(mapper: Mapper) -> str:
    named = " / ".join(mapper.diseased[:3]) or "the disease"
    return named + (" ..." if len(mapper.diseased) > 3 else "")


def _made(preset: AnomalyPreset, sizes: Mapping[str, int]) -> str:
    if preset.method == "threshold":
        return "Nothing was learnt: the map is the brightness itself."
    learnt = sum(count for name, count in sizes.items() if name.startswith("train"))
    return (
        f"A method ({method_name(preset)}) was trained on {learnt:,} images that are only called "
        "healthy or diseased."
    )
