"""The two reports of a stain: of its training, and of its evaluation on other pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from medglean.errors import Problem
from medglean.fitting import FitResult
from medglean.runs.applied import seen_before
from medglean.runs.environment import describe_environment
from medglean.runs.report import Report, group_name
from medglean.runs.rundir import RunFolder
from medglean.stain.described import method_name, settings_of
from medglean.stain.measured import Measured
from medglean.stain.model import Stainer
from medglean.stain.page import (
    learning_figures,
    metrics_of,
    quoted,
    result_figures,
    result_tables,
)
from medglean.stain.pairs import Pairs

SYNTHETIC = "Generated images are synthetic: research use only, not for diagnosis."
_PARTS = {
    "val": "There is no test part: the numbers are of pairs that training was watched on.",
    "train": "There is neither a test nor a validation part: the numbers are of the pairs that "
    "were learnt from, and say only whether learning works.",
}


def training_report(
    run: RunFolder,
    stainer: Stainer,
    pairs: Pairs,
    measured: Measured,
    results: Mapping[str, FitResult],
    *,
    part: str,
    sizes: Mapping[str, int],
    problems: Sequence[Problem],
) -> Report:
    """Make the report of a training run on the part that was kept aside.

    Parameters
    ----------
    run
        Open for writing: its ``metrics.json`` is written.
    part
        Which part was measured: test, val or train.
    sizes
        From `part_sizes`.
    problems
        All of them, those of ``measured`` among them.
    """
    preset, counted = stainer.preset, counted_as(pairs)
    warnings = [warning for result in results.values() for warning in result.warnings]
    warnings += [_PARTS[part]] if part in _PARTS else []
    report = Report(
        title=f"{preset.name}: H&E to IHC",
        sentence=f"{_made(stainer, sizes)} {quoted(measured, counted=counted)}",
        metrics=metrics_of(measured, group_name=counted),
        tables=result_tables(measured),
        figures=[*result_figures(measured, pairs, preset), *learning_figures(results, sizes)],
        problems=problems,
        warnings=[SYNTHETIC, *warnings, *measured.notes],
        done={
            "preset": preset.name,
            **settings_of(preset),
            **_networks(stainer),
            "training": {
                name: f"{result.steps:,} steps, {result.seconds:.0f} s"
                for name, result in results.items()
            },
            "CPU seconds per image": round(measured.cpu_seconds, 3),
            "source": preset.source.paper or "medglean",
            "deviations": " ".join(preset.source.deviations) or "none",
        },
        data={
            "pairs": {**sizes, "could not be used": int((~pairs.ok).sum())},
            **_about(run, pairs, preset.level.names),
            "split SHA-256": run.record["split_hash"],
        },
        provenance={**describe_environment(run.record["command"]), "seed": preset.fit.seed},
    )
    run.write_metrics({metric.name: vars(metric) for metric in report.metrics})
    return report


def evaluation_report(
    run: RunFolder,
    run_path: Path,
    stainer: Stainer,
    pairs: Pairs,
    measured: Measured,
    *,
    split: str | None,
    problems: Sequence[Problem],
) -> Report:
    """Make the report of a trained run on the pairs of a manifest.

    Parameters
    ----------
    run, run_path
        Of the evaluation, open for writing; and of the training.
    split
        The part that was asked for; None: all pairs.
    """
    preset, counted = stainer.preset, counted_as(pairs)
    count = len(measured.ids)
    report = Report(
        title=f"{preset.name}: evaluated on {count:,} pairs",
        sentence=(
            f"A trained run ({method_name(preset)}) was applied to the H&E images of {count:,} "
            f"{split + ' ' if split else ''}pairs. {quoted(measured, counted=counted)}"
        ),
        metrics=metrics_of(measured, group_name=counted),
        tables=result_tables(measured),
        figures=result_figures(measured, pairs, preset),
        problems=problems,
        warnings=[SYNTHETIC, *seen_before(run_path, measured.ids), *measured.notes],
        done={
            "preset": preset.name,
            **settings_of(preset),
            "weights SHA-256": stainer.weights_sha256,
            "part": split or "all",
            "CPU seconds per image": round(measured.cpu_seconds, 3),
        },
        data={
            "pairs": {"used": count, "could not be used": int((~pairs.ok).sum())},
            **_about(run, pairs, preset.level.names),
        },
        provenance=describe_environment(run.record["command"]),
    )
    run.write_metrics({metric.name: vars(metric) for metric in report.metrics})
    return report


def part_sizes(pairs: Pairs) -> dict[str, int]:
    """Count the pairs of each part that can be used, for the report."""
    return {part: len(pairs.positions(part)) for part in ("train", "val", "test")}


def counted_as(pairs: Pairs) -> str:
    """Return what the groups of pairs are called: patients, slides or images."""
    grouped_by = pairs.manifest.grouped_by
    return "slides" if grouped_by == "group" else group_name(grouped_by)


def _about(run: RunFolder, pairs: Pairs, names: Sequence[str]) -> dict[str, object]:
    levels = pairs.levels[pairs.ok]
    counts = {name: int((levels == place).sum()) for place, name in enumerate(names)}
    return {
        "levels": {**counts, "not known": int((levels < 0).sum())},
        "kept together": pairs.manifest.grouped_by,
        "manifest SHA-256": run.record["manifest_hash"],
    }


def _networks(stainer: Stainer) -> dict[str, object]:
    if not stainer.networks:
        return {}
    return {
        "networks": {
            name: f"{sum(weight.numel() for weight in network.parameters()):,} weights"
            for name, network in stainer.networks.items()
        }
    }


def _made(stainer: Stainer, sizes: Mapping[str, int]) -> str:
    learnt = sizes.get("train", 0)
    if stainer.method == "mean-colour":
        return f"Nothing but the mean colour of {learnt:,} training images was learnt."
    return f"A virtual stain ({method_name(stainer.preset)}) was trained on {learnt:,} pairs."
