"""The scores that a run wrote, with their truth: what two runs are compared by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from medglean.arrays import Kind
from medglean.data.labels import class_targets, several_targets
from medglean.data.manifest import Manifest
from medglean.errors import RunFolderError
from medglean.runs.report import group_name

RESULTS = "results.parquet"
PROBABILITY = "probability."
"""What the columns of probabilities begin with; the rest is the class."""


@dataclass(frozen=True)
class StoredScores:
    """Scores of labelled images, as they lie in a run's folder.

    Attributes
    ----------
    path
        Of the run.
    kind
        ``single`` or ``multi``.
    classes
        k names, in the order of the columns.
    part
        ``test`` or ``val`` of a training run; ``all`` of an evaluation.
    ids
        Shape (n,), text.
    truth
        Whether each image has each class, shape (n, k).
    probability
        Shape (n, k), in [0, 1].
    groups
        The patient of each image, or what stands for it, shape (n,).
    grouped_by
        The columns that ``groups`` were made from.
    """

    path: Path
    kind: Kind
    classes: tuple[str, ...]
    part: str
    ids: np.ndarray
    truth: np.ndarray
    probability: np.ndarray
    groups: np.ndarray
    grouped_by: str

    @property
    def targets(self) -> np.ndarray:
        """What `medglean.classify.assess.assess` takes: class numbers, or 0/1 for ``multi``."""
        found: np.ndarray = (
            self.truth.argmax(axis=1) if self.kind == "single" else self.truth.astype(np.float32)
        )
        return found

    @property
    def counted(self) -> str:
        """What to call the groups, such as ``patients``."""
        return group_name(self.grouped_by)

    def select(self, rows: np.ndarray) -> StoredScores:
        """Return some of the images, by position or mask."""
        return replace(
            self,
            ids=self.ids[rows],
            truth=self.truth[rows],
            probability=self.probability[rows],
            groups=self.groups[rows],
        )

    def with_classes(self, classes: Sequence[str]) -> StoredScores:
        """Return some of the classes, in another order if need be."""
        places = [self.classes.index(name) for name in classes]
        return replace(
            self,
            classes=tuple(classes),
            truth=self.truth[:, places],
            probability=self.probability[:, places],
        )


def read_scores(path: Path, *, training: bool) -> StoredScores:
    """Read the scores of a training run's test part, or of an evaluation.

    Parameters
    ----------
    path
        A run's folder.
    training
        Whether it is a training run: only rows of its test part count then, or, where it has none,
        of its validation part.

    Raises
    ------
    RunFolderError
        If the scores are missing, damaged, or without truth.
    """
    file = path / RESULTS
    try:
        frame = pd.read_parquet(file)
    except (OSError, ValueError) as error:
        raise RunFolderError(
            f"{file}: expected the scores of a finished run, found "
            f"{'no such file' if not file.is_file() else 'a damaged file'}. Make the run again."
        ) from error
    classes = tuple(
        str(name).removeprefix(PROBABILITY)
        for name in frame.columns
        if str(name).startswith(PROBABILITY)
    )
    column = "labels" if "labels" in frame else "label"
    if not classes or column not in frame or "id" not in frame:
        raise RunFolderError(
            f"{file}: expected columns 'id', 'label' or 'labels', and 'probability.CLASS', found "
            f"{', '.join(map(str, frame.columns))}. Is it the run of a classifier?"
        )
    part = "all"
    if training and "split" in frame:
        part = "test" if (frame["split"] == "test").any() else "val"
        frame = frame[frame["split"] == part].reset_index(drop=True)
    if column == "labels":
        truth = several_targets(frame["labels"], classes)[1] > 0
    else:
        truth = class_targets(frame["label"], classes)[1][:, None] == np.arange(len(classes))
    rows = Manifest(frame, path)
    return StoredScores(
        path=path,
        kind="multi" if column == "labels" else "single",
        classes=classes,
        part=part,
        ids=np.array(rows.ids, dtype=object),
        truth=truth,
        probability=frame[[PROBABILITY + name for name in classes]].to_numpy(dtype=np.float64),
        groups=rows.groups("patient"),
        grouped_by=rows.grouped_by,
    )
