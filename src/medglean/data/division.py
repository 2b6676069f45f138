"""How the rows of a manifest are divided into what is learnt from, chosen on, and tested on."""

from __future__ import annotations

from typing import Self

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, model_validator

from medglean.data.manifest import Manifest
from medglean.data.splits import split_by_group, split_problems
from medglean.errors import Problem, SplitError


class SplitSettings(BaseModel):
    """How a manifest without a split is divided."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: float = Field(default=0.7, gt=0, le=1)
    """Share of the groups to learn from."""
    val: float = Field(default=0.1, ge=0, lt=1)
    """Share to choose the best epoch on."""
    test: float = Field(default=0.2, ge=0, lt=1)
    """Share that is looked at once, for the report."""
    group: str = "patient"
    """Column whose values stay on one side; `group`, then `id`, where it is absent."""
    stratify: str | None = "label"
    """Column whose shares are kept alike in all parts."""
    seed: int | None = None
    """Of the split alone; by default the run's seed."""
    anew: bool = False
    """Divide all images anew, whatever split stands in the manifest."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if abs(self.train + self.val + self.test - 1.0) > 1e-6:
            total = self.train + self.val + self.test
            raise ValueError(f"train + val + test must be 1, got {total:g}.")
        return self

    @property
    def fractions(self) -> dict[str, float]:
        """The parts that are not empty, with their shares."""
        parts = {"train": self.train, "val": self.val, "test": self.test}
        return {name: share for name, share in parts.items() if share > 0}


def divide(rows: Manifest, split: SplitSettings, *, seed: int, label: str) -> Manifest:
    """Divide the rows; a split that stands is kept, and validation taken from its training part.

    Parameters
    ----------
    rows
        To divide.
    split
        How.
    seed
        Where the settings name none.
    label
        Column that ``stratify = "label"`` means.

    Raises
    ------
    SplitError
        If the rows cannot be divided so.
    """
    seed = seed if split.seed is None else split.seed
    stratify = label if split.stratify == "label" else split.stratify
    parts = np.full(len(rows), "", dtype=object)
    if "split" in rows.frame and not split.anew:
        parts = rows.frame["split"].fillna("").to_numpy(dtype=object)
    inside = parts == "train"
    if (parts == "").any() or split.val == 0 or (parts == "val").any() or not inside.any():
        # parts that the preset does not deal out may stand in the manifest
        standing = dict.fromkeys(sorted(set(parts) - {""}), 0.0)
        return split_by_group(
            rows,
            fractions={**standing, **split.fractions},
            group=split.group,
            stratify=stratify,
            seed=seed,
            overwrite=split.anew,
        )
    both = split.train + split.val
    halved = split_by_group(
        rows.select(np.flatnonzero(inside)),
        fractions={"train": split.train / both, "val": split.val / both},
        group=split.group,
        stratify=stratify,
        seed=seed,
        overwrite=True,
    )
    parts[inside] = halved.frame["split"].to_numpy(dtype=object)
    return rows.with_columns(split=pd.Series(parts, dtype="str"))


def check_division(rows: Manifest, split: SplitSettings, *, label: str) -> list[Problem]:
    """Return what is uneven about a division.

    Raises
    ------
    SplitError
        If a group stands on two sides.
    """
    uneven = split_problems(rows, group=split.group, stratify=label)
    torn = [problem for problem in uneven if problem.kind == "group-on-two-sides"]
    if torn:
        more = f" ({len(torn) - 1} more such groups.)" if len(torn) > 1 else ""
        raise SplitError(f"{torn[0]}{more}")
    return uneven
