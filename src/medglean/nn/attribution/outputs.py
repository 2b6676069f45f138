"""What is explained: chosen outputs of a network, which is left as it was found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

Classes = Sequence[int] | Int[Tensor, "b m"]
"""Outputs to explain: the same for all images, or m for each image."""


@contextmanager
def undisturbed(network: nn.Module) -> Iterator[None]:
    """Put a network in evaluation mode, with gradients allowed, and put everything back.

    Modules get back the mode that each of them had: a frozen part of a network in training stays
    frozen. Within, nothing is dropped out, statistics of batches are not updated, and images of a
    batch do not see one another.
    """
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """Return the type to add up in: half precision is for the network alone."""
    return torch.promote_types(dtype, torch.float32)


def chosen_outputs(classes: Classes, logits: Tensor) -> Int[Tensor, "b m"]:
    """Return the number of each output to explain, on the device of the logits.

    Raises
    ------
    ValueError
        If the network does not give logits (b, k), or a class is not one of theirs.
    """
    if logits.ndim != 2:
        raise ValueError(
            f"the network gave {tuple(logits.shape)}, expected logits (images, classes)."
        )
    if isinstance(classes, Tensor):
        chosen = classes.to(device=logits.device, dtype=torch.long)
    else:
        chosen = torch.tensor(list(classes), dtype=torch.long, device=logits.device)
        chosen = chosen.expand(len(logits), -1)
    if chosen.ndim != 2 or len(chosen) != len(logits) or chosen.shape[1] == 0:
        raise ValueError(
            f"classes has shape {tuple(chosen.shape)}, expected ({len(logits)}, m): at least one "
            "class for each image. Give a list of classes for all images, or such a tensor."
        )
    if chosen.numel() and (int(chosen.min()) < 0 or int(chosen.max()) >= logits.shape[1]):
        raise ValueError(
            f"classes: expected 0 to {logits.shape[1] - 1}, found {int(chosen.min())} to "
            f"{int(chosen.max())}."
        )
    return chosen


def scores_of(
    logits: Float[Tensor, "b k"], chosen: Int[Tensor, "b m"], *, log_odds: bool
) -> Float[Tensor, "b m"]:
    r"""Return the number to explain for each image and chosen class.

    Parameters
    ----------
    logits
        Raw outputs.
    chosen
        From `chosen_outputs`.
    log_odds
        False: the logit :math:`y_c`. True: :math:`y_c - \log \sum_{j \ne c} \exp y_j`, the logit
        of the softmax's probability. A softmax does not change when all logits rise together, a
        logit does; log-odds count evidence against the other classes too.

    Raises
    ------
    ValueError
        If log-odds are asked of a network with one output, whose logit they are already.
    """
    exact = logits.to(at_least_float32(logits.dtype))
    own = exact.gather(1, chosen)
    if not log_odds:
        return own
    count = logits.shape[1]
    if count < 2:
        raise ValueError("log_odds needs at least 2 classes, the network has 1. Use its logit.")
    itself = F.one_hot(chosen, count).bool()
    others = exact[:, None, :].expand(itself.shape).masked_fill(itself, -torch.inf)
    return own - others.logsumexp(dim=2)
