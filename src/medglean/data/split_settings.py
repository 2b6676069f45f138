"""Everything that a preset can say about how a manifest is divided."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from medglean.data.by_column import ColumnValues, plain_value

NONE = "none"
"""Of ``stratify``: no column. TOML has no word for it."""


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
    duplicates: Literal["ignore", "together"] = "ignore"
    """``together``: images that show the same picture, augmented copies included, and all of
    their patients, stay on one side, too. Every image is read once more for it."""
    stratify: str | tuple[str, ...] | None = "label"
    """Column whose shares are kept alike in all parts; or several, such as ``["label",
    "source"]``, of which those that the manifest lacks are left out and told; or ``none``."""
    column: str | None = None
    """Divide by the values of this column instead of at random, such as ``view``."""
    train_values: tuple[str, ...] = ()
    """Values of ``column`` to learn from; case and spaces do not matter. Rows with a value that
    no part names are left out and counted."""
    val_values: tuple[str, ...] = ()
    """Values to choose on; where there are none, ``val / (train + val)`` of what is learnt from
    is taken, by group."""
    test_values: tuple[str, ...] = ()
    """Values to test on."""
    across_groups: bool = False
    """Divide by ``column`` even where a patient then has images on both sides: told as a warning,
    for the test then measures memory, too."""
    seed: int | None = None
    """Of the split alone; by default the run's seed."""
    anew: bool = False
    """Divide all images anew, whatever split stands in the manifest."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if abs(self.train + self.val + self.test - 1.0) > 1e-6:
            total = self.train + self.val + self.test
            raise ValueError(f"train + val + test must be 1, got {total:g}.")
        if isinstance(self.stratify, tuple) and (not self.stratify or NONE in self.stratify):
            raise ValueError(
                "stratify lists no column, or 'none' among others; expected column names, or "
                "stratify = 'none' alone."
            )
        self._check_values()
        return self

    def _check_values(self) -> None:
        """Refuse values that say nothing or contradict one another."""
        if self.column is None:
            given = [f"{part}_values" for part, values in self.values.items() if values]
            if given or self.across_groups:
                raise ValueError(
                    f"{(given or ['across_groups'])[0]} is for a split by a column, and no column "
                    "is named. Set column, such as column = 'view', or leave it out."
                )
            return
        if self.column == "split":
            raise ValueError(
                "column is 'split': the split that stands in a manifest is kept anyway. Leave "
                "column out, or name another."
            )
        for part in ("train", "test"):
            if not self.values[part]:
                raise ValueError(
                    f"column is {self.column!r}, and {part}_values names none of its values. "
                    f"Name those that the {part} part is made of."
                )
        sides: dict[str, str] = {}
        for part, values in self.values.items():
            for value in values:
                other = sides.setdefault(plain_value(value), part)
                if other != part:
                    raise ValueError(
                        f"value {value!r} is in {other}_values and in {part}_values; expected in "
                        "one of them. Case and spaces do not tell values apart."
                    )

    @property
    def values(self) -> ColumnValues:
        """Values of ``column`` for each part."""
        return {"train": self.train_values, "val": self.val_values, "test": self.test_values}

    @property
    def fractions(self) -> dict[str, float]:
        """The parts that are not empty, with their shares."""
        parts = {"train": self.train, "val": self.val, "test": self.test}
        return {name: share for name, share in parts.items() if share > 0}

    def columns(self, label: str) -> tuple[str, ...]:
        """Return the columns to share out evenly; ``label`` is the one that "label" means."""
        if self.stratify is None or self.stratify == NONE:
            return ()
        names = (self.stratify,) if isinstance(self.stratify, str) else self.stratify
        return tuple(dict.fromkeys(label if name == "label" else name for name in names))
