"""The pass over the files of an index: size, SHA-256 and header of each, in a few threads."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import warnings
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from medglean.data import dicom_headers, readers
from medglean.data.sources import Entry
from medglean.errors import Problem, ReadError

FILES_AT_A_TIME = 32
"""How many files one task of the pool takes: small files alone would be all overhead."""


@dataclass(frozen=True)
class Examined:
    """One file: its size, SHA-256 and header, or why there is none."""

    size: int = 0
    sha256: str = ""
    header: readers.Header | None = None
    facts: dicom_headers.Facts | None = field(default=None, repr=False)
    problem: Problem | None = None


def examine_all(
    folder: Path, entries: Sequence[Entry], workers: int
) -> Iterator[tuple[Entry, Mapping[str, Examined]]]:
    """Examine the files of entries, in order; return what was seen of each entry's files by path.

    A file that several entries refer to, such as a volume whose slices they are, is examined once.
    """
    uses = Counter(path for entry in entries for path in entry.files)
    seen = _examined(folder, list(uses), workers)
    known: dict[str, Examined] = {}
    with contextlib.closing(seen):
        for entry in entries:
            for path in entry.files:
                while path not in known:  # the files come in the order in which they are needed
                    known.update([next(seen)])
            yield entry, {path: known[path] for path in entry.files}
            for path in entry.files:
                uses[path] -= 1
                if not uses[path]:
                    del known[path]


def _examined(
    folder: Path, paths: Sequence[str], workers: int
) -> Generator[tuple[str, Examined], None, None]:
    """Examine files in a few threads, in order, with a bounded number under way."""
    pending: deque[tuple[Sequence[str], Future[list[Examined]]]] = deque()

    def work(block: Iterable[str]) -> list[Examined]:
        return [examine(folder / path, path) for path in block]

    with _quiet(), ThreadPoolExecutor(max(1, workers)) as pool:
        for start in range(0, len(paths), FILES_AT_A_TIME):
            block = paths[start : start + FILES_AT_A_TIME]
            pending.append((block, pool.submit(work, block)))
            if len(pending) > 2 * workers:
                first, future = pending.popleft()
                yield from zip(first, future.result(), strict=True)
        while pending:
            first, future = pending.popleft()
            yield from zip(first, future.result(), strict=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep pydicom's remarks on odd headers out of warnings and logs: they quote the values.

    Set around the whole pool, not in its threads: filters belong to the process.
    """
    logger = logging.getLogger("pydicom")

    def nothing(record: logging.LogRecord) -> bool:
        return False

    logger.addFilter(nothing)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.removeFilter(nothing)


def examine(path: Path, name: str) -> Examined:
    """Return size, SHA-256 and header of one file, or the problem with it.

    ``name`` is how messages call the file. Nothing is raised: one file costs one image.
    """
    try:
        header = readers.probe(path, dicom_tags=dicom_headers.TAGS)
        found = dicom_headers.facts(header) if header.format == "DICOM" else None
        header.extra.pop("dataset", None)  # it holds the patient's name
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
            size = file.tell()
        return Examined(size, digest.hexdigest(), header, found)
    except ReadError as error:
        return Examined(problem=Problem(name, error.found, error.remedy, kind="broken"))
    except OSError as error:
        what = f"cannot be opened ({error.strerror or type(error).__name__})."
        remedy = "Give yourself the right to read it."
        return Examined(problem=Problem(name, what, remedy, kind="unreadable"))
    except Exception as error:  # noqa: BLE001 - a parser's failure on one file must cost one file
        # only the type: the message may quote the header
        what = f"its header cannot be parsed ({type(error).__name__})."
        return Examined(problem=Problem(name, what, "Export the image again.", kind="broken"))
