"""medglean gleans more from fewer labels: curate, classify, map disease and stain medical images.

Importing the package loads neither torch nor pandas; each name below is imported when it is first
used. Research software, never a diagnosis.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Curator": "medglean.curate.curator",
    "Manifest": "medglean.data.manifest",
    "Picture": "medglean.data.picture",
    "audit": "medglean.api",
    "evaluate": "medglean.api",
    "index": "medglean.api",
    "predict": "medglean.api",
    "read": "medglean.data.readers",
    "train": "medglean.api",
}

__all__ = [
    "Curator",
    "Manifest",
    "Picture",
    "__version__",
    "audit",
    "evaluate",
    "index",
    "predict",
    "read",
    "train",
]

if TYPE_CHECKING:
    from medglean.api import audit, evaluate, index, predict, train
    from medglean.curate.curator import Curator
    from medglean.data.manifest import Manifest
    from medglean.data.picture import Picture
    from medglean.data.readers import read


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562
    if name not in _HOME:
        raise AttributeError(f"module 'medglean' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
