"""Loss, one training step, and the logits of a trained network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from medglean.arrays import Kind

Update = Callable[[Tensor, str], None]


def class_weights(targets: np.ndarray, *, kind: Kind, classes: int) -> Float[Tensor, " k"]:
    """Return weights that make every class count alike in the loss.

    Parameters
    ----------
    targets
        Training part: class numbers (n,), or for ``multi`` 0/1 of shape (n, k).
    kind
        ``single``: n / (k n_class), the weight of an image of that class. ``multi``:
        n_without / n_with, the weight of a present finding against an absent one.
    classes
        k.

    Returns
    -------
    Tensor
        Shape (k,). A class without an image has weight 0 (``single``) or 1 (``multi``): there is
        nothing to weigh.
    """
    if kind == "single":
        counts = np.bincount(targets.astype(np.int64), minlength=classes).astype(np.float64)
        weights = np.divide(len(targets), classes * counts, out=np.zeros(classes), where=counts > 0)
    else:
        present = np.nansum(targets, axis=0).astype(np.float64)
        weights = np.divide(
            len(targets) - present, present, out=np.ones(classes), where=present > 0
        )
    return torch.tensor(weights, dtype=torch.float32)


def classification_loss(
    logits: Float[Tensor, "b k"],
    target: Tensor,
    *,
    kind: Kind,
    weights: Float[Tensor, " k"] | None = None,
    smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """Return the mean loss of a batch.

    Parameters
    ----------
    logits
        Raw outputs of the network.
    target
        ``single``: class numbers (b,) or shares of classes (b, k). ``multi``: 0..1, shape (b, k).
    kind
        ``single``: cross-entropy over classes. ``multi``: binary cross-entropy per finding.
    weights
        From `class_weights`.
    smoothing
        Share of the target spread evenly over all classes (``multi``: over both answers).
    """
    if kind == "single":
        return F.cross_entropy(logits, target, weight=weights, label_smoothing=smoothing)
    soft = target * (1.0 - smoothing) + 0.5 * smoothing
    return F.binary_cross_entropy_with_logits(logits, soft, pos_weight=weights)


def mix_pairs(
    images: Float[Tensor, "b c h w"],
    target: Float[Tensor, "b k"],
    *,
    alpha: float,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b k"]]:
    """Mix each image and its target with another of the batch (mixup).

    One share lambda ~ Beta(alpha, alpha) is drawn for the batch, as in the paper's code, and taken
    as at least one half, which is the same distribution of unordered pairs.

    References
    ----------
    Zhang, Cisse, Dauphin, Lopez-Paz. mixup: Beyond Empirical Risk Minimization. ICLR 2018.
    """
    # Two Gamma draws make a Beta; torch's Beta takes no generator, NumPy's is seeded from ours.
    seed = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
    share = float(np.random.default_rng(seed).beta(alpha, alpha))
    share = max(share, 1.0 - share)
    other = torch.randperm(len(images), generator=generator, device=generator.device)
    other = other.to(images.device)
    return (
        share * images + (1.0 - share) * images[other],
        share * target + (1.0 - share) * target[other],
    )


def make_step(
    networks: Mapping[str, nn.Module],
    *,
    kind: Kind,
    classes: int,
    weights: Float[Tensor, " k"] | None = None,
    smoothing: float = 0.0,
    mixup: float = 0.0,
) -> Callable[[Mapping[str, Tensor], torch.Generator, Update], dict[str, Tensor]]:
    """Return the closure that the training loop calls for every batch.

    It applies ``networks["network"]`` to ``batch["image"]``, computes the loss against
    ``batch["target"]``, hands it to ``update`` under the name ``"network"``, and returns it for
    the log.
    """

    def step(
        batch: Mapping[str, Tensor], generator: torch.Generator, update: Update
    ) -> dict[str, Tensor]:
        images, target = batch["image"], batch["target"]
        if mixup > 0:
            shares = F.one_hot(target, classes).to(images.dtype) if kind == "single" else target
            images, target = mix_pairs(images, shares, alpha=mixup, generator=generator)
        on_device = None if weights is None else weights.to(images.device)
        loss = classification_loss(
            networks["network"](images), target, kind=kind, weights=on_device, smoothing=smoothing
        )
        update(loss, "network")
        return {"loss": loss.detach()}

    return step


@torch.no_grad()
def logits_of(
    network: nn.Module, batches: Iterable[Float[Tensor, "b c h w"]], *, flip: bool = False
) -> Float[np.ndarray, "n k"]:
    """Apply a network in evaluation mode.

    Parameters
    ----------
    network
        Left in the mode (training or evaluation) that it was in.
    batches
        Images, ready for the network, on any device; they are moved to the network's.
    flip
        Average with the logits of the mirror image.

    Returns
    -------
    ndarray
        float32 logits of all images in order; shape (0, 0) where there is none.
    """
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    found: list[np.ndarray] = []
    try:
        for given in batches:
            images = given.to(device)
            logits = network(images)
            if flip:
                logits = 0.5 * (logits + network(images.flip(-1)))
            found.append(logits.float().cpu().numpy())
    finally:
        network.train(was_training)
    return np.concatenate(found) if found else np.zeros((0, 0), np.float32)


def probabilities(logits: Float[np.ndarray, "n k"], *, kind: Kind) -> Float[np.ndarray, "n k"]:
    """Turn logits into probabilities: softmax over classes, or a sigmoid per finding.

    Examples
    --------
    >>> probabilities(np.zeros((1, 2), np.float32), kind="single").tolist()
    [[0.5, 0.5]]
    """
    wide = torch.from_numpy(np.ascontiguousarray(logits)).double()
    if kind == "single":
        return wide.softmax(dim=1).numpy()
    return wide.sigmoid().numpy()
