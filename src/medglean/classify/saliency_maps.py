"""Maps of what a classifier's answers come from, and of an untrained network's for comparison."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from medglean.classify.model import Classifier
from medglean.data.augment import to_float
from medglean.data.imageset import ImageSet
from medglean.nn.attribution import cam_layer, grad_cam, integrated_gradients, mean_baseline
from medglean.nn.backbones import build_backbone
from medglean.nn.ensemble import members_of

BATCH = 16
_UNTRAINED = 1_000_003
"""Added to the seed of the training, so that the untrained network is not the one it began with."""


@dataclass(frozen=True)
class SaliencyMaps:
    """Maps of n images on the grid of the images, what speaks for a class; nowhere below 0.

    Attributes
    ----------
    cam
        Grad-CAM of the explained class, float32, shape (n, h, w).
    cam_of_missed
        Grad-CAM of the second class asked for, shape (n, h, w).
    integrated
        Integrated gradients of the explained class, added up over channels, shape (n, h, w); zeros
        for images beyond ``integrated_count``.
    gap
        How far integrated gradients miss completeness, as a share of the difference of the scores,
        shape (n,); NaN where they were not computed.
    """

    cam: Float[np.ndarray, "n h w"]
    cam_of_missed: Float[np.ndarray, "n h w"]
    integrated: Float[np.ndarray, "n h w"]
    gap: Float[np.ndarray, " n"]


def saliency_maps(
    classifier: Classifier,
    images: ImageSet,
    rows: Int[np.ndarray, " n"],
    *,
    explained: Int[np.ndarray, " n"],
    missed: Int[np.ndarray, " n"] | None = None,
    integrated_count: int | None = None,
) -> SaliencyMaps:
    """Explain one answer per image, and a second one by Grad-CAM.

    Of exclusive classes the log-odds are explained, of findings the logit, with temperature left
    out: it scales all maps alike. Of several networks the signed maps are averaged and then cut at
    0, as the classifier averages their logits. Images are taken as they are, without a mirror
    image. The path of integrated gradients begins at the even grey of each image's mean.

    Parameters
    ----------
    classifier
        Wherever its network lies; it is left as it was.
    images
        Which the rows are of.
    rows
        Positions in the manifest; each must have an image.
    explained
        Number of the class of each row.
    missed
        Number of the second class; by default the first one again.
    integrated_count
        Of how many of the first rows integrated gradients are computed, which cost some fifty
        times as much as Grad-CAM; by default of all.
    """
    height, width = images.stored.shape[2:]
    count = len(rows) if integrated_count is None else min(integrated_count, len(rows))
    second = explained if missed is None else missed
    cams = np.zeros((len(rows), 2, height, width), np.float32)
    integrated = np.zeros((len(rows), height, width), np.float32)
    gap = np.full(len(rows), np.nan)
    members = members_of(classifier.network)
    for start in range(0, len(rows), BATCH):
        here = slice(start, min(start + BATCH, len(rows)))
        classes = np.stack([explained[here], second[here]], axis=1)
        shown = _prepared(classifier, images, rows[here])
        cams[here] = _mean_over(members, shown, torch.from_numpy(classes), classifier)
        there = max(0, min(count, here.stop) - start)
        if there:
            own = torch.from_numpy(classes[:there, :1])
            values, missing = _integrated(members, shown[:there], own, classifier)
            integrated[start : start + there], gap[start : start + there] = values, missing
    return SaliencyMaps(
        np.maximum(cams[:, 0], 0.0),
        np.maximum(cams[:, 1], 0.0),
        np.maximum(integrated, 0.0),
        gap,
    )


def _prepared(classifier: Classifier, images: ImageSet, rows: np.ndarray) -> Tensor:
    values = to_float(np.ascontiguousarray(images.stored[rows]))
    device = next(classifier.network.parameters()).device
    return classifier.normalise(torch.from_numpy(values)).to(device)


def _log_odds(classifier: Classifier) -> bool:
    return classifier.kind == "single" and len(classifier.classes) > 1


def _mean_over(
    members: list[nn.Module], shown: Tensor, classes: Tensor, classifier: Classifier
) -> np.ndarray:
    """Return signed Grad-CAM, shape (b, m, h, w), the mean over the networks."""
    architecture = classifier.preset.model.architecture
    maps = [
        grad_cam(
            member,
            shown,
            classes,
            layer=cam_layer(member, architecture),
            keep_negative=True,
            log_odds=_log_odds(classifier),
        ).maps
        for member in members
    ]
    return torch.stack(maps).mean(dim=0).cpu().numpy()


def _integrated(
    members: list[nn.Module], shown: Tensor, classes: Tensor, classifier: Classifier
) -> tuple[np.ndarray, np.ndarray]:
    """Return signed integrated gradients (b, h, w) and their gap (b,), the mean over networks."""
    found = [
        integrated_gradients(
            member,
            shown,
            classes,
            baseline=mean_baseline(shown),
            steps=classifier.preset.measure.integrated_steps,
            batch_size=BATCH,
            log_odds=_log_odds(classifier),
        )
        for member in members
    ]
    maps = torch.stack([one.maps()[:, 0] for one in found]).mean(dim=0)
    gaps = torch.stack([one.relative_gap()[:, 0] for one in found]).mean(dim=0)
    return maps.cpu().numpy(), gaps.cpu().numpy()


def untrained(classifier: Classifier) -> Classifier:
    """Return a classifier of the same architecture whose weights were all drawn anew."""
    preset = classifier.preset
    network = build_backbone(
        preset.model.architecture,
        classes=len(classifier.classes),
        in_channels=preset.images.channel_count,
        seed=preset.fit.seed + _UNTRAINED,
    )
    device = next(classifier.network.parameters()).device
    return Classifier(
        network.eval().to(device),
        preset,
        classifier.classes,
        classifier.kind,
        classifier.normalise,
        "",
    )
