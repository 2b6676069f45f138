"""How a preset holds up when the acquisition differs between training and test.

    python bench/shift.py kermany.parquet --work runs/shift [--variants plain full]

A random split flatters a classifier whose classes differ in acquisition. This holds out, by
patient, a random tenth of each class, and besides the images whose exposure, border, sharpness and
file size look most like the other class (a twelfth of each): normals that look like pneumonias do
in this collection, and the reverse. Each variant of the preset is trained on the rest, and AUROC is
told on both. Prints a line each and one of JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medglean import api
from medglean.data.glance import glance
from medglean.data.manifest import Manifest
from medglean.measure import weighted
from medglean.measure.intervals import cluster_bootstrap
from medglean.randomness import numpy_generator

RANDOM_SHARE, HARD_SHARE = 0.10, 0.08
TONE = ("augment.tone_probability=0.0", "augment.illumination_probability=0.0")
QUALITY = tuple(
    f"augment.{name}_probability=0.0" for name in ("blur", "sharpen", "downscale", "noise", "jpeg")
)
MASKS = ("augment.border_probability=0.0", "augment.erase_probability=0.0")
GEOMETRY = ("augment.geometry_probability=0.0",)
VARIANTS = {
    "full": (),
    "without masks": MASKS,
    "without quality": QUALITY,
    "without tone": TONE,
    "plain": (*TONE, *QUALITY, *MASKS, *GEOMETRY, "augment.flip_horizontal=0.0"),
}


def nuisance(manifest: Manifest) -> np.ndarray:
    """Describe each image by what need not be disease: exposure, border, sharpness, file size."""
    seen = glance(manifest, workers=1)
    rows = []
    for image, size in zip(seen.thumbnails, manifest.frame["bytes"], strict=True):
        grey = image.reshape(64, 64).astype(np.float32)
        edges = [grey[:4], grey[-4:], grey[:, :4], grey[:, -4:]]
        rows.append(
            [
                *np.quantile(grey, [0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99]),
                *(edge.mean() for edge in edges),
                grey.std(),
                cv2.Laplacian(grey, cv2.CV_32F).std(),
                np.log(size),
            ]
        )
    return np.array(rows)


def divide(manifest: Manifest, positive: str) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows are held out at random, and which because they look like the others."""
    target = (manifest.frame["label"] == positive).to_numpy()
    patients = manifest.groups()
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=2000))
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    score = cross_val_predict(
        model, nuisance(manifest), target, groups=patients, cv=folds, method="decision_function"
    )
    generator = numpy_generator(0, "shift")
    random, hard = set(), set()
    for has in (False, True):
        rows = np.flatnonzero(target == has)
        own = np.unique(patients[rows].astype(str))
        random |= set(generator.permutation(own)[: int(RANDOM_SHARE * len(own))])
        order = rows[np.argsort(score[rows] if has else -score[rows])]
        hard |= set(patients[order[: int(HARD_SHARE * len(rows))]].astype(str))
    names = patients.astype(str)
    return np.isin(names, list(random)), np.isin(names, list(hard - random))


def main() -> int:
    """Train the variants and tell what each reaches."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--work", type=Path, default=Path("runs/shift"))
    parser.add_argument("--preset", default="cxr-small")
    parser.add_argument("--positive", default="PNEUMONIA")
    parser.add_argument("--variants", nargs="+", default=["plain", "full"], choices=list(VARIANTS))
    parser.add_argument("--overrides", nargs="*", default=[])
    arguments = parser.parse_args()
    manifest = Manifest.read(arguments.manifest)
    random, hard = divide(manifest, arguments.positive)
    split = np.where(random | hard, "test", "train")
    divided = manifest.with_columns(split=split)
    records = []
    for name in arguments.variants:
        run = arguments.work / name.replace(" ", "-")
        api.train(
            "classify",
            arguments.preset,
            divided,
            out=run,
            overrides=[*VARIANTS[name], *arguments.overrides],
            resume=True,
            cache=arguments.work / "cache",
        )
        scores = pd.read_parquet(run / "results.parquet").set_index("id")
        for part, rows in (("random tenth", random), ("looks like the other class", hard)):
            ids = manifest.frame["id"][rows]
            told = scores.loc[ids]
            interval = cluster_bootstrap(
                weighted.auroc(
                    (told["label"] == arguments.positive).to_numpy(),
                    told[f"probability.{arguments.positive}"].to_numpy(),
                ),
                manifest.groups()[rows].astype(str),
            )
            records.append(
                {
                    "name": f"AUROC, {arguments.preset}, {name}: {part}",
                    "value": interval.value,
                    "low": interval.low,
                    "high": interval.high,
                    "n": interval.n,
                    "groups": interval.groups,
                    "command": " ".join(["python bench/shift.py", *sys.argv[1:]]),
                    "machine": "2 CPU cores",
                }
            )
            print(f"{records[-1]['name']}: {interval.value:.3f}", flush=True)
    (arguments.work / "results.json").write_text(json.dumps(records))
    print(json.dumps({"records": records}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
