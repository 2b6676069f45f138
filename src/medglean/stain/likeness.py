"""LPIPS of each pair, FID and inception score of all, where a folder has their weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8

from medglean.measure.features import frechet_distance, inception_score
from medglean.nn.perceptual import (
    FID,
    INCEPTION_SCORE,
    LPIPS,
    Inception,
    Lpips,
    available,
    load_inception,
    load_lpips,
)
from medglean.stain.settings import StainPreset

MANY = 2048
"""Images, as many as FID has features: with fewer it is far too large."""

Colours = UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True)
class Features:
    """What Inception says of images, one row each.

    Attributes
    ----------
    generated, real
        The last features, of which FID is.
    logits
        Of the generated images, of which the inception score is.
    """

    generated: Float[np.ndarray, "n d"]
    real: Float[np.ndarray, "n d"]
    logits: Float[np.ndarray, "n k"]


@dataclass(frozen=True)
class Likeness:
    """The networks of a folder.

    Attributes
    ----------
    lpips, inception
        None where weights are absent.
    reasons
        Why a measure is left out, by its name.
    """

    lpips: Lpips | None = None
    inception: Inception | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)

    def of_pair(self, generated: Colours, real: Colours) -> dict[str, float]:
        """Return LPIPS of a pair, if there are weights for it."""
        if self.lpips is None:
            return {}
        device = self.lpips.shift.device
        pair = [
            2.0 * (_batch(image).to(device).float() / 255.0) - 1.0 for image in (generated, real)
        ]
        with torch.no_grad():
            return {"lpips": float(self.lpips(*pair)[0])}

    def features(self, generated: Colours, real: Colours) -> Features | None:
        """Return Inception's features of a pair, if there are weights for it."""
        if self.inception is None:
            return None
        device = next(self.inception.parameters()).device
        one, other = (self.inception(_batch(image).to(device)) for image in (generated, real))
        return Features(
            one.pooled.cpu().numpy(), other.pooled.cpu().numpy(), one.logits.cpu().numpy()
        )


def why_not(preset: StainPreset) -> dict[str, str]:
    """Return which measures are left out for want of weights, and why."""
    given = preset.measure.perceptual_weights
    if given is None:
        told = "no weights were given (measure.perceptual_weights), and nothing is downloaded."
        return dict.fromkeys((LPIPS, FID, INCEPTION_SCORE), told)
    found = available(Path(given).expanduser())
    return {name: f"{why}." for name, why in found.items() if why is not None}


def open_likeness(preset: StainPreset, device: torch.device) -> Likeness:
    """Load the networks that a preset's folder has weights for.

    Raises
    ------
    CheckpointError
        If a file is damaged or of another network.
    """
    reasons = why_not(preset)
    folder = Path(preset.measure.perceptual_weights or ".").expanduser()
    lpips = None if LPIPS in reasons else load_lpips(folder).to(device)
    inception = None if FID in reasons else load_inception(folder).to(device)
    return Likeness(lpips, inception, reasons)


def together(parts: list[Features]) -> Features | None:
    """Return features of single pairs, or of folds, as one; None of none."""
    if not parts:
        return None
    return Features(
        np.concatenate([part.generated for part in parts]),
        np.concatenate([part.real for part in parts]),
        np.concatenate([part.logits for part in parts]),
    )


def of_all(features: Features | None) -> dict[str, tuple[float, str]]:
    """Return FID and inception score, each with a sentence on how many images it is of."""
    if features is None or len(features.real) < 2:
        return {}
    count = len(features.real)
    told = f"of {count:,} images, without an interval"
    few = "; compare only with FID of as many: from so few it is far too large"
    return {
        FID: (
            frechet_distance(features.generated, features.real),
            told + (few if count < MANY else ""),
        ),
        INCEPTION_SCORE: (inception_score(features.logits), told),
    }


def _batch(image: Colours) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(image, -1, 0)))[None]
