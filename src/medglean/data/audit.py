"""Audit: what is wrong with a set of images before anything is trained on it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from jaxtyping import Bool

from medglean.data import audit_checks as checks
from medglean.data.audit_result import AuditResult
from medglean.data.duplicates import components, near_duplicates, same_keys
from medglean.data.glance import Glances, glance
from medglean.data.manifest import Manifest
from medglean.data.shortcut_features import feature_families
from medglean.data.shortcuts import Probe, probe

_PAIR_COLUMNS = ("first", "second", "kind", "distance", "similarity", "mirrored")


def audit(
    manifest: Manifest,
    *,
    seen: Glances | None = None,
    probe_shortcuts: bool = True,
    workers: int = 2,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> AuditResult:
    """Look at every image of a manifest once and tell what is wrong.

    Parameters
    ----------
    manifest
        Which images.
    seen
        What :func:`~medglean.data.glance.glance` saw of them, if that was called already.
    probe_shortcuts
        Whether to train the small classifiers of the shortcut probe.
    workers
        How many images are decoded at a time.
    seed
        Of the probe's folds and bootstrap.
    progress
        Called with the number of images read.
    """
    seen = glance(manifest, workers=workers, progress=progress) if seen is None else seen
    truth, classes, labelled, labels = _truth(manifest)
    groups = manifest.groups()
    pairs = _pairs(seen)
    component = components(len(manifest), pairs["first"].to_numpy(), pairs["second"].to_numpy())
    together = _split_groups(manifest, component)
    probes = []
    if probe_shortcuts:  # copies of one image stay on one side of its folds
        probes = _probes(manifest, seen, truth, classes, labelled, together, seed)
    findings = [
        *checks.unreadable(manifest, seen),
        *checks.altered(manifest, seen),
        *checks.split_trouble(manifest),
        *checks.duplicate_trouble(manifest, pairs, component, labels),
        *checks.class_trouble(truth, classes, labelled, groups),
        *checks.constant(manifest, seen),
        *checks.odd_sizes(manifest, seen),
        *checks.mixed_depth(manifest, seen),
        *checks.shortcuts(probes),
    ]
    findings.sort(key=lambda finding: checks.SEVERITIES.index(finding.severity))
    return AuditResult(
        name=str(manifest.path or "the manifest"),
        findings=tuple(findings),
        pairs=_named(pairs, manifest.ids),
        split_groups=together,
        probes=tuple(probes),
        counts=_counts(manifest, seen, truth, classes, labelled),
        facts=seen.facts.assign(id=manifest.ids),
    )


def _truth(
    manifest: Manifest,
) -> tuple[Bool[np.ndarray, "n k"], tuple[str, ...], Bool[np.ndarray, " n"], pd.Series]:
    """Return which classes each image has, whether it is labelled, and its label as one text."""
    column = next((name for name in ("label", "labels") if name in manifest.frame), None)
    if column is None:
        none = np.zeros(len(manifest), bool)
        return (
            np.zeros((len(manifest), 0), bool),
            (),
            none,
            pd.Series(np.full(len(manifest), np.nan)),
        )
    classes = manifest.classes(column)
    values = manifest.frame[column].astype(object)
    labelled = values.notna().to_numpy()
    parts = [
        {part.strip() for part in str(v).split(";")} - {""} if column == "labels" else {str(v)}
        for v in values.where(labelled, "")
    ]
    truth = np.array([[c in p for c in classes] for p in parts], bool).reshape(
        len(parts), len(classes)
    )
    truth &= labelled[:, None]
    text = pd.Series([";".join(sorted(p)) for p in parts], dtype=object).where(labelled)
    return truth, classes, labelled, text


def _pairs(seen: Glances) -> pd.DataFrame:
    """Return all duplicates by position: equal files, equal pixels, near."""
    rows: list[tuple[object, ...]] = []
    paired: set[tuple[int, int]] = set()
    for column, kind in (("sha256", "file"), ("pixels_sha256", "pixels")):
        keys = seen.facts[column]
        if column == "sha256":  # frames of one file are not copies of one another
            keys = keys + seen.facts["pixels_sha256"]
        for same in same_keys(keys.tolist()):
            for other in same[1:]:
                if (same[0], other) not in paired:
                    paired.add((same[0], other))
                    rows.append((same[0], other, kind, 0, 1.0, False))
    # one of each set of equal pixels stands for all: otherwise pairs would grow as its square
    single = np.flatnonzero(seen.ok & ~seen.facts["pixels_sha256"].duplicated().to_numpy())
    near = near_duplicates(seen.thumbnails[single])
    for k in range(len(near)):
        first, second = single[near.first[k]], single[near.second[k]]
        numbers = int(near.distance[k]), float(near.similarity[k]), bool(near.mirrored[k])
        rows.append((int(first), int(second), "near", *numbers))
    return pd.DataFrame(rows, columns=list(_PAIR_COLUMNS))


def _named(pairs: pd.DataFrame, ids: list[str]) -> pd.DataFrame:
    named = pairs.drop(columns=["first", "second"])
    named.insert(0, "id_a", [ids[k] for k in pairs["first"]])
    named.insert(1, "id_b", [ids[k] for k in pairs["second"]])
    return named


def _split_groups(manifest: Manifest, component: np.ndarray) -> np.ndarray:
    """Join what belongs to one patient with what is a copy; named after its first image."""
    _, group = np.unique(manifest.groups().astype(str), return_inverse=True)
    first_of_group = np.full(len(manifest), len(manifest))
    np.minimum.at(first_of_group, group, np.arange(len(manifest)))
    here = np.arange(len(manifest))
    joined = components(
        len(manifest),
        np.concatenate([here, here]),
        np.concatenate([component, first_of_group[group]]),
    )
    named: np.ndarray = np.array(manifest.ids, dtype=object)[joined]
    return named


def _probes(
    manifest: Manifest,
    seen: Glances,
    truth: Bool[np.ndarray, "n k"],
    classes: tuple[str, ...],
    labelled: Bool[np.ndarray, " n"],
    groups: np.ndarray,
    seed: int,
) -> list[Probe]:
    """Probe every family of facts on the images that can be read and have a label."""
    used = seen.ok & labelled
    exclusive = "label" in manifest.frame
    if not used.any() or len(classes) < (2 if exclusive else 1):
        return []
    facts, columns = seen.facts[used], manifest.frame[used]
    families = feature_families(facts, seen.thumbnails[used], columns)
    return [
        probe(name, features, truth[used], classes, groups[used], exclusive=exclusive, seed=seed)
        for name, features in families.items()
    ]


def _counts(
    manifest: Manifest,
    seen: Glances,
    truth: Bool[np.ndarray, "n k"],
    classes: tuple[str, ...],
    labelled: Bool[np.ndarray, " n"],
) -> dict[str, object]:
    groups = manifest.groups()
    return {
        "images": len(manifest),
        "readable": int(seen.ok.sum()),
        "labelled": int(labelled.sum()),
        "groups": len(np.unique(groups.astype(str))),
        "grouped_by": manifest.grouped_by,
        "classes": {
            name: {
                "images": int(truth[:, k].sum()),
                "groups": len(np.unique(groups[truth[:, k]].astype(str))),
            }
            for k, name in enumerate(classes)
        },
    }
