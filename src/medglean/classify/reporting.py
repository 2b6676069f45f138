"""The two reports of a classifier: of its training, and of its evaluation on other images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from medglean.classify.assess import Assessment, assess
from medglean.classify.model import Classifier
from medglean.classify.page import (
    class_table,
    counts_figure,
    example_figures,
    learning_figure,
    metrics_of,
    result_figures,
)
from medglean.classify.scores import Scores, score_frame, score_rows
from medglean.data.curated import not_representative
from medglean.data.imageset import ImageSet
from medglean.errors import Problem
from medglean.fitting import FitResult
from medglean.runs.applied import seen_before
from medglean.runs.environment import describe_environment
from medglean.runs.report import Report, group_name
from medglean.runs.rundir import RunFolder


def training_report(
    run: RunFolder,
    classifier: Classifier,
    images: ImageSet,
    result: FitResult,
    problems: Sequence[Problem],
    sizes: Mapping[str, int],
) -> Report:
    """Score the validation and the test part, write the scores, and make the report."""
    preset = classifier.preset
    kept_aside = np.concatenate([images.positions("val"), images.positions("test")])
    scores = score_rows(classifier, images, np.sort(kept_aside))
    run.write_results(score_frame(classifier, images, scores, truth=True))
    part = "test" if sizes["test"] else "val"
    warnings = list(result.warnings)
    if part == "val":
        warnings.append(
            "There is no test part: the numbers are of the images on which the epoch was chosen, "
            "and flatter the classifier."
        )
    rows = images.positions(part)
    of_part = _rows_of(scores, rows)
    found, groups = _assessed(classifier, images, of_part, seed=preset.fit.seed)
    learning = learning_figure(
        result.history,
        monitor=preset.fit.monitor,
        best_step=result.best_step if preset.keep == "best" else result.steps,
        parts={"training": sizes["train"], "validation": sizes["val"]},
    )
    counted = group_name(images.manifest.grouped_by)
    name, quoted = found.primary
    report = Report(
        title=f"{preset.name}: classify {' / '.join(classifier.classes[:4])}"
        + (" ..." if len(classifier.classes) > 4 else ""),
        sentence=(
            f"A {preset.model.architecture} was trained on {sizes['train']:,} images; on "
            f"{found.n:,} images of {found.groups:,} other {counted} its {name} is "
            f"{quoted.value:.3f}."
        ),
        metrics=metrics_of(found, group_name=counted),
        tables=[class_table(found, part=part)],
        figures=[
            *result_figures(found, groups),
            *([learning] if learning else []),
            counts_figure(images, classifier.classes),
            *example_figures(classifier, images, of_part, found),
        ],
        problems=problems,
        warnings=[*warnings, *not_representative(images.manifest, rows), *found.notes],
        done={
            "preset": preset.name,
            "network": preset.model.architecture,
            "weights to start from": preset.model.weights,
            "input": f"{preset.images.size_px[0]} x {preset.images.size_px[1]} px, "
            f"{preset.images.channel_count} channel(s)",
            "epochs": result.epochs,
            "kept": "the last epoch"
            if preset.keep == "last" or result.best_step is None
            else f"the epoch with the best validation {preset.fit.monitor}",
            "training time": f"{result.seconds:.0f} s",
            "interruptions": len(result.resumed_from),
            "source": preset.source.paper or "medglean",
            "deviations": " ".join(preset.source.deviations) or "none",
        },
        data={
            "images": {**sizes, "could not be read": len(images.failures)},
            "kept together": images.manifest.grouped_by,
            "classes": ", ".join(classifier.classes),
            "manifest SHA-256": run.record["manifest_hash"],
            "split SHA-256": run.record["split_hash"],
        },
        provenance={**describe_environment(run.record["command"]), "seed": preset.fit.seed},
    )
    run.write_metrics({metric.name: vars(metric) for metric in report.metrics})
    return report


def evaluation_report(
    run: RunFolder,
    run_path: Path,
    classifier: Classifier,
    images: ImageSet,
    scores: Scores,
    problems: Sequence[Problem],
    split: str | None,
) -> Report:
    """Make the report of a classifier on the rows of a manifest that were scored."""
    found, groups = _assessed(classifier, images, scores, seed=classifier.preset.fit.seed)
    counted = group_name(images.manifest.grouped_by)
    name, quoted = found.primary
    part = split or "labelled"
    report = Report(
        title=f"{classifier.preset.name}: evaluated on {found.n:,} images",
        sentence=(
            f"A trained {classifier.preset.model.architecture} was applied to {found.n:,} {part} "
            f"images of {found.groups:,} {counted}; its {name} is {quoted.value:.3f}."
        ),
        metrics=metrics_of(found, group_name=counted),
        tables=[class_table(found, part=part)],
        figures=[
            *result_figures(found, groups),
            *example_figures(classifier, images, scores, found),
        ],
        problems=problems,
        warnings=[
            *seen_before(run_path, [images.ids[row] for row in scores.rows]),
            *not_representative(images.manifest, scores.rows),
            *found.notes,
        ],
        done={
            "preset": classifier.preset.name,
            "network": classifier.preset.model.architecture,
            "weights SHA-256": classifier.weights_sha256,
            "part": part,
        },
        data={
            "images": {"used": found.n, "could not be read": len(images.failures)},
            "kept together": images.manifest.grouped_by,
            "classes": ", ".join(classifier.classes),
            "manifest SHA-256": run.record["manifest_hash"],
        },
        provenance=describe_environment(run.record["command"]),
    )
    run.write_metrics({metric.name: vars(metric) for metric in report.metrics})
    return report


def _rows_of(scores: Scores, rows: np.ndarray) -> Scores:
    places = np.searchsorted(scores.rows, rows)
    return Scores(rows, scores.logits[places], scores.probability[places])


def _assessed(
    classifier: Classifier, images: ImageSet, scores: Scores, *, seed: int
) -> tuple[Assessment, np.ndarray]:
    groups = images.groups[scores.rows]
    found = assess(
        images.targets[scores.rows],
        scores.probability,
        groups,
        kind=classifier.kind,
        classes=classifier.classes,
        threshold=classifier.preset.labels.threshold,
        seed=seed,
    )
    return found, groups
