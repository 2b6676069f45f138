"""Trainings that never were: scores drawn at random, measured as real ones are."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd

from medglean.classify.assess import assess
from medglean.classify.prepare import Chosen
from medglean.classify.study.rows import Cell, Trained
from medglean.classify.study.settings import CxrStudyPreset
from medglean.data.manifest import Manifest

NAMES = ("COVID-19", "Normal", "Pneumonia", "Tuberculosis")
FINDINGS = ("COVID-19", "Fibrosis", "Pneumonia", "Tuberculosis", "Viral")
PRESET = CxrStudyPreset.model_validate({"name": "made-up", "measure": {"replicates": 100}})
NETWORKS = (
    ("alexnet", "none", "AlexNet", 1.0),
    ("vgg11", "none", "VGG11", 1.6),
    ("resnet50", "none", "ResNet50", 1.3),
    ("vgg11", "imagenet", "VGG11, pretrained", 2.6),
)


def truth_of(kind, classes, n, seed=3):
    """Return targets in which the first class (or a set of three findings) is most frequent."""
    draw = np.random.default_rng(seed)
    if kind == "single":
        shares = np.array([0.5, *[0.5 / (classes - 1)] * (classes - 1)])
        return draw.choice(classes, size=n, p=shares)
    targets = np.zeros((n, classes), dtype=np.int64)
    usual = draw.random(n) < 0.7
    targets[usual] = [1, 0, 1, 0, 1] + [0] * (classes - 5)
    targets[~usual] = draw.random((int((~usual).sum()), classes)) < 0.25
    return targets


def scores_of(targets, kind, classes, skill, seed):
    """Return probabilities that tell the truth the better, the higher the skill."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(size=(len(targets), classes))
    if kind == "single":
        logits[np.arange(len(targets)), targets] += skill
        raised = np.exp(logits)
        return raised / raised.sum(axis=1, keepdims=True)
    return 1 / (1 + np.exp(-(logits + skill * (2 * targets - 1))))


def history_of(epochs, skill, seed):
    """Return a log as a training writes it."""
    draw = np.random.default_rng(seed)
    rows = []
    for epoch in range(1, epochs + 1):
        fall = math.exp(-0.25 * skill * epoch)
        rows.append({"epoch": epoch, "step": 10 * epoch - 5, "train.loss": 0.1 + fall})
        rows.append({"epoch": epoch, "step": 10 * epoch, "train.loss": 0.08 + fall})
        later = 0.02 * max(0, epoch - 5)
        rows.append(
            {
                "epoch": epoch,
                "step": 10 * epoch,
                "val.loss": 0.3 + fall + later + 0.02 * draw.random(),
                "val.auroc": 0.95 - 0.4 * fall - 0.2 * later,
            }
        )
    return tuple(rows)


_MEASURED = {}


def measured(targets, probability, groups, kind, classes):
    """Return what `assess` gives, once for the same scores: checked types make it slow in tests."""
    key = (targets.tobytes(), probability.tobytes(), groups.tobytes(), kind, classes)
    if key not in _MEASURED:
        _MEASURED[key] = assess(
            targets, probability, groups, kind=kind, classes=classes, replicates=100, seed=0
        )
    return _MEASURED[key]


def trained_of(
    targets,
    *,
    kind="single",
    classes=NAMES,
    skill=1.5,
    seed=0,
    name="alexnet",
    theme="networks",
    label="AlexNet",
    at=math.nan,
    architecture="alexnet",
    weights="none",
    learnt=400,
    epochs=8,
    note="",
    always=None,
    per_patient=2,
):
    """Return a training with the measures that `assess` gives for made-up scores."""
    n, k = len(targets), len(classes)
    groups = np.array([f"p{i // per_patient:04d}" for i in range(n)])
    probability = scores_of(targets, kind, k, skill, seed + 17)
    if always is None:
        always = [0] if kind == "single" else [0, 2, 4]
    constant = np.zeros((n, k))
    constant[:, always] = 1.0
    preset = PRESET.network(architecture, weights)
    return Trained(
        cell=Cell(name, theme, label, at, preset),
        found=measured(targets, probability, groups, kind, classes),
        constant=measured(targets, constant, groups, kind, classes),
        history=history_of(epochs, skill, seed),
        learnt=learnt,
        epochs=epochs,
        best_step=10 * max(1, epochs - 3),
        seconds=12.0 * epochs,
        weights=57_000_000 + seed,
        groups=tuple(groups),
        note=note,
    )


def networks_of(targets, **more):
    """Return the report's four networks."""
    return [
        trained_of(
            targets,
            skill=skill,
            seed=seed,
            name=architecture if weights == "none" else f"{architecture}-pretrained",
            label=label,
            architecture=architecture,
            weights=weights,
            **more,
        )
        for seed, (architecture, weights, label, skill) in enumerate(NETWORKS)
    ]


def ablations_of(targets, **more):
    """Return cells of all further themes; one learning rate diverged."""
    cells = []
    for rate, skill, note in (
        (0.1, 0.0, "the loss became NaN in epoch 2."),
        (1e-2, 0.6, ""),
        (1e-4, 1.0, ""),
    ):
        cells.append(("learning-rate", f"{rate:g}", rate, skill, note))
    cells += [("batch-size", str(b), b, 0.0 if b > 64 else 1.0, "") for b in (8, 16, 32, 64, 128)]
    cells += [("optimizer", name, math.nan, s, "") for name, s in (("Adam", 1.0), ("SGD", 0.0))]
    trained = [
        trained_of(
            targets, theme=theme, label=label, at=at, skill=skill, note=note,
            name=f"alexnet-{theme}-{label}", **more,
        )
        for theme, label, at, skill, note in cells
    ]  # fmt: skip
    trained += [
        trained_of(
            targets, theme="images", label=f"{n:,} images", at=n / 400, learnt=n,
            skill=0.6 if n < 200 else 1.0,
            name=f"alexnet-images-{n}", **more,
        )
        for n in (40, 100, 200, 400)
    ]  # fmt: skip
    return trained


def classes_of(n, **more):
    """Return cells with two, three and four classes, each on test images of its own."""
    made = []
    for k in (2, 3, 4):
        targets = truth_of("single", k, n - 10 * (4 - k), seed=k)
        made.append(
            trained_of(
                targets, classes=NAMES[:k], theme="classes", label=f"{k} classes", at=float(k),
                skill=1.0, name=f"alexnet-classes-{k}", seed=80 + k, **more,
            )
        )  # fmt: skip
    return made


def chosen_of(targets, *, kind="single", classes=NAMES, learn=300, patients=True, **columns):
    """Return a divided manifest whose test part has these targets."""
    n = len(targets) + learn
    everything = np.concatenate([truth_of(kind, len(classes), learn, seed=11), targets])
    if kind == "single":
        label = {"label": [classes[t] for t in everything]}
    else:
        label = {
            "labels": [
                ";".join(c for c, t in zip(classes, row, strict=True) if t) for row in everything
            ]
        }
    frame = pd.DataFrame(
        {
            "id": [f"i{i:04d}" for i in range(n)],
            "image": [f"{i:04d}.png" for i in range(n)],
            **({"patient": [f"q{i // 2:04d}" for i in range(n)]} if patients else {}),
            **label,
            "split": ["train"] * learn + ["test"] * len(targets),
            **columns,
        }
    )
    return Chosen(Manifest.from_frame(frame, "."), kind, tuple(classes), ())


def with_note(trained, note):
    """Return a training as one that diverged."""
    return replace(trained, note=note)
