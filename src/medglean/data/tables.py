"""Tables on disk, read so that nothing is guessed: every field is text until a column says else.

The usual readers turn ``007`` into 7 and ``NA`` into a missing value before anyone can object.
Here a CSV gives text, only the empty field is missing, and what cannot be read for certain (an
unknown encoding, a row of the wrong length) is told with its row instead of being repaired.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from medglean.errors import ManifestError, Problem

TEXT = pd.StringDtype(na_value=np.nan)
"""The type of every text column: missing is NaN, so that comparisons give False there."""

PARQUET_MAGIC = b"PAR1"
RECORDS_AT_A_TIME = 50_000
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16: its mark begins with UTF-16's
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_OTHER_FORMATS = (
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
    (b"\x89PNG", "a PNG image"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"%PDF", "a PDF"),
)
_SAVE_AS = "Save the table as 'CSV UTF-8' or as Parquet."


@dataclass(frozen=True)
class Table:
    """A table as it stands in its file.

    Attributes
    ----------
    frame
        The records. From a CSV every column is text.
    rows
        Row of each record as a spreadsheet shows it (the header is 1), shape (n,).
    problems
        What was wrong with the file itself; records that do not fit are left out of ``frame``.
    typed
        Whether the file gave its columns types (Parquet) or only text (CSV).
    """

    frame: pd.DataFrame
    rows: np.ndarray
    problems: list[Problem] = field(default_factory=list)
    typed: bool = False


def read_table(path: Path) -> Table:
    """Read a CSV or Parquet file; which of them it is, its content decides, not its suffix.

    Raises
    ------
    ManifestError
        If it is missing, is neither, or is so damaged that no record can be trusted.
    """
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except FileNotFoundError as error:
        raise _refusal(path, "there is no such file.", "Check the path.", "missing") from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        found = f"it cannot be opened ({reason})."
        raise _refusal(path, found, "Give a file that you may read.", "unreadable") from error
    if head[:4] == PARQUET_MAGIC:
        return _read_parquet(path)
    for magic, name in _OTHER_FORMATS:
        if head.startswith(magic):
            raise _refusal(path, f"this is {name}, not CSV or Parquet.", _SAVE_AS, "format")
    return read_csv(path)


def _refusal(
    path: Path, found: str, remedy: str, kind: str, *, row: int | None = None
) -> ManifestError:
    return ManifestError([Problem(str(path), found, remedy, row=row, kind=kind)])


# --- Parquet ------------------------------------------------------------------------------------


def _read_parquet(path: Path) -> Table:
    try:
        with pq.ParquetFile(path) as file:
            table = file.read()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _refusal(
            path,
            "the file begins as Parquet but cannot be read to its end: it is cut short or damaged.",
            "Write or copy it again.",
            "damaged",
        ) from error
    problems = duplicate_names(path, table.schema.names)
    if problems:
        raise ManifestError(problems)
    return Table(frame_of(table), np.arange(2, table.num_rows + 2), typed=True)


def frame_of(table: pa.Table) -> pd.DataFrame:
    """Return an Arrow table as a frame that keeps whole numbers whole beside missing values."""
    columns = {name: _to_series(table.column(name)) for name in table.schema.names}
    return pd.DataFrame(columns, index=pd.RangeIndex(table.num_rows))


def _to_series(column: pa.ChunkedArray) -> pd.Series:
    """Turn a Parquet column into a series without losing what it is."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return text_series(column)
    if pa.types.is_integer(column.type) and column.null_count:
        # not left to the default: it would turn 7 into 7.0 because one value is missing
        return pd.Series(column.to_pandas(types_mapper=lambda _: pd.Int64Dtype()))
    return pd.Series(column.to_pandas())


def text_series(column: pa.ChunkedArray | list[str | None]) -> pd.Series:
    """Return a text series; ``None`` is missing and the empty text stays an empty text."""
    if isinstance(column, list):
        column = pa.chunked_array([pa.array(column, pa.large_string())])
    column = column.cast(pa.large_string())
    return pd.Series(TEXT.__from_arrow__(column))  # type: ignore[attr-defined] # not in the stubs


def duplicate_names(path: Path | str, names: list[str]) -> list[Problem]:
    """Return a problem for each column name that occurs more than once."""
    twice = sorted({name for name in names if name and names.count(name) > 1})
    return [
        Problem(
            str(path),
            f"{names.count(name)} columns have this name.",
            "Rename or remove all but one.",
            row=1,
            column=name,
            kind="duplicate-column",
        )
        for name in twice
    ]


# --- CSV ----------------------------------------------------------------------------------------


def read_csv(path: Path) -> Table:
    """Read a CSV of text: comma, semicolon or tab; UTF-8, or UTF-16 and UTF-32 with their mark.

    Raises
    ------
    ManifestError
        If the encoding or the quotes leave it open what the records are.
    """
    data = path.read_bytes()
    records = _records(path, data, _encoding(path, data))
    header_row, header = next(((r, c) for r, c in records if any(c)), (1, []))
    if not header:
        raise _refusal(path, "the file is empty.", "Give a table with a header row.", "empty")
    problems = duplicate_names(path, header)
    if problems:
        raise ManifestError(problems)
    columns, rows, problems = _gather(path, records, len(header))
    series = {
        name: text_series(column) for name, column in zip(header, columns, strict=True) if name
    }
    for name, column in zip(header, columns, strict=True):
        if not name and column.null_count < len(column):
            found = "a column without a name holds values."
            remedy = "Name it in the header row or remove it."
            problems.append(Problem(str(path), found, remedy, header_row, kind="unnamed-column"))
    frame = pd.DataFrame(series, index=pd.RangeIndex(len(rows)))
    return Table(frame, rows, problems)


def _encoding(path: Path, data: bytes) -> str:
    """Return the one encoding that the file can be in."""
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            try:
                data.decode(encoding)
            except UnicodeDecodeError as error:
                found = f"the file is marked as {encoding.upper()} but does not decode as such."
                raise _refusal(path, found, _SAVE_AS, "encoding") from error
            return encoding
    if (at := data.find(b"\0")) >= 0:
        row = data.count(b"\n", 0, at) + 1
        found = "a NUL byte: this is no CSV, or a UTF-16 text without its byte-order mark."
        raise _refusal(path, found, _SAVE_AS, "nul-byte", row=row)
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        row = data.count(b"\n", 0, error.start) + 1
        found = (
            f"byte 0x{data[error.start]:02X} is not UTF-8, and Latin-1, Windows-1252 and others "
            "would each read another letter there."
        )
        raise _refusal(path, found, _SAVE_AS, "encoding", row=row) from error
    return "utf-8"


def _records(path: Path, data: bytes, encoding: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (row as a spreadsheet shows it, fields); a blank line is a row without fields."""
    text = io.TextIOWrapper(io.BytesIO(data), encoding=encoding, newline="")
    first = text.readline()
    text.seek(0)
    hint = re.fullmatch(r"sep=([,;\t])\r?\n?", first)  # Excel's own way to say it
    delimiter = hint[1] if hint else _delimiter(first)
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    row = 0
    try:
        for row, fields in enumerate(reader, start=1):
            if row == 1 and hint:
                continue
            yield row, fields
    except csv.Error as error:
        found = f"the quotes do not close as they should near line {reader.line_num} ({error})."
        remedy = 'Inside a quoted field write each quote twice (""), and close every field.'
        raise _refusal(path, found, remedy, "quotes", row=row + 1) from error


def _delimiter(header: str) -> str:
    """Choose the delimiter under which the header has the column ``id``, or else most columns."""

    def rank(delimiter: str) -> tuple[bool, int]:
        try:
            names = next(csv.reader([header], delimiter=delimiter), [])
        except csv.Error:
            return False, 0
        return "id" in names, len(names)

    return max(",;\t", key=rank)


def _gather(
    path: Path, records: Iterator[tuple[int, list[str]]], width: int
) -> tuple[list[pa.ChunkedArray], np.ndarray, list[Problem]]:
    """Collect records into columns, a block at a time so that memory stays small."""
    blocks: list[list[pa.Array]] = [[] for _ in range(width)]
    rows: list[int] = []
    problems: list[Problem] = []
    block: list[list[str]] = []

    def flush() -> None:
        for chunks, values in zip(blocks, zip(*block, strict=True), strict=True):
            chunks.append(pa.array([value or None for value in values], pa.large_string()))
        block.clear()

    for row, fields in records:
        if not any(fields):
            continue  # a blank line, or the empty rows that a spreadsheet leaves at the end
        if len(fields) != width:
            found = f"{len(fields)} fields, the header has {width}."
            remedy = "Quote fields that hold the delimiter, or fill up the row."
            problems.append(Problem(str(path), found, remedy, row=row, kind="ragged-row"))
            continue
        block.append(fields)
        rows.append(row)
        if len(block) == RECORDS_AT_A_TIME:
            flush()
    if block:
        flush()
    columns = [pa.chunked_array(chunks, pa.large_string()) for chunks in blocks]
    return columns, np.array(rows, dtype=np.int64), problems
