"""The files of a curation as tables: what to label, in which order, and what was left out, why.

Ranks count from 1. Ids are text and stay text. Similarities are cosines, to six decimals; empty
where there was nothing to be similar to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from medglean.curate.duplicates import LabelConflicts, Leakage, Pairs, families
from medglean.curate.order import PRESELECTED, Ranking
from medglean.curate.redundancy import Redundancy
from medglean.data.curated import CURATED_BY
from medglean.data.manifest import Manifest
from medglean.errors import UsageError
from medglean.runs.tables import json_ready

OWN_COLUMNS = ("rank", "largest_similarity", "nearest", "reason", CURATED_BY)
"""What `selected` adds; columns of these names in the source are replaced."""
_DIGITS = 6


def selected(
    manifest: Manifest, ranking: Ranking, *, method: str, preselected: Sequence[int] = ()
) -> Manifest:
    """Return the chosen images as a manifest: the work list.

    It keeps every column of the source, has a column ``label`` to be filled in where there was
    none, and when written finds its images from whatever folder it is put in.

    Parameters
    ----------
    manifest
        What was curated; positions are its rows.
    ranking
        The selection, the first to be labelled first.
    method
        Name of the method, such as ``"enrich"``; a training run warns when images curated by one
        are used as a test set.
    preselected
        Positions of images that were taken beforehand. They come first, with rank 0, so that the
        file is all that there is to train on.

    Raises
    ------
    UsageError
        If a position is not a row of the manifest, or stands there twice.
    """
    before = np.asarray(list(preselected), dtype=np.int64)
    positions = np.concatenate([before, np.asarray(ranking.order, dtype=np.int64)])
    _check_positions(positions, manifest)
    chosen = manifest.select(positions)
    none = np.full(len(before), np.nan)
    own = {
        "rank": np.r_[np.zeros(len(before), dtype=np.int64), np.arange(1, len(ranking) + 1)],
        "largest_similarity": _rounded(np.r_[none, ranking.similarity]),
        "nearest": [*[None] * len(before), *_ids_at(manifest, ranking.nearest)],
        "reason": [*[PRESELECTED] * len(before), *ranking.reason],
        CURATED_BY: [method] * len(positions),
    }
    frame = chosen.frame.drop(columns=[name for name in own if name in chosen.frame])
    if "label" not in frame and "labels" not in frame:
        frame = frame.assign(label=_texts([None] * len(frame)))
    return _framed(frame, own, ("id", *manifest.image_columns), manifest)


def order(manifest: Manifest, ranking: Ranking) -> Manifest:
    """Return the whole nested order: its first k rows are the selection at budget k.

    Only the columns that say which image it is are kept: id, image, patient and group.
    """
    _check_positions(np.asarray(ranking.order), manifest)
    chosen = manifest.select(np.asarray(ranking.order))
    keys = ["id", *manifest.image_columns]
    keys += [name for name in ("patient", "group") if name in chosen.frame]
    own = {
        "rank": np.arange(1, len(ranking) + 1),
        "largest_similarity": _rounded(ranking.similarity),
        "nearest": _ids_at(manifest, ranking.nearest),
        "reason": list(ranking.reason),
    }
    return _framed(chosen.frame[keys], own, keys, manifest)


def dropped(
    manifest: Manifest,
    chosen: Int[np.ndarray, " k"],
    *,
    nearest: Int[np.ndarray, " n"],
    similarity: Float[np.ndarray, " n"],
    set_aside: Mapping[int, str] | None = None,
) -> pd.DataFrame:
    """Return why each image was not selected: the selected image that stands for it.

    Parameters
    ----------
    manifest
        What was curated.
    chosen
        Positions of the selected images.
    nearest, similarity
        For each image of the manifest the selected image that is most similar to it, and how
        similar, as `medglean.curate.similarity.to_set` gives them; -1 and NaN where there is none.
    set_aside
        Images that no similarity speaks for or against, and why: outliers, zero vectors.

    Returns
    -------
    DataFrame
        Columns ``id``, the image's, ``group`` and ``patient`` where known, ``kept`` (id of the
        selected image), ``similarity``, ``reason``. The best represented images come first.
    """
    aside = dict(set_aside or {})
    is_out = np.ones(len(manifest), dtype=bool)
    is_out[np.asarray(chosen, dtype=np.int64)] = False
    positions = np.flatnonzero(is_out)
    # NaN last; of equally similar ones the lowest position first
    positions = positions[np.argsort(-similarity[positions], kind="stable")]
    kept = _ids_at(manifest, nearest[positions])
    frame = manifest.frame[_keys(manifest)].iloc[positions].reset_index(drop=True)
    return frame.assign(
        kept=_texts(kept),
        similarity=_rounded(similarity[positions]),
        reason=_texts(
            [
                aside.get(int(place)) or (f"represented by {name}" if name else "not reached")
                for place, name in zip(positions, kept, strict=True)
            ]
        ),
    )


def duplicates(
    manifest: Manifest,
    pairs: Pairs,
    *,
    leaks: Leakage | None = None,
    conflicts: LabelConflicts | None = None,
    chosen: Int[np.ndarray, " k"] | None = None,
) -> pd.DataFrame:
    """Return the near-duplicates, one row per pair, with what is wrong about them.

    Parameters
    ----------
    manifest
        What was curated.
    pairs
        In the order in which they are listed.
    leaks, conflicts
        What was found among them.
    chosen
        Positions of the selected images, to tell how many of a pair were selected.

    Returns
    -------
    DataFrame
        Columns ``first``, ``second`` (ids), ``similarity``, ``ssim`` where measured, ``family``
        (number of the connected near-duplicates, from 1, the largest first), ``same_group`` and
        ``same_patient`` where known, ``label_first``, ``label_second``, ``split_first``,
        ``split_second`` where there are such columns, ``selected`` (0, 1 or 2 of the two),
        ``finding`` (``label conflict``, ``split leak``, both, or empty), ``suspect`` (id of the
        image whose label its neighbourhood contradicts) and ``majority`` (what the neighbourhood
        is called).
    """
    columns: dict[str, Any] = {
        "first": _texts(_ids_at(manifest, pairs.first)),
        "second": _texts(_ids_at(manifest, pairs.second)),
        "similarity": _rounded(pairs.similarity),
    }
    if pairs.structure is not None:
        columns["ssim"] = _rounded(pairs.structure)
    columns["family"] = families(pairs, count=len(manifest))[pairs.first] + 1
    for name in ("group", "patient"):
        if name in manifest.frame:
            columns[f"same_{name}"] = _same(manifest.frame[name], pairs)
    label = next((name for name in ("label", "labels") if name in manifest.frame), None)
    for name, column in (("label", label), ("split", "split")):
        if column in manifest.frame:
            for side, positions in (("first", pairs.first), ("second", pairs.second)):
                values = manifest.frame[column].iloc[positions].reset_index(drop=True)
                columns[f"{name}_{side}"] = values
    if chosen is not None:
        taken = np.zeros(len(manifest), dtype=np.int64)
        taken[np.asarray(chosen, dtype=np.int64)] = 1
        columns["selected"] = taken[pairs.first] + taken[pairs.second]
    return pd.DataFrame({**columns, **_findings(manifest, pairs, leaks, conflicts)})


def _findings(
    manifest: Manifest, pairs: Pairs, leaks: Leakage | None, conflicts: LabelConflicts | None
) -> dict[str, pd.Series]:
    leaking = set() if leaks is None else set(_keys_of(leaks.pairs))
    contradicting = {}
    if conflicts is not None:
        suspects = _ids_at(manifest, conflicts.suspect)
        told = zip(suspects, conflicts.majority, strict=True)
        contradicting = dict(zip(_keys_of(conflicts.pairs), told, strict=True))
    finding, suspect, majority = [], [], []
    for key in _keys_of(pairs):
        words = ["label conflict"] * (key in contradicting) + ["split leak"] * (key in leaking)
        name, called = contradicting.get(key, (None, ""))
        finding.append("; ".join(words) or None)
        suspect.append(name)
        majority.append(called or None)
    return {
        "finding": _texts(finding),
        "suspect": _texts(suspect),
        "majority": _texts(majority),
    }


def outliers(
    manifest: Manifest,
    positions: Int[np.ndarray, " m"],
    *,
    score: Float[np.ndarray, " m"],
    reason: Sequence[str],
    removed: Bool[np.ndarray, " m"] | None = None,
) -> pd.DataFrame:
    """Return the junk list: images unlike all others, to be looked at by a person.

    Parameters
    ----------
    manifest
        What was curated.
    positions
        The images, the oddest first.
    score, reason
        How far from the others each is, and what that means.
    removed
        Whether each was kept out of the selection; None: all were.
    """
    frame = manifest.frame[_keys(manifest)].iloc[np.asarray(positions, dtype=np.int64)]
    kept_out = np.ones(len(positions), dtype=bool) if removed is None else removed
    return frame.reset_index(drop=True).assign(
        score=_rounded(score), reason=_texts(list(reason)), kept_out=kept_out
    )


def csv_text(frame: pd.DataFrame) -> str:
    """Return a table as the text of a CSV file, the same on every system."""
    text: str = frame.to_csv(index=False, lineterminator="\n")
    return text


def redundancy_record(found: Redundancy) -> dict[str, Any]:
    """Return ``redundancy.json``: how similar the images of this set are to one another.

    Of ``all`` pairs and, where groups are known, of those ``within`` and ``between`` them.
    """
    record: dict[str, Any] = json_ready(
        {
            "format": 1,
            "what": "pairs of images whose cosine similarity is above a threshold",
            "pairs": found.pairs,
            "above": _by_text(found.above),
            "share_above": _by_text(found.shares),
            "histogram": {"edges": found.edges, "counts": found.counts},
        }
    )
    return record


def _by_text(table: Mapping[str, Mapping[float, Any]]) -> dict[str, dict[str, Any]]:
    return {
        which: {f"{threshold:g}": value for threshold, value in values.items()}
        for which, values in table.items()
    }


# --- parts --------------------------------------------------------------------------------------


def _framed(
    frame: pd.DataFrame, own: Mapping[str, Any], keys: Sequence[str], manifest: Manifest
) -> Manifest:
    """Return a manifest with the rank first, what the image is next, and its own columns last."""
    added = {
        name: _texts(values) if isinstance(values, list) else values for name, values in own.items()
    }
    frame = frame.reset_index(drop=True).assign(**added)
    first = ["rank", *keys]
    rest = [name for name in frame.columns if name not in first and name not in own]
    mine = [name for name in own if name != "rank"]
    return type(manifest).from_frame(frame[[*first, *rest, *mine]], manifest.root)


def _keys(manifest: Manifest) -> list[str]:
    further = [name for name in ("group", "patient") if name in manifest.frame]
    return ["id", *manifest.image_columns, *further]


def _keys_of(pairs: Pairs) -> list[tuple[int, int]]:
    return list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))


def _ids_at(manifest: Manifest, positions: np.ndarray) -> list[str | None]:
    ids = manifest.ids
    return [ids[place] if place >= 0 else None for place in np.asarray(positions).tolist()]


def _same(column: pd.Series, pairs: Pairs) -> np.ndarray:
    """Return whether both images of each pair have the same value, a missing one being unlike."""
    codes, _ = pd.factorize(column)  # -1 is missing
    same: np.ndarray = (codes[pairs.first] == codes[pairs.second]) & (codes[pairs.first] >= 0)
    return same


def _texts(values: Sequence[str | None]) -> pd.Series:
    return pd.Series(list(values), dtype=pd.StringDtype(na_value=np.nan))


def _rounded(values: np.ndarray) -> np.ndarray:
    rounded: np.ndarray = np.round(np.asarray(values, dtype=np.float64), _DIGITS)
    return rounded


def _check_positions(positions: np.ndarray, manifest: Manifest) -> None:
    count = len(manifest)
    if len(positions) == 0:
        raise UsageError("no image was selected. Raise the budget.")
    if positions.min() < 0 or positions.max() >= count:
        raise UsageError(
            f"the order names rows {positions.min()} to {positions.max()}, and the manifest has "
            f"{count:,} rows, 0 to {count - 1:,}. Give the manifest that was curated."
        )
    again, times = np.unique(positions, return_counts=True)
    if (times > 1).any():
        name = manifest.ids[int(again[times > 1][0])]
        raise UsageError(f"image {name!r} stands in the order twice. An order holds each once.")
