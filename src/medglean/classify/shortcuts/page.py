"""The audit in words: sentences for the first page, warnings, and tables."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from medglean.classify.parts import Judged, Part
from medglean.classify.shortcuts.compare import Beside, Verdict
from medglean.classify.shortcuts.drawing import beside_figure, seen_figure
from medglean.classify.shortcuts.origin import Origin
from medglean.classify.shortcuts.result import Audit, CopyCheck
from medglean.measure.intervals import Interval
from medglean.runs.report import Metric, Table, group_name
from medglean.runs.style import percent, plain
from medglean.runs.tables import format_measured, format_value

TELLING = 0.8
"""AUROC from which something that cannot see the disease is worth a warning, beaten or not."""
SHOWN_COPIES = 20
NETWORK_HIDDEN = "network hidden"
"""Key of the network itself on images of which a part is hidden."""
VERDICTS: dict[Verdict, str] = {
    "beaten": "beaten",
    "not shown": "NOT shown to be beaten",
    "ahead": "better than the network",
    "not measured": "not measured",
}


def part_of(audit: Audit, judged: Judged) -> Part:
    """Return the audit as a section of the report."""
    counted = group_name(judged.images.manifest.grouped_by)
    return Part(
        sentences=sentences_of(audit),
        metrics=metrics_of(audit, counted),
        tables=tuple(
            table
            for table in (
                baseline_table(audit),
                seen_table(audit),
                family_table(audit),
                origin_table(audit.origin),
                copies_table(audit.copies, judged.images.ids),
            )
            if table is not None
        ),
        figures=(
            beside_figure(audit, measure=area_name(audit), counted=counted),
            seen_figure(audit, judged),
        ),
        warnings=(
            *baseline_warnings(audit),
            *origin_warnings(audit.origin),
            *copies_warnings(audit.copies, len(judged.scores.rows)),
        ),
        data={"shortcut audit": {"baselines": learnt(audit), "hidden": audit.hidden.told}},
    )


def area_name(audit: Audit) -> str:
    """Return what the report calls the area over all classes."""
    two = audit.ground.kind == "single" and len(audit.ground.classes) == 2
    return "AUROC" if two else "macro AUROC"


def right_name(audit: Audit) -> str:
    """Return what the report calls the share of images that are right altogether."""
    return "accuracy" if audit.ground.kind == "single" else "exact match"


def learnt(audit: Audit) -> str:
    """Say what baselines learnt from."""
    truth = audit.ground.learn_truth
    if truth is None:
        return (
            "cross-validated in five parts over the patients that are judged, because the images "
            "that the network learnt from are not at hand; so they learn from these few, which "
            "favours the network"
        )
    return f"learnt from the {len(truth):,} images that the network learnt from"


def sentences_of(audit: Audit) -> tuple[str, ...]:
    """Say of each baseline whether the network beats it; ``beats`` only where that is shown."""
    by: dict[Verdict, list[Beside]] = {verdict: [] for verdict in VERDICTS}
    for one in audit.baselines:
        by[one.verdict].append(one)
    count = len(audit.ground.truth)
    said = []
    if by["beaten"]:
        said.append(f"beats {_listed([_with_value(one, audit) for one in by['beaten']])}")
    if by["not shown"]:
        said.append(
            f"is NOT shown to beat {_listed([_with_gain(one, audit) for one in by['not shown']])}"
        )
    if by["ahead"]:
        said.append(f"does WORSE than {_listed([_with_gain(one, audit) for one in by['ahead']])}")
    told = []
    if said:
        told.append(
            f"Shortcut audit on the same {count:,} images{_crossed(audit)}: the network "
            f"({area_name(audit)} {format_value(audit.network.area.value)}) {'; it '.join(said)}."
        )
    if by["not measured"]:
        names = _listed([one.baseline.words for one in by["not measured"]])
        told.append(
            f"The shortcut audit could not measure {names}: see the notes of its table."
            if said
            else f"No baseline of the shortcut audit could be measured ({names}): there are too "
            "few patients. Nothing is known of shortcuts here."
        )
    return tuple(told)


def _crossed(audit: Audit) -> str:
    return "" if audit.ground.learn_truth is not None else " (baselines cross-validated on them)"


def _measure(one: Beside, audit: Audit) -> str:
    return area_name(audit) if one.baseline.by == "area" else right_name(audit)


def _with_value(one: Beside, audit: Audit) -> str:
    # the area is named once, at the head of the sentence
    name = "" if one.baseline.by == "area" else f"{right_name(audit)} "
    return f"{one.baseline.words} ({name}{format_value(one.quoted.value)})"


def _with_gain(one: Beside, audit: Audit) -> str:
    return f"{_with_value(one, audit)[:-1]}; difference {signed(one.gain)})"


def signed(interval: Interval) -> str:
    """Write a difference with its interval, such as ``0.012, 95 % CI -0.020 to 0.041``."""
    return (
        f"{format_value(interval.value)}, {100 * interval.level:g} % CI "
        f"{format_value(interval.low)} to {format_value(interval.high)}"
    )


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def metrics_of(audit: Audit, counted: str) -> tuple[Metric, ...]:
    """Return by how much the network exceeds each baseline; their own numbers are in the table."""
    return tuple(
        Metric.of(
            f"{_measure(one, audit)}, network minus {_lower(one.baseline.name)}",
            one.gain,
            group_name=counted,
        )
        for one in audit.baselines
    )


def _lower(name: str) -> str:
    return name[:1].lower() + name[1:]


def baseline_table(audit: Audit) -> Table:
    """Return the table of the network and its baselines."""
    network = audit.network
    rows: list[list[object]] = [
        ["The network", _cell(network.area), "", _cell(network.right), "", ""]
    ]
    rows += [
        [
            one.baseline.name,
            _cell(one.area),
            _difference(one.area_gain),
            _cell(one.right),
            _difference(one.right_gain),
            VERDICTS[one.verdict],
        ]
        for one in audit.baselines
    ]
    right = right_name(audit)
    return Table(
        "Shortcut audit: the network beside what should not suffice",
        [
            "Who answers",
            area_name(audit)[:1].upper() + area_name(audit)[1:],
            "Network minus this",
            right[:1].upper() + right[1:],
            "Network minus this",
            "Verdict",
        ],
        rows,
        note=(
            f"Baselines are {learnt(audit)}. All are measured on the same "
            f"{len(audit.ground.truth):,} images; intervals of 95 %, those of differences from "
            "the same resampled patients. Beaten: the interval of the difference in "
            f"{area_name(audit)} (for the constant answer: in {right}) lies above 0. Hidden: "
            f"{audit.hidden.told}. What is hidden is filled with the mean of the rest of the "
            "image: black would look like air. Where images are cropped closely, the border and "
            "the rest hold some of the organ." + _notes(audit)
        ),
    )


def seen_table(audit: Audit) -> Table:
    """Return what each baseline is given to see."""
    return Table(
        "What each baseline of the shortcut audit sees",
        ["Who answers", "What is seen"],
        [[one.baseline.name, one.baseline.sees] for one in audit.baselines],
    )


def _notes(audit: Audit) -> str:
    """Return what was left out, with the baselines that say so."""
    said: dict[str, list[str]] = {}
    for one in audit.baselines:
        if one.baseline.answer.note:
            said.setdefault(one.baseline.answer.note, []).append(one.baseline.name)
    return "".join(f" {_listed(names)}: {note}" for note, names in said.items())


def _cell(interval: Interval) -> str:
    if interval.low == interval.high:
        return format_value(interval.value)
    return format_measured(interval.value, interval.low, interval.high)


def _difference(interval: Interval) -> str:
    if math.isnan(interval.value):
        return "n/a"
    if math.isnan(interval.low):
        return format_value(interval.value)
    span = f"{format_value(interval.low)} to {format_value(interval.high)}"
    return f"{format_value(interval.value)} ({span})"


def family_table(audit: Audit) -> Table | None:
    """Return the table of each family of metadata alone, the most telling first; None without."""
    if not audit.families:
        return None
    order = sorted(audit.families, key=lambda one: -np.nan_to_num(one.area.value))
    return Table(
        "Metadata, one kind at a time",
        ["Known of the image", _capital(area_name(audit)), "Network minus this", "Note"],
        [
            [
                one.baseline.name,
                _cell(one.area),
                _difference(one.area_gain),
                one.baseline.answer.note,
            ]
            for one in order
        ],
        note=f"Boosted trees, {learnt(audit)}. 0.5 is chance, and what one hopes for.",
    )


def baseline_warnings(audit: Audit) -> list[str]:
    """Warn of what the network is not shown to beat, and of what tells too much by itself."""
    told = []
    for verdict, verb in (("not shown", "is not shown to beat"), ("ahead", "does worse than")):
        names = [one.baseline.words for one in audit.baselines if one.verdict == verdict]
        if names:
            told.append(f"The network {verb} {_listed(names)}: see the shortcut audit.")
    telling = [
        one
        for one in audit.baselines
        if one.baseline.blind and one.baseline.by == "area" and one.area.value >= TELLING
    ]
    others = [one for one in telling if one.baseline.key != NETWORK_HIDDEN]
    if others:
        values = _listed([f"{_cell(one.area)} from {one.baseline.words}" for one in others])
        told.append(
            f"The {area_name(audit)} is {values}: the classes can be told apart by what should not "
            "show the disease, so a good number on these images says little about others."
        )
    if len(others) < len(telling):
        hidden = audit.hidden
        value = next(one.area for one in telling if one.baseline.key == NETWORK_HIDDEN)
        told.append(
            f"With the {hidden.name} hidden ({percent(hidden.share)} of the picture) the network's "
            f"{area_name(audit)} is {_cell(value)}: much of what it goes by lies elsewhere."
        )
    return [*told, *_named_by(audit)]


def _named_by(audit: Audit) -> list[str]:
    """Name the columns and facts that nearly name the class."""
    telling = [one for one in audit.families if one.area.value >= TELLING]
    if not telling:
        return []
    telling.sort(key=lambda one: -one.area.value)
    names = [f"{one.baseline.name!r} ({format_value(one.area.value)})" for one in telling]
    return [
        f"Alone, without any picture, {_listed(names)} "
        f"{'has' if len(names) == 1 else 'have'} {area_name(audit)} of {TELLING:g} or more."
    ]


def origin_table(origin: Origin | None) -> Table | None:
    """Return how many images of each class come from each source; None without sources."""
    if origin is None:
        return None
    related = ""
    if "" in origin.cramers_v:
        related = (
            f" Class and {origin.column}: Cramér's V {format_value(origin.cramers_v[''])}, "
            f"normalised mutual information {format_value(origin.shared_information[''])} (0: no "
            "relation, 1: one names the other)."
        )
    else:
        values = {n: v for n, v in origin.cramers_v.items() if not math.isnan(v)}
        if values:
            most = max(values, key=lambda name: values[name])
            related = (
                f" The finding most tied to {origin.column} is {most!r}: Cramér's V "
                f"{format_value(values[most])}, normalised mutual information "
                f"{format_value(origin.shared_information[most])} (0: no relation, 1: one names "
                "the other)."
            )
    return Table(
        f"Images of each class by {origin.column}",
        ["Class", *(plain(name, limit=28) for name in origin.sources)],
        [[name, *map(int, line)] for name, line in zip(origin.classes, origin.counts, strict=True)],
        note=f"All images at hand that are labelled.{related} {_told_by_picture(origin)}",
    )


def _told_by_picture(origin: Origin) -> str:
    found = origin.probe
    if math.isnan(found.auroc):
        return f"Whether the picture tells its {origin.column} is not known: {found.note}"
    return (
        f"How well a thumbnail tells its {origin.column} (principal components and logistic "
        f"regression, cross-validated over patients): AUROC "
        f"{format_measured(found.auroc, found.low, found.high)}."
    )


def origin_warnings(origin: Origin | None) -> list[str]:
    """Warn where class and source can hardly be told from one another."""
    if origin is None:
        return []
    told = []
    if origin.coincides:
        told.append(
            f"Class nearly equals {origin.column}: every class comes almost wholly from sources of "
            "its own, so that no result here can tell the disease from the place."
        )
    elif origin.own:
        told.append(
            f"{_listed([repr(name) for name in origin.own])}: almost all images come from a "
            f"{origin.column} that has hardly anything else, so that the class can be recognised "
            "by the place."
        )
    if told and origin.probe.auroc >= TELLING:
        told[-1] += (
            f" The picture does tell its {origin.column}: AUROC {format_value(origin.probe.auroc)} "
            "from thumbnails."
        )
    return told


def copies_table(check: CopyCheck | None, ids: Sequence[str]) -> Table | None:
    """Return up to 20 near duplicates across the split; None where there are none."""
    if check is None or check.images == 0:
        return None
    pairs = check.copies
    shown = min(SHOWN_COPIES, len(pairs.judged))
    without = check.area_without
    return Table(
        "Judged images with a near duplicate among those learnt from",
        ["Judged image", "Learnt from", "Similarity", "Mirrored"],
        [
            [
                ids[int(pairs.judged[k])],
                ids[int(pairs.learnt[k])],
                float(pairs.similarity[k]),
                bool(pairs.mirrored[k]),
            ]
            for k in range(shown)
        ],
        note=f"{shown:,} of {len(pairs.judged):,} pairs, the most alike first; {check.images:,} "
        f"images have one. AUROC {_cell(check.area)} on all images, "
        f"{'n/a' if without is None else _cell(without)} without them.",
    )


def copies_warnings(check: CopyCheck | None, judged: int) -> list[str]:
    """Warn of pictures that the network had learnt from, or nearly so."""
    if check is None or check.images == 0:
        return []
    without = check.area_without
    rest = (
        "nothing is left without them"
        if without is None
        else f"without them the AUROC is {_cell(without)} instead of {_cell(check.area)}"
    )
    return [
        f"{check.images:,} of {judged:,} judged images ({percent(check.images / judged)}) have a "
        f"near duplicate among the images that were learnt from; {rest}. Divide with "
        "split.duplicates=together."
    ]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
