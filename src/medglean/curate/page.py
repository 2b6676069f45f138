"""The report of a curation: what to label, what that saves, and what to know beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medglean.curate.curation import Curation
from medglean.curate.figures import share_text
from medglean.curate.page_figures import charts, examples
from medglean.curate.page_tables import (
    Cost,
    beside_tables,
    conflict_tables,
    in_units,
    redundancy_table,
    time_table,
    trouble_table,
)
from medglean.curate.pictures import Picture
from medglean.errors import Problem
from medglean.runs.report import Figure, Metric, Report, Table

__all__ = ["Cost", "curation_report"]


def curation_report(
    curation: Curation,
    *,
    name: str,
    picture: Picture | None = None,
    cost: Cost | None = None,
    problems: Sequence[Problem] = (),
    done: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    map_names: str | None = None,
    train_preset: str = "cxr-small",
    figures: Sequence[Figure] | None = None,
    seed: int = 0,
) -> Report:
    """Make the page of a curation.

    Parameters
    ----------
    curation
        From `medglean.curate.curation.look_into`.
    name
        Of the data, such as the manifest's file name.
    picture
        From a position to the image there, for the examples; None: no examples are shown.
    cost
        What a label costs.
    problems
        Images that could not be read or embedded, and why.
    done, data, provenance
        As `medglean.runs.report.Report` takes them; counts are added to ``data``.
    map_names
        Column whose values the map tells apart, such as ``site``; by default the label.
    train_preset
        Preset that the next command names.
    figures
        In place of the charts, which need the embedding of all images.
    seed
        Of the map.
    """
    selection = curation.selection
    chosen, total = len(selection.chosen), len(curation.manifest)
    return Report(
        title=f"Which images to label: {name}",
        sentence=_sentence(curation),
        metrics=_metrics(curation, cost or Cost()),
        tables=[
            _next_steps(curation, train_preset),
            *beside_tables(selection.comparison),
            redundancy_table(curation),
            time_table(cost or Cost(), chosen=chosen, total=total),
            trouble_table(curation),
            *conflict_tables(curation),
        ],
        figures=[
            *(charts(curation, map_names=map_names, seed=seed) if figures is None else figures),
            *([] if picture is None else examples(curation, picture)),
        ],
        problems=list(problems),
        warnings=_warnings(curation, problems),
        done={"method": selection.method, "drawn at random": selection.start, **(done or {})},
        data={**_counts(curation), **(data or {})},
        provenance=dict(provenance or {}),
    )


def _sentence(curation: Curation) -> str:
    selection = curation.selection
    told = (
        f"Label these {len(selection.chosen):,} of {len(curation.manifest):,} images: "
        "selected.csv lists them, the first to be labelled first, each with the reason."
    )
    beside = selection.comparison
    if beside is None:
        return told
    mean, random = beside.selection.coverage_mean, beside.random_mean.coverage_mean
    return (
        f"{told} The average image then resembles a labelled one by {mean:.3f} (1 is the same); "
        f"with {len(selection.chosen):,} images drawn at random, by {random:.3f}."
    )


def _metrics(curation: Curation, cost: Cost) -> list[Metric]:
    selection = curation.selection
    chosen, total = len(selection.chosen), len(curation.manifest)
    share = share_text(chosen / total)
    found = [Metric("Images to label", chosen, note=f"{share} of {total:,} images")]
    beside = selection.comparison
    if beside is not None:
        mine, random = beside.selection, beside.random_mean
        found += [
            Metric(
                "Coverage",
                mine.coverage_mean,
                note="similarity of the average image to its nearest labelled one; random: "
                f"{random.coverage_mean:.3f}",
            ),
            Metric(
                "Near-copies selected",
                round(100 * mine.redundant_share) if mine.redundant_share >= 0.005 else 0,
                "%",
                note="of the selected images have another one above 0.9; random: "
                f"{share_text(random.redundant_share)}",
            ),
        ]
    for name, (kind, seconds) in zip(("classes", "masks"), cost.kinds().items(), strict=True):
        value, unit = in_units((total - chosen) * seconds)
        found.append(Metric(f"Time saved, {name}", value, unit, note=f"{kind}, {share} labelled"))
    return found


def _next_steps(curation: Curation, preset: str) -> Table:
    column = curation.label or "label"
    rows: list[list[object]] = []
    if curation.set_aside:
        rows.append(["Look at outliers.csv: what belongs to the task can be put back.", ""])
    if curation.conflicts is not None and len(curation.conflicts.pairs):
        rows.append(["Look at the suspected label errors in duplicates.csv.", ""])
    rows += [
        [f"Fill the column {column} in selected.csv; with less time, fill the first rows.", ""],
        ["Train on it.", f"medglean train classify {preset} selected.csv -o runs/curated"],
        ["Measure on images drawn at random, by patient, that are not in it.",
         "medglean evaluate runs/curated TEST.csv -o runs/test"],
    ]  # fmt: skip
    return Table(
        "What to do next",
        ["Step", "What", "Command"],
        [[number, *row] for number, row in enumerate(rows, start=1)],
    )


def _counts(curation: Curation) -> dict[str, object]:
    manifest, selection = curation.manifest, curation.selection
    counts: dict[str, object] = {"images with an embedding": f"{len(manifest):,}"}
    for name in ("patient", "group"):
        if name in manifest.frame:
            counts[f"{name}s"] = f"{manifest.frame[name].nunique():,}"
    counts["could be chosen"] = f"{len(selection.eligible) - len(selection.taken):,}"
    if len(selection.taken):
        counts["taken beforehand"] = f"{len(selection.taken):,}"
    return counts


def _warnings(curation: Curation, problems: Sequence[Problem]) -> list[str]:
    selection = curation.selection
    found = [f"{problem.found} {problem.remedy}".strip() for problem in selection.warnings]
    found = [text[0].upper() + text[1:] for text in found]
    unreadable = [problem for problem in problems if problem.fatal]
    if unreadable:
        found.append(
            f"Images that could not be read and are in no list: {len(unreadable):,}. The problems "
            "below say why."
        )
    beside = selection.comparison
    if beside is not None and beside.selection.coverage_mean <= beside.random_mean.coverage_mean:
        mine, random = beside.selection, beside.random_mean
        found.append(
            "By the similarity of the average image to its nearest labelled one, this selection is "
            f"no better than a random one ({mine.coverage_mean:.3f}, random "
            f"{random.coverage_mean:.3f}); for the worst represented image it is "
            f"{mine.coverage_worst:.3f}, random {random.coverage_worst:.3f}. Try another method if "
            "typical images matter more than rare ones."
        )
    if curation.leaks is not None and len(curation.leaks.pairs):
        parts = ", ".join(f"{count:,} of {part}" for part, count in curation.leaks.images().items())
        found.append(
            f"Near-duplicates stand in different parts of the split ({parts}): what is measured "
            "there may look better than it is. Split again by patient, or drop one of each pair."
        )
    if curation.conflicts is not None and len(curation.conflicts.pairs):
        found.append(
            f"Pairs of near-duplicates with different labels: {len(curation.conflicts.pairs):,}. "
            "Check them before training."
        )
    found.append(
        "The selection is for training. It was picked to be varied, so it is not representative "
        "and must not be used as a test set."
    )
    return found
