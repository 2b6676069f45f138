"""What a dry run of training an anomaly preset says; nothing is written or decoded."""

from __future__ import annotations

import numpy as np

from medglean.anomaly.prepare import DISEASED, HEALTHY, choose
from medglean.anomaly.settings import AnomalyPreset
from medglean.data.manifest import Manifest


def plan(manifest: Manifest, preset: AnomalyPreset) -> list[str]:
    """Check what training would check, and say what it would do, in lines."""
    chosen = choose(manifest, preset)
    split = chosen.manifest.frame["split"].to_numpy(dtype=object)
    counts = []
    for part in ("train", "val", "test"):
        targets = chosen.targets[split == part]
        healthy, diseased = (int((targets == one).sum()) for one in (HEALTHY, DISEASED))
        counts.append(f"{part} {healthy:,} healthy + {diseased:,} diseased")
    masked = 0
    if "mask" in chosen.manifest.frame:
        masked = int(np.asarray(chosen.manifest.frame["mask"].notna()).sum())
    return [
        f"{preset.name}: {_method(preset)}",
        f"healthy: {chosen.healthy}; diseased: {', '.join(chosen.diseased)}",
        f"images: {', '.join(counts)}; kept together by {chosen.manifest.grouped_by}",
        f"masks: {masked:,}, for measuring alone",
        *(str(problem) for problem in chosen.problems),
    ]


def _method(preset: AnomalyPreset) -> str:
    if preset.method == "threshold":
        return "threshold, nothing to train"
    length = f"{preset.fit.max_steps or preset.fit.epochs:,} " + (
        "steps" if preset.fit.max_steps else "epochs"
    )
    if preset.method != "diffusion":
        return f"{preset.method}, {length} of {preset.fit.batch_size} images"
    how = preset.translate
    steps = how.steps or how.noise_level
    return (
        f"diffusion, {length} of {preset.fit.batch_size} images, then L = {how.noise_level} in "
        f"{steps} + {steps} steps, guidance {how.guidance} at s = {how.scale:g}"
    )
