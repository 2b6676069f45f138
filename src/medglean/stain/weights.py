"""Weights of a run's networks as files, and whether they are still what the preset says."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from medglean.errors import CheckpointError
from medglean.fitting.checkpoint import unpack_networks
from medglean.stain.networks import SECTIONS, networks_of
from medglean.stain.settings import StainPreset

SHOWN = 8

Table = dict[str, Any]


def bytes_of(network: nn.Module) -> bytes:
    """Return a network's weights and buffers as a safetensors file."""
    state = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    data: bytes = save(state)
    return data


def decided(preset: StainPreset, names: list[str]) -> Table:
    """Return the settings that networks were built and trained with, flat."""
    tables = {"images", "white", *(table for name in names for table in SECTIONS[name])}
    flat: Table = {"method": preset.method}
    for table, values in preset.model_dump(mode="json", include=tables).items():
        flat |= {f"{table}.{key}": value for key, value in values.items()}
    flat.pop("white.reapply", None)
    flat.pop("level.fit", None)
    return flat


def check_unedited(file: Path, preset: StainPreset, facts: Table) -> None:
    """Refuse a preset that says something else than what the networks were trained with."""
    now = decided(preset, list(facts["networks"]))
    missing = [name for name in networks_of(preset) if name not in facts["networks"]]
    lines = [
        f"{key}: {value!r} then, {now.get(key)!r} now"
        for key, value in facts["trained_with"].items()
        if now.get(key) != value
    ]
    lines += [f"network {name!r}: not there then, needed now" for name in missing]
    if lines:
        shown = "\n  ".join(lines[:SHOWN])
        more = f"\n  ... and {len(lines) - SHOWN} more." if len(lines) > SHOWN else ""
        raise CheckpointError(
            f"{file}: was changed after training, and the networks are not as it says:\n  {shown}"
            f"{more}\nRestore it, or train with the new settings in a new run."
        )


def fill(network: nn.Module, name: str, file: Path, expected_sha256: str) -> None:
    """Load a file's weights into a network, after a look at every byte and every key."""
    if not file.is_file():
        raise CheckpointError(f"{file}: no such file. Restore it, or train again.")
    data = file.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != expected_sha256:
        raise CheckpointError(
            f"{file}: its SHA-256 is {found[:12]}..., expected {expected_sha256[:12]}...: the file "
            "was changed or damaged. Restore it, or train again."
        )
    try:
        state = load(data)
    except SafetensorError as error:
        raise CheckpointError(
            f"{file}: not a safetensors file. Restore it, or train again."
        ) from error
    unpack_networks(file, {f"{name}.{key}": v for key, v in state.items()}, "", {name: network})
