"""Small folders laid out as the report's sets are, and a network that learns from them at once."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from torch import nn

from medglean.classify.study.settings import CxrStudyPreset
from medglean.nn.backbones import Architecture
from medglean.runs.preset import load_preset

TINY = "resnet-tiny"
"""Of `tiny_architecture`; names that begin so have no dropout to set."""
SMALL = (
    "images.size_px=[64, 64]",
    "fit.epochs=1",
    "fit.batch_size=8",
    "fit.accelerator=cpu",
    "fit.optimizer.learning_rate=1e-3",
    "measure.replicates=100",
    f'study.networks=["{TINY}"]',
    f"study.pretrained_network={TINY}",
    "study.pretrained=none",
    f"study.ablate={TINY}",
    "study.rates=[1e-3]",
    "study.batches=[8]",
    "study.classes=[2]",
    "study.shares=[0.5]",
    'study.optimizers={"SGD" = ["fit.optimizer.name=sgd"]}',
)
"""One row in each table; those of the rate and the batch are the network's own training."""


class _Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 5, stride=4)
        self.layer4 = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.fc = nn.Linear(16, 10)

    def forward(self, images):
        return self.fc(self.layer4(self.conv1(images)))


def tiny_architecture() -> Architecture:
    return Architecture(lambda weights=None: _Tiny(), "conv1", "fc", "layer4", 32)


def small(preset: str, *overrides: str) -> CxrStudyPreset:
    return load_preset(preset, CxrStudyPreset, overrides=[*SMALL, *overrides])


def draw(path: Path, number: int, level: int) -> None:
    """Write a picture of its own whose brightness tells the class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(number)
    pixels = np.clip(level + random.normal(0, 40, (48, 64)), 0, 255).astype(np.uint8)
    path.write_bytes(cv2.imencode(path.suffix, cv2.GaussianBlur(pixels, (0, 0), 2))[1].tobytes())


def radiography(folder: Path, *, each: int = 12) -> Path:
    """Write the first set: four class folders with images."""
    root = folder / "COVID-19_Radiography_Dataset"
    names = ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")
    for place, name in enumerate(names):
        for number in range(each + place):  # so that classes are not equally frequent
            draw(root / name / "images" / f"{name}-{number}.png", 100 * place + number, 60 * place)
    return folder


def pneumonia(folder: Path, *, each: int = 12) -> Path:
    """Write the second set: three class folders and nothing else."""
    for place, name in enumerate(("COVID", "NORMAL", "PNEUMONIA")):
        for number in range(each):
            draw(folder / name / f"{name} ({number}).jpg", 100 * place + number, 80 * place)
    return folder


def kermany(folder: Path, *, each: int = 12) -> Path:
    """Write Kermany's set, with patients whose numbers start anew in each part."""
    for part in ("train", "test"):
        shift = 1000 * (part == "test")
        for number in range(each if part == "train" else 4):
            place = folder / "chest_xray" / part
            draw(place / "NORMAL" / f"IM-{number:04}-0001.jpeg", shift + number, 60)
            draw(
                place / "PNEUMONIA" / f"person{number}_virus_{number}.jpeg",
                shift + 500 + number,
                180,
            )
    return folder


FINDINGS = ("Pneumonia/Viral/COVID-19", "Pneumonia/Bacterial", "No Finding")


def covid_chestxray(folder: Path, *, patients: int = 24) -> Path:
    """Write the third set: a table of findings, every other patient with a second, supine image."""
    lines = ["patientid,offset,sex,age,finding,view,modality,folder,filename"]
    number = 0
    for patient in range(patients):
        finding = FINDINGS[patient % 4 // 2 if patient % 6 else 2]
        views = ("PA" if patient % 3 else "AP", "AP Supine")[: 1 + patient % 2]
        for view in (*views, *(["L"] if patient == 0 else [])):
            name = f"{number}.jpg"
            draw(folder / "images" / name, number, 60 + 60 * FINDINGS.index(finding))
            lines.append(f"{patient},0,M,60,{finding},{view},X-ray,images,{name}")
            number += 1
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return folder
