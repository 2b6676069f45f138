"""Baselines: what features that cannot show the disease come to, on the images that are judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from medglean.arrays import Kind
from medglean.classify.parts import Judged
from medglean.data.shortcuts import Learner, cross_validated, usable_classes
from medglean.nn.floor import logistic

TruthTable = Bool[np.ndarray, "n k"]


@dataclass(frozen=True)
class Ground:
    """What baselines learn from and are measured on.

    Attributes
    ----------
    kind, classes, threshold
        As the classifier's.
    truth, groups
        Of the images that are judged: which classes each has, shape (m, k), and its patient.
    learn_truth, learn_groups
        The same of the images to learn from; None: baselines are cross-validated over the patients
        that are judged.
    seed
        Of folds and learners.
    """

    kind: Kind
    classes: tuple[str, ...]
    threshold: float
    truth: TruthTable
    groups: np.ndarray
    learn_truth: TruthTable | None
    learn_groups: np.ndarray | None
    seed: int

    @property
    def measured(self) -> list[int]:
        """Classes that some of the judged images have and some lack."""
        count = self.truth.sum(axis=0)
        return [int(j) for j in np.flatnonzero((count > 0) & (count < len(self.truth)))]


@dataclass(frozen=True)
class Answer:
    """What a baseline says of the judged images.

    Attributes
    ----------
    probability
        Shape (m, k).
    called
        Which classes each image is said to have, shape (m, k).
    columns
        Classes that it can be measured on; none where it could not learn.
    note
        What was left out, and why.
    """

    probability: Float[np.ndarray, "m k"]
    called: TruthTable
    columns: tuple[int, ...]
    note: str = ""


def ground_of(judged: Judged, learn: np.ndarray | None) -> Ground:
    """Return what baselines of a classifier learn from and are measured on.

    Parameters
    ----------
    judged
        The classifier on its images.
    learn
        Rows to learn from.
    """
    images, classifier = judged.images, judged.classifier
    learn_truth = None
    if learn is not None:
        targets = images.targets[learn]
        single = classifier.kind == "single"
        known = targets[:, None] == np.arange(len(classifier.classes)) if single else targets > 0.5
        learn_truth = known
    return Ground(
        kind=classifier.kind,
        classes=classifier.classes,
        threshold=classifier.preset.labels.threshold,
        truth=judged.found.truth,
        groups=np.asarray(judged.groups),
        learn_truth=learn_truth,
        learn_groups=None if learn is None else images.groups[learn],
        seed=judged.seed,
    )


def answer(ground: Ground, features: np.ndarray, learner: Learner) -> Answer:
    """Learn from features and say of each judged image what it has.

    Parameters
    ----------
    ground
        What to learn from; without that, models are cross-validated over patients.
    features
        Shape (l + m, f): the images to learn from, then those that are judged.
    learner
        What learns.

    Returns
    -------
    Answer
        Classes with too few patients to learn from are not in its ``columns``; with fewer than two
        (``multi``: one) left there are no columns at all.
    """
    exclusive = ground.kind == "single"
    apart = ground.learn_truth is not None
    known = ground.truth if ground.learn_truth is None else ground.learn_truth
    groups = ground.groups if ground.learn_groups is None else ground.learn_groups
    patients = np.unique(groups, return_inverse=True)[1].reshape(-1)
    kept, problems = usable_classes(known, ground.classes, patients, exclusive=exclusive)
    columns = tuple(j for j in kept if j in ground.measured)
    shares = np.full(known.shape[1], np.nan) if len(known) == 0 else known.mean(axis=0)
    probability = np.tile(shares, (len(ground.truth), 1))
    if not columns or (exclusive and len(kept) < 2) or features.shape[1] == 0:
        if features.shape[1] == 0:
            problems.append("there is nothing to tell images apart by.")
        return Answer(probability, np.zeros_like(ground.truth), (), " ".join(problems))
    learn, score = features[: len(known)], features[len(known) :] if apart else features
    if exclusive:
        label = known.argmax(axis=1)
        if apart:
            probability = np.zeros((len(score), len(ground.classes)))
            probability[:, np.unique(label)] = learner(learn, label, score)
        else:
            probability = cross_validated(
                learn, label, patients, learner, seed=ground.seed, classes=len(ground.classes)
            )
    else:
        for j in kept:
            label = known[:, j].astype(np.int64)
            if apart:
                probability[:, j] = learner(learn, label, score)[:, -1]
            else:
                found = cross_validated(learn, label, patients, learner, seed=ground.seed)
                probability[:, j] = found[:, 1]
    called = called_of(probability, kind=ground.kind, threshold=ground.threshold)
    return Answer(probability, called, columns, " ".join(problems))


def called_of(probability: Float[np.ndarray, "m k"], *, kind: Kind, threshold: float) -> TruthTable:
    """Return which classes images are said to have: the most probable, or those from a threshold.

    Ties go to the first.
    """
    if kind == "multi":
        return np.asarray(probability >= threshold)
    return np.asarray(probability.argmax(axis=1)[:, None] == np.arange(probability.shape[1]))


def constant(ground: Ground) -> Answer:
    """Say the same of every image: the set of classes that images to learn from most often have.

    Its probabilities are the shares of the classes there. Where there is nothing to learn from the
    judged images themselves are counted, which can only flatter it.
    """
    known = ground.truth if ground.learn_truth is None else ground.learn_truth
    columns = tuple(ground.measured)
    if len(known) == 0:
        nothing = np.full(ground.truth.shape, np.nan)
        return Answer(nothing, np.zeros_like(ground.truth), (), "no image to learn from.")
    sets, counts = np.unique(known, axis=0, return_counts=True)
    most = sets[np.flatnonzero(counts == counts.max())[-1]]
    probability = np.tile(known.mean(axis=0), (len(ground.truth), 1))
    return Answer(probability, np.tile(most, (len(ground.truth), 1)), columns)


def names_of(called: Sequence[bool] | np.ndarray, classes: Sequence[str]) -> str:
    """Return the classes of a set in words."""
    return " + ".join(name for name, has in zip(classes, called, strict=True) if has) or "none"


def regression() -> Learner:
    """Return the logistic regression of the floor (C = 1)."""

    def learner(learn: np.ndarray, label: np.ndarray, score: np.ndarray) -> np.ndarray:
        present, place = np.unique(label, return_inverse=True)
        with threadpool_limits(1):
            return np.asarray(
                logistic(learn, place.reshape(-1), score, kind="single", classes=len(present))
            )

    return learner
