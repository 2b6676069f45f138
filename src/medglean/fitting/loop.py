"""The only training loop.

A step is one move of the optimisers: one batch, or several with accumulation. What it computes
is a function of the weights, the settings and the step's number alone, so a fit can be killed and
taken up at any step.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import cast

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.optim import Optimizer

from medglean.errors import Interrupted, NonFiniteLossError, RunFolderError, UsageError
from medglean.fitting import checkpoint
from medglean.fitting.devices import (
    any_device,
    make_fabric,
    mean_over_devices,
    repeatable,
    resolved,
    seed_global,
    wants_channels_last,
    without_exchange,
)
from medglean.fitting.ema import Ema
from medglean.fitting.finite import LossWatch, Place, not_finite, spoiled_weights
from medglean.fitting.loader import Batch, Loader
from medglean.fitting.loggers import Logger
from medglean.fitting.progress import FitProgress, Silent, make_progress
from medglean.fitting.record import FitResult, Record
from medglean.fitting.schedule import factor
from medglean.fitting.settings import FitSettings
from medglean.fitting.signals import StopNow, StopRequest
from medglean.fitting.state import Trained
from medglean.fitting.update import Update
from medglean.fitting.validation import Validate, measure
from medglean.randomness import key_of, torch_generator

Step = Callable[[Batch, torch.Generator, Update], Mapping[str, torch.Tensor]]
"""A training step: takes a batch on the device, a generator that is a function of (seed, step,
rank), and ``update``; returns losses by name for the log."""

CHECK_EVERY = 16
"""Steps between looks at losses and signals where looking means waiting for a GPU."""


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
    settings = resolved(settings)
    fabric = make_fabric(settings) if fabric is None else fabric
    with contextlib.ExitStack() as stack:
        stack.enter_context(repeatable(deterministic=settings.deterministic))
        stop = stack.enter_context(StopRequest())
        stack.callback(networks.update, dict(networks))
        loop = _Loop(step, networks, optimizers, loader, settings, folder, validate, fabric, stop)
        stack.callback(loop.close)
        loop.begin(identity or {}, loggers, progress)
        return loop.run()


class _Loop:
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
        self.closure, self.networks, self.validate = step, networks, validate
        self.settings, self.fabric, self.stop = settings, fabric, stop
        self.folder = folder
        self.rank, self.world = fabric.global_rank, fabric.world_size
        self.on_cpu = fabric.device.type == "cpu"
        self.channels_last = wants_channels_last(settings, fabric.device)
        self.loader = loader.for_device(
            rank=self.rank, world_size=self.world, pin_memory=fabric.device.type == "cuda"
        )
        self.steps_per_epoch = math.ceil(loader.batches_per_epoch / settings.accumulate)
        whole = settings.epochs * self.steps_per_epoch
        self.total_steps = min(whole, settings.max_steps or whole)
        raw = dict(networks)
        self.called: set[str] = set()
        for name, network in raw.items():
            self._set_up(name, network)
        decay = settings.ema_decay
        emas = {} if decay is None else {name: Ema(raw[name], decay=decay) for name in raw}
        self.trained = Trained(raw, dict(optimizers), emas)
        self.update = Update(fabric, raw, optimizers, emas, settings)
        self.progress: FitProgress = Silent()

    def _set_up(self, name: str, network: nn.Module) -> None:
        if not network.training:
            network.train()
        if self.channels_last:
            network.to(memory_format=torch.channels_last)
        wrapped = self.fabric.setup_module(network)
        # a step that kept the network itself would bypass device and precision
        wrapped.register_forward_pre_hook(lambda *_: self.called.add(name))
        self.networks[name] = wrapped

    def begin(
        self,
        identity: Mapping[str, str | int | float | bool],
        loggers: Sequence[Logger],
        progress: FitProgress | None,
    ) -> None:
        """Take up the newest checkpoint, if any, and open what is written to."""
        images = {"images": self.loader.fingerprint()}
        self.record = Record(
            self.folder,
            fabric=self.fabric,
            trained=self.trained,
            settings=self.settings,
            identity={**self.settings.fixed(), **identity, **images},
            steps_per_epoch=self.steps_per_epoch,
            total_steps=self.total_steps,
        )
        self.record.take_up()
        self.state = self.record.state
        self.watch = LossWatch(self.state)
        self.update.begin_step(rate_factor=self._rate_factor(max(0, self.state.step - 1)))
        self.record.open(loggers)
        if self.rank == 0:
            self.progress = make_progress() if progress is None else progress
        self.progress.start(done=self.state.step, total=self.total_steps)
        for warning in self.record.warnings:
            self.progress.note(f"warning: {warning}")

    def close(self) -> None:
        """End worker processes, progress and logs."""
        self.loader.close()
        self.progress.close()
        if hasattr(self, "record"):
            self.record.close()

    def run(self) -> FitResult:
        """Go from where the state stands to the end."""
        while True:
            if self.validate is not None and self._validation_is_due():
                self._validate(self.validate)
            if self._is_over():
                break
            self._train_epoch()
        if not self.record.is_saved():
            self._save()
        early = self._patience_is_out() and self.state.step < self.total_steps
        return self.record.result(stopped_early=early)

    def _is_over(self) -> bool:
        return self.state.step >= self.total_steps or self._patience_is_out()

    def _patience_is_out(self) -> bool:
        patience = self.settings.patience
        return patience is not None and self.state.without_better >= patience

    # -- training

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
        seed, step = self.settings.seed, self.state.step
        self.update.begin_step(rate_factor=self._rate_factor(step))
        # dropout draws from the global generator, which has no memory across steps this way
        seed_global(key_of(seed, "global", step, self.rank), self.fabric.device)
        device = str(self.fabric.device)
        generator = torch_generator(seed, "step", step, self.rank, device=device)
        images = sum(self.loader.batch_images(number) for number in numbers)
        for number in numbers:
            batch = self._on_device(next(batches))
            is_last = number == numbers[-1]
            share = self.loader.batch_images(number) / images
            self.update.begin_batch(share=share, is_last=is_last)
            place = Place(step, epoch, number)
            try:
                with without_exchange(self.fabric, self.networks, enabled=not is_last):
                    losses = self.closure(batch, generator, self.update)
                    self.update.end_batch()
            except NonFiniteLossError as error:
                raise self._not_finite(str(error), place) from error
            self.watch.add(losses, place)
        self._check_called()
        self.state.step += 1

    def _rate_factor(self, step: int) -> float:
        return factor(
            step,
            schedule=self.settings.schedule,
            total_steps=self.total_steps,
            steps_per_epoch=self.steps_per_epoch,
        )

    def _on_device(self, batch: Batch) -> Batch:
        moved = cast("Batch", self.fabric.to_device(batch))
        if not self.channels_last:
            return moved
        return {
            name: value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value
            for name, value in moved.items()
        }

    def _check_called(self) -> None:
        if self.called or (self.world == 1 and self.settings.precision == "32-true"):
            return
        raise UsageError(
            "the training step did not call the networks of the mapping that was passed to fit, "
            f"so {self.settings.precision} on {self.world} device(s) is not in force. Take the "
            "network from the mapping inside the step: networks['name'](...)."
        )

    def _after_step(self, epoch: int) -> None:
        """Look at losses and signals, write a row, make a checkpoint: each when it is time."""
        step, every = self.state.step, self.settings.checkpoint_every_steps
        ends_epoch = step % self.steps_per_epoch == 0 or step >= self.total_steps
        row_is_due = ends_epoch or step % self.settings.log_every_steps == 0
        epochs_are_saved = self.validate is None and not self.settings.has_times_to_save
        save_is_due = ends_epoch if epochs_are_saved else every is not None and step % every == 0
        looks = self.on_cpu or step % CHECK_EVERY == 0
        if not (looks or row_is_due or save_is_due or self._validation_is_due()):
            return
        self._check_losses()
        stop, clock = any_device(self.fabric, self.stop.requested, self.record.clock_rang())
        values: Mapping[str, float] = self.watch.newest()
        if row_is_due:
            means = mean_over_devices(self.fabric, self.state.take_means())
            values = {f"train.{name}": value for name, value in means.items()}
            self.record.row(epoch, self.update.learning_rates(), values)
        self.progress.update(step=step, epoch=epoch, values=values)
        if stop:
            self._interrupt()
        if (save_is_due or clock) and not self._validation_is_due():
            self._save()

    # -- validation

    def _validation_is_due(self) -> bool:
        step, settings = self.state.step, self.settings
        if self.validate is None or step == 0 or step == self.state.validated_step:
            return False
        every = settings.validate_every
        if settings.validate_unit == "epochs":
            every *= self.steps_per_epoch
        return step % every == 0 or step >= self.total_steps

    def _validate(self, validate: Validate) -> None:
        """Validate, note the numbers, and keep the weights if they are the best so far."""
        self._check_weights()
        try:
            # several devices must agree to stop, so they finish; one can do it again
            with self.stop.at_once() if self.world == 1 else contextlib.nullcontext():
                metrics = measure(
                    validate,
                    self.networks,
                    trained=self.trained,
                    fabric=self.fabric,
                    settings=self.settings,
                    step=self.state.step,
                )
        except StopNow:
            self._interrupt()
        is_best = self.state.judge(metrics[self.settings.monitor], mode=self.settings.mode)
        epoch = (self.state.step - 1) // self.steps_per_epoch
        values = {f"val.{key}": value for key, value in metrics.items()}
        self.record.row(epoch, self.update.learning_rates(), values)
        self.progress.update(step=self.state.step, epoch=epoch, values=values)
        self._save()
        if is_best:
            self.record.save_best()
        if any_device(self.fabric, self.stop.requested)[0] and not self._is_over():
            self._interrupt()

    # -- stopping, and refusing to keep what is spoiled

    def _save(self) -> None:
        self._check_weights()
        self.record.save()

    def _interrupt(self) -> None:
        self._save()
        self.fabric.barrier()
        raise Interrupted(
            f"stopped by {self.stop.signal_name or 'a signal to another process'} after step "
            f"{self.state.step} of {self.total_steps}; {self.record.last} is saved. Go on with "
            "--resume."
        )

    def _check_losses(self) -> None:
        bad = self.watch.look()
        if not any_device(self.fabric, bad is not None)[0]:
            return
        if bad is None:
            raise NonFiniteLossError(
                f"a loss on another device is not finite, at or before step {self.state.step}."
            )
        raise self._not_finite(*bad)

    def _check_weights(self) -> None:
        what = spoiled_weights(self.trained.networks)
        if what is not None:
            epoch, number = divmod(self.state.step - 1, self.steps_per_epoch)
            batch = number * self.settings.accumulate
            raise self._not_finite(what, Place(self.state.step - 1, epoch, batch))

    def _not_finite(self, what: str, place: Place) -> NonFiniteLossError:
        return not_finite(what, place, loader=self.loader, last_good=self.record.last)
