"""A set of synthetic brain scans on disk: one PNG per slice and channel, or NIfTI volumes."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Bool, UInt8

from medglean.data.phantom.brain import CHANNELS, brain_slice
from medglean.data.phantom.writing import new_folder, save_png, save_table
from medglean.errors import UsageError

CLASSES = ("healthy", "lesion")


def write_brain(
    folder: Path,
    *,
    patients: int = 20,
    slices: int = 8,
    size_px: tuple[int, int] = (128, 128),
    seed: int = 0,
    nifti: bool = False,
    contrast: float = 1.0,
) -> Path:
    """Write axial slices of brains in four contrasts; every second patient has a lesion.

    Parameters
    ----------
    folder
        A new or empty folder. It gets ``images/``, ``masks/`` and ``labels.csv``, which is a
        manifest already: ``id, image.t1, image.t1ce, image.t2, image.flair, patient, group,
        label, mask, slice``. A slice that the lesion does not reach is ``healthy`` and has an
        empty mask.
    patients
        How many; each has one volume.
    slices
        How many per volume, from the level of the thalami upwards.
    size_px
        Height and width.
    seed
        Another seed, another set.
    nifti
        Write one ``.nii.gz`` per volume and channel, in RAS orientation, instead of PNG files;
        the table then refers to its slices.
    contrast
        How much the lesions' tissues differ from grey matter. At 1 brightness alone finds most of
        them; at 0.5 the fluid of T2 outshines them.

    Returns
    -------
    Path
        The path of ``labels.csv``.

    Raises
    ------
    UsageError
        If the folder is not empty, or there are fewer than two patients or one slice.
    """
    if patients < 2 or slices < 1:
        raise UsageError(
            f"{patients} patients with {slices} slices: expected at least 2 patients (every second "
            "has a lesion) and 1 slice."
        )
    folder = new_folder(folder)
    rows: list[dict[str, object]] = []
    for volume in range(patients):
        drawn = [
            brain_slice(
                seed, volume, height, lesion=volume % 2 == 1, size_px=size_px, contrast=contrast
            )
            for height in _heights(slices)
        ]
        scan, mask = np.stack([d[0] for d in drawn]), np.stack([d[1] for d in drawn])
        save = _save_nifti if nifti else _save_png
        references = save(folder, f"v{volume:04d}", scan, mask)
        for number, images in enumerate(references):
            truth = {
                "id": f"v{volume:04d}_{number:02d}",
                "patient": f"p{volume:04d}",
                "group": f"v{volume:04d}",
                "label": CLASSES[bool(mask[number].any())],
                "slice": number,
            }
            rows.append({**truth, **images})
    channels = [f"image.{channel}" for channel in CHANNELS]
    columns = ["id", *channels, "patient", "group", "label", "mask", "slice"]
    return save_table(folder, [{name: row[name] for name in columns} for row in rows])


def _heights(slices: int) -> list[float]:
    return [(number + 0.5) / slices * 0.95 for number in range(slices)]


def _save_png(
    folder: Path, name: str, scan: UInt8[np.ndarray, "n 4 h w"], mask: Bool[np.ndarray, "n h w"]
) -> list[dict[str, str]]:
    """Save every slice and return its references by column."""
    references = []
    for number in range(len(scan)):
        row = {}
        for k, channel in enumerate(CHANNELS):
            row[f"image.{channel}"] = f"images/{name}_{number:02d}_{channel}.png"
            save_png(folder / row[f"image.{channel}"], scan[number, k])
        row["mask"] = f"masks/{name}_{number:02d}.png"
        save_png(folder / row["mask"], mask[number])
        references.append(row)
    return references


def _save_nifti(
    folder: Path, name: str, scan: UInt8[np.ndarray, "n 4 h w"], mask: Bool[np.ndarray, "n h w"]
) -> list[dict[str, str]]:
    """Save the volume per channel and return the references of its axial slices by column."""
    (folder / "images").mkdir(exist_ok=True)
    (folder / "masks").mkdir(exist_ok=True)
    spacing_mm = 200.0 / max(scan.shape[2:])
    affine = np.diag([spacing_mm, spacing_mm, 90.0 / len(scan), 1.0])
    paths = {f"image.{channel}": f"images/{name}_{channel}.nii.gz" for channel in CHANNELS}
    parts = {path: scan[:, k] for k, path in enumerate(paths.values())}
    paths["mask"] = f"masks/{name}.nii.gz"
    parts[paths["mask"]] = mask.astype(np.uint8)
    for path, part in parts.items():
        # rows run backwards and columns to the left; RAS wants right, front, head
        volume = part.transpose(2, 1, 0)[::-1, ::-1, :]
        image = nib.Nifti1Image(np.ascontiguousarray(volume), affine)
        nib.save(image, folder / path)
    return [
        {column: f"{path}#axis=2,index={k}" for column, path in paths.items()}
        for k in range(len(scan))
    ]
