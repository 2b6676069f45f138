"""The lists that a curation writes beside its report; each is readable without medglean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from medglean.curate import tables
from medglean.curate.curation import ZERO, Curation
from medglean.errors import Problem
from medglean.runs.rundir import RunFolder


def write_lists(
    run: RunFolder, curation: Curation, problems: Sequence[Problem], *, counted: int | None = None
) -> None:
    """Write ``selected.csv`` and what stands beside it.

    Parameters
    ----------
    run
        Gets ``selected.csv``, ``order.csv``, ``dropped.csv``, ``duplicates.csv``,
        ``outliers.csv``, ``redundancy.json`` and ``problems.csv``.
    curation
        What was found.
    problems
        Images that could not be read or embedded, and why.
    counted
        How many random images the redundancy was counted on, where not on all.
    """
    manifest, selection = curation.manifest, curation.selection
    chosen = selection.chosen
    tables.selected(
        manifest,
        selection.ranking.first(len(chosen)),
        method=selection.method,
        preselected=selection.taken.tolist(),
    ).write(run.path / "selected.csv")
    tables.order(manifest, selection.ranking).write(run.path / "order.csv")
    dropped = tables.dropped(
        manifest,
        np.concatenate([chosen, selection.taken]),
        nearest=curation.nearest,
        similarity=curation.similarity,
        set_aside=curation.set_aside,
    )
    run.write("dropped.csv", tables.csv_text(dropped))
    pairs = tables.duplicates(
        manifest, curation.pairs, leaks=curation.leaks, conflicts=curation.conflicts, chosen=chosen
    )
    run.write("duplicates.csv", tables.csv_text(pairs))
    run.write("outliers.csv", tables.csv_text(_outliers(curation)))
    record = tables.redundancy_record(curation.redundancy)
    run.write_json(
        "redundancy.json", record if counted is None else {**record, "random_images": counted}
    )
    run.write_problems([*problems, *selection.warnings])


def _outliers(curation: Curation) -> pd.DataFrame:
    """Return what was set aside: rows of zeros, then the gate's list."""
    zero, gated = curation.selection.set_aside, curation.selection.outliers
    positions, score, reason = zero, np.full(len(zero), np.nan), [ZERO] * len(zero)
    if gated is not None:
        positions = np.concatenate([positions, gated.position])
        score = np.concatenate([score, gated.score])
        reason += gated.reason
    return tables.outliers(curation.manifest, positions, score=score, reason=reason)
