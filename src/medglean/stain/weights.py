"""Which settings decide a stain's networks, and whether a preset still says the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medglean.fitting.kept import refuse_edited
from medglean.stain.networks import SECTIONS, networks_of
from medglean.stain.settings import StainPreset

Table = dict[str, Any]


def decided(preset: StainPreset, names: list[str]) -> Table:
    """Return the settings that networks were built and trained with, flat."""
    tables = {"images", "white", *(table for name in names for table in SECTIONS[name])}
    flat: Table = {"method": preset.method}
    for table, values in preset.model_dump(mode="json", include=tables).items():
        flat |= {f"{table}.{key}": value for key, value in values.items()}
    flat.pop("white.reapply", None)
    flat.pop("level.fit", None)
    return flat


def check_unedited(file: Path, preset: StainPreset, facts: Table) -> None:
    """Refuse a preset that says something else than what the networks were trained with."""
    now = decided(preset, list(facts["networks"]))
    missing = [name for name in networks_of(preset) if name not in facts["networks"]]
    told = [f"network {name!r}: not there then, needed now" for name in missing]
    refuse_edited(file, facts["trained_with"], now, more=told)
