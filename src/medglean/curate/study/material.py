"""Images, classes and masks of a study, as every cell needs them and as processes share them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from medglean.curate.study.settings import EnrichStudyPreset, LabelSettings, UNetSettings
from medglean.data.cache import Progress
from medglean.data.fetch import Fetch
from medglean.data.imageset import ImageSet
from medglean.data.labels import NOT_LABELLED, class_targets
from medglean.data.manifest import Manifest
from medglean.data.masks import prepared_mask
from medglean.data.recipe import Recipe
from medglean.errors import DataError, Problem
from medglean.files import atomic_writer

REST = "the rest"


@dataclass(frozen=True)
class Material:
    """What cells learn from. Travels to other processes without copying images kept in files.

    Attributes
    ----------
    images
        Holds the prepared images, shape (n, c, h, w), and the class of each, -1 where unknown.
    classes
        Names of the classes; with ``positive``, the positive one last. Empty for masks.
    patients
        To whom each row belongs, shape (n,).
    masks
        Holds the masks, bool of shape (n, s, h, w); None for classes.
    structures
        Names of the structures.
    """

    images: Fetch
    classes: tuple[str, ...]
    patients: np.ndarray
    masks: Fetch | None = None
    structures: tuple[str, ...] = ()

    @property
    def targets(self) -> Int[np.ndarray, " n"]:
        """Class number of each row."""
        return np.asarray(self.images.targets)

    def masks_of(self, rows: Int[np.ndarray, " m"]) -> Bool[np.ndarray, "m s h w"]:
        """Return the masks of some rows.

        Raises
        ------
        DataError
            If the study is of classes.
        """
        if self.masks is None:
            raise DataError("this study has no masks: set learner.name=unet.")
        return np.asarray(self.masks.stored[rows])


def usable_rows(
    manifest: Manifest, preset: EnrichStudyPreset
) -> tuple[Manifest, tuple[str, ...], list[Problem]]:
    """Return the rows that a study can use, its classes, and what was left out.

    Raises
    ------
    DataError
        If the column is missing, or there are fewer than two classes.
    """
    name = str(manifest.path or "the manifest")
    if preset.learner.is_segmentation:
        if "mask" not in manifest.frame or not manifest.frame["mask"].notna().any():
            raise DataError(
                f"{name}: learner 'unet' needs a column 'mask' with at least one mask. Index again "
                "with --column mask=COLUMN, or choose another learner.name."
            )
        return manifest, (), []
    labels = preset.labels
    if labels.column not in manifest.frame:
        raise DataError(
            f"{name}: there is no column {labels.column!r} to learn from. Set labels.column to one "
            f"of {', '.join(map(str, manifest.frame.columns))}."
        )
    texts = manifest.frame[labels.column]
    keep = texts.notna().to_numpy()
    if labels.classes is not None:
        keep = keep & texts.isin(labels.classes).to_numpy()  # pandas lends its own, read-only
    classes = _classes(sorted(set(texts[keep].astype(str))), labels, name)
    left = int((~keep).sum())
    problems = []
    if left:
        found = f"{left} of {len(keep)} images have no {labels.column} that is asked for; left out."
        problems.append(
            Problem(name, found, "", column=labels.column, kind="left-out", fatal=False)
        )
    return manifest.select(np.flatnonzero(keep)), classes, problems


def _classes(found: list[str], labels: LabelSettings, name: str) -> tuple[str, ...]:
    wanted = (labels.positive,) if labels.positive is not None else labels.classes or ()
    absent = [one for one in wanted if one not in found]
    if absent:
        raise DataError(
            f"{name}: no image has the class {absent[0]!r} in column {labels.column!r}; found "
            f"{', '.join(found) or 'none'}. Correct labels.positive or labels.classes."
        )
    if len(found) < 2:
        raise DataError(
            f"{name}: column {labels.column!r} has {len(found)} class(es), expected at least two "
            "to tell apart. Set labels.column to another."
        )
    if labels.positive is not None:
        return (REST, labels.positive)
    return labels.classes or tuple(found)


def open_material(
    manifest: Manifest,
    preset: EnrichStudyPreset,
    classes: tuple[str, ...],
    *,
    cache: Path | None,
    folder: Path,
    workers: int = 2,
    progress: Progress | None = None,
) -> tuple[Material, Manifest, list[Problem]]:
    """Decode images and masks; return them with the manifest's rows that could be read.

    Parameters
    ----------
    manifest, classes
        From `usable_rows`.
    cache
        Folder of decoded images; None: in memory.
    folder
        Where the prepared masks are kept.
    """
    learner = preset.learner
    images = ImageSet(
        manifest, learner.images, cache=cache, label_column=None, workers=workers, progress=progress
    )
    rows = images.positions(labelled=False)
    if len(rows) == 0:
        raise DataError(f"none of {len(manifest)} images could be read: {images.failures[0]}")
    kept = manifest.select(rows) if len(rows) < len(manifest) else manifest
    stored = images.stored if len(rows) == len(manifest) else images.stored[rows]
    problems = [*images.failures, *images.warnings]
    targets = np.full(len(kept), NOT_LABELLED, dtype=np.int64)
    masks: Fetch | None = None
    structures: tuple[str, ...] = ()
    if learner.is_segmentation:
        structures = tuple(learner.unet.structures) or ("mask",)
        masks = Fetch(_masks(kept, learner.images, learner.unet, folder), targets)
    else:
        texts = kept.frame[preset.labels.column].astype(str)
        if preset.labels.positive is not None:
            texts = texts.where(texts == preset.labels.positive, REST)
        _, targets = class_targets(pd.Series(texts), classes)
    patients = kept.groups("patient")
    return Material(Fetch(stored, targets), classes, patients, masks, structures), kept, problems


def _masks(manifest: Manifest, recipe: Recipe, unet: UNetSettings, folder: Path) -> np.ndarray:
    """Prepare masks as their images are, and map them from a file, so that processes share them."""
    shape = (len(manifest), max(1, len(unet.structures)), *recipe.size_px)
    file = folder / "masks.bool"
    if not file.is_file() or file.stat().st_size != np.prod(shape):
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_writer(file) as writer:
            for reference in manifest.frame["mask"]:
                one = np.zeros(shape[1:], dtype=bool)
                if isinstance(reference, str):
                    one = prepared_mask(
                        reference, manifest.root, recipe, structures=unet.structures
                    )
                writer.write(one.tobytes())
    return np.memmap(file, dtype=bool, mode="r", shape=shape)
