"""Every error that medglean raises on purpose, and the one shape of a problem.

The tree, with the exit status that the command line gives each::

    MedgleanError                  1
    ├── UsageError                 2   a wrong option, name or combination
    │   ├── PresetError            2   a preset with an unknown key or a bad value
    │   └── RunFolderError         2   the run folder exists, is locked, or is not a run
    ├── DataError                  3   the data cannot be used as they are
    │   ├── ManifestError          3   all problems of a manifest, told together
    │   ├── ReadError              3   one image that cannot be read right
    │   │   ├── TooLargeError      3   it would decode to more than the byte budget
    │   │   └── DecoderError       3   its decoder crashed, hung or outgrew its limits
    │   ├── CacheError             3   a file changed since it was indexed, or no room
    │   ├── EmbeddingError         3   embeddings with NaN, or that do not match the manifest
    │   ├── SplitError             3   no split with the asked properties exists
    │   └── CheckpointError        3   a checkpoint is damaged or of another network
    ├── NonFiniteLossError         1   training met NaN or infinity
    ├── GateError                  4   a limit set by the user was not met
    └── Interrupted              130   stopped by Ctrl-C or SIGTERM; can be resumed

Every message says what was found, what was expected and what to do, and names the file.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one file, row or column.

    Parameters
    ----------
    file
        The file it was found in, as the user named it.
    found
        What was found, and what was expected instead.
    remedy
        What to do about it.
    row
        Line of a table counted as a spreadsheet shows it: the header is 1, the first record 2.
    column
        Name of the column.
    kind
        A short fixed word to group by, such as ``"duplicate-id"``.
    fatal
        Whether the work cannot go on; otherwise it is a warning.
    """

    file: str
    found: str
    remedy: str
    row: int | None = None
    column: str | None = None
    kind: str = "problem"
    fatal: bool = True

    def __str__(self) -> str:
        place = self.file
        if self.row is not None:
            place += f", row {self.row}"
        if self.column is not None:
            place += f", column {self.column!r}"
        return f"{place}: {self.found} {self.remedy}".rstrip()

    def to_row(self) -> dict[str, object]:
        """Return the problem as a row of ``problems.csv``."""
        return asdict(self)


class MedgleanError(Exception):
    """Base of all errors that medglean raises on purpose."""

    exit_code: ClassVar[int] = 1


class UsageError(MedgleanError):
    """A wrong option, name or combination of options."""

    exit_code = 2


class PresetError(UsageError):
    """A preset that does not exist, or has an unknown key or a bad value."""


class RunFolderError(UsageError):
    """A run folder that exists already, is in use, or is not a run."""


class DataError(MedgleanError):
    """Data that cannot be used as they are."""

    exit_code = 3


class ManifestError(DataError):
    """All problems of a manifest, told together.

    Parameters
    ----------
    problems
        At least one.
    shown
        How many the message spells out; the rest are counted.
    """

    def __init__(self, problems: Iterable[Problem], *, shown: int = 20) -> None:
        self.problems = tuple(problems)
        lines = [f"  {problem}" for problem in self.problems[:shown]]
        left_out = len(self.problems) - shown
        if left_out > 0:
            lines.append(f"  ... and {left_out} more.")
        count = len(self.problems)
        head = f"{count} problem{'' if count == 1 else 's'} in the manifest:"
        super().__init__("\n".join([head, *lines]))


class ReadError(DataError):
    """One image that cannot be read right.

    Parameters
    ----------
    file
        The reference that was asked for.
    found
        What was found, and what was expected instead.
    remedy
        What to do about it.
    """

    def __init__(self, file: str, found: str, remedy: str) -> None:
        self.file, self.found, self.remedy = str(file), found, remedy
        super().__init__(f"{file}: {found} {remedy}".rstrip())

    def __reduce__(self) -> tuple[type[ReadError], tuple[str, str, str]]:
        return type(self), (self.file, self.found, self.remedy)

    def problem(self) -> Problem:
        """Return the error as a row for a list of problems."""
        return Problem(self.file, self.found, self.remedy, kind=type(self).__name__)


class TooLargeError(ReadError):
    """An image that would decode to more bytes than the budget allows."""


class DecoderError(ReadError):
    """A decoder that crashed, hung or outgrew its limits on one image."""


class CacheError(DataError):
    """A file that changed since it was indexed, or a cache that cannot be written."""


class EmbeddingError(DataError):
    """Embeddings that cannot be compared, or that do not belong to the images."""


class SplitError(DataError):
    """No split with the asked properties exists."""


class CheckpointError(DataError):
    """A checkpoint that is damaged, or that belongs to another network."""


class NonFiniteLossError(MedgleanError):
    """Training met a NaN or infinite loss."""


class GateError(MedgleanError):
    """A limit set by the user was not met."""

    exit_code = 4


class Interrupted(MedgleanError):  # noqa: N818 - not a fault: the user asked for it
    """Stopped by Ctrl-C or SIGTERM at a point from which ``--resume`` goes on."""

    exit_code = 130
