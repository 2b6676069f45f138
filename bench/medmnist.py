r"""Unpack a MedMNIST file into images and a table that ``medglean index`` takes.

    python bench/medmnist.py pneumoniamnist.npz -o pneumonia --classes normal pneumonia
    medglean index pneumonia -o pneumonia.parquet

The file holds ``train_images`` (n, h, w) or (n, h, w, 3), ``train_labels`` (n, 1), and the same for
val and test; parts that are absent are left out, and where there is no test part, val takes its
place. Images are written as PNG without any change,
``labels.csv`` has the columns ``path, label, split``; ``--one-part`` leaves the split out, for
studies that divide anew. MedMNIST has no patients, so images of one person may be on both sides.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from PIL import Image

PARTS = ("train", "val", "test")


def unpack(
    file: Path, folder: Path, *, classes: list[str] | None = None, split: bool = True
) -> int:
    """Write images and table; return how many images there are.

    Raises
    ------
    SystemExit
        If the file has no part, more than one label per image, or a label without a name.
    """
    rows = []
    with np.load(file, allow_pickle=False) as arrays:
        parts = [part for part in PARTS if f"{part}_images" in arrays]
        if not parts:
            raise SystemExit(f"{file}: no train_images, val_images or test_images in it.")
        for part in parts:
            images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
            labels = labels.reshape(len(images), -1)
            if labels.shape[1] != 1:
                raise SystemExit(f"{file}: {labels.shape[1]} labels per image, expected one.")
            if classes is not None and labels.max() >= len(classes):
                raise SystemExit(f"{file}: label {labels.max()}, and {len(classes)} classes named.")
            place = folder / "images" / part
            place.mkdir(parents=True, exist_ok=True)
            for number, (image, label) in enumerate(zip(images, labels[:, 0], strict=True)):
                path = place / f"{number:06}.png"
                Image.fromarray(image).save(path)
                name = str(int(label)) if classes is None else classes[int(label)]
                side = "test" if part == "val" and "test" not in parts else part
                rows.append([path.relative_to(folder).as_posix(), name, *([side] * split)])
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as table:
        writer = csv.writer(table)
        writer.writerow(["path", "label", *(["split"] * split)])
        writer.writerows(rows)
    return len(rows)


def main() -> None:
    """Read the command line and unpack."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--classes", nargs="+")
    parser.add_argument("--one-part", action="store_true")
    arguments = parser.parse_args()
    count = unpack(
        arguments.file,
        arguments.out,
        classes=arguments.classes,
        split=not arguments.one_part,
    )
    print(f"{count:,} images in {arguments.out}.")


if __name__ == "__main__":
    main()
