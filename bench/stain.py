"""What the virtual stain's attention and generator cost, beside what their arithmetic allows.

    python bench/stain.py [errors] [attention] [memory] [generator] [--threads 1] [--calls 5]

Without names, all four; a CPU does all in about 3 minutes. ``--threads 2`` measures on more
threads: then seconds are of the clock and the machine should be quiet, with one thread they are
those of the processor. ``--long`` also runs exact attention where it takes half a minute a call.
Medians; what is compared takes turns. Prints lines for people and one of JSON.

**errors**: relative error (Frobenius norm) of FAVOR+ against softmax attention, d = 16, 256 tokens,
standard normal values, queries and keys of N(0, s^2), so that logits have a standard deviation of
s^2. The limit: for independent features the relative variance of a weight is (exp(|x + y|^2) - 1)
/ m, x and y the query and key divided by d^(1/4) (Choromanski et al. 2021, lemma 2); its mean over
such x and y is ((1 - 4 s^2 / sqrt(d))^(-d/2) - 1) / m. The root of it at s = 0.5, m = 256 is 0.187;
orthogonal features are to do better. At s = 1 it is infinite.

**attention**: 4 heads of 16, m = 64. The limit: FAVOR+ takes 4 n m (d + e + 1) operations a head,
linear in the tokens n, and 2 n m exponentials; exact attention 2 n^2 (d + e), and n^2 exponentials.

**memory**: how far the memory of a fresh process rises above what inputs take. The limit is the
output, 4 x 4 x 16 bytes a token, and the queries' answers before they are divided.

**generator**: pix2pix's ``unet_256`` on 1024 x 1024. The limit: its convolutions take 193.5 GFLOP
(64.6 down, 129.0 up), attention on skips 3 to 5 takes 4.2 more. The rate is that of one convolution
in the same run, in the same precision and with as many threads: 3 x 3, 256 to 256 channels, 128 x
128, channels_last. Share of the limit = GFLOP of the convolutions / rate / seconds, so attention
counts as lost time. "Plain" is the U-Net as published, modules of torch in evaluation mode, NCHW,
without attention, in the same precision.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from medglean.nn.kernel_attention import exact_attention, favor_attention, orthogonal_features
from medglean.nn.stain_gan import StainUNet, for_inference

HEADS, HEAD_WIDTH, FEATURES = 4, 16, 64
RATE_CHANNELS, RATE_PX = 256, 128
Record = dict[str, Any]


def generator(seed: int) -> torch.Generator:
    """Return a source of random numbers."""
    return torch.Generator().manual_seed(seed)


def drawn(tokens: int, *, heads: int, scale: float, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries and keys of N(0, scale^2) and standard normal values."""
    draw = generator(seed)
    q, k, v = (torch.randn(1, heads, tokens, HEAD_WIDTH, generator=draw) for _ in range(3))
    return scale * q, scale * k, v


def in_theory(scale: float, features: int) -> float:
    """Return the root of the mean relative variance of a weight, for independent features."""
    base = 1 - 4 * scale**2 / math.sqrt(HEAD_WIDTH)
    return math.sqrt((base ** (-HEAD_WIDTH / 2) - 1) / features) if base > 0 else math.inf


def measured_error(scale: float, features: int, *, draws: int, orthogonal: bool) -> float:
    """Return the mean relative error of FAVOR+."""
    errors = []
    for seed in range(draws):
        q, k, v = drawn(256, heads=1, scale=scale, seed=seed)
        draw = generator(10_000 + seed)
        w = torch.randn(features, HEAD_WIDTH, generator=draw)
        if orthogonal:
            w = orthogonal_features(features, HEAD_WIDTH, generator=draw)
        truth = exact_attention(q, k, v)
        errors.append(((favor_attention(q, k, v, w) - truth).norm() / truth.norm()).item())
    return statistics.fmean(errors)


def measure_errors(*, draws: int) -> list[Record]:
    """Tell the error for soft and less soft logits and growing numbers of features."""
    records = []
    for scale in (0.5, 0.75, 1.0):
        for features in (16, 64, 256, 1024):
            ours, independent = (
                measured_error(scale, features, draws=draws, orthogonal=orthogonal)
                for orthogonal in (True, False)
            )
            theory = in_theory(scale, features)
            print(
                f"errors: logits of sd {scale**2:.2f}, m = {features}: {ours:.3f}; independent "
                f"features {independent:.3f}, in theory {theory:.3f}"
            )
            records.append(
                {
                    "name": f"FAVOR+ error, d = 16, m = {features}, logits of sd {scale**2:.2f}",
                    "value": ours,
                    "unit": "relative",
                    "asked": "about 0.15 (soft logits)" if (scale, features) == (0.5, 256) else "",
                    "n": draws,
                    "note": f"independent features {independent:.3f}, in theory {theory:.3f}",
                }
            )
    return records


def clock(threads: int) -> Callable[[], float]:
    """Return what tells seconds: of the processor for one thread, of the clock for more."""
    return time.process_time if threads == 1 else time.perf_counter


def in_turns(
    calls: Mapping[str, Callable[[], Any]], *, times: int, threads: int
) -> dict[str, float]:
    """Return median seconds of each call; the first turn makes ready."""
    now = clock(threads)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    with torch.inference_mode():
        for turn in range(times + 1):
            for name, call in calls.items():
                began = now()
                call()
                if turn:
                    seconds[name].append(now() - began)
    return {name: statistics.median(each) for name, each in seconds.items()}


def measure_attention(
    *, calls: int, threads: int, long: bool, sides: Sequence[int] = (32, 64, 128, 256)
) -> list[Record]:
    """Tell how much faster FAVOR+ is than scaled_dot_product_attention."""
    w = orthogonal_features(FEATURES, HEAD_WIDTH, generator=generator(0))
    records: list[Record] = []
    known: float | None = None
    for side in sides:
        q, k, v = drawn(side**2, heads=HEADS, scale=0.5, seed=side)
        kinds: dict[str, Callable[[], Any]] = {
            "favor": lambda q=q, k=k, v=v: favor_attention(q, k, v, w)
        }
        run_exact = side < 256 or long
        if run_exact:
            kinds["exact"] = lambda q=q, k=k, v=v: F.scaled_dot_product_attention(q, k, v)
        few = max(1, min(calls, calls * 64**2 // side**2))
        found = in_turns(kinds, times=few if run_exact else calls, threads=threads)
        note = "measured"
        if not run_exact and known is not None:
            found["exact"], note = 16 * known, "exact: 16 times that of half the side, not run"
        if "exact" not in found:
            continue
        known = found["exact"]
        ratio = found["exact"] / found["favor"]
        print(
            f"attention: {side} x {side} tokens: FAVOR+ {found['favor'] * 1e3:.1f} ms, exact "
            f"{found['exact'] * 1e3:.1f} ms ({note}): {ratio:.1f} times as fast"
        )
        records.append(
            {
                "name": f"FAVOR+ against SDPA, {side} x {side} tokens, m = {FEATURES}",
                "value": ratio,
                "unit": "times as fast",
                "asked": "over 1" if side >= 64 else "",
                "n": few if run_exact else calls,
                "note": f"{found['favor'] * 1e3:.1f} ms against {found['exact'] * 1e3:.1f} ms "
                f"({note}); 4 heads of 16, float32, {threads} thread(s)",
            }
        )
    return records


def _memory_of(side: int, pipe: Any) -> None:  # noqa: ANN401 - multiprocessing's own type
    """Send how many bytes the peak rises during one call in this process."""
    torch.set_num_threads(1)
    w = orthogonal_features(FEATURES, HEAD_WIDTH, generator=generator(0))
    with torch.inference_mode():
        favor_attention(*drawn(4096, heads=HEADS, scale=0.5, seed=0), w)  # loads what it needs
        q, k, v = drawn(side**2, heads=HEADS, scale=0.5, seed=1)
        Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is resident
        before = _peak_bytes()
        favor_attention(q, k, v, w)
        pipe.send(_peak_bytes() - before)


def _peak_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def measure_memory(*, sides: Sequence[int] = (64, 128, 256, 512)) -> list[Record]:
    """Tell what memory a call takes a token, each in a fresh process (Linux)."""
    records = []
    context = multiprocessing.get_context("spawn")
    for side in sides:
        ours, theirs = context.Pipe()
        child = context.Process(target=_memory_of, args=(side, theirs))
        child.start()
        theirs.close()
        rise = int(ours.recv())
        child.join()
        least = 4 * HEADS * HEAD_WIDTH * side**2
        print(
            f"memory: {side} x {side} tokens: {rise / 2**20:.1f} MiB, {rise / side**2:.0f} bytes a "
            f"token; the output alone is {least / 2**20:.1f} MiB; a matrix of weights would be "
            f"{4 * HEADS * side**4 / 2**30:,.1f} GiB"
        )
        records.append(
            {
                "name": f"FAVOR+ memory, {side} x {side} tokens, m = {FEATURES}",
                "value": rise / side**2,
                "unit": "bytes a token",
                "asked": "linear in tokens",
                "n": 1,
                "note": f"{rise / 2**20:.1f} MiB above the inputs, fresh process",
            }
        )
    return records


class _PlainBlock(nn.Module):
    """A level of pix2pix's U-Net around the next: down, inside, up, beside what came in."""

    def __init__(self, outer: int, inner: int, inside: nn.Module | None, *, drop: bool) -> None:
        super().__init__()
        down = nn.Conv2d(outer, inner, 4, 2, 1, bias=False)
        below = inner if inside is None else 2 * inner
        up = nn.ConvTranspose2d(below, outer, 4, 2, 1, bias=False)
        parts: list[nn.Module] = [nn.LeakyReLU(0.2, inplace=True), down]
        if inside is not None:
            parts += [nn.BatchNorm2d(inner), inside]
        parts += [nn.ReLU(inplace=True), up, nn.BatchNorm2d(outer)]
        self.body = nn.Sequential(*parts, *([nn.Dropout(0.5)] if drop else []))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], 1)


def plain_unet(width: int = 64) -> nn.Module:
    """Return pix2pix's ``unet_256`` as published, with random weights, in evaluation mode."""
    block: nn.Module | None = None
    widths = [width * each for each in (1, 2, 4, 8, 8, 8, 8, 8)]
    for n in range(7, 0, -1):
        block = _PlainBlock(widths[n - 1], widths[n], block, drop=4 <= n < 7)
    assert block is not None
    parts = (
        nn.Conv2d(3, width, 4, 2, 1, bias=False),
        block,
        nn.ReLU(inplace=True),
        nn.ConvTranspose2d(2 * width, 3, 4, 2, 1),
        nn.Tanh(),
    )
    return nn.Sequential(*parts).eval().requires_grad_(requires_grad=False)


def flop_of(call: Callable[[], Any]) -> int:
    """Count multiplications and additions of convolutions and matrix products."""
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def measure_generator(
    *, calls: int, threads: int, side: int = 1024, width: int = 64
) -> list[Record]:
    """Tell megapixels a second, the share of the limit, and the ratio to the plain U-Net."""
    image = torch.rand(1, 3, side, side, generator=generator(0)) * 2 - 1
    ours, bare = StainUNet(width=width).eval(), StainUNet(width=width, attention="none").eval()
    plain = plain_unet(width)
    with torch.inference_mode():
        operations, with_attention = (
            flop_of(lambda call=call: call(image)) for call in (plain, ours)
        )
    print(
        f"generator: {operations / 1e9:.1f} GFLOP on {side} x {side}, and "
        f"{(with_attention - operations) / 1e9:.1f} of attention"
    )
    calls_of: dict[str, Callable[[], Any]] = {}
    for precision, dtype in (("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)):
        shape = (1, RATE_CHANNELS, RATE_PX, RATE_PX)
        x = torch.randn(shape).to(dtype, memory_format=torch.channels_last)
        kernel = torch.randn(RATE_CHANNELS, RATE_CHANNELS, 3, 3)
        kernel = kernel.to(dtype, memory_format=torch.channels_last)
        calls_of[f"rate {precision}"] = lambda x=x, kernel=kernel: F.conv2d(x, kernel, padding=1)
        fast = for_inference(ours, precision=precision)
        calls_of[f"ours {precision}"] = lambda fast=fast: fast(image)
        fast = for_inference(bare, precision=precision)
        calls_of[f"bare {precision}"] = lambda fast=fast: fast(image)
        other = plain.to(dtype) if dtype == torch.float32 else _copy(plain, width).to(dtype)
        given = image.to(dtype)
        calls_of[f"plain {precision}"] = lambda other=other, given=given: other(given)
    found = in_turns(calls_of, times=calls, threads=threads)
    records: list[Record] = []
    names = {"ours": "generator", "bare": "generator without attention", "plain": "plain pix2pix"}
    for precision in ("32-true", "bf16-mixed"):
        rate = 2 * 9 * RATE_CHANNELS**2 * RATE_PX**2 / found[f"rate {precision}"]
        for kind, name in names.items():
            seconds = found[f"{kind} {precision}"]
            share = operations / rate / seconds
            ratio = found[f"plain {precision}"] / seconds
            print(
                f"generator: {name}, {precision}: {seconds:.2f} s, {side**2 / 1e6 / seconds:.3f} "
                f"megapixels/s; {share:.0%} of the limit at {rate / 1e9:.0f} GFLOP/s; {ratio:.2f} "
                "times plain"
            )
            if kind == "plain":
                continue
            common = {"n": calls, "note": f"{name}, {precision}, {threads} thread(s), batch 1"}
            title = f"{name}, {side} x {side}, {precision}"
            records += [
                {
                    "name": f"{title}: share of the convolution rate",
                    "value": share,
                    "unit": "share",
                    "asked": "at least 0.6",
                    **common,
                },
                {
                    "name": f"{title}: speed, plain NCHW pix2pix = 1",
                    "value": ratio,
                    "unit": "times as fast",
                    "asked": "at least 1.4",
                    **common,
                },
                {
                    "name": f"{title}: throughput",
                    "value": side**2 / 1e6 / seconds,
                    "unit": "megapixels a second",
                    "asked": "",
                    **common,
                },
            ]
    return records


def _copy(network: nn.Module, width: int) -> nn.Module:
    other = plain_unet(width)
    other.load_state_dict(network.state_dict())
    return other


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = ("errors", "attention", "memory", "generator")
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(parts))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--calls", type=int, default=5)
    parser.add_argument("--long", action="store_true")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(parts):
        parser.error(f"{', '.join(sorted(unknown))}: expected any of {', '.join(parts)}")
    torch.set_num_threads(arguments.threads)
    chosen, records = arguments.parts or parts, []
    common = {"calls": arguments.calls, "threads": arguments.threads}
    if "errors" in chosen:
        records += measure_errors(draws=24)
    if "attention" in chosen:
        records += measure_attention(long=arguments.long, **common)
    if "memory" in chosen:
        records += measure_memory()
    if "generator" in chosen:
        records += measure_generator(**common)
    print(
        json.dumps(
            {
                **common,
                "seconds of": "the processor" if arguments.threads == 1 else "the clock",
                "load_after": os.getloadavg()[0],
                "torch": torch.__version__,
                "records": records,
            }
        )
    )


if __name__ == "__main__":
    main()
