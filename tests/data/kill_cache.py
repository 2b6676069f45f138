"""Build a cache in child processes that are killed, and say whether a later run is right.

Run by test_cache as a process of its own, because it forks: ``python kill_cache.py FOLDER``.
Prints one JSON line per way of killing. Children kill themselves at file operation number k for
k = 0, 1, ... until one lives, then are killed from outside at moments spread over a build.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np

from medglean.data import cache
from medglean.data.manifest import Manifest
from medglean.data.recipe import Recipe

RECIPE = Recipe(size_px=(16, 16))
WATCHED = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree"}


def die_at(operation: int) -> None:
    """Kill this process at its file operation of that number, counted from 0."""
    count = 0

    def step(event: str, arguments: tuple[object, ...] = ()) -> None:
        nonlocal count
        if event not in WATCHED:
            return
        if count == operation:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1

    sync = os.fsync

    def counted_sync(descriptor: int) -> None:
        step("open")  # before: as if nothing had reached the disk
        sync(descriptor)

    os.fsync = counted_sync
    sys.addaudithook(step)


def in_child(manifest: Manifest, folder: Path, *, operation: int = -1, after_s: float = -1) -> bool:
    """Build in a child; return whether it lived to the end."""
    child = os.fork()
    if child == 0:
        if operation >= 0:
            die_at(operation)
        cache.open_cache(manifest, RECIPE, folder, workers=0)
        os._exit(0)
    if after_s >= 0:
        time.sleep(after_s)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 0


def checked(manifest: Manifest, folder: Path, expected: np.ndarray) -> dict[str, object]:
    """Open what the child left: it must hold the right images, and leave no other file."""
    opened = cache.open_cache(manifest, RECIPE, folder, workers=0)
    right = bool((np.asarray(opened.array) == expected).all()) and bool(opened.ok.all())
    files = sorted(path.name for path in folder.rglob("*") if path.is_file())
    rebuilt = opened.rebuilt
    shutil.rmtree(folder)
    return {"right": right, "rebuilt": rebuilt, "files": files}


def main(root: Path) -> None:
    manifest = Manifest.read(root / "manifest.csv")
    expected = np.asarray(cache.decode_to_memory(manifest, RECIPE, workers=0).array)
    folder = root / "caches"
    began = time.monotonic()
    lived, operation = False, 0
    while not lived:
        lived = in_child(manifest, folder, operation=operation)
        tell({"operation": operation, "lived": lived, **checked(manifest, folder, expected)})
        operation += 1
    took = (time.monotonic() - began) / operation / 2  # half of it was the check
    for part in np.random.default_rng(0).random(8):
        lived = in_child(manifest, folder, after_s=float(part) * took)
        tell({"part": float(part), "lived": lived, **checked(manifest, folder, expected)})


def tell(trial: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(trial) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
