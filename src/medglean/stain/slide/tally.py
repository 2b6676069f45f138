"""What is counted while a slide is generated."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from medglean.stain.slide.folder import PartFolder

DAB_LEAST, DAB_STEP, DAB_BINS = -1.0, 0.001, 5000
"""The histogram of the optical density of DAB."""


@dataclass
class Tally:
    """What was counted while a slide was generated.

    Attributes
    ----------
    seconds
        What was waited for: the reader (``reading``), the networks in the first pass and in the
        second (``looking``, ``generating``), the thread that blends, counts and writes
        (``waiting``), the disk (``committing``). And what that thread did meanwhile: ``blending``,
        ``writing``.
    tissue_px, positive_px
        Pixels of tissue, and those of them that are DAB-positive.
    generated_px
        Pixels that the generator was given, overlaps and all.
    density
        Histogram of the optical density of DAB over the tissue.
    """

    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(
            (
                "reading",
                "looking",
                "generating",
                "waiting",
                "committing",
                "blending",
                "writing",
            ),
            0.0,
        )
    )
    tissue_px: int = 0
    positive_px: int = 0
    generated_px: int = 0
    density: np.ndarray = field(default_factory=lambda: np.zeros(DAB_BINS, np.int64))

    def count(self, density: np.ndarray, tissue: np.ndarray, positive: np.ndarray) -> None:
        """Count a block."""
        place = ((density[tissue] - DAB_LEAST) / DAB_STEP).astype(np.int32)
        np.clip(place, 0, DAB_BINS - 1, out=place)
        self.density += np.bincount(place, minlength=DAB_BINS)
        self.tissue_px += len(place)
        self.positive_px += int(np.count_nonzero(positive))

    def mean_density(self) -> float | None:
        """Return the mean density over the tissue."""
        if not self.tissue_px:
            return None
        return float(self.density @ _middles() / self.tissue_px)

    def density_above(self, share: float) -> float | None:
        """Return the density that a share of the tissue lies below."""
        if not self.tissue_px:
            return None
        reached = np.searchsorted(self.density.cumsum(), share * self.tissue_px)
        return float(_middles()[min(int(reached), DAB_BINS - 1)])


def _middles() -> np.ndarray:
    return DAB_LEAST + DAB_STEP * (np.arange(DAB_BINS) + 0.5)


def tally_of(folder: PartFolder) -> Tally:
    """Return the counts of an earlier attempt, or none."""
    tally = Tally()
    tally.seconds |= folder.state.get("seconds", {})
    for name in ("tissue_px", "positive_px", "generated_px"):
        setattr(tally, name, int(folder.state.get(name, 0)))
    return tally
