"""How many images a second the d-VAE's encoder takes, beside what its arithmetic allows.

    python bench/embedding.py [--images 4096] [--rounds 7] [--batch 256]

Encodes grey images of 64 x 64 pixels, from 8-bit arrays to 128 numbers each, with one thread and
with two, and times a training step of 64 images. The limit is the floating-point operations of
the layers, counted here by hand, at the rate that a large matrix product reaches in the same run
with as many threads. Measurements take turns; medians are told. Also times masking and the fit of
principal components. Prints lines for people and one of JSON. On a CPU only: not measured on a
GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from medglean.curate.embed.components import fit_pca
from medglean.curate.embed.encoder import Encoder, encode
from medglean.curate.embed.settings import PcaSettings
from medglean.curate.embed.training import dvae_apply
from medglean.curate.masking import mask_clip
from medglean.data.phantom.ultrasound import ultrasound_frame
from medglean.nn.dvae import build_dvae, dvae_loss, kl_divergence, reconstruction_loss

SIDE, LATENT, CHANNELS, HIDDEN = 64, 128, 32, 256
STEP_IMAGES = 64
GEMM_SIDE = 1536


def encoder_flop() -> int:
    """Count multiplications and additions of the encoder for one image."""
    # an output pixel of a convolution sums 4 x 4 x in products, for each of the out channels
    convolutions = sum(
        2 * 16 * (1 if side == SIDE // 2 else CHANNELS) * CHANNELS * side * side
        for side in (32, 16, 8, 4)
    )
    dense = 2 * (CHANNELS * 4 * 4 * HIDDEN + HIDDEN * HIDDEN + HIDDEN * 2 * LATENT)
    return convolutions + dense


def step_flop() -> int:
    """Count them for one image of a training step: the decoder mirrors, backward costs twice."""
    mirrored = encoder_flop() - 2 * HIDDEN * LATENT  # the decoder takes one number, not two
    return 3 * (encoder_flop() + mirrored)


def gemm() -> Callable[[], float]:
    """Return what measures the rate of a matrix product, in FLOP/s."""
    a, b = torch.rand(GEMM_SIDE, GEMM_SIDE), torch.rand(GEMM_SIDE, GEMM_SIDE)
    out = torch.empty_like(a)

    def rate() -> float:
        began = time.perf_counter()
        for _ in range(3):
            torch.mm(a, b, out=out)
        return 3 * 2 * GEMM_SIDE**3 / (time.perf_counter() - began)

    return rate


def encoding(stored: np.ndarray, batch: int) -> Callable[[], float]:
    """Return what measures images a second, from 8-bit arrays to embeddings."""
    network = build_dvae(latent=LATENT).to(memory_format=torch.channels_last).eval()
    encoder = Encoder(dvae_apply(network), {"name": "dvae"})
    rows = np.arange(len(stored))

    def rate() -> float:
        began = time.perf_counter()
        encode(encoder, stored, rows, batch_size=batch)
        return len(stored) / (time.perf_counter() - began)

    return rate


def training(stored: np.ndarray) -> Callable[[], float]:
    """Return what measures images a second in training steps."""
    network = build_dvae(latent=LATENT).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-4, fused=True)
    images = torch.from_numpy(stored[:STEP_IMAGES] / np.float32(255))
    generator = torch.Generator().manual_seed(0)

    def rate() -> float:
        began = time.perf_counter()
        for _ in range(5):
            logits, posterior = network(
                images, torch.randn(len(images), LATENT, generator=generator)
            )
            kl = kl_divergence(posterior).sum(dim=1)
            loss = dvae_loss(reconstruction_loss(logits, images), kl)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return 5 * len(images) / (time.perf_counter() - began)

    return rate


def masking() -> Callable[[], float]:
    """Return what measures images a second in masking text, sector and borders at 256 px."""
    frames = np.stack(
        [ultrasound_frame(0, clip, 0, b_lines=False, size_px=(256, 256)) for clip in range(8)]
    )[:, None]

    def rate() -> float:
        began = time.perf_counter()
        for one in frames:
            mask_clip(one[None], text=True, sector=True, borders=True)
        return len(frames) / (time.perf_counter() - began)

    return rate


def components(stored: np.ndarray) -> Callable[[], float]:
    """Return what measures images a second in finding 128 components of 1,500 images."""
    rows = np.arange(min(1500, len(stored)))

    def rate() -> float:
        began = time.perf_counter()
        fit_pca(stored, rows, settings=PcaSettings(), seed=0)
        return len(rows) / (time.perf_counter() - began)

    return rate


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=256)
    arguments = parser.parse_args()
    stored = np.random.default_rng(0).integers(
        0, 256, (arguments.images, 1, SIDE, SIDE), dtype=np.uint8
    )
    measures = {
        "gemm": gemm(),
        "encode": encoding(stored, arguments.batch),
        "train": training(stored),
    }
    rates: dict[str, list[float]] = {}
    for turn in range(arguments.rounds + 1):
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for name, measure in measures.items():
                value = measure()
                if turn:
                    rates.setdefault(f"{name} {threads}", []).append(value)
    torch.set_num_threads(1)
    for name, measure in (("mask 1", masking()), ("pca", components(stored))):
        rates[name] = [measure() for _ in range(min(3, arguments.rounds))]
    median = {name: statistics.median(values) for name, values in rates.items()}
    records = []
    for threads in (1, 2):
        ceiling = median[f"gemm {threads}"]
        for name, flop, what in (
            ("encode", encoder_flop(), f"d-VAE embedding, {threads} thread(s)"),
            ("train", step_flop(), f"d-VAE training steps, {threads} thread(s)"),
        ):
            found, limit = median[f"{name} {threads}"], ceiling / flop
            print(
                f"{what}: {found:,.0f} images/s; {flop / 1e6:.1f} MFLOP an image at "
                f"{ceiling / 1e9:.0f} GFLOP/s allow {limit:,.0f}: {found / limit:.0%} of the limit."
            )
            records.append(
                {
                    "name": what,
                    "value": found,
                    "unit": "images/s",
                    "asked": "told beside its FLOP limit",
                    "n": arguments.images if name == "encode" else STEP_IMAGES,
                    "note": f"64 px grey, latent 128; {found / limit:.0%} of {limit:,.0f} images/s "
                    f"({flop / 1e6:.1f} MFLOP at {ceiling / 1e9:.0f} GFLOP/s, same run)",
                }
            )
        step_s = STEP_IMAGES / median[f"train {threads}"]
        print(f"A training step of {STEP_IMAGES} images, {threads} thread(s): {step_s:.3f} s.")
    print(
        f"Masking text, sector and borders at 256 px: {median['mask 1']:,.0f} images/s, one "
        f"thread. Components of 1,500 images: {1500 / median['pca']:.1f} s."
    )
    result = {
        "images": arguments.images,
        "batch": arguments.batch,
        "rounds": arguments.rounds,
        "encoder_flop": encoder_flop(),
        "step_flop_per_image": step_flop(),
        "rates": rates,
        "median": median,
        "cores": os.cpu_count(),
        "load_after": os.getloadavg()[0],
        "torch": torch.__version__,
        "records": records,
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
