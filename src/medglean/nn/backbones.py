"""torchvision's image classifiers with a head of the wanted width and any number of channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import torch
import torchvision
from torch import Tensor, nn

from medglean.errors import CheckpointError, UsageError
from medglean.nn.weights import load_into, read_weights
from medglean.randomness import key_of


@dataclass(frozen=True)
class Architecture:
    """Where to find the first and the last layer of a torchvision network.

    Attributes
    ----------
    make
        torchvision's constructor.
    first
        Name of the first convolution.
    head
        Name of the last linear layer.
    last_map
        Name of the module whose output is the last feature map, for saliency.
    smallest_px
        Least height and width that the network's poolings leave something of.
    """

    make: Callable[..., nn.Module]
    first: str
    head: str
    last_map: str
    smallest_px: int


ARCHITECTURES: dict[str, Architecture] = {
    "alexnet": Architecture(
        torchvision.models.alexnet, "features.0", "classifier.6", "features", 63
    ),
    "vgg11": Architecture(torchvision.models.vgg11, "features.0", "classifier.6", "features", 32),
    "resnet18": Architecture(torchvision.models.resnet18, "conv1", "fc", "layer4", 32),
    "resnet34": Architecture(torchvision.models.resnet34, "conv1", "fc", "layer4", 32),
    "resnet50": Architecture(torchvision.models.resnet50, "conv1", "fc", "layer4", 32),
}
"""AlexNet, VGG11 and ResNet50 are those of the 2022 report; the small ResNets suit a CPU."""


def _replace(network: nn.Module, name: str, layer: nn.Module) -> None:
    parent_name, _, leaf = name.rpartition(".")
    setattr(network.get_submodule(parent_name), leaf, layer)


def _conv_like(layer: nn.Conv2d, *, in_channels: int) -> nn.Conv2d:
    """Return a convolution that differs from ``layer`` in its input channels only."""
    return nn.Conv2d(
        in_channels,
        layer.out_channels,
        kernel_size=layer.kernel_size,  # type: ignore[arg-type]
        stride=layer.stride,  # type: ignore[arg-type]
        padding=layer.padding,  # type: ignore[arg-type]
        bias=layer.bias is not None,
    )


def _fresh(
    architecture: str, *, classes: int, in_channels: int, dropout: float | None
) -> nn.Module:
    """Build the network with torchvision's own initialisation, first and last layer replaced."""
    found = ARCHITECTURES[architecture]
    options = {} if dropout is None or architecture.startswith("resnet") else {"dropout": dropout}
    network = found.make(weights=None, **options)
    head = network.get_submodule(found.head)
    if not isinstance(head, nn.Linear):
        raise TypeError(f"{architecture}: {found.head} is a {type(head).__name__}, not a Linear.")
    new_head = nn.Linear(head.in_features, classes)
    if architecture.startswith("vgg"):  # torchvision initialises VGG's layers differently
        nn.init.normal_(new_head.weight, 0, 0.01)
        nn.init.zeros_(new_head.bias)
    _replace(network, found.head, new_head)
    if in_channels != 3:
        first = network.get_submodule(found.first)
        if not isinstance(first, nn.Conv2d):
            raise TypeError(f"{architecture}: {found.first} is not a convolution.")
        layer = _conv_like(first, in_channels=in_channels)
        if not architecture.startswith("alexnet"):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        _replace(network, found.first, layer)
    return network


def _torchvision_weights(architecture: str) -> dict[str, Tensor]:
    weights = torchvision.models.get_model_weights(architecture).DEFAULT
    try:
        state: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        raise CheckpointError(
            f"torchvision's weights for {architecture} are not on this machine and could not be "
            f"downloaded ({type(error).__name__}). Fetch them on a machine with a network and give "
            "the file: model.weights=FILE, or train from scratch: model.weights=none."
        ) from error
    return state


def build_backbone(
    architecture: str,
    *,
    classes: int,
    in_channels: int = 1,
    weights: str = "none",
    dropout: float | None = None,
    seed: int = 0,
) -> nn.Module:
    """Build a torchvision classifier.

    Parameters
    ----------
    architecture
        A key of `ARCHITECTURES`.
    classes
        Number of outputs (logits).
    in_channels
        Channels of the input. The first convolution is adapted; see
        `medglean.nn.weights.adapt_first_layer`.
    weights
        ``"none"``: from scratch. ``"imagenet"``: torchvision's own (downloaded by torchvision when
        it has them not yet, only because it was asked for here). Otherwise the path of a
        ``.safetensors`` or ``.pth`` file.
    dropout
        Probability in the classifier of AlexNet and VGG11, instead of torchvision's 0.5. ResNets
        have none.
    seed
        Of the initialisation. The global random state is left as it was.

    Returns
    -------
    torch.nn.Module
        Maps (b, in_channels, h, w) to logits (b, classes).

    Raises
    ------
    UsageError
        If the architecture is unknown.
    CheckpointError
        If the weights are missing, damaged or of another network.

    Examples
    --------
    >>> network = build_backbone("resnet18", classes=2, in_channels=1)
    >>> tuple(network(torch.zeros(1, 1, 64, 64)).shape)
    (1, 2)
    """
    if architecture not in ARCHITECTURES:
        raise UsageError(
            f"model.architecture is {architecture!r}, expected one of {', '.join(ARCHITECTURES)}."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key_of(seed, "initialisation"))
        network = _fresh(architecture, classes=classes, in_channels=in_channels, dropout=dropout)
    if weights != "none":
        if weights == "imagenet":
            state = _torchvision_weights(architecture)
        else:
            state = read_weights(Path(weights))
        found = ARCHITECTURES[architecture]
        load_into(network, state, source=weights, head=found.head, first=found.first)
    return network


def parameter_count(network: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
