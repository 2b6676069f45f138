"""The rows of the study's table: what each method is, which networks it needs, and its maps.

A row is a cell of work: its maps are written when they are made, and a study that was stopped goes
on with the next. Networks are trained once for all rows that need the same, counterparts made once
for all rows that differ only in what is done with them.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import nn

from medglean.anomaly.mapping import Mapped, map_counterparts, map_images, shared_counterparts
from medglean.anomaly.model import Mapper, make_mapper
from medglean.anomaly.networks import networks_of
from medglean.anomaly.prepare import Chosen
from medglean.anomaly.settings import AnomalyPreset
from medglean.anomaly.training import fit_network, trained_by
from medglean.data.cache import Progress
from medglean.data.imageset import ImageSet
from medglean.errors import PresetError, Problem
from medglean.files import sha256_of_json
from medglean.fitting import FitResult
from medglean.runs.preset import changed
from medglean.runs.rundir import RunFolder

Networks = Mapping[str, tuple[nn.Module, FitResult]]
"""Trained networks by :func:`network_key`."""


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
    preset: AnomalyPreset

    @property
    def slug(self) -> str:
        """The name as a file's."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.casefold()).strip("-") or "row"


def rows_of_study(preset: AnomalyPreset) -> list[Row]:
    """Return the rows that the preset asks for.

    Raises
    ------
    PresetError
        If a row changes what decides which images are whose, or two have the same file's name.
    """
    rows = []
    for name, overrides in preset.study.methods.items():
        row = Row(name, changed(preset, overrides))
        for table in ("images", "labels", "split"):
            if getattr(row.preset, table) != getattr(preset, table):
                raise PresetError(
                    f"study.methods, {name!r}: changes {table}, but all rows are of the same "
                    "images. Make it a study of its own."
                )
        rows.append(row)
    slugs = [row.slug for row in rows]
    double = sorted({slug for slug in slugs if slugs.count(slug) > 1})
    if double:
        raise PresetError(f"study.methods: two names become {double[0]!r}. Rename one.")
    return rows


def network_key(name: str, preset: AnomalyPreset) -> str:
    """Return the folder's name of a network, the same for all rows that share it."""
    return f"{name}-{trained_by(name, preset)[:8]}"


def train_all(run: RunFolder, images: ImageSet, chosen: Chosen, rows: list[Row]) -> Networks:
    """Train every network that any row needs, going on from what the run has."""
    trained: dict[str, tuple[nn.Module, FitResult]] = {}
    for row in rows:
        for name in networks_of(row.preset):
            key = network_key(name, row.preset)
            if key not in trained:
                trained[key] = fit_network(
                    name, run, images, chosen, row.preset, folder=run.path / "networks" / key
                )
    return trained


def mapper_of(row: Row, networks: Networks, chosen: Chosen) -> Mapper:
    """Return what makes a row's maps."""
    own = {name: networks[network_key(name, row.preset)][0] for name in networks_of(row.preset)}
    return make_mapper(own, row.preset, healthy=chosen.healthy, diseased=chosen.diseased)


@dataclass(frozen=True)
class Cell:
    """A row's maps of the test images, with what they cost.

    Attributes
    ----------
    mapped
        As `medglean.anomaly.mapping.map_images` returns them.
    cpu_seconds
        Of the process, per image, translation included wherever it was made.
    """

    mapped: Mapped
    cpu_seconds: float


class Cells:
    """The maps of a study on disk, one file per row and one per set of counterparts."""

    def __init__(self, run: RunFolder, images: np.ndarray, ids: tuple[str, ...]) -> None:
        self.run, self.images, self.ids = run, images, ids

    def of(self, row: Row, mapper: Mapper, *, progress: Progress | None = None) -> Cell:
        """Return a row's maps, made or read."""
        made = self.run.path / "cells" / f"{row.slug}-{_key(mapper, self.ids)}.npz"
        if made.is_file():
            return _read(made)
        cell = self._make(mapper, progress)
        _write(self.run, made, cell)
        return cell

    def _make(self, mapper: Mapper, progress: Progress | None) -> Cell:
        seed = mapper.preset.fit.seed
        if not shared_counterparts(mapper.preset):
            before = time.process_time()
            mapped = map_images(mapper, self.images, ids=self.ids, seed=seed, progress=progress)
            return Cell(mapped, (time.process_time() - before) / len(self.images))
        plain = _plain(mapper)
        name = f"counterparts-{_key(plain, self.ids)}.npz"
        made = self.run.path / "cells" / name
        if not made.is_file():
            before = time.process_time()
            found = map_images(plain, self.images, ids=self.ids, seed=seed, progress=progress)
            spent = (time.process_time() - before) / len(self.images)
            _write(self.run, made, Cell(found, spent))
        base = _read(made)
        before = time.process_time()
        mapped = map_counterparts(mapper, self.images, base.mapped, ids=self.ids)
        more = (time.process_time() - before) / len(self.images)
        return Cell(mapped, base.cpu_seconds + more)


def _plain(mapper: Mapper) -> Mapper:
    """Return the mapper without all that is done after the counterparts."""
    preset = mapper.preset
    bare = preset.model_copy(update={"map": type(preset.map)(), "combine": "none"})
    return replace(mapper.with_preset(bare), scales={}, thresholds={})


def calibration_key(mapper: Mapper) -> str:
    """Return a hash of what decides a mapper's scales and thresholds, its networks among it."""
    return _key(replace(mapper, scales={}, thresholds={}), ())


def _key(mapper: Mapper, ids: tuple[str, ...]) -> str:
    """Return a hash of all that decides a mapper's maps of some images."""
    tables = {"method", "combine", "combine_weight", "translate", "map", "threshold", "images"}
    return sha256_of_json(
        {
            "preset": mapper.preset.model_dump(mode="json", include=tables),
            "weights": mapper.weights_sha256,
            "scales": dict(mapper.scales),
            "ids": list(ids),
        }
    )[:12]


def _write(run: RunFolder, file: Path, cell: Cell) -> None:
    arrays: dict[str, np.ndarray] = {
        "maps": cell.mapped.maps,
        "evaluations": np.array(cell.mapped.evaluations),
        "cpu_seconds": np.array(cell.cpu_seconds),
    }
    if cell.mapped.rebuilt is not None:
        arrays["rebuilt"] = cell.mapped.rebuilt
    data = io.BytesIO()
    np.savez(data, **arrays)  # type: ignore[arg-type]  # numpy's stub wants a bool among them
    told = [problem.to_row() for problem in cell.mapped.problems]
    run.write_json(str(file.with_suffix(".json").relative_to(run.path)), told)
    run.write(str(file.relative_to(run.path)), data.getvalue())


def _read(file: Path) -> Cell:
    import json

    problems = tuple(
        Problem(**entry) for entry in json.loads(file.with_suffix(".json").read_text())
    )
    with np.load(file, allow_pickle=False) as stored:
        rebuilt = stored.get("rebuilt")
        mapped = Mapped(stored["maps"], rebuilt, int(stored["evaluations"]), problems)
        return Cell(mapped, float(stored["cpu_seconds"]))
