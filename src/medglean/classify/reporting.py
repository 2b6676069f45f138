"""The two reports of a classifier: of its training, and of its evaluation on other images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from medglean.classify.assess import assess
from medglean.classify.external import external_part
from medglean.classify.model import Classifier
from medglean.classify.page import (
    class_table,
    counts_figure,
    example_figures,
    learning_figure,
    metrics_of,
    result_figures,
)
from medglean.classify.parts import Judged
from medglean.classify.scores import Scores, score_frame, score_rows
from medglean.classify.sections import sections_of
from medglean.classify.training import Fitted
from medglean.data.curated import not_representative
from medglean.data.imageset import ImageSet
from medglean.errors import Problem
from medglean.fitting.classification import probabilities
from medglean.runs.applied import seen_before
from medglean.runs.environment import describe_environment
from medglean.runs.report import Metric, Report, group_name
from medglean.runs.rundir import RunFolder


def training_report(
    run: RunFolder,
    classifier: Classifier,
    images: ImageSet,
    fitted: Fitted,
    problems: Sequence[Problem],
    sizes: Mapping[str, int],
) -> Report:
    """Score the validation and the test part, write the scores, and make the report."""
    preset = classifier.preset
    result = fitted.results[0]
    kept_aside = np.concatenate([images.positions("val"), images.positions("test")])
    scores = score_rows(classifier, images, np.sort(kept_aside))
    run.write_results(score_frame(classifier, images, scores, truth=True))
    part = "test" if sizes["test"] else "val"
    warnings = [told for one in fitted.results for told in one.warnings]
    if part == "val":
        warnings.append(
            "There is no test part: the numbers are of the images on which the epoch was chosen, "
            "and flatter the classifier."
        )
    rows = images.positions(part)
    of_part = scores.of(rows)
    judged = _judged(classifier, images, of_part, learn=images.positions("train"))
    found = judged.found
    further = sections_of(judged)
    learning = learning_figure(
        result.history,
        monitor=preset.fit.monitor,
        best_step=result.best_step if preset.keep == "best" else result.steps,
        parts={"training": sizes["train"], "validation": sizes["val"]},
        seeds=preset.seeds,
    )
    seconds = sum(one.seconds for one in fitted.results)
    counted = group_name(images.manifest.grouped_by)
    name, quoted = found.primary
    report = Report(
        title=f"{preset.name}: classify {' / '.join(classifier.classes[:4])}"
        + (" ..." if len(classifier.classes) > 4 else ""),
        sentence=(
            f"A {preset.model.architecture} was trained on {sizes['train']:,} images; on "
            f"{found.n:,} images of {found.groups:,} other {counted} its {name} is "
            f"{quoted.value:.3f}. " + " ".join(further.sentences)
        ).strip(),
        metrics=[
            *metrics_of(found, group_name=counted),
            Metric("training time", seconds, "s", n=sizes["train"]),
        ],
        tables=[class_table(found, part=part), *further.tables],
        figures=[
            *result_figures(found, judged.groups, decisions=classifier.decisions),
            *further.figures,
            *([learning] if learning else []),
            counts_figure(images, classifier.classes),
            *example_figures(classifier, images, of_part, found),
        ],
        problems=problems,
        warnings=[
            *warnings,
            *not_representative(images.manifest, rows),
            *found.notes,
            *further.warnings,
        ],
        done={
            "preset": preset.name,
            "network": preset.model.architecture,
            "weights to start from": preset.model.weights,
            "input": f"{preset.images.size_px[0]} x {preset.images.size_px[1]} px, "
            f"{preset.images.channel_count} channel(s)",
            "seeds": ", ".join(str(preset.fit.seed + k) for k in range(preset.seeds)),
            "epochs": result.epochs,
            "kept": "the last epoch"
            if preset.keep == "last" or result.best_step is None
            else f"the epoch with the best validation {preset.fit.monitor}",
            "training time": f"{seconds:.0f} s",
            "interruptions": sum(len(one.resumed_from) for one in fitted.results),
            "source": preset.source.paper or "medglean",
            "deviations": " ".join(preset.source.deviations) or "none",
        },
        data={
            "images": {**sizes, "could not be read": len(images.failures)},
            "kept together": images.manifest.grouped_by,
            "classes": ", ".join(classifier.classes),
            "manifest SHA-256": run.record["manifest_hash"],
            "split SHA-256": run.record["split_hash"],
            **further.data,
        },
        provenance={**describe_environment(run.record["command"]), "seed": preset.fit.seed},
    )
    _write_metrics(run, [*report.metrics, *further.metrics])
    return report


def evaluation_report(
    run: RunFolder,
    run_path: Path,
    classifier: Classifier,
    images: ImageSet,
    scores: Scores,
    problems: Sequence[Problem],
    split: str | None,
    *,
    manifest_hash: str,
) -> Report:
    """Make the report of a classifier on the rows of a manifest that were scored.

    ``manifest_hash`` is that of the manifest as it was given: the run's own is recognised by it.
    """
    learn = _learnt(run_path, images, scores.rows, manifest_hash)
    judged = _judged(classifier, images, scores, learn=learn)
    found = judged.found
    further = sections_of(judged, further=[external_part(judged, run_path)])
    counted = group_name(images.manifest.grouped_by)
    name, quoted = found.primary
    part = split or "labelled"
    report = Report(
        title=f"{classifier.preset.name}: evaluated on {found.n:,} images",
        sentence=(
            f"A trained {classifier.preset.model.architecture} was applied to {found.n:,} {part} "
            f"images of {found.groups:,} {counted}; its {name} is {quoted.value:.3f}. "
            + " ".join(further.sentences)
        ).strip(),
        metrics=metrics_of(found, group_name=counted),
        tables=[class_table(found, part=part), *further.tables],
        figures=[
            *result_figures(found, judged.groups, decisions=classifier.decisions),
            *further.figures,
            *example_figures(classifier, images, scores, found),
        ],
        problems=problems,
        warnings=[
            *seen_before(run_path, [images.ids[row] for row in scores.rows]),
            *not_representative(images.manifest, scores.rows),
            *found.notes,
            *further.warnings,
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
            **further.data,
        },
        provenance=describe_environment(run.record["command"]),
    )
    _write_metrics(run, [*report.metrics, *further.metrics])
    return report


def _write_metrics(run: RunFolder, metrics: Sequence[Metric]) -> None:
    """Write every number; the page shows the first ones as cards and the others in tables."""
    run.write_metrics({metric.name: vars(metric) for metric in metrics})


def _learnt(
    run_path: Path, images: ImageSet, judged: np.ndarray, manifest_hash: str
) -> np.ndarray | None:
    """Return the rows that the network learnt from, where they are in this very manifest.

    None where it is another manifest, or where the judged rows are among them.
    """
    trained = RunFolder.open(run_path)
    if trained.record.get("manifest_hash") != manifest_hash:
        return None
    split = pd.read_csv(run_path / "split.csv", dtype=str)
    learnt = set(split.loc[split["split"] == "train", "id"])
    rows = np.array([row for row in images.positions() if images.ids[row] in learnt], dtype=int)
    if len(rows) == 0 or np.isin(judged, rows).any():
        return None
    return rows


def _judged(
    classifier: Classifier, images: ImageSet, scores: Scores, *, learn: np.ndarray | None
) -> Judged:
    groups = images.groups[scores.rows]
    preset = classifier.preset
    found = assess(
        images.targets[scores.rows],
        scores.probability,
        groups,
        kind=classifier.kind,
        classes=classifier.classes,
        threshold=preset.labels.threshold,
        replicates=preset.measure.replicates,
        seed=preset.fit.seed,
        raw=probabilities(scores.logits, kind=classifier.kind),
    )
    return Judged(classifier, images, scores, found, groups, learn, preset.fit.seed)
