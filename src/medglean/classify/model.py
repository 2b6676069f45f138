"""A trained classifier as a run keeps it: weights, classes, and how images are prepared for it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from medglean.arrays import Kind
from medglean.classify.decisions import Decisions
from medglean.classify.settings import ClassifyPreset
from medglean.data.fetch import Normalise
from medglean.errors import CheckpointError, RunFolderError
from medglean.fitting.kept import bytes_of, weights_of
from medglean.nn.backbones import build_backbone
from medglean.nn.ensemble import MeanOfLogits, members_of
from medglean.runs.preset import load_preset
from medglean.runs.rundir import RunFolder

WEIGHTS = "network.safetensors"
FACTS = "model.json"
DECISIONS = "decisions.json"


@dataclass(frozen=True)
class Classifier:
    """A network with everything needed to apply it to new images.

    Attributes
    ----------
    network
        Maps (b, c, h, w) to logits (b, k); in evaluation mode.
    preset
        The settings that it was trained with.
    classes
        Names of the outputs.
    kind
        ``single`` or ``multi``.
    normalise
        What is done to values in [0, 1] before the network sees them.
    weights_sha256
        SHA-256 of the weights file.
    decisions
        Temperature and operating points chosen on the validation part; None where there was none.
    """

    network: nn.Module
    preset: ClassifyPreset
    classes: tuple[str, ...]
    kind: Kind
    normalise: Normalise
    weights_sha256: str
    decisions: Decisions | None = None


def save_classifier(
    run: RunFolder,
    network: nn.Module,
    *,
    preset: ClassifyPreset,
    classes: Sequence[str],
    kind: Kind,
    normalise: Normalise,
) -> Classifier:
    """Write the network's weights and facts into a run, and return them as one."""
    data = bytes_of(network)
    digest = hashlib.sha256(data).hexdigest()
    run.write(WEIGHTS, data)
    run.write_json(
        FACTS,
        {
            "format": 1,
            "architecture": preset.model.architecture,
            "classes": list(classes),
            "kind": kind,
            "members": len(members_of(network)),
            "channels": preset.images.channel_count,
            "size_px": list(preset.images.size_px),
            "normalise": normalise.model_dump(mode="json"),
            "weights_sha256": digest,
        },
    )
    return Classifier(network.eval(), preset, tuple(classes), kind, normalise, digest)


def load_classifier(path: Path) -> Classifier:
    """Read the classifier of a run.

    Raises
    ------
    RunFolderError
        If the folder is not a run of a classifier, or its training did not come to an end.
    CheckpointError
        If the weights are damaged or do not fit the network.
    """
    run = RunFolder.open(path)
    if run.record.get("task") != "classify":
        raise RunFolderError(
            f"{path}: a run of {run.record.get('task')!r}, expected one of 'classify'. Give the "
            "folder of a `medglean train classify`."
        )
    if not (path / FACTS).is_file():
        raise RunFolderError(
            f"{path}: holds no trained network yet (no {FACTS}). Finish its training: run the same "
            "`medglean train` command with --resume."
        )
    facts: dict[str, Any] = run.read_json(FACTS)
    preset = load_preset(run.preset_path, ClassifyPreset)
    data = weights_of(path / WEIGHTS, facts["weights_sha256"])
    members = [
        build_backbone(
            facts["architecture"], classes=len(facts["classes"]), in_channels=facts["channels"]
        )
        for _ in range(facts.get("members", 1))
    ]
    network = members[0] if len(members) == 1 else MeanOfLogits(members)
    try:
        network.load_state_dict(data)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path / WEIGHTS}: does not fit {facts['architecture']} with {len(facts['classes'])} "
            "classes. Train again, or restore the file."
        ) from error
    return Classifier(
        network.eval(),
        preset,
        tuple(facts["classes"]),
        facts["kind"],
        Normalise.model_validate(facts["normalise"]),
        facts["weights_sha256"],
        _decisions_of(run),
    )


def with_decisions(run: RunFolder, classifier: Classifier, decisions: Decisions) -> Classifier:
    """Write what was chosen on the validation part, and return the classifier with it."""
    run.write_json(DECISIONS, decisions.to_json())
    return replace(classifier, decisions=decisions)


def _decisions_of(run: RunFolder) -> Decisions | None:
    """Return what a run chose on its validation part; None for runs that chose nothing."""
    if not (run.path / DECISIONS).is_file():
        return None
    return Decisions.from_json(run.read_json(DECISIONS), file=str(run.path / DECISIONS))
