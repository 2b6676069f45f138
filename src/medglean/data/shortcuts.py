"""Shortcut probe: whether the label can be told from what has nothing to do with disease.

A small classifier is given one family of facts at a time (the file's size, the image's dimensions,
the outermost pixels, overall brightness, a header field) and never the picture. Cross-validated
over patients, its AUROC should be near 0.5. Where it is high, a network can score well by
recognising the source instead of the disease, and a good test result means little.

DeGrave, Janizek, Lee. AI for radiographic COVID-19 detection selects shortcuts over signal. Nature
Machine Intelligence 2021.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from medglean.data.shortcut_features import Features
from medglean.randomness import numpy_generator

FOLDS = 5
MIN_PATIENTS = 5
"""Patients that a class needs, so that it is in every fold."""
MAX_IMAGES = 20_000
REPLICATES = 500

Learner = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""From features (n, f) and class numbers (n,) to learn from, and features (m, f) to score, to
probabilities (m, c): a column for each class that occurs among the former, rising."""


@dataclass(frozen=True)
class Probe:
    """How well one family of facts tells the label.

    Attributes
    ----------
    family
        ``"file size"``, ``"dimensions"``, ``"border"``, ``"brightness"``, ``"encoding"``, or the
        name of a column.
    auroc
        Mean over the classes, each against the rest; NaN where it cannot be computed.
    low, high
        95 % interval: percentile bootstrap over patients of the cross-validated scores.
    by_class
        AUROC of each class against the rest.
    images, patients
        On how many it rests.
    note
        What was left out, or why there is no number.
    """

    family: str
    auroc: float
    low: float
    high: float
    by_class: dict[str, float]
    images: int
    patients: int
    note: str = ""

    def to_dict(self) -> dict[str, object]:
        """Return the probe for JSON: NaN becomes ``None``."""
        return {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in asdict(self).items()
        }


def probe(
    family: str,
    features: Features,
    truth: Bool[np.ndarray, "n k"],
    classes: tuple[str, ...],
    groups: np.ndarray,
    *,
    exclusive: bool = True,
    seed: int = 0,
    learner: Learner | None = None,
) -> Probe:
    """Measure how well features tell the label, cross-validated over patients.

    Parameters
    ----------
    family
        What the features are, for the record; those of ``"border"`` are combined linearly, since
        they are many, the others by boosted trees.
    features
        One row per image; NaN is not allowed.
    truth
        Which classes each image has.
    classes
        Names of the columns of ``truth``.
    groups
        Patient of each image; one is never on both sides of a fold.
    exclusive
        Whether an image has exactly one class. Otherwise each class is probed for itself.
    seed
        Of the folds and the bootstrap.
    learner
        What learns; by default as ``family`` says.
    """
    patients = np.unique(groups, return_inverse=True)[1]
    kept, problems = usable_classes(truth, classes, patients, exclusive=exclusive)
    rows = np.asarray(truth[:, kept].any(axis=1)) if exclusive else np.ones(len(truth), bool)
    rows = rows & _at_most(patients, rows, seed)
    note = " ".join(problems)
    nothing = Probe(family, math.nan, math.nan, math.nan, {}, int(rows.sum()), 0, note)
    if len(kept) < (2 if exclusive else 1):
        return nothing
    x, y, who = features[rows], truth[rows][:, kept], patients[rows]
    used = learner or (linear() if family == "border" else boosted_trees(seed))
    if exclusive:
        scores = cross_validated(x, y.argmax(axis=1), who, used, seed=seed)
    else:
        alone = [cross_validated(x, y[:, k] * 1, who, used, seed=seed) for k in range(len(kept))]
        scores = np.stack([one[:, 1] for one in alone], axis=1)
    each = [
        float(weighted_auroc(y[:, k], scores[:, k], np.ones((1, len(x))))[0])
        for k in range(len(kept))
    ]
    low, high = _interval(y, scores, who, seed)
    names = [classes[k] for k in kept]
    by_class = dict(zip(names, each, strict=True))
    mean = float(np.mean(each))
    return Probe(family, mean, low, high, by_class, len(x), len(np.unique(who)), note)


def usable_classes(
    truth: Bool[np.ndarray, "n k"],
    classes: tuple[str, ...],
    patients: Int[np.ndarray, " n"],
    *,
    exclusive: bool,
) -> tuple[list[int], list[str]]:
    """Return the classes with enough patients, and what is to be said about the others.

    Parameters
    ----------
    truth, classes, exclusive
        As for `probe`.
    patients
        Number of each image's patient.

    Returns
    -------
    tuple
        Columns of ``truth`` that `MIN_PATIENTS` patients have (and, unless classes exclude one
        another, as many lack), and a sentence for each of the others.
    """
    kept, problems = [], []
    for k, name in enumerate(classes):
        having = len(np.unique(patients[truth[:, k]]))
        lacking = len(np.unique(patients[~truth[:, k]]))
        if having >= MIN_PATIENTS and (exclusive or lacking >= MIN_PATIENTS):
            kept.append(k)
        else:
            few = having if having < MIN_PATIENTS else lacking
            word = "with" if having < MIN_PATIENTS else "without"
            problems.append(f"{few} patients {word} {name!r}: left out, {MIN_PATIENTS} are needed.")
    if exclusive and len(kept) < 2:
        problems.append(f"not computable: fewer than two classes have {MIN_PATIENTS} patients.")
    return kept, problems


def _at_most(
    patients: Int[np.ndarray, " n"], rows: Bool[np.ndarray, " n"], seed: int
) -> Bool[np.ndarray, " n"]:
    """Return the rows of so many randomly chosen patients that time stays bounded."""
    if rows.sum() <= MAX_IMAGES:
        return np.ones(len(rows), bool)
    count = int(patients.max()) + 1
    order = numpy_generator(seed, "probe-patients").permutation(count)
    images = np.bincount(patients[rows], minlength=count)[order]
    chosen = order[np.cumsum(images) <= MAX_IMAGES]
    return np.isin(patients, chosen)


def cross_validated(
    x: Features,
    label: Int[np.ndarray, " n"],
    groups: Int[np.ndarray, " n"],
    learner: Learner,
    *,
    seed: int,
    classes: int | None = None,
) -> Float[np.ndarray, "n k"]:
    """Return the probability of each class from models that never saw the image's patient.

    Parameters
    ----------
    x
        One row per image.
    label
        Class numbers from 0; at least one class has `FOLDS` images.
    groups
        Patient of each image; the folds are by patient, and balanced by class.
    learner
        What learns on four fifths and scores the rest.
    seed
        Of the folds.
    classes
        How many columns to return; by default as many as occur.
    """
    count = int(label.max()) + 1 if classes is None else classes
    scores = np.full((len(x), count), 1.0 / count)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # a class that by chance is thin in one fold is no news: the interval shows it
        warnings.simplefilter("ignore", UserWarning)
        parts = list(folds.split(x, label, groups))
    for train, test in parts:
        present = np.unique(label[train])
        if len(present) < 2:
            continue
        scores[test] = 0.0
        scores[np.ix_(test, present)] = learner(x[train], label[train], x[test])
    return scores


def linear() -> Learner:
    """Return a logistic regression (C = 0.1) of standardised features."""

    def learner(learn: np.ndarray, label: np.ndarray, score: np.ndarray) -> np.ndarray:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
        # one thread: for models as small as these, threads waiting for one another cost most
        with threadpool_limits(1):
            return np.asarray(model.fit(learn, label).predict_proba(score))

    return learner


def boosted_trees(seed: int) -> Learner:
    """Return 40 boosted trees of depth 3, which take features as they are, missing ones too."""

    def learner(learn: np.ndarray, label: np.ndarray, score: np.ndarray) -> np.ndarray:
        model = HistGradientBoostingClassifier(
            max_iter=40,
            learning_rate=0.1,
            max_depth=3,
            min_samples_leaf=max(5, min(20, len(learn) // 20)),
            early_stopping=False,
            random_state=seed,
        )
        with threadpool_limits(1):
            return np.asarray(model.fit(learn, label).predict_proba(score))

    return learner


def weighted_auroc(
    truth: Bool[np.ndarray, " n"], score: Float[np.ndarray, " n"], weights: Float[np.ndarray, "r n"]
) -> Float[np.ndarray, " r"]:
    """Return the AUROC under each row of weights; ties count half, NaN where a class has none.

    Examples
    --------
    >>> import numpy as np
    >>> truth, score = np.array([False, True, False, True]), np.array([0.1, 0.4, 0.4, 0.8])
    >>> weighted_auroc(truth, score, np.ones((1, 4))).tolist()
    [0.875]
    """
    levels, level = np.unique(score, return_inverse=True)
    positive = np.zeros((len(weights), len(levels)))
    negative = np.zeros_like(positive)
    for row in range(len(weights)):
        positive[row] = np.bincount(level, weights[row] * truth, minlength=len(levels))
        negative[row] = np.bincount(level, weights[row] * ~truth, minlength=len(levels))
    below = np.cumsum(negative, axis=1) - negative / 2
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((positive * below).sum(axis=1) / pairs)


def _interval(
    truth: Bool[np.ndarray, "n k"],
    scores: Float[np.ndarray, "n k"],
    groups: Int[np.ndarray, " n"],
    seed: int,
) -> tuple[float, float]:
    """Return the 2.5th and 97.5th percentile of the mean AUROC when patients are drawn anew."""
    _, who = np.unique(groups, return_inverse=True)
    count = int(who.max()) + 1
    draws = numpy_generator(seed, "probe-bootstrap").multinomial(
        count, np.full(count, 1.0 / count), size=REPLICATES
    )
    drawn = np.zeros(REPLICATES)
    for k in range(truth.shape[1]):
        # in parts, so that the table of weights stays small
        parts = [
            weighted_auroc(
                truth[:, k], scores[:, k], draws[start : start + 50][:, who].astype(float)
            )
            for start in range(0, REPLICATES, 50)
        ]
        drawn += np.concatenate(parts) / truth.shape[1]
    drawn = drawn[~np.isnan(drawn)]
    if drawn.size == 0:
        return math.nan, math.nan
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)
