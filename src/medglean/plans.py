"""What ``--dry-run`` says: everything is checked, and nothing is written or decoded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medglean.api import as_manifest, check_capability
from medglean.data.manifest import Manifest


def training(
    capability: str,
    preset: str | Path,
    manifest: str | Path | Manifest,
    *,
    overrides: Sequence[str] = (),
) -> list[str]:
    """Check what `train` would check and say what it would do; nothing is written or decoded."""
    from medglean.classify.prepare import choose
    from medglean.classify.settings import ClassifyPreset
    from medglean.runs.preset import load_preset

    check_capability(capability)
    settings = load_preset(preset, ClassifyPreset, overrides=overrides)
    chosen = choose(as_manifest(manifest), settings)
    parts = chosen.manifest.frame["split"].value_counts()
    counts = ", ".join(f"{int(parts.get(part, 0)):,} {part}" for part in ("train", "val", "test"))
    return [
        f"{settings.name}: {settings.model.architecture}, {settings.fit.epochs} epochs",
        f"classes: {', '.join(chosen.classes)}",
        f"images: {counts}; kept together by {chosen.manifest.grouped_by}",
        *(str(problem) for problem in chosen.problems),
    ]


def curation(
    manifest: str | Path | Manifest,
    *,
    budget: str | float,
    preset: str | Path = "curate",
    overrides: Sequence[str] = (),
    preselected: str | Path | None = None,
) -> list[str]:
    """Check what `curate` would check and say what it would do; nothing is written or decoded."""
    from medglean.curate.plan import plan
    from medglean.curate.settings import CuratePreset
    from medglean.runs.preset import load_preset

    return plan(
        as_manifest(manifest),
        load_preset(preset, CuratePreset, overrides=overrides),
        budget=budget,
        preselected=None if preselected is None else Path(preselected),
    )
