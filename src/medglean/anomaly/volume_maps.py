"""Maps of volumes: slices wait until all are there, and then make one file."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Float

from medglean.anomaly.nifti_maps import join, nifti_bytes
from medglean.anomaly.volumes import Place
from medglean.data.readers import Header, probe
from medglean.data.recipe import Recipe
from medglean.data.reference import ImageReference
from medglean.data.restore import restore
from medglean.errors import Problem
from medglean.runs.rundir import RunFolder

PARTS = "parts/maps"
"""Where maps of slices wait; removed with the other parts."""
_SHOWN = 8

Key = tuple[ImageReference, int]
"""A file, or one of the volumes in it, and the axis across which slices are taken."""


def plain_name(key: Key) -> str:
    """Return the name of a volume's file without its suffixes."""
    return PurePosixPath(key[0].path).name.partition(".")[0]


@dataclass
class Volume:
    """A volume of which slices are mapped along one axis.

    Attributes
    ----------
    source
        Its file.
    file
        Where its map goes, in the run; unique.
    axis
        0 R, 1 A, 2 S.
    numbers
        The slices that are in the manifest.
    """

    source: Path
    file: str
    axis: int
    numbers: set[int] = field(default_factory=set)


class VolumeMaps:
    """Keeps the maps of slices and joins them.

    Parameters
    ----------
    run
        To write into.
    recipe
        What prepared the slices.
    volumes
        All that there will be.
    """

    def __init__(self, run: RunFolder, recipe: Recipe, volumes: Mapping[Key, Volume]) -> None:
        self.run, self.recipe, self.volumes = run, recipe, volumes
        self._headers: dict[Path, Header] = {}

    def file_of(self, place: Place) -> str:
        """Return the file in which the map of a slice will be."""
        return self.volumes[place[:2]].file

    def shape_of(self, place: Place) -> tuple[int, int]:
        """Return the shape of a slice as it is read."""
        volume = self.volumes[place[:2]]
        return _across(self._header(volume.source), volume.axis)

    def put_aside(self, maps: Mapping[Place, Float[np.ndarray, "h w"]]) -> None:
        """Keep maps of slices, on the grid of the networks."""
        of: dict[Key, dict[int, np.ndarray]] = defaultdict(dict)
        for place, values in maps.items():
            of[place[:2]][place.number] = values
        for key, slices in of.items():
            numbers, into = sorted(slices), io.BytesIO()
            stack = np.stack([slices[number] for number in numbers])
            np.savez_compressed(into, numbers=np.array(numbers), maps=stack)
            name = f"{PARTS}/{self.volumes[key].file}/{numbers[0]:06d}.npz"
            self.run.write(name, into.getvalue())

    def join(self, mapped: Sequence[Place]) -> list[Problem]:
        """Write the map of each volume that is not written yet; tell which slices it lacks.

        Parameters
        ----------
        mapped
            The slices that have a map, all put aside.
        """
        there: dict[Key, set[int]] = defaultdict(set)
        for place in mapped:
            there[place[:2]].add(place.number)
        problems = []
        for key, volume in self.volumes.items():
            problems += _lacking(volume, there[key])
            # one that is there is whole: it was written when all its slices were
            if there[key] and not (self.run.path / volume.file).is_file():
                self.run.write(volume.file, self._joined(volume, there[key]))
        return problems

    def _joined(self, volume: Volume, numbers: set[int]) -> bytes:
        header = self._header(volume.source)
        shape, found = _across(header, volume.axis), {}
        for file in sorted((self.run.path / PARTS / volume.file).glob("*.npz")):
            with np.load(file) as kept:
                for number, values in zip(kept["numbers"].tolist(), kept["maps"], strict=True):
                    if number in numbers:
                        found[number] = restore(values, shape, self.recipe)
        return nifti_bytes(join(found, header, axis=volume.axis), volume.source)

    def _header(self, file: Path) -> Header:
        if file not in self._headers:
            self._headers[file] = probe(file)
        return self._headers[file]


def _across(header: Header, axis: int) -> tuple[int, int]:
    """Return the shape of a slice across an axis."""
    first, second = np.delete(header.extra["ras_shape"][:3], axis).tolist()
    return first, second


def _lacking(volume: Volume, there: set[int]) -> list[Problem]:
    lost = sorted(volume.numbers - there)
    if not lost:
        return []
    shown = ", ".join(map(str, lost[:_SHOWN])) + (", ..." if len(lost) > _SHOWN else "")
    found = f"{len(lost)} of {len(volume.numbers)} slices have no map ({shown})"
    if there:
        told = f"{found}; there this file is 0."
        return [Problem(volume.file, told, "", kind="slices-without-map", fatal=False)]
    return [Problem(volume.file, f"{found}; there is no such file.", "", kind="slices-without-map")]
