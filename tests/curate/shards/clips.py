"""Embeddings like those of video clips: many near-duplicates in each, some clips per patient."""

from __future__ import annotations

import numpy as np
import pandas as pd

from medglean.data.manifest import Manifest


def clip_values(images, *, clips, width=16, spread=0.15, seed=0):
    """Return embeddings and the clip of each; clip sizes differ, rows are in a mixed order."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((clips, width))
    weights = generator.gamma(2.0, size=clips)
    clip = generator.choice(clips, size=images, p=weights / weights.sum())
    values = centres[clip] + spread * np.sqrt(width) * generator.standard_normal((images, width))
    return values.astype(np.float32), clip


def clip_manifest(clip, root, *, clips_per_patient=2):
    """Return a manifest whose ids are the numbers of the rows."""
    frame = pd.DataFrame(
        {
            "id": [str(row) for row in range(len(clip))],
            "image": [f"{row}.png" for row in range(len(clip))],
            "patient": [f"p{number // clips_per_patient}" for number in clip],
            "group": [f"c{number}" for number in clip],
        }
    )
    return Manifest.from_frame(frame, root)
