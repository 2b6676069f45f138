"""What the shortcut audit found, before it is told."""

from __future__ import annotations

from dataclasses import dataclass

from medglean.classify.shortcuts.baselines import Ground
from medglean.classify.shortcuts.compare import Beside
from medglean.classify.shortcuts.copies import Copies
from medglean.classify.shortcuts.hiding import Hidden
from medglean.classify.shortcuts.origin import Origin
from medglean.measure.intervals import Interval


@dataclass(frozen=True)
class CopyCheck:
    """Near duplicates across the split, and what they do to the network's number.

    Attributes
    ----------
    copies
        The pairs.
    images
        Judged images that have one.
    area
        The network's AUROC on all judged images.
    area_without
        The same without those images; None where there are none, or nothing else.
    """

    copies: Copies
    images: int
    area: Interval
    area_without: Interval | None


@dataclass(frozen=True)
class Audit:
    """The network beside its baselines.

    Attributes
    ----------
    network
        The network's own numbers.
    baselines
        In the order in which they are told.
    families
        Each family of metadata alone.
    ground
        What baselines learnt from and were measured on.
    hidden
        What was hidden.
    origin
        How class, source and picture hang together; None without a column of sources.
    copies
        None where what was learnt from is not at hand.
    """

    network: Beside
    baselines: tuple[Beside, ...]
    families: tuple[Beside, ...]
    ground: Ground
    hidden: Hidden
    origin: Origin | None
    copies: CopyCheck | None
