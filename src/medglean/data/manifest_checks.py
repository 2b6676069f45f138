"""What a manifest's table must be: each check is one function, and all of them are run.

Every check works on whole columns at once, so a million rows take seconds. A check that finds the
same fault in very many rows spells out the first thousand of them and counts the others.
"""

from __future__ import annotations

import difflib
import posixpath
import re
from collections.abc import Iterable

import numpy as np
import pandas as pd

from medglean.data.findings import Findings, check_blanks, positions
from medglean.data.label_checks import check_labels, check_multi_labels
from medglean.data.reference import ImageReference
from medglean.data.tables import text_series
from medglean.errors import ReadError

SPLITS = ("train", "val", "test")
TEXT_COLUMNS = (
    "id", "image", "patient", "group", "label", "labels", "mask", "target", "split", "study",
    "series", "root",
)  # fmt: skip
"""Columns that are text whatever type the file gave them."""
NUMBER_COLUMNS = ("bytes", "height", "width")
FURTHER_COLUMNS = (
    "sha256", "source", "modality", "view", "body_part", "manufacturer", "model", "sex", "age",
    "frames", "channels", "bits", "format", "photometric", "transfer_syntax", "laterality",
)  # fmt: skip
KNOWN_COLUMNS = TEXT_COLUMNS + NUMBER_COLUMNS + FURTHER_COLUMNS
SYNONYMS = {
    "path": "image", "file": "image", "filename": "image", "file_name": "image",
    "filepath": "image", "img": "image", "images": "image", "image_path": "image",
    "image_id": "id", "identifier": "id", "uid": "id",
    "patient_id": "patient", "patientid": "patient", "subject": "patient",
    "subject_id": "patient", "case_id": "patient", "clip_id": "group", "volume_id": "group",
    "slide_id": "group", "class": "label", "diagnosis": "label", "finding": "label",
    "findings": "labels", "fold": "split", "subset": "split", "segmentation": "mask",
}  # fmt: skip
"""Names that other tables use, and what the same column is called here."""
NOT_TYPOS = frozenset({"frame", "stages"})
"""Names that are close to a known one and mean something else."""


def reference_columns(names: Iterable[str]) -> list[str]:
    """Return the columns whose values name files: image, mask, target and their channels."""
    return [name for name in names if name.split(".")[0] in ("image", "mask", "target")]


def image_columns(names: Iterable[str]) -> list[str]:
    """Return ``["image"]``, or the columns ``image.<channel>`` in their order."""
    return [name for name in names if name == "image" or name.startswith("image.")]


def check(frame: pd.DataFrame, findings: Findings) -> pd.DataFrame:
    """Run every check, and return the table with its known columns in their types.

    Raises nothing: what is wrong stands in ``findings.problems``.
    """
    check_names(list(frame.columns), findings)
    if len(frame) == 0:
        remedy = "Add a row for each image."
        findings.tell("empty", "the table has a header and no rows.", remedy)
    # one series after another, so that a column of a wrong type costs only its own checks
    columns = {name: frame[name] for name in frame.columns}
    for name in columns:
        if name in TEXT_COLUMNS or name in reference_columns([name]):
            columns[name] = to_text(columns[name], name, findings)
        elif name in NUMBER_COLUMNS or name.startswith("bytes."):
            columns[name] = to_numbers(columns[name], name, findings)
        else:
            columns[name] = settled(columns[name])
    frame = pd.DataFrame(columns, index=pd.RangeIndex(len(frame)))
    check_ids(frame, findings)
    check_images(frame, findings)
    for name in reference_columns(frame.columns):
        check_references(frame[name], name, findings)
    if "label" in frame:
        check_labels(frame["label"], "label", findings)
    if "labels" in frame:
        frame["labels"] = check_multi_labels(frame["labels"], findings)
    for name in ("patient", "group"):
        if name in frame:
            check_blanks(frame[name], name, findings)
    check_split(frame, findings)
    check_sha256(frame, findings)
    return frame


# --- names of columns ---------------------------------------------------------------------------


def check_names(names: list[str], findings: Findings) -> None:
    """Tell missing columns, columns that contradict one another, and likely typos."""
    meant = {name: suggestion for name in names if (suggestion := suggest(name))}
    for name, suggestion in meant.items():
        absent = suggestion not in names and not (suggestion == "image" and image_columns(names))
        remedy = f"Rename it to {suggestion!r}" + (
            "." if absent else ", or to something further from it, if that is what it is."
        )
        found = f"unknown column that looks like {suggestion!r}."
        fatal = absent and suggestion in TEXT_COLUMNS
        findings.tell("unknown-column", found, remedy, column=name, row=1, fatal=fatal)
    listed = ", ".join(repr(name) for name in names)
    if "id" not in names:
        found = f"there is no column 'id'; the columns are {listed}."
        findings.tell("missing-column", found, "Add one text per row that occurs once.", row=1)
    if not image_columns(names):
        found = f"there is no column 'image' or 'image.<channel>'; the columns are {listed}."
        remedy = "Add the path of each image, relative to the manifest's folder."
        findings.tell("missing-column", found, remedy, row=1)
    _check_contradictions(names, findings)


def _check_contradictions(names: list[str], findings: Findings) -> None:
    channels = [name for name in names if name.startswith("image.")]
    if "image" in names and channels:
        found = f"there is 'image' and also {channels[0]!r}."
        remedy = "Keep 'image', or one column for each channel."
        findings.tell("both-image-columns", found, remedy, row=1)
    if "image." in channels:
        remedy = "Give the channel a name, such as 'image.t1'."
        findings.tell("unnamed-channel", "the channel has no name.", remedy, column="image.", row=1)
    if "label" in names and "labels" in names:
        found = "there is 'label' (one class) and also 'labels' (several): which is the truth?"
        remedy = "Keep one; rename the other, for example to 'label_first'."
        findings.tell("both-label-columns", found, remedy, row=1)


def suggest(name: str) -> str | None:
    """Return the known column that an unknown name probably means.

    Examples
    --------
    >>> suggest("lable"), suggest("patient_id"), suggest("Label"), suggest("temperature")
    ('label', 'patient', 'label', None)
    """
    if name in KNOWN_COLUMNS or "." in name:
        return None
    plain = re.sub(r"[\s-]+", "_", name.strip().casefold())
    if plain in KNOWN_COLUMNS:
        return plain
    if plain in SYNONYMS:
        return SYNONYMS[plain]
    if len(plain) < 4 or plain in NOT_TYPOS:
        return None  # short names are close to one another without being typos
    near = difflib.get_close_matches(plain, KNOWN_COLUMNS, n=1, cutoff=0.8)
    return near[0] if near else None


# --- types --------------------------------------------------------------------------------------


def settled(series: pd.Series) -> pd.Series:
    """Return a further column in the type that it has after a round trip through Parquet."""
    if isinstance(series.dtype, pd.CategoricalDtype):
        series = series.astype(series.cat.categories.dtype)
    if series.dtype == object and pd.api.types.infer_dtype(series, skipna=True) == "string":
        gone = series.isna().tolist()
        values = [None if missing else value for value, missing in
                  zip(series.tolist(), gone, strict=True)]  # fmt: skip
        series = text_series(values)
    return series.reset_index(drop=True)


def to_text(series: pd.Series, name: str, findings: Findings) -> pd.Series:
    """Return a column as text; whole numbers become text with a warning, other types are told.

    The empty text is missing, except in ``labels``, where it says "none of them".
    """
    if isinstance(series.dtype, pd.CategoricalDtype):
        series = series.astype(series.cat.categories.dtype)
    if not isinstance(series.dtype, pd.StringDtype):
        kind = pd.api.types.infer_dtype(series, skipna=True)
        if kind in ("integer", "boolean"):
            found = f"stored as {kind}s, read as text."
            remedy = "Store text: leading zeros, if there were any, are lost already."
            findings.tell("not-text", found, remedy, column=name, fatal=False)
        elif kind not in ("string", "empty"):
            _tell_types(series, name, kind, findings)
        values = [None if missing else str(value) for value, missing in
                  zip(series.tolist(), series.isna().tolist(), strict=True)]  # fmt: skip
        series = text_series(values)
    if name != "labels":
        series = series.mask(series == "")
    nul = series.str.contains("\0", regex=False).fillna(False)
    if nul.any():
        found, remedy = "a NUL character inside the text.", "Remove it."
        findings.tell_rows("nul-byte", positions(nul), found, remedy, column=name)
    return series.reset_index(drop=True)


def _tell_types(series: pd.Series, name: str, kind: str, findings: Findings) -> None:
    present = series[series.notna()]
    types = present.map(lambda value: type(value).__name__)
    if types.nunique() > 1:
        examples = present[~types.duplicated()].tolist()
        listed = ", ".join(f"{type(value).__name__} ({value!r})" for value in examples)
        found = f"expected text, found several types: {listed}."
        first_other = types.index[types != types.iloc[0]][0]
        row = int(findings.rows[series.index.get_loc(first_other)])
        remedy = "Store every value as text."
        findings.tell("mixed-types", found, remedy, column=name, row=row)
        return
    found = f"expected text, found {kind} values such as {present.tolist()[0]!r}."
    remedy = "Store text: whether '1' or '1.0' is meant cannot be known from a number."
    findings.tell("not-text", found, remedy, column=name)


def to_numbers(series: pd.Series, name: str, findings: Findings) -> pd.Series:
    """Return a column of whole numbers; others are told."""
    numbers = pd.to_numeric(series, errors="coerce").astype("Float64")
    wrong = numbers.isna() & series.notna()
    wrong |= (numbers < 0).fillna(False) | (numbers % 1 != 0).fillna(False)
    if wrong.any():
        at = positions(wrong)
        found = (f"{value!r} is not a whole number from 0 on." for value in series.iloc[at])
        findings.tell_rows("not-a-number", at, found, "Correct or empty it.", column=name)
        return series
    whole = numbers.astype("Int64")
    return whole if whole.isna().any() else whole.astype("int64")


# --- values -------------------------------------------------------------------------------------


def check_ids(frame: pd.DataFrame, findings: Findings) -> None:
    """Each row has an id, and no other row has the same."""
    if "id" not in frame:
        return
    ids = frame["id"]
    if ids.isna().any():
        remedy = "Give each row a text that occurs once."
        findings.tell_rows("missing-id", positions(ids.isna()), "no id.", remedy, column="id")
    again = ids.duplicated() & ids.notna()
    if again.any():
        at = positions(again)
        first = pd.Series(findings.rows, index=ids).groupby(level=0).first()
        found = (
            f"the id {value!r} stands already in row {first[value]}." for value in ids.iloc[at]
        )
        remedy = "Give each row its own id."
        findings.tell_rows("duplicate-id", at, found, remedy, column="id")
    check_blanks(ids, "id", findings)


def check_images(frame: pd.DataFrame, findings: Findings) -> None:
    """Each row has an image, or at least one channel."""
    columns = image_columns(frame.columns)
    missing = {name: frame[name].isna() for name in columns}
    whole = np.logical_and.reduce(list(missing.values())) if columns else np.zeros(0, bool)
    if whole.any():
        remedy = "Give the image's path, or remove the row."
        findings.tell_rows(
            "missing-image", positions(whole), "no image.", remedy, column=columns[0]
        )
    for name in columns:
        part = missing[name] & ~whole
        if part.any():
            found = f"{int(part.sum()):,} rows lack this channel and have others."
            remedy = "A recipe that asks for this channel cannot use them."
            row = int(findings.rows[positions(part)[0]])
            findings.tell("missing-channel", found, remedy, column=name, row=row, fatal=False)


def check_references(series: pd.Series, name: str, findings: Findings) -> None:
    """Paths are relative, use ``/``, and stay in the manifest's folder; fragments can be read."""
    rules = (
        ("absolute-path", r"^(?:/|[A-Za-z]:[\\/]|\\\\)", "is an absolute path.",
         "Give it relative to the manifest's folder, so that the data can be moved."),
        ("remote-path", r"^[A-Za-z][A-Za-z0-9+.-]+://", "is an address, not a file.",
         "Fetch the file first and give its path."),
        ("backslash", r"^(?![A-Za-z]:[\\/]|\\\\)[^#]*\\", "holds a backslash.",
         "Write folders with '/', on Windows too."),
    )  # fmt: skip
    for kind, pattern, what, remedy in rules:
        at = positions(series.str.contains(pattern, regex=True).fillna(False))
        if len(at):
            found = (f"{value!r} {what}" for value in series.iloc[at])
            findings.tell_rows(kind, at, found, remedy, column=name)
    at = positions(series.str.contains(r"(?:^|/)\.\.(?:/|$|#)", regex=True).fillna(False))
    at = at[[_leaves(value) for value in series.iloc[at]]] if len(at) else at
    if len(at):
        found = (f"{value!r} leaves the manifest's folder." for value in series.iloc[at])
        remedy = "Put the manifest above its images, or name their folder in a column 'root'."
        findings.tell_rows("parent-path", at, found, remedy, column=name)
    _check_fragments(series, name, findings)


def _leaves(reference: str) -> bool:
    path = posixpath.normpath(reference.partition("#")[0])
    return path == ".." or path.startswith("../")


def _check_fragments(series: pd.Series, name: str, findings: Findings) -> None:
    at = positions(series.str.contains("#", regex=False).fillna(False))
    if len(at) == 0:
        return
    parts = series.iloc[at].str.partition("#")
    wrong = {
        fragment: told for fragment in parts[2].unique() if (told := _fragment_error(fragment))
    }
    bad = positions(parts[2].isin(list(wrong)) | (parts[0] == ""))
    found = [wrong.get(parts[2].iloc[i], "no path before the '#'.") for i in bad]
    remedy = "A '#' that belongs to a file's name is written %23."
    findings.tell_rows("fragment", at[bad], found, remedy, column=name)


def _fragment_error(fragment: str) -> str | None:
    try:
        ImageReference.parse(f"file#{fragment}")
    except ReadError as error:
        return error.found
    return None


def check_split(frame: pd.DataFrame, findings: Findings) -> None:
    """``split`` is train, val, test or empty."""
    if "split" not in frame:
        return
    at = positions(~frame["split"].isin(SPLITS) & frame["split"].notna())
    found = (f"{value!r}, expected train, val or test." for value in frame["split"].iloc[at])
    remedy = "Use these three names, or leave the field empty."
    findings.tell_rows("split", at, found, remedy, column="split")


def check_sha256(frame: pd.DataFrame, findings: Findings) -> None:
    """``sha256``, and that of each channel, is 64 hexadecimal digits or empty."""
    for name in frame.columns:
        if name != "sha256" and not name.startswith("sha256."):
            continue
        values = frame[name].astype(object).where(frame[name].notna(), "0" * 64).astype(str)
        at = positions(~values.str.fullmatch(r"[0-9a-f]{64}"))
        found = (f"{value!r} is not a SHA-256 (64 digits 0-9, a-f)." for value in values.iloc[at])
        findings.tell_rows("sha256", at, found, "Index the images again.", column=name)
