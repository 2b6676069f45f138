"""What ``--dry-run`` says: everything is checked, and nothing is written or decoded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medglean.capabilities import capability as find_capability
from medglean.data.manifest import Manifest
from medglean.given import as_manifest


def training(
    capability: str,
    preset: str | Path,
    manifest: str | Path | Manifest,
    *,
    overrides: Sequence[str] = (),
) -> list[str]:
    """Check what `train` would check and say what it would do; nothing is written or decoded."""
    kind = find_capability(capability)
    return kind.plan(as_manifest(manifest), kind.load_preset(preset, overrides))


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
