"""CheXpert (Irvin et al. 2019): ``train.csv`` and ``valid.csv`` with 14 findings for each image.

A finding is 1 (there), 0 (not there), -1 (uncertain) or empty (not mentioned). Column ``labels``
holds the names of those that are 1, and ``uncertain`` the names of those that are -1: whether
uncertain counts as there, as not there, or leaves an image out is for the user to say. "No Finding"
is a name like the others, so that it can be the healthy class. An image of which nothing is 1
has empty ``labels``, which means "none of them".
"""

from __future__ import annotations

import re
from collections import Counter

import pandas as pd

from medglean.data.sources import columns, listing
from medglean.data.sources.finder import Finder
from medglean.data.sources.listing import Entry, Listing, Options
from medglean.data.tables import read_csv
from medglean.data.walk import Tree
from medglean.errors import DataError

NAME = "chexpert"
FINDINGS = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion",
    "Edema", "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion",
    "Pleural Other", "Fracture", "Support Devices",
)  # fmt: skip
TABLES = {"train.csv": "train", "valid.csv": "val", "test.csv": "test"}
"""Names of the tables, and which side of the split each is."""
_NEEDED = {"path", "sex", "age", "frontal/lateral", "ap/pa", "no finding", "pleural effusion"}
_PLACE = re.compile(r"(?:.*/)?(patient\d+)/(study\d+)/[^/]+", re.IGNORECASE)
_CERTAINTY = {"1": 1, "0": 0, "-1": -1}


def _tables(tree: Tree, options: Options) -> dict[str, str | None]:
    """Return the path and split of each table that has this set's columns."""
    places = listing.down_to(listing.wrapper(listing.candidates(tree.files)))
    paths = [f"{place}{name}" for place in places for name in TABLES]
    if options.table:
        paths = [options.table]
    known = set(tree.files)
    return {
        path: TABLES.get(path.rpartition("/")[2])
        for path in paths
        if path in known and _has_columns(tree, path)
    }


def _has_columns(tree: Tree, path: str) -> bool:
    with (tree.root / path).open("rb") as file:
        header = file.readline(10_000).decode("utf-8-sig", "replace").split(",")
    return {name.strip().strip('"').casefold() for name in header} >= _NEEDED


def matches(tree: Tree, options: Options) -> str:
    """Return why: a table has this set's columns."""
    tables = list(_tables(tree, options))
    return f"{' and '.join(tables)} has its columns" if tables else ""


def rows(tree: Tree, options: Options) -> Listing:
    """List the images with their findings.

    Raises
    ------
    DataError
        If there is no table with CheXpert's columns.
    """
    tables = _tables(tree, options)
    if not tables:
        raise DataError(
            f"{tree.root}: no train.csv or valid.csv with CheXpert's columns (Path, Sex, Age, "
            "Frontal/Lateral, AP/PA, and a column for each finding). Give the folder that holds "
            "them."
        )
    found = Listing()
    listed: set[str] = set()
    images = listing.candidates(tree.files)
    odd: Counter[str] = Counter()
    for path, split in tables.items():
        table = read_csv(tree.root / path)
        found.problems += table.problems
        finder = Finder(images, path[: len(path) - len(path.rpartition("/")[2])])
        for row, record in zip(table.rows.tolist(), table.frame.to_dict("records"), strict=True):
            values = {
                str(name).strip().casefold(): str(value).strip()
                for name, value in record.items()
                if not pd.isna(value)
            }
            file = finder.find(values.get("path", ""))
            if file is None or file in listed:
                found.counts["rows without file" if file is None else "rows of one file"] += 1
                told = f"no one file {values.get('path', '')!r} in the folder."
                told = told if file is None else f"{file!r} stands already in another row."
                found.tell(path, "missing-file", told, "The row is left out.", row=row)
                continue
            listed.add(file)
            found.entries.append(Entry(file, _values(values, file, split, odd)))
        for name, count in sorted(odd.items()):
            told = f"{count:,} values are none of 1, 0, -1 and empty."
            found.tell(path, "finding", told, "They count as not mentioned.", column=name)
        odd.clear()
    found.notes.append(
        "labels holds the findings that are 1, uncertain those that are -1: an uncertain finding "
        "counts as not there unless rows are left out by the column uncertain."
    )
    return found


def _values(
    record: dict[str, str], file: str, split: str | None, odd: Counter[str]
) -> dict[str, object]:
    """Return the columns of one row; values of findings that mean nothing are counted in odd."""
    certainty: dict[str, int] = {}
    for name in FINDINGS:
        text = record.get(name.casefold(), "")
        if text.removesuffix(".0") in _CERTAINTY:
            certainty[name] = _CERTAINTY[text.removesuffix(".0")]
        elif text:
            odd[name] += 1
    place = _PLACE.fullmatch(file)
    side = record.get("frontal/lateral", "")
    frontal = record.get("ap/pa") if side.casefold() == "frontal" else None
    return {
        "patient": place[1] if place else None,
        "study": f"{place[1]}/{place[2]}" if place else None,
        "labels": ";".join(n for n, v in certainty.items() if v == 1) if certainty else None,
        "uncertain": ";".join(n for n, v in certainty.items() if v == -1) or None,
        "split": split,
        "view": frontal or side or None,
        "sex": columns.sex(record.get("sex", "")),
        "age": columns.age(record.get("age", "")),
    }
