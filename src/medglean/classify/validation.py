"""What an epoch is judged by: loss and AUROC of the validation part."""

from __future__ import annotations

import numpy as np
import torch

from medglean.arrays import Kind
from medglean.errors import NonFiniteLossError
from medglean.fitting.classification import classification_loss, probabilities
from medglean.measure.curves import auroc


def validation_values(targets: np.ndarray, logits: np.ndarray, *, kind: Kind) -> dict[str, float]:
    """Return ``loss`` and ``auroc`` of validation images.

    Parameters
    ----------
    targets
        Class numbers (n,), or 0/1 of shape (n, k) for ``multi``.
    logits
        Shape (n, k).

    Raises
    ------
    NonFiniteLossError
        If a logit is NaN or infinite, which finite weights may give.
    """
    wrong = int((~np.isfinite(logits)).any(axis=1).sum())
    if wrong:
        raise NonFiniteLossError(
            f"the scores of {wrong} of {len(logits)} validation images are NaN or infinite: the "
            "training diverged. Lower the learning rate or set fit.clip_norm."
        )
    loss = classification_loss(torch.from_numpy(logits), torch.from_numpy(targets), kind=kind)
    return {"loss": float(loss), "auroc": mean_auroc(targets, logits, kind=kind)}


def mean_auroc(targets: np.ndarray, logits: np.ndarray, *, kind: Kind) -> float:
    """Return the mean AUROC over the classes for which it is defined; NaN where none is.

    For two exclusive classes it is the AUROC.
    """
    probability = probabilities(logits, kind=kind)
    truth = targets[:, None] == np.arange(logits.shape[1]) if kind == "single" else targets > 0.5
    areas = [
        auroc(truth[:, j], probability[:, j])
        for j in range(truth.shape[1])
        if 0 < truth[:, j].sum() < len(truth)
    ]
    return float(np.mean(areas)) if areas else float("nan")
