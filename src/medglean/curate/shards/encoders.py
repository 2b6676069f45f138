"""The encoders of `medglean.curate.embed` in the form that workers over shards need."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medglean.curate.embed.encoder import Encoder, draw_training_rows, encode
from medglean.curate.embed.pictures import prepare_pictures
from medglean.curate.embed.settings import EmbeddingSettings
from medglean.curate.shards.embedding import Answer
from medglean.data.manifest import Manifest
from medglean.errors import EmbeddingError, Problem, ReadError, UsageError
from medglean.files import sha256_of_file, sha256_of_json, write_bytes, write_json
from medglean.fitting.progress import FitProgress

WEIGHTS, LEARNT = "encoder.safetensors", "encoder.json"


@dataclass
class ImageEncoder:
    """Reads images and encodes them; what `run_sharded` takes.

    Attributes
    ----------
    settings
        How images are prepared, and which encoder it is.
    record
        See `medglean.curate.shards.embedding.Encoder`; its hash covers weights and preparation.
    learnt
        The encoder that was learnt from the images; None where ``file`` holds one.
    file
        Weights or network to read; all workers see it under this path. It is read by each worker,
        because sessions of ONNX Runtime cannot be sent.
    """

    settings: EmbeddingSettings
    record: Mapping[str, Any]
    learnt: Encoder | None = None
    file: Path | None = None
    _ready: Encoder | None = field(default=None, repr=False)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What to know about what was learnt."""
        return () if self.learnt is None else self.learnt.problems

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_ready": None}

    def encode(self, manifest: Manifest) -> Answer:
        """Return one float32 vector per row, and what is to be told about the images.

        Raises
        ------
        ReadError
            If one of the images cannot be read.
        EmbeddingError
            If the network does not fit the images.
        """
        if self._ready is None:
            self._ready = self.learnt or self._load()
        pictures = prepare_pictures(manifest, self.settings, cache=None, workers=0)
        if not pictures.ok.all():
            first = pictures.problems[0]  # those that failed come first
            raise ReadError(first.file, first.found, first.remedy)
        rows = np.arange(len(manifest))
        values = encode(self._ready, pictures.stored, rows, batch_size=self.settings.batch_size)
        return values, pictures.problems

    def _load(self) -> Encoder:
        from medglean.curate.embed.given import given_encoder

        if self.file is None:
            raise EmbeddingError("the encoder has neither learnt weights nor a file of them.")
        return given_encoder(self.settings, self.file)


def make_encoder(
    manifest: Manifest,
    settings: EmbeddingSettings,
    *,
    folder: Path,
    seed: int = 0,
    workers: int = 2,
    fit_progress: FitProgress | None = None,
) -> ImageEncoder:
    """Load the encoder that the settings name, or learn it from a draw of the images.

    What is learnt here from is drawn before any image is read, so only the drawn images are read;
    one of them that cannot be read is left out. Where all can be read, the draw is that of
    `medglean.curate.embed.embed`.

    Parameters
    ----------
    manifest
        All images. Those of the training part are learnt from, where there is a split.
    settings
        Which encoder.
    folder
        Gets the encoder's log and checkpoints, ``encoder.safetensors`` and ``encoder.json``; what
        an earlier call learnt there from the same images is used again.
    seed, workers, fit_progress
        As for `medglean.curate.embed.embed`.

    Raises
    ------
    UsageError
        If the settings need all images at once: arrays made elsewhere, ``centre``, a sampled
        embedding, marks that never move within a clip.
    """
    refuse_settings(settings)
    if settings.encoder in ("backbone", "file"):
        return _given(settings)
    drawn = _drawn(manifest, settings, seed)
    prepared = settings.model_dump(mode="json", include={"images", "mask", "inputs"})
    key = sha256_of_json([settings.pca.model_dump(mode="json"), prepared, drawn.hash, seed])
    learnt = _kept(folder, key) if settings.encoder == "pca" else None
    if learnt is None:
        learnt = _learn(drawn, settings, folder, seed, workers, fit_progress)
    if learnt.weights is None:
        raise EmbeddingError(f"encoder {settings.encoder!r} gave no weights to know it by.")
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / WEIGHTS, learnt.weights)
    sha256 = sha256_of_file(folder / WEIGHTS)
    write_json(folder / LEARNT, {"key": key, "sha256": sha256, "record": learnt.record})
    digest = sha256_of_json([sha256, prepared])
    return ImageEncoder(settings, {**learnt.record, **prepared, "sha256": digest}, learnt=learnt)


def _given(settings: EmbeddingSettings) -> ImageEncoder:
    """Return the encoder of a file of weights or of a network."""
    from medglean.curate.embed.given import weights_file

    path = weights_file(settings)
    if path is None:
        raise EmbeddingError(f"encoder {settings.encoder!r} names no file.")
    prepared = settings.model_dump(mode="json", include={"images", "mask", "inputs"})
    chosen = settings.model_dump(mode="json")[settings.encoder]
    digest = sha256_of_json([sha256_of_file(path), chosen, prepared])
    record = {"name": settings.encoder, "file": path.name, **prepared, "sha256": digest}
    return ImageEncoder(settings, record, file=path)


def refuse_settings(settings: EmbeddingSettings) -> None:
    """Refuse what cannot be embedded batch by batch.

    Raises
    ------
    UsageError
        If a setting needs all images, or all of a clip, at once.
    """
    needs = {
        "encoder = 'arrays'": settings.encoder == "arrays",
        "centre": settings.centre,
        "dvae.sampled": settings.encoder == "dvae" and settings.dvae.sampled,
        "mask.static": settings.mask.any and settings.mask.static,
    }
    for name, wanted in needs.items():
        if wanted:
            raise UsageError(
                f"embedding.{name} needs all images, or all of a clip, at once; over shards images "
                "are embedded in batches. Change it, or embed on one machine."
            )


def _drawn(manifest: Manifest, settings: EmbeddingSettings, seed: int) -> Manifest:
    """Return the images that the encoder learns from."""
    rows = np.arange(len(manifest))
    if "split" in manifest.frame:
        rows = rows[(manifest.frame["split"] == "train").to_numpy(dtype=bool, na_value=False)]
    count = settings.pca.train_images if settings.encoder == "pca" else settings.dvae.train_images
    drawn = manifest.select(draw_training_rows(rows, count=count, seed=seed))
    if not len(drawn):
        raise EmbeddingError("no image is in the part 'train', so nothing can be learnt from.")
    return drawn


def _kept(folder: Path, key: str) -> Encoder | None:
    """Return the components that an earlier run found; None where there are none, or of others.

    Found anew with another number of threads they would differ in their last bits, and finished
    shards would be of another encoder. The d-VAE has its checkpoints for this.
    """
    from medglean.curate.embed.components import stored_pca

    try:
        found = json.loads((folder / LEARNT).read_text(encoding="utf-8"))
        weights = (folder / WEIGHTS).read_bytes()
        if found["key"] != key or hashlib.sha256(weights).hexdigest() != found["sha256"]:
            return None
        return stored_pca(weights, found["record"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # never finished, or damaged: learnt anew


def _learn(
    drawn: Manifest,
    settings: EmbeddingSettings,
    folder: Path,
    seed: int,
    workers: int,
    fit_progress: FitProgress | None,
) -> Encoder:
    pictures = prepare_pictures(drawn, settings, cache=None, workers=workers)
    readable = np.flatnonzero(pictures.ok)
    if settings.encoder == "pca":
        from medglean.curate.embed.components import fit_pca

        return fit_pca(pictures.stored, readable, settings=settings.pca, seed=seed)
    from medglean.curate.embed.training import train_dvae

    return train_dvae(
        pictures.stored,
        readable,
        settings=settings.dvae,
        seed=seed,
        folder=folder,
        identity={"images": pictures.hash},
        progress=fit_progress,
    )
