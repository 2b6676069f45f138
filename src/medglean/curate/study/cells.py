"""The cells of a study: each trains one learner on one subset, and is kept as soon as it is done.

A cell's numbers are a function of (seed, replicate, method, size) and of the images, so cells can
run in any order, in any number of processes and in any number of sittings.
"""

from __future__ import annotations

import math
import multiprocessing
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from medglean.curate.study.classifiers import classify
from medglean.curate.study.material import Material
from medglean.curate.study.segmenters import segment
from medglean.curate.study.settings import LearnerSettings
from medglean.curate.study.training import one_thread
from medglean.errors import DataError
from medglean.files import sha256_of_json
from medglean.randomness import key_of


@dataclass(frozen=True)
class Cell:
    """One method, size and replicate.

    Attributes
    ----------
    replicate
        Counted from 0.
    method
        Name of a selection method, or ``full``.
    size
        As in the settings, such as ``"45"`` or ``"5%"``; ``full`` for the whole pool.
    learn, test
        Rows to learn from and to measure on.
    pool
        Rows of the replicate's whole training pool.
    patients, groups
        How many of each the subset shows.
    classes
        Images of each class in the subset; empty for masks.
    """

    replicate: int
    method: str
    size: str
    learn: Int[np.ndarray, " n"]
    test: Int[np.ndarray, " m"]
    pool: Int[np.ndarray, " p"]
    patients: int
    groups: int
    classes: dict[str, int]

    @property
    def name(self) -> str:
        """Name of its file, without suffix."""
        size = re.sub(r"[^\w.]", "", self.size.replace("%", "pc"))
        return f"{self.replicate:03}-{self.method}-{size}"

    def key(self, seed: int) -> int:
        """Return the seed of everything that is random in its training."""
        return key_of(seed, "study", "learn", self.replicate, self.method, self.size)

    def fingerprint(self) -> str:
        """Return a SHA-256 of which rows it learns from and is measured on."""
        return sha256_of_json([self.learn.tolist(), self.test.tolist()])


def run_cell(
    cell: Cell, material: Material, settings: LearnerSettings, *, seed: int, folder: Path
) -> dict[str, Any]:
    """Train, score and return a cell's record.

    Raises
    ------
    DataError
        If the score is undefined, such as an AUROC on test images of one class.
    """
    began = time.perf_counter()
    common: dict[str, Any] = {
        "learn": np.sort(cell.learn),
        "test": cell.test,
        "seed": cell.key(seed),
        "folder": folder / cell.name,
    }
    with one_thread():
        if settings.is_segmentation:
            scores = segment(material, settings, **common)
        else:
            scores = classify(material, settings, pool=cell.pool, **common)
    record = asdict(cell)
    del record["learn"], record["test"], record["pool"]
    return {
        **record,
        "images": len(cell.learn),
        "test_images": len(cell.test),
        "scores": {name: None if math.isnan(value) else value for name, value in scores.items()},
        "fingerprint": cell.fingerprint(),
        "seconds": round(time.perf_counter() - began, 3),
    }


def run_cells(
    cells: Sequence[Cell],
    material: Material,
    settings: LearnerSettings,
    *,
    seed: int,
    folder: Path,
    processes: int,
) -> Iterator[dict[str, Any]]:
    """Give the record of each cell as it comes to its end, in any order.

    Parameters
    ----------
    cells
        Those that are still to do.
    folder
        For what a training writes while it runs.
    processes
        How many at the same time; 1: in this process.
    """
    if processes == 1 or len(cells) < 2:
        for cell in cells:
            yield run_cell(cell, material, settings, seed=seed, folder=folder)
        return
    # spawned, not forked: a process with torch's threads in it must not be forked
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(
        min(processes, len(cells)), context, _begin, (material, settings, seed, folder)
    )
    # a generator that is closed early, by Ctrl-C or an error, must not wait for all other cells
    with executor:
        try:
            waiting: list[Future[dict[str, Any]]] = [executor.submit(_go, one) for one in cells]
            for done in as_completed(waiting):
                yield done.result()
        finally:
            executor.shutdown(wait=False, cancel_futures=True)


_run: Callable[[Cell], dict[str, Any]] | None = None


def _begin(material: Material, settings: LearnerSettings, seed: int, folder: Path) -> None:
    global _run

    def run(cell: Cell) -> dict[str, Any]:
        return run_cell(cell, material, settings, seed=seed, folder=folder)

    _run = run


def _go(cell: Cell) -> dict[str, Any]:
    if _run is None:
        raise RuntimeError("this process was not prepared to run cells.")
    return _run(cell)


def table(records: Sequence[dict[str, Any]], *, primary: str) -> pd.DataFrame:
    """Return one row per cell, sorted, with the score that is compared as ``score``.

    Raises
    ------
    DataError
        If that score is undefined somewhere.
    """
    rows = []
    for record in records:
        score = record["scores"].get(primary)
        if score is None:
            raise DataError(
                f"cell {record['method']} {record['size']} of replicate {record['replicate']}: "
                f"{primary} is undefined on its {record['test_images']} test images (one class "
                "only, or no structure in them). Enlarge test.share, or choose another score."
            )
        plain = {key: value for key, value in record.items() if key not in ("scores", "classes")}
        scores = {f"score: {name}": value for name, value in record["scores"].items()}
        classes = {f"images: {name}": count for name, count in record["classes"].items()}
        rows.append({**plain, "score": score, **scores, **classes})
    frame = pd.DataFrame(rows)
    return frame.sort_values(["images", "size", "method", "replicate"], ignore_index=True)
