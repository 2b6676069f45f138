"""What each shard gave: a Parquet file, and beside it a mark that says it is whole.

::

    embeddings/part-00007.parquet    id, ok, values
    embeddings/part-00007.done.json  key of what it was made from, SHA-256, number of rows, ...

The part is written first and the mark last, both so that a kill leaves the old file or the new one.
A part without a mark does not count; one whose bytes are not those of its mark, or that was made
from something else, is made again and told.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float

from medglean import files
from medglean.errors import DataError, Problem

FORMAT = 1
REMEDY = "It is made again; nothing needs to be done."


@dataclass(frozen=True)
class Part:
    """One part of one kind, whether or not it exists yet.

    Attributes
    ----------
    folder
        The folder that holds all kinds.
    kind
        ``"embeddings"``, ``"candidates"`` or ``"coverage"``: the name of its folder.
    shard
        Number of the shard, from 0.
    """

    folder: Path
    kind: str
    shard: int

    @property
    def path(self) -> Path:
        """The Parquet file."""
        return self.folder / self.kind / f"part-{self.shard:05d}.parquet"

    @property
    def mark_path(self) -> Path:
        """The mark, written last."""
        return self.path.with_suffix(".done.json")

    def find(self, key: str) -> tuple[dict[str, Any] | None, list[Problem]]:
        """Return the mark if the part is whole and was made from what ``key`` names.

        Reads the whole part to compare its SHA-256.

        Returns
        -------
        tuple
            The mark, or None where the part must be made; and what was found damaged or outdated,
            to be told. Nothing is told where there is no mark: the part was never finished.
        """
        try:
            mark = json.loads(self.mark_path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None, []
        except (OSError, ValueError):
            return None, [
                self._told("damaged-mark", f"the mark {self.mark_path.name} is unreadable.")
            ]
        if not isinstance(mark, dict) or mark.get("format") != FORMAT:
            return None, [
                self._told("damaged-mark", f"{self.mark_path.name} is of another format.")
            ]
        if mark.get("key") != key:
            found = "it was made from other images or with other settings."
            return None, [self._told("outdated-part", found)]
        try:
            sha256 = files.sha256_of_file(self.path)
        except OSError:
            return None, [self._told("damaged-part", "it is marked as done and cannot be read.")]
        if sha256 != mark.get("sha256"):
            found = "its SHA-256 is not the one that was noted when it was written."
            return None, [self._told("damaged-part", found)]
        return mark, []

    def write(
        self, columns: Mapping[str, pa.Array], *, key: str, **record: object
    ) -> dict[str, Any]:
        """Write the part and then its mark, and return the mark.

        Parameters
        ----------
        columns
            The table, column by column.
        key
            Hash of all that the content depends on.
        record
            What else the mark keeps; JSON-able.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # before the part is replaced: a mark must never stand beside a part it is not of
        self.mark_path.unlink(missing_ok=True)
        table = pa.table(dict(columns))
        with files.atomic_writer(self.path) as file:
            pq.write_table(table, file, compression="none", use_dictionary=False)
        mark = {
            "format": FORMAT,
            "shard": self.shard,
            "key": key,
            "rows": table.num_rows,
            "sha256": files.sha256_of_file(self.path),
            **record,
        }
        files.write_json(self.mark_path, mark)
        return mark

    def read(self, *columns: str) -> pa.Table:
        """Return the part's table, or some of its columns.

        Raises
        ------
        DataError
            If it cannot be read.
        """
        try:
            return pq.read_table(self.path, columns=list(columns) or None, partitioning=None)
        except (OSError, pa.ArrowException) as error:
            raise DataError(
                f"{self.path}: this part of the embeddings cannot be read ({error}). Run again "
                "with resume: a damaged part is found and made again."
            ) from error

    def _told(self, kind: str, found: str) -> Problem:
        return Problem(str(self.path), found, REMEDY, kind=kind, fatal=False)


def vectors(values: Float[np.ndarray, "n d"]) -> pa.Array:
    """Return one vector of fixed length per row as a Parquet column."""
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def matrix(column: pa.ChunkedArray) -> Float[np.ndarray, "n d"]:
    """Return what `vectors` wrote, shape (n, d)."""
    width = column.type.list_size
    array: np.ndarray = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return array.reshape(-1, width)
