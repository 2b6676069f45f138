"""What translating an image to healthy costs, beside what its arithmetic allows.

    python bench/anomaly.py [--batches 1 4 16 32] [--calls 10] [--compile]
    python bench/anomaly.py --small [--batches 1 8]

Times the networks of Wolleb et al. 2022 as published, 4 channels at 256 px, in bfloat16 by autocast
and channels_last: a call of the U-Net, as in every step of encoding and decoding, and a gradient of
log p(healthy) from the classifier, as in every guided step. On a GPU where there is one, otherwise
on the CPU. ``--small`` takes 64 px and a width of 32, for a CPU; it takes under 2 minutes there.

The limit is the floating-point operations of the layers, as torch counts them, at the rate that a
large matrix product in bfloat16 reaches in the same run. From both: seconds an image for 1000 calls
and 500 gradients, which is L = 500 as published (encoding and decoding by every level, guided while
decoding), and for 50 steps there and 50 back. On a GPU peak memory is told. Medians; calls of the
network and matrix products take turns, seconds are of the clock. Prints lines for people and one of
JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from medglean.nn.diffusion_unet import DiffusionUNet, NoiseClassifier

CHANNELS, STEPS = 4, 1000
SCHEDULES = {"1000 + 500": (1000, 500), "50 + 50": (100, 50)}  # U-Net calls, gradients


class Networks(NamedTuple):
    """The two networks, and the side of the images."""

    unet: nn.Module
    classifier: nn.Module
    side_px: int


def build(device: torch.device, *, small: bool) -> Networks:
    """Return the networks as published, or small ones of the same kind."""
    side = 64 if small else 256
    multipliers = (1, 2, 3, 4) if small else (1, 1, 2, 2, 4, 4)
    common: dict[str, Any] = {
        "side_px": side,
        "in_channels": CHANNELS,
        "width": 32,
        "multipliers": multipliers,
        "head_width": 32 if small else 64,
        "blocks": 2 if small else 4,
        "attention_px": (16, 8) if small else (32, 16, 8),
    }
    classifier = NoiseClassifier(**common)
    of_unet = {
        "width": 32 if small else 128,
        "head_width": None,
        "blocks": 2,
        "attention_px": (16,),
        "out_channels": 2 * CHANNELS,
    }
    unet = DiffusionUNet(**{**common, **of_unet})
    layout = torch.channels_last
    found = [
        each.to(device, memory_format=layout).eval().requires_grad_(requires_grad=False)
        for each in (unet, classifier)
    ]
    return Networks(found[0], found[1], side)


def calls_of(networks: Networks, device: torch.device, *, batch: int) -> dict[str, Callable]:
    """Return a call of the U-Net and a gradient of the classifier for one batch."""
    side = networks.side_px
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(batch, CHANNELS, side, side, generator=generator)
    x = x.to(device, memory_format=torch.channels_last)
    t = torch.full((batch,), STEPS // 4, device=device)
    y = torch.zeros(batch, dtype=torch.long, device=device)

    def unet() -> Tensor:
        with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16):
            out: Tensor = networks.unet(x, t, y)
        return out

    def gradient() -> Tensor:
        given = x.detach().requires_grad_()
        with torch.autocast(device.type, dtype=torch.bfloat16):
            logits = networks.classifier(given, t)
        F.log_softmax(logits.float(), dim=1)[:, 0].sum().backward()
        assert given.grad is not None
        return given.grad

    return {"unet": unet, "gradient": gradient}


def product_of(device: torch.device) -> tuple[Callable[[], Tensor], int]:
    """Return a matrix product in bfloat16 and its floating-point operations."""
    side = 8192 if device.type == "cuda" else 1024
    a = torch.rand(side, side, device=device).to(torch.bfloat16)
    return (lambda: a @ a), 2 * side**3


def flop_of(call: Callable[[], Tensor]) -> int:
    """Count multiplications and additions of convolutions, matrix products and attention."""
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def seconds_of(call: Callable[[], Tensor], device: torch.device) -> float:
    """Time one call until its result is there."""
    began = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def measure(
    networks: Networks, device: torch.device, flop: Mapping[str, int], *, batch: int, calls: int
) -> dict[str, dict[str, float]]:
    """Return seconds and floating-point operations of calls for a batch, and of the product.

    ``flop`` holds the operations for one image.
    """
    kinds: dict[str, Callable] = calls_of(networks, device, batch=batch)
    operations = {name: batch * flop[name] for name in kinds}
    kinds["product"], operations["product"] = product_of(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for turn in range(calls + 2):  # the first two make ready: compilers, choice of algorithms
        for name, call in kinds.items():
            seconds = seconds_of(call, device)
            if turn > 1:
                times[name].append(seconds)
    found = {
        name: {"seconds": statistics.median(times[name]), "flop": float(operations[name])}
        for name in kinds
    }
    if device.type == "cuda":
        found["memory"] = {"gib": torch.cuda.max_memory_allocated(device) / 2**30}
    return found


def seconds_an_image(found: dict[str, dict[str, float]], batch: int) -> dict[str, dict[str, float]]:
    """Return measured and least seconds an image for each of `SCHEDULES`."""
    rate = found["product"]["flop"] / found["product"]["seconds"]
    told = {}
    for name, (calls, gradients) in SCHEDULES.items():
        measured, least = (
            (calls * found["unet"][key] + gradients * found["gradient"][key]) / batch
            for key in ("seconds", "flop")
        )
        told[name] = {"measured": measured, "limit": least / rate}
    return told


def records_of(
    found: dict[str, dict[str, float]], *, batch: int, side_px: int, device: str, calls: int
) -> list[dict[str, Any]]:
    """Return what is kept of a batch size, and say it."""
    rate = found["product"]["flop"] / found["product"]["seconds"]
    for name, what in (("unet", "U-Net call"), ("gradient", "classifier gradient")):
        seconds, flop = found[name]["seconds"], found[name]["flop"]
        print(
            f"batch {batch}, {what}: {seconds * 1e3:.1f} ms; {flop / batch / 1e9:.1f} GFLOP an "
            f"image at {rate / 1e9:,.0f} GFLOP/s allow {flop / rate * 1e3:.1f} ms: "
            f"{flop / rate / seconds:.0%} of the limit."
        )
    if "memory" in found:
        print(f"batch {batch}: at most {found['memory']['gib']:.1f} GiB.")
    records = []
    for name, told in seconds_an_image(found, batch).items():
        print(
            f"batch {batch}, {name} (steps there and back + guided): {told['measured']:.2f} s an "
            f"image; the limit is {told['limit']:.2f} s."
        )
        records.append(
            {
                "name": f"translation, {name}, {side_px} px, batch {batch}, {device}",
                "value": told["measured"],
                "unit": "s an image",
                "asked": "told beside its FLOP limit",
                "n": calls,
                "note": f"bfloat16; limit {told['limit']:.2f} s at {rate / 1e9:,.0f} GFLOP/s, same "
                "run; networks as " + ("published" if side_px == 256 else "small"),
            }
        )
    return records


def run(
    *, small: bool, batches: Sequence[int], calls: int, compiled: bool = False
) -> dict[str, Any]:
    """Measure every batch size and return what is printed as JSON."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    told = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    networks = build(device, small=small)
    flop = {name: flop_of(call) for name, call in calls_of(networks, device, batch=1).items()}
    if compiled:  # after counting: what is compiled is not counted
        networks.unet.compile()
        networks.classifier.compile()
    measured, records = {}, []
    for batch in batches:
        found = measure(networks, device, flop, batch=batch, calls=calls)
        measured[str(batch)] = found
        records += records_of(
            found, batch=batch, side_px=networks.side_px, device=told, calls=calls
        )
    return {
        "device": told,
        "side_px": networks.side_px,
        "compiled": compiled,
        "calls": calls,
        "threads": torch.get_num_threads(),
        "load_after": os.getloadavg()[0],
        "torch": torch.__version__,
        "batches": measured,
        "records": records,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--batches", type=int, nargs="+", default=None)
    parser.add_argument("--calls", type=int, default=None)
    parser.add_argument("--compile", action="store_true")
    arguments = parser.parse_args()
    batches = arguments.batches or ([1, 8] if arguments.small else [1, 4, 16, 32])
    result = run(
        small=arguments.small,
        batches=batches,
        calls=arguments.calls or (5 if arguments.small else 10),
        compiled=arguments.compile,
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
