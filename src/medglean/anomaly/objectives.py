"""What the U-Net and its classifier learn: one training step of each, and how each is judged.

Every step draws timesteps, noise and withheld classes from the generator that it is given, so that
it is a function of the step's number. A validation looks at the same images with the same noise
every time, so that its numbers differ by the weights alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from medglean.anomaly.losses import hybrid_loss, simple_loss, split_output
from medglean.anomaly.prepare import NULL
from medglean.anomaly.schedule import Schedule, min_snr_weights, q_sample
from medglean.anomaly.settings import DiffusionSettings
from medglean.errors import PresetError
from medglean.fitting.loader import Batch
from medglean.fitting.loop import Step
from medglean.fitting.update import Update
from medglean.fitting.validation import Validate
from medglean.measure.curves import auroc
from medglean.randomness import torch_generator

UNET, CLASSIFIER = "unet", "classifier"
"""Names of the networks and of their optimisers."""
LOOKED_AT = (0.05, 0.25, 0.5, 0.75)
"""Shares of T at which the classifier is judged."""


def schedule_of(settings: DiffusionSettings) -> Schedule:
    """Return the noising process of the settings."""
    return Schedule.linear(settings.steps, settings.beta)


def trained_timesteps(settings: DiffusionSettings) -> range:
    """Return the timesteps that are trained on: those of all levels, or of ``train_levels``.

    Raises
    ------
    PresetError
        If these lie outside 1..T, or end before they start.
    """
    return levels_between(
        settings.train_levels or (1, settings.steps), settings, name="train_levels"
    )


def levels_between(levels: tuple[int, int], settings: DiffusionSettings, *, name: str) -> range:
    """Return the timesteps of the noise levels from the first to the last.

    Raises
    ------
    PresetError
        If these lie outside 1..T, or end before they start.
    """
    first, last = levels
    if not 1 <= first <= last <= settings.steps:
        raise PresetError(
            f"diffusion.{name} is {first} to {last}, expected two levels of 1..T = "
            f"{settings.steps}, the smaller first."
        )
    return range(first - 1, last)


def to_network(images: Float[Tensor, "b c h w"], settings: DiffusionSettings) -> Tensor:
    """Return images of [0, 1] as the networks see them."""
    return images if settings.value_range == "unit" else 2.0 * images - 1.0


def from_network(images: Float[Tensor, "b c h w"], settings: DiffusionSettings) -> Tensor:
    """Return what `to_network` made on the scale of [0, 1] again."""
    return images if settings.value_range == "unit" else 0.5 * (images + 1.0)


def unit_share(settings: DiffusionSettings) -> float:
    """Return how large one unit of what networks see is on the scale of [0, 1]."""
    return 1.0 if settings.value_range == "unit" else 0.5


class Noised(NamedTuple):
    """Images, and what was done to them.

    Attributes
    ----------
    x
        Clean, as the networks see them, shape (b, c, h, w).
    t
        Timesteps, shape (b,).
    noise, x_t
        Standard normal, and the images with it.
    """

    x: Tensor
    t: Tensor
    noise: Tensor
    x_t: Tensor


def _noised(
    images: Tensor, settings: DiffusionSettings, schedule: Schedule, generator: torch.Generator
) -> Noised:
    """Draw a timestep, uniform over those that are trained on, and noise for each image."""
    x, steps = to_network(images, settings), trained_timesteps(settings)
    device = generator.device
    t = torch.randint(steps.start, steps.stop, (len(x),), generator=generator, device=device)
    if settings.focus is not None:
        often = levels_between(settings.focus, settings, name="focus")
        inner = torch.randint(
            often.start, often.stop, (len(x),), generator=generator, device=device
        )
        chosen = torch.rand(len(x), generator=generator, device=device) < settings.focus_share
        t = torch.where(chosen, inner, t)
    noise = torch.randn(x.shape, generator=generator, device=device)
    t, noise = t.to(x.device), noise.to(x.device)
    return Noised(x, t, noise, q_sample(x, noise, t, schedule))


def diffusion_losses(
    output: Float[Tensor, "b o h w"],
    noised: Noised,
    settings: DiffusionSettings,
    schedule: Schedule,
) -> dict[str, Tensor]:
    """Return the losses of each image, shape (b,): ``mse``, ``total``, and ``vb`` if there is one.

    Parameters
    ----------
    output
        What the U-Net says of ``noised.x_t``.
    noised
        The images.
    settings
        Which losses, and their weights.
    schedule
        The noising process.
    """
    weights = None
    if settings.min_snr is not None:
        weights = min_snr_weights(noised.t, schedule, gamma=settings.min_snr)
    output = output.float()
    if settings.learned_range:
        return hybrid_loss(
            output,
            noised.x,
            noised.x_t,
            noised.noise,
            noised.t,
            schedule,
            vb_weight=settings.vb_weight,
            mse_weights=weights,
        )
    mse = simple_loss(split_output(output, noised.x.shape[1])[0], noised.noise)
    return {"mse": mse, "total": mse if weights is None else weights * mse}


def diffusion_step(
    networks: Mapping[str, nn.Module], settings: DiffusionSettings, schedule: Schedule
) -> Step:
    """Return the training step of ``networks["unet"]`` for `medglean.fitting.fit`.

    It takes ``batch["image"]`` in [0, 1] and the classes in ``batch["target"]``, withholds the
    class of a share of the images, and logs ``loss``, ``mse`` and ``vb``.
    """

    def step(batch: Batch, generator: torch.Generator, update: Update) -> dict[str, Tensor]:
        noised = _noised(batch["image"], settings, schedule, generator)
        y = batch["target"]
        if settings.label_dropout > 0:
            share = torch.rand(len(y), generator=generator, device=generator.device)
            y = torch.where(share.to(y.device) < settings.label_dropout, NULL, y)
        output = networks[UNET](noised.x_t, noised.t, y)
        losses = diffusion_losses(output, noised, settings, schedule)
        total = losses.pop("total").mean()
        update(total, UNET)
        return {"loss": total.detach(), **{n: v.detach().mean() for n, v in losses.items()}}

    return step


def classifier_step(
    networks: Mapping[str, nn.Module], settings: DiffusionSettings, schedule: Schedule
) -> Step:
    """Return the training step of ``networks["classifier"]``: cross-entropy on noised images.

    It logs ``loss`` and ``accuracy``.
    """

    def step(batch: Batch, generator: torch.Generator, update: Update) -> dict[str, Tensor]:
        noised = _noised(batch["image"], settings, schedule, generator)
        logits = networks[CLASSIFIER](noised.x_t, noised.t).float()
        loss = F.cross_entropy(logits, batch["target"])
        update(loss, CLASSIFIER)
        correct = logits.detach().argmax(dim=1) == batch["target"]
        return {"loss": loss.detach(), "accuracy": correct.float().mean()}

    return step


def diffusion_validation(
    images: Float[Tensor, "n c h w"],
    targets: Int[np.ndarray, " n"],
    settings: DiffusionSettings,
    schedule: Schedule,
    *,
    seed: int,
    batch_size: int,
) -> Validate:
    """Return the closure that judges the U-Net: its loss with the class told.

    Each image has one timestep; together they are spread evenly over those that are trained on.

    Parameters
    ----------
    images
        In [0, 1]; few are enough.
    targets
        Their classes.
    settings, schedule
        As in training.
    seed
        Of timesteps and noise.
    batch_size
        Images at a time.
    """
    generator = torch_generator(seed, "diffusion-validation")
    x, steps, count = to_network(images, settings), trained_timesteps(settings), len(images)
    place = torch.randperm(count, generator=generator)
    t = steps.start + (2 * place + 1) * len(steps) // (2 * count)  # the middles of equal parts
    noise = torch.randn(x.shape, generator=generator)
    x_t, y = q_sample(x, noise, t, schedule), torch.from_numpy(targets)

    def validate(networks: Mapping[str, nn.Module]) -> dict[str, float]:
        network, sums = networks[UNET], dict[str, float]()
        device = next(network.parameters()).device
        for start in range(0, count, batch_size):
            part = slice(start, start + batch_size)
            noised = Noised(*(one[part].to(device) for one in (x, t, noise, x_t)))
            output = network(noised.x_t, noised.t, y[part].to(device))
            for name, value in diffusion_losses(output, noised, settings, schedule).items():
                sums[name] = sums.get(name, 0.0) + float(value.sum())
        means = {name: value / count for name, value in sums.items()}
        return {"loss": means.pop("total"), **means}

    return validate


def classifier_validation(
    images: Float[Tensor, "n c h w"],
    targets: Int[np.ndarray, " n"],
    settings: DiffusionSettings,
    schedule: Schedule,
    *,
    seed: int,
    batch_size: int,
) -> Validate:
    """Return the closure that judges the classifier at a few noise levels that are trained on.

    It returns ``loss``, the mean cross-entropy over the levels, and ``accuracy.t`` and ``auroc.t``
    (of "diseased") for each level t. Parameters are as for `diffusion_validation`.
    """
    generator = torch_generator(seed, "classifier-validation")
    x, steps, count = to_network(images, settings), trained_timesteps(settings), len(images)
    noise = torch.randn(x.shape, generator=generator)
    y = torch.from_numpy(targets)
    levels = [steps[min(int(share * len(steps)), len(steps) - 1)] + 1 for share in LOOKED_AT]

    def logits_at(network: nn.Module, level: int) -> Tensor:
        device, found = next(network.parameters()).device, []
        for start in range(0, count, batch_size):
            part = slice(start, start + batch_size)
            t = torch.full((len(x[part]),), level - 1)
            x_t = q_sample(x[part], noise[part], t, schedule)
            found.append(network(x_t.to(device), t.to(device)).float().cpu())
        return torch.cat(found)

    def validate(networks: Mapping[str, nn.Module]) -> dict[str, float]:
        losses, found = [], dict[str, float]()
        for level in levels:
            logits = logits_at(networks[CLASSIFIER], level)
            losses.append(float(F.cross_entropy(logits, y)))
            found[f"accuracy.{level}"] = float((logits.argmax(dim=1) == y).float().mean())
            if len(np.unique(targets)) == 2:
                score = (logits[:, 1] - logits[:, 0]).numpy().astype(np.float64)
                found[f"auroc.{level}"] = auroc(targets == 1, score)
        return {"loss": float(np.mean(losses)), **found}

    return validate
