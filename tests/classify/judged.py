"""A judged classifier made of numbers, without a network."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd

from medglean.classify.assess import assess
from medglean.classify.parts import Judged
from medglean.classify.settings import ClassifyPreset
from medglean.data.manifest import Manifest

REPLICATES = 200


def judge(
    probability,
    targets,
    *,
    classes=("normal", "ill"),
    patients=None,
    ids=None,
    decisions=None,
    **columns,
) -> Judged:
    """Return scores of images as the report's sections take them."""
    n = len(probability)
    kind = "single" if targets.ndim == 1 else "multi"
    ids = [f"other/{row}" for row in range(n)] if ids is None else list(ids)
    frame = pd.DataFrame({"id": ids, "image": [f"{row}.png" for row in range(n)], **columns})
    if patients is not None:
        frame["patient"] = patients
    manifest = Manifest.from_frame(frame, "/")
    groups = manifest.groups("patient")
    found = assess(targets, probability, groups, kind=kind, classes=classes, replicates=REPLICATES)
    preset = ClassifyPreset.model_validate(
        {"name": "test", "task": "classify", "measure": {"replicates": REPLICATES}}
    )
    rows = np.arange(n)
    return Judged(
        classifier=SimpleNamespace(
            preset=preset, classes=tuple(classes), kind=kind, decisions=decisions
        ),
        images=SimpleNamespace(manifest=manifest, ids=ids),
        scores=SimpleNamespace(rows=rows, probability=probability),
        found=found,
        groups=groups,
        learn=None,
        seed=0,
    )


def write_run(folder: Path, probability, targets, *, classes=("normal", "ill"), **columns) -> Path:
    """Write the scores of a training run's test part, and its split."""
    folder.mkdir()
    n = len(probability)
    columns.setdefault("id", [f"own/{row}" for row in range(n)])
    columns.setdefault("split", ["test"] * n)
    if targets.ndim == 1:
        truth = {"label": [classes[one] for one in targets]}
    else:
        truth = {
            "labels": [
                ";".join(name for name, one in zip(classes, row, strict=True) if one)
                for row in targets
            ]
        }
    scores = {f"probability.{name}": probability[:, j] for j, name in enumerate(classes)}
    frame = pd.DataFrame({**columns, **truth, **scores})
    frame.to_parquet(folder / "results.parquet", index=False)
    learnt = pd.DataFrame({"id": ["train/1", "train/2"], "split": ["train", "val"]})
    split = pd.concat([learnt, frame[["id", "split"]]])
    split.to_csv(folder / "split.csv", index=False)
    return folder


def two_classes(n, *, separation, positives=0.5, seed=0):
    """Return probabilities (n, 2) and targets of two classes that overlap."""
    generator = np.random.default_rng(seed)
    targets = (generator.random(n) < positives).astype(np.int64)
    score = 1.0 / (1.0 + np.exp(-generator.normal(separation * (targets - 0.5), 1.0)))
    return np.stack([1.0 - score, score], axis=1), targets
