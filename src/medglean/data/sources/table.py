"""A folder with a table of its images in general: ``labels.csv``, ``metadata.csv``, ..."""

from __future__ import annotations

from pathlib import PurePosixPath

import pandas as pd

from medglean.data.manifest_checks import image_columns
from medglean.data.reference import ImageReference
from medglean.data.sources import columns, listing
from medglean.data.sources.finder import Finder
from medglean.data.sources.listing import Entry, Listing, Options
from medglean.data.tables import Table, read_csv
from medglean.data.walk import Tree
from medglean.errors import DataError, ManifestError, Problem, ReadError, UsageError

NAME = "csv"
LEAST_SHARE = 0.1
"""A table whose rows name less than this share of files, and of whose files too, is another."""
_CLEAN = {"sex": columns.sex, "age": columns.age, "split": columns.split, "source": columns.source}


def matches(tree: Tree, options: Options) -> str:
    """Return why: a CSV at the top has a column of paths, and the files are there."""
    best = _best(tree, options)[0]
    if best is None:
        return ""
    path, _, chosen = best
    names = [repr(chosen[column]) for column in image_columns(chosen)]
    return f"{path} lists the images in its column{'s' * (len(names) > 1)} {', '.join(names)}"


def _tables(tree: Tree, options: Options) -> list[str]:
    if options.table:
        return [options.table]
    places = listing.down_to(listing.wrapper(listing.candidates(tree.files)))
    return [
        path
        for path in tree.files
        if PurePosixPath(path).suffix.lower() in (".csv", ".tsv") and _folder(path) in places
    ]


def _folder(path: str) -> str:
    """Return the folder of a path with its slash, empty at the top."""
    return path[: len(path) - len(path.rpartition("/")[2])]


Choice = tuple[str, Table, dict[str, str]]


def _best(tree: Tree, options: Options) -> tuple[Choice | None, list[Problem]]:
    """Return the table that names most of the files; and what was wrong with others."""
    best: tuple[int, Choice] | None = None
    problems: list[Problem] = []
    images = listing.candidates(tree.files)
    for path in _tables(tree, options):
        try:
            table = read_csv(tree.root / path)
        except ManifestError as error:
            problems += error.problems
            continue
        chosen = columns.recognise(list(table.frame.columns), options.columns)
        names = [chosen[column] for column in image_columns(chosen)]
        if not names or not set(names) <= set(table.frame.columns) or not len(table.frame):
            continue
        finder = Finder(images, _folder(path))
        texts = pd.unique(pd.concat([table.frame[name] for name in names]).dropna())
        hits = sum(_find(finder, text) is not None for text in texts)
        if hits < LEAST_SHARE * min(len(table.frame), max(1, len(images))) or hits == 0:
            continue
        if best is None or hits > best[0]:
            best = hits, (path, table, chosen)
    return (best[1] if best else None), problems


def rows(tree: Tree, options: Options) -> Listing:
    """List the images of the table's rows with what the table says of them.

    Raises
    ------
    DataError
        If no table names files of the folder.
    UsageError
        If a column that was asked for does not exist.
    """
    best, problems = _best(tree, options)
    if best is None:
        told = "".join(f"\n  {problem}" for problem in problems)
        raise DataError(
            f"{tree.root}: no CSV at its top has a column of paths (image, path, file, ...) to "
            f"files that are there. Name the column with --column image=NAME.{told}"
        )
    path, table, chosen = best
    for column, name in options.columns.items():
        if name not in table.frame.columns:
            raise UsageError(
                f"{path}: there is no column {name!r} for {column!r}; the columns are "
                f"{', '.join(table.frame.columns)}."
            )
    found = Listing(problems=[*problems, *table.problems])
    carried, left = columns.further(table.frame, set(chosen.values()))
    _entries(tree, path, table, chosen, carried, found)
    renamed = {a: b for a, b in chosen.items() if a not in (b, "image")}
    if renamed:
        said = ", ".join(f"{column} from {name!r}" for column, name in sorted(renamed.items()))
        found.notes.append(f"Columns of {path}: {said}.")
    if left:
        found.notes.append(
            f"Not taken over, because free text, dates, places and numbers of many digits can say "
            f"who somebody is: {', '.join(left)}. Ask for one with --column NAME=NAME."
        )
    return found


def _entries(
    tree: Tree,
    path: str,
    table: Table,
    chosen: dict[str, str],
    carried: dict[str, pd.Series],
    found: Listing,
) -> None:
    finder = Finder(listing.candidates(tree.files), _folder(path))
    known = {column: table.frame[name] for column, name in chosen.items()}
    records = pd.DataFrame(known | {k: v for k, v in carried.items() if k not in known})
    listed: dict[str, int] = {}
    pictures = image_columns(chosen)
    for row, record in zip(table.rows.tolist(), records.to_dict("records"), strict=True):
        values = {str(k): v for k, v in record.items() if not pd.isna(v)}
        texts = {name: str(values.pop(name)) for name in pictures if name in values}
        images = {name: ref for name, text in texts.items() if (ref := _find(finder, text))}
        for name in [name for name in texts if name not in images]:
            told = f"no one file {texts[name]!r} in the folder."
            remedy = "It is left out." if images else "The row is left out."
            column = name if len(pictures) > 1 else None
            found.tell(path, "missing-file", told, remedy, row=row, column=column)
        if not images:
            found.counts["rows without file"] += 1
            if not texts:
                told = "no file is named."
                found.tell(path, "missing-file", told, "The row is left out.", row=row)
            continue
        key = " + ".join(map(str, images.values()))
        if key in listed:
            told = f"{key!r} stands already in row {listed[key]}."
            found.tell(path, "duplicate-row", told, "The row is left out.", row=row)
            continue
        listed[key] = row
        first = next(iter(images.values()))
        whole = pictures == ["image"] and not first.fragment
        rest = _cleaned(values, finder, path, row, found)
        found.entries.append(Entry(first.path, rest, {} if whole else images))


def _find(finder: Finder, text: str) -> ImageReference | None:
    """Return what a table's text refers to: a file, or a part of one, as a manifest writes it."""
    file = finder.find(text)
    if file is not None:
        return ImageReference(file)
    try:
        reference = ImageReference.parse(text)
    except ReadError:
        return None
    file = finder.find(reference.path)
    return None if file is None else ImageReference(file, reference.fragment)


def _cleaned(
    values: dict[str, object], finder: Finder, path: str, row: int, found: Listing
) -> dict[str, object]:
    """Bring the known columns into the manifest's form; what does not fit is left out and told."""
    for column, clean in _CLEAN.items():
        if column in values and isinstance(values[column], str):
            text = str(values.pop(column))
            if (value := clean(text)) is not None:
                values[column] = value
            else:
                found.counts[f"values of {column} not understood"] += 1
    for column in ("mask", "target"):
        if column in values:
            reference = _find(finder, str(values.pop(column)))
            if reference is not None:
                values[column] = reference
            else:
                told = "no one file of this name in the folder."
                found.tell(path, "missing-file", told, "It is left out.", row=row, column=column)
    if str(values.get("label", "")).strip().casefold() in columns.UNLABELLED:
        found.counts["labels that say unlabelled"] += 1
        del values["label"]
    for column in ("label", "patient", "group"):
        if column in values:
            values[column] = str(values[column]).strip()
    if "labels" in values:
        parts = str(values["labels"]).replace("|", ";").split(";")
        values["labels"] = ";".join(dict.fromkeys(part.strip() for part in parts if part.strip()))
    return values
