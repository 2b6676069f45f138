"""The cells of the 2022 report's study: what is trained in each, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from medglean.classify.assess import Assessment
from medglean.classify.settings import ClassifyPreset

Theme = Literal["networks", "learning-rate", "batch-size", "optimizer", "classes", "images"]


@dataclass(frozen=True)
class Cell:
    """One training of the study.

    Attributes
    ----------
    name
        Of its folder, such as ``"vgg11-pretrained"``.
    theme
        The table that it belongs to; ``networks`` is the report's main one.
    label
        As the table names it, such as ``"VGG11, pretrained"``.
    at
        Where it lies on the axis of its theme: a learning rate, a batch size, a number of classes
        or of training images; NaN for ``networks`` and ``optimizer``.
    preset
        What is trained; its ``labels.classes`` may be fewer than the study's.
    images
        Share of the training images that are learnt from, in (0, 1]; whole patients.
    """

    name: str
    theme: Theme
    label: str
    at: float
    preset: ClassifyPreset
    images: float = 1.0


@dataclass(frozen=True)
class Trained:
    """What a cell came to on the test part.

    Attributes
    ----------
    cell
        What was trained.
    found
        Every measure with its interval.
    constant
        The same measures of a constant answer that is chosen on the training part: the most
        frequent class, or the set of findings that is most often exactly right.
    history
        Rows of the training log: ``epoch``, ``step``, ``train.loss``, ``val.loss``, ``val.auroc``.
    learnt, epochs
        Training images, and passes over them.
    best_step
        Step whose weights were kept; None where they are the last.
    seconds
        In the training loop.
    weights
        Trainable parameters.
    groups
        Patient, or what stands for it, of each test image, in the order of ``found.truth``; empty
        where each image stands for itself.
    note
        Why a training diverged; empty for all others.
    """

    cell: Cell
    found: Assessment
    constant: Assessment
    history: tuple[Mapping[str, object], ...]
    learnt: int
    epochs: int
    best_step: int | None
    seconds: float
    weights: int
    groups: tuple[str, ...] = ()
    note: str = ""
