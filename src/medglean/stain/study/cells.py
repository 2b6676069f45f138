"""What a study has measured so far, on disk: one cell for each method and fold.

A cell is written when it is whole, so a study that was killed goes on with the first that is
missing, without the networks of those that are there.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from PIL import Image

from medglean.runs.rundir import RunFolder
from medglean.stain.likeness import Features, together
from medglean.stain.measured import Kept, Made
from medglean.stain.study.rows import Cost


@dataclass(frozen=True)
class Cell:
    """One method on the test rows of one fold.

    Attributes
    ----------
    made
        Numbers of each pair, and the images that are shown.
    cost
        Of training.
    """

    made: Made
    cost: Cost


def read_cell(run: RunFolder, name: str, shown: Sequence[int]) -> Cell | None:
    """Return a cell; None where it is not whole or lacks an image that is to be shown.

    Parameters
    ----------
    name
        Of its files in the run's folder, without suffix.
    shown
        Rows to show, of which those of this cell must be there.
    """
    if not (run.path / f"{name}.json").is_file():
        return None
    facts = run.read_json(f"{name}.json")
    frame = pd.read_parquet(run.path / f"{name}.parquet")
    rows = frame["row"].to_numpy(dtype=np.int64)
    kept = {}
    for row in sorted(set(rows.tolist()) & set(shown)):
        file = run.path / f"{name}-{row}.png"
        if str(row) not in facts["white"] or not file.is_file():
            return None
        with Image.open(file) as image:
            kept[row] = Kept(np.asarray(image.convert("RGB")), np.array(facts["white"][str(row)]))
    table = {
        str(column): frame[column].to_numpy(dtype=np.float64)
        for column in frame.columns
        if column != "row"
    }
    features = None
    if (run.path / f"{name}.npz").is_file():
        with np.load(run.path / f"{name}.npz", allow_pickle=False) as stored:
            features = Features(**{part: stored[part] for part in stored.files})
    made = Made(rows, table, kept, float(facts["cpu_seconds"]), features)
    return Cell(made, Cost(**facts["cost"]))


def write_cell(run: RunFolder, name: str, cell: Cell) -> None:
    """Write a cell; its JSON last, for it says that the cell is whole."""
    frame = pd.DataFrame({"row": cell.made.rows, **cell.made.table})
    parquet = io.BytesIO()
    frame.to_parquet(parquet, index=False)
    run.write(f"{name}.parquet", parquet.getvalue())
    for row, one in cell.made.kept.items():
        png = io.BytesIO()
        Image.fromarray(one.generated).save(png, format="PNG")
        run.write(f"{name}-{row}.png", png.getvalue())
    if cell.made.features is not None:
        arrays = io.BytesIO()
        np.savez(arrays, **vars(cell.made.features))
        run.write(f"{name}.npz", arrays.getvalue())
    facts = {
        "cpu_seconds": cell.made.cpu_seconds,
        "cost": vars(cell.cost),
        "white": {str(row): one.white.tolist() for row, one in cell.made.kept.items()},
    }
    run.write_json(f"{name}.json", facts)


def joined(cells: Sequence[Cell]) -> Cell:
    """Return the cells of all folds as one, its rows rising; the cost is that of one fold.

    Raises
    ------
    ValueError
        If a row is in two folds.
    """
    rows = np.concatenate([cell.made.rows for cell in cells])
    if len(np.unique(rows)) < len(rows):
        raise ValueError("folds: expected each pair in one of them, found one in two.")
    order = np.argsort(rows)
    columns = list(cells[0].made.table)
    table = {
        name: np.concatenate([cell.made.table[name] for cell in cells])[order] for name in columns
    }
    kept = {row: one for cell in cells for row, one in cell.made.kept.items()}
    cpu = np.average(
        [cell.made.cpu_seconds for cell in cells], weights=[len(cell.made.rows) for cell in cells]
    )
    cost = Cost(
        float(np.mean([cell.cost.cpu_seconds for cell in cells])),
        round(np.mean([cell.cost.steps for cell in cells])),
        round(np.mean([cell.cost.weights for cell in cells])),
    )
    # FID and inception score do not depend on the order of images
    features = together([c.made.features for c in cells if c.made.features is not None])
    return Cell(Made(rows[order], table, kept, float(cpu), features), cost)
