"""What a command says while it works: a bar on a terminal, plain lines in a file or a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

LINE_EVERY_S = 10.0

Tell = Callable[..., None]
"""Called as ``tell(done, total)``, or ``tell(done)`` where the total was given before."""


@contextmanager
def progress(what: str, *, total: int | None = None) -> Iterator[Tell]:
    """Show how far a piece of work is, on standard error.

    Parameters
    ----------
    what
        Such as ``"decoding images"``.
    total
        How much there is to do, where that is known beforehand.

    Yields
    ------
    callable
        To be called with the number done and, where it was not given, of all. Nothing is shown
        before the first call, so work that was done already says nothing.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(what, total)
        return
    with Progress(
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TaskProgressColumn(show_speed=True),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as bar:
        number = bar.add_task(what, total=total, visible=False)

        def tell(done: int, all_of_it: int | None = total) -> None:
            bar.update(number, completed=done, total=all_of_it, visible=True)

        yield tell


def _lines(what: str, total: int | None) -> Tell:
    began = last = time.monotonic()

    def tell(done: int, all_of_it: int | None = total) -> None:
        nonlocal last
        now = time.monotonic()
        is_end = done == all_of_it
        if now - last < LINE_EVERY_S and not (is_end and now - began > LINE_EVERY_S):
            return
        last = now
        rate = done / max(now - began, 1e-9)
        text = f"{what}: {done:,}"
        if all_of_it:
            left_s = (all_of_it - done) / max(rate, 1e-9)
            text += f" of {all_of_it:,}, {rate:,.0f}/s, {left_s:.0f} s left"
        sys.stderr.write(text + "\n")

    return tell
