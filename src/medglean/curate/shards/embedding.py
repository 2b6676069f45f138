"""What a worker does first with a shard: embed its images and write them down."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float

from medglean.curate.shards.parts import Part, matrix, vectors
from medglean.data.manifest import Manifest
from medglean.errors import DataError, EmbeddingError, Problem, ReadError, UsageError
from medglean.files import sha256_of_json

Answer = tuple[Float[np.ndarray, "n d"], Sequence[Problem]]
EMBEDDINGS = "embeddings"
IMAGES = "images"


class Encoder(Protocol):
    """What turns images into embeddings; it is pickled and sent to the workers."""

    @property
    def record(self) -> Mapping[str, Any]:
        """What it is, JSON-able, with its ``sha256``: two of one hash embed alike."""

    def encode(self, manifest: Manifest) -> Answer:
        """Return one float32 vector per row, shape (n, d), and what is to be told about the images.

        All calls give the same d. An image that cannot be read is told by a `DataError`; the
        worker then asks for the images of the same batch one by one and sets aside those that fail.
        """


def images_path(folder: Path, shard: int) -> Path:
    """Return where the manifest of one shard lies."""
    return folder / IMAGES / f"part-{shard:05d}.parquet"


def check_encoder(encoder: Encoder) -> str:
    """Return the encoder's hash.

    Raises
    ------
    UsageError
        If its record has no ``sha256``: parts of two encoders could not be told apart.
    """
    sha256 = encoder.record.get("sha256")
    if not isinstance(sha256, str) or not sha256:
        raise UsageError(
            f"the encoder's record has the keys {sorted(encoder.record)} and no 'sha256'. Give it "
            "the hash of its weights and preprocessing, so that resuming can tell encoders apart."
        )
    return sha256


def embed_shard(
    encoder: Encoder, folder: Path, shard: int, *, batch: int
) -> tuple[dict[str, Any], list[Problem]]:
    """Embed one shard, unless that is done already, and return its mark.

    Parameters
    ----------
    encoder
        See `Encoder`.
    folder
        Where the parts lie; it holds the manifest of the shard.
    shard
        Its number.
    batch
        How many images are given to the encoder at once. Part of the key: sums in float32 may
        depend on it in their last bits.

    Returns
    -------
    tuple
        The mark, whose ``problems`` are the images that were set aside and what was told of the
        others, and whose ``width`` is the
        length of a vector; and what was found damaged and made again. Where no image at all could
        be embedded nothing is written (a whole shard seldom fails because of its images), so that
        the next run tries again; ``usable`` is 0.
    """
    manifest = Manifest.read(images_path(folder, shard))
    key = sha256_of_json([manifest.hash, check_encoder(encoder), batch])
    part = Part(folder, EMBEDDINGS, shard)
    mark, told = part.find(key)
    if mark is not None:
        return mark, told
    found, problems = _encode(encoder, manifest, batch)
    rows = [problem.to_row() for problem in problems]
    if not found:
        return {"shard": shard, "width": 0, "usable": 0, "problems": rows}, told
    values = _table(found, len(manifest))
    ok = np.isfinite(values).all(axis=1)
    columns = {
        "id": pa.array(manifest.ids, pa.string()),
        "ok": pa.array(ok),
        "values": vectors(np.where(ok[:, None], values, np.float32(0))),
    }
    mark = part.write(
        columns,
        key=key,
        encoder=check_encoder(encoder),
        width=values.shape[1],
        usable=int(ok.sum()),
        problems=rows,
    )
    return mark, told


def read_embeddings(
    folder: Path, shard: int
) -> tuple[Float[np.ndarray, "n d"], Bool[np.ndarray, " n"]]:
    """Return a shard's vectors, and which of them may be compared; the others are zeros."""
    table = Part(folder, EMBEDDINGS, shard).read("ok", "values")
    usable = table.column("ok").to_numpy()
    return matrix(table.column("values")), usable


def _encode(
    encoder: Encoder, manifest: Manifest, batch: int
) -> tuple[dict[int, Float[np.ndarray, " d"]], list[Problem]]:
    """Return the vector of each row that has a usable one, and what is told of all of them."""
    found: dict[int, Float[np.ndarray, " d"]] = {}
    problems: list[Problem] = []
    for rows, answer in _batches(encoder, manifest, batch):
        if isinstance(answer, Exception):
            problems.append(_set_aside(manifest, rows[0], answer))
            continue
        values, told = answer
        problems += told
        for row, vector in zip(rows, values, strict=True):
            reason = _unusable(vector)
            if reason:
                problems.append(_set_aside(manifest, row, EmbeddingError(reason)))
            else:
                found[row] = vector
    return found, problems


def _table(found: Mapping[int, Float[np.ndarray, " d"]], rows: int) -> Float[np.ndarray, "n d"]:
    """Return one row per image, NaN where there is no vector."""
    widths = sorted({len(vector) for vector in found.values()})
    if len(widths) > 1:
        raise EmbeddingError(
            f"the encoder gave vectors of different lengths, {widths}; expected one length. "
            "Embeddings of different lengths cannot be compared: check the encoder."
        )
    values = np.full((rows, widths[0]), np.nan, dtype=np.float32)
    for row, vector in found.items():
        values[row] = vector
    return values


def _batches(
    encoder: Encoder, manifest: Manifest, batch: int
) -> Iterator[tuple[list[int], Answer | Exception]]:
    """Encode batch by batch; one that fails, image by image."""
    for first in range(0, len(manifest), batch):
        rows = list(range(first, min(first + batch, len(manifest))))
        try:
            yield rows, _rows_of(encoder, manifest, rows)
        except (DataError, OSError):
            for row in rows:
                try:
                    alone = _rows_of(encoder, manifest, [row])
                except (DataError, OSError) as error:
                    yield [row], error
                else:
                    yield [row], alone


def _rows_of(encoder: Encoder, manifest: Manifest, rows: list[int]) -> Answer:
    given, told = encoder.encode(manifest.select(rows))
    values = np.asarray(given, dtype=np.float32)
    if values.ndim != 2 or len(values) != len(rows):
        raise UsageError(
            f"the encoder returned an array of shape {values.shape} for {len(rows)} images; "
            f"expected ({len(rows)}, d)."
        )
    return values, told


def _unusable(vector: Float[np.ndarray, " d"]) -> str:
    if not np.isfinite(vector).all():
        return "its embedding has NaN or infinite values."
    if not vector.any():
        return "its embedding is all zeros, which has no direction and so no cosine similarity."
    return ""


def _set_aside(manifest: Manifest, row: int, error: Exception) -> Problem:
    remedy = "It is set aside and cannot be selected."
    name = manifest.ids[row]
    if isinstance(error, ReadError):
        return Problem(error.file, error.found, f"{error.remedy} {remedy}".strip(),
                       kind=type(error).__name__, fatal=False)  # fmt: skip
    return Problem(f"image {name!r}", str(error), remedy, kind=type(error).__name__, fatal=False)
