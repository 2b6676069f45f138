"""One process at a time in a run folder.

The lock is the operating system's, so it ends with the process that holds it, even after SIGKILL.
Who holds it is told in a file beside it, which may outlive the holder and is never trusted alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
from pathlib import Path

import filelock

from medglean.errors import RunFolderError
from medglean.files import write_json
from medglean.runs.environment import utc_now

LOCK_NAME = ".lock"
HOLDER_NAME = ".holder.json"
_PATIENCE_S = 1.0
"""Asking for the state takes the lock for an instant; wait that out rather than refuse."""


class RunLock:
    """The right to write into a run folder.

    Parameters
    ----------
    folder
        An existing folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = filelock.FileLock(folder / LOCK_NAME, thread_local=False)

    def acquire(self) -> None:
        """Take the lock.

        Raises
        ------
        RunFolderError
            If another process, or another part of this one, holds it; names the holder.
        """
        try:
            self._lock.acquire(timeout=_PATIENCE_S)
        except filelock.Timeout:
            raise RunFolderError(
                f"{self._folder}: in use by {describe_holder(self._folder)}. Wait until it ends, "
                "or choose another folder."
            ) from None
        holder = {"pid": os.getpid(), "host": platform.node(), "since": utc_now()}
        try:
            write_json(self._folder / HOLDER_NAME, holder)
        except OSError:
            self.release()
            raise

    def release(self) -> None:
        """Give the lock back; nothing happens where it is not held."""
        if self._lock.is_locked:
            with contextlib.suppress(OSError):
                (self._folder / HOLDER_NAME).unlink(missing_ok=True)
            self._lock.release()


def is_locked(folder: Path) -> bool:
    """Whether some process holds the lock of a run folder; creates nothing."""
    file = folder / LOCK_NAME
    if not file.exists():
        return False
    probe = filelock.FileLock(file, thread_local=False)
    try:
        probe.acquire(timeout=0)
    except filelock.Timeout:
        return True
    except OSError:  # a folder that may only be read: nobody can write into it, nor lock it
        return False
    probe.release()
    return False


def describe_holder(folder: Path) -> str:
    """Name process and machine of the holder, as far as they were told."""
    try:
        holder = json.loads((folder / HOLDER_NAME).read_text(encoding="utf-8"))
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
