"""What can be trained, and which modules carry it out."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from medglean.errors import RunFolderError, UsageError

if TYPE_CHECKING:
    import pandas as pd

    from medglean.data.manifest import Manifest
    from medglean.runs.preset import Preset
    from medglean.runs.report import Report

CAPABILITIES = ("classify", "anomaly", "stain")
_PRESETS = {"classify": "ClassifyPreset", "anomaly": "AnomalyPreset", "stain": "StainPreset"}


class Verbs(Protocol):
    """What every capability's ``task`` offers; see `medglean.classify.task` for the arguments."""

    def fit(self, manifest: Manifest, preset: Any, *, out: Path, **how: Any) -> Report:  # noqa: ANN401
        """Train and measure."""
        ...

    def apply(
        self,
        run_path: Path,
        manifest: Manifest,
        *,
        out: Path,
        **how: Any,  # noqa: ANN401
    ) -> pd.DataFrame:
        """Apply to images, labelled or not."""
        ...

    def evaluate(
        self,
        run_path: Path,
        manifest: Manifest,
        *,
        out: Path,
        **how: Any,  # noqa: ANN401
    ) -> Report:
        """Measure on labelled images."""
        ...


@dataclass(frozen=True)
class Found:
    """A capability, by name."""

    name: str

    @property
    def verbs(self) -> Verbs:
        """Its ``task`` module; importing it loads torch."""
        return cast("Verbs", importlib.import_module(f"medglean.{self.name}.task"))

    def load_preset(self, preset: str | Path, overrides: Sequence[str] = ()) -> Preset:
        """Read a preset of this capability."""
        from medglean.runs.preset import load_preset

        settings = importlib.import_module(f"medglean.{self.name}.settings")
        kind: type[Preset] = getattr(settings, _PRESETS[self.name])
        return load_preset(preset, kind, overrides=overrides)

    def plan(self, manifest: Manifest, preset: Preset) -> list[str]:
        """Check what training would check, and say what it would do."""
        found: list[str] = importlib.import_module(f"medglean.{self.name}.plan").plan(
            manifest, preset
        )
        return found


def capability(name: str) -> Found:
    """Return a capability by its name.

    Raises
    ------
    UsageError
        If there is none of that name.
    """
    if name not in CAPABILITIES:
        raise UsageError(f"{name!r} cannot be trained; expected one of {', '.join(CAPABILITIES)}.")
    return Found(name)


def capability_of(run: Path) -> Found:
    """Return the capability that a run is of.

    Raises
    ------
    RunFolderError
        If it is not a training run.
    """
    from medglean.runs.rundir import RunFolder

    task = str(RunFolder.open(run).record.get("task"))
    if task not in CAPABILITIES:
        raise RunFolderError(
            f"{run}: a run of {task!r}, expected one of {', '.join(map(repr, CAPABILITIES))}. Give "
            "the folder of a `medglean train`."
        )
    return Found(task)
