"""The only training loop.

A step is one move of the optimisers: one batch, or several with accumulation. What it computes
is a function of the weights, the settings and the step's number alone, so a fit can be killed and
taken up at any step.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricModule
from torch import nn
from torch.optim import Optimizer

from medglean.errors import Interrupted, NonFiniteLossError, RunFolderError, UsageError
from medglean.fitting import checkpoint
from medglean.fitting.devices import make_fabric, repeatable, wants_channels_last
from medglean.fitting.ema import Ema
from medglean.fitting.loader import Batch, Loader
from medglean.fitting.loggers import CsvLog, Logger, Row, make_loggers
from medglean.fitting.losses import LossWatch
from medglean.fitting.progress import FitProgress, Silent, make_progress
from medglean.fitting.schedule import factor
from medglean.fitting.settings import FitSettings
from medglean.fitting.signals import StopNow, StopRequest
from medglean.fitting.state import FitState, Identity, Trained, check_same, facts, state_of
from medglean.fitting.update import Update
from medglean.randomness import key_of, torch_generator

Step = Callable[[Batch, torch.Generator, Update], Mapping[str, torch.Tensor]]
"""A training step: takes a batch on the device, a generator that is a function of (seed, step,
rank), and ``update``; returns losses by name for the log."""

Validate = Callable[[Mapping[str, nn.Module]], Mapping[str, float]]
"""Validation: takes the networks in evaluation mode, returns numbers by name."""

CHECK_EVERY = 16
"""Steps between looks at losses and signals where looking means waiting for a GPU."""


@dataclass(frozen=True)
class FitResult:
    """What came out of a fit."""

    steps: int
    """Optimiser steps done, over all sittings."""
    epochs: int
    """Whole epochs done."""
    best_step: int | None
    """After how many steps the best validation was made; ``None`` without validation."""
    best_value: float | None
    history: list[Row]
    """The rows of ``log.csv``."""
    best: Path | None
    """Weights of the best validation, for :func:`medglean.fitting.load_weights`."""
    last: Path
    """The newest checkpoint."""
    seconds: float
    """Time in the loop, over all sittings."""
    stopped_early: bool
    """Whether patience ran out before the last step."""
    resumed_from: tuple[int, ...]
    """Steps at which the fit was taken up again after an interruption."""
    warnings: tuple[str, ...]
    """Sentences for the report, such as a damaged checkpoint that was passed over."""


def fit(
    step: Step,
    *,
    networks: MutableMapping[str, nn.Module],
    optimizers: Mapping[str, Optimizer],
    loader: Loader,
    settings: FitSettings,
    folder: Path,
    validate: Validate | None = None,
    resume: bool = False,
    identity: Mapping[str, str | int | float | bool] | None = None,
    loggers: Sequence[Logger] = (),
    progress: FitProgress | None = None,
    fabric: Fabric | None = None,
) -> FitResult:
    """Train networks until the settings say stop.

    Parameters
    ----------
    step
        Called for every batch as ``step(batch, generator, update)``. It takes the networks from
        the ``networks`` mapping each time, draws random numbers from ``generator`` (dropout's are
        seeded too), calls ``update(loss, "optimiser name")`` and returns losses for the log.
    networks
        By name. While the loop runs the mapping holds them as Fabric has set them up for device
        and precision; afterwards it holds the networks again, on the device, with the last
        weights. A network in evaluation mode is put in training mode; parts of one in training
        mode that are in evaluation mode, such as frozen BatchNorm, stay so.
    optimizers
        By name. Their learning rates are the base that the schedule multiplies.
    loader
        The training images.
    settings
        How long, how often, how.
    folder
        Gets ``log.csv``, ``best.safetensors`` and ``checkpoints/last-*.safetensors``.
    validate
        Called without gradients, with averaged weights where there is an average. On several
        devices every one calls it, and the first one's numbers count.
    resume
        Go on from the newest checkpoint that is whole; where there is none, start.
    identity
        More that a resumed run must share, such as the manifest's and the recipe's hash.
    loggers
        Further places for the numbers, besides those that the settings name.
    progress
        Who tells how far it is; by default a bar or lines on standard error.
    fabric
        A launched Fabric to use in place of one made from the settings.

    Returns
    -------
    FitResult
        Steps, best value, history, files.

    Raises
    ------
    NonFiniteLossError
        At a NaN or infinite loss, naming step, images and the last good checkpoint.
    Interrupted
        After Ctrl-C or SIGTERM, with a checkpoint written.
    CheckpointError
        If a checkpoint cannot be written, is damaged, or is of another architecture.
    UsageError
        If the settings contradict the run that is resumed, or the closures.
    RunFolderError
        If the folder has checkpoints and ``resume`` is off.
    """
    if settings.patience is not None and validate is None:
        raise UsageError("patience needs a validation. Pass one, or set fit.patience to none.")
    folder.mkdir(parents=True, exist_ok=True)
    if not resume and checkpoint.exists(folder / "checkpoints"):
        raise RunFolderError(
            f"{folder}: has checkpoints of an earlier fit. Go on with --resume, or choose another "
            "folder."
        )
    fabric = make_fabric(settings) if fabric is None else fabric
    raw = dict(networks)
    with contextlib.ExitStack() as stack:
        stack.enter_context(repeatable(deterministic=settings.deterministic))
        stop = stack.enter_context(StopRequest())
        stack.callback(networks.update, raw)
        fit_ = _Fit(step, networks, optimizers, loader, settings, folder, validate, fabric, stop)
        stack.callback(fit_.loader.close)
        fit_.begin(identity or {}, loggers, progress)
        stack.callback(fit_.end)
        return fit_.run()


class _Fit:
    """One call of :func:`fit`: what its parts share."""

    def __init__(
        self,
        step: Step,
        networks: MutableMapping[str, nn.Module],
        optimizers: Mapping[str, Optimizer],
        loader: Loader,
        settings: FitSettings,
        folder: Path,
        validate: Validate | None,
        fabric: Fabric,
        stop: StopRequest,
    ) -> None:
        self.step_closure, self.networks, self.validate = step, networks, validate
        self.settings, self.folder, self.fabric, self.stop = settings, folder, fabric, stop
        self.rank, self.world = fabric.global_rank, fabric.world_size
        self.is_first = self.rank == 0
        self.on_cpu = fabric.device.type == "cpu"
        self.channels_last = wants_channels_last(settings, fabric.device)
        self.loader = loader.for_device(
            rank=self.rank, world_size=self.world, pin_memory=fabric.device.type == "cuda"
        )
        self.steps_per_epoch = math.ceil(loader.batches_per_epoch / settings.accumulate)
        whole = settings.epochs * self.steps_per_epoch
        self.total_steps = min(whole, settings.max_steps or whole)
        raw = dict(networks)
        self._set_up(raw)
        decay = settings.ema_decay
        emas = {} if decay is None else {name: Ema(raw[name], decay=decay) for name in raw}
        self.trained = Trained(raw, dict(optimizers), emas)
        self.update = Update(fabric, raw, optimizers, emas, settings)
        self.state = FitState()
        self.warnings: list[str] = []
        self.log = CsvLog(folder / "log.csv")
        self.loggers: list[Logger] = []
        self.progress: FitProgress = Silent()
        self.watch = LossWatch(self.state)
        self.last_path: Path | None = None
        self.saved_at = self.sat_down_at = time.monotonic()

    def _set_up(self, raw: Mapping[str, nn.Module]) -> None:
        for name, network in raw.items():
            if not network.training:
                network.train()
            if self.channels_last:
                network.to(memory_format=torch.channels_last)
            self.networks[name] = self.fabric.setup_module(network)
        self._called_through: set[str] = set()
        for name in raw:  # a step that kept the network itself would bypass device and precision
            self.networks[name].register_forward_pre_hook(
                lambda *_, name=name: self._called_through.add(name)
            )

    # ------------------------------------------------------------------ begin and end

    def begin(
        self,
        identity: Mapping[str, str | int | float | bool],
        loggers: Sequence[Logger],
        progress: FitProgress | None,
    ) -> None:
        """Take up the newest checkpoint, if any, and open what is written to."""
        self.identity: Identity = {
            **self.settings.fixed(),
            **identity,
            "images": self.loader.fingerprint(),
        }
        found = checkpoint.latest(self.folder / "checkpoints")
        if found is not None:
            self._take_up(found)
        if self.is_first:
            self.progress = make_progress() if progress is None else progress
            self.log.cut(self.state.step)
            made = make_loggers(self.settings.loggers, self.folder, first_step=self.state.step)
            self.loggers = [*made, *loggers]
        self.progress.start(done=self.state.step, total=self.total_steps)
        for warning in self.warnings:
            self.progress.note(f"warning: {warning}")

    def _take_up(self, found: checkpoint.Checkpoint) -> None:
        check_same(found, self.identity, total_steps=self.total_steps)
        self.trained.restore(found)
        if found.facts["scaler"]:
            self.fabric.strategy.precision.load_state_dict(found.facts["scaler"])
        self.state = state_of(found)
        self.watch = LossWatch(self.state)
        self.last_path = found.path
        self.warnings.extend(found.warnings)
        if self.state.step < self.total_steps:
            self.state.resumed_from.append(self.state.step)
        before = found.facts["total_steps"]
        if before != self.total_steps and self.settings.schedule.name != "constant":
            self.warnings.append(
                f"the fit was lengthened from {before} to {self.total_steps} steps at step "
                f"{self.state.step}: from there on the learning rate follows the longer "
                f"{self.settings.schedule.name} schedule."
            )
        if self.is_first and self.state.best_step == self.state.step:
            self._save_best()  # a kill may have come between the checkpoint and this file

    def end(self) -> None:
        """Close what was opened."""
        self.progress.close()
        for logger in self.loggers:
            logger.close()

    # ------------------------------------------------------------------ the loop

    def run(self) -> FitResult:
        """Go from where the state stands to the end."""
        while True:
            if self._validation_is_due():
                self._validate()
            if self._is_over():
                break
            self._train_epoch()
        if self.last_path is None or self.last_path.name != self._path().name:
            self._save()
        return self._result()

    def _is_over(self) -> bool:
        return self.state.step >= self.total_steps or self._patience_is_out()

    def _patience_is_out(self) -> bool:
        patience = self.settings.patience
        return patience is not None and self.state.without_better >= patience

    def _train_epoch(self) -> None:
        """Train to the end of the epoch, or to the next validation or the last step."""
        epoch, done = divmod(self.state.step, self.steps_per_epoch)
        accumulate = self.settings.accumulate
        with contextlib.closing(self.loader.epoch(epoch, done * accumulate)) as batches:
            for number in range(done, self.steps_per_epoch):
                first = number * accumulate
                last = min(first + accumulate, self.loader.batches_per_epoch)
                self._step(batches, epoch, range(first, last))
                self._after_step(epoch)
                if self._validation_is_due() or self._is_over():
                    return

    def _step(self, batches: Iterator[Batch], epoch: int, numbers: range) -> None:
        """Do one optimiser step over the batches of these numbers."""
        settings, step = self.settings, self.state.step
        device = str(self.fabric.device)
        rate = factor(
            step,
            schedule=settings.schedule,
            total_steps=self.total_steps,
            steps_per_epoch=self.steps_per_epoch,
        )
        self.update.begin_step(rate_factor=rate)
        # dropout draws from the global generator, which has no memory across steps this way
        torch.manual_seed(key_of(settings.seed, "global", step, self.rank))
        generator = torch_generator(settings.seed, "step", step, self.rank, device=device)
        images = sum(self.loader.batch_images(number) for number in numbers)
        for number in numbers:
            batch = self._on_device(next(batches))
            is_last = number == numbers[-1]
            share = self.loader.batch_images(number) / images
            self.update.begin_batch(share=share, is_last=is_last)
            try:
                with self._without_exchange(enabled=not is_last):
                    losses = self.step_closure(batch, generator, self.update)
                    self.update.end_batch()
            except NonFiniteLossError as error:
                raise self._not_finite(str(error), step, epoch, number) from error
            self.watch.add(losses, step=step, epoch=epoch, batch=number)
        if step == 0 or not self._called_through:
            self._check_called()
        self.state.step += 1

    def _on_device(self, batch: Batch) -> Batch:
        moved: Batch = self.fabric.to_device(batch)
        if self.channels_last:
            return {
                name: value.contiguous(memory_format=torch.channels_last)
                if value.ndim == 4
                else value
                for name, value in moved.items()
            }
        return moved

    @contextlib.contextmanager
    def _without_exchange(self, *, enabled: bool) -> Iterator[None]:
        """Let devices keep their gradients to themselves until the last batch of a step."""
        with contextlib.ExitStack() as stack:
            if enabled and self.world > 1:
                for network in self.networks.values():
                    stack.enter_context(
                        self.fabric.no_backward_sync(cast("_FabricModule", network))
                    )
            yield

    def _check_called(self) -> None:
        if self._called_through or (self.world == 1 and self.settings.precision == "32-true"):
            self._called_through.add("")
            return
        raise UsageError(
            "the training step did not call the networks of the mapping that was passed to fit, "
            f"so {self.settings.precision} on {self.world} device(s) is not in force. Take the "
            "network from the mapping inside the step: networks['name'](...)."
        )

    def _after_step(self, epoch: int) -> None:
        """Look at losses and signals, write a row, make a checkpoint: each when it is time."""
        step, settings = self.state.step, self.settings
        ends_epoch = step % self.steps_per_epoch == 0
        is_over = step >= self.total_steps
        row_is_due = ends_epoch or is_over or step % settings.log_every_steps == 0
        every = settings.checkpoint_every_steps
        save_is_due = is_over or (every is not None and step % every == 0)
        save_is_due |= ends_epoch and self.validate is None
        looks = self.on_cpu or step % CHECK_EVERY == 0
        if not (looks or row_is_due or save_is_due or self._validation_is_due()):
            return
        self._check_losses()
        stop, clock = self._agree(
            self.stop.requested, self.is_first and self._checkpoint_clock_rang()
        )
        values: Mapping[str, float] = self.watch.newest()
        if row_is_due:
            values = self._write_row(epoch, {f"train.{k}": v for k, v in self._means().items()})
        self.progress.update(step=step, epoch=epoch, values=values)
        if stop:
            self._interrupt()
        if (save_is_due or clock) and not self._validation_is_due():
            self._save()

    def _checkpoint_clock_rang(self) -> bool:
        minutes = self.settings.checkpoint_every_minutes
        return minutes is not None and time.monotonic() - self.saved_at > 60.0 * minutes

    def _agree(self, *flags: bool) -> tuple[bool, ...]:
        """Return flags that any device has raised, on all devices."""
        if self.world == 1:
            return flags
        raised = torch.tensor([float(flag) for flag in flags], device=self.fabric.device)
        total = cast("torch.Tensor", self.fabric.all_reduce(raised, reduce_op="sum"))
        return tuple(bool(value > 0) for value in total.tolist())

    def _means(self) -> dict[str, float]:
        """Return the losses' means since the last row, over all devices."""
        means = self.state.take_means()
        if self.world == 1 or not means:
            return means
        mine = torch.tensor(list(means.values()), device=self.fabric.device)
        over_all = cast("torch.Tensor", self.fabric.all_reduce(mine))
        return dict(zip(means, over_all.tolist(), strict=True))

    # ------------------------------------------------------------------ validation

    def _validation_is_due(self) -> bool:
        step, settings = self.state.step, self.settings
        if self.validate is None or step == 0 or step == self.state.validated_step:
            return False
        every = settings.validate_every
        if settings.validate_unit == "epochs":
            every *= self.steps_per_epoch
        return step % every == 0 or step >= self.total_steps

    def _validate(self) -> None:
        """Validate, note the numbers, and keep the weights if they are the best so far."""
        if self.validate is None:
            return
        self._check_losses()
        self._check_weights()
        try:
            with self.stop.at_once() if self.world == 1 else contextlib.nullcontext():
                metrics = self._metrics(self.validate)
        except StopNow:
            self._interrupt()
        name = self.settings.monitor
        if name not in metrics:
            raise UsageError(
                f"fit.monitor is {name!r}, but validation returned {sorted(metrics)}. Set it to "
                "one of these."
            )
        is_best = self.state.judge(metrics[name], mode=self.settings.mode)
        epoch = (self.state.step - 1) // self.steps_per_epoch
        values = self._write_row(epoch, {f"val.{key}": value for key, value in metrics.items()})
        self.progress.update(step=self.state.step, epoch=epoch, values=values)
        self._save()
        if is_best and self.is_first:
            self._save_best()
        if self._agree(self.stop.requested)[0] and not self._is_over():
            self._interrupt()

    def _metrics(self, validate: Validate) -> dict[str, float]:
        if self.world > 1:  # running statistics differ between devices; the first one's count
            for tensor in self._buffers():
                tensor.copy_(self.fabric.broadcast(tensor))
        torch.manual_seed(key_of(self.settings.seed, "validate", self.state.step))
        with self.trained.averaged(), _evaluating(self.trained.networks), torch.no_grad():
            found = validate(self.networks)
        metrics = {name: float(value) for name, value in found.items()}
        return self.fabric.broadcast(metrics) if self.world > 1 else metrics

    def _buffers(self) -> Iterator[torch.Tensor]:
        for network in self.trained.networks.values():
            yield from network.buffers()
        for ema in self.trained.emas.values():
            names = dict(ema.network.named_buffers())
            yield from (value for key, value in ema.average.items() if key in names)

    # ------------------------------------------------------------------ what is written

    def _write_row(self, epoch: int, values: Mapping[str, float]) -> Mapping[str, float]:
        rates = {f"lr.{name}": rate for name, rate in self.update.learning_rates().items()}
        row: Row = {"step": self.state.step, "epoch": epoch + 1, **rates, **values}
        if self.is_first:
            self.log.append(row)
            for logger in self.loggers:
                logger.log(row, step=self.state.step)
        return values

    def _path(self) -> Path:
        return checkpoint.path_of(self.folder / "checkpoints", self.state.step)

    def _save(self) -> None:
        """Write a checkpoint, unless the weights are spoiled."""
        self._check_weights()
        now = time.monotonic()
        self.state.seconds += now - self.sat_down_at
        self.sat_down_at = self.saved_at = now
        self.last_path = self._path()
        if self.is_first:
            everything = facts(
                self.state,
                self.trained,
                self.settings,
                self.identity,
                steps_per_epoch=self.steps_per_epoch,
                total_steps=self.total_steps,
                scaler=self.fabric.strategy.precision.state_dict(),
            )
            checkpoint.save(self.folder / "checkpoints", self.trained.tensors(), everything)

    def _save_best(self) -> None:
        about = {
            "step": self.state.best_step,
            "monitor": self.settings.monitor,
            "value": self.state.best_value,
            "averaged": bool(self.trained.emas),
            "identity": self.identity,
        }
        checkpoint.write(self.folder / "best.safetensors", self.trained.weights(), about)

    def _interrupt(self) -> None:
        self._save()
        self.fabric.barrier()
        raise Interrupted(
            f"stopped by {self.stop.signal_name or 'a signal to another process'} after step "
            f"{self.state.step} of {self.total_steps}; {self.last_path} is saved. Go on with "
            "--resume."
        )

    def _result(self) -> FitResult:
        state, best = self.state, self.folder / "best.safetensors"
        return FitResult(
            steps=state.step,
            epochs=state.step // self.steps_per_epoch,
            best_step=state.best_step,
            best_value=state.best_value,
            history=self.log.rows(),
            best=best if state.best_step is not None else None,
            last=self._path(),
            seconds=state.seconds,
            stopped_early=self._patience_is_out() and state.step < self.total_steps,
            resumed_from=tuple(state.resumed_from),
            warnings=tuple(self.warnings),
        )

    # ------------------------------------------------------------------ what is not finite

    def _check_losses(self) -> None:
        bad = self.watch.look()
        if self._agree(bad is not None)[0]:
            if bad is None:
                raise NonFiniteLossError(
                    f"a loss on another device is not finite, at or before step {self.state.step}."
                )
            raise self._not_finite(bad.text, bad.step, bad.epoch, bad.batch)

    def _check_weights(self) -> None:
        """Refuse to judge or keep weights that are NaN or infinite."""
        for name, network in self.trained.networks.items():
            spoiled = [
                key
                for key, value in network.state_dict().items()
                if value.is_floating_point() and not bool(torch.isfinite(value).all())
            ]
            if spoiled:
                epoch, number = divmod(self.state.step - 1, self.steps_per_epoch)
                what = f"weights of {name!r} are not finite ({', '.join(spoiled[:3])})"
                raise self._not_finite(
                    what, self.state.step - 1, epoch, number * self.settings.accumulate
                )

    def _not_finite(self, what: str, step: int, epoch: int, batch: int) -> NonFiniteLossError:
        indices = self.loader.indices(epoch, batch).tolist()
        ids = self.loader.ids
        names = [str(index) if ids is None else ids[index] for index in indices]
        kind = "rows of the manifest, from 0" if ids is None else "ids"
        good = "none yet" if self.last_path is None else str(self.last_path)
        return NonFiniteLossError(
            f"step {step} (epoch {epoch + 1}, batch {batch}): {what}. Images ({kind}): "
            f"{', '.join(names)}. Last good checkpoint: {good}. Look at these images, lower the "
            "learning rate or set fit.clip_norm."
        )


@contextlib.contextmanager
def _evaluating(networks: Mapping[str, nn.Module]) -> Iterator[None]:
    """Put networks in evaluation mode inside, and every part back in its own mode after."""
    modes = [(part, part.training) for net in networks.values() for part in net.modules()]
    for network in networks.values():
        network.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
