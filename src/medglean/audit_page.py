"""An audit as a folder: one page to read, lists to work through."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medglean.data.audit_result import AuditResult
from medglean.data.manifest import Manifest
from medglean.runs import figures
from medglean.runs.environment import describe_environment
from medglean.runs.report import Figure, Metric, Report, Table, group_name
from medglean.runs.rundir import RunFolder


def write_audit(
    found: AuditResult, manifest: Manifest, *, out: Path, command: Sequence[str]
) -> Path:
    """Write ``report.html``, ``report.json``, ``problems.csv``, ``duplicates`` and ``audit.json``.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    RunFolderError
        If ``out`` is not empty or cannot be written.
    """
    with RunFolder.create(
        out,
        preset_toml='name = "audit"\ntask = "audit"\n',
        command=command,
        manifest_hash=manifest.hash,
        seed=0,
        task="audit",
    ) as run:
        run.write_json("audit.json", found.to_dict())
        run.write("problems.csv", found.to_frame().to_csv(index=False, lineterminator="\n"))
        run.write_results(found.pairs, name="duplicates")
        report = audit_report(found, manifest, command=command)
        page = report.write(run.path)
        run.finish()
    return page


def audit_report(found: AuditResult, manifest: Manifest, *, command: Sequence[str]) -> Report:
    """Make the page of an audit."""
    errors = sum(finding.severity == "error" for finding in found.findings)
    return Report(
        title=f"Audit of {Path(found.name).name}",
        sentence=(
            f"{len(manifest):,} images were looked at. Findings: {len(found.findings):,}, of them "
            f"errors: {errors:,}. Pairs of duplicates: {len(found.pairs):,}."
        ),
        metrics=[
            Metric(
                f"AUROC of the label from {probe.family} alone",
                probe.auroc,
                low=probe.low,
                high=probe.high,
                n=probe.images,
                groups=probe.patients,
                note=probe.note,
                group_name=group_name(manifest.grouped_by),
            )
            for probe in found.probes
        ],
        tables=[
            Table(
                "Findings",
                ["Kind", "Severity", "What was found", "What to do"],
                [[f.kind, f.severity, f.found, f.remedy] for f in found.findings],
            )
        ],
        figures=_figures(found),
        data={"manifest SHA-256": manifest.hash, **found.counts},
        warnings=[
            f"The label can be told from {probe.family} alone with an AUROC of {probe.auroc:.2f}: "
            "a classifier may learn that instead of the disease."
            for probe in found.probes
            if probe.low > 0.5 and probe.auroc > 0.7
        ],
        provenance=describe_environment(command),
    )


def _figures(found: AuditResult) -> list[Figure]:
    classes = found.counts.get("classes")
    if not isinstance(classes, dict) or not classes:
        return []
    images = {str(name): int(counts["images"]) for name, counts in classes.items()}
    return [
        Figure(
            "Images of each class",
            "Labelled images as the manifest lists them.",
            figures.class_counts({"images": images}),
            "svg",
        )
    ]
