"""Decoding in worker processes with limits: a bad file costs one image, never the run.

Decoders for compressed DICOM and slides have had memory faults for years. A worker that crashes,
hangs or outgrows its memory is killed and replaced; the image it had becomes a ``DecoderError``
that says what happened. Workers are fresh Python processes (``python -m``), not forks, so they hold
neither torch nor locks, and a calling script needs no ``if __name__ == "__main__"``.
"""

from __future__ import annotations

import atexit
import os
import queue
import threading
from collections import deque
from collections.abc import Generator, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import numpy as np

from medglean.data.picture import Picture
from medglean.data.reference import ImageReference
from medglean.data.sandbox_process import REMEDY, Answer, Worker
from medglean.data.sandbox_worker import INSIDE
from medglean.data.wire import Arrays, GarbledError, picture_from_wire
from medglean.errors import DecoderError, ReadError

DEFAULT_MEMORY_BYTES = 4 << 30
"""How much memory a worker may take beyond what it has when it starts."""

DEFAULT_TIMEOUT_S = 120.0
"""How long one image may take."""

_READ = "medglean.data.sandbox_worker:read_one"

Result = Picture | np.ndarray | Arrays


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
        self._idle: queue.LifoQueue[Worker | None] = queue.LifoQueue()
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
                worker = Worker(memory_bytes=self.memory_bytes, timeout_s=self.timeout_s)
            answer = worker.ask(function, task, name)
            if worker.answered >= self._tasks_per_worker or not worker.alive:
                worker.close()
                worker = None
            return answer
        finally:
            self._idle.put(worker)


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
        return DecoderError(name, "its decoder sent something that is no image.", REMEDY)


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
    # absolute: the worker may have been started in another folder
    here = Path.cwd() if root is None else Path(root).absolute()
    result = next(_shared_pool(memory_bytes).map([name], root=here, budget_bytes=budget_bytes))
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
