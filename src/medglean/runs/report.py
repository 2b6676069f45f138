"""What a run came to: one page that needs nothing else, the same numbers as JSON, and one line.

The page is a single file without scripts: pictures are inside it, and a content-security policy
forbids every request. All text is escaped, for file and class names may hold anything.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import jinja2
from markupsafe import Markup

import medglean
from medglean.errors import Problem
from medglean.files import write_bytes
from medglean.runs.disk import told
from medglean.runs.environment import utc_now
from medglean.runs.tables import (
    UNDEFINED,
    format_interval,
    format_value,
    json_ready,
    problems_csv,
)

RESEARCH_ONLY = "Research use only. Not a medical device, never a diagnosis."
SHOWN_PROBLEMS = 50
Section = Literal["results", "training", "examples"]
_LONG = 10
"""Entries from which an inner table, such as the packages' versions, is told in one line."""
_MIME = {"svg": "image/svg+xml", "png": "image/png"}


class HasInterval(Protocol):
    """What `Metric.of` takes: an interval as `medglean.measure.intervals` gives it."""

    @property
    def value(self) -> float: ...  # noqa: D102
    @property
    def low(self) -> float: ...  # noqa: D102
    @property
    def high(self) -> float: ...  # noqa: D102
    @property
    def level(self) -> float: ...  # noqa: D102
    @property
    def n(self) -> int: ...  # noqa: D102
    @property
    def groups(self) -> int: ...  # noqa: D102
    @property
    def note(self) -> str: ...  # noqa: D102


def group_name(grouped_by: str) -> str:
    """Return what to call the groups that a number counts, from the columns that made them.

    Examples
    --------
    >>> group_name("patient"), group_name("id"), group_name("patient+id")
    ('patients', 'images', 'groups')
    """
    return {"patient": "patients", "id": "images"}.get(grouped_by, "groups")


@dataclass(frozen=True)
class Metric:
    """One number with what it rests on.

    Attributes
    ----------
    name
        Such as ``"AUROC"``.
    value
        NaN where undefined; the note says why.
    unit
        Empty for shares and areas.
    low, high, level
        Confidence interval; ``None`` or NaN where there is none.
    n, groups
        Images and patients (``group_name``).
    note
        A sentence where something should be known.
    group_name
        What was counted as a group.
    """

    name: str
    value: float
    unit: str = ""
    low: float | None = None
    high: float | None = None
    n: int | None = None
    groups: int | None = None
    note: str = ""
    level: float = 0.95
    group_name: str = "patients"

    @classmethod
    def of(
        cls, name: str, interval: HasInterval, *, unit: str = "", group_name: str = "patients"
    ) -> Metric:
        """Make a metric from an interval."""
        return cls(
            name,
            interval.value,
            unit,
            interval.low,
            interval.high,
            interval.n,
            interval.groups,
            interval.note,
            interval.level,
            group_name,
        )

    @property
    def shown_value(self) -> str:
        """The value for people, with its unit."""
        return f"{format_value(self.value)} {self.unit}".rstrip()

    @property
    def shown_interval(self) -> str:
        """The interval for people."""
        return format_interval(self.low, self.high)

    @property
    def shown_level(self) -> str:
        """Such as ``95 % CI``."""
        return f"{100 * self.level:g} % CI"

    def text(self) -> str:
        """Return the number with everything it rests on, in one line.

        Examples
        --------
        >>> Metric("AUROC", 0.9912, low=0.984, high=0.9957, n=320, groups=268).text()
        'AUROC 0.991 (95 % CI 0.984-0.996, 320 images, 268 patients)'
        """
        behind = []
        if self.shown_interval != UNDEFINED:
            behind.append(f"{self.shown_level} {self.shown_interval}")
        if self.n is not None:
            behind.append(f"{self.n:,} images")
        if self.groups is not None:
            behind.append(f"{self.groups:,} {self.group_name}")
        return f"{self.name} {self.shown_value}" + (f" ({', '.join(behind)})" if behind else "")


@dataclass(frozen=True)
class Table:
    """A table; the first column names its rows.

    Attributes
    ----------
    rows
        Texts and numbers, one per column; whole numbers are written with all digits, others with
        three decimals, NaN and ``None`` as ``n/a``.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    note: str = ""
    section: Section = "results"

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"table {self.title!r}: expected {len(self.columns)} cells per row, found "
                    f"{len(row)}: {list(row)}."
                )

    def lines(self) -> list[str]:
        """Return the table as text, a line for each row."""
        told = [f"{self.title}:"]
        for name, *cells in self.rows:
            pairs = zip(self.columns[1:], map(_cell, cells), strict=True)
            told.append(f"  {name}: " + "; ".join(f"{column} {cell}" for column, cell in pairs))
        return told


@dataclass(frozen=True)
class Figure:
    """A picture, as `medglean.runs.figures` and `medglean.runs.grids` make them.

    Attributes
    ----------
    data, kind
        The file's bytes and their format.
    alt
        What it shows, for those who cannot see it; by default title and caption.
    section
        Where on the page it stands.
    """

    title: str
    caption: str
    data: bytes
    kind: Literal["svg", "png"]
    alt: str = ""
    section: Section = "results"

    @property
    def source(self) -> str:
        """The picture as a data URI: inside an ``img`` no SVG can run a script."""
        return f"data:{_MIME[self.kind]};base64,{base64.b64encode(self.data).decode()}"


@dataclass(frozen=True)
class Report:
    """What a run ends in.

    Attributes
    ----------
    title
        Such as ``"cxr-small on kermany"``.
    sentence
        What was done and came out, in a sentence or two.
    metrics
        The first one is the headline, and the terminal's line.
    tables, figures
        In the order in which they are shown within their section.
    problems
        Files that could not be used, and why.
    warnings
        Sentences that a reader must know before believing the numbers.
    done, data
        What was done (settings) and on what (manifest, counts), as name and value.
    provenance
        Environment, hashes, command; nested tables are allowed.
    """

    title: str
    sentence: str
    metrics: Sequence[Metric] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    problems: Sequence[Problem] = ()
    warnings: Sequence[str] = ()
    done: Mapping[str, object] = field(default_factory=dict)
    data: Mapping[str, object] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    created: str = field(default_factory=utc_now)

    def summary(self) -> str:
        """Return one line for the terminal: the headline metric and how many problems there are."""
        line = self.metrics[0].text() if self.metrics else self.sentence
        if self.problems:
            line += f"; {_counted(len(self.problems), 'problem')}"
        return " ".join(line.split())

    def write(self, folder: Path) -> Path:
        """Write ``report.html``, ``report.json`` and, where there are problems, ``problems.csv``.

        Returns
        -------
        Path
            Of ``report.html``.

        Raises
        ------
        RunFolderError
            If the folder cannot be written.
        """
        page = folder / "report.html"
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        with told(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if self.problems:
                write_bytes(folder / "problems.csv", _encoded(problems_csv(self.problems)))
            write_bytes(folder / "report.json", _encoded(text + "\n"))
            write_bytes(page, _encoded(self.to_html()))
        return page

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the pictures as JSON can say it; NaN becomes ``None``."""
        ready: dict[str, Any] = json_ready(
            {
                "format": 1,
                "medglean": medglean.__version__,
                "notice": RESEARCH_ONLY,
                "created": self.created,
                "title": self.title,
                "sentence": self.sentence,
                "summary": self.summary(),
                "warnings": self.warnings,
                "done": self.done,
                "data": self.data,
                "metrics": [vars(metric) for metric in self.metrics],
                "tables": [vars(table) for table in self.tables],
                "figures": [
                    {"title": f.title, "caption": f.caption, "kind": f.kind, "section": f.section}
                    for f in self.figures
                ],
                "problems": [problem.to_row() for problem in self.problems],
                "provenance": self.provenance,
            }
        )
        return ready

    def to_html(self) -> str:
        """Return the page."""
        return (
            _environment()
            .get_template("report.html.j2")
            .render(
                report=self,
                notice=RESEARCH_ONLY,
                version=medglean.__version__,
                shown_problems=SHOWN_PROBLEMS,
                done=list(_flat(self.done)),
                data=list(_flat(self.data)),
                provenance=list(_flat(self.provenance)),
            )
        )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("medglean.runs", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = _cell
    environment.filters["is_number"] = _is_number
    environment.filters["setting"] = _setting
    environment.filters["counted"] = _counted
    return environment


def _visible(value: object) -> object:
    """Replace what would be unseen or turn the line's direction around by a question mark."""
    if isinstance(value, str) and not isinstance(value, Markup) and not value.isprintable():
        return "".join(char if char.isprintable() or char == "\n" else "?" for char in value)
    return value


def _cell(value: object) -> str:
    if value is None:
        return UNDEFINED
    if isinstance(value, bool):
        return "yes" if value else "no"
    if hasattr(value, "item"):  # NumPy scalars
        value = value.item()
    return format_value(value) if isinstance(value, int | float) else str(value)


def _is_number(value: object) -> bool:
    """Whether a cell stands right-aligned: numbers, with an interval too, and what is undefined."""
    text = _cell(value)
    return text == UNDEFINED or re.match(r"-?\d[\d,.]*($| [(\d%])", text) is not None


def _setting(value: object) -> str:
    """Write a setting exactly as it is: a learning rate is not rounded, a seed has no commas."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "not set" if value is None else str(value)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield name and value of each entry; inner tables get a joined name, long ones one line."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            simple = not any(isinstance(inner, Mapping | list | tuple) for inner in value.values())
            if simple and len(value) > _LONG:
                yield prefix + key, ", ".join(f"{name} {inner}" for name, inner in value.items())
            else:
                yield from _flat(value, f"{prefix}{key}: ")
        elif isinstance(value, list | tuple):
            if any(isinstance(item, Mapping) for item in value):
                for number, item in enumerate(value, start=1):
                    yield from _flat({f"{key} {number}": item}, prefix)
            else:
                yield prefix + key, " ".join(str(item) for item in value) or "none"
        else:
            yield prefix + key, value


def _encoded(text: str) -> bytes:
    """Encode as UTF-8; a file name that is not valid text keeps its place as question marks."""
    return text.encode("utf-8", errors="replace")
