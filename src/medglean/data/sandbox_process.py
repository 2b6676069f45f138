"""One worker process: starting it, asking it, and saying how it died."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Mapping
from typing import Any, cast

from medglean.data.wire import Arrays, GarbledError, receive, send
from medglean.errors import DecoderError, MedgleanError, ReadError, TooLargeError

REMEDY = "Decode it with another tool and save it uncompressed, or leave it out."
"""What to do about an image that a decoder died of."""

Answer = tuple[dict[str, Any], Arrays]

_START_S = 120.0
_ERRORS = {kind.__name__: kind for kind in (ReadError, TooLargeError, DecoderError)}


class Worker:
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
                name, "its decoder sent something that is no image and was stopped.", REMEDY
            )
        self.answered += 1
        if "memory" in text:
            self.close()
            return self._outgrew(name)
        if "failure" in text:
            return DecoderError(name, f"its decoder failed: {text['failure']}.", REMEDY)
        if "error" in text:
            return _error(name, text["error"])
        if not isinstance(text.get("result"), dict):
            self.close()
            return DecoderError(name, "its decoder sent no result and was stopped.", REMEDY)
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
                REMEDY,
            )
        if "bad_alloc" in said or "MemoryError" in said:
            return self._outgrew(name)
        how = f"ended with status {code}"
        if code < 0:
            how = f"crashed with {_signal_name(-code)}"
        if code == -getattr(signal, "SIGKILL", 9):
            how += " (by the system where memory ran out, or by somebody)"
        return DecoderError(name, f"its decoder {how}.", REMEDY)

    def _outgrew(self, name: str) -> DecoderError:
        size = f"{self._memory_bytes / (1 << 20):,.0f} MiB"
        return DecoderError(
            name, f"its decoder needed more than the {size} of memory it may have.", REMEDY
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
        return DecoderError(name, "its decoder sent something that is no image.", REMEDY)
    kind = _ERRORS.get(str(parts.get("kind")), ReadError)
    return kind(
        str(parts.get("file") or name), str(parts.get("found")), str(parts.get("remedy", ""))
    )
