"""Sets of synthetic ultrasound clips and of stained pairs on disk, and all sets at once."""

from __future__ import annotations

from pathlib import Path

from medglean.data.phantom.brain_set import write_brain
from medglean.data.phantom.cxr_set import write_cxr
from medglean.data.phantom.stain import LEVELS, stain_pair
from medglean.data.phantom.ultrasound import CLASSES, ultrasound_frame
from medglean.data.phantom.writing import new_folder, save_png, save_table
from medglean.errors import UsageError
from medglean.randomness import numpy_generator


def write_ultrasound(
    folder: Path,
    *,
    patients: int = 16,
    clips_per_patient: tuple[int, int] = (1, 2),
    frames: int = 10,
    size_px: tuple[int, int] = (192, 192),
    seed: int = 0,
) -> Path:
    """Write clips of near-duplicate frames; every second patient has B-lines.

    Parameters
    ----------
    folder
        A new or empty folder. It gets ``frames/CLIP/NNN.png`` and ``labels.csv`` with the columns
        ``path, label, clip_id, frame, patient_id``; labels are ``a-lines`` and ``b-lines``.
    patients
        How many.
    clips_per_patient
        The fewest and the most clips of one patient.
    frames
        How many per clip.
    size_px
        Height and width.
    seed
        Another seed, another set.

    Returns
    -------
    Path
        The path of ``labels.csv``.

    Raises
    ------
    UsageError
        If the folder is not empty, or a number is too small.
    """
    low, high = clips_per_patient
    if patients < 2 or frames < 1 or not 1 <= low <= high:
        raise UsageError(
            f"{patients} patients, {low} to {high} clips each, {frames} frames: expected at least "
            "2 patients (every second has B-lines), 1 clip and 1 frame."
        )
    folder = new_folder(folder)
    rng = numpy_generator(seed, "us-set")
    rows: list[dict[str, object]] = []
    clip = 0
    for patient in range(patients):
        b_lines = patient % 2 == 1
        for _ in range(int(rng.integers(low, high + 1))):
            for frame in range(frames):
                path = f"frames/clip{clip:03d}/{frame:03d}.png"
                image = ultrasound_frame(seed, clip, frame, b_lines=b_lines, size_px=size_px)
                save_png(folder / path, image)
                rows.append(
                    {
                        "path": path,
                        "label": CLASSES[b_lines],
                        "clip_id": f"clip{clip:03d}",
                        "frame": frame,
                        "patient_id": f"p{patient:04d}",
                    }
                )
            clip += 1
    return save_table(folder, rows)


def write_stain(
    folder: Path,
    *,
    slides_per_level: int = 5,
    fields_per_slide: int = 4,
    size_px: tuple[int, int] = (256, 256),
    seed: int = 0,
) -> Path:
    """Write registered pairs of H&E and HER2 immunohistochemistry.

    Parameters
    ----------
    folder
        A new or empty folder. It gets ``he/``, ``ihc/`` and ``labels.csv`` with the columns
        ``image`` (H&E), ``target`` (IHC), ``label`` (0, 1+, 2+, 3+), ``patient_id, slide_id``.
    slides_per_level
        How many slides, each of a patient of its own, at each of the four levels.
    fields_per_slide
        How many pairs of each slide.
    size_px
        Height and width.
    seed
        Another seed, another set.

    Returns
    -------
    Path
        The path of ``labels.csv``.

    Raises
    ------
    UsageError
        If the folder is not empty, or a number is below 1.
    """
    if slides_per_level < 1 or fields_per_slide < 1:
        raise UsageError(
            f"{slides_per_level} slides per level with {fields_per_slide} fields: expected at "
            "least 1 of each."
        )
    folder = new_folder(folder)
    rows: list[dict[str, object]] = []
    for slide in range(4 * slides_per_level):
        level = slide % 4
        for field in range(fields_per_slide):
            name = f"s{slide:03d}_{field:02d}.png"
            he, ihc = stain_pair(seed, len(rows), level=level, size_px=size_px)
            save_png(folder / "he" / name, he)
            save_png(folder / "ihc" / name, ihc)
            rows.append(
                {
                    "image": f"he/{name}",
                    "target": f"ihc/{name}",
                    "label": LEVELS[level],
                    "patient_id": f"p{slide:04d}",
                    "slide_id": f"s{slide:03d}",
                }
            )
    return save_table(folder, rows)


def write_all(folder: Path, *, seed: int = 0) -> dict[str, Path]:
    """Write every set in its default size and return the path of each table by the set's name."""
    folder = new_folder(folder)
    return {
        "cxr": write_cxr(folder / "cxr", seed=seed),
        "brain": write_brain(folder / "brain", seed=seed),
        "ultrasound": write_ultrasound(folder / "ultrasound", seed=seed),
        "stain": write_stain(folder / "stain", seed=seed),
    }
