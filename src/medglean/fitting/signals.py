"""Ctrl-C and SIGTERM as a request to stop at the next good moment."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any


class StopNow(BaseException):
    """Raised by a signal inside :meth:`StopRequest.at_once`; the loop catches it.

    Not an ``Exception``, so that no closure swallows it by accident.
    """


class StopRequest:
    """While entered, remembers that the user, or a cluster's scheduler, asked to stop.

    The first Ctrl-C or SIGTERM is remembered in :attr:`signal_name`; a second Ctrl-C raises
    ``KeyboardInterrupt`` at once. On leaving, the handlers that were there before are back. In a
    thread other than the main one nothing is installed, as Python allows handlers only there.
    """

    def __init__(self) -> None:
        self.signal_name: str | None = None
        self._at_once = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                before = signal.getsignal(number)
                # one that is ignored stays so: a shell starts background jobs this way
                if before is not signal.SIG_IGN and before is not None:
                    self._before[number] = before
                    signal.signal(number, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before.clear()

    @property
    def requested(self) -> bool:
        """Whether to stop."""
        return self.signal_name is not None

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        again = self.signal_name is not None
        self.signal_name = signal.Signals(number).name
        if again and number == signal.SIGINT:
            raise KeyboardInterrupt
        if self._at_once:
            self._at_once = False
            raise StopNow

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, a request raises :class:`StopNow`: for work that can be repeated."""
        if self.requested:
            raise StopNow
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False
