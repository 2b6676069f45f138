"""Tables on disk: JSON without NaN, problems.csv, and blocks of Markdown that a command keeps."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medglean.errors import Problem, UsageError
from medglean.files import write_text

_PROBLEM_COLUMNS = ("file", "row", "column", "kind", "found", "remedy", "fatal")

UNDEFINED = "n/a"


def json_ready(value: Any) -> Any:  # noqa: ANN401 - any nesting of plain values and NumPy's
    """Return a value as JSON can say it: NaN and infinity as null, NumPy's and paths as plain.

    Examples
    --------
    >>> json_ready({"auroc": float("nan"), "classes": ("a", "b")})
    {'auroc': None, 'classes': ['a', 'b']}
    """
    if isinstance(value, Mapping):
        return {str(key): json_ready(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [json_ready(inner) for inner in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # NumPy arrays and scalars
        return json_ready(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def problems_csv(problems: Iterable[Problem]) -> str:
    """Return problems as the text of ``problems.csv``, header first."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _PROBLEM_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for problem in problems:
        writer.writerow(problem.to_row())
    return text.getvalue()


def format_value(value: float | int | None, *, digits: int = 3) -> str:
    """Write a number for people; ``n/a`` where it is undefined, and never 0 for what is not.

    Examples
    --------
    >>> format_value(0.98765), format_value(float("nan")), format_value(1234)
    ('0.988', 'n/a', '1,234')
    """
    if value is None or not math.isfinite(value):
        return UNDEFINED
    if isinstance(value, int):
        return f"{value:,}"
    if 0 < abs(value) < 0.5 * 10**-digits:
        return f"{value:.1e}"
    return f"{value:,.{digits}f}"


def format_measured(value: float | None, low: float | None, high: float | None) -> str:
    """Write a number and its interval for a cell of a table.

    Examples
    --------
    >>> format_measured(0.9512, 0.9321, 0.9703)
    '0.951 (0.932-0.970)'
    """
    interval = format_interval(low, high)
    return format_value(value) + (f" ({interval})" if interval != UNDEFINED else "")


def format_interval(low: float | None, high: float | None, *, digits: int = 3) -> str:
    """Write the limits of an interval; ``n/a`` where there are none.

    Examples
    --------
    >>> format_interval(0.98412, 0.99631)
    '0.984-0.996'
    """
    shown = format_value(low, digits=digits), format_value(high, digits=digits)
    if UNDEFINED in shown:
        return UNDEFINED
    return (" to " if shown[0].startswith("-") else "-").join(shown)


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; numbers are right-aligned, ``|`` and line ends made harmless."""
    shown = [[_cell(value) for value in row] for row in rows]
    numeric = [
        bool(shown) and all(re.fullmatch(r"[-\d.,%/na ]+", row[place]) for row in shown)
        for place in range(len(columns))
    ]
    lines = [
        "| " + " | ".join(_cell(column) for column in columns) + " |",
        "|" + "|".join("---:" if right else "---" for right in numeric) + "|",
        *("| " + " | ".join(row) + " |" for row in shown),
    ]
    return "\n".join(lines)


def results_table(measured: Iterable[Mapping[str, Any]]) -> str:
    """Return the Markdown of measured numbers, one row each, for ``docs/results.md``.

    Parameters
    ----------
    measured
        As a bench or a study wrote them to JSON: ``name``, ``value`` and, where they apply,
        ``unit``, ``asked``, ``low``, ``high``, ``n``, ``groups``, ``command``, ``machine``,
        ``note``.

    Raises
    ------
    UsageError
        If a row has no name, value or command: no number stands without what made it.
    """
    rows = []
    for record in measured:
        absent = [key for key in ("name", "value", "command") if key not in record]
        if absent:
            raise UsageError(
                f"result {record.get('name', '?')!r}: {', '.join(absent)} missing. Write the JSON "
                "with the command that measures."
            )
        unit = str(record.get("unit", "") or "")
        rows.append(
            (
                record["name"],
                format_value(record["value"]) + (f" {unit}" if unit else ""),
                record.get("asked", "") or "",
                format_interval(record.get("low"), record.get("high")),
                format_value(record.get("n")),
                format_value(record.get("groups")),
                f"`{record['command']}`",
                record.get("machine", "") or "",
                record.get("note", "") or "",
            )
        )
    columns = [
        "What",
        "Value",
        "Asked for",
        "95 % interval",
        "n",
        "Groups",
        "Command",
        "Machine",
        "Note",
    ]
    return markdown_table(columns, rows)


def update_block(path: Path, name: str, markdown: str) -> None:
    """Replace what stands between ``<!-- results:NAME -->`` and ``<!-- /results:NAME -->``.

    A block that is not there yet is added at the end; the rest of the file stays as it is.

    Parameters
    ----------
    path
        A Markdown file; made if absent.
    name
        Letters, digits, ``-``, ``_`` and ``.``.
    markdown
        The new content, without the markers.

    Raises
    ------
    UsageError
        If the name or the content would break the markers, or a marker stands alone or twice.
    """
    if not re.fullmatch(r"[\w.-]+", name):
        raise UsageError(
            f"block name {name!r}: only letters, digits, '-', '_' and '.' may be used."
        )
    opening, closing = f"<!-- results:{name} -->", f"<!-- /results:{name} -->"
    if opening in markdown or closing in markdown:
        raise UsageError(f"block {name!r}: its content holds its own marker. Leave it out.")
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    counts = text.count(opening), text.count(closing)
    block = f"{opening}\n\n{markdown.strip()}\n\n{closing}"
    if counts == (0, 0):
        before = text.rstrip("\n") + "\n\n" if text.strip() else ""
        write_text(path, f"{before}{block}\n")
        return
    start, end = text.find(opening), text.find(closing)
    if counts != (1, 1) or end < start:
        raise UsageError(
            f"{path}: expected one {opening} and after it one {closing}, found {counts[0]} and "
            f"{counts[1]}. Mend the markers by hand."
        )
    write_text(path, text[:start] + block + text[end + len(closing) :])


def _cell(value: object) -> str:
    if isinstance(value, float):
        value = format_value(value)
    return re.sub(r"\s+", " ", str(value)).replace("|", "\\|").strip()
