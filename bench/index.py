"""How many small PNG files a second ``index`` takes, and how much memory.

    python bench/index.py [--files 10000] [--workers 2]

Makes the files in a temporary folder, indexes them in a process of its own and prints one line
for people and one of JSON. The aim is 1,000 files a second with bounded memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

AIM_FILES_PER_S = 1000

CHILD = """
import json, resource, sys, time
from medglean.data.index import index
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start, cpu = time.perf_counter(), time.process_time()
result = index(sys.argv[1], out=sys.argv[2], workers=int(sys.argv[3]))
print(json.dumps({
    "rows": len(result.manifest), "seconds": time.perf_counter() - start,
    "cpu_seconds": time.process_time() - cpu, "layout": result.layout,
    "rss_before_mb": before / 1024,
    "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


def make(folder: Path, count: int) -> int:
    """Write small grey PNGs of 64 x 64 pixels into 20 folders; return their bytes together."""
    generator = np.random.default_rng(0)
    total = 0
    for number in range(count):
        place = folder / f"part {number % 20:02d}"
        place.mkdir(exist_ok=True)
        pixels = generator.integers(0, 256, (64, 64), dtype=np.uint8)
        data = cv2.imencode(".png", pixels)[1].tobytes()
        (place / f"{number:06d}.png").write_bytes(data)
        total += len(data)
    return total


def main() -> int:
    """Run the benchmark; the exit status says whether the aim was met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        source, out = Path(place, "images"), Path(place, "out")
        source.mkdir()
        size = make(source, arguments.files)
        start = time.perf_counter()
        child = subprocess.run(
            [sys.executable, "-c", CHILD, source, out / "m.parquet", str(arguments.workers)],
            check=True,
            capture_output=True,
            text=True,
        )
        wall = time.perf_counter() - start
    measured = json.loads(child.stdout)
    measured |= {
        "files": arguments.files,
        "workers": arguments.workers,
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "mean_file_bytes": size // arguments.files,
        "files_per_s": arguments.files / measured["seconds"],
        "wall_with_start_s": wall,
    }
    print(
        f"index: {measured['files_per_s']:,.0f} files a second "
        f"({arguments.files:,} PNGs of {measured['mean_file_bytes']:,} bytes, "
        f"{measured['seconds']:.1f} s, {measured['cpu_seconds']:.1f} CPU s), peak memory "
        f"{measured['peak_rss_mb']:.0f} MB ({measured['rss_before_mb']:.0f} MB before); "
        f"aim {AIM_FILES_PER_S:,} files a second."
    )
    measured["records"] = [
        {
            "name": f"index, {arguments.workers} threads",
            "value": measured["files_per_s"],
            "unit": "files/s",
            "asked": f">= {AIM_FILES_PER_S:,}",
            "n": arguments.files,
            "note": "small grey PNGs; header, size and SHA-256 of each",
        },
        {
            "name": "index, peak memory above the start",
            "value": measured["peak_rss_mb"] - measured["rss_before_mb"],
            "unit": "MB",
            "asked": "bounded",
            "n": arguments.files,
        },
    ]
    print(json.dumps(measured))
    return 0 if measured["files_per_s"] >= AIM_FILES_PER_S else 4


if __name__ == "__main__":
    sys.exit(main())
