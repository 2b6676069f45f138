"""What a manifest's labels must be: each class spelt in one way."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

import pandas as pd

from medglean.data.findings import Findings, check_blanks

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)")
_LOOKS_MISSING = ("na", "n/a", "nan", "none", "null", "missing", "?", "-")


def same_but_for_spelling(names: Iterable[str]) -> list[list[str]]:
    """Return groups of names that differ only by case, blanks around them or Unicode's form.

    Examples
    --------
    >>> same_but_for_spelling(["Normal", "normal ", "COVID"])
    [['Normal', 'normal ']]
    """
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        plain = unicodedata.normalize("NFC", name).strip().casefold()
        groups.setdefault(plain, []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def _same_number(names: Iterable[str]) -> list[list[str]]:
    groups: dict[float, list[str]] = {}
    for name in sorted(names):
        if _NUMBER.fullmatch(name.strip()):
            groups.setdefault(float(name), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def _check_spelling(
    names: list[str], first_row: pd.Series, column: str, findings: Findings
) -> None:
    faults = (
        ("label-spelling", same_but_for_spelling(names),
         "differ only by case or blanks and would be different classes."),
        ("label-number", _same_number(names),
         "are one number in different spellings and would be different classes."),
    )  # fmt: skip
    for kind, groups, what in faults:
        for group in groups:
            listed = " and ".join(repr(name) for name in group)
            row = int(first_row[group[-1]])
            remedy = "Spell them alike."
            findings.tell(kind, f"{listed} {what}", remedy, column=column, row=row)
    numbers = [name for name in names if _NUMBER.fullmatch(name.strip())]
    words = [n for n in names if any(c.isalpha() for c in n) and n.casefold() not in _LOOKS_MISSING]
    if numbers and words:
        found = f"some labels are numbers ({numbers[0]!r}) and some are words ({words[0]!r})."
        remedy = "If two tables were joined, give their classes the same names."
        findings.tell("mixed-labels", found, remedy, column=column, fatal=False)
    for name in names:
        if name.strip().casefold() in _LOOKS_MISSING:
            found = f"{name!r} is taken as the name of a class."
            remedy = "If it stands for a missing label, leave the field empty."
            row = int(first_row[name])
            findings.tell("label-na", found, remedy, column=column, row=row, fatal=False)


def check_labels(series: pd.Series, column: str, findings: Findings) -> None:
    """Tell labels that look like one class spelt in two ways, and labels of mixed kind."""
    present = series[series.notna()]
    first = present.drop_duplicates()
    first_row = pd.Series(findings.rows[first.index.to_numpy()], index=first.to_numpy())
    _check_spelling(list(first), first_row, column, findings)
    alike = {name for group in same_but_for_spelling(first) for name in group}
    check_blanks(series.mask(series.isin(list(alike))), column, findings)


def check_multi_labels(series: pd.Series, findings: Findings) -> pd.Series:
    """Check names joined by ``;``; a single ``;`` is the way to say "none of them" in a CSV."""
    series = series.mask(series.str.strip() == ";", "")
    sets = series[series.notna() & (series != "")]
    first_row: dict[str, int] = {}
    for text, at in zip(sets.drop_duplicates(), sets.drop_duplicates().index, strict=True):
        parts = [part.strip() for part in text.split(";")]
        row = int(findings.rows[at])
        if "" in parts or len(set(parts)) < len(parts):
            fault = "an empty name" if "" in parts else "a name twice"
            remedy = "Join names by a single ';', each once."
            findings.tell("labels", f"{text!r} holds {fault}.", remedy, column="labels", row=row)
        for part in text.split(";"):
            first_row.setdefault(part, row)
    _check_spelling(sorted(first_row), pd.Series(first_row, dtype="int64"), "labels", findings)
    return series
