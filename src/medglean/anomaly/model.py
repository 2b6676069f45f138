"""What makes maps, as a run keeps it: networks, settings, scales, names of the classes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from medglean.anomaly.networks import SECTIONS, build_network, needs_classifier, networks_of
from medglean.anomaly.objectives import CLASSIFIER, UNET, schedule_of
from medglean.anomaly.schedule import Schedule
from medglean.anomaly.settings import AnomalyPreset
from medglean.errors import RunFolderError, UsageError
from medglean.files import sha256_of_json
from medglean.fitting import device_of
from medglean.fitting.devices import wants_channels_last
from medglean.fitting.kept import bytes_of, fill, refuse_edited
from medglean.nn.diffusion_unet import load_release
from medglean.runs.preset import load_preset
from medglean.runs.rundir import RunFolder

FACTS = "model.json"
FORMAT = 1

Table = dict[str, Any]


@dataclass(frozen=True)
class Mapper:
    """Everything that is needed to map anomalies in new images.

    Attributes
    ----------
    preset
        How the networks were trained, and how maps are made with them.
    networks
        By name, in evaluation mode, without gradients for their weights; none for the method
        ``threshold``.
    healthy, diseased
        Names of the classes.
    scales
        What a map is divided by before it is averaged with another, by name; see
        `medglean.anomaly.mapping.measure_scales`.
    thresholds
        Values of the map above which a pixel counts as anomalous, by the name of the rule.
    weights_sha256
        One hash over the weights of all networks.
    """

    preset: AnomalyPreset
    networks: Mapping[str, nn.Module]
    healthy: str
    diseased: tuple[str, ...]
    scales: Mapping[str, float] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)
    weights_sha256: str = ""

    @property
    def method(self) -> str:
        """What gives the map: ``diffusion``, ``vae``, ``fpgan`` or ``threshold``."""
        return self.preset.method

    @cached_property
    def schedule(self) -> Schedule:
        """The noising process of the diffusion."""
        return schedule_of(self.preset.diffusion)

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        for network in self.networks.values():
            return next(network.parameters()).device
        return torch.device("cpu")

    def with_preset(self, preset: AnomalyPreset) -> Mapper:
        """Return a mapper with the same networks that makes its maps in another way.

        Scales and thresholds are kept where maps stay the same, and emptied where they do not.

        Raises
        ------
        UsageError
            If the preset needs a network that there is not, or one of another layout.
        """
        missing = [name for name in networks_of(preset) if name not in self.networks]
        if missing:
            raise UsageError(
                f"the preset needs a network {missing[0]!r}, and there is "
                f"{', '.join(self.networks) or 'none'}. Train it with this preset."
            )
        then, now = (_decided(one, self.networks) for one in (self.preset, preset))
        different = [key for key in now if now[key] != then.get(key)]
        if different:
            raise UsageError(
                f"the networks were trained with another {different[0]}: "
                f"{then.get(different[0])!r} then, {now[different[0]]!r} now. Train again."
            )
        same = _of_maps(self.preset) == _of_maps(preset)
        kept = (self.scales, self.thresholds) if same else ({}, {})
        return replace(self, preset=preset, scales=kept[0], thresholds=kept[1])

    def on_device(self, accelerator: str = "auto") -> Mapper:
        """Return the mapper on a device, its networks compiled there if the preset asks for it.

        The networks themselves are moved.

        Raises
        ------
        UsageError
            If there is no such device.
        """
        device = device_of(self.preset.fit, accelerator)
        settings = self.preset.fit.model_copy(update={"precision": self.preset.predict.precision})
        for network in self.networks.values():
            network.to(device)
            if wants_channels_last(settings, device):
                network.to(memory_format=torch.channels_last)
        if not (self.preset.predict.compile and device.type == "cuda"):
            return self
        compiled: dict[str, Any] = {n: torch.compile(each) for n, each in self.networks.items()}
        return replace(self, networks=compiled)


def _of_maps(preset: AnomalyPreset) -> Table:
    """Return what decides the values of maps, given the networks."""
    tables = {"method", "combine", "combine_weight", "translate", "map", "threshold"}
    return preset.model_dump(mode="json", include=tables)


def _decided(preset: AnomalyPreset, networks: Mapping[str, nn.Module] | Sequence[str]) -> Table:
    """Return the settings that networks were built and trained with, flat."""
    tables = {"images", *(table for name in networks for table in SECTIONS[name])}
    flat: Table = {}
    for table, values in preset.model_dump(mode="json", include=tables).items():
        flat |= {f"{table}.{key}": value for key, value in values.items() if key != "fit"}
    return flat


def make_mapper(
    networks: Mapping[str, nn.Module],
    preset: AnomalyPreset,
    *,
    healthy: str,
    diseased: Sequence[str],
) -> Mapper:
    """Return trained networks as a mapper, without scales and thresholds yet.

    Networks are put in evaluation mode, and their weights keep no gradients from now on.
    """
    for network in networks.values():
        network.eval().requires_grad_(False)
    digests = {name: hashlib.sha256(bytes_of(each)).hexdigest() for name, each in networks.items()}
    return Mapper(
        preset, dict(networks), healthy, tuple(diseased), weights_sha256=sha256_of_json(digests)
    )


def save_mapper(run: RunFolder, mapper: Mapper) -> None:
    """Write the networks' weights and all facts into a run."""
    networks: dict[str, Table] = {}
    for name, network in mapper.networks.items():
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
            "method": mapper.method,
            "healthy": mapper.healthy,
            "diseased": list(mapper.diseased),
            "channels": list(mapper.preset.channel_names),
            "size_px": list(mapper.preset.images.size_px),
            "networks": networks,
            "trained_with": _decided(mapper.preset, mapper.networks),
            "scales": dict(mapper.scales),
            "thresholds": dict(mapper.thresholds),
        },
    )


def load_mapper(path: Path) -> Mapper:
    """Read the mapper of a run.

    Raises
    ------
    RunFolderError
        If the folder is not a run of an anomaly method, or its training did not come to an end.
    CheckpointError
        If weights are missing, damaged or of another architecture (the keys that differ are
        listed), or the preset was edited after training.
    """
    run = RunFolder.open(path)
    if run.record.get("task") != "anomaly":
        raise RunFolderError(
            f"{path}: a run of {run.record.get('task')!r}, expected one of 'anomaly'. Give the "
            "folder of a `medglean train anomaly`."
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
    preset = load_preset(run.preset_path, AnomalyPreset)
    now = {"method": preset.method, **_decided(preset, facts["networks"])}
    refuse_edited(run.preset_path, {"method": facts["method"], **facts["trained_with"]}, now)
    networks = {}
    for name, about in facts["networks"].items():
        networks[name] = build_network(name, preset)
        fill(networks[name], name, path / about["file"], about["sha256"])
    made = make_mapper(networks, preset, healthy=facts["healthy"], diseased=facts["diseased"])
    return replace(made, scales=facts["scales"], thresholds=facts["thresholds"])


def mapper_from_release(
    preset: AnomalyPreset, unet: Path, classifier: Path | None = None
) -> Mapper:
    """Return a mapper with the weights of the authors' checkpoints.

    Parameters
    ----------
    preset
        Laid out as the checkpoints, such as ``wolleb2022-brats``; its labels name the classes.
    unet, classifier
        The ``.pt`` files of the release's training, or ``.safetensors``. Their class 0 is healthy.

    Raises
    ------
    UsageError
        If the preset is of another method, or needs a classifier and none is given.
    CheckpointError
        If a file is damaged, or of another architecture; the keys that differ are listed.
    """
    if preset.method != "diffusion":
        raise UsageError(
            f"the authors' checkpoints are for method 'diffusion', the preset's is "
            f"{preset.method!r}. Choose another preset."
        )
    if classifier is None and needs_classifier(preset):
        raise UsageError(
            "the preset is guided by a classifier, and none is given. Give its checkpoint, too, or "
            "set translate.guidance to another kind."
        )
    files = {UNET: unet} if classifier is None else {UNET: unet, CLASSIFIER: classifier}
    networks = {}
    for name, file in files.items():
        networks[name] = build_network(name, preset)
        load_release(networks[name], file)
    diseased = preset.labels.diseased or ()
    return make_mapper(networks, preset, healthy=preset.labels.healthy, diseased=diseased)
