"""Weights from files: safetensors, or a .pth read by torch's restricted loader.

A ``.pth`` file is a pickle. It is read with ``weights_only=True``, which builds tensors and
containers and refuses anything else, so that no code of the file runs.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from medglean.errors import CheckpointError


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a ``state_dict`` from ``.safetensors``, or from ``.pth`` / ``.pt``, on the CPU.

    A dictionary that holds the tensors under ``state_dict`` or ``model`` is unwrapped, and a prefix
    ``module.`` that data-parallel training leaves on every key is taken off.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, or holds anything but tensors.
    """
    if not path.is_file():
        raise CheckpointError(
            f"{path}: no such weights file. Give the path of a .safetensors or .pth file."
        )
    try:
        if path.suffix == ".safetensors":
            found: object = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(
            f"{path}: not a readable weights file ({type(error).__name__}). Expected tensors only, "
            "as .safetensors or as the state_dict of a network saved with torch.save. "
            "Download or export it again."
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(wrapper), Mapping):
            found = found[wrapper]
    state: dict[str, Tensor] = {}
    for key, value in found.items() if isinstance(found, Mapping) else [("", None)]:
        if not isinstance(value, Tensor):
            raise CheckpointError(
                f"{path}: expected a mapping from names to tensors, found a "
                f"{type(found).__name__} with {type(value).__name__} in it. "
                "Save the network's state_dict() instead of the whole network."
            )
        state[str(key).removeprefix("module.")] = value
    return state


def adapt_first_layer(weight: Tensor, *, in_channels: int) -> Tensor:
    """Turn the first convolution's weight from three input channels to ``in_channels``.

    For one channel the three are summed, so that a grey image gives exactly what its grey copy in
    red, green and blue gave. For other counts their mean is repeated and scaled so that an input
    equal in all channels keeps its response.

    Parameters
    ----------
    weight
        Shape (out, channels, kh, kw).
    in_channels
        Wanted number of input channels.

    Examples
    --------
    >>> adapt_first_layer(torch.ones(1, 3, 1, 1), in_channels=1).flatten().tolist()
    [3.0]
    """
    if weight.shape[1] == in_channels:
        return weight
    summed = weight.sum(dim=1, keepdim=True)
    return summed.repeat(1, in_channels, 1, 1) / in_channels


def load_into(
    network: nn.Module, state: Mapping[str, Tensor], *, source: str, head: str, first: str
) -> tuple[str, ...]:
    """Copy weights into a network whose head and first layer may differ from theirs.

    Parameters
    ----------
    network
        The network to fill.
    state
        Names and tensors.
    source
        What to call the weights in an error.
    head
        Name of the last layer. Where its shape differs it keeps its fresh initialisation.
    first
        Name of the first convolution, adapted by `adapt_first_layer`.

    Returns
    -------
    tuple of str
        Keys that were not taken from ``state``.

    Raises
    ------
    CheckpointError
        If any other key is missing, unknown or of another shape; all are listed.
    """
    own = network.state_dict()
    given = dict(state)
    first_key = f"{first}.weight"
    if first_key in given and first_key in own:
        given[first_key] = adapt_first_layer(given[first_key], in_channels=own[first_key].shape[1])
    fresh = tuple(
        key
        for key in own
        if key.startswith(f"{head}.") and (key not in given or given[key].shape != own[key].shape)
    )
    for key in fresh:
        given[key] = own[key]
    wrong = [f"missing {key}" for key in own if key not in given]
    wrong += [f"unknown {key}" for key in given if key not in own]
    wrong += [
        f"{key} is {tuple(given[key].shape)}, expected {tuple(own[key].shape)}"
        for key in own
        if key in given and given[key].shape != own[key].shape
    ]
    if wrong:
        shown = "; ".join(wrong[:12]) + (f"; and {len(wrong) - 12} more" if len(wrong) > 12 else "")
        raise CheckpointError(
            f"{source}: the weights are of another network: {shown}. "
            "Choose the architecture that they were trained with."
        )
    network.load_state_dict(given)
    return fresh
