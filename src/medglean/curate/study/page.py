"""The report of a study: the tables and figures of the paper's kinds, and what they come to."""

from __future__ import annotations

import math

from medglean.curate.study.analysis import Against, Findings, Point
from medglean.curate.study.figures import gain_curves, learning_curves
from medglean.curate.study.settings import FULL, EnrichStudyPreset
from medglean.measure.comparisons import Comparison
from medglean.runs.report import Figure, Metric, Table
from medglean.runs.tables import UNDEFINED, format_value

NAMES = {
    "auroc": "AUROC",
    "accuracy": "accuracy",
    "f1": "macro F1",
    "jaccard": "Jaccard index",
    "dice": "Dice",
}


def score_name(preset: EnrichStudyPreset) -> str:
    """Return the name of the score that is compared."""
    return NAMES[preset.primary]


def subset_table(findings: Findings, *, group: str) -> Table:
    """Return how many patients and groups the subset of each method and size shows."""
    rows: list[list[object]] = [
        [_size(findings.at(size)[0]), *(_whom(point, group) for point in findings.at(size))]
        for size in findings.sizes
    ]
    whole = [_whom(findings.full, group)] * len(findings.methods)
    rows.append([f"{_whole(findings.full.images)} (all)", *whole])
    counted = "patients" if group == "patient" else f"patients / {plural(group)}"
    note = f"Means over {findings.replicates} replicates." if findings.replicates > 1 else ""
    return Table(
        f"Whom each subset shows: {counted}", ["Images", *findings.methods], rows, note=note
    )


def _whom(point: Point, group: str) -> str:
    patients = _mean(point.patients)
    return patients if group == "patient" else f"{patients} / {_mean(point.groups)}"


def score_table(findings: Findings, preset: EnrichStudyPreset) -> Table:
    """Return mean and SD of the score of each method and size."""
    rows: list[list[object]] = [
        [_size(findings.at(size)[0]), *(_spread(point) for point in findings.at(size))]
        for size in findings.sizes
    ]
    whole = [_spread(findings.full)] * len(findings.methods)
    rows.append([f"{_whole(findings.full.images)} (all)", *whole])
    return Table(
        f"{score_name(preset)} of each subset: mean (SD) of {findings.replicates} replicates",
        ["Images", *findings.methods],
        rows,
        note="The last row is the same learner on all images of the training pool.",
    )


def gain_table(findings: Findings, other: str) -> Table:
    """Return the mean gain of each method over another one at the same size, or over all images."""
    methods = [name for name in findings.methods if name != other]
    rows: list[list[object]] = []
    for size in findings.sizes:
        found = [point for point in findings.at(size) if point.method != other]
        row: list[object] = [_size(found[0])]
        for point in found:
            against = point.against[other]
            row.append(f"{_signed(against.gain)} (p {_p(against)})")
        rows.append(row)
    title = "all images" if other == FULL else f"{other} at the same size"
    return Table(f"Gain over {title}", ["Images", *methods], rows, note=_p_note(findings))


def enough_table(findings: Findings, preset: EnrichStudyPreset) -> Table:
    """Return the smallest subset that is not below the full set, and the time it saves."""
    seconds = preset.label_seconds
    rows: list[list[object]] = []
    for method, point in findings.enough.items():
        reached = _reached(findings, method)
        row: list[object] = [method, UNDEFINED if reached is None else _size(reached)]
        if point is None or not findings.can_reach:
            rows.append([*row, *[UNDEFINED] * 4])
            continue
        saved = (findings.full.images - point.images) * seconds
        rows.append(
            [
                *row,
                _size(point),
                f"{100 * point.images / findings.full.images:.0f} %",
                _signed(point.against[FULL].gain),
                duration(saved),
            ]
        )
    whole = duration(findings.full.images * seconds)
    note = (
        "Not different: the smallest number from which on none is significantly "
        f"(p < {preset.level:g}) below all images. That is not the same as equal: with few "
        "replicates a true loss goes unseen, so read the gain, too. Time at "
        f"{seconds:g} s per image; labelling all images takes {whole}."
    )
    if not findings.can_reach:
        note = f"{cannot_reach(findings, preset)} So nothing is said here. {note}"
    columns = [
        "Method",
        "Mean of all reached at",
        "Not different from",
        "Share",
        "Gain over all",
        "Time saved",
    ]
    return Table("How few images are enough", columns, rows, note=note)


def cannot_reach(findings: Findings, preset: EnrichStudyPreset) -> str:
    """Return the sentence about too few replicates; empty where they are enough."""
    if findings.can_reach:
        return ""
    count = findings.replicates
    return (
        f"{count} replicate{'' if count == 1 else 's'} against {count} cannot reach significance "
        f"by Mann-Whitney, whatever the scores are: its smallest p is {findings.smallest_p:.2g}, "
        f"the level {preset.level:g}. Set replicates to 4 or more."
    )


def figures(findings: Findings, preset: EnrichStudyPreset, *, group: str) -> list[Figure]:
    """Return the learning curves, and the gain over each baseline."""
    kind = "segmentation" if preset.learner.is_segmentation else "classification"
    counted = {"patients": "Patients"}
    if group != "patient":
        counted["groups"] = plural(group).capitalize()
    name = score_name(preset)
    curves = Figure(
        f"Learning curves ({kind})",
        f"Mean {name} on images of other patients, against the number of labelled images "
        f"(logarithmic); bars: SD of {findings.replicates} replicates. Dashed: a learner that saw "
        "all images of the training pool, with its SD. Below: whom the subsets show.",
        learning_curves(findings, score_name=name, counted=counted),
        kind="svg",
    )
    gains = [
        Figure(
            f"Gain over {other}",
            f"By how much the {name} exceeds that of {other} with as many images: mean over the "
            "replicates, with its 95 % interval. An interval that leaves out 0 is a difference.",
            gain_curves(findings, other=other, score_name=name),
            kind="svg",
        )
        for other in preset.baselines
        if findings.replicates > 1 and len(findings.methods) > 1
    ]
    return [curves, *gains]


def metrics(findings: Findings, preset: EnrichStudyPreset) -> list[Metric]:
    """Return one number per method and size, and the full set's first."""
    return [_metric(point, findings, preset) for point in (findings.full, *findings.points)]


def _metric(point: Point, findings: Findings, preset: EnrichStudyPreset) -> Metric:
    where = "all images" if point.method == FULL else f"{point.method}, {point.size}"
    told = [f"SD {format_value(point.sd)} over {findings.replicates} replicates"]
    told += [
        f"{_signed(found.gain)} over {_shown(name)} (p {_p(found)})"
        for name, found in point.against.items()
    ]
    return Metric(
        f"{score_name(preset)}, {where}",
        point.mean,
        low=max(0.0, point.low) if not math.isnan(point.low) else None,
        high=min(1.0, point.high) if not math.isnan(point.high) else None,
        n=round(point.images),
        groups=round(point.patients),
        note="; ".join(told),
    )


def _reached(findings: Findings, method: str) -> Point | None:
    """Return the smallest subset whose mean score is that of all images."""
    return next((p for p in findings.of(method) if p.mean >= findings.full.mean), None)


def sentence(findings: Findings, preset: EnrichStudyPreset) -> str:
    """Return what the study comes to, in one or two sentences."""
    name, full = score_name(preset), findings.full
    head = f"All {_whole(full.images)} images teach {name} {full.mean:.3f}"
    method = findings.methods[0]
    reached = _reached(findings, method)
    if reached is not None:
        return (
            f"{head}; {_whole(reached.images)} ({100 * reached.images / full.images:.0f} %) chosen "
            f"by {method} teach {reached.mean:.3f}."
        )
    enough = findings.enough[method]
    if enough is None or not findings.can_reach:
        smallest = findings.of(method)[0]
        return f"{head}; {_whole(smallest.images)} chosen by {method} teach {smallest.mean:.3f}."
    return (
        f"{head}; the fewest by {method} that are not significantly below are "
        f"{_whole(enough.images)} ({100 * enough.images / full.images:.0f} %), with "
        f"{enough.mean:.3f}."
    )


def duration(seconds: float) -> str:
    """Write a time as people do.

    Examples
    --------
    >>> duration(50), duration(1775), duration(86400 * 3)
    ('50 s', '30 min', '72.0 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _shown(other: str) -> str:
    return "all" if other == FULL else other


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")  # as wide as the plus, and no hyphen


def _p(found: Against) -> str:
    shown = [_short(found.rank)]
    if found.corrected is not None:
        shown.append(_short(found.corrected))
    return " / ".join(shown)


def _short(found: Comparison) -> str:
    if math.isnan(found.p):
        return UNDEFINED
    return "< 0.001" if found.p < 0.001 else f"{found.p:.3f}"


def _p_note(findings: Findings) -> str:
    first = findings.points[0].against[FULL]
    note = (
        f"p, two-sided: {first.rank.test}, as in the paper"
        if first.corrected is None
        else f"p, two-sided: {first.rank.test}, as in the paper / {first.corrected.test}, which "
        "compares within each replicate and allows for replicates that share images"
    )
    return f"{note}. Not corrected for the number of comparisons."


def plural(group: str) -> str:
    """Return what groups are called: the column ``group`` says nothing to a reader.

    Examples
    --------
    >>> plural("group"), plural("slide")
    ('clips or volumes', 'slides')
    """
    return "clips or volumes" if group == "group" else f"{group}s"


def _size(point: Point) -> str:
    return _whole(point.images) + (f" ({point.size})" if "%" in point.size else "")


def _spread(point: Point) -> str:
    return format_value(point.mean) + ("" if math.isnan(point.sd) else f" ({point.sd:.3f})")


def _mean(value: float) -> str:
    return f"{value:,.0f}" if abs(value - round(value)) < 0.05 else f"{value:,.1f}"


def _whole(value: float) -> str:
    return f"{value:,.0f}"
