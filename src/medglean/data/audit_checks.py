"""The checks of an audit: each looks for one kind of trouble and returns findings."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from medglean.data.glance import Glances, joined_sha256
from medglean.data.manifest import Manifest
from medglean.data.shortcuts import MIN_PATIENTS, Probe
from medglean.errors import Problem

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
SHORTCUT_AUROC = 0.7
_FLAT_SHARE = 0.01  # of the range: a standard deviation of 2.5 in 255
_ASPECT = 1.5
_AREA = 8.0
_MANY = 0.2  # share of images above which "different from the others" has no meaning


@dataclass(frozen=True)
class Finding:
    """One thing that an audit found.

    Attributes
    ----------
    kind
        The fixed word that ``fail_on`` takes.
    severity
        ``error``: results would be wrong. ``warning``: look at it. ``note``: good to know.
    found, remedy
        What was found, and what to do about it.
    ids
        Images concerned.
    value
        The number it rests on, where there is one: an AUROC.
    """

    kind: str
    severity: Severity
    found: str
    remedy: str
    ids: tuple[str, ...] = ()
    value: float | None = None

    def problem(self, file: str) -> Problem:
        """Return the finding as a problem of the manifest ``file``."""
        return Problem(
            file, self.found, self.remedy, kind=self.kind, fatal=self.severity == "error"
        )

    def to_dict(self) -> dict[str, object]:
        """Return the finding for JSON."""
        return {**asdict(self), "ids": list(self.ids)}


def unreadable(manifest: Manifest, seen: Glances) -> list[Finding]:
    """Images that cannot be read right."""
    ids = np.array(manifest.ids, dtype=object)[~seen.ok]
    return [
        Finding("unreadable", "error", f"{p.file}: {p.found}", p.remedy, (str(i),))
        for i, p in zip(ids, seen.problems, strict=True)
    ]


def altered(manifest: Manifest, seen: Glances) -> list[Finding]:
    """Files that are not those that were indexed."""
    names = manifest.image_columns
    digests = ["sha256" + name.removeprefix("image") for name in names]
    if not set(digests) <= set(manifest.frame.columns):
        return []
    found = "the file is not the one that was indexed: its SHA-256 differs."
    if len(names) > 1:
        found = "one of the files is not the one that was indexed: its SHA-256 differs."
    then = manifest.frame[digests].astype(object).to_numpy()
    now = seen.facts["sha256"].to_numpy(object)
    gone = pd.isna(then)
    known = seen.ok & (~gone | manifest.frame[names].isna().to_numpy()).all(axis=1)
    findings = []
    for row in np.flatnonzero(known & ~gone.all(axis=1)):
        if joined_sha256(then[row][~gone[row]].tolist()) != now[row]:
            shown = " + ".join(manifest.frame[names].iloc[row].dropna())
            name = manifest.ids[row]
            findings.append(
                Finding("altered", "error", f"{shown}: {found}", "Index the folder again.", (name,))
            )
    return findings


def constant(manifest: Manifest, seen: Glances) -> list[Finding]:
    """Images that show nothing."""
    facts = seen.facts
    one = seen.ok & (facts["low"] == facts["high"]).to_numpy(bool)
    flat = seen.ok & ~one & (facts["deviation"].to_numpy(float) < _FLAT_SHARE)
    remedy = "Look at it; remove the row if it shows nothing."
    findings = []
    for position in np.flatnonzero(one | flat):
        value = facts["low"].iloc[position]
        found = (
            f"all pixels are {value:g}."
            if one[position]
            else "nearly constant: the standard deviation is "
            f"{facts['deviation'].iloc[position]:.1%} of the range."
        )
        name = manifest.ids[position]
        findings.append(Finding("constant", "warning", f"{name}: {found}", remedy, (name,)))
    return findings


def odd_sizes(manifest: Manifest, seen: Glances) -> list[Finding]:
    """Images much larger, smaller, wider or taller than the others."""
    height, width = (seen.facts[n].to_numpy(float) for n in ("height", "width"))
    if not seen.ok.any():
        return []
    aspect, area = np.log(width / height), np.log(width * height)
    away_aspect = np.abs(aspect - np.median(aspect[seen.ok])) > np.log(_ASPECT)
    away_area = np.abs(area - np.median(area[seen.ok])) > np.log(_AREA)
    odd = seen.ok & (away_aspect | away_area)
    usual = f"{np.median(height[seen.ok]):g} x {np.median(width[seen.ok]):g}"
    ids = np.array(manifest.ids, dtype=object)
    if odd.sum() > _MANY * seen.ok.sum():
        found = (
            f"{odd.sum():,} of {seen.ok.sum():,} images differ much in size or aspect from the "
            f"usual {usual} pixels."
        )
        remedy = "Choose resize 'pad' or 'crop' if shape matters; see whether size tells the label."
        return [Finding("size", "note", found, remedy, tuple(ids[odd]))]
    return [
        Finding(
            "size",
            "warning",
            f"{ids[k]}: {height[k]:g} x {width[k]:g} pixels, the usual is {usual}.",
            "See whether it is what the others are: a localiser, a screenshot or a crop is not.",
            (ids[k],),
        )
        for k in np.flatnonzero(odd)
    ]


def mixed_depth(manifest: Manifest, seen: Glances) -> list[Finding]:
    """Files of several bit depths, which full-scale intensity would not show alike."""
    counts = seen.facts["bits"][seen.ok].value_counts()
    if len(counts) < 2:
        return []
    said = ", ".join(f"{count:,} of {bits} bit" for bits, count in counts.items())
    remedy = "Use intensity rule 'percentile', and see whether the depth goes with the label."
    return [Finding("depth", "warning", f"several bit depths: {said}.", remedy)]


def class_trouble(
    truth: Bool[np.ndarray, "n k"],
    classes: Sequence[str],
    labelled: Bool[np.ndarray, " n"],
    groups: np.ndarray,
) -> list[Finding]:
    """Tiny classes, images without a label, a single class, names that look alike."""
    findings = []
    if not labelled.any():
        remedy = "Give a column 'label' or 'labels' if they are to be checked."
        return [Finding("unlabelled", "note", "no image has a label.", remedy)]
    if not labelled.all():
        found = f"{(~labelled).sum():,} of {len(labelled):,} images have no label."
        remedy = "They are left out of training; label them or leave them for prediction."
        findings.append(Finding("unlabelled", "note", found, remedy))
    if len(classes) == 1:
        remedy = "A classifier needs at least two classes."
        findings.append(Finding("classes", "warning", f"one class only: {classes[0]!r}.", remedy))
    for k, name in enumerate(classes):
        count, images = len(np.unique(groups[truth[:, k]])), int(truth[:, k].sum())
        if count < MIN_PATIENTS:
            found = f"class {name!r} has {images} image(s) of {count} patient(s) or group(s)."
            remedy = (
                "Add images, merge it with another class, or drop it: fewer than "
                f"{MIN_PATIENTS} cannot be split and measured."
            )
            findings.append(Finding("classes", "warning", found, remedy))
    for one, two in _alike(classes):
        found = f"classes {one!r} and {two!r} have nearly the same name."
        findings.append(Finding("classes", "warning", found, "Rename one if they are the same."))
    return findings


def _alike(classes: Sequence[str]) -> list[tuple[str, str]]:
    """Return pairs of names that differ in case, spaces, punctuation or one letter only."""

    def plain(name: str) -> str:
        folded = unicodedata.normalize("NFKD", name).casefold()
        return re.sub(
            r"[\W_]+",
            "",
            folded.replace("+", "plus").replace("-", "" if len(name) > 2 else "minus"),
        )

    pairs = []
    for number, one in enumerate(classes):
        for two in classes[number + 1 :]:
            a, b = plain(one), plain(two)
            long = min(len(a), len(b)) >= 6 and not re.search(r"\d", a + b)
            if a == b or (long and difflib.SequenceMatcher(None, a, b).ratio() > 0.92):
                pairs.append((one, two))
    return pairs


def duplicate_trouble(
    manifest: Manifest, pairs: pd.DataFrame, component: Int[np.ndarray, " n"], labels: pd.Series
) -> list[Finding]:
    """Find copies in several groups, with several labels, or on several sides of the split."""
    findings: list[Finding] = []
    ids, groups = np.array(manifest.ids, dtype=object), manifest.groups()
    split = manifest.frame["split"].astype(object) if "split" in manifest.frame else None
    kinds: dict[int, set[str]] = {}
    for first, kind in zip(pairs["first"], pairs["kind"], strict=True):
        kinds.setdefault(int(component[first]), set()).add(str(kind))
    inside = 0
    for root in sorted(kinds):
        positions = np.flatnonzero(component == root)
        names = tuple(str(i) for i in ids[positions])
        how = _how(kinds[root])
        shown = _listed(names)
        known = labels.iloc[positions].dropna().unique()
        alone = len(set(groups[positions])) == 1
        # neighbouring slices of one volume may well differ: a lesion begins somewhere
        if len(known) > 1 and not (alone and "near" in kinds[root]):
            said = " and ".join(repr(str(name)) for name in sorted(known)[:3])
            found = f"{how} labelled {said}: {shown}."
            remedy = "Find out which label is right, or remove all of them."
            findings.append(Finding("label-conflict", "error", found, remedy, names))
        if split is not None and split.iloc[positions].dropna().nunique() > 1:
            sides = ", ".join(sorted(map(str, split.iloc[positions].dropna().unique())))
            found = f"{how} on several sides of the split ({sides}): {shown}."
            remedy = (
                "Split anew by the column of groups that the audit gives, or remove the copies."
            )
            findings.append(Finding("leakage", "error", found, remedy, names))
        if not alone:
            found = f"{how}: {shown}."
            remedy = "Keep one, or keep them on one side of the split."
            findings.append(Finding("duplicates", "warning", found, remedy, names))
        else:
            inside += len(positions)
    if inside:
        found = (
            f"{inside:,} images have a copy or near copy within their own patient or group, as "
            "frames of a clip do."
        )
        remedy = "Harmless for a split by group; curation can thin them out."
        findings.append(Finding("repeats", "note", found, remedy))
    return findings


def _how(kinds: set[str]) -> str:
    if kinds == {"file"}:
        return "the same file"
    return "nearly the same picture" if "near" in kinds else "the same pixels"


def _listed(names: Sequence[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def split_trouble(manifest: Manifest) -> list[Finding]:
    """Patients on more than one side of the split."""
    if "split" not in manifest.frame:
        return []
    findings = []
    sides = manifest.frame["split"].groupby(manifest.groups()).nunique()
    ids = pd.Series(manifest.ids)
    for group in sides.index[sides > 1]:
        rows = manifest.groups() == group
        found = f"patient or group {group!r} has images on several sides of the split."
        remedy = "Split by patient."
        findings.append(Finding("leakage", "error", found, remedy, tuple(ids[rows])))
    return findings


def shortcuts(probes: Sequence[Probe]) -> list[Finding]:
    """Families of facts that tell the label."""
    findings = []
    for probe in probes:
        # an interval that reaches 0.5 may be chance
        if not (probe.auroc > SHORTCUT_AUROC and probe.low > 0.5):
            continue
        number = (
            f"AUROC {probe.auroc:.2f} (95 % CI {probe.low:.2f} to {probe.high:.2f}; "
            f"{probe.images:,} images in {probe.patients:,} groups)"
        )
        name = _NAMES.get(probe.family, f"the column {probe.family!r}")
        found = f"the label can be told from {name} alone: {number}."
        remedy = _REMEDIES.get(probe.family, _REMEDIES["column"])
        findings.append(Finding("shortcut", "warning", found, remedy, value=probe.auroc))
    return findings


_NAMES = {
    "file size": "the size of the file",
    "dimensions": "height and width",
    "border": "the outermost pixels",
    "brightness": "overall brightness and contrast",
    "encoding": "file format, channels and bit depth",
}
_OTHER_SOURCES = "The classes may come from different sources: test on images of one source."
_REMEDIES = {
    "file size": f"They may differ in compression, too. {_OTHER_SOURCES}",
    "dimensions": _OTHER_SOURCES,
    "border": "Mask or crop the border in training, and test on images of another source.",
    "brightness": "It can be the disease itself; normalise and augment intensity, and compare a "
    "trained network with this number.",
    "encoding": _OTHER_SOURCES,
    "column": "Report results for each of its values, or balance the classes over them.",
}
