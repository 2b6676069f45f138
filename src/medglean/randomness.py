"""Random numbers that are a function of where they are used, never of what ran before.

Nothing here keeps a state. A training step's generator is made from (seed, step, rank), an
augmentation's numbers from (seed, epoch, index), an epoch's order from (seed, epoch). So a run
that was killed and resumed draws what an uninterrupted one draws, and no state is saved.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

if TYPE_CHECKING:
    import torch

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def key_of(*parts: int | str) -> int:
    """Return a 63-bit key that depends on every part and on their order.

    Examples
    --------
    >>> key_of(0, "order", 3) == key_of(0, "order", 3)
    True
    >>> key_of(0, "order", 3) == key_of(0, "order", 4)
    False
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_generator(*parts: int | str) -> np.random.Generator:
    """Return a NumPy generator that is a function of the parts alone."""
    return np.random.default_rng(key_of(*parts))


def torch_generator(*parts: int | str, device: str = "cpu") -> torch.Generator:
    """Return a torch generator on ``device`` that is a function of the parts alone."""
    import torch

    return torch.Generator(device=device).manual_seed(key_of(*parts))


def _mix(state: np.ndarray) -> np.ndarray:
    """Scramble 64-bit words: the finaliser of SplitMix64 (Steele, Lea, Flood; OOPSLA 2014)."""
    with np.errstate(over="ignore"):
        state = (state ^ (state >> np.uint64(30))) * _MIX_1
        state = (state ^ (state >> np.uint64(27))) * _MIX_2
    scrambled: np.ndarray = state ^ (state >> np.uint64(31))
    return scrambled


def uniforms(
    *parts: int | str, index: Int[np.ndarray, " n"], draws: int
) -> Float[np.ndarray, "n draws"]:
    """Return ``draws`` uniform numbers in [0, 1) for each image, whatever batch it is in.

    Row ``i`` depends on ``parts`` and ``index[i]`` only, so augmentation with ``parts`` =
    (seed, epoch) is the same for any batch size, order or number of workers.

    Examples
    --------
    >>> import numpy as np
    >>> both = uniforms(0, 5, index=np.array([7, 9]), draws=3)
    >>> alone = uniforms(0, 5, index=np.array([9]), draws=3)
    >>> bool((both[1] == alone[0]).all())
    True
    """
    with np.errstate(over="ignore"):
        base = np.uint64(key_of(*parts))
        stream = _mix(base + (np.asarray(index).astype(np.uint64) + np.uint64(1)) * _GOLDEN)
        counter = (np.arange(draws, dtype=np.uint64) + np.uint64(1)) * _GOLDEN
        words = _mix(stream[:, None] + counter[None, :])
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def epoch_order(seed: int, epoch: int, count: int) -> Int[np.ndarray, " count"]:
    """Return the order in which an epoch visits ``count`` images: a permutation of 0..count-1."""
    return numpy_generator(seed, "order", epoch).permutation(count)
