"""How far a fit is: a bar on a terminal, plain lines in a file or a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import IO, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

REFRESH_S = 0.2
LINE_EVERY_S = 10.0
LINE_EVERY_SHARE = 0.1


class FitProgress(Protocol):
    """What the loop tells while it runs."""

    def start(self, *, done: int, total: int) -> None:
        """Begin at step ``done`` of ``total``."""
        ...

    def update(self, *, step: int, epoch: int, values: Mapping[str, float]) -> None:
        """Tell that ``step`` steps are done, with the newest numbers."""
        ...

    def note(self, text: str) -> None:
        """Tell a sentence."""
        ...

    def close(self) -> None:
        """End."""
        ...


class Silent:
    """Says nothing."""

    def start(self, *, done: int, total: int) -> None:
        """Do nothing."""

    def update(self, *, step: int, epoch: int, values: Mapping[str, float]) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Clock:
    """Steps per second and seconds left, since the start of this process.

    Parameters
    ----------
    now
        Seconds from any fixed moment.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        self.first_step = self.total = 0
        self.began = now()

    def start(self, *, done: int, total: int) -> None:
        """Begin to count at step ``done`` of ``total``."""
        self.first_step, self.total, self.began = done, total, self.now()

    def text(self, step: int) -> str:
        """Return rate and time left, such as ``"12.5 steps/s, 1:02:03 left"``."""
        steps, seconds = step - self.first_step, self.now() - self.began
        if steps <= 0 or seconds <= 0:
            return "starting"
        left = (self.total - step) * seconds / steps
        return f"{steps / seconds:.3g} steps/s, {duration(left)} left"


def duration(seconds: float) -> str:
    """Write a time span as ``m:ss`` or ``h:mm:ss``.

    Examples
    --------
    >>> duration(62), duration(3723)
    ('1:02', '1:02:03')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def numbers(values: Mapping[str, float]) -> str:
    """Write the newest numbers in a few characters: ``"train.loss 0.693, val.auroc 0.91"``."""
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())


class PlainProgress:
    """A line every ten seconds and every tenth of the way, and one at the end.

    Parameters
    ----------
    stream
        Where lines go.
    now
        Seconds from any fixed moment.
    """

    def __init__(self, stream: IO[str], *, now: Callable[[], float] = time.monotonic) -> None:
        self.stream, self.clock = stream, Clock(now)
        self._told_step = self._told_at = 0.0

    def start(self, *, done: int, total: int) -> None:
        """Begin at step ``done`` of ``total``."""
        self.clock.start(done=done, total=total)
        self._told_step, self._told_at = done, self.clock.now()
        self._line(f"step {done}/{total}: training")

    def update(self, *, step: int, epoch: int, values: Mapping[str, float]) -> None:
        """Tell that ``step`` steps are done, if it is time for a line."""
        total = self.clock.total
        waited = self.clock.now() - self._told_at >= LINE_EVERY_S
        moved = step - self._told_step >= LINE_EVERY_SHARE * total
        if not (waited or moved or step == total):
            return
        self._told_step, self._told_at = step, self.clock.now()
        tail = f", {numbers(values)}" if values else ""
        self._line(f"step {step}/{total} (epoch {epoch + 1}), {self.clock.text(step)}{tail}")

    def note(self, text: str) -> None:
        """Tell a sentence."""
        self._line(text)

    def close(self) -> None:
        """Do nothing: every line is out already."""

    def _line(self, text: str) -> None:
        self.stream.write(text + "\n")
        self.stream.flush()


class TerminalProgress:
    """A bar that is drawn anew a few times a second, by this thread only.

    Parameters
    ----------
    console
        The terminal.
    """

    def __init__(self, console: Console) -> None:
        self.clock = Clock()
        self._drawn_at = 0.0
        self.bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=30),
            TextColumn("{task.completed:.0f}/{task.total:.0f}, {task.fields[pace]}"),
            TextColumn("{task.fields[values]}"),
            console=console,
            auto_refresh=False,  # its thread would be copied into forked loader workers
        )
        self.task = self.bar.add_task("fit", total=1, epoch=1, pace="starting", values="")

    def start(self, *, done: int, total: int) -> None:
        """Begin at step ``done`` of ``total``."""
        self.clock.start(done=done, total=total)
        self.bar.start()
        self.bar.update(self.task, completed=done, total=total, refresh=True)

    def update(self, *, step: int, epoch: int, values: Mapping[str, float]) -> None:
        """Draw the bar, if it was not drawn just before."""
        now = self.clock.now()
        if now - self._drawn_at < REFRESH_S and step != self.clock.total:
            return
        self._drawn_at = now
        self.bar.update(
            self.task,
            completed=step,
            epoch=epoch + 1,
            pace=self.clock.text(step),
            values=numbers(values),
            refresh=True,
        )

    def note(self, text: str) -> None:
        """Tell a sentence above the bar."""
        self.bar.console.print(text, highlight=False, markup=False)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self.bar.stop()


def make_progress(stream: IO[str] | None = None) -> FitProgress:
    """Return a bar where ``stream`` (by default standard error) is a terminal, lines elsewhere."""
    stream = sys.stderr if stream is None else stream
    if stream.isatty():
        return TerminalProgress(Console(file=stream))
    return PlainProgress(stream)
