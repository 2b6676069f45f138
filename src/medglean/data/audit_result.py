"""What an audit found, for people, for programs, and as a gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from medglean.data.audit_checks import SEVERITIES, SHORTCUT_AUROC, Finding
from medglean.data.shortcuts import Probe
from medglean.errors import GateError, Problem, UsageError

KINDS = (
    "unreadable", "altered", "constant", "size", "depth", "classes", "unlabelled",
    "duplicates", "repeats", "label-conflict", "leakage", "shortcut",
)  # fmt: skip
"""The words that ``fail_on`` takes."""


@dataclass(frozen=True)
class AuditResult:
    """What an audit found.

    Attributes
    ----------
    name
        The manifest, as the user named it.
    findings
        Everything that was found, errors first.
    pairs
        Duplicates: ``id_a, id_b, kind`` (``file``, ``pixels`` or ``near``), ``distance`` (differing
        bits of 64), ``similarity`` (0..1), ``mirrored``. Of several equal files each is paired with
        the first.
    split_groups
        For each image the group to split by: images of one patient, and copies of one another, are
        in one. Use it as ``manifest.with_columns(split_group=result.split_groups)``.
    probes
        The shortcut probes, one per family of facts.
    counts
        Images, patients, images that could be read, and images and patients of each class.
    facts
        What is known of each image (see :class:`~medglean.data.glance.Glances`).
    """

    name: str
    findings: tuple[Finding, ...]
    pairs: pd.DataFrame
    split_groups: np.ndarray
    probes: tuple[Probe, ...]
    counts: dict[str, object]
    facts: pd.DataFrame

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The findings as problems of the manifest."""
        return tuple(finding.problem(self.name) for finding in self.findings)

    def of(self, kind: str) -> list[Finding]:
        """Return the findings of one kind."""
        return [finding for finding in self.findings if finding.kind == kind]

    def to_dict(self) -> dict[str, object]:
        """Return all but the table of facts, for JSON."""
        pairs = self.pairs.astype(object).where(self.pairs.notna(), None)
        return {
            "manifest": self.name,
            "counts": self.counts,
            "findings": [finding.to_dict() for finding in self.findings],
            "pairs": pairs.to_dict("records"),
            "probes": [probe.to_dict() for probe in self.probes],
        }

    def to_frame(self) -> pd.DataFrame:
        """Return one row per finding, for ``problems.csv``; ids are joined by ``;``."""
        rows = [{**f.to_dict(), "ids": ";".join(f.ids)} for f in self.findings]
        return pd.DataFrame(rows, columns=["kind", "severity", "found", "remedy", "ids", "value"])

    def summary_lines(self, *, most: int = 5) -> list[str]:
        """Return what to print: the counts, then up to ``most`` findings of each kind."""
        lines = [f"{self.name}: {_counted(self.counts)}"]
        for severity in SEVERITIES:
            for kind in KINDS:
                found = [f for f in self.of(kind) if f.severity == severity]
                head = f"{severity} ({kind}):"
                lines += [f"{head} {f.found} {f.remedy}".rstrip() for f in found[:most]]
                if len(found) > most:
                    lines.append(f"{head} and {len(found) - most:,} more.")
        lines += [f"probe: label from {one.family}: {_told(one)}" for one in self.probes]
        lines += sorted({f"probe: {one.note}" for one in self.probes if one.note})
        if not self.findings:
            lines.append("nothing wrong was found.")
        return lines

    def check(self, fail_on: Sequence[str]) -> None:
        """Raise if a gate is not met.

        Parameters
        ----------
        fail_on
            Kinds, each with a limit if wanted: ``"unreadable"`` allows none, ``"duplicates:10"``
            ten findings, ``"shortcut:0.9"`` an AUROC of 0.9 (by default 0.7).

        Raises
        ------
        GateError
            If anything named was found beyond its limit.
        UsageError
            If a kind does not exist or its limit is no number.
        """
        failed = []
        for text in fail_on:
            kind, limit = _gate(text)
            if kind == "shortcut":
                over = [p for p in self.probes if p.auroc > limit]
                failed += [
                    f"shortcut: {p.family} has AUROC {p.auroc:.2f}, the limit is {limit:g}"
                    for p in over
                ]
            elif len(self.of(kind)) > limit:
                failed.append(f"{kind}: {len(self.of(kind)):,} found, {limit:g} allowed")
        if failed:
            raise GateError(
                f"{self.name}: the audit failed: {'; '.join(failed)}. See its list of problems; "
                "put them right, or raise the limit of --fail-on."
            )


def _counted(counts: dict[str, object]) -> str:
    classes = counts["classes"]
    by = (
        "images without patients"
        if counts["grouped_by"] == "id"
        else f"groups by {counts['grouped_by']}"
    )
    said = (
        f"{counts['images']:,} images, {counts['readable']:,} readable, {counts['groups']:,} {by}"
    )
    if isinstance(classes, dict) and classes:
        said += "; " + ", ".join(f"{name} {n['images']:,}" for name, n in classes.items())
    return said + "."


def _told(one: Probe) -> str:
    if np.isnan(one.auroc):
        return "not computable."
    return f"AUROC {one.auroc:.2f} (95 % CI {one.low:.2f} to {one.high:.2f})."


def check_gates(fail_on: Sequence[str]) -> None:
    """Refuse a gate that does not exist, before an hour is spent on looking at images.

    Raises
    ------
    UsageError
        If a kind does not exist or its limit is no number.
    """
    for text in fail_on:
        _gate(text)


def _gate(text: str) -> tuple[str, float]:
    """Take ``kind`` or ``kind:limit`` apart."""
    kind, _, limit = text.strip().partition(":")
    if kind not in KINDS:
        raise UsageError(
            f"--fail-on {text!r}: there is no kind {kind!r}; there are {', '.join(KINDS)}."
        )
    if not limit:
        return kind, SHORTCUT_AUROC if kind == "shortcut" else 0.0
    try:
        return kind, float(limit)
    except ValueError:
        example = "shortcut:0.9" if kind == "shortcut" else f"{kind}:3"
        raise UsageError(
            f"--fail-on {text!r}: {limit!r} is no number. Write {example!r}."
        ) from None
