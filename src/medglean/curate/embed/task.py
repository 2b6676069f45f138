"""Embed a manifest: prepare images, get an encoder, apply it, and keep what came out."""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from medglean.curate.embed.arrays import read_arrays
from medglean.curate.embed.encoder import Encoder, Progress, draw_training_rows, encode
from medglean.curate.embed.pictures import Pictures, prepare_pictures
from medglean.curate.embed.result import (
    Embedded,
    Embedding,
    check_finite,
    load_embedding,
    save_embedding,
)
from medglean.curate.embed.settings import EmbeddingSettings
from medglean.data.manifest import Manifest
from medglean.errors import EmbeddingError, Problem
from medglean.files import sha256_of_file, sha256_of_json, write_bytes
from medglean.fitting.progress import FitProgress
from medglean.fitting.settings import CHANGEABLE

EMBED_VERSION = 1
"""Raised when the same settings would give other values, so that old caches are not read."""

WEIGHTS = "encoder.safetensors"
"""What was learnt from the images, in the work folder."""

_NO_MATTER = CHANGEABLE - {"epochs", "max_steps"}
"""Settings of the fit that do not change its weights."""


def embed(
    manifest: Manifest,
    settings: EmbeddingSettings,
    *,
    folder: Path,
    cache: Path | None = None,
    seed: int = 0,
    workers: int = 2,
    progress: Progress | None = None,
    fit_progress: FitProgress | None = None,
) -> Embedded:
    """Give each image of a manifest a row of numbers.

    An image that cannot be read is told in ``problems`` and set aside. An encoder that learns
    from the images sees those of the training part only, where the manifest has a split.

    Parameters
    ----------
    manifest
        At least one row.
    settings
        Which encoder, and how images are prepared for it.
    folder
        Gets the encoder's log and checkpoints, and ``encoder.safetensors``; a training that was
        stopped goes on from there.
    cache
        Where decoded images and finished embeddings are kept for the next call; None: nowhere.
    seed
        Of the images drawn for training, the weights, and sampled embeddings.
    workers
        Images decoded at the same time; 0: in this process.
    progress
        Called as ``progress(done, total)`` while images are decoded, and then while they are
        embedded.
    fit_progress
        Who tells how far the training is; by default a bar or lines on standard error.

    Returns
    -------
    Embedded
        ``manifest.select(found.ok)`` goes row by row with ``found.embedding``.

    Raises
    ------
    EmbeddingError
        If no image can be read, a file of embeddings or a network does not fit, or values are not
        finite.
    DataError
        If the training part has too few images.
    UsageError, CheckpointError, NonFiniteLossError, Interrupted
        As :func:`medglean.fitting.fit`.
    """
    if len(manifest) == 0:
        raise EmbeddingError(
            "the manifest has no image to embed. Index a folder that holds images."
        )
    if settings.encoder == "arrays":
        return _from_arrays(manifest, settings)
    given = _given_file(settings)  # first: a wrong path is told before an hour of decoding
    pictures = prepare_pictures(manifest, settings, cache=cache, workers=workers, progress=progress)
    rows = np.flatnonzero(pictures.ok)
    if len(rows) == 0:
        raise EmbeddingError(
            f"none of the manifest's {len(manifest)} images could be read. The first problem: "
            f"{pictures.problems[0]}"
        )
    learn = _training_rows(manifest, rows)
    every_id = manifest.ids
    ids = tuple(every_id[row] for row in rows)
    key = _key(settings, pictures, ids, learn, seed, given)
    place = None if cache is None else cache / "embeddings" / key[:32]
    found = None if place is None else _kept(place, folder, learns=given is None)
    if found is not None:
        return Embedded(found, (*pictures.problems, *_told(found)), pictures.ok, True)
    encoder = _encoder(settings, pictures, learn, folder, seed, given, key, fit_progress)
    values = encode(
        encoder, pictures.stored, rows, batch_size=settings.batch_size, progress=progress
    )
    check_finite(values, ids, source=f"encoder {settings.encoder}")
    if settings.centre:
        values = centred(values)
    embedding = Embedding(values, ids, _record(settings, encoder, values))
    _keep(place, folder, embedding, encoder.weights)
    return Embedded(embedding, (*pictures.problems, *encoder.problems), pictures.ok)


def centred(values: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Subtract the mean row.

    Examples
    --------
    >>> import numpy as np
    >>> centred(np.array([[5.0, 1.0], [7.0, 1.0]])).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    """
    shifted = values - values.mean(axis=0, dtype=np.float64)
    same_type: np.ndarray = shifted.astype(values.dtype)
    return same_type


def _from_arrays(manifest: Manifest, settings: EmbeddingSettings) -> Embedded:
    """Take embeddings that were made elsewhere; no image is read."""
    path = Path(settings.arrays.path)
    matched = read_arrays(
        path,
        manifest.ids,
        in_manifest_order=settings.arrays.in_manifest_order,
        allow_extra=settings.arrays.allow_extra,
    )
    values = centred(matched.values) if settings.centre else matched.values
    record = {
        "name": "arrays",
        "file": path.name,
        "sha256": sha256_of_file(path),
        "preprocessing": None,  # unknown: they were made elsewhere
        "dimension": values.shape[1],
        "centred": settings.centre,
        "problems": [],
        "versions": _versions(),
    }
    embedding = Embedding(values, tuple(manifest.ids), record)
    return Embedded(embedding, matched.problems, np.ones(len(manifest), dtype=bool))


def _given_file(settings: EmbeddingSettings) -> Path | None:
    if settings.encoder not in ("backbone", "file"):
        return None
    from medglean.curate.embed.given import weights_file

    return weights_file(settings)


def _training_rows(manifest: Manifest, rows: Int[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
    """Return the rows that an encoder may learn from: of part train, where there is a split."""
    if "split" not in manifest.frame:
        return rows
    train = (manifest.frame["split"] == "train").to_numpy(dtype=bool, na_value=False)
    learn: np.ndarray = rows[train[rows]]
    return learn


def _encoder(
    settings: EmbeddingSettings,
    pictures: Pictures,
    learn: Int[np.ndarray, " m"],
    folder: Path,
    seed: int,
    given: Path | None,
    key: str,
    fit_progress: FitProgress | None,
) -> Encoder:
    """Train or load the encoder that the settings name."""
    if given is not None:
        from medglean.curate.embed.given import given_encoder

        return given_encoder(settings, given)
    if settings.encoder == "pca":
        from medglean.curate.embed.components import fit_pca

        chosen = draw_training_rows(learn, count=settings.pca.train_images, seed=seed)
        return fit_pca(pictures.stored, chosen, settings=settings.pca, seed=seed)
    from medglean.curate.embed.training import train_dvae

    chosen = draw_training_rows(learn, count=settings.dvae.train_images, seed=seed)
    return train_dvae(
        pictures.stored,
        chosen,
        settings=settings.dvae,
        seed=seed,
        folder=folder,
        identity={"embedded": key},
        progress=fit_progress,
    )


def _key(
    settings: EmbeddingSettings,
    pictures: Pictures,
    ids: tuple[str, ...],
    learn: Int[np.ndarray, " m"],
    seed: int,
    given: Path | None,
) -> str:
    """Return a hash of everything that decides the values."""
    chosen = settings.model_dump(mode="json", include={settings.encoder, "inputs", "centre"})
    if settings.encoder == "dvae":
        fit = chosen["dvae"]["fit"]
        # how long it lasts is part of the key here: another length gives other values
        chosen["dvae"]["fit"] = {name: fit[name] for name in fit if name not in _NO_MATTER}
    return sha256_of_json(
        {
            "version": EMBED_VERSION,
            "encoder": settings.encoder,
            "settings": chosen,
            "file": None if given is None else sha256_of_file(given),
            "images": pictures.hash,
            "ids": hashlib.sha256("\x1f".join(ids).encode()).hexdigest(),
            "ok": hashlib.sha256(pictures.ok.tobytes()).hexdigest(),
            "learn": hashlib.sha256(learn.astype("<i8").tobytes()).hexdigest(),
            "seed": seed,
        }
    )


def _record(
    settings: EmbeddingSettings, encoder: Encoder, values: Float[np.ndarray, "n d"]
) -> dict[str, Any]:
    """Return what the embeddings are, for a run's record."""
    weights = encoder.weights
    digest = {} if weights is None else {"sha256": hashlib.sha256(weights).hexdigest()}
    return {
        **encoder.record,
        **digest,
        "dimension": values.shape[1],
        "centred": settings.centre,
        "preprocessing": settings.images.model_dump(mode="json"),
        "mask": settings.mask.model_dump(mode="json") if settings.mask.any else None,
        "problems": [problem.to_row() for problem in encoder.problems],
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("medglean", "numpy", "torch")}


def _told(found: Embedding) -> tuple[Problem, ...]:
    """Return what was to be known of the encoder when it was made."""
    return tuple(Problem(**row) for row in found.encoder["problems"])


def _kept(place: Path, folder: Path, *, learns: bool) -> Embedding | None:
    """Return what an earlier call kept, with its weights put into ``folder``; None if not whole."""
    embedding = load_embedding(place.with_suffix(".npz"))
    if embedding is None or not learns:
        return embedding
    try:
        weights = place.with_suffix(".safetensors").read_bytes()
    except OSError:
        return None
    if hashlib.sha256(weights).hexdigest() != embedding.encoder.get("sha256"):
        return None
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / WEIGHTS, weights)
    return embedding


def _keep(place: Path | None, folder: Path, embedding: Embedding, weights: bytes | None) -> None:
    if weights is not None:
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / WEIGHTS, weights)
    if place is None:
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    if weights is not None:
        write_bytes(place.with_suffix(".safetensors"), weights)
    save_embedding(place.with_suffix(".npz"), embedding)  # last: it says that all is there
