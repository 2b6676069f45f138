"""The page of the study: the table of methods, their differences, and the examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medglean.errors import Problem
from medglean.runs.environment import describe_environment
from medglean.runs.records import records
from medglean.runs.report import Figure, Metric, Report, Table
from medglean.runs.rundir import RunFolder
from medglean.runs.tables import format_value
from medglean.stain import assess as known
from medglean.stain.assess import difference_of
from medglean.stain.described import method_name
from medglean.stain.figures import methods_figure
from medglean.stain.measured import Measured
from medglean.stain.page import MEANINGS, dab_of, shown_of, with_interval
from medglean.stain.pairs import Pairs
from medglean.stain.panels import method_panels
from medglean.stain.reporting import SYNTHETIC, counted_as
from medglean.stain.settings import StainPreset
from medglean.stain.study.folds import Fold, torn_groups
from medglean.stain.study.rows import Cost, Row

LIKENESS = (known.PSNR, known.SSIM, known.GAIN, known.LPIPS, known.FID, known.INCEPTION)
"""Measures of the first table, in its order; those that no method has are left out."""
NORMALISED = tuple(name + known.NORMALISED for name in (known.PSNR, known.FLAT_PSNR, known.SSIM))
STAIN = (
    known.DAB_ERROR,
    known.DAB_ABSOLUTE,
    known.DAB_R,
    known.DAB_R90,
    known.DICE,
    known.BACKGROUND,
    known.B_SHIFT,
    known.AGREEMENT,
    known.AGREES_WITH_LABEL,
)
"""Measures of the second."""
QUOTED = (*LIKENESS, *NORMALISED, *STAIN)
SIDE_BY_SIDE = 6
"""Methods in a panel at most, so that each can be seen."""
ONE_BY_ONE = 40
"""Pairs of which a table can still be read."""
_FOLDS = {
    "split": "trained once, measured on the test part",
    "pair": "one pair left out at a time",
    "group": "one patient or slide left out at a time",
}


@dataclass(frozen=True)
class Compared:
    """A row of the table.

    Attributes
    ----------
    row
        The method.
    measured
        On the pairs of all folds together.
    cost
        Of one fold's training.
    """

    row: Row
    measured: Measured
    cost: Cost


Found = Mapping[str, Compared]


def study_report(
    run: RunFolder,
    preset: StainPreset,
    pairs: Pairs,
    folds: Sequence[Fold],
    found: Found,
    *,
    shown: Sequence[int],
    problems: Sequence[Problem],
    command: Sequence[str],
) -> Report:
    """Make the report of the study, and write its numbers for the documentation."""
    counted = counted_as(pairs)
    environment = describe_environment(command)
    metrics = metrics_of(found, counted)
    run.write_json("results.json", records(metrics, command, cores=environment["cpu"]["count"]))
    lead = next(iter(found.values()))
    methods = {name: one.measured.assessment.metrics for name, one in found.items()}
    charted = [name for name in (known.PSNR, known.SSIM, known.DAB_ABSOLUTE, known.DICE)
               if any(name in one for one in methods.values())]  # fmt: skip
    return Report(
        title=f"{preset.name}: virtual stains compared",
        sentence=_sentence(found, counted, preset),
        metrics=metrics[:4],
        tables=[
            *_methods_tables(found, counted),
            *_difference_tables(found),
            *_pairs_table(found),
            _cost_table(found, len(folds)),
            _meanings_table(found),
        ],
        figures=[
            *_panels(preset, pairs, found, shown),
            methods_figure(methods, measures=charted, counted=counted),
            dab_of(lead.measured, preset),
        ],
        problems=problems,
        warnings=[SYNTHETIC, *_torn(folds, pairs), *lead.measured.notes],
        done={
            "preset": preset.name,
            "folds": _FOLDS[preset.study.folds],
            "rows": {name: _changes(preset, name) for name in found},
            "methods": {name: method_name(one.row.preset) for name, one in found.items()},
            "source": preset.source.paper or "medglean",
            "deviations": " ".join(preset.source.deviations) or "none",
        },
        data={
            "pairs": {
                "measured": len(lead.measured.ids),
                "learnt from": int(np.median([len(fold.train) for fold in folds])),
                "could not be used": int((~pairs.ok).sum()),
            },
            "kept together": pairs.manifest.grouped_by,
            "manifest SHA-256": run.record["manifest_hash"],
            "split SHA-256": run.record["split_hash"],
        },
        provenance={**environment, "seed": preset.fit.seed},
    )


def metrics_of(found: Found, counted: str) -> list[Metric]:
    """Return every method's measures, method by method, and what training each took."""
    metrics = []
    for name, one in found.items():
        measured = one.measured.assessment.metrics
        metrics += [
            Metric.of(
                f"{name}: {measure}",
                measured[measure],
                unit=known.UNITS.get(measure, ""),
                group_name=counted,
            )
            for measure in QUOTED
            if measure in measured
        ]
        metrics.append(
            Metric(f"{name}: CPU time of one training", one.cost.cpu_seconds, "s",
                   n=len(one.measured.ids))
        )  # fmt: skip
    judged = next(iter(found.values())).measured.assessment.metrics.get(known.JUDGE)
    if judged is not None:
        metrics.append(Metric.of(known.JUDGE, judged, group_name=counted))
    return metrics


def _sentence(found: Found, counted: str, preset: StainPreset) -> str:
    first = next(iter(found))
    values = {name: one.measured.assessment.metrics[known.PSNR] for name, one in found.items()}
    flat = next(name for name, one in found.items() if one.row.preset.method == "mean-colour")
    count = len(found[first].measured.ids)
    return (
        f"On {count:,} pairs of {values[first].groups:,} {counted} "
        f"({_FOLDS[preset.study.folds]}) {first} has a PSNR of "
        f"{format_value(values[first].value, digits=1)} dB; an image of the training images' mean "
        f"colour has {format_value(values[flat].value, digits=1)} dB. PSNR does not tell whether "
        "the stain is right: see the measures of DAB."
    )


def _present(found: Found, names: Sequence[str]) -> list[str]:
    return [
        name
        for name in names
        if any(name in one.measured.assessment.metrics for one in found.values())
    ]


def _methods_tables(found: Found, counted: str) -> list[Table]:
    def table(title: str, names: Sequence[str], note: str) -> Table:
        columns = _present(found, names)
        rows: list[list[object]] = [
            [name, *(with_interval(one.measured.assessment.metrics.get(c)) for c in columns)]
            for name, one in found.items()
        ]
        return Table(title, ["Method", *columns], rows, note=note)

    tables = [
        table(
            "Methods",
            LIKENESS,
            f"The same pairs for every row, with 95 % intervals over {counted}. PSNR, in dB, and "
            "SSIM are means over images, against the real image as it is in its file. A method "
            "below the mean colour's PSNR is not thereby worse: a flat image has no stain at all.",
        )
    ]
    if _present(found, NORMALISED):
        tables.append(
            table(
                "With white glass",
                NORMALISED,
                "Both images divided by their white; of the methods that are trained so.",
            )
        )
    tables.append(
        table(
            "The stain itself",
            STAIN,
            "Optical densities of DAB; errors and shifts are generated less real, so 0 is best. "
            f"{_judge_told(found)}",
        )
    )
    return tables


def _judge_told(found: Found) -> str:
    judge = next(iter(found.values())).measured.assessment.metrics.get(known.JUDGE)
    if judge is None:
        return "No judge of the level was trained."
    return f"The judge calls {with_interval(judge)} of real images as their slide."


def _difference_tables(found: Found) -> list[Table]:
    (first, lead), *others = found.items()
    if not others:
        return []
    gaps = {
        name: difference_of(lead.measured.assessment, one.measured.assessment)
        for name, one in others
    }
    names = (*known.COMPARED, *NORMALISED)
    measures = [name for name in names if any(name in one for one in gaps.values())]
    rows: list[list[object]] = [
        [name, *(with_interval(one.get(measure)) for measure in measures)]
        for name, one in gaps.items()
    ]
    less = ", ".join(name for name in measures if name in known.LESS_IS_BETTER)
    note = (
        f"{first} less the method of the row, on the same resampled groups. An interval that holds "
        f"0 shows no difference. Of {less}, less is better."
    )
    columns = ["Over", *measures]
    return [Table(f"What {first} gains", columns, rows, note=note)]


def _pairs_table(found: Found) -> list[Table]:
    lead = next(iter(found.values())).measured
    if len(lead.ids) > ONE_BY_ONE:
        return []
    rows: list[list[object]] = []
    for place, name in enumerate(lead.ids):
        cells = [
            f"{format_value(float(one.measured.made.table['psnr'][place]), digits=1)} / "
            f"{format_value(float(one.measured.made.table['dab.error'][place]))}"
            for one in found.values()
        ]
        rows.append([name, lead.labels[place] or "not known", *cells])
    note = "PSNR in dB / error of DAB's mean optical density, generated less real."
    return [Table("Pair by pair", ["Pair", "Level", *found], rows, note=note)]


def _cost_table(found: Found, folds: int) -> Table:
    rows: list[list[object]] = [
        [
            name,
            one.cost.weights,
            one.cost.steps,
            round(one.cost.cpu_seconds),
            round(one.measured.cpu_seconds, 2),
        ]
        for name, one in found.items()
    ]
    each = f" Mean of {folds} trainings." if folds > 1 else ""
    note = (
        "What a row would take alone, the classifier of the level included: networks are shared "
        f"between rows that train them alike. The discriminator's weights are not counted.{each}"
    )
    columns = ["Method", "Weights", "Steps", "CPU seconds of training", "CPU seconds per image"]
    return Table("Cost", columns, rows, note=note, section="training")


def _meanings_table(found: Found) -> Table:
    told: list[list[object]] = [
        [name, text] for name, text in MEANINGS.items() if name in _present(found, QUOTED)
    ]
    return Table("What the measures mean", ["Measure", "Meaning"], told)


def _panels(preset: StainPreset, pairs: Pairs, found: Found, shown: Sequence[int]) -> list[Figure]:
    """Show the methods side by side on the pairs that were chosen beforehand (figure 10)."""
    names = list(found)[:SIDE_BY_SIDE]
    cases = [
        shown_of(
            pairs,
            preset,
            row,
            {name: (found[name].measured, found[name].measured.made.kept[row]) for name in names},
            densities=False,
        )
        for row in shown
    ]
    title = "The same pairs by each method"
    return [method_panels(cases, methods=names, title=title, section="results")] if cases else []


def _torn(folds: Sequence[Fold], pairs: Pairs) -> list[str]:
    """Tell of pairs that are measured by networks which have seen their patient or slide."""
    torn = torn_groups(folds, pairs.images.groups)
    if not torn:
        return []
    return [
        f"{torn:,} pairs were measured by networks that learnt from another pair of the same "
        "patient or slide: these numbers flatter every method. study.folds=group keeps them "
        "together."
    ]


def _changes(preset: StainPreset, name: str) -> str:
    return " ".join(preset.study.methods.get(name, ("method=mean-colour",))) or "as the preset"
