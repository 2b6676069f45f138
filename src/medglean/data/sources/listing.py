"""What every source returns, and the ways of looking at a folder that several of them share.

A source is a module with ``NAME``, ``matches(tree, options) -> str`` (why this folder has its
layout, empty where it has not) and ``rows(tree, options) -> Listing``. It opens tables, never
images.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from medglean.data.readers.sniff import suffix_format
from medglean.data.reference import ImageReference
from medglean.errors import Problem

SPLIT_FOLDERS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "dev": "val", "test": "test", "testing": "test",
}  # fmt: skip
"""Names of folders and values that mean a side of a split."""
MASK_FOLDERS = frozenset({"mask", "masks", "segmentation", "segmentations", "annotations", "seg"})
IMAGE_FOLDERS = frozenset({"image", "images", "img", "imgs", "frames", "files", "data", "raw"})
NOT_IMAGES = frozenset(
    {".csv", ".tsv", ".txt", ".md", ".rst", ".json", ".jsonl", ".xml", ".xlsx", ".xls", ".docx",
     ".pdf", ".html", ".htm", ".py", ".ipynb", ".sh", ".zip", ".tar", ".7z", ".rar", ".mp4", ".avi",
     ".mov", ".mpeg", ".mpg", ".mkv", ".npy", ".npz", ".yaml", ".yml", ".toml", ".parquet", ".pq",
     ".log", ".h5", ".hdf5", ".mat", ".key", ".bval", ".bvec", ".db", ".bib", ".sha256", ".md5"}
)  # fmt: skip
_MASK_STEM = re.compile(r"(.+?)[ _-]mask([ _-]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Options:
    """What a user may ask of a layout.

    Attributes
    ----------
    columns
        Manifest column to the table's column: ``{"label": "subtype"}``.
    single_label
        One ``label`` for each image where the set gives several.
    include_ct
        Keep CT slices of a set that mixes them with X-rays.
    table
        Name of the one table to use, empty for the best at the top.
    slices
        First and last axial slice of volumes that become rows; ``None`` for those of the layout.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    single_label: bool = False
    include_ct: bool = False
    table: str = ""
    slices: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One image and what the layout says of it.

    Attributes
    ----------
    image
        Its path relative to the folder; of several files, the first.
    values
        Columns of the manifest, such as ``label`` and ``patient``. ``mask`` and ``target`` are
        paths relative to the folder, or references with such a path.
    references
        Only where the row is not one whole file: its image columns and what each refers to, with
        paths relative to the folder, such as ``{"image.t1": ..., "image.t2": ...}``.
    """

    image: str
    values: dict[str, Any] = field(default_factory=dict)
    references: dict[str, ImageReference] = field(default_factory=dict)

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of all files of the image, each once."""
        if not self.references:
            return (self.image,)
        return tuple(dict.fromkeys(reference.path for reference in self.references.values()))


@dataclass
class Listing:
    """All images that a layout gives, and what there is to tell.

    Attributes
    ----------
    entries
        One for each image, in the order of the manifest's rows.
    problems
        Rows without files, and other things that were not taken over.
    counts
        How many were left out, by reason.
    notes
        Sentences on how the layout was read.
    """

    entries: list[Entry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def tell(self, file: str, kind: str, found: str, remedy: str = "", **place: Any) -> None:  # noqa: ANN401
        """Add a warning; ``place`` may hold ``row`` and ``column``."""
        self.problems.append(Problem(file, found, remedy, kind=kind, fatal=False, **place))


def candidates(files: Iterable[str]) -> list[str]:
    """Return the files that may be images by their names."""
    return [path for path in files if not is_no_image(path)]


def is_no_image(path: str) -> bool:
    """Tell whether a file's suffix is one of tables, texts, archives and films."""
    name = path.rpartition("/")[2].lower()
    suffix = PurePosixPath(name).suffix
    if suffix == ".gz":
        return not name.endswith(".nii.gz")
    return suffix in NOT_IMAGES


def promises_image(path: str) -> bool:
    """Tell whether a file's suffix promises a format that can be read."""
    return suffix_format(Path(path)) is not None


def wrapper(files: Iterable[str]) -> str:
    """Return the prefix, such as ``"chest_xray/"``, of folders that hold one folder only.

    Examples
    --------
    >>> wrapper(["set/v1/a/x.png", "set/v1/b/y.png"])
    'set/v1/'
    """
    paths = list(files)
    if not paths:
        return ""
    low, high = min(paths).split("/")[:-1], max(paths).split("/")[:-1]
    common = []
    for left, right in zip(low, high, strict=False):
        if left != right or left.casefold() in SPLIT_FOLDERS:  # a split says something
            break
        common.append(left)
    return "".join(f"{part}/" for part in common)


def down_to(prefix: str) -> list[str]:
    """Return a prefix and those of all folders above it: where a set's tables may lie.

    Examples
    --------
    >>> down_to("set/images/")
    ['', 'set/', 'set/images/']
    """
    parts = prefix.split("/")[:-1]
    return ["".join(f"{part}/" for part in parts[:depth]) for depth in range(len(parts) + 1)]


def plain(name: str) -> str:
    """Return a name without case, blanks, underscores and hyphens, to compare names.

    Examples
    --------
    >>> plain("Viral Pneumonia") == plain("viral_pneumonia")
    True
    """
    return re.sub(r"[\s_-]+", "", unicodedata.normalize("NFC", name).casefold())


def pair_masks(paths: Iterable[str]) -> tuple[list[str], dict[str, str], list[str]]:
    """Tell masks from images and find each image's mask by its name.

    A mask lies in a folder called masks (or alike), or beside its image as ``NAME_mask``.

    Returns
    -------
    images, mask of each image, masks whose image is not there or has one already
    """
    images: dict[str, list[str]] = {}
    masks: list[tuple[str, str]] = []
    beside = []
    for path in paths:
        parts = path.split("/")
        stem = PurePosixPath(parts[-1].removesuffix(".gz")).stem
        in_masks = any(part.casefold() in MASK_FOLDERS for part in parts[:-1])
        named = _MASK_STEM.fullmatch(stem)
        place = [p for p in parts[:-1] if p.casefold() not in MASK_FOLDERS | IMAGE_FOLDERS]
        if in_masks:
            masks.append(("/".join([*place, named[1] if named else stem]).casefold(), path))
        elif named:
            beside.append(("/".join([*place, named[1]]).casefold(), path))
        else:
            images.setdefault("/".join([*place, stem]).casefold(), []).append(path)
    listed = [path for alike in images.values() for path in alike]
    for key, path in beside:  # "tumour_mask.png" without "tumour.png" is an image after all
        (masks.append((key, path)) if key in images else listed.append(path))
    of_image: dict[str, str] = {}
    left = []
    for key, path in sorted(masks):
        alike = images.get(key, [])
        # of two images with one name neither gets the mask: it would be a guess
        if len(alike) != 1 or alike[0] in of_image:
            left.append(path)
        else:
            of_image[alike[0]] = path
    return sorted(listed), of_image, left
