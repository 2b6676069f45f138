"""From examined files to the rows of a manifest, kept in blocks so that memory stays small."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import pyarrow as pa

from medglean.data.pseudonyms import Pseudonyms
from medglean.data.reference import ImageReference
from medglean.data.sources import Entry
from medglean.data.tables import frame_of
from medglean.errors import Problem

if TYPE_CHECKING:
    from medglean.data.examine import Examined

FIRST_COLUMNS = (
    "id", "image", "patient", "group", "label", "labels", "mask", "target", "split", "source",
    "modality", "view", "body_part", "laterality", "sex", "age", "study", "series",
    "manufacturer", "model", "bytes", "sha256", "format", "height", "width", "frames",
    "channels", "bits",
)  # fmt: skip
"""The order of the columns; others follow in the order they were met."""
ROWS_AT_A_TIME = 2_000
MOST_FRAMES = 100_000
"""A header that claims more frames than this is taken for a damaged one."""


class RowMaker:
    """Collect rows.

    Parameters
    ----------
    prefix
        What references begin with, such as ``"images/"``.
    frames
        A row for ``"each"`` frame, or for each ``"file"``.
    pseudonyms
        Returns the pseudonyms when the first DICOM file needs them, ``None`` to keep ids.
    """

    def __init__(
        self,
        prefix: str,
        *,
        frames: Literal["each", "file"],
        pseudonyms: Callable[[], Pseudonyms | None],
    ) -> None:
        self.images = 0
        self.rows = 0
        self._prefix = prefix
        self._frames = frames
        self._pseudonyms = pseudonyms
        self._block: list[dict[str, Any]] = []
        self._blocks: list[pa.Table] = []
        self._told: list[Problem] = []
        self._unknown: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._without_patient = 0
        self._identifying_paths = 0
        self._issuers: dict[str, set[str]] = defaultdict(set)

    def unknown(self, path: str) -> None:
        """Count a file of no known format whose name promised none."""
        self._unknown[PurePosixPath(path).suffix.lower()] += 1

    def add(self, entry: Entry, seen: Mapping[str, Examined]) -> None:
        """Add the rows of one image, of whose every file there is what was seen of it."""
        first = seen[entry.files[0]]
        if first.header is None or not all(self._usable(path, seen[path]) for path in entry.files):
            return
        header = first.header
        row: dict[str, Any] = {
            "format": header.format,
            "height": header.height,
            "width": header.width,
            "channels": header.channels,
            "bits": header.bits,
        }
        for column, reference in (
            entry.references or {"image": ImageReference(entry.image)}
        ).items():
            end = column.removeprefix("image")  # bytes and sha256.t1 beside image.t1
            row |= {f"bytes{end}": seen[reference.path].size}
            row |= {f"sha256{end}": seen[reference.path].sha256}
        name = entry.image
        if first.facts is not None:
            row |= first.facts.values
            name = self._identify(row, first, entry.image)
        row |= {k: v for k, v in entry.values.items() if v is not None}
        for column in ("mask", "target"):
            if row.get(column):
                row[column] = self._reference(row[column])
        if entry.references:
            self._add_parts(row, name, entry, header.frames)
        else:
            row.setdefault("id", name)
            own = self._prefix + entry.image
            slide = header.extra.get("slide")
            self._add_frames(row, own, header.format, header.frames, slide=slide)
        self.images += 1

    def _usable(self, path: str, seen: Examined) -> bool:
        """Tell whether a file holds an image; count or tell why not."""
        header = seen.header
        if header is None:
            return False
        if seen.facts is not None and not header.extra.get("has_pixels", True):
            self._dropped["no pixels"] += 1
            return False
        if header.frames > min(MOST_FRAMES, max(1, seen.size)):
            found = f"its header claims {header.frames:,} frames, the file has {seen.size:,} bytes."
            self._told.append(Problem(path, found, "Export the image again.", kind="broken"))
            return False
        if header.extra.get("suffix_warning"):
            found = header.extra["suffix_warning"]
            self._told.append(Problem(path, found, "", kind="suffix", fatal=False))
        return True

    def _reference(self, value: str | ImageReference) -> str:
        """Return a reference below the manifest's folder from one below the images' folder."""
        known = value if isinstance(value, ImageReference) else ImageReference(value)
        return str(ImageReference(self._prefix + known.path, known.fragment))

    def _add_parts(self, row: dict[str, Any], name: str, entry: Entry, frames: int) -> None:
        """Add the one row of an image in several files, or of a named part of a file."""
        for column, reference in entry.references.items():
            row[column] = self._reference(reference)
        part = next(iter(entry.references.values())).fragment
        if part:
            name += "#" + ",".join(f"{key}={value}" for key, value in part)
        elif frames > 1:
            row["frames"] = frames
        row.setdefault("id", name)
        self._append(row)

    def _identify(self, row: dict[str, Any], seen: Examined, path: str) -> str:
        """Add patient, study and series of a DICOM file to its row, and return its id.

        The id comes from the path under the key, not from the path itself: ids stand in reports,
        and hospitals' exports are often called after patients.
        """
        facts = seen.facts
        if facts is None:
            return path
        pseudonyms = self._pseudonyms()
        row |= facts.names(pseudonyms)
        self._dropped.update(facts.dropped)
        if not facts.patient_id:
            self._without_patient += 1
        elif pseudonyms is not None:
            self._issuers[pseudonyms.of("any-issuer", facts.patient_id)].add(facts.issuer)
        if pseudonyms is None:
            return path
        low = path.casefold()
        self._identifying_paths += any(word in low for word in facts.secrets)
        return pseudonyms.of("image", path)

    def _add_frames(
        self, row: dict[str, Any], path: str, kind: str, frames: int, *, slide: object
    ) -> None:
        one_row = self._frames == "file" or kind == "NIfTI" or bool(slide)
        if frames <= 1 or one_row:
            row["image"] = str(ImageReference(path))
            if frames > 1:
                row["frames"] = frames
            self._append(row)
            return
        key = "page" if kind == "TIFF" else "frame"
        row.setdefault("group", row["id"])
        for number in range(frames):
            reference = ImageReference(path, ((key, number),))
            name = f"{row['id']}#{key}={number}"
            self._append(row | {"id": name, "image": str(reference)})

    def _append(self, row: dict[str, Any]) -> None:
        self.rows += 1
        self._block.append(row)
        if len(self._block) >= ROWS_AT_A_TIME:
            self._flush()

    def _flush(self) -> None:
        if self._block:
            # Arrow-backed: a block of dictionaries takes ten times the memory
            self._blocks.append(pa.Table.from_pylist(_same_keys(self._block)))
            self._block = []

    def frame(self) -> pd.DataFrame:
        """Return all rows as one table, columns without any value left out."""
        self._flush()
        if not self._blocks:
            return pd.DataFrame()
        table = pa.concat_tables(self._blocks, promote_options="permissive")
        self._blocks = []
        frame = frame_of(table).dropna(axis="columns", how="all")
        first = [name for name in FIRST_COLUMNS if name in frame]
        return frame[first + [name for name in frame if name not in first]]

    def problems(self, source: str) -> list[Problem]:
        """Return what was found on the way, sums instead of one line for each file."""
        told = list(self._told)

        def tell(kind: str, found: str, remedy: str) -> None:
            told.append(Problem(source, found, remedy, kind=kind, fatal=False))

        for suffix, count in sorted(self._unknown.items()):
            files = f"{count:,} files {'with suffix ' + suffix if suffix else 'without suffix'}"
            tell("unknown-format", f"{files} are of no known format and left out.", "")
        if count := self._dropped.pop("no pixels", 0):
            found = f"{count:,} DICOM files hold no image (reports, presentation states, DICOMDIR)."
            tell("no-pixels", found, "They are left out.")
        for column, count in sorted(self._dropped.items()):
            found = (
                f"{count:,} DICOM headers give as {column} a text that is no term of the standard."
            )
            tell("not-a-term", found, "It is left out, because free text may hold a name.")
        if self._without_patient:
            found = f"{self._without_patient:,} DICOM files name no patient."
            remedy = (
                "Each study counts as a patient of its own; two studies of one patient may then "
                "come to different sides of a split."
            )
            tell("no-patient", found, remedy)
        several = sum(len(issuers) > 1 for issuers in self._issuers.values())
        if several:
            found = (
                f"{several:,} patient ids are used by several issuers (or with and without one)."
            )
            tell("issuers", found, "They count as different patients.")
        if self._identifying_paths:
            found = (
                f"{self._identifying_paths:,} DICOM files lie under paths that hold the patient's "
                "name, id or birth date as the header gives it; the column image holds these paths."
            )
            tell("identifying-path", found, "Rename the files before the manifest is shared.")
        return told


def _same_keys(block: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give every row of a block all keys of the block, since the first row decides the columns."""
    keys = dict.fromkeys(key for row in block for key in row)
    return [{key: row.get(key) for key in keys} for row in block]
