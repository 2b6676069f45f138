"""What stains, as a run keeps it: networks, settings, the white and the colour of its targets."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import nn

from medglean.arrays import UnitBatch
from medglean.errors import RunFolderError, UsageError
from medglean.files import sha256_of_json
from medglean.fitting import device_of
from medglean.fitting.kept import bytes_of, fill
from medglean.nn.stain_gan import StainUNet, for_inference
from medglean.runs.preset import load_preset
from medglean.runs.rundir import RunFolder
from medglean.stain.levels import JUDGE, LEVEL, LevelClassifier, level_features, predict_levels
from medglean.stain.networks import GENERATOR, build_network
from medglean.stain.optics import apply_white
from medglean.stain.padding import padded
from medglean.stain.pairs import Pairs, target_of
from medglean.stain.settings import StainPreset
from medglean.stain.weights import Table, check_unedited, decided

FACTS = "model.json"
FORMAT = 1
PIXELS_AT_ONCE = 1 << 20
"""Pixels that are generated together, if an image has not more by itself."""


@dataclass(frozen=True)
class Stainer:
    """Everything that is needed to stain new images.

    Attributes
    ----------
    preset
        How the networks were trained, and how they are used.
    networks
        By name, in evaluation mode, without gradients for their weights; none for the method
        ``mean-colour``.
    white
        Mean white point of the training targets, as share of full scale, shape (3,).
    colour
        Mean colour of the training targets as the networks saw them, in [0, 1], shape (3,).
    weights_sha256
        One hash over the weights of all networks, and over ``white`` and ``colour``.
    """

    preset: StainPreset
    networks: Mapping[str, nn.Module]
    white: Float[np.ndarray, " 3"]
    colour: Float[np.ndarray, " 3"]
    weights_sha256: str = ""

    @property
    def method(self) -> str:
        """What gives the image: ``gan`` or ``mean-colour``."""
        return self.preset.method

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        for network in self.networks.values():
            return next(network.parameters()).device
        return torch.device("cpu")

    @cached_property
    def generator(self) -> nn.Module:
        """The generator as it is fastest on its device; called like `StainUNet`.

        Raises
        ------
        UsageError
            If the method has none.
        """
        network = self.networks.get(GENERATOR)
        if not isinstance(network, StainUNet):
            raise UsageError(f"method {self.method!r} has no generator.")
        return for_inference(network, precision=self.preset.predict.precision)

    def on_device(self, accelerator: str = "auto") -> Stainer:
        """Return the stainer on a device. The networks themselves are moved.

        Raises
        ------
        UsageError
            If there is no such device.
        """
        device = device_of(self.preset.fit, accelerator)
        for network in self.networks.values():
            network.to(device)
        return replace(self)  # what was made for the device before is not kept

    def with_preset(self, preset: StainPreset) -> Stainer:
        """Return a stainer with the same networks that uses them in another way.

        Raises
        ------
        UsageError
            If the networks were trained with other settings.
        """
        names = list(self.networks)
        then, now = decided(self.preset, names), decided(preset, names)
        different = [key for key in now if now[key] != then.get(key)]
        if different:
            key = different[0]
            raise UsageError(
                f"the networks were trained with another {key}: {then.get(key)!r} then, "
                f"{now[key]!r} now. Train again."
            )
        return replace(self, preset=preset)

    def stain(
        self,
        images: UnitBatch,
        *,
        white: Float[np.ndarray, "*n 3"] | None = None,
        white_image: Float[np.ndarray, "*n 3"] | None = None,
    ) -> UnitBatch:
        """Turn H&E images into IHC images.

        Parameters
        ----------
        images
            float32 in [0, 1], of any size, normalised as the preset says (see
            `medglean.stain.pairs.image_of`), shape (n, 3, h, w).
        white
            White point of each image's own target slide, where it is known, or one for all; looked
            at only if ``white.reapply`` is ``own``.
        white_image
            The same of the H&E slide, for ``input``.

        Returns
        -------
        ndarray
            float32 in [0, 1], of the same shape, with the white point that the settings say.
        """
        if self.method == "mean-colour":
            made = np.empty(images.shape, np.float32)
            made[:] = self.colour[:, None, None]
        else:
            made = self._generated(images)
        point = self.reapplied(white, image=white_image)
        if point is None:
            return made
        lit = apply_white(made, np.broadcast_to(point, (len(made), 3)))
        return np.asarray(np.clip(lit, 0.0, 1.0), dtype=np.float32)

    def reapplied(
        self,
        own: Float[np.ndarray, "*n 3"] | None = None,
        *,
        image: Float[np.ndarray, "*n 3"] | None = None,
    ) -> Float[np.ndarray, "*n 3"] | None:
        """Return the white point that generated images are multiplied by; None: by none.

        Parameters
        ----------
        own
            That of the image's own target slide, where it is known.
        image
            That of the H&E slide.
        """
        kind = self.preset.white.reapply
        if kind == "none":
            return None
        known = {"own": own, "input": image}.get(kind)
        return self.white if known is None else known

    @torch.no_grad()
    def _generated(self, images: UnitBatch) -> UnitBatch:
        stride, device = self.preset.stride_px, self.device
        made = np.empty(images.shape, np.float32)
        for part in _parts(images):
            given = images[part]
            features = None
            if self.preset.generator.level_features:
                features = torch.from_numpy(self.level_features(given)).to(device)
            whole, inside = padded(torch.from_numpy(given).to(device), stride)
            fake = self.generator(2.0 * whole - 1.0, features)[(..., *inside)]
            made[part] = (0.5 * (fake.float() + 1.0)).clamp(0.0, 1.0).cpu().numpy()
        return made

    def level_features(self, images: UnitBatch) -> Float[np.ndarray, "n f"]:
        """Return what the generator is told of whole H&E images, normalised as for `stain`."""
        return level_features(self._classifier(LEVEL), images, self.preset)

    def level_of(self, images: UnitBatch) -> Float[np.ndarray, "n k"]:
        """Return the probability of each level, as told from H&E images normalised as for `stain`.

        Raises
        ------
        UsageError
            If the run has no such classifier (``generator.level_features``).
        """
        return predict_levels(self._classifier(LEVEL), images, self.preset)

    def judged(self, images: UnitBatch) -> Float[np.ndarray, "n k"]:
        """Return the probability of each level, as told from IHC images, real or generated.

        Parameters
        ----------
        images
            float32 in [0, 1], with the white point of the training targets: divided by it where
            ``white.normalise`` is set.

        Raises
        ------
        UsageError
            If the run has no judge (``measure.judge``).
        """
        return predict_levels(self._classifier(JUDGE), images, self.preset)

    def _classifier(self, name: str) -> LevelClassifier:
        network = self.networks.get(name)
        if not isinstance(network, LevelClassifier):
            setting = "generator.level_features" if name == LEVEL else "measure.judge"
            raise UsageError(
                f"the run has no network {name!r}: {setting} was off, or its method is "
                f"{self.method!r}. Train with {setting}=true."
            )
        return network


def _parts(images: UnitBatch) -> Iterator[slice]:
    """Share images out, so many together that the pixels are about as many as in one large one."""
    together = max(1, PIXELS_AT_ONCE // (images.shape[2] * images.shape[3]))
    for start in range(0, len(images), together):
        yield slice(start, start + together)


def make_stainer(
    networks: Mapping[str, nn.Module],
    preset: StainPreset,
    pairs: Pairs,
    *,
    rows: Int[np.ndarray, " m"] | None = None,
) -> Stainer:
    """Return trained networks as a stainer, with the mean white and colour of their targets.

    Networks are put in evaluation mode, and their weights keep no gradients from now on.

    Parameters
    ----------
    networks
        Of `medglean.stain.training.fit_networks`.
    preset
        As they were trained.
    pairs
        What they were trained on.
    rows
        Those that were learnt from; by default the training part.
    """
    learnt = pairs.positions("train") if rows is None else np.asarray(rows, dtype=np.int64)
    white = pairs.white_targets[learnt].mean(axis=0, dtype=np.float64)
    means = [target_of(pairs, [row]).mean(axis=(0, 2, 3), dtype=np.float64) for row in learnt]
    return _made(networks, preset, white=white, colour=np.mean(means, axis=0))


def _made(
    networks: Mapping[str, nn.Module],
    preset: StainPreset,
    *,
    white: np.ndarray,
    colour: np.ndarray,
) -> Stainer:
    for network in networks.values():
        network.eval().requires_grad_(False)
    digests: Table = {
        name: hashlib.sha256(bytes_of(each)).hexdigest() for name, each in networks.items()
    }
    digests |= {".white": white.tolist(), ".colour": colour.tolist()}
    return Stainer(preset, dict(networks), white, colour, weights_sha256=sha256_of_json(digests))


def save_stainer(run: RunFolder, stainer: Stainer) -> None:
    """Write the networks' weights and all facts into a run."""
    networks: dict[str, Table] = {}
    for name, network in stainer.networks.items():
        data, file = bytes_of(network), f"{name}.safetensors"
        run.write(file, data)
        networks[name] = {
            "file": file,
            "sha256": hashlib.sha256(data).hexdigest(),
            "parameters": sum(weight.numel() for weight in network.parameters()),
        }
    run.write_json(
        FACTS,
        {
            "format": FORMAT,
            "method": stainer.method,
            "levels": list(stainer.preset.level.names),
            "size_px": list(stainer.preset.images.size_px),
            "networks": networks,
            "trained_with": decided(stainer.preset, list(stainer.networks)),
            "white": stainer.white.tolist(),
            "colour": stainer.colour.tolist(),
        },
    )


def load_stainer(path: Path) -> Stainer:
    """Read the stainer of a run.

    Raises
    ------
    RunFolderError
        If the folder is not a run of a stain, or its training did not come to an end.
    CheckpointError
        If weights are missing, damaged or of another architecture (the keys that differ are
        listed), or the preset was edited after training.
    """
    run = RunFolder.open(path)
    if run.record.get("task") != "stain":
        raise RunFolderError(
            f"{path}: a run of {run.record.get('task')!r}, expected one of 'stain'. Give the "
            "folder of a `medglean train stain`."
        )
    if not (path / FACTS).is_file():
        raise RunFolderError(
            f"{path}: holds no trained networks yet (no {FACTS}). Finish its training: run the "
            "same `medglean train` command with --resume."
        )
    facts: Table = run.read_json(FACTS)
    if facts.get("format") != FORMAT:
        raise RunFolderError(
            f"{path / FACTS}: has format {facts.get('format')}, this medglean reads {FORMAT}. Use "
            f"the version that wrote it: {run.record.get('medglean', 'unknown')}."
        )
    preset = load_preset(run.preset_path, StainPreset)
    check_unedited(run.preset_path, preset, facts)
    networks = {}
    for name, about in facts["networks"].items():
        networks[name] = build_network(name, preset)
        fill(networks[name], name, path / about["file"], about["sha256"])
    white, colour = (np.array(facts[name], dtype=np.float64) for name in ("white", "colour"))
    return _made(networks, preset, white=white, colour=colour)
