"""Class activation maps: the last feature map of a network, weighted by what a class makes of it.

Grad-CAM [1]_ gives each channel one weight, the mean gradient over the map, so it may light up a
place that the network did not use; HiResCAM [2]_ multiplies place by place. Both are the same
where the map is averaged and one linear layer follows (ResNets); there the cells of the map add up
to the logit without its bias. With several layers behind the map (AlexNet, VGG11) neither does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from medglean.errors import UsageError
from medglean.nn.attribution.outputs import (
    Classes,
    at_least_float32,
    chosen_outputs,
    scores_of,
    undisturbed,
)
from medglean.nn.backbones import ARCHITECTURES

_POOLINGS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


class ClassMaps(NamedTuple):
    """Maps of chosen classes.

    Attributes
    ----------
    maps
        On the grid of the images, in the unit of the score over the cells of the map; not scaled
        to [0, 1], so that maps of one network can be compared.
    cells
        The same before enlarging: what the network has. Few cells say little about place; a
        single one says nothing.
    classes
        Which output each map is of.
    logits
        What the network said of the images, all classes.
    """

    maps: Float[Tensor, "b m h w"]
    cells: Float[Tensor, "b m y x"]
    classes: Int[Tensor, "b m"]
    logits: Float[Tensor, "b k"]


def cam_layer(network: nn.Module, architecture: str) -> str:
    """Return the name of the last convolution's map in one of our backbones, before any pooling.

    AlexNet and VGG11 end in a pooling that keeps a quarter of the cells: at 64 pixels one of
    AlexNet's 3 x 3. The papers take the map before it, after its ReLU.

    Raises
    ------
    UsageError
        If the architecture is unknown.

    Examples
    --------
    >>> from medglean.nn.backbones import build_backbone
    >>> cam_layer(build_backbone("resnet18", classes=2), "resnet18")
    'layer4'
    >>> cam_layer(build_backbone("alexnet", classes=2), "alexnet")
    'features.11'
    """
    if architecture not in ARCHITECTURES:
        raise UsageError(
            f"architecture is {architecture!r}, expected one of {', '.join(ARCHITECTURES)}."
        )
    name = ARCHITECTURES[architecture].last_map
    parts = list(network.get_submodule(name).named_children())
    if not parts or not isinstance(parts[-1][1], _POOLINGS):
        return name
    while isinstance(parts[-1][1], _POOLINGS):
        parts.pop()
    return f"{name}.{parts[-1][0]}"


def grad_cam(
    network: nn.Module,
    images: Float[Tensor, "b c h w"],
    classes: Classes,
    *,
    layer: str,
    keep_negative: bool = False,
    log_odds: bool = False,
) -> ClassMaps:
    r"""Weight each channel of a feature map by its mean gradient: equations 1 and 2 of [1]_.

    With the map :math:`A^k` of Z cells and the score :math:`y^c` before any softmax or sigmoid,

    .. math:: \alpha_k^c = \frac{1}{Z} \sum_{ij} \frac{\partial y^c}{\partial A_{ij}^k}, \qquad
              L^c = \mathrm{ReLU}\Bigl(\sum_k \alpha_k^c A^k\Bigr).

    Parameters
    ----------
    network
        Maps (b, c, h, w) to logits (b, k). It may be in training: it is put into evaluation mode
        for the call and back.
    images
        As the network wants them, in any memory format, of the network's own precision.
    classes
        Outputs to explain: a list for all images, or (b, m). With several findings per image give
        several; their logits are independent.
    layer
        Name of the module that makes the map, such as from `cam_layer`.
    keep_negative
        Leave out the ReLU: what speaks against the class stays, below zero.
    log_odds
        Explain the log-odds of a softmax instead of the logit; see
        `medglean.nn.attribution.outputs.scores_of`. For classes that exclude one another.

    Returns
    -------
    ClassMaps
        In float32 (float64 for a network in float64), enlarged bilinearly. Without gradient.

    Raises
    ------
    ValueError
        If there is no such layer, it is not used exactly once, it makes no map (b, f, y, x), or a
        class does not exist.
    """
    return _class_maps(
        network,
        images,
        classes,
        layer=layer,
        combine=_pooled_product,
        keep_negative=keep_negative,
        log_odds=log_odds,
    )


def hires_cam(
    network: nn.Module,
    images: Float[Tensor, "b c h w"],
    classes: Classes,
    *,
    layer: str,
    keep_negative: bool = False,
    log_odds: bool = False,
) -> ClassMaps:
    r"""Multiply a feature map with its gradient place by place: HiResCAM [2]_.

    .. math:: L^c = \mathrm{ReLU}\Bigl(
              \sum_k \frac{\partial y^c}{\partial A^k} \odot A^k\Bigr)

    Where one linear layer follows the map, directly or after averaging, a cell is positive only if
    the score grows with what is there. Parameters, result and errors are those of `grad_cam`.
    """
    return _class_maps(
        network,
        images,
        classes,
        layer=layer,
        combine=_product,
        keep_negative=keep_negative,
        log_odds=log_odds,
    )


def _pooled_product(features: Tensor, gradient: Tensor) -> Tensor:
    # not a matrix product, which autocast would round to half precision
    return (gradient.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1)


def _product(features: Tensor, gradient: Tensor) -> Tensor:
    return (gradient * features).sum(dim=1)


def _class_maps(
    network: nn.Module,
    images: Tensor,
    classes: Classes,
    *,
    layer: str,
    combine: Callable[[Tensor, Tensor], Tensor],
    keep_negative: bool,
    log_odds: bool,
) -> ClassMaps:
    with undisturbed(network):
        features, logits = _features_and_logits(network, images, layer)
        chosen = chosen_outputs(classes, logits)
        scores = scores_of(logits, chosen, log_odds=log_odds)
        exact = features.detach().to(at_least_float32(features.dtype))
        cells = []
        for column in range(scores.shape[1]):
            last = column == scores.shape[1] - 1
            # images of a batch are independent: the sum's gradient holds that of each
            (gradient,) = torch.autograd.grad(
                scores[:, column].sum(), features, retain_graph=not last
            )
            cells.append(combine(exact, gradient.to(exact.dtype)))
    coarse = torch.stack(cells, dim=1).contiguous()
    if not keep_negative:
        coarse = coarse.relu()
    maps = F.interpolate(coarse, size=images.shape[2:], mode="bilinear", align_corners=False)
    return ClassMaps(maps.contiguous(), coarse, chosen, logits.detach())


def _features_and_logits(network: nn.Module, images: Tensor, layer: str) -> tuple[Tensor, Tensor]:
    """Apply a network; return a layer's output, from which on there is a graph, and the logits."""
    found: list[Tensor] = []

    def begin_graph(_module: nn.Module, _given: object, made: object) -> Tensor:
        if not isinstance(made, Tensor) or made.ndim != 4:
            shape = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
            raise ValueError(
                f"layer {layer!r} gives {shape}, expected a map (images, features, rows, columns). "
                "Name a convolutional layer."
            )
        found.append(made.detach().requires_grad_())
        torch.set_grad_enabled(True)  # until the end of no_grad below
        return found[-1].clone()  # a ReLU behind it may work in place

    try:
        module = network.get_submodule(layer)
    except AttributeError as error:
        raise ValueError(
            f"layer {layer!r}: the network has none of this name. Choose from named_modules()."
        ) from error
    hook = module.register_forward_hook(begin_graph)
    try:
        with torch.no_grad():  # what lies below the layer needs no graph
            logits = network(images)
    finally:
        hook.remove()
    if len(found) != 1:
        raise ValueError(
            f"layer {layer!r} was used {len(found)} times, expected once. Name a layer that each "
            "image passes once."
        )
    return found[0], logits
