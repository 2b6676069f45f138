"""The tables of the audit."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from medglean.classify.shortcuts.compare import Verdict
from medglean.classify.shortcuts.origin import Origin
from medglean.classify.shortcuts.result import Audit, CopyCheck
from medglean.classify.shortcuts.words import (
    area_name,
    cell,
    difference,
    learnt,
    listed,
    right_name,
)
from medglean.runs.report import Table
from medglean.runs.style import plain
from medglean.runs.tables import format_measured, format_value

SHOWN_COPIES = 20
VERDICTS: dict[Verdict, str] = {
    "beaten": "beaten",
    "not shown": "NOT shown to be beaten",
    "ahead": "better than the network",
    "not measured": "not measured",
}


def baseline_table(audit: Audit) -> Table:
    """Return the table of the network and its baselines."""
    network = audit.network
    rows: list[list[object]] = [
        ["The network", cell(network.area), "", cell(network.right), "", ""]
    ]
    rows += [
        [
            one.baseline.name,
            cell(one.area),
            difference(one.area_gain),
            cell(one.right),
            difference(one.right_gain),
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
    return "".join(f" {listed(names)}: {note}" for note, names in said.items())


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
                cell(one.area),
                difference(one.area_gain),
                one.baseline.answer.note,
            ]
            for one in order
        ],
        note=f"Boosted trees, {learnt(audit)}. 0.5 is chance, and what one hopes for.",
    )


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
        f"images have one. AUROC {cell(check.area)} on all images, "
        f"{'n/a' if without is None else cell(without)} without them.",
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
