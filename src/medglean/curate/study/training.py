"""One fit of a cell: so many steps from a seed, without validation, and the last weights."""

from __future__ import annotations

import contextlib
import logging
import math
import shutil
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import nn

from medglean.curate.study.settings import LearnerSettings
from medglean.fitting import Loader, fit, make_optimizer
from medglean.fitting.devices import resolved
from medglean.fitting.loader import Fetch
from medglean.fitting.loop import Step
from medglean.fitting.progress import Silent
from medglean.fitting.settings import FitSettings

NEVER = 10**9


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread inside.

    Sums come out the same however many cells run at once, and as many cells as cores do more work
    than one cell on all cores.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


def length_of(settings: LearnerSettings, images: int) -> FitSettings:
    """Return the loop's settings for a subset: the same steps, or the same epochs, for all."""
    batch = min(settings.fit.batch_size, images)
    per_epoch = max(1, math.ceil(images / batch) - _last_would_be_one(images, batch))
    changes: dict[str, object] = {"batch_size": batch, "max_steps": None}
    if settings.length == "steps":
        changes |= {"epochs": math.ceil(settings.steps / per_epoch), "max_steps": settings.steps}
    return settings.fit.model_copy(
        update={
            **changes,
            # one look at the end: without any, the loop would write a checkpoint every epoch
            "validate_every": NEVER,
            "validate_unit": "steps",
            "monitor": "none",
            "patience": None,
        }
    )


def train(
    step: Step,
    networks: MutableMapping[str, nn.Module],
    fetch: Fetch,
    learn: Int[np.ndarray, " n"],
    *,
    settings: LearnerSettings,
    seed: int,
    folder: Path,
) -> None:
    """Train ``networks["network"]`` in place; its last weights stay in it, on the CPU.

    Parameters
    ----------
    step
        As `medglean.fitting.fit` takes it.
    fetch
        Gives batches by row.
    learn
        Rows of the subset.
    settings
        Length, batches, optimiser.
    seed
        Of order, augmentation and dropout.
    folder
        For the loop's files; removed at the end.
    """
    chosen = resolved(length_of(settings, len(learn))).model_copy(update={"seed": seed})
    network = networks["network"]
    shutil.rmtree(folder, ignore_errors=True)  # of a cell that was cut short: it starts anew
    loader = Loader(
        fetch,
        learn,
        batch_size=chosen.batch_size,
        seed=seed,
        drop_last=_last_would_be_one(len(learn), chosen.batch_size),
    )
    optimizer = make_optimizer(
        list(network.parameters()), chosen.optimizer, precision=chosen.precision
    )
    precision_notes = logging.getLogger("lightning_fabric.utilities.rank_zero")
    level = precision_notes.level
    precision_notes.setLevel(logging.WARNING)  # the same line again for every cell
    try:
        fit(
            step,
            networks=networks,
            optimizers={"network": optimizer},
            loader=loader,
            settings=chosen,
            folder=folder,
            validate=_nothing,
            progress=Silent(),
        )
    finally:
        precision_notes.setLevel(level)
        shutil.rmtree(folder, ignore_errors=True)
    network.cpu().eval()


def _nothing(networks: Mapping[str, nn.Module]) -> dict[str, float]:
    return {"none": 0.0}


def _last_would_be_one(images: int, batch_size: int) -> bool:
    """Whether the last batch would be one image, of which BatchNorm can make nothing."""
    return images > batch_size and images % batch_size == 1
