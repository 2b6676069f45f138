"""A set of synthetic chest X-rays on disk, with flaws planted in it if asked."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from PIL import Image

from medglean.data.phantom.cxr import cxr_image
from medglean.data.phantom.writing import new_folder, save_png, save_table, truncate
from medglean.errors import UsageError
from medglean.randomness import numpy_generator

Flaw = Literal["duplicate", "relabelled", "truncated", "constant", "confound"]
FLAWS: tuple[Flaw, ...] = get_args(Flaw)
CLASSES = ("normal", "opacity")


def write_cxr(
    folder: Path,
    *,
    patients: int = 60,
    images_per_patient: tuple[int, int] = (1, 3),
    size_px: tuple[int, int] = (256, 256),
    seed: int = 0,
    flaws: Sequence[Flaw] = (),
) -> Path:
    """Write chest X-rays of healthy patients and, as many, of patients with opacities.

    Parameters
    ----------
    folder
        A new or empty folder; it gets ``images/``, ``masks/`` (where the opacity is) and
        ``labels.csv`` with the columns ``path, label, patient_id, mask, source``.
    patients
        How many; every second one has opacities, in all of his or her images.
    images_per_patient
        The fewest and the most images of one patient.
    size_px
        Height and width.
    seed
        Another seed, another set.
    flaws
        What to plant for an audit to find. ``duplicate``: an image filed again under another
        patient of the same class. ``relabelled``: one re-saved as JPEG under a patient of the
        other class. ``truncated``: a file cut in half. ``constant``: an image of one grey.
        ``confound``: nine of ten images with opacities come from a second source whose scanner
        leaves a bright frame, as do one of ten healthy ones.

    Returns
    -------
    Path
        The path of ``labels.csv``.

    Raises
    ------
    UsageError
        If the folder is not empty, there are fewer than two patients, or a flaw is unknown.
    """
    _check(patients, images_per_patient, flaws)
    folder = new_folder(folder)
    rng = numpy_generator(seed, "cxr-set")
    rows: list[dict[str, object]] = []
    for patient in range(patients):
        low, high = images_per_patient
        opacity = patient % 2 == 1
        for number in range(int(rng.integers(low, high + 1))):
            image, mask = cxr_image(
                seed, len(rows), opacity=opacity, patient=patient, size_px=size_px
            )
            other = rng.random() < (0.9 if opacity else 0.1)
            second = "confound" in flaws and bool(other)
            if second:
                image = _with_frame(image)
            name = f"p{patient:04d}_{number}.png"
            save_png(folder / "images" / name, image)
            save_png(folder / "masks" / name, mask)
            rows.append(
                {
                    "path": f"images/{name}",
                    "label": CLASSES[opacity],
                    "patient_id": f"p{patient:04d}",
                    "mask": f"masks/{name}",
                    "source": "clinic-b" if second else "clinic-a",
                }
            )
    _plant(folder, rows, flaws)
    return save_table(folder, rows)


def _check(patients: int, images_per_patient: tuple[int, int], flaws: Sequence[str]) -> None:
    if patients < 2:
        raise UsageError(f"{patients} patients: expected at least 2, one per class.")
    low, high = images_per_patient
    if not 1 <= low <= high:
        raise UsageError(f"images_per_patient {low, high}: expected 1 <= fewest <= most.")
    unknown = sorted(set(flaws) - set(FLAWS))
    if unknown:
        raise UsageError(f"unknown flaw {unknown[0]!r}; there are {', '.join(FLAWS)}.")


def _with_frame(image: np.ndarray) -> np.ndarray:
    framed = image.copy()
    width = max(2, min(image.shape) // 40)
    for edge in (np.s_[:width], np.s_[-width:], np.s_[:, :width], np.s_[:, -width:]):
        framed[edge] = 225
    return framed


def _plant(folder: Path, rows: list[dict[str, object]], flaws: Sequence[Flaw]) -> None:
    """Add files with flaws; the other rows stay as they are."""
    first = {label: next(r for r in rows if r["label"] == label) for label in CLASSES}
    last = {label: next(r for r in reversed(rows) if r["label"] == label) for label in CLASSES}
    size_px = _size_of(folder / str(rows[0]["path"]))
    images = folder / "images"

    def add(name: str, like: dict[str, object], *, mask: object) -> None:
        rows.append({**like, "path": f"images/{name}", "mask": mask})

    if "duplicate" in flaws:
        name = f"{last['normal']['patient_id']}_again.png"
        shutil.copyfile(folder / str(first["normal"]["path"]), images / name)
        add(name, last["normal"], mask=first["normal"]["mask"])
    if "relabelled" in flaws:
        name = f"{last['normal']['patient_id']}_resaved.jpg"
        with Image.open(folder / str(first["opacity"]["path"])) as picture:
            picture.save(images / name, quality=85)
        add(name, last["normal"], mask="")
    if "truncated" in flaws:
        name = f"{last['opacity']['patient_id']}_cut.png"
        shutil.copyfile(folder / str(last["opacity"]["path"]), images / name)
        truncate(images / name)
        add(name, last["opacity"], mask=last["opacity"]["mask"])
    if "constant" in flaws:
        name = f"{first['normal']['patient_id']}_blank.png"
        save_png(images / name, np.full(size_px, 127, np.uint8))
        add(name, first["normal"], mask="")


def _size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.height, picture.width
