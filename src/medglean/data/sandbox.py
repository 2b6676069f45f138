"""Decoding in worker processes with limits: a bad file costs one image, never the run.

Decoders for compressed DICOM and slides have had memory faults for years. A worker that crashes,
hangs or outgrows its memory is killed and replaced; the image it had becomes a ``DecoderError``
that says what happened. Workers are fresh Python processes (``python -m``), not forks, so they hold
neither torch nor locks, and a calling script needs no ``if __name__ == "__main__"``.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Generator, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import numpy as np

from medglean.data.picture import Picture
from medglean.data.reference import ImageReference
from medglean.data.sandbox_worker import INSIDE
from medglean.data.wire import Arrays, GarbledError, picture_from_wire, receive, send
from medglean.errors import DecoderError, MedgleanError, ReadError, TooLargeError

DEFAULT_MEMORY_BYTES = 4 << 30
"""How much memory a worker may take beyond what it has when it starts."""

DEFAULT_TIMEOUT_S = 120.0
"""How long one image may take."""

_START_S = 120.0
_REMEDY = "Decode it with another tool and save it uncompressed, or leave it out."
_ERRORS = {kind.__name__: kind for kind in (ReadError, TooLargeError, DecoderError)}
_READ = "medglean.data.sandbox_worker:read_one"

Result = Picture | np.ndarray | Arrays
Answer = tuple[dict[str, Any], Arrays]


class DecoderPool:
    """Worker processes that decode images, each within its limits.

    Parameters
    ----------
    workers
        How many processes; each is started when it is first needed.
    memory_bytes
        Memory that a worker may take beyond what it has when it starts.
    timeout_s
        Seconds that one image may take.
    tasks_per_worker
        After so many images a worker is replaced, so that a decoder that leaks does not pile up.

    Examples
    --------
    >>> with DecoderPool(1) as pool:
    ...     [type(result).__name__ for result in pool.map(["missing.png"])]
    ['ReadError']
    """

    def __init__(
        self,
        workers: int = 1,
        *,
        memory_bytes: int = DEFAULT_MEMORY_BYTES,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        tasks_per_worker: int = 1000,
    ) -> None:
        self.memory_bytes, self.timeout_s = memory_bytes, timeout_s
        self._tasks_per_worker = tasks_per_worker
        self._count = max(1, workers)
        self._threads = ThreadPoolExecutor(self._count, thread_name_prefix="medglean-decoder")
        self._idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(self._count):
            self._idle.put(None)
        self._closed = False

    def map(
        self,
        references: Iterable[str | ImageReference],
        *,
        root: Path | None = None,
        budget_bytes: int | None = None,
        function: str | None = None,
        kwargs: Mapping[str, object] | None = None,
    ) -> Generator[Result | ReadError, None, None]:
        """Read images, in order, a few ahead of the one that is taken.

        Parameters
        ----------
        references
            Taken as they are needed, so that this may be endless.
        root, budget_bytes
            As for ``medglean.data.readers.read``.
        function
            ``"module:function"``, run in the worker as ``function(picture, **kwargs)``; it returns
            an array, a dict of arrays or a picture, and only that comes back.
        kwargs
            JSON-able keywords for it.

        Yields
        ------
        Picture, array, dict of arrays, or ReadError
            One per reference. Errors are returned, not raised: the rest goes on.
        """
        tasks = (
            {
                "name": str(reference),
                "reference": str(reference),
                "root": None if root is None else str(root),
                "budget_bytes": budget_bytes,
                "function": function,
                "kwargs": dict(kwargs or {}),
            }
            for reference in references
        )
        for name, answer in self._in_order(_READ, tasks):
            yield answer if isinstance(answer, ReadError) else _result(name, answer)

    def run(
        self, function: str, tasks: Iterable[Mapping[str, object]]
    ) -> Generator[Answer | ReadError, None, None]:
        """Run any importable function on JSON-able tasks in the workers, results in order.

        Parameters
        ----------
        function
            ``"module:function"``; it takes the task and returns a JSON-able dict and a dict of
            arrays. What it raises of ``ReadError`` is returned in its place.
        tasks
            Each has a text ``"name"``, which errors name: the image's reference.
        """
        for _, answer in self._in_order(function, tasks):
            yield answer

    def close(self) -> None:
        """End the workers."""
        self._closed = True
        self._threads.shutdown(wait=True, cancel_futures=True)
        while not self._idle.empty():
            worker = self._idle.get_nowait()
            if worker is not None:
                worker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _in_order(
        self, function: str, tasks: Iterable[Mapping[str, object]]
    ) -> Generator[tuple[str, Answer | ReadError], None, None]:
        if self._closed:
            raise ValueError("the decoder pool is closed: make a new one.")
        waiting: deque[tuple[str, Future[Answer | ReadError]]] = deque()
        try:
            for task in tasks:
                name = str(task["name"])
                waiting.append((name, self._threads.submit(self._one, function, task, name)))
                if len(waiting) >= 2 * self._count:
                    name, future = waiting.popleft()
                    yield name, future.result()
            while waiting:
                name, future = waiting.popleft()
                yield name, future.result()
        finally:
            for _, future in waiting:
                future.cancel()

    def _one(self, function: str, task: Mapping[str, object], name: str) -> Answer | ReadError:
        """Have one task done by an idle worker, and replace the worker where it died or is old."""
        worker = self._idle.get()
        try:
            if worker is None or not worker.alive:
                worker = _Worker(memory_bytes=self.memory_bytes, timeout_s=self.timeout_s)
            answer = worker.ask(function, task, name)
            if worker.answered >= self._tasks_per_worker or not worker.alive:
                worker.close()
                worker = None
            return answer
        finally:
            self._idle.put(worker)


class _Worker:
    """One worker process and the pipes to it."""

    def __init__(self, *, memory_bytes: int, timeout_s: float) -> None:
        self._memory_bytes, self._timeout_s = memory_bytes, timeout_s
        self._lock = threading.Lock()
        self._busy = self._expired = False
        self.alive, self.answered = True, 0
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "medglean.data.sandbox_worker"),
                *(str(memory_bytes), str(timeout_s)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=_environment(),
        )
        self._requests = cast("Any", self._process.stdin)
        self._answers = cast("Any", self._process.stdout)
        try:
            with self._time_limit(_START_S):
                receive(self._answers, most_bytes=0)
        except (EOFError, GarbledError, OSError) as error:
            said = self._last_words()
            self.close()
            raise MedgleanError(
                f"a decoder process ({sys.executable} -m medglean.data.sandbox_worker) did not "
                f"start: {said or 'it said nothing'}. Run `medglean doctor`."
            ) from error

    def ask(self, function: str, task: Mapping[str, object], name: str) -> Answer | ReadError:
        """Have a task done; whatever goes wrong in the worker is the error of this task."""
        try:
            with self._time_limit(self._timeout_s):
                send(self._requests, {"function": function, "task": task}, {})
                text, arrays = receive(self._answers, most_bytes=self._memory_bytes)
        except (EOFError, OSError):
            return self._died(name)
        except GarbledError:
            if self._expired or self._process.poll() is not None:
                return self._died(name)
            self.close()
            return DecoderError(
                name, "its decoder sent something that is no image and was stopped.", _REMEDY
            )
        self.answered += 1
        if "memory" in text:
            self.close()
            return self._outgrew(name)
        if "failure" in text:
            return DecoderError(name, f"its decoder failed: {text['failure']}.", _REMEDY)
        if "error" in text:
            return _error(name, text["error"])
        if not isinstance(text.get("result"), dict):
            self.close()
            return DecoderError(name, "its decoder sent no result and was stopped.", _REMEDY)
        return text["result"], arrays

    def close(self) -> None:
        """End the process and release the pipes."""
        self.alive = False
        for pipe in (self._requests, self._answers):
            with contextlib.suppress(OSError):
                pipe.close()
        self._process.kill()
        self._process.wait()
        self._errors.close()

    @contextlib.contextmanager
    def _time_limit(self, seconds: float) -> Generator[None, None, None]:
        """Kill the worker if the block takes longer; a late alarm spares the next task."""
        timer = threading.Timer(seconds, self._expire)
        timer.daemon = True
        self._busy = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            with self._lock:
                self._busy = False

    def _expire(self) -> None:
        with self._lock:
            if self._busy:
                self._expired = True
                self._process.kill()

    def _died(self, name: str) -> DecoderError:
        """Say how the process ended."""
        code = self._process.wait()
        said = self._last_words()
        self.close()
        if self._expired or code == -getattr(signal, "SIGALRM", 0):
            return DecoderError(
                name,
                f"its decoder took longer than {self._timeout_s:g} s and was stopped.",
                _REMEDY,
            )
        if "bad_alloc" in said or "MemoryError" in said:
            return self._outgrew(name)
        how = f"ended with status {code}"
        if code < 0:
            how = f"crashed with {_signal_name(-code)}"
        if code == -getattr(signal, "SIGKILL", 9):
            how += " (by the system where memory ran out, or by somebody)"
        return DecoderError(name, f"its decoder {how}.", _REMEDY)

    def _outgrew(self, name: str) -> DecoderError:
        size = f"{self._memory_bytes / (1 << 20):,.0f} MiB"
        return DecoderError(
            name, f"its decoder needed more than the {size} of memory it may have.", _REMEDY
        )

    def _last_words(self) -> str:
        """Return the last line that the process wrote to stderr."""
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - 2000))
        lines = self._errors.read().decode("utf-8", "replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _environment() -> dict[str, str]:
    """Return the environment of a worker: what we import it can import, on one thread."""
    path = os.pathsep.join(part for part in sys.path if part)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return os.environ | threads | {"PYTHONPATH": path}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _error(name: str, parts: object) -> ReadError:
    """Return the error that a worker described."""
    if not isinstance(parts, dict):
        return DecoderError(name, "its decoder sent something that is no image.", _REMEDY)
    kind = _ERRORS.get(str(parts.get("kind")), ReadError)
    return kind(
        str(parts.get("file") or name), str(parts.get("found")), str(parts.get("remedy", ""))
    )


def _result(name: str, answer: Answer) -> Result | ReadError:
    """Return what the worker's function returned."""
    text, arrays = answer
    if text.get("arrays"):
        return arrays
    if text.get("array") and "array" in arrays:
        return arrays["array"]
    try:
        return picture_from_wire(text, arrays)
    except GarbledError:
        return DecoderError(name, "its decoder sent something that is no image.", _REMEDY)


_shared: DecoderPool | None = None
_shared_lock = threading.Lock()


def read_isolated(name: str, *, root: Path | None, budget_bytes: int) -> Picture:
    """Read one image in the one worker that this process shares, started when first needed.

    Raises
    ------
    ReadError
        If it cannot be read, ``DecoderError`` where the worker died of it.
    """
    memory_bytes = max(DEFAULT_MEMORY_BYTES, 4 * budget_bytes)
    result = next(_shared_pool(memory_bytes).map([name], root=root, budget_bytes=budget_bytes))
    if isinstance(result, ReadError):
        raise result
    return cast("Picture", result)


def _shared_pool(memory_bytes: int) -> DecoderPool:
    global _shared
    with _shared_lock:
        if _shared is None or _shared.memory_bytes < memory_bytes:
            if _shared is not None:
                _shared.close()
            _shared = DecoderPool(1, memory_bytes=memory_bytes)
        return _shared


def _forget_shared() -> None:
    """In a forked child, leave the parent's worker alone."""
    global _shared, _shared_lock
    _shared, _shared_lock = None, threading.Lock()


@atexit.register
def _close_shared() -> None:
    if _shared is not None:
        _shared.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_shared)


def inside_worker() -> bool:
    """Tell whether this process is a worker, which decodes by itself."""
    return os.environ.get(INSIDE) == "1"
