"""The page of the 2022 study: the report's table and figures, and what they hide."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from medglean.classify.prepare import Chosen
from medglean.classify.study import curves, figures, tables, theme_tables, told
from medglean.classify.study.compared import (
    TITLES,
    Average,
    Compared,
    compared,
    full_label,
    shared_constant,
    unique,
)
from medglean.classify.study.gains import auroc_name, main_measure
from medglean.classify.study.rows import Theme, Trained
from medglean.classify.study.settings import CxrStudyPreset
from medglean.errors import Problem, UsageError
from medglean.runs.environment import describe_environment
from medglean.runs.records import records
from medglean.runs.report import Figure, Metric, Report, Table, group_name
from medglean.runs.rundir import RunFolder
from medglean.runs.tables import format_value

Found = Mapping[Theme, Sequence[Compared]]


def study_report(
    run: RunFolder,
    preset: CxrStudyPreset,
    trained: Sequence[Trained],
    *,
    dataset: str,
    chosen: Chosen,
    problems: Sequence[Problem],
    command: Sequence[str],
) -> Report:
    """Make the report of the study, and write its numbers for the documentation.

    Parameters
    ----------
    run
        The study's folder; ``results.json`` is written into it.
    preset
        The study's, without what a cell changes.
    trained
        All cells, in the order of the tables.
    dataset
        Name of the set, for the title.
    chosen
        The rows that the study is about, with their split.
    problems
        Images that could not be used, and why.
    command
        The command line.

    Raises
    ------
    UsageError
        If there is no cell.
    """
    if not trained:
        raise UsageError("the study has no training to report. Name at least one of its cells.")
    counted = group_name(chosen.manifest.grouped_by)
    found = by_theme(trained, replicates=preset.measure.replicates, seed=preset.fit.seed)
    lead = next(iter(found.values()))
    first = lead[0].trained
    environment = describe_environment(command)
    metrics = metrics_of(found, counted)
    run.write_json("results.json", records(metrics, command, cores=environment["cpu"]["count"]))
    sources, of_sources = told.source_table(chosen)
    own = [one.trained for one in lead]
    warnings = [
        *told.training_told(trained),
        *told.constant_told(own),
        *of_sources,
        *told.patients_told(chosen),
        *told.arithmetic_told(trained),
        *first.found.notes,
    ]
    parts = chosen.manifest.frame["split"].value_counts()
    return Report(
        title=f"The 2022 report's classifiers on {dataset}",
        sentence=_sentence(lead, counted),
        metrics=metrics[: 2 * len(lead) + 1],
        tables=[
            *_tables_of(found, counted, preset.study.averaging),
            *([sources] if sources else []),
            theme_tables.cost_table(trained),
        ],
        figures=_figures_of(found, counted),
        problems=problems,
        warnings=list(dict.fromkeys(warnings)),
        done={
            "preset": preset.name,
            "data set": dataset,
            "trainings": {
                TITLES[theme]: ", ".join(one.trained.cell.label for one in cells)
                for theme, cells in found.items()
            },
            "constant answer": f"{told.answer_of(first.constant)} (chosen on the training part)",
            "averages": preset.study.averaging,
            "source": preset.source.paper or "medglean",
            "deviations": " ".join(preset.source.deviations) or "none",
        },
        data={
            "images": {part: int(parts.get(part, 0)) for part in ("train", "val", "test")},
            "kept together": chosen.manifest.grouped_by,
            "classes": ", ".join(chosen.classes),
            "manifest SHA-256": run.record["manifest_hash"],
            "split SHA-256": run.record["split_hash"],
        },
        provenance={**environment, "seed": preset.fit.seed},
    )


def by_theme(trained: Sequence[Trained], *, replicates: int, seed: int) -> Found:
    """Return the cells of each theme, resampled, in the order of the page."""
    return {
        theme: [
            compared(one, replicates=replicates, seed=seed)
            for one in trained
            if one.cell.theme == theme
        ]
        for theme in TITLES
        if any(one.cell.theme == theme for one in trained)
    }


def metrics_of(found: Found, counted: str) -> list[Metric]:
    """Return what the study measured: its networks first, the constant answer, then ablations.

    In the order: accuracy (or exact match) of each network, that of the constant answer, the gains;
    then further measures, the ablations, and what each training took.
    """
    lead, *others = found.values()
    name = main_measure(lead[0].trained.found.kind)
    metrics = [_metric(one, name, counted) for one in lead]
    constant = shared_constant(lead)
    for one in [lead[0]] if constant else lead:
        always = one.trained.constant
        beside = "" if constant else f" beside {one.trained.cell.label}"
        metrics.append(
            Metric.of(
                f"constant answer{beside} ({told.answer_of(always)}): {name}",
                always.headline[name],
                group_name=counted,
            )
        )
    metrics += [_gain(one, name, counted) for one in lead]
    further = [auroc_name(lead[0].trained.found), "macro F1"]
    if lead[0].trained.found.kind == "multi":
        further.append("Hamming loss")
    metrics += [_metric(one, measure, counted) for measure in further for one in lead]
    for cells in others:
        for one in cells:
            metrics += [_metric(one, name, counted), _gain(one, name, counted)]
    everything = [one.trained for cells in found.values() for one in cells]
    for trained in unique(everything):
        text = f"{full_label(trained)}: time in the training loop"
        metrics.append(Metric(text, trained.seconds, "s", n=trained.learnt))
    return metrics


def _metric(one: Compared, name: str, counted: str) -> Metric:
    text = f"{full_label(one.trained)}: {name}"
    return Metric.of(text, one.trained.found.headline[name], group_name=counted)


def _gain(one: Compared, name: str, counted: str) -> Metric:
    text = f"{full_label(one.trained)}: gain in {name} over the constant answer"
    return Metric.of(text, one.gain, group_name=counted)


def _sentence(lead: Sequence[Compared], counted: str) -> str:
    first = lead[0].trained
    name = main_measure(first.found.kind)
    values = [one.trained.found.headline[name].value for one in lead]
    values = [one for one in values if not math.isnan(one)] or [math.nan]
    if len(lead) == 1:
        who, had = first.cell.label, format_value(values[0])
    else:
        who = f"{len(lead)} trainings"
        had = f"{format_value(min(values))} to {format_value(max(values))}"
    always = first.constant.headline[name].value
    of = "" if counted == "images" else f" of {first.found.groups:,} {counted}"
    return (
        f"On {first.found.n:,} test images{of}, {who} had {name} "
        f"{had}; always answering {told.answer_of(first.constant)} has {format_value(always)}."
    )


def _tables_of(found: Found, counted: str, average: Average) -> list[Table]:
    made: list[Table | None] = []
    for theme, cells in found.items():
        if theme != "networks":
            made.append(theme_tables.theme_table(theme, cells))
            continue
        made += [
            tables.networks_table(cells, counted=counted, average=average),
            tables.averages_table(cells, apart_from=average),
            tables.arithmetic_table(cells),
            tables.differences_table(cells),
            tables.classes_table(cells),
        ]
        if cells[0].trained.found.kind == "multi":
            made.append(tables.calls_table(cells))
    return [table for table in made if table is not None]


def _figures_of(found: Found, counted: str) -> list[Figure]:
    made: list[Figure | None] = []
    for theme, cells in found.items():
        own = [one.trained for one in cells]
        if theme != "networks":
            made.append(figures.ablation_figure(theme, cells, counted=counted))
            continue
        made += [
            figures.networks_figure(cells, counted=counted),
            figures.confusions_figure(own),
            curves.pretrained_figure(own, counted=counted),
            curves.training_figure(own),
        ]
    return [figure for figure in made if figure is not None]
