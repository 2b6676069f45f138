"""Settings of a fit: how long, how large the batches, which optimiser, what is kept.

They are frozen and validated, and stand as the table ``[fit]`` of a preset. A resumed run refuses
settings that differ from those it was started with, except the ones in :data:`CHANGEABLE`, which
do not change what a step computes.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

CHANGEABLE = frozenset(
    {
        "accelerator",
        "checkpoint_every_minutes",
        "checkpoint_every_steps",
        "devices",
        "epochs",
        "log_every_steps",
        "loggers",
        "max_steps",
        "nodes",
        "patience",
        "workers",
    }
)
"""Fields of :class:`FitSettings` that a resumed run may change: where and how long it runs, and
what it writes. ``epochs`` and ``max_steps`` may only grow."""


class OptimizerSettings(BaseModel):
    """The rule that turns gradients into new weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["adam", "adamw", "sgd"] = "adam"
    """``adam`` (Kingma and Ba 2015), ``adamw`` (decoupled weight decay, Loshchilov and Hutter 2019)
    or ``sgd`` (with momentum)."""
    learning_rate: float = Field(default=1e-4, gt=0.0)
    """Base learning rate, multiplied by the schedule's factor. 1e-4 suits fine-tuning with Adam."""
    weight_decay: float = Field(default=0.0, ge=0.0)
    """Strength of the pull towards zero. 0: none of the papers reproduced here uses it."""
    momentum: float = Field(default=0.9, ge=0.0, lt=1.0)
    """Momentum of ``sgd``; not used by the others."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the averages of ``adam`` and ``adamw``; GANs often take (0.5, 0.999)."""
    eps: float = Field(default=1e-8, gt=0.0)
    """Added to the denominator of ``adam`` and ``adamw`` for numerical stability."""
    fused: Literal["auto"] | bool = "auto"
    """One kernel for all weights. ``auto``: yes, except with ``16-mixed``, where clipping needs
    the gradients unscaled first."""


class ScheduleSettings(BaseModel):
    """The learning rate as a function of the step; see :func:`medglean.fitting.schedule.factor`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["constant", "cosine", "linear-decay", "one-cycle"] = "constant"
    """``constant``; ``cosine`` down to ``final_factor``; ``linear-decay``: constant for
    ``decay_after_epochs``, then straight down; ``one-cycle``: up to 1 and down again."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the rate rises in a straight line to its base; 0: none. Not for
    ``one-cycle``, which has its own rise."""
    decay_after_epochs: float = Field(default=0.0, ge=0.0)
    """Epochs at the base rate before ``linear-decay`` starts."""
    final_factor: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of the base rate that is left at the end."""
    start_factor: float = Field(default=0.04, ge=0.0, le=1.0)
    """Share of the base rate at which ``one-cycle`` starts; 1/25 as in the usual recipe."""
    peak_at: float = Field(default=0.3, gt=0.0, lt=1.0)
    """Share of all steps at which ``one-cycle`` is at its top; 0.3 as in the usual recipe."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.name == "one-cycle" and self.warmup_steps:
            raise ValueError("one-cycle rises by itself: set warmup_steps = 0, or move peak_at.")
        if self.name != "linear-decay" and self.decay_after_epochs:
            raise ValueError(f"decay_after_epochs is of linear-decay; the schedule is {self.name}.")
        return self


class FitSettings(BaseModel):
    """Everything that the training loop needs to know."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(default=0, ge=0)
    """Every random draw is a function of this, the step and the device's rank."""
    epochs: int = Field(default=50, ge=1)
    """Passes over the training images."""
    max_steps: int | None = Field(default=None, ge=1)
    """Stop after so many optimiser steps, whatever ``epochs`` says; ``None``: no limit."""
    batch_size: int = Field(default=32, ge=1)
    """Images per batch, over all devices together: two devices take half of each batch."""
    accumulate: int = Field(default=1, ge=1)
    """Batches per optimiser step. Gradients are averaged over the images of all of them, so 4
    batches of 8 act as one of 32 (except in BatchNorm, which sees 8)."""
    optimizer: OptimizerSettings = Field(default_factory=OptimizerSettings)
    """What :func:`medglean.fitting.make_optimizer` builds; the loop itself takes any optimiser."""
    schedule: ScheduleSettings = Field(default_factory=ScheduleSettings)
    """Learning rate over time, the same factor for every optimiser."""
    clip_norm: float | None = Field(default=None, gt=0.0)
    """Largest 2-norm of an optimiser's gradients, which are scaled down to it; ``None``: any."""
    ema_decay: float | None = Field(default=None, gt=0.0, lt=1.0)
    """Decay per step of the exponential moving average of the weights, which is then what is
    validated and kept as best. It warms up: min(decay, (1 + n) / (10 + n)) at update n.
    ``None``: no average."""
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "32-true"
    """``32-true`` is what the papers used. ``bf16-mixed`` halves the time on processors and GPUs
    with instructions for it and is slow on others; ``auto`` takes it where there are some, and
    ``32-true`` elsewhere. What ``auto`` came to is kept, and a resumed run must share it."""
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"] = "auto"
    """Kind of device; ``auto`` takes a GPU where there is one."""
    devices: int | Literal["auto"] = 1
    """Devices per machine. Start several with torchrun or Slurm, which are found by themselves."""
    nodes: int = Field(default=1, ge=1)
    """Machines."""
    workers: int = Field(default=0, ge=0)
    """Processes that load batches; 0: the main process does. The batches are the same."""
    validate_every: int = Field(default=1, ge=1)
    """Epochs (or steps, see ``validate_unit``) between validations; one is always made at the
    end."""
    validate_unit: Literal["epochs", "steps"] = "epochs"
    """What ``validate_every`` counts."""
    monitor: str = "loss"
    """Which of the numbers that validation returns decides what is best."""
    mode: Literal["min", "max"] = "min"
    """Whether less or more of it is better. A tie keeps the earlier; NaN is never better."""
    patience: int | None = Field(default=None, ge=1)
    """Stop after so many validations in a row without a better value; ``None``: never."""
    checkpoint_every_steps: int | None = Field(default=None, ge=1)
    """Steps between checkpoints, besides those at every validation. Without a validation, steps or
    minutes every epoch ends with one."""
    checkpoint_every_minutes: float | None = Field(default=10.0, gt=0.0)
    """Minutes between checkpoints: what a kill costs at most. Does not change the result."""
    log_every_steps: int = Field(default=50, ge=1)
    """Steps between rows of ``log.csv``, besides those at the end of every epoch."""
    loggers: tuple[Literal["tensorboard", "mlflow"], ...] = ()
    """Further logs; each needs the extra of its name."""
    channels_last: Literal["auto"] | bool = "auto"
    """Keep images with the channel innermost. ``auto``: on a CPU, and on a GPU with mixed
    precision, where convolutions are written for it."""
    deterministic: bool = False
    """Only algorithms that give the same bits every time. A CPU does anyway; on a GPU it costs
    time, and some operations have none."""
    check_gradients: bool = False
    """Also stop at a NaN or infinite gradient norm, which costs a wait for the GPU every step."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.precision == "16-mixed" and self.check_gradients:
            raise ValueError(
                "check_gradients cannot be used with 16-mixed: its loss scaling meets infinite "
                "gradients as a matter of course and skips them. Use bf16-mixed or 32-true."
            )
        if isinstance(self.devices, int) and self.devices < 1:
            raise ValueError(f"devices must be 1 or more, or 'auto', got {self.devices}.")
        return self

    @property
    def has_times_to_save(self) -> bool:
        """Whether checkpoints are made after some steps or minutes."""
        return self.checkpoint_every_steps is not None or self.checkpoint_every_minutes is not None

    def fixed(self) -> dict[str, object]:
        """Return the settings that a resumed run must share, flat: ``optimizer.name`` and so on."""
        flat: dict[str, object] = {}
        for name, value in self.model_dump(mode="json").items():
            if name in CHANGEABLE:
                continue
            if isinstance(value, dict):
                flat.update({f"{name}.{key}": inner for key, inner in value.items()})
            else:
                flat[name] = value
        return flat
