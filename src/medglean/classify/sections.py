"""The sections that every report of a classifier has, in the order in which one reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from medglean.classify.decided import decisions_part
from medglean.classify.parts import Judged, Part, joined
from medglean.classify.saliency import saliency_part
from medglean.classify.seeds import seeds_part
from medglean.classify.shortcuts.audit import shortcuts_part
from medglean.classify.subgroups import subgroups_part

Section = Callable[[Judged], Part]

SECTIONS: tuple[Section, ...] = (
    shortcuts_part,
    decisions_part,
    subgroups_part,
    seeds_part,
    saliency_part,
)


def sections_of(judged: Judged, *, further: Sequence[Part] = ()) -> Part:
    """Return all sections as one; ``further`` ones come first."""
    return joined([*further, *(section(judged) for section in SECTIONS)])
