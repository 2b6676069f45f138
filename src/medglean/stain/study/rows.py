"""The rows of the study's table: what each method is, and which networks it needs."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from medglean.errors import PresetError
from medglean.files import sha256_of_json
from medglean.runs.preset import changed
from medglean.runs.rundir import RunFolder
from medglean.stain.levels import JUDGE, LEVEL
from medglean.stain.likeness import why_not
from medglean.stain.model import Stainer, make_stainer
from medglean.stain.networks import networks_of
from medglean.stain.pairs import Chosen, Pairs
from medglean.stain.settings import StainPreset
from medglean.stain.study.folds import Fold
from medglean.stain.training import fit_network, trained_by

MEAN_COLOUR = "Mean colour"
"""The row that every study has, under this name or another."""
SAME = ("images", "split", "measure")
"""Tables that all rows share: they say which pairs are measured, and how."""
COST = "cost.json"


@dataclass(frozen=True)
class Row:
    """A method of the table.

    Attributes
    ----------
    name
        As the table says it.
    preset
        The study's, with what the row changes.
    """

    name: str
    preset: StainPreset

    @property
    def slug(self) -> str:
        """The name as a file's."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.casefold()).strip("-") or "row"

    @property
    def networks(self) -> tuple[str, ...]:
        """The networks that are trained for it, in order; the judge also where nothing learns."""
        names = networks_of(self.preset)
        judged = self.preset.measure.judge and JUDGE not in names
        return (JUDGE, *names) if judged else names


@dataclass(frozen=True)
class Cost:
    """What the training of some networks took.

    Attributes
    ----------
    cpu_seconds
        Of the processor. Where a training was interrupted it is estimated from its last sitting.
    steps, weights
        Of the optimiser; and numbers that are learnt.
    """

    cpu_seconds: float
    steps: int
    weights: int


def rows_of_study(preset: StainPreset) -> list[Row]:
    """Return the rows that the preset asks for; the mean colour is always among them.

    Raises
    ------
    PresetError
        If a row changes what all must share, or two have the same file's name.
    """
    rows = []
    for name, overrides in preset.study.methods.items():
        row = Row(name, changed(preset, overrides))
        for table in SAME:
            if getattr(row.preset, table) != getattr(preset, table):
                raise PresetError(
                    f"study.methods, {name!r}: changes {table}, but all rows are measured alike "
                    "on the same pairs. Make it a study of its own."
                )
        for table, key in (("level", "names"), ("white", "percentile")):
            if getattr(getattr(row.preset, table), key) != getattr(getattr(preset, table), key):
                raise PresetError(
                    f"study.methods, {name!r}: changes {table}.{key}, which all rows share. Make "
                    "it a study of its own."
                )
        rows.append(row)
    if not any(row.preset.method == "mean-colour" for row in rows):
        rows.append(Row(MEAN_COLOUR, changed(preset, ["method=mean-colour"])))
    slugs = [row.slug for row in rows]
    double = sorted({slug for slug in slugs if slugs.count(slug) > 1})
    if double:
        raise PresetError(f"study.methods: two names become {double[0]!r}. Rename one.")
    return rows


def network_key(name: str, preset: StainPreset) -> str:
    """Return the folder's name of a network, the same for all rows that share it."""
    return f"{name}-{trained_by(name, preset)[:8]}"


def cell_key(row: Row, fold: Fold, pairs: Pairs) -> str:
    """Return a hash of all that decides a row's numbers in a fold."""
    tables = {"method", "white", "measure", "images", "level"}
    settings = row.preset.model_dump(mode="json", include=tables)
    settings["measure"].pop("perceptual_weights")  # a folder may move
    return sha256_of_json(
        {
            "preset": settings,
            "left out": sorted(why_not(row.preset)),
            "seed": row.preset.fit.seed,
            "precision": row.preset.predict.precision,
            "networks": [trained_by(name, row.preset) for name in row.networks],
            "pairs": pairs.cache_hash,
            "train": [pairs.images.ids[place] for place in fold.train],
            "test": [pairs.images.ids[place] for place in fold.test],
        }
    )[:12]


class Trainer:
    """Trains what the rows of one fold need: each network once, and none that nobody needs.

    Parameters
    ----------
    run
        The study's, open for writing; networks are in ``networks/FOLD``.
    pairs, chosen
        All pairs.
    fold
        Whose training rows are learnt from; the fold ``split`` is watched on the validation part.
    rows
        Those whose numbers are missing, in the order in which they are asked for.
    keep
        Whether trained networks stay on disk after the last row that needs them.
    """

    def __init__(
        self,
        run: RunFolder,
        pairs: Pairs,
        chosen: Chosen,
        fold: Fold,
        rows: Sequence[Row],
        *,
        keep: bool,
    ) -> None:
        self.run, self.pairs, self.chosen, self.fold = run, pairs, chosen, fold
        self.waiting, self.keep = list(rows), keep
        self._networks: dict[str, tuple[nn.Module, Cost]] = {}

    def of(self, row: Row) -> tuple[Stainer, Cost]:
        """Return a row's stainer, its networks trained, and what it costs to train it alone.

        The judge's training is not counted: it takes no part in making images.
        """
        own = replace(self.pairs, white=row.preset.white)
        networks: dict[str, nn.Module] = {}
        costs: list[Cost] = []
        for name in row.networks:
            networks[name], cost = self._network(name, row.preset, own, networks.get(LEVEL))
            costs += [] if name == JUDGE else [cost]
        total = Cost(
            sum(cost.cpu_seconds for cost in costs),
            sum(cost.steps for cost in costs),
            sum(cost.weights for cost in costs),
        )
        return make_stainer(networks, row.preset, own, rows=self.fold.train), total

    def done(self, row: Row) -> None:
        """Forget the networks that no row still needs."""
        self.waiting = [one for one in self.waiting if one.name != row.name]
        needed = {network_key(n, one.preset) for one in self.waiting for n in one.networks}
        for key in [key for key in self._networks if key not in needed]:
            del self._networks[key]
            if not self.keep:
                shutil.rmtree(self._folder(key), ignore_errors=True)
        if not self.waiting and not self.keep:
            shutil.rmtree(self._folder(""), ignore_errors=True)

    def _folder(self, key: str) -> Path:
        return self.run.path / "networks" / self.fold.name / key

    def _network(
        self, name: str, preset: StainPreset, pairs: Pairs, level: nn.Module | None
    ) -> tuple[nn.Module, Cost]:
        key = network_key(name, preset)
        if key not in self._networks:
            folder = self._folder(key)
            cpu, clock = _cpu_seconds(), time.monotonic()
            network, result = fit_network(
                name,
                self.run,
                pairs,
                self.chosen,
                preset,
                level=level if preset.generator.level_features else None,
                folder=folder,
                rows=None if self.fold.name == "split" else self.fold.train,
            )
            cpu, clock = _cpu_seconds() - cpu, time.monotonic() - clock
            # what an earlier sitting took is known by the clock alone
            spent = cpu * max(1.0, result.seconds / max(clock, 1e-9))
            weights = sum(weight.numel() for weight in network.parameters())
            cost = _kept(self.run, folder, Cost(spent, result.steps, weights))
            self._networks[key] = network, cost
        return self._networks[key]


def _kept(run: RunFolder, folder: Path, cost: Cost) -> Cost:
    """Write what a training took, or read it where the network was only read again."""
    name = str((folder / COST).relative_to(run.path))
    if (folder / COST).is_file():
        known: Mapping[str, float] = run.read_json(name)
        return Cost(float(known["cpu_seconds"]), int(known["steps"]), int(known["weights"]))
    run.write_json(name, vars(cost))
    return cost


def _cpu_seconds() -> float:
    """Return the processor time of this process and of those that it started and that ended."""
    return sum(os.times()[:4])
