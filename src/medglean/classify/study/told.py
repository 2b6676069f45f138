"""What a reader of the 2022 study must know before believing its numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from medglean.classify.assess import Assessment
from medglean.classify.prepare import Chosen
from medglean.classify.shortcuts.origin import cramers_v
from medglean.classify.study.compared import full_label, unique
from medglean.classify.study.gains import bound_of, main_measure
from medglean.classify.study.rows import Trained
from medglean.data.labels import label_sets
from medglean.runs.report import Table
from medglean.runs.tables import format_value

REPORT_EPOCHS = 50
"""Passes over the training images in the 2022 report."""
TOGETHER = 0.5
"""Cramer's V from which class and source are said to go together."""
MOST_SOURCES = 6
"""Sources that have a column of their own."""


def answer_of(constant: Assessment) -> str:
    """Return what the constant answer says of every image.

    Examples
    --------
    For several findings: ``"COVID-19 + Pneumonia + Viral"``.
    """
    if constant.n == 0:
        return "nothing"
    named = [name for name, said in zip(constant.classes, constant.called[0], strict=True) if said]
    return " + ".join(named) or "no finding"


def source_table(chosen: Chosen) -> tuple[Table | None, list[str]]:
    """Count the classes of each source, and warn where one tells the other.

    Returns
    -------
    tuple
        The table, None without a column ``source`` of two or more values, and warnings.
    """
    frame = chosen.manifest.frame
    if "source" not in frame:
        return None, []
    source = frame["source"].fillna("not known").astype(str).to_numpy(dtype=object)
    if len(set(source)) < 2:
        return None, []
    several = chosen.kind == "multi"
    sets = label_sets(frame[chosen.column], several=several)
    has = {name: np.array([name in (s or ()) for s in sets]) for name in chosen.classes}
    counted = pd.Series(source).value_counts()
    shown = list(counted.index[:MOST_SOURCES])
    others = [*shown, "others"] if len(counted) > len(shown) else shown
    place = np.where(np.isin(source, shown), source, "others")
    rows: list[list[object]] = []
    for name, present in has.items():
        row: list[object] = [name, *(int((present & (place == one)).sum()) for one in others)]
        rows.append([*row, _association(present, source)] if several else row)
    if several:
        known = [float(str(row[-1])) for row in rows]
        highest = np.nanmax([*known, 0.0])
        top = [str(row[0]) for row, v in zip(rows, known, strict=True) if v == highest]
        what = f"finding {top[0]!r}" if top else "a finding"
        columns = ["Finding", *others, "Cramer's V"]
    else:
        label = [(names or ("",))[0] for names in sets]
        highest, what, columns = _association(label, source), "class", ["Class", *others]
    guess = _guess(chosen, source, sets)
    note = (
        "Images of all parts. Cramer's V says how closely the two go together: 0 not at all, 1 as "
        f"one and the same. {'' if several else f'Here it is {format_value(float(highest))}. '}"
        f"{guess}"
    )
    table = Table("What comes from where", columns, rows, note=note)
    if not highest >= TOGETHER:
        return table, []
    return table, [
        f"Source and {what} go together (Cramer's V {format_value(float(highest))}): a network can "
        f"score well by recognising where an image comes from. {guess}"
    ]


def _association(first: Sequence[object] | np.ndarray, second: np.ndarray) -> float:
    """Return Cramer's V of two names of each image."""
    counts = pd.crosstab(pd.Series(list(first), dtype=object), pd.Series(second, dtype=object))
    return cramers_v(counts.to_numpy(dtype=np.int64))


def _guess(chosen: Chosen, source: np.ndarray, sets: Sequence[tuple[str, ...] | None]) -> str:
    """Say how often each source's most frequent answer in the training part is right."""
    answer = np.array([";".join(sorted(names or ())) for names in sets], dtype=object)
    part = chosen.manifest.frame["split"].to_numpy(dtype=object)
    learn, test = part == "train", part == "test"
    if not learn.any() or not test.any():
        return ""
    usual = pd.Series(answer[learn]).mode().iloc[0]
    by_source = pd.Series(answer[learn]).groupby(source[learn]).agg(lambda s: s.mode().iloc[0])
    said = np.array([by_source.get(one, usual) for one in source[test]], dtype=object)
    share = float((said == answer[test]).mean())
    return (
        "Naming what is most frequent in an image's source, without looking at it, is right on "
        f"{100 * share:.1f} % of the test images."
    )


def patients_told(chosen: Chosen) -> list[str]:
    """Warn where patients are not known, or stand on both sides of the split."""
    manifest = chosen.manifest
    frame = manifest.frame
    told: list[str] = []
    if "patient" not in frame or frame["patient"].isna().all():
        told.append(
            "Patients are not known, so that images of one patient may be learnt from and tested "
            "on: the numbers may flatter the networks, and their intervals are too narrow."
        )
        return told
    if any(problem.kind == "groups-across-parts" for problem in chosen.problems):
        return told  # the division has told it, with its own counts
    known = frame[frame["patient"].notna()]
    learnt = set(known.loc[known["split"] == "train", "patient"])
    tested = known.loc[known["split"] == "test", "patient"]
    both = len(learnt & set(tested))
    if both:
        how = _views(chosen)
        torn = int(tested.isin(learnt).sum())
        told.append(
            f"The split{how} crosses patients: {both:,} of them, with {torn:,} of {len(tested):,} "
            "test images, were also learnt from. The numbers flatter the networks; split.group="
            "patient with split.anew=true keeps patients on one side."
        )
    return told


def _views(chosen: Chosen) -> str:
    """Say that the split is by view where no view is both learnt from and tested on."""
    frame = chosen.manifest.frame
    if "view" not in frame:
        return ""
    views = {
        part: sorted(set(frame.loc[frame["split"] == part, "view"].dropna().astype(str)))
        for part in ("train", "test")
    }
    if not views["train"] or not views["test"] or set(views["train"]) & set(views["test"]):
        return ""
    return f" by view ({', '.join(views['train'])} against {', '.join(views['test'])})"


def training_told(trained: Sequence[Trained]) -> list[str]:
    """Warn of trainings that are shorter than the report's, and of those that diverged."""
    told = []
    trained = unique(trained)
    short = [one for one in trained if one.epochs < REPORT_EPOCHS]
    if short:
        least, most = min(one.epochs for one in short), max(one.epochs for one in short)
        span = f"{least}" if least == most else f"{least} to {most}"
        told.append(
            f"Training is shorter than the report's {REPORT_EPOCHS} epochs ({len(short)} of "
            f"{len(trained)} trainings: {span}): the numbers are no reproduction of it."
        )
    for one in trained:
        if one.note:
            told.append(f"{full_label(one)} diverged: {one.note}")
    return told


def constant_told(trained: Sequence[Trained]) -> list[str]:
    """Warn where an answer that looks at no image does as well as every network."""
    if not trained:
        return []
    name = main_measure(trained[0].found.kind)
    best = max(trained, key=lambda one: _or_lowest(one.found.headline[name].value))
    constant = best.constant
    always, found = constant.headline[name].value, best.found.headline[name].value
    if not always >= found:
        return []
    told = (
        f"Always answering {answer_of(constant)} has {name} {format_value(always)}; no network "
        f"has more (the best, {best.cell.label}, {format_value(found)}). "
    )
    if constant.kind == "multi":
        recall = bound_of(constant).recall
        told += (
            "Exact match then says how alike the test images are, not that disease was recognised;"
            f" the same answer has macro recall {format_value(recall)}, for it finds all of a few "
            "findings and none of the others."
        )
    else:
        told += "Accuracy then says how frequent that class is, not that disease was recognised."
    return [told]


def arithmetic_told(trained: Sequence[Trained]) -> list[str]:
    """Warn of a macro F1 that cannot be; there is none unless something is counted wrongly."""
    return [
        f"{full_label(one)}: macro F1 {format_value(bound.f1)} exceeds (macro precision + macro "
        f"recall) / 2 = {format_value(bound.most)}, which cannot be."
        for one in trained
        if not (bound := bound_of(one.found)).holds
    ]


def _or_lowest(value: float) -> float:
    return -math.inf if math.isnan(value) else value
