"""Checkpoints that a kill, a full disk or a flipped bit cannot turn into a wrong result.

A checkpoint is one safetensors file: tensors, and in its header a JSON text with everything else
and a SHA-256 over every other byte of the file. It takes its name only when it is whole and
durable, the one before is kept, and nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_of_bytes
from safetensors.torch import save as bytes_of_tensors
from torch import nn

from medglean.errors import CheckpointError
from medglean.files import atomic_writer

KEPT = 2
"""How many checkpoints stay: the newest, and the one before it in case that is damaged."""

FORMAT = 1
"""Version of the layout; a reader refuses one that it does not know."""

_BLANK = "0" * 64
_NAME = re.compile(r"^last-(\d{10})\.safetensors$")
_LEFT_OVER = re.compile(r"^\..+\.safetensors\.(\d+)-[0-9a-f]+\.tmp$")
_LEFT_OVER_AGE_S = 60.0


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds."""

    path: Path
    tensors: dict[str, torch.Tensor]
    """On the CPU, by name."""
    facts: dict[str, Any]
    """Everything that is not a tensor, as JSON gives it."""
    warnings: tuple[str, ...] = field(default=())
    """About newer checkpoints that had to be passed over."""


def path_of(folder: Path, step: int) -> Path:
    """Return the name of the checkpoint after ``step`` optimiser steps."""
    return folder / f"last-{step:010d}.safetensors"


def write(path: Path, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, object]) -> None:
    """Write a sealed safetensors file so that its name never stands for half of one.

    Raises
    ------
    CheckpointError
        If the disk is full or the folder cannot be written; what was there before is untouched.
    """
    content = _sealed(tensors, facts)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_writer(path) as file:
            file.write(content)
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be written ({error.strerror or error}); it needs "
            f"{len(content) / 1e6:.1f} MB. What was saved before is untouched. Make room or allow "
            "writing there, then go on with --resume."
        ) from error


def read(path: Path) -> Checkpoint:
    """Read a sealed safetensors file and verify every byte of it.

    Raises
    ------
    CheckpointError
        If the file is missing, cut short, altered, or was not written by this module.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error}).") from error
    facts = _verified(path, content)
    try:
        tensors = tensors_of_bytes(content)
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({error}).") from error
    return Checkpoint(path, tensors, facts)


def save(folder: Path, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, object]) -> Path:
    """Write the checkpoint of ``facts["step"]`` and remove all but the newest two."""
    step = facts["step"]
    if not isinstance(step, int):
        raise TypeError(f"facts['step'] must be an int, got {step!r}.")
    path = path_of(folder, step)
    write(path, tensors, facts)
    for old in _listed(folder)[KEPT:]:
        old.unlink(missing_ok=True)
    _remove_left_overs(folder)
    return path


def latest(folder: Path, *, set_aside: bool = True) -> Checkpoint | None:
    """Return the newest checkpoint that is whole, or ``None`` where there is none at all.

    A damaged one is told in ``warnings``, and renamed to ``damaged-...`` if ``set_aside``.

    Raises
    ------
    CheckpointError
        If there are checkpoints and every one is damaged.
    """
    damaged: dict[Path, str] = {}
    for path in _listed(folder):
        try:
            found = read(path)
        except CheckpointError as error:
            damaged[path] = str(error)
            continue
        if set_aside:
            for bad in damaged:
                bad.replace(bad.with_name(bad.name.replace("last-", "damaged-", 1)))
        told = tuple(f"{text} {found.path.name} is used instead." for text in damaged.values())
        return Checkpoint(found.path, found.tensors, found.facts, told)
    if damaged:
        raise CheckpointError(
            f"{folder}: none of {len(damaged)} checkpoints is whole. "
            f"{next(iter(damaged.values()))} Have the disk checked, and start a new run."
        )
    return None


def exists(folder: Path) -> bool:
    """Say whether a folder has a checkpoint, whole or not."""
    return bool(_listed(folder))


def pack_networks(prefix: str, networks: Mapping[str, nn.Module]) -> dict[str, torch.Tensor]:
    """Return all weights and buffers of some networks as ``prefix.network.key``."""
    return {
        f"{prefix}{name}.{key}": value
        for name, network in networks.items()
        for key, value in network.state_dict().items()
    }


def unpack_networks(
    path: Path, tensors: Mapping[str, torch.Tensor], prefix: str, networks: Mapping[str, nn.Module]
) -> None:
    """Put tensors named ``prefix.network.key`` into networks of the same architecture.

    Raises
    ------
    CheckpointError
        If keys are missing or left over, or a shape or type differs; nothing was changed then.
    """
    expected = pack_networks(prefix, networks)
    found = {key: value for key, value in tensors.items() if key.startswith(prefix)}
    lines = [f"missing: {key[len(prefix) :]}" for key in expected if key not in found]
    lines += [f"not expected: {key[len(prefix) :]}" for key in found if key not in expected]
    for key in expected.keys() & found.keys():
        theirs, ours = found[key], expected[key]
        if theirs.shape != ours.shape or theirs.dtype != ours.dtype:
            lines.append(
                f"{key[len(prefix) :]}: {_kind(theirs)} in the file, {_kind(ours)} in the network"
            )
    if lines:
        shown = "\n  ".join(sorted(lines)[:20])
        more = f"\n  ... and {len(lines) - 20} more." if len(lines) > 20 else ""
        raise CheckpointError(
            f"{path}: made by another architecture; {len(lines)} keys differ:\n  {shown}{more}\n"
            "Use the preset that it was trained with."
        )
    for name, network in networks.items():
        head = f"{prefix}{name}."
        network.load_state_dict(
            {key[len(head) :]: value for key, value in found.items() if key.startswith(head)}
        )


def load_weights(path: Path, networks: Mapping[str, nn.Module]) -> dict[str, Any]:
    """Load ``best.safetensors`` into networks; return its facts (step, value, ...).

    Raises
    ------
    CheckpointError
        If the file is damaged or belongs to another architecture.
    """
    found = read(path)
    unpack_networks(path, found.tensors, "", networks)
    return found.facts


def load_last(path: Path, networks: Mapping[str, nn.Module]) -> dict[str, Any]:
    """Load the weights of a checkpoint, averaged ones where it has an average; return its facts.

    Raises
    ------
    CheckpointError
        If the file is damaged or belongs to another architecture.
    """
    found = read(path)
    tensors: dict[str, torch.Tensor] = {}
    for head in ("network.", "ema."):  # an average lies over the weights it is of
        tensors |= {
            key.removeprefix(head): value
            for key, value in found.tensors.items()
            if key.startswith(head)
        }
    unpack_networks(path, tensors, "", networks)
    return found.facts


def _kind(tensor: torch.Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _sealed(tensors: Mapping[str, torch.Tensor], facts: Mapping[str, object]) -> bytearray:
    text = json.dumps({**facts, "format": FORMAT}, sort_keys=True, allow_nan=False)
    content = bytearray(
        bytes_of_tensors(_plain(tensors), metadata={"medglean": text, "sha256": _BLANK})
    )
    place = _place_of_hash(content, _BLANK)
    content[place : place + 64] = hashlib.sha256(content).hexdigest().encode()
    return content


def _plain(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Bring tensors to the CPU, each with a memory of its own as safetensors asks."""
    plain: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        here = tensor.detach().to("cpu").contiguous()
        address = here.untyped_storage().data_ptr()
        if address in seen:  # tied weights, or views of one buffer
            here = here.clone()
        seen.add(address)
        plain[name] = here
    return plain


def _header_end(content: bytes | bytearray) -> int:
    return 8 + int.from_bytes(content[:8], "little")


def _place_of_hash(content: bytes | bytearray, value: str) -> int:
    # the key cannot occur inside the JSON text: quotes are escaped there
    mark = b'"sha256":"' + value.encode() + b'"'
    place = content.find(mark, 8, _header_end(content))
    if place < 0:
        raise ValueError("the header has no hash.")
    return place + len(b'"sha256":"')


def _verified(path: Path, content: bytes) -> dict[str, Any]:
    """Return the facts of a file whose every byte is as it was written."""
    end = _header_end(content)
    try:
        sealed = json.loads(content[8:end].decode())["__metadata__"]
        claimed, text = sealed["sha256"], sealed["medglean"]
        place = _place_of_hash(content, claimed)
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: damaged or cut short, or not a checkpoint of medglean: its header "
            f"({len(content)} bytes in all) cannot be read."
        ) from error
    whole = memoryview(content)
    digest = hashlib.sha256(whole[:place])
    digest.update(_BLANK.encode())
    digest.update(whole[place + 64 :])
    if digest.hexdigest() != claimed:
        raise CheckpointError(
            f"{path}: damaged or cut short: SHA-256 is {digest.hexdigest()[:12]}..., expected "
            f"{str(claimed)[:12]}...."
        )
    facts: dict[str, Any] = json.loads(text)
    if facts.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: layout {facts.get('format')}, this version reads {FORMAT}. Use the version "
            "of medglean that wrote it."
        )
    return facts


def _listed(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, the newest first."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if _NAME.match(path.name)), reverse=True)


def _remove_left_overs(folder: Path) -> None:
    """Remove temporary files of writers that were killed."""
    for path in folder.iterdir():
        match = _LEFT_OVER.match(path.name)
        if match is None or _is_running(int(match[1])):
            continue
        try:
            if time.time() - path.stat().st_mtime > _LEFT_OVER_AGE_S:
                path.unlink(missing_ok=True)
        except FileNotFoundError:
            continue


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
