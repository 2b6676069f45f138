"""Embeddings made elsewhere: ``.npy``, ``.npz`` and Parquet, matched to a manifest by id."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Int

from medglean.curate.embed.result import check_finite, some_of
from medglean.errors import EmbeddingError, Problem

IDS, VALUES = "ids", "embeddings"
PARQUET_ID = "id"
PARQUET_SUFFIXES = (".parquet", ".pq")


class Matched(NamedTuple):
    """Embeddings in a manifest's order, and what was done to get them there."""

    values: np.ndarray
    """float32 of shape (n, d)."""
    problems: tuple[Problem, ...]


def read_arrays(
    path: Path, ids: Sequence[str], *, in_manifest_order: bool = False, allow_extra: bool = False
) -> Matched:
    """Read embeddings and put them in the order of ``ids``.

    Parameters
    ----------
    path
        ``.npy`` of shape (n, d) without ids; ``.npz`` with ``ids`` (n,) and ``embeddings`` (n, d);
        Parquet with ``id`` and either one column of lists of one length or columns of numbers.
    ids
        Those of the manifest, each once.
    in_manifest_order
        Says that an ``.npy`` has the manifest's rows in its order; without it one is refused.
    allow_extra
        Whether rows of other ids are left out and told, instead of refused.

    Raises
    ------
    EmbeddingError
        If the file is missing, of another kind or damaged; if ids are missing, repeated or not in
        the manifest; if values are not numbers, not finite or not of shape (n, d).
    """
    if not path.is_file():
        raise EmbeddingError(f"{path}: no such file of embeddings. Check arrays.path.")
    suffix = path.suffix.lower()
    if suffix == ".npy":
        values = _table(_load_npy(path), path)
        _check_count(path, len(values), len(ids), in_manifest_order=in_manifest_order)
        problems: list[Problem] = []
    elif suffix == ".npz" or suffix in PARQUET_SUFFIXES:
        found, values = _load_npz(path) if suffix == ".npz" else _load_parquet(path)
        order, problems = _match(path, found, ids, allow_extra=allow_extra)
        values = values[order]
    else:
        raise EmbeddingError(
            f"{path}: embeddings are read from .npy, .npz and .parquet, not from "
            f"{path.suffix or 'a file without suffix'!r}. Convert the file."
        )
    check_finite(values, tuple(ids), source=str(path))
    with np.errstate(over="ignore"):
        narrow = np.ascontiguousarray(values, dtype=np.float32)
    check_finite(narrow, tuple(ids), source=f"{path} as 32-bit numbers")
    return Matched(narrow, tuple(problems))


def _load_npy(path: Path) -> np.ndarray:
    try:
        loaded = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise EmbeddingError(_damaged(path, "array", error)) from error
    if not isinstance(loaded, np.ndarray):
        loaded.close()
        raise EmbeddingError(f"{path}: an archive of arrays. Name it .npz.")
    return loaded


def _load_npz(path: Path) -> tuple[list[str], np.ndarray]:
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            names = set(file.files)
            if not {IDS, VALUES} <= names:
                raise EmbeddingError(
                    f"{path}: arrays {sorted(names)}, expected {IDS!r} and {VALUES!r}. Save it as "
                    f"np.savez(path, {IDS}=..., {VALUES}=...)."
                )
            ids, values = file[IDS], file[VALUES]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise EmbeddingError(_damaged(path, "archive of arrays", error)) from error
    values = _table(values, path)
    if ids.shape != (len(values),):
        raise EmbeddingError(
            f"{path}: {IDS!r} has shape {ids.shape}, expected ({len(values)},): one id for each "
            f"row of {VALUES!r}."
        )
    if ids.dtype.kind not in "USiu":
        raise EmbeddingError(f"{path}: {IDS!r} holds {ids.dtype}, expected text.")
    if ids.dtype.kind == "S":
        ids = np.char.decode(ids, "utf-8")
    return [str(one) for one in ids.tolist()], values


def _load_parquet(path: Path) -> tuple[list[str], np.ndarray]:
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise EmbeddingError(_damaged(path, "Parquet file", error)) from error
    if PARQUET_ID not in table.column_names:
        raise EmbeddingError(
            f"{path}: columns {table.column_names}, expected {PARQUET_ID!r} among them. Rename "
            "the column that holds the manifest's ids."
        )
    ids = [str(one) for one in table.column(PARQUET_ID).to_pylist()]
    rest = table.drop_columns([PARQUET_ID])
    lists = [field.name for field in rest.schema if _is_list(field.type)]
    if len(lists) > 1:
        raise EmbeddingError(f"{path}: columns of lists {lists}, expected one. Drop the others.")
    if lists:
        return ids, _table(_stacked(rest.column(lists[0]), ids, path), path)
    other = [f.name for f in rest.schema if not _is_number(f.type)]
    if other or not rest.num_columns:
        raise EmbeddingError(
            f"{path}: beside {PARQUET_ID!r} the columns {other or 'none'} are not numbers, "
            "expected one column of lists or columns of numbers only. Drop the others."
        )
    frame: pd.DataFrame = rest.to_pandas()
    return ids, _table(frame.to_numpy(dtype=np.float64, na_value=np.nan), path)


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _stacked(column: pa.ChunkedArray, ids: Sequence[str], path: Path) -> np.ndarray:
    """Return a column of lists as a table; lists must be of one length."""
    lists = column.to_pylist()
    lengths = np.array([-1 if one is None else len(one) for one in lists], dtype=np.int64)
    if len(lengths) and (lengths != lengths[0]).any():
        usual = int(np.bincount(lengths[lengths >= 0]).argmax())
        odd = [ids[int(row)] for row in np.flatnonzero(lengths != usual)]
        raise EmbeddingError(
            f"{path}: lists of {usual} numbers, and {len(odd)} of another length: {some_of(odd)}. "
            "Every embedding must have the same number of values."
        )
    if any(value is None for one in lists for value in one or ()):
        lists = [[np.nan if value is None else value for value in one or ()] for one in lists]
    return np.array(lists)


def _table(values: np.ndarray, path: Path) -> Float[np.ndarray, "n d"]:
    """Refuse what is not a table of numbers."""
    if values.ndim != 2 or 0 in values.shape:
        raise EmbeddingError(
            f"{path}: embeddings of shape {values.shape}, expected (n, d) with at least one row "
            "and one column. Flatten each image's features to one row."
        )
    if values.dtype.kind not in "fiu":
        raise EmbeddingError(f"{path}: embeddings of type {values.dtype}, expected real numbers.")
    wide: np.ndarray = values if values.dtype.kind == "f" else values.astype(np.float64)
    return wide


def _check_count(path: Path, found: int, expected: int, *, in_manifest_order: bool) -> None:
    if not in_manifest_order:
        raise EmbeddingError(
            f"{path}: an .npy has no ids, so nothing says which row is which image. Give an .npz "
            "or Parquet with ids, or set arrays.in_manifest_order=true if the rows are in the "
            "manifest's order."
        )
    if found != expected:
        raise EmbeddingError(
            f"{path}: {found} embeddings, and the manifest has {expected} images: expected as "
            "many. Give an .npz or Parquet with ids."
        )


def _match(
    path: Path, found: Sequence[str], ids: Sequence[str], *, allow_extra: bool
) -> tuple[Int[np.ndarray, " n"], list[Problem]]:
    """Return which row of the file belongs to each id."""
    at: dict[str, int] = {}
    repeated: dict[str, None] = {}
    for row, one in enumerate(found):
        if at.setdefault(one, row) != row:
            repeated[one] = None
    if repeated:
        raise EmbeddingError(
            f"{path}: {len(repeated)} ids occur more than once: {some_of(list(repeated))}. Every "
            "image has one embedding: remove the others."
        )
    missing = [one for one in ids if one not in at]
    if missing:
        raise EmbeddingError(
            f"{path}: no embedding for {len(missing)} of the manifest's {len(ids)} images: "
            f"{some_of(missing)}. Embed them, or leave them out of the manifest."
        )
    wanted = set(ids)
    extra = [one for one in found if one not in wanted]
    problems = []
    if extra:
        text = f"{len(extra)} embeddings are of ids that the manifest lacks: {some_of(extra)}."
        if not allow_extra:
            raise EmbeddingError(
                f"{path}: {text} Remove them, or set arrays.allow_extra=true to leave them out."
            )
        problems.append(Problem(str(path), text, "They were left out.", kind="extra", fatal=False))
    order = np.array([at[one] for one in ids], dtype=np.int64)
    if (np.diff(order) < 0).any():
        problems.append(
            Problem(
                str(path),
                "the rows are in another order than the manifest's.",
                "They were matched by id.",
                kind="order",
                fatal=False,
            )
        )
    return order, problems


def _damaged(path: Path, what: str, error: Exception) -> str:
    return (
        f"{path}: not a readable {what} ({type(error).__name__}: {error}). Objects that would "
        "have to be unpickled are refused: save plain numbers and text."
    )
