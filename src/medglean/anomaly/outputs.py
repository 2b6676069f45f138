"""What a prediction writes: a map on the grid of each image, and one row that sums it up.

Two-dimensional images have ``maps/<id>.tiff`` with the values and ``maps/<id>.png`` to look at.
Slices of NIfTI volumes wait under ``parts/`` until all are there, and then make one
``maps/<volume>.nii.gz`` on the grid of the scan.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from medglean.anomaly.map_files import scale_for, threshold_of, tiff_bytes
from medglean.anomaly.mapping import map_images
from medglean.anomaly.model import Mapper
from medglean.anomaly.overlay import grey_of, overlay_png, plane_px
from medglean.anomaly.prepare import open_images
from medglean.anomaly.volume_maps import Key, Volume, VolumeMaps, plain_name
from medglean.anomaly.volumes import VOLUME, Place, place_of
from medglean.data.augment import to_float
from medglean.data.foreground import eroded, foreground_mask
from medglean.data.imageset import ImageSet
from medglean.data.manifest import Manifest
from medglean.data.readers import read
from medglean.data.resize import geometry
from medglean.data.restore import restore
from medglean.errors import DataError, Problem
from medglean.measure.map_values import top_means
from medglean.runs.names import safe_names
from medglean.runs.rundir import RunFolder

MAPS = "maps"
_CUT = "The rim was cut off by images.resize or images.centre_crop, and not looked at."
_BLANK = "Nothing but background: no score."


class MapWriter:
    """Maps images and writes their maps.

    Every file is written whole or not at all, and has the same content when it is written again, so
    that a prediction can be killed at any moment and taken up.

    Parameters
    ----------
    run
        To write into.
    mapper
        On its device.
    slices
        All rows, as `medglean.anomaly.volumes.slices_of` returns them: names are chosen so that no
        two images share a file.
    workers
        Images decoded at the same time.
    """

    def __init__(self, run: RunFolder, mapper: Mapper, slices: Manifest, *, workers: int) -> None:
        self.run, self.mapper, self.workers = run, mapper, workers
        self._column = _grid_column(slices, mapper)
        self._expanded = VOLUME in slices.frame
        found = zip(slices.ids, map(_place, slices.frame[self._column]), strict=True)
        self._places = {one: place for one, place in found if place is not None}
        flat = [one for one in slices.ids if one not in self._places]
        volumes = self._named_volumes(slices)
        names = safe_names([*flat, *volumes.values()], [*flat, *map(str, volumes)])
        self._flat = dict(zip(flat, names, strict=False))
        files = (f"{MAPS}/{name}.nii.gz" for name in names[len(flat) :])
        of = {
            key: Volume(slices.root / key[0].path, file, key[1])
            for key, file in zip(volumes, files, strict=True)
        }
        for place in self._places.values():
            of[place[:2]].numbers.add(place.number)
        self._volumes = VolumeMaps(run, mapper.preset.images, of)

    def _named_volumes(self, slices: Manifest) -> dict[Key, str]:
        """Return each volume with the id that it had in the manifest, or else its file's name."""
        owners = slices.frame[VOLUME] if self._expanded else [None] * len(slices)
        names: dict[Key, str] = {}
        for one, owner in zip(slices.ids, owners, strict=True):
            if one in self._places:
                key = self._places[one][:2]
                names.setdefault(key, owner if isinstance(owner, str) else plain_name(key))
        return names

    def write(self, part: Manifest) -> tuple[pd.DataFrame, list[Problem]]:
        """Map the images of some rows and write what is complete.

        Returns
        -------
        tuple
            A table with one row for each image that has a map: ``id``, ``image``; ``score``, the
            mean of the highest hundredth of the map inside the foreground; ``map.mean``,
            ``map.max``; ``map.area``, the share of the foreground at or above the threshold
            measured on healthy images, where there is one; ``map.file``; ``warnings``. And what was
            wrong with the others. A slice without foreground has no score (NaN).
        """
        images = open_images(part, self.mapper.preset, cache=None, workers=self.workers)
        rows = images.positions(labelled=False)
        pictures = to_float(np.ascontiguousarray(images.stored[rows]))
        ids = [images.ids[row] for row in rows]
        mapped = map_images(self.mapper, pictures, ids=ids, seed=self.mapper.preset.fit.seed)
        row_of = dict(zip(ids, rows.tolist(), strict=True))
        problems = [*images.failures, *images.warnings]
        problems += [replace(one, row=row_of[one.file] + 2) for one in mapped.problems]
        good = np.isfinite(mapped.maps).all(axis=(1, 2))
        rows, maps = rows[good], mapped.maps[good]
        table = self._summary(part, rows, pictures[good], maps)
        shapes, lost = self._write_maps(part, rows, maps, table["score"].tolist())
        table["warnings"] = self._warnings(images, rows, table["score"].tolist(), shapes)
        kept = [shape is not None for shape in shapes]
        return table[kept].reset_index(drop=True), self._gathered(part, problems + lost)

    def join_volumes(self, table: pd.DataFrame) -> list[Problem]:
        """Write the maps of volumes, once all their slices are mapped.

        A slice without a map, because it failed or is not in the manifest, is 0, and so is what a
        crop cut off. What is written already is left, so that this can be called again.

        Parameters
        ----------
        table
            All rows, of all parts.

        Returns
        -------
        list
            One problem for each volume with slices that failed.
        """
        return self._volumes.join([self._places[i] for i in table["id"] if i in self._places])

    def _summary(
        self, part: Manifest, rows: np.ndarray, pictures: np.ndarray, maps: np.ndarray
    ) -> pd.DataFrame:
        """Return the table but for its warnings, with paths of files that are written after it."""
        settings = self.mapper.preset
        share = max(settings.map.erode, settings.threshold.erode)  # as where runs are measured
        inside = eroded(foreground_mask(pictures), share=share)
        ids = [part.ids[row] for row in rows]
        table: dict[str, object] = {
            "id": ids,
            "image": part.frame[self._column].iloc[rows].astype(str).tolist(),
            "score": top_means(maps, within=inside),
            "map.mean": maps.mean(axis=(1, 2)),
            "map.max": maps.max(axis=(1, 2), initial=0.0),
        }
        threshold = threshold_of(self.mapper)
        if threshold is not None:
            counted = inside.sum(axis=(1, 2))
            above = ((maps >= threshold) & inside).sum(axis=(1, 2))
            table["map.area"] = np.where(counted > 0, above / np.maximum(counted, 1), np.nan)
        table["map.file"] = [self._file_of(one) for one in ids]
        return pd.DataFrame(table)

    def _file_of(self, id: str) -> str:
        if id in self._places:
            return self._volumes.file_of(self._places[id])
        return f"{MAPS}/{self._flat[id]}.tiff"

    def _write_maps(
        self, part: Manifest, rows: np.ndarray, maps: np.ndarray, scores: Sequence[float]
    ) -> tuple[list[tuple[int, int] | None], list[Problem]]:
        """Write files of two-dimensional images and put slices aside.

        Returns
        -------
        tuple
            The shape of each image as it was read, None for one that could not be written, and why.
        """
        shapes: list[tuple[int, int] | None] = []
        aside: dict[Place, np.ndarray] = {}
        problems = []
        for row, values, score in zip(rows.tolist(), maps, scores, strict=True):
            name = part.ids[row]
            if name in self._places:
                aside[self._places[name]] = values
                shapes.append(self._volumes.shape_of(self._places[name]))
                continue
            try:
                shapes.append(self._write_flat(part, row, values, score))
            except DataError as error:  # it was read a moment ago: the file went away
                told = Problem(name, str(error), "", row=row + 2, kind="map-not-written")
                problems.append(told)
                shapes.append(None)
        self._volumes.put_aside(aside)
        return shapes, problems

    def _write_flat(
        self, part: Manifest, row: int, values: np.ndarray, score: float
    ) -> tuple[int, int]:
        """Write the two files of an image, and return its shape."""
        recipe, name = self.mapper.preset.images, part.ids[row]
        picture = read(str(part.frame[self._column].iloc[row]), root=part.root)
        shape = plane_px(picture)
        own = restore(values, shape, recipe)
        channel = None if isinstance(recipe.channels, str) else _shown(recipe.channels)
        png = overlay_png(
            grey_of(picture, recipe, channel=channel),
            own,
            scale_for(self.mapper, values),
            heading=f"{name}: map over the image, score {score:.3g}",
        )
        self.run.write(f"{MAPS}/{self._flat[name]}.png", png)
        self.run.write(f"{MAPS}/{self._flat[name]}.tiff", tiff_bytes(own, self.mapper, id=name))
        return shape

    def _warnings(
        self,
        images: ImageSet,
        rows: np.ndarray,
        scores: Sequence[float],
        shapes: Sequence[tuple[int, int] | None],
    ) -> list[str]:
        """Return what to know about each image, in one text."""
        told: dict[int | None, list[str]] = defaultdict(list)
        for problem in images.warnings:
            told[problem.row].append(problem.found)
        texts = []
        for row, score, shape in zip(rows.tolist(), scores, shapes, strict=True):
            cut = shape is not None and self._is_cut(shape)
            blank = not np.isfinite(score)
            texts.append(" ".join(told[row + 2] + [_CUT] * cut + [_BLANK] * blank))
        return texts

    def _is_cut(self, shape: tuple[int, int]) -> bool:
        recipe = self.mapper.preset.images
        how, crop = recipe.resize, recipe.centre_crop
        return geometry(shape, recipe.size_px, how=how, centre_crop=crop).kept != shape

    def _gathered(self, part: Manifest, problems: Iterable[Problem]) -> list[Problem]:
        """Tell once for a volume what is wrong with many of its slices."""
        groups: dict[tuple, list[Problem]] = {}
        for number, one in enumerate(problems):
            place = None if one.row is None else self._places.get(part.ids[one.row - 2])
            whose = number if place is None else place[:2]
            groups.setdefault((whose, one.kind, one.found), []).append(one)
        told = []
        for first, *others in groups.values():
            found = first.found
            if others:
                found += f" The same in {len(others)} more slices of this volume."
            row = None if self._expanded else first.row  # of another table than the user's
            told.append(replace(first, found=found, row=row))
        return told


def _grid_column(slices: Manifest, mapper: Mapper) -> str:
    """Return the column with the image on whose grid a map is brought and shown."""
    columns, channels = slices.image_columns, mapper.preset.images.channels
    if columns == ["image"] or isinstance(channels, str):
        return columns[0]
    wanted = f"image.{_shown(channels)}"
    return wanted if wanted in columns else columns[0]  # what is missing is told when decoding


def _shown(channels: Sequence[str]) -> str:
    return "flair" if "flair" in channels else channels[0]


def _place(reference: object) -> Place | None:
    return place_of(reference) if isinstance(reference, str) else None
