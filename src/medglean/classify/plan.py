"""What a dry run of training a classifier says; nothing is written.

Images are only decoded where near duplicates are to stay together.
"""

from __future__ import annotations

from medglean.classify.prepare import choose
from medglean.classify.settings import ClassifyPreset
from medglean.data.manifest import Manifest


def plan(manifest: Manifest, preset: ClassifyPreset) -> list[str]:
    """Check what training would check, and say what it would do, in lines."""
    chosen = choose(manifest, preset)
    parts = chosen.manifest.frame["split"].value_counts()
    counts = ", ".join(f"{int(parts.get(part, 0)):,} {part}" for part in ("train", "val", "test"))
    return [
        f"{preset.name}: {preset.model.architecture}, {preset.fit.epochs} epochs"
        + (f", {preset.seeds} seeds" if preset.seeds > 1 else ""),
        f"classes: {', '.join(chosen.classes)}",
        f"images: {counts}; kept together by {chosen.manifest.grouped_by}",
        *(str(problem) for problem in chosen.problems),
    ]
