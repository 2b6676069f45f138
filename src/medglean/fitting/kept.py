"""Networks that a run keeps for good: weights as files, and whether they are what was trained."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from medglean.errors import CheckpointError
from medglean.fitting.checkpoint import unpack_networks

SHOWN = 8
"""Settings that differ, of which a message shows so many."""


def bytes_of(network: nn.Module) -> bytes:
    """Return a network's weights and buffers as a safetensors file."""
    network = getattr(network, "_orig_mod", network)  # what torch.compile wraps
    state = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    data: bytes = save(state)
    return data


def weights_of(file: Path, expected_sha256: str) -> dict[str, Tensor]:
    """Read a weights file of a run, after a look at every byte.

    Raises
    ------
    CheckpointError
        If it is missing, was changed, or is no safetensors file.
    """
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
        state: dict[str, Tensor] = load(data)
    except SafetensorError as error:
        raise CheckpointError(
            f"{file}: not a safetensors file. Restore it, or train again."
        ) from error
    return state


def fill(network: nn.Module, name: str, file: Path, expected_sha256: str) -> None:
    """Load a file's weights into a network, after a look at every byte and every key.

    Raises
    ------
    CheckpointError
        As `weights_of`, or if they are of another architecture; the keys that differ are listed.
    """
    state = weights_of(file, expected_sha256)
    unpack_networks(file, {f"{name}.{key}": v for key, v in state.items()}, "", {name: network})


def refuse_edited(
    file: Path, then: Mapping[str, Any], now: Mapping[str, Any], *, more: Sequence[str] = ()
) -> None:
    """Refuse a preset that says something else than what networks were trained with.

    Parameters
    ----------
    file
        The preset's.
    then, now
        Settings that decide the networks, flat.
    more
        What else differs, in words.

    Raises
    ------
    CheckpointError
        If anything differs.
    """
    lines = [
        f"{key}: {value!r} then, {now.get(key)!r} now"
        for key, value in then.items()
        if now.get(key) != value
    ]
    lines += more
    if lines:
        shown = "\n  ".join(lines[:SHOWN])
        rest = f"\n  ... and {len(lines) - SHOWN} more." if len(lines) > SHOWN else ""
        raise CheckpointError(
            f"{file}: was changed after training, and the networks are not as it says:\n  {shown}"
            f"{rest}\nRestore it, or train with the new settings in a new run."
        )
