"""Image sets in which the class stands in one known place, and networks that read one place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import nn

from medglean.classify.assess import assess
from medglean.classify.model import Classifier
from medglean.classify.parts import Judged
from medglean.classify.scores import score_rows
from medglean.classify.settings import ClassifyPreset
from medglean.data.fetch import Normalise
from medglean.data.imageset import ImageSet
from medglean.data.manifest import Manifest
from medglean.data.recipe import Recipe

SIZE = 40
FRAME = 3
"""Pixels that a planted border takes: inside what the border baseline sees of 40."""
MIDDLE = slice(14, 26)


class Reads(nn.Module):
    """Call an image by the mean of one region: its logits rise with it, class after class."""

    def __init__(self, region: str, classes: int, kind: str = "single") -> None:
        super().__init__()
        where = torch.zeros(SIZE, SIZE)
        if region == "middle":
            where[MIDDLE, MIDDLE] = 1
        elif region == "border":
            where[:] = 1
            where[FRAME:-FRAME, FRAME:-FRAME] = 0
        self.register_buffer("where", where / where.sum())
        # levels 0.3, 0.5, ... of the classes are the means that each logit is highest at
        self.register_buffer("levels", 0.3 + 0.2 * torch.arange(classes))
        self.kind = kind
        self.scale = nn.Parameter(torch.tensor(60.0))

    def forward(self, images):
        value = (images.mean(dim=1) * self.where).sum(dim=(1, 2))
        if self.kind == "multi":
            return self.scale * (value[:, None] - 0.4).expand(-1, len(self.levels))
        return -self.scale * (value[:, None] - self.levels) ** 2


def _pictures(label, planted, rng):
    pictures = rng.normal(0.4, 0.1, (len(label), SIZE, SIZE))
    level = 0.3 + 0.2 * label[:, None, None] + rng.normal(0, 0.02, (len(label), 1, 1))
    if planted == "middle":
        pictures[:, MIDDLE, MIDDLE] = level + rng.normal(0, 0.05, (len(label), 12, 12))
    elif planted == "border":
        inner = pictures[:, FRAME:-FRAME, FRAME:-FRAME].copy()
        pictures[:] = level
        pictures[:, FRAME:-FRAME, FRAME:-FRAME] = inner
    return (np.clip(pictures, 0, 1) * 255).astype(np.uint8)


def _made(
    folder: Path,
    planted: str,
    *,
    reads: str | None = None,
    patients: int = 90,
    classes: int = 2,
    images_each: int = 1,
    learn: bool = True,
    table: Callable[[np.ndarray, np.random.Generator], dict[str, object]] | None = None,
    labels: list[str] | None = None,
    masks: bool | str = False,
    padded: bool = False,
    preset: dict[str, object] | None = None,
    seed: int = 0,
) -> Judged:
    """Write images whose class stands in one place, and judge them by a network.

    ``planted`` and ``reads`` are "middle", "border" or "nothing". Two thirds of the patients are
    learnt from, the others judged. With ``padded`` a file is the larger the later its class.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(patients), images_each)
    label = who % classes
    pictures = _pictures(label, planted, rng)
    for number, picture in enumerate(pictures):
        told = PngInfo()
        if padded:
            told.add_text("padding", "x" * (500 * label[number]))
        Image.fromarray(picture).save(folder / f"{number}.png", pnginfo=told)
    names = [f"class {j}" for j in range(classes)]
    columns = {
        "id": [f"i{number}" for number in range(len(who))],
        "image": [f"{number}.png" for number in range(len(who))],
        "patient": [f"p{one}" for one in who],
        "split": ["test" if one // classes % 3 == 0 else "train" for one in who],
    }
    if labels is None:
        columns["label"] = [names[j] for j in label]
    else:
        columns["labels"] = labels
        names = sorted({part for text in labels for part in text.split(";")} - {""})
    if table is not None:
        columns |= table(label, rng)
    if masks:
        mask = np.zeros((SIZE, SIZE), np.uint8)
        mask[MIDDLE, MIDDLE] = 255
        Image.fromarray(mask).save(folder / "mask.png")
        columns["mask"] = [
            "mask.png" if masks is True or number % 2 else None for number in range(len(who))
        ]
    manifest = Manifest.from_frame(pd.DataFrame(columns), folder)
    kind = "single" if labels is None else "multi"
    images = ImageSet(
        manifest,
        Recipe(size_px=(SIZE, SIZE), channels="grey"),
        cache=None,
        label_column="label" if labels is None else "labels",
        workers=0,
    )
    settings = ClassifyPreset.model_validate(
        {
            "name": "planted",
            "summary": "for tests",
            "measure": {"replicates": 200},
            **(preset or {}),
        }
    )
    network = Reads(reads or planted, len(names), kind).eval()
    classifier = Classifier(network, settings, tuple(names), kind, Normalise(), "0" * 64)
    rows = images.positions("test")
    scores = score_rows(classifier, images, rows)
    groups = images.groups[rows]
    found = assess(
        images.targets[rows],
        scores.probability,
        groups,
        kind=kind,
        classes=names,
        replicates=200,
        seed=0,
    )
    return Judged(
        classifier=classifier,
        images=images,
        scores=scores,
        found=found,
        groups=groups,
        learn=images.positions("train") if learn else None,
        seed=0,
    )


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Judged]:
    """Return the function that makes images and judges them."""

    def make(planted: str, **settings: object) -> Judged:
        return _made(tmp_path_factory.mktemp("planted"), planted, **settings)

    return make


@pytest.fixture(scope="session")
def in_the_middle(made) -> Judged:
    return made("middle")


@pytest.fixture(scope="session")
def in_the_border(made) -> Judged:
    return made("border")
