"""Sentences that a careful reader of measured maps should see."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from medglean.anomaly.measures import IMAGE_AUROC, MATCHED_AUROC, POSITION_AUROC
from medglean.measure.intervals import Interval

FEW_PATIENTS = 10
LOST_SHARE = 0.01
"""Share of the lesions' pixels outside the foreground from which it is told."""


def on_images(usable: np.ndarray, diseased: np.ndarray, groups: np.ndarray) -> list[str]:
    """Tell of maps that cannot be used, of a class without images, and of few patients."""
    told = []
    lost = int((~usable).sum())
    if lost:
        told.append(f"{lost:,} of {len(usable):,} images are left out: their map holds NaN.")
    for name, wanted in (("diseased", diseased), ("healthy", ~diseased)):
        here = usable & wanted
        patients = len(np.unique(groups[here]))
        if not here.any():
            told.append(f"No {name} image: measures that need one are undefined.")
        elif patients < FEW_PATIENTS:
            told.append(
                f"Of only {patients} patients or groups are there {name} images: intervals from "
                "so few are too narrow rather than too wide."
            )
    return told


def on_masks(
    masks: np.ndarray | None,
    usable: np.ndarray,
    diseased: np.ndarray,
    groups: np.ndarray,
    foreground: np.ndarray | None,
) -> list[str]:
    """Tell of masks that are absent, empty, of healthy images, or outside the foreground."""
    if masks is None:
        return ["There are no masks: only whole images are measured."]
    told = []
    filled = masks.any(axis=(1, 2))
    empty = int((usable & diseased & ~filled).sum())
    if empty:
        told.append(
            f"Diseased images without a mask, or with an empty one: {empty:,}. Pixels are measured "
            f"on the other {int((usable & diseased & filled).sum()):,}."
        )
    odd = int((usable & ~diseased & filled).sum())
    if odd:
        told.append(
            f"Images labelled healthy with a mask that is not empty: {odd:,}. Label and mask "
            "disagree; the mask is not used."
        )
    if foreground is not None:
        sick = usable & diseased & filled
        pixels = int(masks[sick].sum())
        outside = int((masks[sick] & ~foreground[sick]).sum())
        if pixels and outside / pixels >= LOST_SHARE:
            told.append(
                f"{100 * outside / pixels:.1f} % of the lesions' pixels lie outside the "
                "foreground: measures in it do not count them, and flatter the method by as much."
            )
    return told


def on_position(metrics: Mapping[str, Interval], pairs: int | None) -> list[str]:
    """Tell what position alone achieves, where it achieves something."""
    if pairs is None:
        return []
    alone = metrics[POSITION_AUROC]
    if pairs == 0:
        return ["No diseased and healthy image are alike in position: nothing could be matched."]
    if not alone.low > 0.5:
        return []
    plain, matched = metrics[IMAGE_AUROC].value, metrics[MATCHED_AUROC].value
    return [
        f"Where an image lies tells diseased from healthy with AUROC {alone.value:.3f} without a "
        f"look at it. The maps' {plain:.3f} may owe much to that; among images alike in position "
        f"it is {matched:.3f} ({pairs:,} pairs): quote that."
    ]
