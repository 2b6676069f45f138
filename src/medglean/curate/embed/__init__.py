"""From images to one row of numbers each: encoders, their training, and files of embeddings.

Names are imported when they are first used: settings must be readable without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "Embedded": "medglean.curate.embed.result",
    "Embedding": "medglean.curate.embed.result",
    "EmbeddingSettings": "medglean.curate.embed.settings",
    "embed": "medglean.curate.embed.task",
    "read_arrays": "medglean.curate.embed.arrays",
}

__all__ = ["Embedded", "Embedding", "EmbeddingSettings", "embed", "read_arrays"]

if TYPE_CHECKING:
    from medglean.curate.embed.arrays import read_arrays
    from medglean.curate.embed.result import Embedded, Embedding
    from medglean.curate.embed.settings import EmbeddingSettings
    from medglean.curate.embed.task import embed


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562
    if name not in _HOME:
        raise AttributeError(f"module 'medglean.curate.embed' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
