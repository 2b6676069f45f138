"""How long ``medglean --help`` takes, as a user waits for it: a process from start to end.

Run: .venv/bin/python bench/startup.py
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 20
LIMIT_S = 0.5


def main() -> int:
    """Print the times; return 4 where the median is above the limit."""
    command = [str(Path(sys.executable).with_name("medglean")), "--help"]
    times_s = []
    for _ in range(RUNS):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times_s.append(time.perf_counter() - start)
    first, middle, worst = times_s[0], statistics.median(times_s), max(times_s)
    print(f"medglean --help, {RUNS} times: first {first:.2f} s, median {middle:.2f} s, "
          f"longest {worst:.2f} s; asked for: under {LIMIT_S} s")  # fmt: skip
    record = {
        "name": "medglean --help, median of 20",
        "value": middle,
        "unit": "s",
        "asked": f"< {LIMIT_S}",
        "n": RUNS,
    }
    print(json.dumps({"records": [record]}))
    return 0 if middle < LIMIT_S else 4


if __name__ == "__main__":
    sys.exit(main())
