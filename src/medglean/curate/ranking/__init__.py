"""The paper's order: always the image least similar to all taken so far, exactly and fast."""

from medglean.curate.ranking.begin import uniform_start
from medglean.curate.ranking.farthest import (
    Algorithm,
    Rule,
    Work,
    rank_and_count,
    rank_farthest,
    rank_matrix,
)

__all__ = [
    "Algorithm",
    "Rule",
    "Work",
    "rank_and_count",
    "rank_farthest",
    "rank_matrix",
    "uniform_start",
]
