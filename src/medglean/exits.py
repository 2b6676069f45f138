"""From what went wrong to a message and an exit status."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable

from medglean.errors import Interrupted, MedgleanError

INTERRUPTED = "Interrupted. If this command has --resume, it goes on from here with it."


def status_of(call: Callable[[], object]) -> int:
    """Run a command and return its exit status; what went wrong is told on standard error.

    Parameters
    ----------
    call
        The command.

    Returns
    -------
    int
        0 done, 1 failed, 2 wrong usage, 3 bad data, 4 a gate not met, 130 interrupted. An error
        that is not ours is a bug and keeps its traceback.
    """
    try:
        call()
    except MedgleanError as error:
        _tell(f"error: {error}")
        return error.exit_code
    except SystemExit as stop:  # typer shows wrong usage and takes Ctrl-C itself, and ends so
        status = stop.code if isinstance(stop.code, int) else 0
        if status == Interrupted.exit_code:
            _tell(INTERRUPTED)
        return status
    except KeyboardInterrupt:
        _tell(INTERRUPTED)
        return Interrupted.exit_code
    except OSError as error:
        message = _explain(error)
        if message is None:
            raise
        _tell(f"error: {message}")
        return 3
    return 0


def _tell(text: str) -> None:
    sys.stderr.write(text + "\n")


def _explain(error: OSError) -> str | None:
    """Say what to do about a disk or permission error; None for any other."""
    place = error.filename or "the output folder"
    if error.errno == errno.ENOSPC:
        return f"{place}: the disk is full. Free space, then run the same command with --resume."
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return f"{place}: not allowed to write or read here. Choose another folder with --out."
    return None
