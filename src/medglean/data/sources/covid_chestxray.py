"""covid-chestxray-dataset (Cohen et al.): ``metadata.csv`` beside ``images/``.

``finding`` is a path from the general to the special ("Pneumonia/Viral/COVID-19") in newer
versions and a list ("COVID-19, ARDS") in older ones. Both become ``labels``: every name on the
path is a label, so that "Pneumonia" means any pneumonia. "No Finding" stays a name of its own.
A name that an older version gives without its path gets the path that newer ones give it.
"""

from __future__ import annotations

import re

import pandas as pd

from medglean.data.sources import columns, listing
from medglean.data.sources.finder import Finder
from medglean.data.sources.listing import Entry, Listing, Options
from medglean.data.tables import read_csv
from medglean.data.walk import Tree
from medglean.errors import DataError

NAME = "covid-chestxray"
DROPPED = ("todo", "unknown")
"""Findings that say that nobody has looked, or that it is not known."""
_PATHS = {
    ("Pneumonia",): ("Viral", "Bacterial", "Fungal", "Lipoid", "Aspiration"),
    ("Pneumonia", "Viral"): ("COVID-19", "SARS", "MERS-CoV", "Influenza", "Varicella", "Herpes"),
    ("Pneumonia", "Bacterial"): (
        "Streptococcus", "Klebsiella", "Legionella", "E.Coli", "Mycoplasma", "Nocardia",
        "Chlamydophila", "Staphylococcus",
    ),
    ("Pneumonia", "Fungal"): ("Pneumocystis", "Aspergillosis"),
}  # fmt: skip
_ABOVE = {name: path for path, names in _PATHS.items() for name in names}
_RENAMED = {"Mycoplasma Bacterial Pneumonia": "Mycoplasma"}
_NUMBER = re.compile(r"-?\d{1,4}(\.\d+)?")
_NEEDED = {"patientid", "finding", "view", "filename"}


def _table(tree: Tree) -> str | None:
    places = listing.down_to(listing.wrapper(listing.candidates(tree.files)))
    return next((f"{p}metadata.csv" for p in places if f"{p}metadata.csv" in tree.files), None)


def matches(tree: Tree, options: Options) -> str:
    """Return why: metadata.csv has this set's columns."""
    path = _table(tree)
    if path is None:
        return ""
    with (tree.root / path).open("rb") as file:
        header = file.readline(10_000).decode("utf-8-sig", "replace").split(",")
    names = {name.strip().casefold() for name in header}
    return f"{path} has its columns" if names >= _NEEDED else ""


def names_of(finding: str) -> list[str]:
    """Return every name in a finding, the general ones first, each once.

    Examples
    --------
    >>> names_of("Pneumonia/Viral/COVID-19")
    ['Pneumonia', 'Viral', 'COVID-19']
    >>> names_of("COVID-19, ARDS")
    ['Pneumonia', 'Viral', 'COVID-19', 'ARDS']
    """
    given = [name.strip() for name in finding.replace(",", "/").split("/")]
    known = [_RENAMED.get(name, name) for name in given if name]
    return list(dict.fromkeys(part for name in known for part in (*_ABOVE.get(name, ()), name)))


def main_name(finding: str) -> str:
    """Return one name for a finding: the most special of the first path.

    Examples
    --------
    >>> main_name("Pneumonia/Viral/COVID-19"), main_name("COVID-19, ARDS")
    ('COVID-19', 'COVID-19')
    """
    return names_of(finding.split(",")[0])[-1]


def rows(tree: Tree, options: Options) -> Listing:
    """List the X-rays with their findings; CT and rows without a finding are counted."""
    path = _table(tree)
    if path is None:
        raise DataError(f"{tree.root}: there is no metadata.csv. Fetch the whole repository.")
    base = path.rpartition("/")[0] + "/" if "/" in path else ""
    table = read_csv(tree.root / path)
    found = Listing(problems=list(table.problems))
    finder = Finder(listing.candidates(tree.files), base)
    listed: set[str] = set()
    for row, record in zip(table.rows.tolist(), table.frame.to_dict("records"), strict=True):
        values = {
            str(name).strip().casefold(): str(value).strip()
            for name, value in record.items()
            if not pd.isna(value)
        }
        reason = _left_out(values, options)
        if reason:
            found.counts[reason] += 1
            continue
        name = f"{values.get('folder', 'images')}/{values.get('filename', '')}"
        file = finder.find(name)
        if file is None or file in listed:
            found.counts["rows without file" if file is None else "rows of one file"] += 1
            told = f"no one file {name!r} in the folder." if file is None else "the file again."
            found.tell(path, "missing-file", told, "The row is left out.", row=row)
            continue
        listed.add(file)
        found.entries.append(Entry(file, _values(values, options)))
    for reason, count in sorted(found.counts.items()):
        if reason.startswith(("finding", "modality")):
            found.tell(path, "left-out", f"{count} rows left out: {reason}.")
    found.notes.append(
        "Dates, places and clinical notes are not taken over, of links only the site (source). "
        "Views are kept as given (PA, AP, AP Supine, L): choose by the column view."
    )
    return found


def _left_out(values: dict[str, str], options: Options) -> str:
    names = names_of(values.get("finding", ""))
    if not names:
        return "finding is empty"
    for name in names:
        if name.casefold() in DROPPED:
            return f"finding is {name!r}"
    # the first versions had no column modality and wrote CT as the view
    modality = values.get("modality", "CT" if values.get("view") == "CT" else "X-ray")
    if modality != "X-ray" and not (options.include_ct and modality == "CT"):
        return f"modality is {modality!r}, not X-ray"
    return ""


def _source(record: dict[str, str]) -> str | None:
    """Return the site that the image came from, or else the publisher's number in its DOI."""
    try:
        found = columns.site(record.get("url", ""))
    except ValueError:  # an address that is none
        found = ""
    doi = re.search(r"10\.\d{4,9}(?=/)", record.get("doi", ""))
    return found or (doi[0] if doi else None)


def _values(record: dict[str, str], options: Options) -> dict[str, object]:
    offset = record.get("offset", "")
    finding = record["finding"]
    values: dict[str, object] = {
        "patient": record.get("patientid"),
        "view": record.get("view"),
        "modality": record.get("modality"),
        "sex": columns.sex(record.get("sex", "")),
        "age": columns.age(record.get("age", "")),
        "source": _source(record),
        "offset_days": float(offset) if _NUMBER.fullmatch(offset) else None,
    }
    if options.single_label:
        return values | {"label": main_name(finding)}
    return values | {"labels": ";".join(names_of(finding))}
