"""The only training loop, its settings, its batches and its checkpoints.

Names are imported when they are first used: settings must be readable without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "Batch": "medglean.fitting.loader",
    "Fetch": "medglean.fitting.loader",
    "FitResult": "medglean.fitting.record",
    "FitSettings": "medglean.fitting.settings",
    "Loader": "medglean.fitting.loader",
    "OptimizerSettings": "medglean.fitting.settings",
    "ScheduleSettings": "medglean.fitting.settings",
    "Update": "medglean.fitting.update",
    "device_of": "medglean.fitting.devices",
    "fit": "medglean.fitting.loop",
    "load_last": "medglean.fitting.checkpoint",
    "load_weights": "medglean.fitting.checkpoint",
    "make_fabric": "medglean.fitting.devices",
    "make_optimizer": "medglean.fitting.devices",
    "on_device_of": "medglean.fitting.devices",
}

__all__ = [
    "Batch",
    "Fetch",
    "FitResult",
    "FitSettings",
    "Loader",
    "OptimizerSettings",
    "ScheduleSettings",
    "Update",
    "device_of",
    "fit",
    "load_last",
    "load_weights",
    "make_fabric",
    "make_optimizer",
    "on_device_of",
]

if TYPE_CHECKING:
    from medglean.fitting.checkpoint import load_last, load_weights
    from medglean.fitting.devices import device_of, make_fabric, make_optimizer, on_device_of
    from medglean.fitting.loader import Batch, Fetch, Loader
    from medglean.fitting.loop import fit
    from medglean.fitting.record import FitResult
    from medglean.fitting.settings import FitSettings, OptimizerSettings, ScheduleSettings
    from medglean.fitting.update import Update


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562
    if name not in _HOME:
        raise AttributeError(f"module 'medglean.fitting' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
