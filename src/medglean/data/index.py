"""``index``: from a folder of images to a manifest, with the headers read and the files hashed.

One pass over the files: size, SHA-256 and header. No pixel is decoded, except that layouts whose
labels are masks read these. A file whose header cannot be read goes to ``problems.csv`` and the
others go on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medglean.data.examine import Examined, examine, examine_all
from medglean.data.manifest import SUFFIXES, Manifest
from medglean.data.problem_list import PROBLEMS_NAME, check_problem_list, write_problems
from medglean.data.pseudonyms import Pseudonyms, default_key_file, load_or_create_key
from medglean.data.reference import ImageReference
from medglean.data.rows import RowMaker
from medglean.data.sources import Listing, Options, choose
from medglean.data.sources.listing import is_no_image, promises_image
from medglean.data.walk import Tree, walk
from medglean.errors import DataError, ManifestError, Problem, UsageError

__all__ = ["Examined", "IndexResult", "check_out", "examine", "index"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class IndexResult:
    """What an index run found.

    Attributes
    ----------
    manifest
        The manifest as written.
    problems
        Everything told, the rows of ``problems.csv``.
    counts
        How many files were seen (``files``), became ``images`` and ``rows``, are ``broken``, and
        were passed over, by reason.
    layout
        Name of the layout that was used.
    reason
        Why it was, in words.
    notes
        Sentences a user should read, such as which columns were not taken over.
    """

    manifest: Manifest
    problems: list[Problem]
    counts: dict[str, int]
    layout: str
    reason: str = ""
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        """Return a few lines for a terminal."""
        counts = ", ".join(f"{count:,} {what}" for what, count in self.counts.items() if count)
        lines = [f"Layout {self.layout}: {self.reason}.", f"Found {counts}.", *self.notes]
        lines.append(f"Wrote {self.manifest.path}: {len(self.manifest):,} rows.")
        if self.problems:
            lines.append(
                f"{len(self.problems):,} problems are listed in {PROBLEMS_NAME} beside it."
            )
        return "\n".join(lines)


def index(
    source: str | Path,
    *,
    out: str | Path,
    layout: str = "auto",
    columns: Mapping[str, str] | None = None,
    single_label: bool = False,
    include_ct: bool = False,
    frames: Literal["each", "file"] = "each",
    slices: tuple[int, int] | None = None,
    keep_ids: bool = False,
    key_file: str | Path | None = None,
    follow_links: bool = False,
    overwrite: bool = False,
    workers: int = 2,
    progress: Progress | None = None,
) -> IndexResult:
    """Write a manifest of the images in a folder, and ``problems.csv`` beside it.

    References are relative to the manifest's folder where the images lie below it; otherwise
    they are relative to ``source``, and the manifest says so in its column ``root``. So the
    images' folder may be read-only and the manifest anywhere.

    Parameters
    ----------
    source
        A folder, or a CSV that lies above its images.
    out
        The manifest to write: ``.parquet`` or ``.csv``.
    layout
        ``"auto"`` or the name of one in :data:`medglean.data.sources.LAYOUTS`.
    columns
        For tables: manifest column to the table's, such as ``{"label": "subtype"}``.
    single_label, include_ct
        See :class:`medglean.data.sources.Options`.
    frames
        ``"each"``: a row for each frame of a multi-frame DICOM or animated PNG and each page of a
        TIFF, with the file as their ``group``. ``"file"``: one row a file. A NIfTI volume is one
        row either way.
    slices
        First and last axial slice that becomes a row, counted from 0 at the bottom, for layouts of
        volumes; by default those of the layout.
    keep_ids
        Keep patient, study and series ids of DICOM headers instead of pseudonyms.
    key_file
        Where the pseudonyms' key lies; by default in the user's configuration folder. It is made
        when the first DICOM file is met.
    follow_links
        Whether links are followed, also out of the folder.
    overwrite
        Whether a manifest of this name is replaced.
    workers
        Threads that read files, at least 1.
    progress
        Called with the number of files done and of all.

    Raises
    ------
    UsageError
        For a wrong option, an existing ``out``, or a key that others can read.
    DataError
        If there is no such folder, no image in it, or no way to write the manifest.
    """
    folder, out = Path(source), Path(out)
    if str(source).startswith(("http://", "https://")):
        raise UsageError(f"{source}: an address. Fetch the images first and give their folder.")
    if slices is not None and not 0 <= slices[0] <= slices[1]:
        raise UsageError(f"slices {slices[0]} to {slices[1]}: expected 0 <= first <= last.")
    options = Options(dict(columns or {}), single_label, include_ct, slices=slices)
    if folder.is_file():
        options = dataclasses.replace(options, table=folder.name)
        folder, layout = folder.parent, "csv" if layout == "auto" else layout
    check_out(out, overwrite=overwrite)
    problem_list = out.with_name(PROBLEMS_NAME)
    check_problem_list(problem_list)
    key = None if keep_ids else Path(key_file) if key_file else default_key_file()
    if key_file and not keep_ids:
        _check_key_place(Path(key_file), folder, out)

    tree = walk(folder, follow_links=follow_links, ignore=(out, problem_list))
    chosen, reason = choose(tree, layout, options)
    listing = chosen.rows(tree, options)
    maker = RowMaker(_prefix(folder, out), frames=frames, pseudonyms=_lazy_pseudonyms(key))
    problems = [*tree.problems, *listing.problems]
    counts: Counter[str] = Counter(files=len(tree.files))
    total = len(listing.entries)
    told: set[str] = set()
    for done, (entry, seen) in enumerate(examine_all(folder, listing.entries, workers), start=1):
        bad = {path: one.problem for path, one in seen.items() if one.problem is not None}
        if not bad:
            maker.add(entry, seen)
        for path, problem in bad.items():
            if path in told:
                continue
            told.add(path)
            if promises_image(path) or problem.kind == "unreadable":
                counts["broken"] += 1
                problems.append(problem)
            else:
                maker.unknown(path)
        if progress is not None and (done % 100 == 0 or done == total):
            progress(done, total)
    problems += maker.problems(str(folder))
    counts.update(images=maker.images, rows=maker.rows)
    counts.update(_passed_over(tree, listing))
    frame = maker.frame()
    with _no_room_told(problem_list):
        write_problems(problem_list, problems, manifest=out.name)
    if len(frame) == 0:
        raise DataError(_nothing_found(folder, counts, problems, problem_list))
    root = _root(folder, out)
    try:
        manifest = Manifest.from_frame(frame, root, name=str(out))
    except ManifestError as error:
        raise DataError(
            f"{folder}: what was found makes no sound manifest, so none was written. {error}"
        ) from error
    manifest = manifest.write(out)
    return IndexResult(manifest, problems, dict(counts), chosen.NAME, reason, tuple(listing.notes))


# --- where things go ----------------------------------------------------------------------------


def check_out(out: Path, *, overwrite: bool) -> None:
    """Find out before the long pass whether the manifest can be written.

    Raises
    ------
    UsageError
        If the suffix is wrong or the file exists.
    DataError
        If its folder takes no files.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"{out}: a manifest is written as {', '.join(SUFFIXES)}. Change the name's end."
        )
    if out.exists() and not overwrite:
        raise UsageError(f"{out}: exists already. Give another name, or say --overwrite.")
    with _no_room_told(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent):
            pass


@contextlib.contextmanager
def _no_room_told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({error.strerror or type(error).__name__}). Nothing was "
            "left behind. Choose a folder that is writable and has room."
        ) from error


def _check_key_place(key: Path, folder: Path, out: Path) -> None:
    place = Path(os.path.realpath(key))
    shared = Path(os.path.realpath(folder)), Path(os.path.realpath(out.parent))
    if place.is_relative_to(shared[0]) or place.parent == shared[1]:
        raise UsageError(
            f"{key}: the key for pseudonyms would lie with the data, and go away with them to "
            "whoever gets them. Give a place apart, or leave --key-file out."
        )


def _lazy_pseudonyms(key: Path | None) -> Callable[[], Pseudonyms | None]:
    """Return a function that loads the key when it is first needed: no DICOM, no key."""
    loaded: list[Pseudonyms] = []

    def get() -> Pseudonyms | None:
        if key is None:
            return None
        if not loaded:
            loaded.append(Pseudonyms(load_or_create_key(key)))
        return loaded[0]

    return get


def _prefix(folder: Path, out: Path) -> str:
    """Return what references begin with: the way from the manifest down to the folder."""
    real, home = Path(os.path.realpath(folder)), Path(os.path.realpath(out.parent))
    if real == home or not real.is_relative_to(home):
        return ""
    return real.relative_to(home).as_posix() + "/"


def _root(folder: Path, out: Path) -> Path:
    real, home = Path(os.path.realpath(folder)), Path(os.path.realpath(out.parent))
    return home if real.is_relative_to(home) else real


def _passed_over(tree: Tree, listing: Listing) -> Counter[str]:
    listed = {path for entry in listing.entries for path in entry.files}
    masks = {
        value.path if isinstance(value, ImageReference) else value
        for entry in listing.entries
        for name, value in entry.values.items()
        if name in ("mask", "target")
    }
    others = [path for path in tree.files if path not in listed and path not in masks]
    no_image = sum(is_no_image(path) for path in others)
    counts = Counter({"not images": no_image, "images without a row": len(others) - no_image})
    return counts + tree.counts + listing.counts


def _nothing_found(
    folder: Path, counts: Counter[str], problems: list[Problem], problem_list: Path
) -> str:
    if counts["broken"]:
        return (
            f"{folder}: none of {counts['broken']:,} image files can be read; {problem_list} says "
            f"why. The first: {next(p for p in problems if p.fatal)}"
        )
    if not counts["files"]:
        return f"{folder}: the folder is empty. Give the folder that holds the images."
    return (
        f"{folder}: no image among {counts['files']:,} files. Give the folder that holds the "
        "images; PNG, JPEG, TIFF, BMP, DICOM and NIfTI are known."
    )
