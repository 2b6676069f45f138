"""Small phantom brains to learn from."""

import numpy as np
import torch

from medglean.data.phantom import brain_slice

SIDE_PX = 32


def brains(*, lesion: bool, count: int = 12) -> torch.Tensor:
    """Return FLAIR slices of as many patients, in [0, 1], shape (count, 1, 32, 32)."""
    slices = [
        brain_slice(0, volume, 0.5, lesion=lesion, size_px=(SIDE_PX, SIDE_PX))[0][3:]
        for volume in range(count)
    ]
    return torch.from_numpy(np.stack(slices)).float() / 255
