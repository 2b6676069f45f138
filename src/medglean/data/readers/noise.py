"""What C libraries write to the process's stderr while they decode."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass
class Noise:
    """The text that was written, set when the block ends."""

    text: str = ""


@contextlib.contextmanager
def captured_stderr() -> Iterator[Noise]:
    """Catch what is written to file descriptor 2 meanwhile.

    libjpeg and OpenJPEG say there, and only there, that they filled up a damaged picture. The
    descriptor belongs to the whole process; that is why such decoders run in a worker by default.
    """
    noise = Noise()
    with contextlib.suppress(AttributeError, ValueError, OSError):
        sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # no stderr at all, as under pythonw
        yield noise
        return
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield noise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            noise.text = file.read(65536).decode("utf-8", "replace")
