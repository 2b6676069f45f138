"""What is chosen on the validation part once a network is trained: temperatures and thresholds.

References
----------
.. [1] Guo, Pleiss, Sun, Weinberger. On Calibration of Modern Neural Networks. ICML 2017.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Num
from scipy import special

from medglean.arrays import Kind, ScoreTable
from medglean.classify.promises import listed, patients_of_each_kind, promised, too_few
from medglean.classify.settings import DecideSettings
from medglean.errors import CheckpointError
from medglean.measure.operating import (
    OperatingPoint,
    sensitivity_at_least,
    specificity_at_least,
    youden,
)
from medglean.measure.temperature import (
    BOUNDS,
    Temperature,
    fit_temperature,
    fit_temperature_of_findings,
)

LEAST_GROUPS = 5
"""Patients of each of two kinds below which no temperature is fitted: it would be a guess."""


@dataclass(frozen=True)
class Decisions:
    """What the validation part decided about a trained network.

    Attributes
    ----------
    temperature
        Logits are divided by it: one for ``single``, one per finding for ``multi``; 1 changes
        nothing.
    points
        Thresholds on the calibrated probability of a class, one set per class named. Of two
        exclusive classes only the second is named: the first one's score is its mirror image.
    n, groups
        Validation images, and patients or what stands for them; 0 where nothing was chosen.
    notes
        What could not be chosen, and which promises rest on too little.
    """

    temperature: tuple[float, ...]
    points: Mapping[str, tuple[OperatingPoint, ...]] = field(default_factory=dict)
    n: int = 0
    groups: int = 0
    notes: tuple[str, ...] = ()

    @classmethod
    def none(cls, kind: Kind, classes: Sequence[str]) -> Decisions:
        """Return decisions that leave scores as they are and set no operating point."""
        return cls((1.0,) * (1 if kind == "single" else len(classes)))

    @property
    def is_calibrated(self) -> bool:
        """Whether any probability differs from what the network gives."""
        return any(one != 1.0 for one in self.temperature)

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON; NaN as None, other numbers to the last bit."""
        return {
            "format": 1,
            "temperature": list(self.temperature),
            "points": {
                name: [
                    {key: _plain(value) for key, value in asdict(point).items()} for point in points
                ]
                for name, points in self.points.items()
            },
            "n": self.n,
            "groups": self.groups,
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, given: Mapping[str, Any], *, file: str = "decisions.json") -> Decisions:
        """Read what `to_json` gave.

        Raises
        ------
        CheckpointError
            If something is missing or no number; names ``file``.
        """
        try:
            return cls(
                temperature=tuple(float(one) for one in given["temperature"]),
                points={
                    name: tuple(_point(one) for one in points)
                    for name, points in given["points"].items()
                },
                n=int(given["n"]),
                groups=int(given["groups"]),
                notes=tuple(str(note) for note in given["notes"]),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{file}: expected temperature, points, n, groups and notes as medglean writes "
                f"them, found a fault at {error}. Restore the file, or train again."
            ) from error


def calibrated(logits: Num[np.ndarray, "n k"], decisions: Decisions, *, kind: Kind) -> ScoreTable:
    """Return probabilities of logits divided by the temperature [1]_.

    Parameters
    ----------
    logits
        Raw, shape (n, k).
    decisions
        Whose temperature is taken.
    kind
        ``single``: softmax over the classes. ``multi``: a sigmoid per finding.

    Returns
    -------
    ndarray
        Shape (n, k), in [0, 1].

    Raises
    ------
    CheckpointError
        If the number of temperatures does not fit the logits.
    """
    wanted = 1 if kind == "single" else logits.shape[1]
    if len(decisions.temperature) != wanted:
        raise CheckpointError(
            f"decisions: {len(decisions.temperature)} temperatures, expected {wanted} for "
            f"{logits.shape[1]} outputs of kind {kind!r}. They belong to another network: train "
            "again."
        )
    scaled = logits.astype(np.float64) / np.asarray(decisions.temperature)
    chances: np.ndarray = (
        special.softmax(scaled, axis=1) if kind == "single" else special.expit(scaled)
    )
    return chances.clip(max=1.0)  # a rounded quotient may exceed 1 by one bit


def decide(
    logits: Num[np.ndarray, "n k"],
    targets: np.ndarray,
    groups: Sequence[str] | np.ndarray,
    *,
    kind: Kind,
    classes: Sequence[str],
    settings: DecideSettings,
) -> Decisions:
    """Choose temperature and operating points on validation images.

    Parameters
    ----------
    logits
        Raw, of the validation images, shape (n, k).
    targets
        ``single``: class numbers (n,). ``multi``: 0/1 of shape (n, k).
    groups
        Patient of each image, or what stands for it.
    kind, classes
        As the network has them.
    settings
        Whether to calibrate, and which points.

    Returns
    -------
    Decisions
        Where the images are separated perfectly, or fewer than `LEAST_GROUPS` patients are there
        of each of two kinds, the temperature is 1 and a note says why.
    """
    if len(logits) == 0:
        return Decisions.none(kind, classes)
    truth = (
        targets.astype(np.int64)[:, None] == np.arange(len(classes))
        if kind == "single"
        else targets.astype(bool)
    )
    patients = np.asarray(groups)
    temperature, notes = (1.0,) * (1 if kind == "single" else len(classes)), []
    if settings.calibrate == "temperature":
        found = _temperatures(logits.astype(np.float64), truth, patients, kind, classes)
        temperature = tuple(value for value, _ in found.values())
        notes = _told_of_temperatures(found, kind)
    bare = Decisions(temperature)
    scores = calibrated(logits, bare, kind=kind)
    named = range(1, 2) if kind == "single" and len(classes) == 2 else range(len(classes))
    points = {
        classes[j]: tuple(_chosen(rule, truth[:, j], scores[:, j]) for rule in settings.points)
        for j in named
    }
    kinds = {classes[j]: patients_of_each_kind(truth[:, j], patients) for j in named}
    notes += [told for rule in settings.points if (told := too_few(rule, kinds))]
    count = len(np.unique(patients.astype(str)))
    return Decisions(temperature, points, len(logits), count, tuple(notes))


def _chosen(rule: str, truth: np.ndarray, scores: np.ndarray) -> OperatingPoint:
    asked = promised(rule)
    if asked is None:
        return youden(truth, scores)
    name, least = asked
    choose = sensitivity_at_least if name == "sensitivity" else specificity_at_least
    return choose(truth, scores, least=least)


def _temperatures(
    logits: np.ndarray, truth: np.ndarray, patients: np.ndarray, kind: Kind, classes: Sequence[str]
) -> dict[str, tuple[float, str]]:
    """Return each temperature with what stood in its way; one without a name for ``single``."""
    if kind == "single":
        return {"": _fitted(logits, truth, patients)}
    return {
        name: _fitted(logits[:, j : j + 1], truth[:, j : j + 1], patients)
        for j, name in enumerate(classes)
    }


def _fitted(logits: np.ndarray, truth: np.ndarray, patients: np.ndarray) -> tuple[float, str]:
    several = truth.shape[1] > 1
    kinds = truth if several else np.column_stack([truth, ~truth])
    sizes = sorted(len(np.unique(patients[kinds[:, j]].astype(str))) for j in range(kinds.shape[1]))
    if sizes[-2] < LEAST_GROUPS:
        return 1.0, f"fewer than {LEAST_GROUPS} validation patients of a second kind"
    found: Temperature = (
        fit_temperature(logits, truth.argmax(axis=1))
        if several
        else fit_temperature_of_findings(logits, truth)
    )
    if found.value <= BOUNDS[0]:
        # The likelihood only says "surer": no number follows from that.
        return 1.0, "the validation images are separated perfectly, or as good as"
    if found.value >= BOUNDS[1]:
        return found.value, f"the highest allowed, {BOUNDS[1]:g}: the logits say next to nothing"
    return found.value, ""


def _told_of_temperatures(found: Mapping[str, tuple[float, str]], kind: Kind) -> list[str]:
    """Join what could not be fitted, reason by reason."""
    reasons: dict[tuple[float, str], list[str]] = {}
    for name, (value, why) in found.items():
        if why:
            reasons.setdefault((value, why), []).append(name)
    return [
        ("Probabilities" if kind == "single" else f"Probabilities of {listed(names)}")
        + (" are not calibrated" if value == 1.0 else f": logits are divided by {value:g}")
        + f": {why}."
        for (value, why), names in reasons.items()
    ]


def _plain(value: object) -> object:
    return None if isinstance(value, float) and math.isnan(value) else value


def _point(given: Mapping[str, Any]) -> OperatingPoint:
    numbers = {
        key: math.nan if given[key] is None else float(given[key])
        for key in ("threshold", "sensitivity", "specificity")
    }
    return OperatingPoint(rule=str(given["rule"]), **numbers, note=str(given["note"]))
