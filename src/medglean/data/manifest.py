"""The manifest: one row per image, checked once, and from then on trusted.

Columns, of which only ``id`` and an image column must be there:

``id``
    Text that occurs once.
``image``, or ``image.<channel>`` for each channel
    Reference to the image, relative to the manifest's folder: ``a.png``, ``b.dcm#frame=3``.
``patient``, ``group``
    Who is shown; what belongs together (clip, volume, slide).
``label``, or ``labels``
    One class name; or several joined by ``;``. Missing is not labelled. For ``labels`` the empty
    text says "none of them"; a CSV writes it as a single ``;``.
``mask``, ``target``
    Reference to a mask or to the other image of a pair.
``split``
    train, val or test.
``root``
    Only on disk: the folder that references are relative to where that is not the manifest's own,
    itself relative to the manifest's folder. The same in every row.

Further columns may hold anything; Parquet keeps their types, CSV their text.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from medglean import files
from medglean.data import manifest_checks as checks
from medglean.data.findings import Findings
from medglean.data.reference import ImageReference
from medglean.data.tables import Table, duplicate_names, read_table
from medglean.errors import DataError, ManifestError, Problem, UsageError

SUFFIXES = (".parquet", ".pq", ".csv")
_FALLBACK = ("patient", "group", "id")
ROWS_PER_GROUP = 100_000


class Manifest:
    """A checked table of images.

    Make one with :meth:`read` or :meth:`from_frame`; both check.

    Attributes
    ----------
    frame
        One row per image, numbered from 0. Treat it as read-only; use :meth:`with_columns`.
    root
        The folder that references are relative to, absolute.
    path
        The file it was read from or written to, ``None`` before that.
    warnings
        What the checks found that does not stop the work.
    """

    def __init__(
        self,
        frame: pd.DataFrame,
        root: Path,
        *,
        path: Path | None = None,
        warnings: Sequence[Problem] = (),
    ) -> None:
        self.frame = frame
        self.root = root
        self.path = path
        self.warnings = tuple(warnings)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read and check a CSV or Parquet file.

        Raises
        ------
        ManifestError
            With all problems of the file together.
        """
        path = Path(path)
        table = read_table(path)
        frame, warnings = _checked(table, str(path))
        root, problems = _root_of(frame, path)
        if problems:
            raise ManifestError(problems)
        return cls(frame.drop(columns="root", errors="ignore"), root, path=path, warnings=warnings)

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, root: str | Path, *, name: str = "the table") -> Self:
        """Check a table in memory whose references are relative to ``root``.

        Rows in messages are counted as if the table were written: the first record is row 2.

        Raises
        ------
        ManifestError
            With all problems of the table together.

        Examples
        --------
        >>> import pandas as pd
        >>> table = pd.DataFrame({"id": ["007"], "image": ["a.png"], "label": ["NA"]})
        >>> manifest = Manifest.from_frame(table, ".")
        >>> len(manifest), manifest.classes()
        (1, ('NA',))
        """
        problems = duplicate_names(name, [str(column) for column in frame.columns])
        if problems:
            raise ManifestError(problems)
        plain = frame.reset_index(drop=True)
        plain.columns = pd.Index([str(column) for column in frame.columns])
        rows = np.arange(2, len(frame) + 2)
        checked, warnings = _checked(Table(plain, rows, typed=True), name)
        if "root" in checked:
            found = "a table in memory has its root as an argument, not as a column."
            raise ManifestError([Problem(name, found, "Remove it.", column="root", kind="root")])
        return cls(checked, Path(root).absolute(), warnings=warnings)

    def __len__(self) -> int:
        return len(self.frame)

    def __repr__(self) -> str:
        return f"<Manifest of {len(self):,} images, root {str(self.root)!r}>"

    @property
    def ids(self) -> list[str]:
        """Id of each row."""
        return list(map(str, self.frame["id"].tolist()))

    @property
    def image_columns(self) -> list[str]:
        """``["image"]``, or the columns ``image.<channel>``."""
        return checks.image_columns(self.frame.columns)

    def classes(self, column: str = "label") -> tuple[str, ...]:
        """Return the class names that occur, sorted; ``labels`` is taken apart at each ``;``.

        Raises
        ------
        UsageError
            If there is no such column.
        """
        if column not in self.frame:
            raise UsageError(
                f"{self._name()}: there is no column {column!r}; the columns are "
                f"{', '.join(map(str, self.frame.columns))}."
            )
        names = set(self.frame[column].dropna().astype(str).unique())
        if column == "labels":
            names = {part.strip() for name in names for part in name.split(";")} - {""}
        return tuple(sorted(names))

    def groups(self, column: str = "patient") -> np.ndarray:
        """Return what each row belongs to, shape (n,), for splits and intervals.

        A row without a value in ``column`` falls back: patient, then group, then its own id. What
        a row fell back to is written before its value (``"group:7"``) where several columns
        contribute, so that patient 7 and group 7 stay apart. :attr:`grouped_by` says what was used.
        """
        used = self._grouping(column)
        values = np.full(len(self), None, dtype=object)
        for position, name in enumerate(used):
            text = self.frame[name].astype(object).to_numpy()
            free = (
                np.array([value is None for value in values]) & self.frame[name].notna().to_numpy()
            )
            prefix = f"{name}:" if position else ""
            values[free] = [prefix + str(value) for value in text[free]]
        return values

    @property
    def grouped_by(self) -> str:
        """The columns that ``groups("patient")`` used, joined by ``+``: ``"patient"`` at best."""
        return "+".join(self._grouping("patient"))

    def _grouping(self, column: str) -> list[str]:
        """Return the columns needed until every row has a value."""
        order = [column, *(name for name in _FALLBACK if name != column)]
        left = np.ones(len(self), dtype=bool)
        used = []
        for name in order:
            if name in self.frame and (left & self.frame[name].notna().to_numpy()).any():
                used.append(name)
                left &= self.frame[name].isna().to_numpy()
        return used

    def select(self, which: np.ndarray | Sequence[int] | Sequence[bool] | pd.Series) -> Self:
        """Return the rows of a mask, or the rows at these positions in this order."""
        chosen = np.asarray(which)
        if chosen.dtype != bool:
            chosen = chosen.astype(np.int64)
        frame = self.frame.iloc[chosen].reset_index(drop=True)
        return type(self)(frame, self.root, warnings=self.warnings)

    def with_columns(self, **columns: Any) -> Self:  # noqa: ANN401 - what a table takes
        """Return the manifest with columns added or replaced, checked again; ``None`` drops one."""
        dropped = [name for name, values in columns.items() if values is None]
        kept = {name: values for name, values in columns.items() if values is not None}
        frame = self.frame.drop(columns=dropped, errors="ignore")
        for name, values in kept.items():
            frame[name] = values
        return type(self).from_frame(frame, self.root, name=self._name())

    def file_of(self, reference: str) -> Path:
        """Return the file that a reference of this manifest names."""
        return self.root / ImageReference.parse(reference).path

    def missing_files(self) -> list[Problem]:
        """Return a problem for each image, mask or target whose file does not exist.

        Not part of reading, because a manifest may be on another machine than its images.
        """
        findings = Findings(self._name(), np.arange(2, len(self) + 2))
        for name in checks.reference_columns(self.frame.columns):
            present = self.frame[name].dropna()
            known = {text: self.file_of(text).is_file() for text in present.unique()}
            at = present.index[~present.map(known).astype(bool)].to_numpy()
            found = (f"there is no file {text!r} in {self.root}." for text in present.loc[at])
            remedy = "Index the folder again, or put the file back."
            findings.tell_rows("missing-file", at, found, remedy, column=name)
        return findings.problems

    @functools.cached_property
    def hash(self) -> str:
        """SHA-256 of the content: names, types and values of all columns; not of ``root``.

        The same table has the same hash in whatever folder it lies. CSV and Parquet agree as long
        as further columns are text.
        """
        digest = hashlib.sha256()
        for name in self.frame.columns:
            series = self.frame[name]
            missing = series.isna().to_numpy()
            values = ["" if gone else str(value) for value, gone in
                      zip(series.tolist(), missing.tolist(), strict=True)]  # fmt: skip
            # lengths go in first: otherwise ("ab", "c") and ("a", "bc") would hash alike
            lengths = np.array([len(value) for value in values], dtype="<i8")
            lengths[missing] = -1
            kind = "text" if isinstance(series.dtype, pd.StringDtype) else str(series.dtype)
            digest.update(f"{len(name)}:{name}:{kind.lower()}:{len(values)}\n".encode())
            digest.update(lengths.tobytes())
            digest.update("".join(values).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    def write(self, path: str | Path) -> Self:
        """Write Parquet or CSV, as the suffix says, and return the manifest at its new place.

        A kill or a full disk at any moment leaves the old file or the new one. The same content
        in the same place gives the same bytes.

        Raises
        ------
        UsageError
            If the suffix is none of .parquet, .pq, .csv.
        DataError
            If the file cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() not in SUFFIXES:
            raise UsageError(
                f"{path}: a manifest is written as {', '.join(SUFFIXES)}, not as "
                f"{path.suffix or 'a file without suffix'!r}. Change the name's end."
            )
        frame = self.frame
        folder = Path(os.path.realpath(path.parent))
        if Path(os.path.realpath(self.root)) != folder:
            # relative, so that manifest and images can be moved together
            relative = Path(os.path.relpath(os.path.realpath(self.root), folder)).as_posix()
            frame = frame.assign(root=relative)
        try:
            with files.atomic_writer(path) as file:
                if path.suffix.lower() == ".csv":
                    _csv_form(frame).to_csv(file, index=False, lineterminator="\n")
                else:
                    table = pa.Table.from_pandas(frame, preserve_index=False)
                    table = table.replace_schema_metadata(None)  # else pandas' version is in it
                    pq.write_table(table, file, row_group_size=ROWS_PER_GROUP)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise DataError(
                f"{path}: a further column holds values that Parquet cannot keep ({error}). Give "
                "every column one type, or write CSV."
            ) from error
        except OSError as error:
            raise DataError(
                f"{path}: the manifest cannot be written ({error.strerror or error}). Nothing was "
                "left behind. Choose a folder that is writable and has room."
            ) from error
        return type(self)(self.frame, self.root, path=path, warnings=self.warnings)

    def _name(self) -> str:
        return str(self.path) if self.path else "the manifest"


def _checked(table: Table, name: str) -> tuple[pd.DataFrame, list[Problem]]:
    """Run the checks; return the table in its types and the warnings, or raise all problems."""
    findings = Findings(name, table.rows, list(table.problems))
    frame = checks.check(table.frame, findings)
    if any(problem.fatal for problem in findings.problems):
        # what stops the work first; warnings after it, since they may explain it
        raise ManifestError(sorted(findings.problems, key=lambda problem: not problem.fatal))
    return frame, findings.problems


def _root_of(frame: pd.DataFrame, path: Path) -> tuple[Path, list[Problem]]:
    folder = Path(os.path.realpath(path.parent))
    if "root" not in frame:
        return folder, []
    roots = frame["root"].fillna("").unique()
    if len(roots) > 1:
        found = f"{len(roots)} different values, such as {roots[0]!r} and {roots[1]!r}."
        remedy = "All images of a manifest lie under one folder: write two manifests."
        return folder, [Problem(str(path), found, remedy, column="root", kind="root")]
    return Path(os.path.normpath(folder / str(roots[0]))), []


def _csv_form(frame: pd.DataFrame) -> pd.DataFrame:
    if "labels" not in frame:
        return frame
    return frame.assign(labels=frame["labels"].mask(frame["labels"] == "", ";"))
