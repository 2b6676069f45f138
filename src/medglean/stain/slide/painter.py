"""What turns windows of H&E into IHC: a trained stainer, as a slide needs it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from medglean.nn.kernel_attention import KeySums
from medglean.nn.stain_gan import StainUNet
from medglean.stain.levels import LEVEL
from medglean.stain.model import Stainer

Pixels = UInt8[np.ndarray, "h w 3"]
_SUMS, _FEATURES = "sums", "features"


@dataclass
class WholeSlide:
    """What is known of a slide as a whole, gathered part by part.

    Attributes
    ----------
    sums
        Keys and values of each skip with attention, in float64 on the CPU.
    features
        Sum over patches of the level's features, each weighted by its tissue; then of the
        probabilities of the levels. None where there is no classifier.
    weight
        Sum of these weights.
    """

    sums: dict[int, KeySums] = field(default_factory=dict)
    features: Float[np.ndarray, " f"] | None = None
    levels: Float[np.ndarray, " k"] | None = None
    weight: float = 0.0

    def add_sums(self, found: Mapping[int, KeySums]) -> None:
        """Add the keys and values of a tile."""
        for skip, part in found.items():
            exact = part.to(torch.device("cpu")).to(torch.float64)
            self.sums[skip] = self.sums[skip] + exact if skip in self.sums else exact

    def add_features(
        self, features: Float[np.ndarray, " f"], levels: Float[np.ndarray, " k"], weight: float
    ) -> None:
        """Add what the classifier says of a patch."""
        self.features = weight * features + (0 if self.features is None else self.features)
        self.levels = weight * levels + (0 if self.levels is None else self.levels)
        self.weight += weight

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all of it as arrays, for going on later."""
        kept: dict[str, np.ndarray] = {}
        for skip, part in self.sums.items():
            for each in dataclasses.fields(part):
                kept[f"{_SUMS}.{skip}.{each.name}"] = getattr(part, each.name).numpy()
        if self.features is not None and self.levels is not None:
            kept[f"{_FEATURES}.sum"], kept[f"{_FEATURES}.levels"] = self.features, self.levels
            kept[f"{_FEATURES}.weight"] = np.array(self.weight)
        return kept

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> WholeSlide:
        """Return what `arrays` was made from; other names are passed over."""
        found: dict[int, dict[str, Tensor]] = {}
        for name, values in arrays.items():
            kind, *rest = name.split(".")
            if kind == _SUMS:
                found.setdefault(int(rest[0]), {})[rest[1]] = torch.from_numpy(values)
        whole = cls({skip: KeySums(**parts) for skip, parts in found.items()})
        if f"{_FEATURES}.sum" in arrays:
            whole.features = arrays[f"{_FEATURES}.sum"]
            whole.levels = arrays[f"{_FEATURES}.levels"]
            whole.weight = float(arrays[f"{_FEATURES}.weight"])
        return whole


class Painter:
    """A stainer's networks, from 8-bit windows to values of 0 to 255.

    Parameters
    ----------
    stainer
        On its device.
    white_in
        White point that windows are divided by; None: by none.
    white_out
        White point that what is generated is multiplied by; None: by none.

    Attributes
    ----------
    stride_px, reach_px
        Of the generator.
    has_sums, has_features
        Whether attention over a slide, and level features, have something to gather.
    """

    def __init__(
        self,
        stainer: Stainer,
        *,
        white_in: Float[np.ndarray, " 3"] | None = None,
        white_out: Float[np.ndarray, " 3"] | None = None,
    ) -> None:
        self.stainer, self.device = stainer, stainer.device
        self.network = cast("StainUNet", stainer.generator) if stainer.method == "gan" else None
        self.stride_px = 1 if self.network is None else self.network.stride_px
        self.reach_px = 0 if self.network is None else self.network.reach_px
        skips = () if self.network is None else tuple(self.network.skips)
        kind = stainer.preset.generator.attention.kind
        self.can_sum = kind != "softmax"
        self.has_attention = bool(skips)
        self.has_sums = self.has_attention and self.can_sum
        self.has_classifier = LEVEL in stainer.networks
        self.has_features = self.network is not None and self.network.level_channels is not None
        deepest = max(skips, default=0)
        # a token is half of its own side from its middle, and each of its layers sees one more
        self.token_reach_px = 3 * stainer.preset.generator.patch_px * 2**deepest
        self._white_in = self._column(white_in)
        self._white_out = self._column(white_out)

    def _column(self, white: np.ndarray | None) -> Tensor | None:
        if white is None:
            return None
        return torch.tensor(white, dtype=torch.float32, device=self.device).view(1, 3, 1, 1)

    def of_slide(self, whole: WholeSlide, *, over_slide: bool) -> OfSlide:
        """Return what was gathered as the generator takes it; nothing, if not ``over_slide``."""
        if not over_slide:
            return OfSlide()
        sums = None
        if whole.sums:
            sums = {
                skip: part.to(torch.float32).to(self.device) for skip, part in whole.sums.items()
            }
        features = None
        if self.has_features and whole.features is not None:
            mean = torch.from_numpy(whole.features / whole.weight)
            features = mean.to(self.device, torch.float32)[None]
        return OfSlide(sums, features)

    @torch.inference_mode()
    def paint(
        self, window: Pixels, inside: tuple[slice, slice], of_slide: OfSlide
    ) -> Float32[np.ndarray, "y x 3"]:
        """Generate a window and return a part of it.

        Parameters
        ----------
        window
            H&E; its sides are multiples of the stride.
        inside
            Which rows and columns are wanted.
        of_slide
            What is known of the slide as a whole; what it lacks is taken from the window.

        Returns
        -------
        ndarray
            In [0, 255], not rounded.
        """
        if self.network is None:
            made = torch.from_numpy(self.stainer.colour).to(torch.float32).view(1, 3, 1, 1)
            height, width = (part.stop - part.start for part in inside)
            made = made.expand(1, 3, height, width).to(self.device)
        else:
            light = self._light(window)
            features = of_slide.features
            if self.has_features and features is None:
                found = self.stainer.level_features(light.cpu().numpy())
                features = torch.from_numpy(found).to(self.device)
            fake = self.network(2.0 * light - 1.0, features, sums=of_slide.sums)
            made = 0.5 * (fake[(..., *inside)].float() + 1.0)
        if self._white_out is not None:
            made = made * self._white_out
        values: np.ndarray = (255.0 * made.clamp(0.0, 1.0))[0].permute(1, 2, 0).cpu().numpy()
        return np.ascontiguousarray(values)

    @torch.inference_mode()
    def sums_of(self, window: Pixels, inside: tuple[slice, slice]) -> dict[int, KeySums]:
        """Return keys and values of the tokens in a part of a window."""
        if self.network is None:
            return {}
        return self.network.key_sums(2.0 * self._light(window) - 1.0, inside=inside)

    @torch.inference_mode()
    def seen_in(self, patch: Pixels) -> tuple[Float[np.ndarray, " f"], Float[np.ndarray, " k"]]:
        """Return what the level's classifier makes of a patch: features, and probabilities."""
        light = self._light(patch).cpu().numpy()
        features = self.stainer.level_features(light)[0].astype(np.float64)
        return features, self.stainer.level_of(light)[0].astype(np.float64)

    def _light(self, window: Pixels) -> Float[Tensor, "1 3 h w"]:
        """Return a window in [0, 1], with white glass if the preset wants it."""
        # some readers give memory that torch may not share
        pixels = torch.from_numpy(np.require(window, requirements=("C", "W"))).to(self.device)
        light = pixels.permute(2, 0, 1)[None].to(torch.float32).div_(255.0)
        if self._white_in is not None:
            light = (light / self._white_in).clamp_(0.0, 1.0)
        return light


@dataclass(frozen=True)
class OfSlide:
    """What the generator is told of the slide as a whole.

    Attributes
    ----------
    sums
        Keys and values of each skip; None: attention over the window.
    features
        Shape (1, f), of the level; None: those of the window.
    """

    sums: Mapping[int, KeySums] | None = None
    features: Tensor | None = None
