"""What each selection method takes at the paper's size, in one thread.

    python bench/methods.py [--images 45460] [--dimensions 128] [--clips 200] [--budget 20000]

Makes embeddings of clips with near-duplicates and ranks ``budget`` of them by every method, each
in this one process after a run on 500 images that compiles and warms up. Prints CPU seconds (the
process's, so that other work on the machine counts less), wall seconds, and the largest memory of
the process so far above what the embeddings need; beside them the CPU seconds of one product of
all pairs in float32 (n² d, by symmetry half of it), which the graph cannot do without. The last
line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"  # before NumPy is loaded

import numpy as np  # noqa: E402

from medglean.curate.comparison import Membership, compare, coverage_curve  # noqa: E402
from medglean.curate.methods.neighbours import similarity_graph  # noqa: E402
from medglean.curate.methods.table import METHODS, Wish  # noqa: E402
from medglean.curate.outliers import OutlierGate, find_outliers  # noqa: E402
from medglean.curate.ranking import uniform_start  # noqa: E402

TILE = 512


def make(images: int, dimensions: int, clips: int) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings of frames around the centre of their clip, and the clip of each."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(clips, dimensions))
    code = np.sort(generator.integers(0, clips, images))
    values = centres[code] + 0.3 * generator.normal(size=(images, dimensions))
    return values.astype(np.float32), np.unique(code, return_inverse=True)[1]


def products(values: np.ndarray) -> None:
    """Multiply every row with every other one once, and keep nothing."""
    for row in range(0, len(values), TILE):
        for column in range(row, len(values), TILE):
            values[row : row + TILE] @ values[column : column + TILE].T


def memory_mb() -> float:
    """Return the largest memory of the process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Run all and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=45_460)
    parser.add_argument("--dimensions", type=int, default=128)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--budget", type=int, default=20_000)
    parser.add_argument("--methods", nargs="*", default=[*METHODS])
    asked = parser.parse_args()
    small, small_clips = make(500, asked.dimensions, 20)
    for name in asked.methods:
        METHODS[name](small, wish_of(small_clips, 20))
    find_outliers(small, gate=OutlierGate())
    similarity_graph(small, neighbours=20)
    values, clips = make(asked.images, asked.dimensions, asked.clips)
    before = memory_mb()
    order = np.random.default_rng(1).permutation(asked.images)[: asked.budget]
    budgets = np.unique(np.geomspace(1, asked.budget, 20).astype(int))
    parts = {
        "all products (half)": lambda: products(values),
        "graph": lambda: similarity_graph(values),
        "outlier gate": lambda: find_outliers(values, gate=OutlierGate()),
        "comparison, 5 draws": lambda: compare(
            values, order, membership=Membership(groups=clips), draws=5
        ),
        "coverage curve": lambda: coverage_curve(values, order, budgets),
    }
    for name in asked.methods:
        parts[name] = lambda name=name: METHODS[name](values, wish_of(clips, asked.budget))
    rows = {}
    for name, part in parts.items():
        cpu, wall = time.process_time(), time.perf_counter()
        part()
        rows[name] = {
            "cpu_s": round(time.process_time() - cpu, 2),
            "wall_s": round(time.perf_counter() - wall, 2),
            "extra_mb_so_far": round(memory_mb() - before),
        }
        print(f"{name:22s}", *(f"{key} {number:>8}" for key, number in rows[name].items()))
    print(json.dumps({"images": asked.images, "budget": asked.budget, "parts": rows}))


def wish_of(clips: np.ndarray, budget: int) -> Wish:
    """Return the same wish for every method."""
    start = uniform_start(len(clips), count=max(1, min(1000, budget // 10)), seed=0)
    return Wish(count=budget, length=budget, groups=clips, patients=clips, start=start)


if __name__ == "__main__":
    main()
