"""Integrated gradients: what each pixel adds to a score on the way from a baseline to the image."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from medglean.nn.attribution.outputs import (
    Classes,
    at_least_float32,
    chosen_outputs,
    scores_of,
    undisturbed,
)


class Attributions(NamedTuple):
    """What each pixel adds to the score of chosen classes, and whether it adds up.

    Attributes
    ----------
    values
        In the unit of the score: above zero for the class, below against it.
    classes
        Which output each map is of.
    difference
        Score of the image less that of the baseline: what all pixels should add up to.
    total
        What they add up to.
    """

    values: Float[Tensor, "b m c h w"]
    classes: Int[Tensor, "b m"]
    difference: Float[Tensor, "b m"]
    total: Float[Tensor, "b m"]

    def maps(self) -> Float[Tensor, "b m h w"]:
        """Return one number per pixel, the sum over channels."""
        return self.values.sum(dim=2)

    def relative_gap(self) -> Float[Tensor, "b m"]:
        """Return how far completeness is missed, as a share of the difference; 0 is exact.

        NaN where image and baseline have the same score: nothing is to be told apart. Above about
        0.05 take more steps, or do not trust the map.
        """
        gap = (self.total - self.difference).abs()
        same = self.difference == 0
        return torch.where(same, torch.nan, gap / self.difference.abs().where(~same, 1.0))


def integrated_gradients(
    network: nn.Module,
    images: Float[Tensor, "b c h w"],
    classes: Classes,
    *,
    baseline: Float[Tensor, "#b #c #h #w"],
    steps: int = 64,
    batch_size: int = 32,
    log_odds: bool = False,
) -> Attributions:
    r"""Integrate the gradient of a score along the straight line from a baseline to the image.

    Equation 1 of [1]_, with the integral by the midpoint rule over S steps:

    .. math:: (x - x') \odot \frac{1}{S} \sum_{s=0}^{S-1}
              \nabla y^c\Bigl(x' + \frac{s + 1/2}{S} (x - x')\Bigr)

    Completeness, that all pixels add up to :math:`y^c(x) - y^c(x')`, holds in the limit of many
    steps; both sides are returned.

    Parameters
    ----------
    network
        Maps (b, c, h, w) to logits (b, k). It may be in training: it is put into evaluation mode
        for the call and back.
    images
        As the network wants them, in any memory format, of the network's own precision. Lower
        precision shows as a gap in completeness.
    classes
        Outputs to explain: a list for all images, or (b, m).
    baseline
        An image that stands for nothing, or one for each, as the network wants them: see
        `medglean.nn.attribution.baselines`.
    steps
        S, at least 1. The network is run forward once and backward m times for each.
    batch_size
        Points of the lines that go through the network at once. Memory grows with it and not with
        ``steps``; the values do not depend on it but for rounding.
    log_odds
        Explain the log-odds of a softmax instead of the logit; see
        `medglean.nn.attribution.outputs.scores_of`.

    Returns
    -------
    Attributions
        In float32 (float64 for images in float64). Without gradient.

    Raises
    ------
    ValueError
        If a number is below 1, the baseline does not fit the images, or a class does not exist.

    References
    ----------
    .. [1] Sundararajan, Taly, Yan. Axiomatic Attribution for Deep Networks. ICML 2017.

    Examples
    --------
    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 1, bias=False))
    >>> _ = nn.init.constant_(network[1].weight, 2.0)
    >>> image = torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]])
    >>> found = integrated_gradients(network, image, [0], baseline=torch.zeros_like(image))
    >>> found.maps().tolist(), found.total.tolist(), found.difference.tolist()
    ([[[[0.0, 2.0], [4.0, 6.0]]]], [[12.0]], [[12.0]])
    """
    for name, count in (("steps", steps), ("batch_size", batch_size)):
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}.")
    begin = _fitted(baseline, images)
    parts = []
    with undisturbed(network):
        for start in range(0, max(1, len(images)), batch_size):
            rows = slice(start, start + batch_size)
            here = classes[rows] if isinstance(classes, Tensor) else classes
            # detached copies: images of a caller in inference mode cannot be part of a graph
            ends = begin[rows].detach().clone(), images[rows].detach().clone()
            parts.append(_along(network, *ends, here, steps, batch_size, log_odds))
    return Attributions(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _fitted(baseline: Tensor, images: Tensor) -> Tensor:
    try:
        return baseline.to(images).expand_as(images)
    except RuntimeError as error:
        raise ValueError(
            f"baseline has shape {tuple(baseline.shape)}, images {tuple(images.shape)}. Give one "
            "baseline, or one for each image, on their grid."
        ) from error


def _along(
    network: nn.Module,
    begin: Tensor,
    end: Tensor,
    classes: Classes,
    steps: int,
    batch_size: int,
    log_odds: bool,
) -> Attributions:
    """Integrate for at most ``batch_size`` images, several steps at once where they are fewer."""
    with torch.no_grad():
        logits = network(end)
        chosen = chosen_outputs(classes, logits)
        after = scores_of(logits, chosen, log_odds=log_odds)
        before = scores_of(network(begin), chosen, log_odds=log_odds)
    exact = at_least_float32(end.dtype)
    low, way = begin.to(exact), end.to(exact) - begin.to(exact)
    wanted = chosen.shape[1]
    summed = torch.zeros(wanted, *end.shape, dtype=exact, device=end.device)
    at_once = max(1, batch_size // max(1, len(end)))
    for start in range(0, steps, at_once):
        shares = torch.arange(start, min(start + at_once, steps), device=end.device, dtype=exact)
        shares = ((shares + 0.5) / steps).view(-1, 1, 1, 1, 1)
        points = (low + shares * way).flatten(0, 1).to(end.dtype)
        if end.is_contiguous(memory_format=torch.channels_last):
            points = points.contiguous(memory_format=torch.channels_last)
        points.requires_grad_()
        scores = scores_of(network(points), chosen.repeat(len(shares), 1), log_odds=log_odds)
        for column in range(wanted):
            (gradient,) = torch.autograd.grad(
                scores[:, column].sum(), points, retain_graph=column < wanted - 1
            )
            summed[column] += gradient.to(exact).view(len(shares), *end.shape).sum(dim=0)
    values = (way * summed / steps).transpose(0, 1).contiguous()
    return Attributions(values, chosen, after - before, values.sum(dim=(2, 3, 4)))
