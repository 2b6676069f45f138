"""A study as it lies on disk, so that whoever trains one of its cells needs only its folder.

::

    preset.toml       the study's settings
    manifest.parquet  its images, divided
    plan.json         where decoded images are kept, and the like
    cells/NAME/       a training run like any other
    cells/NAME.json   what came of it; written last
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medglean.classify.prepare import Chosen, choose
from medglean.classify.study.cells import cells_of_study, kept_split, manifest_of
from medglean.classify.study.rows import Cell
from medglean.classify.study.settings import CxrStudyPreset
from medglean.data.manifest import Manifest
from medglean.runs.preset import load_preset
from medglean.runs.rundir import RunFolder

MANIFEST, PLAN, CELLS = "manifest.parquet", "plan.json", "cells"


@dataclass(frozen=True)
class Plan:
    """What a study trains, and from what.

    Attributes
    ----------
    folder
        Of the study.
    preset
        Of the study.
    chosen
        Its images, divided.
    cells
        Of all tables; those of one training share their name.
    cache
        Folder of decoded images, absolute.
    workers
        Images decoded at the same time.
    command
        The command line, for the record.
    """

    folder: Path
    preset: CxrStudyPreset
    chosen: Chosen
    cells: tuple[Cell, ...]
    cache: Path
    workers: int
    command: tuple[str, ...]

    def folder_of(self, cell: Cell) -> Path:
        """Return the run folder of a cell."""
        return self.folder / CELLS / cell.name

    def manifest_of(self, cell: Cell) -> Manifest:
        """Return the images that a cell is given."""
        return manifest_of(
            cell, self.chosen, group=self.preset.split.group, seed=self.preset.fit.seed
        )

    def chosen_of(self, cell: Cell) -> Chosen:
        """Return the rows and classes that a cell trains and tests on."""
        return choose(self.manifest_of(cell), cell.preset)


def write_plan(
    run: RunFolder, chosen: Chosen, *, cache: Path, workers: int, command: Sequence[str]
) -> None:
    """Write what `read_plan` reads besides the preset, which the run has written."""
    chosen.manifest.write(run.path / MANIFEST)
    run.write_json(
        PLAN, {"cache": str(cache.absolute()), "workers": workers, "command": list(command)}
    )


def read_plan(folder: Path) -> Plan:
    """Read a study from its folder.

    Raises
    ------
    RunFolderError
        If it is not a study's folder.
    """
    run = RunFolder.open(folder)
    stored = run.read_json(PLAN)
    preset = load_preset(run.preset_path, CxrStudyPreset)
    chosen = choose(Manifest.read(folder / MANIFEST), kept_split(preset))
    return Plan(
        folder=folder,
        preset=preset,
        chosen=chosen,
        cells=tuple(cells_of_study(preset, chosen)),
        cache=Path(stored["cache"]),
        workers=int(stored["workers"]),
        command=tuple(stored["command"]),
    )
