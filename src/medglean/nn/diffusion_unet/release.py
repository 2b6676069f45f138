"""Weights as the authors of the release save them, into networks of the same names."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from medglean.errors import CheckpointError
from medglean.nn.weights import read_weights

SHOWN = 12


def load_release(network: nn.Module, path: Path) -> None:
    """Fill a network with the weights of a file; every weight must be there and fit.

    Parameters
    ----------
    network
        A `DiffusionUNet` or `NoiseClassifier` laid out as the one that was saved.
    path
        The ``.pt`` file of the release's training, or ``.safetensors``. No code of it runs.

    Raises
    ------
    CheckpointError
        If the file cannot be read, or keys are missing, unknown or of another shape; the network
        is unchanged then.
    """
    given, own = read_weights(path), network.state_dict()
    wrong = [f"missing {key}" for key in own if key not in given]
    wrong += [f"unknown {key}" for key in given if key not in own]
    wrong += [
        f"{key} is {tuple(given[key].shape)}, expected {tuple(own[key].shape)}"
        for key in own
        if key in given and given[key].shape != own[key].shape
    ]
    if wrong:
        more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise CheckpointError(
            f"{path}: the weights are of another network: {'; '.join(wrong[:SHOWN])}{more}. "
            "Set width, multipliers, blocks, attention and channels as they were in training."
        )
    network.load_state_dict(given)
