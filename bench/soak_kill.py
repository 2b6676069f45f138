"""Kill fits hundreds of times, take them up again, and compare every bit.

    python bench/soak_kill.py --out soak.json --docs docs/reliability.md

For 0, 1 and 2 loader workers: a real SIGKILL before, inside and after every file operation of the
log, checkpoints and best weights (with workers, which change nothing there, at every third of these
moments); then SIGKILLs at random moments, several in a row on one run.
After each, the run is resumed to its end and weights, averages, optimiser state, best weights and
log are compared with those of a run that was left alone. The same trial is then made with writers
that are wrong on purpose, and must catch them. Takes about ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch

import medglean

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "fitting"))

from killing import KILLED, Killer, difference, kill_once_and_resume

FAULTS = ("in place", "forgets the optimiser", "forgets the average")
RANDOM_KILLS = 40


def at_operations(killer: Killer, changes: dict[str, Any], *, every: int) -> dict[str, Any]:
    """Kill at every so many-th moment of a run that touches a file; 1: at each."""
    whole, trace = killer.fresh(), killer.folder / f"trace-{killer.count}.txt"
    if killer.run(whole, changes=changes, trace=str(trace)).code != 0:
        raise RuntimeError("the uninterrupted run failed")
    moments = trace.read_text().splitlines()
    problems = {}
    for at, name in list(enumerate(moments))[::every]:
        problem = kill_once_and_resume(killer, whole, changes=changes, kill_at=at)
        if problem is not None:
            problems[f"{at}: {name}"] = problem
        shutil.rmtree(killer.folder / f"run-{killer.count}")
    kinds = Counter(" ".join(name.split()[:2]) for name in moments)
    kills = len(moments[::every])
    return {"kills": kills, "problems": problems, "moments": len(moments), "kinds": dict(kinds)}


def at_random(killer: Killer, changes: dict[str, Any], *, seed: int) -> dict[str, Any]:
    """Kill at random moments, on one run after the other, until there were enough kills."""
    whole = killer.fresh()
    killer.run(whole, changes=changes)
    generator, kills, runs = np.random.default_rng(seed), 0, 0
    problems = {}
    while kills < RANDOM_KILLS:
        folder, runs, code = killer.fresh(), runs + 1, KILLED
        while code == KILLED:
            wait = [[float(generator.uniform(0.0, 0.4)), "SIGKILL"]]
            code = killer.run(folder, changes=changes, slow_s=0.01, signals=wait).code
            kills += code == KILLED
        problem = difference(folder, whole) if code == 0 else f"exit {code}"
        if problem is not None:
            problems[folder.name] = problem
        shutil.rmtree(folder)
    return {"kills": kills, "runs": runs, "problems": problems}


def with_fault(killer: Killer, fault: str) -> dict[str, Any]:
    """Kill a writer that is wrong on purpose in the middle of each of its writes."""
    whole, trace = killer.fresh(), killer.folder / f"fault-{killer.count}.txt"
    killer.run(whole, fault=fault, trace=str(trace))
    names = trace.read_text().splitlines()
    targets = [at for at, name in enumerate(names) if name == "middle of write"]
    told = [kill_once_and_resume(killer, whole, kill_at=at, fault=fault) for at in targets]
    return {"kills": len(told), "caught": sum(problem is not None for problem in told)}


def soak() -> dict[str, Any]:
    """Run everything and return the numbers."""
    began = time.time()
    found: dict[str, Any] = {
        "versions": {
            "medglean": medglean.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "system": platform.system(),
        },
        "workers": {},
        "faults": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        killer = Killer(Path(folder))
        try:
            for workers in (0, 1, 2):
                changes = {"workers": workers}
                operations = at_operations(killer, changes, every=1 if workers == 0 else 3)
                moments = at_random(killer, changes, seed=workers)
                found["workers"][str(workers)] = {"operations": operations, "random": moments}
                print(
                    f"{workers} workers: {operations['kills']} + {moments['kills']} kills, "
                    f"{len(operations['problems']) + len(moments['problems'])} problems",
                    flush=True,
                )
            for fault in FAULTS:
                found["faults"][fault] = with_fault(killer, fault)
                print(f"a writer that {fault}: {found['faults'][fault]}", flush=True)
        finally:
            killer.close()
    found["seconds"] = round(time.time() - began)
    return found


def page(found: dict[str, Any]) -> str:
    """Return the numbers as a page of the documentation."""
    versions = found["versions"]
    lines = [
        "# Reliability: killed and taken up again",
        "",
        "Written by `python bench/soak_kill.py --out soak.json --docs docs/reliability.md`;",
        "do not edit by hand. How it works: [Reproducibility](explanation/reproducibility.md).",
        "",
        f"medglean {versions['medglean']}, torch {versions['torch']}, Python "
        f"{versions['python']}, {versions['system']}, one thread on a CPU; "
        f"{found['seconds']} seconds.",
        "",
        "The fit: a CNN with BatchNorm and dropout, AdamW, cosine schedule with warm-up, clipping,",
        "average of the weights, two batches per step, 9 steps with 6 checkpoints. A run counts as",
        "wrong unless every bit of weights, BatchNorm statistics, average, optimiser state, best",
        "weights and every row of the log equals that of a run that was left alone.",
        "",
        "| loader workers | kills at file operations | wrong | kills at random moments | wrong |",
        "|---:|---:|---:|---:|---:|",
    ]
    total = 0
    for workers, each in found["workers"].items():
        operations, moments = each["operations"], each["random"]
        total += operations["kills"] + moments["kills"]
        wrong = [len(kind["problems"]) for kind in (operations, moments)]
        lines.append(
            f"| {workers} | {operations['kills']} (of {operations['moments']} moments) | "
            f"{wrong[0]} | {moments['kills']} (in {moments['runs']} runs) | {wrong[1]} |"
        )
    lines += [
        "",
        f"{total} kills with SIGKILL in all; no process was left behind. Kills at file operations",
        "come before, after and, for writes, in the middle of every operation on the log,",
        "checkpoints and best weights.",
        "",
        "The same trial with writers that are wrong on purpose, killed in each of their writes:",
        "",
        "| fault | kills | caught |",
        "|---|---:|---:|",
    ]
    lines += [
        f"| {fault} | {each['kills']} | {each['caught']} |"
        for fault, each in found["faults"].items()
    ]
    lines += [
        "",
        "A fault cannot show in every kill: not in one that falls into a row of the log, which",
        "these faults do not touch, before the first checkpoint, or after the last. The trial",
        "catches a writer if one kill does.",
        "",
        "A kill does not test what a power cut does to a disk's cache. That the data are synced",
        "before they get their name, and the folder after, is checked by a test on the order of",
        "the calls.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Soak, or turn the numbers of an earlier soak into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="JSON file to write the numbers to")
    parser.add_argument("--numbers", type=Path, help="JSON file of an earlier soak, to write docs")
    parser.add_argument("--docs", type=Path, help="page to write")
    arguments = parser.parse_args()
    found = soak() if arguments.numbers is None else json.loads(arguments.numbers.read_text())
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(found, indent=2) + "\n")
    if arguments.docs is not None:
        arguments.docs.write_text(page(found))
    wrong = sum(
        len(kind["problems"]) for each in found["workers"].values() for kind in each.values()
    )
    if wrong or not all(each["caught"] for each in found["faults"].values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
