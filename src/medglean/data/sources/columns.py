"""Which columns of somebody's table go into a manifest, and in which form.

Columns with a known meaning get their name in the manifest. Of the others only numbers and short
repeated words are taken over: notes, names, dates, places and addresses are not, because they can
say who somebody is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

import pandas as pd

from medglean.data.manifest_checks import KNOWN_COLUMNS, image_columns, suggest
from medglean.data.sources.listing import SPLIT_FOLDERS, plain

SYNONYMS = {
    "id": ("id", "image_id", "imageid"),
    "image": ("image", "path", "file", "filename", "file_name", "filepath", "image_path",
              "imagepath", "img", "image_file", "imagefile", "image_index", "image_name", "images",
              "dicom"),
    "patient": ("patient", "patient_id", "patientid", "subject", "subject_id", "subjectid",
                "participant_id", "patient id"),
    "group": ("group", "clip_id", "clip", "near_duplicate_group", "volume", "volume_id",
              "slide_id", "slide", "case_id"),
    "label": ("label", "class", "class_name", "finding", "diagnosis", "category", "target_label"),
    "labels": ("labels", "finding_labels", "findings"),
    "mask": ("mask", "mask_path", "segmentation", "mask_file"),
    "target": ("target",),
    "split": ("split", "subset", "partition"),
    "view": ("view", "view_position", "viewposition", "projection"),
    "sex": ("sex", "gender", "patient_gender", "patient_sex"),
    "age": ("age", "patient_age", "age_years"),
    "modality": ("modality",),
    "source": ("source", "institution", "site", "hospital_id", "center", "centre", "dataset"),
    "study": ("study", "study_id"),
    "series": ("series", "series_id"),
}  # fmt: skip
"""Manifest column to the names it goes by, the likeliest first."""

_PRIVATE = re.compile(
    r"name|birth|dob|date|time|address|phone|mail|mrn|ssn|accession|note|comment|text|report|"
    r"remark|locat|city|country|zip|postcode|url|link|doi|author|physician|doctor|operator|licen|"
    r"file|folder|path|history|hash|sha|md5|uid|identifier|patient|subject|^id$"
)
MOST_WORDS = 50
LONGEST_WORD = 40
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_SEXES = {"m": "M", "male": "M", "f": "F", "female": "F", "o": "O", "other": "O"}
UNLABELLED = frozenset({"unlabelled", "unlabeled"})
"""Values of a label that say in words that there is none."""
_SHARED_HOSTS = ("github.com", "kaggle.com")  # there the host alone says nothing
_STAINS = {"image": "he", "target": "ihc"}  # a pair of stains, where both columns are there


def recognise(names: list[str], asked: Mapping[str, str]) -> dict[str, str]:
    """Return manifest column to table column; what the user asked for goes before synonyms.

    Columns ``image.NAME``, one for each channel, stand for themselves, and instead of ``image``.
    Of a table with columns ``he`` and ``ihc`` and none of images, these are image and target.
    """
    chosen = dict(asked)
    if not image_columns(chosen):
        chosen |= {name: name for name in names if name.startswith("image.") and name[6:]}
    plain_names = {plain(name): name for name in reversed(names)}
    for column, synonyms in SYNONYMS.items():
        if column in chosen or (column == "image" and image_columns(chosen)):
            continue
        for synonym in synonyms:
            name = plain_names.get(plain(synonym))
            if name is not None and name not in chosen.values():
                chosen[column] = name
                break
    if (
        not image_columns(chosen)
        and "target" not in chosen
        and set(_STAINS.values()) <= set(plain_names)
    ):
        chosen |= {column: plain_names[name] for column, name in _STAINS.items()}
    if "label" in chosen and "labels" in chosen:
        chosen.pop("label" if "labels" in asked else "labels")
    return chosen


def further(frame: pd.DataFrame, taken: set[str]) -> tuple[dict[str, pd.Series], list[str]]:
    """Return the other columns that may be carried over, and the names of those that are not.

    Carried: numbers of up to five digits (a longer whole number may be somebody's), and words of
    up to 40 characters that occur again and again.
    """
    carried: dict[str, pd.Series] = {}
    left = []
    for name in frame.columns:
        values = frame[name]
        present = values.dropna()
        if name in taken or present.empty:
            continue
        if _PRIVATE.search(plain(name)) or name in KNOWN_COLUMNS or suggest(name):
            left.append(name)
        elif present.str.fullmatch(_NUMBER.pattern).all():
            numbers = pd.to_numeric(values)
            whole = (numbers.dropna() % 1 == 0).all()
            if whole and numbers.abs().max() >= 100_000:
                left.append(name)
            else:
                carried[name] = numbers.astype("Int64") if whole else numbers
        elif (
            present.nunique() <= min(MOST_WORDS, max(2, len(present) // 2))
            and present.str.len().max() <= LONGEST_WORD
        ):
            carried[name] = values
        else:
            left.append(name)
    return carried, left


def sex(text: str) -> str | None:
    """Return M, F or O, ``None`` for anything else."""
    return _SEXES.get(text.strip().casefold())


def age(text: str) -> str | None:
    """Return an age in years as it stands, without a needless ``.0``; ``None`` for other texts.

    Examples
    --------
    >>> age("52.0"), age("50+"), age("045Y"), age("unknown")
    ('52', '50+', '45', None)
    """
    found = re.fullmatch(r"0*(\d{1,3})(?:\.0*)?(\+?)[Yy]?", text.strip())
    if found:
        return found[1] + found[2]
    return text.strip() if re.fullmatch(r"\d{1,3}\.\d+", text.strip()) else None


def split(text: str) -> str | None:
    """Return train, val or test, ``None`` for anything else."""
    return SPLIT_FOLDERS.get(text.strip().casefold())


def source(text: str) -> str:
    """Return where an image came from; of an address its site.

    Examples
    --------
    >>> source("https://sirm.org/category/covid-19/"), source("Hospital A")
    ('sirm.org', 'Hospital A')
    """
    return site(text) if "://" in text else text


def site(url: str) -> str:
    """Return the site of an address: its host, on shared hosts with the account and name.

    Examples
    --------
    >>> site("https://www.kaggle.com/paultimothymooney/chest-xray-pneumonia")
    'kaggle.com/paultimothymooney/chest-xray-pneumonia'
    >>> site("https://sirm.org/category/senza-categoria/covid-19/")
    'sirm.org'
    """
    parts = urlsplit(url.strip() if "//" in url else f"//{url.strip()}")
    host = parts.netloc.lower().removeprefix("www.")
    if host in _SHARED_HOSTS:
        return "/".join([host, *[part for part in parts.path.split("/") if part][:2]])
    return host
