"""What the last layer of a frozen network sees of images: computed once, kept in a file."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from medglean.classify.settings import ClassifyPreset
from medglean.data.fetch import Fetch, Normalise
from medglean.data.imageset import ImageSet
from medglean.errors import CheckpointError
from medglean.files import sha256_of_json
from medglean.fitting import FitSettings, checkpoint, device_of
from medglean.fitting.devices import wants_channels_last
from medglean.fitting.progress import FitProgress
from medglean.nn.backbones import ARCHITECTURES

log = logging.getLogger("medglean")

NOTE_EVERY_S = 10.0


@torch.no_grad()
def features_of(
    network: nn.Module,
    batches: Iterable[Float[Tensor, "b c h w"]],
    *,
    head: str,
    flip: bool = False,
    done: Callable[[int], None] | None = None,
) -> Float[np.ndarray, "n d"]:
    """Return what the last layer sees of images, with the network in evaluation mode.

    BatchNorm takes its running statistics and leaves them; dropout does nothing.

    Parameters
    ----------
    network
        Maps (b, c, h, w) to logits (b, k). Every part is left in the mode that it was in.
    batches
        Images ready for the network, on any device; they are moved to the network's.
    head
        Name of the last layer, such as `medglean.nn.backbones.Architecture.head`.
    flip
        Average with the mirror image. The last layer is linear, so that the mean of the logits of
        both is what it makes of the mean.
    done
        Called with the number of images that are ready, after each batch.

    Returns
    -------
    ndarray
        float32, the images in their order; shape (0, 0) where there is none.
    """
    seen: list[Tensor] = []
    device = next(network.parameters()).device
    found: list[np.ndarray] = []
    count = 0
    hook = network.get_submodule(head).register_forward_pre_hook(
        lambda _, given: seen.append(given[0])
    )
    try:
        with _evaluating(network):
            for given in batches:
                images = given.to(device)
                for view in (images, images.flip(-1)) if flip else (images,):
                    network(view)
                found.append(torch.stack(seen).float().mean(dim=0).cpu().numpy())
                seen.clear()
                count += len(images)
                if done is not None:
                    done(count)
    finally:
        hook.remove()
    return np.concatenate(found) if found else np.zeros((0, 0), np.float32)


@contextlib.contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    modes = [(part, part.training) for part in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


class FeatureFetch:
    """Batches of features by the row of the manifest; what the loader of the last layer calls.

    Parameters
    ----------
    rows
        Rows of the manifest that have features, shape (n,).
    features
        Of these rows, float32, shape (n, d).
    targets
        Of every row of the manifest.
    """

    def __init__(
        self, rows: Int[np.ndarray, " n"], features: Float[np.ndarray, "n d"], targets: np.ndarray
    ) -> None:
        self.features, self.targets = features, targets
        self._place = np.full(len(targets), -1, dtype=np.int64)
        self._place[rows] = np.arange(len(rows))

    def __call__(self, indices: Int[np.ndarray, " b"], epoch: int) -> dict[str, Tensor]:
        """Return ``image`` (the features, (b, d)), ``target`` and ``index``; alike each epoch."""
        indices = np.asarray(indices, dtype=np.int64)
        places = self._place[indices]
        if (places < 0).any():
            raise IndexError(f"row {indices[places < 0][0]} has no features.")
        return {
            "image": torch.from_numpy(self.features[places]),
            "target": torch.from_numpy(np.ascontiguousarray(self.targets[indices])),
            "index": torch.from_numpy(indices.copy()),
        }


@dataclass(frozen=True)
class KeptFeatures:
    """Features of two parts of an image set.

    Attributes
    ----------
    learn
        Of the training part, float32, shape (n, d).
    judge
        Of the validation part, float32, shape (m, d).
    hash
        SHA-256 of what they are of: weights, images, recipe, normalisation, rows.
    """

    learn: Float[np.ndarray, "n d"]
    judge: Float[np.ndarray, "m d"]
    hash: str


def kept_features(
    file: Path,
    network: nn.Module,
    images: ImageSet,
    preset: ClassifyPreset,
    normalise: Normalise,
    progress: FitProgress,
) -> KeptFeatures:
    """Read the features where the file holds just these, else compute and write them.

    Parameters
    ----------
    file
        Sealed by a hash of every byte. A damaged one, or one of other images, recipe or weights, is
        replaced.
    network
        On the CPU; its weights and statistics are the same bits afterwards.
    images
        The parts ``train`` and ``val`` are used.
    preset
        Names the architecture, the device and the size of batches; with ``predict.flip`` the
        features of the validation part are means over mirror images.
    normalise
        What is done to values in [0, 1] before the network sees them.
    progress
        Told every ten seconds.

    Raises
    ------
    CheckpointError
        If the file cannot be written.
    """
    head = ARCHITECTURES[preset.model.architecture].head
    rows = {part: images.positions(part) for part in ("train", "val")}
    facts = {
        "architecture": preset.model.architecture,
        "weights": _hash_without(network, head),
        "images": images.cached.hash,  # of their content and of the recipe
        "normalise": normalise.model_dump(mode="json"),
        "flip": preset.predict.flip,  # validation averages over mirror images, training does not
        **{part: hashlib.sha256(where.tobytes()).hexdigest() for part, where in rows.items()},
    }
    digest = sha256_of_json(facts)
    found = _read(file, digest)
    if found is None:
        found = _computed(network, images, rows, preset, normalise, progress)
        checkpoint.write(file, found, {"features": digest, **facts})
    learn, judge = found["train"].numpy(), found["val"].numpy()
    log.info("%d features of each of %d images", learn.shape[1], len(learn) + len(judge))
    return KeptFeatures(learn, judge, digest)


def _read(file: Path, digest: str) -> dict[str, Tensor] | None:
    """Return the features in a file; None where it holds others, or is damaged."""
    if not file.exists():
        return None
    try:
        kept = checkpoint.read(file)
    except CheckpointError as error:
        log.warning("%s The features are computed again.", error)
        return None
    if kept.facts.get("features") != digest:
        log.info("%s holds features of other images or weights; they are computed again", file)
        return None
    return kept.tensors


def _hash_without(network: nn.Module, head: str) -> str:
    """Return the SHA-256 of all weights and buffers but those of the last layer."""
    digest = hashlib.sha256()
    for key, value in network.state_dict().items():
        if not key.startswith(f"{head}."):
            digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _computed(
    network: nn.Module,
    images: ImageSet,
    rows: Mapping[str, Int[np.ndarray, " n"]],
    preset: ClassifyPreset,
    normalise: Normalise,
    progress: FitProgress,
) -> dict[str, Tensor]:
    fetch = Fetch(images.stored, images.targets, normalise=normalise)
    size, total = preset.predict.batch_size, sum(len(where) for where in rows.values())
    progress.note(f"computing features of {total} images, once")
    told_at, before = time.monotonic(), 0

    def done(count: int) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= NOTE_EVERY_S:
            told_at = time.monotonic()
            progress.note(f"features of {before + count} of {total} images")

    found = {}
    with _on_device(network, preset.fit):
        for part, where in rows.items():
            values = features_of(
                network,
                (fetch(where[at : at + size], 0)["image"] for at in range(0, len(where), size)),
                head=ARCHITECTURES[preset.model.architecture].head,
                flip=preset.predict.flip and part == "val",
                done=done,
            )
            found[part] = torch.from_numpy(values)
            before += len(where)
    return found


@contextlib.contextmanager
def _on_device(network: nn.Module, settings: FitSettings) -> Iterator[None]:
    """Hold a network where and how it is fastest inside; its weights are the same bits after."""
    settings = settings.model_copy(update={"precision": "32-true"})
    device = device_of(settings, settings.accelerator)
    innermost = wants_channels_last(settings, device)
    try:
        network.to(device)
        if innermost:
            network.to(memory_format=torch.channels_last)
        yield
    finally:
        network.cpu()
        if innermost:
            network.to(memory_format=torch.contiguous_format)
