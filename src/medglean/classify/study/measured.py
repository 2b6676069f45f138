"""From a cell's run folder to its numbers, beside those of an answer that looks at no image."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from medglean.arrays import Kind, ScoreTable
from medglean.classify.assess import Assessment, assess
from medglean.classify.prepare import Chosen
from medglean.classify.scores import read_probability
from medglean.classify.study.plan import Plan
from medglean.classify.study.rows import Cell, Trained
from medglean.classify.study.train import Outcome, training_folders
from medglean.data.labels import class_targets, several_targets
from medglean.fitting.loggers import CsvLog
from medglean.measure.intervals import Interval
from medglean.nn.backbones import build_backbone, parameter_count


def measured(
    plan: Plan, cells: Sequence[Cell], outcomes: dict[str, Outcome], *, readable: Collection[str]
) -> list[Trained]:
    """Return what every cell came to, in order; each training is measured once.

    Parameters
    ----------
    plan
        The study.
    cells
        Of the tables to fill.
    outcomes
        What came of each training, by the cell's name.
    readable
        Ids of the images that could be decoded.
    """
    readable = frozenset(readable)
    known: dict[str, Trained] = {}
    for cell in cells:
        if cell.name not in known:
            known[cell.name] = measure_cell(plan, cell, outcomes[cell.name], readable=readable)
    return [replace(known[cell.name], cell=cell) for cell in cells]


def measure_cell(plan: Plan, cell: Cell, outcome: Outcome, *, readable: Collection[str]) -> Trained:
    """Measure a training on its test part; where it diverged everything is NaN."""
    chosen = plan.chosen_of(cell)
    frame = chosen.manifest.frame
    at_hand = np.array([one in readable for one in chosen.manifest.ids], dtype=bool)
    part = frame["split"].to_numpy(dtype=object)
    learn = np.flatnonzero(at_hand & (part == "train"))
    test = np.flatnonzero(at_hand & (part == "test"))
    read = class_targets if chosen.kind == "single" else several_targets
    targets = read(frame[chosen.column], chosen.classes)[1]
    groups = chosen.manifest.groups("patient")[test]

    def assessed(probability: ScoreTable) -> Assessment:
        return assess(
            targets[test],
            probability,
            groups,
            kind=chosen.kind,
            classes=chosen.classes,
            threshold=cell.preset.labels.threshold,
            replicates=cell.preset.measure.replicates,
            seed=plan.preset.fit.seed,
        )

    answer = constant_answer(targets[learn], kind=chosen.kind, classes=len(chosen.classes))
    constant = assessed(np.tile(answer, (len(test), 1)))
    found = undefined(constant)
    if outcome.state == "trained":
        ids = [chosen.manifest.ids[row] for row in test]
        found = assessed(_probability(plan, cell, chosen, ids))
    return Trained(
        cell=cell,
        found=found,
        constant=constant,
        history=tuple(CsvLog(training_folders(cell, plan.folder_of(cell))[0] / "log.csv").rows()),
        learnt=len(learn),
        epochs=outcome.epochs,
        best_step=outcome.best_step,
        seconds=outcome.seconds,
        weights=_weights(cell, chosen),
        groups=tuple(map(str, groups)),
        note=outcome.note,
    )


def constant_answer(targets: np.ndarray, *, kind: Kind, classes: int) -> np.ndarray:
    """Return the answer that is most often exactly right on the training images.

    Parameters
    ----------
    targets
        ``single``: class numbers (n,). ``multi``: 0/1 of shape (n, k).
    classes
        k.

    Returns
    -------
    ndarray
        1 for what is answered and 0 for the rest, shape (k,), float64. Of equally frequent answers
        the first class, or the set of findings that is smallest as a binary number.

    Examples
    --------
    >>> constant_answer(np.array([[1, 1, 0], [1, 0, 0], [1, 1, 0]]), kind="multi", classes=3)
    array([1., 1., 0.])
    """
    if kind == "single":
        counts = np.bincount(targets.astype(np.int64), minlength=classes)
        answer: np.ndarray = np.eye(classes)[int(counts.argmax())]
        return answer
    sets, counts = np.unique(targets.astype(np.float64), axis=0, return_counts=True)
    answer = sets[int(counts.argmax())]
    return answer


def undefined(like: Assessment) -> Assessment:
    """Return an assessment of the same images without a number: nothing was called."""

    def none(interval: Interval) -> Interval:
        return replace(
            interval, value=math.nan, low=math.nan, high=math.nan, replicates=0,
            note="the training diverged",
        )  # fmt: skip

    return replace(
        like,
        headline={name: none(value) for name, value in like.headline.items()},
        per_class=[{name: none(one) for name, one in row.items()} for row in like.per_class],
        confusion=None if like.confusion is None else np.zeros_like(like.confusion),
        probability=np.full_like(like.probability, math.nan),
        called=np.zeros_like(like.called),
    )


def _probability(plan: Plan, cell: Cell, chosen: Chosen, ids: Sequence[str]) -> ScoreTable:
    file = plan.folder_of(cell) / "results.parquet"
    frame = pd.read_parquet(file).set_index("id").loc[list(ids)]
    return read_probability(frame, chosen.classes, file=str(file))


def _weights(cell: Cell, chosen: Chosen) -> int:
    """Count the trainable parameters of a cell's network without making them."""
    with torch.device("meta"):
        network = build_backbone(
            cell.preset.model.architecture,
            classes=len(chosen.classes),
            in_channels=cell.preset.images.channel_count,
            dropout=cell.preset.model.dropout,
        )
    return parameter_count(network)
