"""Where checks of a table put what they find, row by row or summed up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from medglean.errors import Problem

SPELT_OUT = 1000
"""How many rows with the same fault are told one by one; the others are counted."""


@dataclass
class Findings:
    """Where the checks put what they find.

    Attributes
    ----------
    file
        The manifest, as the user named it.
    rows
        Row of each record as a spreadsheet shows it, shape (n,).
    problems
        All that was found so far, warnings included.
    """

    file: str
    rows: np.ndarray
    problems: list[Problem] = field(default_factory=list)

    def tell(
        self,
        kind: str,
        found: str,
        remedy: str,
        *,
        column: str | None = None,
        row: int | None = None,
        fatal: bool = True,
    ) -> None:
        """Add one problem."""
        self.problems.append(Problem(self.file, found, remedy, row, column, kind, fatal))

    def tell_rows(
        self,
        kind: str,
        where: np.ndarray,
        found: Iterable[str] | str,
        remedy: str,
        *,
        column: str,
        fatal: bool = True,
    ) -> None:
        """Add a problem for each position in ``where``; ``found`` is one text, or one for each."""
        texts = [found] * len(where) if isinstance(found, str) else found
        shown = where[:SPELT_OUT]
        for row, text in zip(self.rows[shown], texts, strict=False):
            self.tell(kind, text, remedy, column=column, row=int(row), fatal=fatal)
        if len(where) > len(shown):
            more = f"the same in {len(where) - len(shown):,} further rows."
            self.tell(kind, more, remedy, column=column, fatal=fatal)


def positions(mask: pd.Series | np.ndarray) -> np.ndarray:
    """Return where a mask is true, counted from 0."""
    return np.flatnonzero(np.asarray(mask, dtype=bool))


def check_blanks(series: pd.Series, name: str, findings: Findings) -> None:
    """Warn where blanks around a text make it another text than it looks."""
    blank = (series != series.str.strip()) & series.notna()
    if blank.any():
        at = positions(blank)
        found = (f"{value!r} has blanks around it." for value in series.iloc[at])
        remedy = "Remove them, if they are not meant."
        findings.tell_rows("blanks", at, found, remedy, column=name, fatal=False)
