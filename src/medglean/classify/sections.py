"""The sections that every report of a classifier has, in the order in which one reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from medglean.classify.parts import Judged, Part, joined
from medglean.classify.seeds import seeds_part

Section = Callable[[Judged], Part]

SECTIONS: tuple[Section, ...] = (seeds_part,)


def sections_of(judged: Judged, *, further: Sequence[Part] = ()) -> Part:
    """Return all sections as one; ``further`` ones come first."""
    return joined([*further, *(section(judged) for section in SECTIONS)])
