"""Which images must stay on one side of a split because they show the same picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medglean.data.augmented import augmented_copies
from medglean.data.cache_folder import told
from medglean.data.duplicates import components, near_duplicates, same_keys
from medglean.data.glance import Glances, glance
from medglean.data.manifest import Manifest
from medglean.data.reference import ImageReference
from medglean.errors import Problem
from medglean.files import sha256_of_json, write_json

_VERSION = 1  # of the search: what an older one found is looked for anew


@dataclass(frozen=True)
class Ties:
    """Near duplicates of a manifest.

    Attributes
    ----------
    sets
        Ids of images that show one picture, each set of two or more; an image is in one set only.
    problems
        How many there are, as a warning that stops nothing.
    """

    sets: tuple[tuple[str, ...], ...]
    problems: tuple[Problem, ...]


def near_duplicate_ties(
    rows: Manifest,
    *,
    workers: int = 2,
    cache: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> Ties:
    """Find the images that show the same picture, augmented copies included.

    Every image is read once. Images that cannot be read, or show nothing, are tied to none.

    Parameters
    ----------
    rows
        Whose images are on disk.
    workers
        Images decoded at the same time.
    cache
        Folder in which the result is kept for these files at their present size and time of
        change; by default nothing is kept.
    progress
        Called with the number of images read.

    Raises
    ------
    CacheError
        If the folder cannot be written.
    """
    kept = None if cache is None else cache / f"ties-{_key(rows)}.json"
    member = None if kept is None else _read(kept, len(rows))
    if member is None:
        member = _same_picture(glance(rows, workers=workers, progress=progress))
        if kept is not None:
            with told(kept.parent):
                kept.parent.mkdir(parents=True, exist_ok=True)
                write_json(kept, member.tolist())
    sets = tuple(
        tuple(rows.ids[place] for place in places) for places in same_keys(member.tolist())
    )
    return Ties(sets, tuple(_counted(rows, sets)))


def _same_picture(seen: Glances) -> np.ndarray:
    """Return for each image the lowest position that shows the same picture, shape (n,)."""
    facts = seen.facts
    shown = seen.ok & (facts["deviation"].fillna(0.0).to_numpy(dtype=float) > 0)
    pixels = facts["pixels_sha256"].where(shown)
    pairs = [(same[0], other) for same in same_keys(pixels.tolist()) for other in same[1:]]
    # one of each set of equal pixels stands for all: otherwise pairs would grow as its square
    single = np.flatnonzero(shown & ~pixels.duplicated().to_numpy())
    near = near_duplicates(seen.thumbnails[single])
    turned = augmented_copies(seen.thumbnails[single])
    first = [[a for a, _ in pairs], single[near.first], single[turned.first]]
    second = [[b for _, b in pairs], single[near.second], single[turned.second]]
    ends = (np.concatenate(side).astype(np.int64) for side in (first, second))
    return components(len(facts), *ends)


def _counted(rows: Manifest, sets: tuple[tuple[str, ...], ...]) -> list[Problem]:
    if not sets:
        return []
    group = dict(zip(rows.ids, rows.groups().tolist(), strict=True))
    apart = sum(len({group[one] for one in linked}) > 1 for linked in sets)
    found = (
        f"{sum(map(len, sets))} images show the same picture as another, in {len(sets)} sets; "
        f"{apart} of the sets join different patients. Each set stays on one side."
    )
    name = str(rows.path or "the manifest")
    return [Problem(name, found, "", kind="near-duplicates", fatal=False)]


def _key(rows: Manifest) -> str:
    """Return what changes when an image does, or the list of images."""
    references = rows.frame[rows.image_columns].astype(object).to_numpy().tolist()
    files = {
        ImageReference.parse(text).path for row in references for text in row if _is_text(text)
    }
    states = []
    for file in sorted(files):
        try:
            state = (rows.root / file).stat()
            states.append([str(file), state.st_size, state.st_mtime_ns])
        except OSError:
            states.append([str(file), None, None])
    texts = [[text if _is_text(text) else None for text in row] for row in references]
    return sha256_of_json([_VERSION, texts, states])[:24]


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _read(path: Path, count: int) -> np.ndarray | None:
    """Return what was kept, or None where it is not there or not whole."""
    try:
        member = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(member, list) or len(member) != count:
        return None
    if not all(isinstance(place, int) and 0 <= place < count for place in member):
        return None
    return np.array(member, dtype=np.int64)
