"""Sentences that a careful reader of measured stains should see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from medglean.measure.intervals import Interval
from medglean.stain import assess as known

FEW_PAIRS = 30


def on_pairs(groups: Sequence[object] | np.ndarray, *, grouped_by: str) -> list[str]:
    """Tell of few pairs, and of intervals that cannot count patients.

    Parameters
    ----------
    groups
        Of each pair.
    grouped_by
        The manifest's columns that made them; ``"id"`` where each image stands alone.
    """
    told, count = [], len(groups)
    if count < FEW_PAIRS:
        told.append(
            f"Only {count:,} pairs were measured: numbers from so few say that something works or "
            "does not, and little about other slides."
        )
    if "id" in grouped_by.split("+"):
        told.append(
            "No patient or slide is known for some or all pairs, so intervals are over images: "
            "patches of one slide resemble one another, and the true intervals are wider."
        )
    elif len(np.unique(np.asarray(groups))) < 10:
        told.append(
            f"The pairs are of only {len(np.unique(np.asarray(groups))):,} patients or slides: "
            "intervals from so few are too narrow rather than too wide."
        )
    return told


def on_levels(levels: np.ndarray) -> list[str]:
    """Tell what a label is worth."""
    if not (np.asarray(levels) >= 0).any():
        return []
    return [
        "Labels are of the whole slide, not of the patch: a patch of a 3+ slide may show no stain "
        "at all, so agreement with the label is limited by that."
    ]


def on_flat(metrics: Mapping[str, Interval]) -> list[str]:
    """Tell where an image of one colour has the higher PSNR."""
    if known.GAIN not in metrics:
        return []
    gain, flat = metrics[known.GAIN], metrics[known.FLAT_PSNR]
    if not gain.value < 0:
        return []
    return [
        f"An image of one flat colour, the mean of the training images, has a PSNR of "
        f"{flat.value:.1f} dB, {-gain.value:.1f} dB above this method's. PSNR rewards having no "
        "contrast where sections do not lie on one another: judge by the measures of DAB."
    ]


def on_judge(metrics: Mapping[str, Interval], *, judge: bool) -> list[str]:
    """Tell how far a judge that is often wrong can be trusted."""
    if not judge:
        return ["No judge of the level was trained, so level agreement is not measured."]
    right = metrics.get(known.JUDGE)
    if right is None or not right.value < 0.7:
        return []
    return [
        f"The judge calls the level of real IHC right in {100 * right.value:.0f} % of the pairs "
        "only: its agreement on generated images says little."
    ]


def on_registration(count: int, pairs: int) -> list[str]:
    """Tell of pairs whose images do not lie on one another."""
    if not count:
        return []
    return [
        f"{count:,} of {pairs:,} pairs are shifted or correlate badly, as the sections do not lie "
        "on one another (see the problems below): PSNR, SSIM and Dice of such pairs say little."
    ]


def on_perceptual(reasons: Mapping[str, str]) -> list[str]:
    """Tell which perceptual measures were left out, and why.

    Parameters
    ----------
    reasons
        By the measure's name.
    """
    if not reasons:
        return []
    same: dict[str, list[str]] = {}
    for name, why in reasons.items():
        same.setdefault(why, []).append(name)
    return [f"{', '.join(names)} not measured: {why}" for why, names in same.items()]
