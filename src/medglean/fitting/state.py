"""Where a fit stands, apart from tensors; and how both go into a checkpoint and come back."""

from __future__ import annotations

import contextlib
import math
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from medglean import __version__
from medglean.errors import CheckpointError, UsageError
from medglean.files import sha256_of_json
from medglean.fitting import checkpoint
from medglean.fitting.ema import Ema
from medglean.fitting.settings import FitSettings

Identity = dict[str, Any]
"""What a resumed run must share with the one it goes on from, by the name of the setting."""

_OF_THE_DEVICE = {"params", "lr", "initial_lr", "foreach", "fused", "capturable"}
"""Entries of an optimiser's groups that are set anew and not restored."""


@dataclass
class FitState:
    """Numbers that the loop carries from step to step."""

    step: int = 0
    """Optimiser steps done."""
    validated_step: int = 0
    """The step after which validation was last made."""
    best_value: float | None = None
    best_step: int | None = None
    without_better: int = 0
    """Validations in a row without a better value."""
    seconds: float = 0.0
    """Time in the loop, over all sittings."""
    resumed_from: list[int] = field(default_factory=list)
    """Steps at which the fit was taken up again."""
    sums: dict[str, float] = field(default_factory=dict)
    """Sums of the losses since the last row of the log."""
    counts: dict[str, int] = field(default_factory=dict)

    def add_loss(self, name: str, value: float) -> None:
        """Add one value to the mean that the next row of the log gives."""
        self.sums[name] = self.sums.get(name, 0.0) + value
        self.counts[name] = self.counts.get(name, 0) + 1

    def take_means(self) -> dict[str, float]:
        """Return the mean of each loss since the last call, and begin anew."""
        means = {name: total / self.counts[name] for name, total in self.sums.items()}
        self.sums, self.counts = {}, {}
        return means

    def judge(self, value: float, *, mode: str) -> bool:
        """Note what a validation gave; return whether it is the best so far.

        A tie keeps the earlier one; NaN and infinity are never better.
        """
        self.validated_step = self.step
        best = self.best_value
        better = math.isfinite(value) and (
            best is None or (value > best if mode == "max" else value < best)
        )
        if better:
            self.best_value, self.best_step, self.without_better = value, self.step, 0
        else:
            self.without_better += 1
        return better


@dataclass
class Trained:
    """Everything with tensors that a checkpoint keeps."""

    networks: dict[str, nn.Module]
    optimizers: dict[str, Optimizer]
    emas: dict[str, Ema]

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return all tensors by the names they have in a checkpoint."""
        packed = checkpoint.pack_networks("network.", self.networks)
        for name, ema in self.emas.items():
            packed.update({f"ema.{name}.{key}": value for key, value in ema.average.items()})
        for name, optimizer in self.optimizers.items():
            for number, entries in optimizer.state_dict()["state"].items():
                for key, value in entries.items():
                    if isinstance(value, torch.Tensor):
                        packed[f"optimizer.{name}.{number}.{key}"] = value
        return packed

    def scalars(self) -> dict[str, Any]:
        """Return what belongs to averages and optimisers and is no tensor."""
        optimizers: dict[str, Any] = {}
        for name, optimizer in self.optimizers.items():
            state = optimizer.state_dict()
            optimizers[name] = {
                "state": {
                    str(number): {
                        key: value
                        for key, value in entries.items()
                        if not isinstance(value, torch.Tensor)
                    }
                    for number, entries in state["state"].items()
                },
                "groups": [
                    {key: value for key, value in group.items() if key not in _OF_THE_DEVICE}
                    for group in state["param_groups"]
                ],
            }
        updates = {name: ema.updates for name, ema in self.emas.items()}
        return {"optimizers": optimizers, "ema_updates": updates}

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the weights that validation judges: averaged ones where there is an average."""
        with self.averaged():
            return checkpoint.pack_networks("", self.networks)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Let the networks hold their averages, where they have one, inside the block."""
        with contextlib.ExitStack() as stack:
            for ema in self.emas.values():
                stack.enter_context(ema.applied())
            yield

    def restore(self, found: checkpoint.Checkpoint) -> None:
        """Take up what a checkpoint holds.

        Raises
        ------
        CheckpointError
            If it is of another architecture or other optimisers.
        """
        checkpoint.unpack_networks(found.path, found.tensors, "network.", self.networks)
        scalars = found.facts["scalars"]
        for name, ema in self.emas.items():
            head = f"ema.{name}."
            ema.load(
                {key: found.tensors[head + key] for key in ema.average},
                updates=scalars["ema_updates"][name],
            )
        for name, optimizer in self.optimizers.items():
            _restore_optimizer(found, name, optimizer, scalars["optimizers"].get(name))


def _restore_optimizer(
    found: checkpoint.Checkpoint, name: str, optimizer: Optimizer, scalars: dict[str, Any] | None
) -> None:
    fresh = optimizer.state_dict()
    sizes = [len(group["params"]) for group in optimizer.param_groups]
    if scalars is None or len(scalars["groups"]) != len(sizes):
        raise CheckpointError(
            f"{found.path}: has no optimiser {name!r} with {len(sizes)} groups; it was made by "
            "another training step. Use the preset that it was trained with."
        )
    parameters = [weight for group in optimizer.param_groups for weight in group["params"]]
    state: dict[int, dict[str, Any]] = {
        int(number): dict(entries) for number, entries in scalars["state"].items()
    }
    head = f"optimizer.{name}."
    for key, value in found.tensors.items():
        if key.startswith(head):
            number, entry = key[len(head) :].split(".", 1)
            state[int(number)][entry] = _laid_out_as(parameters[int(number)], value)
    groups = [
        {**ours, **{key: _like(ours.get(key), value) for key, value in theirs.items()}}
        for ours, theirs in zip(fresh["param_groups"], scalars["groups"], strict=True)
    ]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _laid_out_as(weight: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Return ``value`` with the memory order of the weight it belongs to (channels last)."""
    if value.shape != weight.shape:
        return value.clone()
    return torch.empty_like(weight, dtype=value.dtype, device=value.device).copy_(value)


def _like(ours: object, theirs: object) -> object:
    return tuple(theirs) if isinstance(ours, tuple) and isinstance(theirs, list) else theirs


def facts(
    state: FitState,
    trained: Trained,
    settings: FitSettings,
    identity: Identity,
    *,
    steps_per_epoch: int,
    total_steps: int,
    scaler: Mapping[str, object],
) -> dict[str, Any]:
    """Return the JSON part of a checkpoint."""
    return {
        "step": state.step,
        "epoch": state.step // steps_per_epoch,
        "state": asdict(state),
        "scalars": trained.scalars(),
        "scaler": dict(scaler),
        "identity": identity,
        "settings": settings.model_dump(mode="json"),
        "settings_hash": sha256_of_json(settings.model_dump(mode="json")),
        "total_steps": total_steps,
        "versions": {
            "medglean": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }


def state_of(found: checkpoint.Checkpoint) -> FitState:
    """Return where the fit stood when a checkpoint was made."""
    saved = found.facts["state"]
    return FitState(**{entry.name: saved[entry.name] for entry in fields(FitState)})


def check_same(found: checkpoint.Checkpoint, identity: Identity, *, total_steps: int) -> None:
    """Refuse to go on with settings or data other than those of the checkpoint.

    Raises
    ------
    UsageError
        Naming each setting that differs, with both values.
    """
    before = found.facts["identity"]
    lines = [
        f"{name}: {before.get(name)!r} before, {identity.get(name)!r} now"
        for name in sorted(before.keys() | identity.keys())
        if before.get(name) != identity.get(name)
    ]
    if total_steps < found.facts["total_steps"]:
        lines.append(
            f"epochs or max_steps: {found.facts['total_steps']} steps before, {total_steps} now "
            "(they may only grow)"
        )
    if lines:
        raise UsageError(
            f"{found.path}: cannot be resumed, because the result would be of neither run:\n  "
            + "\n  ".join(lines)
            + "\nGive the settings that it was started with, or start a new run."
        )
