"""The process that decodes: ``python -m medglean.data.sandbox_worker MEMORY_BYTES TIMEOUT_S``.

It answers requests from its standard input until that ends. It holds itself to the limits, so that
a decoder that goes wild is stopped by the system, and it dies with its parent: by the end of its
input when idle, by the alarm or the watch when a decoder hangs.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from medglean.data.picture import Picture
from medglean.data.wire import Arrays, picture_to_wire, receive, send
from medglean.errors import MedgleanError, ReadError

INSIDE = "MEDGLEAN_INSIDE_WORKER"
"""Environment variable that is set inside a worker, which needs no worker of its own."""

_GRACE_S = 10.0


def main() -> None:
    """Answer requests until the parent closes the pipe."""
    memory_bytes, timeout_s = int(sys.argv[1]), float(sys.argv[2])
    requests, answers = _own_pipes()
    os.environ[INSIDE] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    _load_decoders()
    _limit(memory_bytes)
    threading.Thread(target=_watch_parent, args=(os.getppid(),), daemon=True).start()
    send(answers, {"ready": os.getpid()}, {})
    while True:
        try:
            request, arrays = receive(requests, most_bytes=1 << 62)
        except EOFError:
            return
        _alarm(timeout_s + _GRACE_S)
        text, arrays = _answer(request)
        _alarm(0.0)
        send(answers, text, arrays)


def _own_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Take the pipes away from descriptors 0 and 1, so that no library writes into them."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    return requests, answers


def _load_decoders() -> None:
    """Import what nearly every image needs, before the limit is measured."""
    for name in ("medglean.data.readers.dicom", "pydicom.pixels", "imagecodecs", "simplejpeg"):
        importlib.import_module(name)
    with contextlib.suppress(ImportError):
        importlib.import_module("gdcm")


def _limit(memory_bytes: int) -> None:
    """Allow so much more memory than is used now, and no core dumps (they hold patients' data)."""
    try:
        import resource
    except ImportError:  # Windows has no such limits; the time limit still holds
        return
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        kind, used = resource.RLIMIT_AS, 1 << 33
    else:
        kind = resource.RLIMIT_DATA
        used = next(int(row.split()[1]) for row in status.splitlines() if row[:7] == "VmData:")
        used *= 1024
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(kind, (used + memory_bytes, used + memory_bytes))


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _alarm(seconds: float) -> None:
    """Let the system end this process after so long, whatever a decoder is doing; 0 is never."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _answer(request: Mapping[str, Any]) -> tuple[dict[str, object], Arrays]:
    """Run the function that the request names on its task; an error becomes part of the answer."""
    try:
        text, arrays = _function(str(request["function"]))(request["task"])
    except ReadError as error:
        kind = type(error).__name__
        return {
            "error": {
                "kind": kind,
                "file": error.file,
                "found": error.found,
                "remedy": error.remedy,
            }
        }, {}
    except MedgleanError as error:
        return {"error": {"kind": "ReadError", "found": str(error), "remedy": ""}}, {}
    except MemoryError:
        return {"memory": True}, {}
    except Exception as error:  # noqa: BLE001 - decoders raise what they like; all is told
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}, line {last.lineno}"
        return {"failure": f"{type(error).__name__} at {place}"}, {}
    return {"result": text}, arrays


@functools.cache
def _function(name: str) -> Callable[..., Any]:
    """Return the function of a name such as ``"medglean.data.prepare:prepare"``."""
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found


def read_one(task: Mapping[str, Any]) -> tuple[dict[str, object], Arrays]:
    """Read one image, and apply the function that the task names, if it names one."""
    from medglean.data.readers import read

    picture = read(
        task["reference"],
        root=None if task["root"] is None else Path(task["root"]),
        budget_bytes=task["budget_bytes"],
        isolated=False,
    )
    if task["function"] is None:
        return picture_to_wire(picture)
    result = _function(task["function"])(picture, **task["kwargs"])
    if isinstance(result, Picture):
        return picture_to_wire(result)
    if isinstance(result, np.ndarray):
        return {"array": True}, {"array": result}
    return {"arrays": True}, dict(result)


if __name__ == "__main__":
    main()
