"""The audit in words: sentences for the first page, and warnings."""

from __future__ import annotations

from medglean.classify.parts import Judged, Part
from medglean.classify.shortcuts.compare import Beside, Verdict
from medglean.classify.shortcuts.drawing import beside_figure, seen_figure
from medglean.classify.shortcuts.origin import Origin
from medglean.classify.shortcuts.result import Audit, CopyCheck
from medglean.classify.shortcuts.tables import (
    VERDICTS,
    baseline_table,
    copies_table,
    family_table,
    origin_table,
    seen_table,
)
from medglean.classify.shortcuts.words import area_name, cell, learnt, listed, right_name, signed
from medglean.runs.report import Metric, group_name
from medglean.runs.style import percent
from medglean.runs.tables import format_value

TELLING = 0.8
"""AUROC from which something that cannot see the disease is worth a warning, beaten or not."""
NETWORK_HIDDEN = "network hidden"
"""Key of the network itself on images of which a part is hidden."""


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


def sentences_of(audit: Audit) -> tuple[str, ...]:
    """Say of each baseline whether the network beats it; ``beats`` only where that is shown."""
    by: dict[Verdict, list[Beside]] = {verdict: [] for verdict in VERDICTS}
    for one in audit.baselines:
        by[one.verdict].append(one)
    count = len(audit.ground.truth)
    said = []
    if by["beaten"]:
        said.append(f"beats {listed([_with_value(one, audit) for one in by['beaten']])}")
    if by["not shown"]:
        said.append(
            f"is NOT shown to beat {listed([_with_gain(one, audit) for one in by['not shown']])}"
        )
    if by["ahead"]:
        said.append(f"does WORSE than {listed([_with_gain(one, audit) for one in by['ahead']])}")
    told = []
    if said:
        told.append(
            f"Shortcut audit on the same {count:,} images{_crossed(audit)}: the network "
            f"({area_name(audit)} {format_value(audit.network.area.value)}) {'; it '.join(said)}."
        )
    if by["not measured"]:
        names = listed([one.baseline.words for one in by["not measured"]])
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


def baseline_warnings(audit: Audit) -> list[str]:
    """Warn of what the network is not shown to beat, and of what tells too much by itself."""
    told = []
    for verdict, verb in (("not shown", "is not shown to beat"), ("ahead", "does worse than")):
        names = [one.baseline.words for one in audit.baselines if one.verdict == verdict]
        if names:
            told.append(f"The network {verb} {listed(names)}: see the shortcut audit.")
    telling = [
        one
        for one in audit.baselines
        if one.baseline.blind and one.baseline.by == "area" and one.area.value >= TELLING
    ]
    others = [one for one in telling if one.baseline.key != NETWORK_HIDDEN]
    if others:
        values = listed([f"{cell(one.area)} from {one.baseline.words}" for one in others])
        told.append(
            f"The {area_name(audit)} is {values}: the classes can be told apart by what should not "
            "show the disease, so a good number on these images says little about others."
        )
    if len(others) < len(telling):
        hidden = audit.hidden
        value = next(one.area for one in telling if one.baseline.key == NETWORK_HIDDEN)
        told.append(
            f"With the {hidden.name} hidden ({percent(hidden.share)} of the picture) the network's "
            f"{area_name(audit)} is {cell(value)}: much of what it goes by lies elsewhere."
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
        f"Alone, without any picture, {listed(names)} "
        f"{'has' if len(names) == 1 else 'have'} {area_name(audit)} of {TELLING:g} or more."
    ]


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
            f"{listed([repr(name) for name in origin.own])}: almost all images come from a "
            f"{origin.column} that has hardly anything else, so that the class can be recognised "
            "by the place."
        )
    if told and origin.probe.auroc >= TELLING:
        told[-1] += (
            f" The picture does tell its {origin.column}: AUROC {format_value(origin.probe.auroc)} "
            "from thumbnails."
        )
    return told


def copies_warnings(check: CopyCheck | None, judged: int) -> list[str]:
    """Warn of pictures that the network had learnt from, or nearly so."""
    if check is None or check.images == 0:
        return []
    without = check.area_without
    rest = (
        "nothing is left without them"
        if without is None
        else f"without them the AUROC is {cell(without)} instead of {cell(check.area)}"
    )
    return [
        f"{check.images:,} of {judged:,} judged images ({percent(check.images / judged)}) have a "
        f"near duplicate among the images that were learnt from; {rest}. Divide with "
        "split.duplicates=together."
    ]
