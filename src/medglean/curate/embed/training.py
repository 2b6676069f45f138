"""Train the d-VAE on images of the training part, and say whether it learnt anything."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors.torch import save
from scipy.special import ndtri
from torch import Tensor, nn

from medglean.arrays import UnitBatch
from medglean.curate.embed.encoder import Apply, Encoder
from medglean.curate.embed.settings import DVaeSettings
from medglean.data.augment import to_float
from medglean.data.fetch import Fetch
from medglean.errors import DataError, Problem
from medglean.files import sha256_of_json
from medglean.fitting import Loader, Update, fit, make_optimizer
from medglean.fitting.devices import resolved
from medglean.fitting.loop import Step
from medglean.fitting.progress import FitProgress
from medglean.nn.dvae import (
    DVae,
    Posterior,
    build_dvae,
    capacity_at,
    dvae_loss,
    kl_divergence,
    reconstruction_loss,
    with_noise,
)
from medglean.randomness import uniforms

NETWORK = "dvae"
JUDGED = 1000
"""How many training images the quality is measured on at most."""
ACTIVE_VARIANCE = 0.01
"""A latent number is active if its mean varies more than this over images (Burda et al. 2016)."""
COLLAPSED = 0.9
"""From this share of the mean image's error on, the network shows little more than that image."""


@dataclass(frozen=True)
class Quality:
    """How much of the images the latent holds, measured on training images.

    Attributes
    ----------
    kl_nats
        Mean KL divergence of an image's posterior from the prior; 0 where nothing is held.
    active_units
        Latent numbers whose mean has a variance above 0.01 over the images.
    error_share
        Squared error of the rebuilt images over that of the mean image: 1 where nothing was learnt.
    images
        How many were looked at.
    """

    kl_nats: float
    active_units: int
    error_share: float
    images: int


class _Paced(nn.Module):
    """The network with the number of batches it has seen.

    The capacity is a function of that number, so it is kept in checkpoints with the weights.
    """

    seen: Tensor

    def __init__(self, network: DVae) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Posterior]:
        result: tuple[Tensor, Posterior] = self.network(images, noise)
        return result


def train_dvae(
    stored: np.ndarray,
    rows: Int[np.ndarray, " m"],
    *,
    settings: DVaeSettings,
    seed: int,
    folder: Path,
    identity: Mapping[str, str | int | float | bool] | None = None,
    progress: FitProgress | None = None,
) -> Encoder:
    """Train the network, going on from what ``folder`` has, and return it as an encoder.

    Parameters
    ----------
    stored
        Images as the cache keeps them, shape (n, c, h, w), square.
    rows
        Those to learn from.
    settings
        Latent, losses, length of the training.
    seed
        Of the weights, the order and the noise.
    folder
        Gets ``log.csv`` and checkpoints.
    identity
        What a resumed training must share, such as the images' hash.
    progress
        Who tells how far it is; by default a bar or lines on standard error.

    Raises
    ------
    DataError
        If there are fewer than two images.
    Interrupted
        After Ctrl-C or SIGTERM; a later call goes on.
    UsageError, CheckpointError, NonFiniteLossError
        As :func:`medglean.fitting.fit`.
    """
    if len(rows) < 2:
        raise DataError(
            f"{len(rows)} image(s) to train the d-VAE on, expected at least 2. Check the column "
            "'split' and problems.csv, or use encoder = 'backbone' or 'arrays'."
        )
    schedule = resolved(settings.fit.model_copy(update={"seed": seed, "patience": None}))
    network = build_dvae(
        latent=settings.latent, in_channels=stored.shape[1], size_px=stored.shape[2], seed=seed
    )
    loader = Loader(
        Fetch(stored, np.zeros(len(stored), dtype=np.int64)),
        rows,
        batch_size=schedule.batch_size,
        seed=seed,
        workers=schedule.workers,
        # a last batch of few images would weigh them more than the others
        drop_last=len(rows) > schedule.batch_size,
    )
    total = schedule.epochs * loader.batches_per_epoch
    if schedule.max_steps is not None:
        total = min(total, schedule.max_steps * schedule.accumulate)
    networks: dict[str, nn.Module] = {NETWORK: _Paced(network)}
    result = fit(
        _make_step(networks, settings, total_batches=total),
        networks=networks,
        optimizers={NETWORK: make_optimizer(network.parameters(), schedule.optimizer)},
        loader=loader,
        settings=schedule,
        folder=folder,
        resume=True,  # whoever gives a folder with checkpoints of other settings is told so
        identity={"dvae": _identity(settings), **(identity or {})},
        progress=progress,
    )
    found = quality(network.eval(), stored, rows)
    state = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    record = {
        "name": "dvae",
        "latent": settings.latent,
        "sampled": settings.sampled,
        "training_images": len(rows),
        "training_steps": result.steps,
        "reconstruction": settings.reconstruction,
        "beta": settings.beta if settings.gamma is None else None,
        "gamma": settings.gamma,
        "capacity": settings.capacity if settings.gamma is not None else None,
        "seed": seed,
        "quality": asdict(found),
    }
    problems = [
        Problem(str(folder), sentence, "", kind="fit", fatal=False) for sentence in result.warnings
    ]
    return Encoder(
        dvae_apply(network, seed=seed if settings.sampled else None),
        record,
        weights=save(state),
        problems=(*problems, *_told(found, folder)),
    )


def _identity(settings: DVaeSettings) -> str:
    """Return a hash of what decides the weights and is no setting of the loop."""
    names = {"latent", "reconstruction", "beta", "gamma", "capacity"}
    return sha256_of_json(settings.model_dump(mode="json", include=names))


def _make_step(
    networks: MutableMapping[str, nn.Module], settings: DVaeSettings, *, total_batches: int
) -> Step:
    paced = networks[NETWORK]
    if not isinstance(paced, _Paced):
        raise TypeError(f"expected the network with its count, got {type(paced).__name__}.")

    def step(
        batch: Mapping[str, Tensor], generator: torch.Generator, update: Update
    ) -> dict[str, Tensor]:
        images = batch["image"]
        shape = (len(images), settings.latent)
        noise = torch.randn(shape, generator=generator, device=generator.device).to(images.device)
        logits, posterior = networks[NETWORK](images, noise)
        reconstruction = reconstruction_loss(logits, images, kind=settings.reconstruction)
        kl = kl_divergence(posterior).sum(dim=1)
        capacity = capacity_at(int(paced.seen), total_steps=total_batches, end=settings.capacity)
        loss = dvae_loss(
            reconstruction, kl, beta=settings.beta, gamma=settings.gamma, capacity=capacity
        )
        update(loss, NETWORK)
        paced.seen.add_(1)
        return {
            "loss": loss.detach(),
            "reconstruction": reconstruction.detach().mean(),
            "kl": kl.detach().mean(),
        }

    return step


def dvae_apply(network: DVae, *, seed: int | None = None) -> Apply:
    """Return the function from images and rows to embeddings.

    Parameters
    ----------
    network
        In evaluation mode.
    seed
        None: the posterior's mean. Otherwise z is drawn, the same for a seed and a row whatever
        batch it is in.
    """
    device = next(network.parameters()).device

    @torch.no_grad()
    def apply(images: UnitBatch, rows: Int[np.ndarray, " b"]) -> Float[np.ndarray, "b d"]:
        posterior = network.encode(torch.from_numpy(images).to(device))
        z = posterior.mean
        if seed is not None:
            # half a step up, so that no draw is 0, whose normal number is -infinity
            share = uniforms(seed, "embedding-z", index=rows, draws=network.latent) + 2.0**-54
            noise = torch.from_numpy(ndtri(share).astype(np.float32)).to(device)
            z = with_noise(posterior, noise)
        values: np.ndarray = z.float().cpu().numpy()
        return values

    return apply


@torch.no_grad()
def quality(network: DVae, stored: np.ndarray, rows: Int[np.ndarray, " m"]) -> Quality:
    """Measure how much of the images the latent holds, on at most 1,000 of the rows."""
    rows = rows[:: max(1, -(-len(rows) // JUDGED))]
    device = next(network.parameters()).device
    means, divergences, errors = [], [], 0.0
    for start in range(0, len(rows), 256):
        images = torch.from_numpy(to_float(stored[rows[start : start + 256]])).to(device)
        posterior = network.encode(images)
        rebuilt = torch.sigmoid(network.decode(posterior.mean))
        errors += float((rebuilt - images).square().sum())
        means.append(posterior.mean)
        divergences.append(kl_divergence(posterior).sum(dim=1))
    pixels = to_float(stored[rows]).astype(np.float64)
    spread = float(((pixels - pixels.mean(axis=0)) ** 2).sum())
    active = torch.cat(means).var(dim=0, unbiased=False) > ACTIVE_VARIANCE
    return Quality(
        kl_nats=float(torch.cat(divergences).mean()),
        active_units=int(active.sum()),
        error_share=errors / spread if spread > 0 else 1.0,
        images=len(rows),
    )


def _told(found: Quality, folder: Path) -> list[Problem]:
    """Warn where the network learnt hardly more than the mean image."""
    if found.error_share < COLLAPSED and found.active_units > 0:
        return []
    return [
        Problem(
            str(folder),
            f"the d-VAE shows hardly more than the mean image: its error is "
            f"{found.error_share:.0%} of the mean image's, {found.active_units} latent numbers "
            f"are active, the KL divergence is {found.kl_nats:.1f} nats.",
            "Train longer (embedding.dvae.fit.max_steps), with a smaller beta, or on more images; "
            "or use encoder = 'pca'.",
            kind="collapsed",
            fatal=False,
        )
    ]
