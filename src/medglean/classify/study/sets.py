"""The report's sets: which folders are taken for one, and the manifest that is made of them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medglean.data.cache import Progress
from medglean.data.index import index
from medglean.data.manifest import Manifest
from medglean.errors import DataError, Problem
from medglean.runs.rundir import RunFolder

INDEXED, TOLD = "indexed.parquet", "indexed.json"

LAYOUTS: Mapping[str, tuple[str, ...]] = {
    "radiography": ("covid19-radiography",),
    "pneumonia": ("covid-pneumonia-normal", "kermany"),
    "covid-chestxray": ("covid-chestxray",),
}
"""Layouts of folders by the name of a set. The second set's pneumonia and normal images are
Kermany's, whose own folder, without COVID-19, is taken for it, too."""


@dataclass(frozen=True)
class Given:
    """The images that a study is given.

    Attributes
    ----------
    manifest
        Not divided yet.
    problems
        What was wrong with some of a folder's.
    is_indexed
        Whether the manifest was made of a folder.
    """

    manifest: Manifest
    problems: tuple[Problem, ...] = ()
    is_indexed: bool = False


def images_of_set(
    source: str | Path | Manifest,
    dataset: str,
    *,
    out: Path,
    resume: bool,
    workers: int,
    progress: Progress | None = None,
) -> Given:
    """Return a set's images from a manifest, its file, or the set's folder, which is indexed.

    Parameters
    ----------
    source
        What was given.
    dataset
        One of `LAYOUTS`.
    out
        The study's folder; what an earlier sitting indexed is read from it.
    resume
        Whether there may be an earlier sitting.
    workers, progress
        Of indexing.

    Raises
    ------
    DataError
        If a folder is that of another set.
    """
    if isinstance(source, Manifest):
        return Given(source)
    source = Path(source)
    if not source.is_dir():
        return Given(Manifest.read(source))
    if resume and (out / INDEXED).is_file() and (out / TOLD).is_file():
        told = json.loads((out / TOLD).read_text(encoding="utf-8"))
        return Given(Manifest.read(out / INDEXED), tuple(Problem(**one) for one in told), True)
    with tempfile.TemporaryDirectory(prefix="medglean-") as place:
        made = index(source, out=Path(place) / INDEXED, workers=workers, progress=progress)
        manifest = Manifest.read(Path(place) / INDEXED)
    if made.layout not in LAYOUTS[dataset]:
        raise DataError(
            f"{source}: looks like layout {made.layout!r} ({made.reason}); --dataset {dataset} "
            f"expects {' or '.join(map(repr, LAYOUTS[dataset]))}. Give the set's own folder, "
            "another --dataset, or a manifest, which is taken as it is."
        )
    here = Manifest(manifest.frame, manifest.root, warnings=manifest.warnings)
    return Given(here, tuple(made.problems), True)


def keep_indexed(run: RunFolder, given: Given) -> None:
    """Write what was made of a folder into the study, so that it is not read twice."""
    if not given.is_indexed:
        return
    given.manifest.write(run.path / INDEXED)
    run.write_json(TOLD, _rows(given.problems))


def _rows(problems: Sequence[Problem]) -> list[dict[str, object]]:
    return [problem.to_row() for problem in problems]
