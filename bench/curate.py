"""What the ranking and the redundancy counts cost, beside the GEMM limit and two packages on PyPI.

    python bench/curate.py [--rounds 3] [--quick]

Single thread, CPU seconds, all in one process and taking turns; medians of the rounds (peers run
once where they are slow). Peers: lightly-mundig (diversity selection) and skmatter (FPS), where
they are installed, and a greedy of one NumPy matrix-vector product a pick. skmatter 0.4 needs
scikit-learn < 1.9, medglean's own environment has a newer one: install the peers beside numpy,
numba and jaxtyping into an environment of their own and run this there with PYTHONPATH=src.
Everyone gets rows of length 1 and the same start, on which Euclidean distance (FPS) and cosine
give the same order; how many picks are the same is told.

Data, d = 128, float32, made here from a fixed seed (`clips`): the frames of 200 clips, each a
random centre, a random walk from frame to frame and noise. "near-duplicates": the walk and the
noise are small beside the centre. "loose clips": the noise is half as long as the centre.
"unstructured": normal numbers without any clips, the worst case, where nothing can be pruned.

The limit, written down before measuring: n images x k picks x 2 d FLOP by float32 matrix
multiplication, which at about 95 GFLOP/s (one core of the machine this was written on, OpenBLAS) is

    45,460 x 20,000   2.33e11 FLOP   2.45 s
    45,000 x  4,500   5.18e10 FLOP   0.55 s
    20,000 x  2,000   1.02e10 FLOP   0.11 s
    1,000,000 x 10,000  2.56e12 FLOP  27 s
    redundancy at 20,000: half the square, 5.1e10 FLOP, 0.54 s, and a table look-up for 2e8 pairs
    at about 3 ns: 0.6 s; together 1.1 s

Expected of the blocked algorithm: near the limit, above it by the cost of pools, below it by the
images that are never brought up to date; it must do at least k^2 / 2 comparisons. Expected of the
pruned one on clips: each image against the picks of its own clip, 1/200 of the pairs at 8 times the
price of a matrix product each (float64, one pair at a time), and 213 cluster centres for each image
and pick, together with the start about a tenth of the pairs: a third to a half of the limit.

The limit is measured in the same run. Memory is measured in a process of its own as the highest
resident set while ranking minus the one before (Linux). Exit status 4: an aim was not met.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from medglean.curate.order import Ranking
from medglean.curate.ranking import Work, rank_and_count, uniform_start
from medglean.curate.redundancy import redundancy
from medglean.curate.similarity import unit_rows

T = TypeVar("T")
D, CLIPS = 128, 200
KINDS = {  # length of the noise and of a step of the walk; the centre has length 1
    "near-duplicates": (0.02, 0.02),
    "loose clips": (0.5, 0.05),
    "unstructured": None,
}
CASES = [(45_460, 1_000, 20_000), (45_000, 450, 4_500), (20_000, 200, 2_000)]
LARGE = (1_000_000, 100, 10_000)
LIMIT_FACTOR, PEER_FACTOR, EXTRA_MB, LARGE_EXTRA_MB, REDUNDANCY_S = 1.25, 10, 64, 500, 3.0


def clips(n: int, kind: str, *, seed: int = 0) -> np.ndarray:
    """Return embeddings of ``n`` frames, clip after clip."""
    rng = np.random.default_rng(seed)
    if KINDS[kind] is None:
        return rng.standard_normal((n, D), dtype=np.float32)
    noise, step = KINDS[kind]
    rows = np.empty((n, D), dtype=np.float32)
    ends = np.linspace(0, n, CLIPS + 1).astype(int)
    for begin, end in itertools.pairwise(ends):
        centre = rng.standard_normal(D)
        moves = rng.standard_normal((end - begin, D)) * step / np.sqrt(D)
        shake = rng.standard_normal((end - begin, D)) * noise / np.sqrt(D)
        rows[begin:end] = centre / np.linalg.norm(centre) + np.cumsum(moves, axis=0) + shake
    return rows


def matrix_products(rows: np.ndarray, count: int) -> None:
    """Multiply all rows with ``count`` rows, block by block, and throw the result away."""
    out = np.empty((1024, 256), dtype=np.float32)
    for i in range(0, len(rows), 1024):
        left = rows[i : i + 1024]
        for j in range(0, count, 256):
            right = rows[j : min(j + 256, count)]
            space = out.reshape(-1)[: len(left) * len(right)].reshape(len(left), len(right))
            np.matmul(left, right.T, out=space)


def by_gemv(rows: np.ndarray, start: np.ndarray, count: int) -> np.ndarray:
    """Rank with one matrix-vector product a pick, as one writes it first in NumPy."""
    largest = (rows @ rows[start].T).max(axis=1)
    largest[start] = np.inf
    order = list(start)
    while len(order) < count:
        pick = int(largest.argmin())
        order.append(pick)
        np.maximum(largest, rows @ rows[pick], out=largest)
        largest[pick] = np.inf
    return np.array(order)


def by_mundig(rows: np.ndarray, start: np.ndarray, count: int) -> np.ndarray:
    """Rank with lightly-mundig's diversity strategy, the start given as preselected."""
    import lightly_mundig

    selection = lightly_mundig.Selection()
    selection.add_diversifying_strategy(rows, 1.0)
    return np.array(selection.run_selection(start.tolist(), len(rows), count))


def by_fps(rows: np.ndarray, start: np.ndarray, count: int) -> np.ndarray:
    """Rank with skmatter's farthest-point sampling."""
    from skmatter.sample_selection import FPS

    return FPS(n_to_select=count, initialize=start.tolist()).fit(rows).selected_idx_


PEERS: dict[str, tuple[str, Callable[..., np.ndarray]]] = {
    "lightly-mundig": ("lightly_mundig", by_mundig),
    "skmatter FPS": ("skmatter", by_fps),
    "NumPy gemv": ("numpy", by_gemv),
}


def timed(function: Callable[[], T]) -> tuple[float, T]:
    """Return the CPU seconds of a call, over all threads of the process, and its result."""
    began = time.process_time()
    result = function()
    return time.process_time() - began, result


def ours(rows: np.ndarray, start: np.ndarray, count: int) -> tuple[Ranking, Work]:
    """Rank with medglean."""
    return rank_and_count(rows, start=start, count=count)


def measure_case(
    case: tuple[int, int, int], kind: str, *, rounds: int, peers: bool
) -> dict[str, Any]:
    """Measure the limit, ours and the peers on one case, in turn; all medians in seconds."""
    n, begun, count = case
    rows = unit_rows(clips(n, kind))
    start = uniform_start(n, count=begun, seed=0)
    seconds: dict[str, list[float]] = {"limit": [], "medglean": []}
    same: dict[str, float] = {}
    for turn in range(rounds):
        seconds["limit"].append(timed(lambda: matrix_products(rows, count))[0])
        spent, (ranking, work) = timed(lambda: ours(rows, start, count))
        seconds["medglean"].append(spent)
        if turn or not peers:
            continue
        for name, (module, rank) in PEERS.items():
            if importlib.util.find_spec(module) is None:
                print(f"  {name}: not installed")
                continue
            spent, order = timed(partial(rank, rows, start, count))
            seconds[name] = [spent]
            same[name] = len(np.intersect1d(order, ranking.order)) / count
    return {
        "case": case,
        "kind": kind,
        "seconds": seconds,
        "median": {name: statistics.median(values) for name, values in seconds.items()},
        "same": same,
        "algorithm": work.algorithm,
        "share": work.share,
    }


def resident_mb(key: str) -> float:
    """Return a line of this process's status: VmRSS, now, or VmHWM, the highest."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024


def warm_up() -> None:
    """Compile every loop."""
    rows = clips(5_000, "near-duplicates")
    for algorithm in ("pruned", "blocked", "auto"):
        rank_and_count(rows, start=range(100), count=700, algorithm=algorithm)
    redundancy(rows[:50], groups=np.arange(50))


def memory_of_case(n: int, begun: int, count: int, kind: str) -> None:
    """Print CPU seconds and the extra memory of one case; called in a process of its own."""
    rows = clips(n, kind)
    warm_up()
    start = uniform_start(n, count=begun, seed=0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # set the highest back to now
    before = resident_mb("VmRSS")
    spent, (_, work) = timed(lambda: ours(rows, start, count))
    extra = resident_mb("VmHWM") - before
    print(json.dumps({"extra_mb": extra, "seconds": spent, "data_mb": rows.nbytes / 2**20,
                      "algorithm": work.algorithm, "share": work.share}))  # fmt: skip


def measure_memory(case: tuple[int, int, int], kind: str) -> dict[str, Any]:
    """Measure the memory of a case in a process of its own."""
    command = [sys.executable, __file__, "--memory", *(str(part) for part in case), kind]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def case_records(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of one case for the table of results."""
    n, begun, count = found["case"]
    median = found["median"]
    what = f"rank {n:,}: {begun:,} -> {count:,}, {found['kind']}"
    spread = found["seconds"]["medglean"]
    how = f"{found['algorithm']}, {found['share']:.1%} of the similarities"
    factor = median["medglean"] / median["limit"]
    asked = f"<= {LIMIT_FACTOR}" if found["case"] == CASES[0] else ""
    records = [
        {
            "name": what,
            "value": median["medglean"],
            "unit": "CPU s",
            "n": n,
            "note": f"{how}; {min(spread):.2f} to {max(spread):.2f} s",
        },
        {
            "name": f"{what}: times the GEMM limit",
            "value": factor,
            "unit": "",
            "n": n,
            "asked": asked,
            "note": f"limit {median['limit']:.2f} s in the same run, "
            f"{2 * n * count * D / median['limit'] / 1e9:.0f} GFLOP/s",
        },
    ]
    wanted = {CASES[1]: "lightly-mundig", CASES[2]: "skmatter FPS"}.get(found["case"])
    for name, same in found["same"].items():
        records.append(
            {
                "name": f"{what}: {name} takes",
                "value": median[name] / median["medglean"],
                "unit": "times as long",
                "n": n,
                "asked": f">= {PEER_FACTOR}" if name == wanted else "",
                "note": f"{median[name]:.2f} s, once; {same:.1%} of its picks are ours, too",
            }
        )
    return records


def memory_records(case: tuple[int, int, int], kind: str, limit: int) -> list[dict[str, Any]]:
    """Return the rows about memory for the table of results."""
    n, begun, count = case
    found = measure_memory(case, kind)
    return [
        {
            "name": f"memory above the data, {n:,}: {begun:,} -> {count:,}, {kind}",
            "value": found["extra_mb"],
            "unit": "MB",
            "n": n,
            "asked": f"<= {limit}",
            "note": f"data {found['data_mb']:.0f} MB; {found['algorithm']}, {found['share']:.1%} "
            f"of the similarities, {found['seconds']:.1f} CPU s",
        }
    ]


def redundancy_records(rounds: int) -> list[dict[str, Any]]:
    """Return the row about redundancy counts for the table of results."""
    rows = clips(20_000, "near-duplicates")
    groups = np.arange(20_000) * CLIPS // 20_000
    spent = [timed(lambda: redundancy(rows, groups=groups))[0] for _ in range(rounds)]
    return [
        {
            "name": "redundancy of 20,000 images, all pairs, within and between clips",
            "value": statistics.median(spent),
            "unit": "CPU s",
            "n": 20_000,
            "asked": f"<= {REDUNDANCY_S:g}",
            "note": f"{min(spent):.2f} to {max(spent):.2f} s",
        }
    ]


def met(record: dict[str, Any]) -> bool:
    """Whether a record meets what was asked for, if anything was."""
    sign, _, bound = record.get("asked", "").partition(" ")
    value = record["value"]
    return {"<=": value <= float(bound or 0), ">=": value >= float(bound or 0)}.get(sign, True)


def main() -> int:
    """Run the benchmark; the exit status says whether the aims were met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="without the million, peers, 45,460")
    parser.add_argument("--memory", nargs=4, metavar=("N", "START", "COUNT", "KIND"))
    arguments = parser.parse_args()
    os.environ["RAYON_NUM_THREADS"] = "1"
    threadpool_limits(1)
    if arguments.memory:
        *numbers, kind = arguments.memory
        memory_of_case(*(int(part) for part in numbers), kind)
        return 0
    warm_up()
    records: list[dict[str, Any]] = []
    for case in CASES[1:] if arguments.quick else CASES:
        for kind in KINDS:
            with_peers = kind == "near-duplicates" and not arguments.quick
            found = measure_case(case, kind, rounds=arguments.rounds, peers=with_peers)
            new = case_records(found)
            records += new
            for record in new:
                print(f"{record['name']}: {record['value']:.3g} {record['unit']} "
                      f"({record['note']})", flush=True)  # fmt: skip
    records += redundancy_records(arguments.rounds)
    records += memory_records(CASES[1], "near-duplicates", EXTRA_MB)
    records += memory_records(CASES[1], "unstructured", EXTRA_MB)
    if not arguments.quick:
        records += memory_records(LARGE, "near-duplicates", LARGE_EXTRA_MB)
    missed = [record["name"] for record in records if not met(record)]
    print(f"Not met: {'; '.join(missed) or 'nothing'}.")
    print(json.dumps({"cores": os.cpu_count(), "numpy": np.__version__, "records": records}))
    return 4 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
