"""What a disk may do to a run: fill up, forbid, fail; told so that a user can act."""

from __future__ import annotations

import contextlib
import errno
import logging
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from medglean.errors import RunFolderError


@contextlib.contextmanager
def told(folder: Path) -> Iterator[None]:
    """Turn what a disk says into what a user can do."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            with contextlib.suppress(OSError):
                free = shutil.disk_usage(folder).free
                raise RunFolderError(
                    f"{folder}: the disk is full ({free / 1e6:,.0f} MB free). Free space and go on "
                    "with --resume, or choose a folder on another disk with --out."
                ) from error
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise RunFolderError(
                f"{folder}: not allowed to write here ({error.strerror}). Choose another folder "
                "with --out, or ask for the right to write."
            ) from error
        raise RunFolderError(
            f"{folder}: cannot be written ({error.strerror or error}). Choose another folder with "
            "--out."
        ) from error


class _LogFile(logging.FileHandler):
    """A log whose failure is told once on the terminal and never stops the work."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        if not getattr(self, "_failed", False):
            self._failed = True
            sys.stderr.write(f"{self.baseFilename}: log lines are lost: {sys.exc_info()[1]}\n")


class _Lines(logging.Formatter):
    """One event per line; further lines of a message are indented, so that none can pose as one."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n    ".join(super().format(record).splitlines())


def log_into(file: Path) -> logging.Handler:
    """Append what medglean logs to a file, one plain line per event in UTC; return the handler."""
    log = logging.getLogger("medglean")
    handler = _LogFile(file, encoding="utf-8")
    formatter = _Lines("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    log.addHandler(handler)
    if log.level == logging.NOTSET:
        log.setLevel(logging.INFO)
    return handler
