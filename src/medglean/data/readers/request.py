"""What one call of ``read`` was asked for, with the errors and limits that every reader shares."""

from __future__ import annotations

import math
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from medglean.data.readers.volumes import Volumes
from medglean.data.reference import ImageReference
from medglean.errors import ReadError, TooLargeError

DEFAULT_BUDGET_BYTES = 1 << 30
"""Most bytes that one image may decode to unless caller or environment say else: 1 GiB."""

BUDGET_VARIABLE = "MEDGLEAN_BUDGET_BYTES"


def budget_from(argument: int | None) -> int:
    """Return the byte budget: the argument, else the environment's, else the default.

    Raises
    ------
    ReadError
        If the environment variable is not a whole number above 0.
    """
    if argument is not None:
        return argument
    text = os.environ.get(BUDGET_VARIABLE)
    if text is None:
        return DEFAULT_BUDGET_BYTES
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise ReadError(
            BUDGET_VARIABLE,
            f"the environment variable is {text!r}, expected a whole number of bytes above 0.",
            "Set it to a number such as 4294967296, or unset it.",
        )
    return int(text)


@dataclass(frozen=True)
class Request:
    """An image reference, the file it points to, and how much it may decode to.

    Attributes
    ----------
    name
        The reference as the user wrote it: what messages name.
    path
        The file on disk.
    fragment
        Which part of it is asked for.
    budget_bytes
        Most bytes of samples that may be decoded.
    volumes
        Where inflated volumes are kept; ``None``: nowhere.
    """

    name: str
    path: Path
    fragment: ImageReference
    budget_bytes: int
    volumes: Volumes | None = None

    @classmethod
    def of(
        cls,
        reference: str | Path | ImageReference,
        *,
        root: Path | None,
        budget_bytes: int | None,
        volumes: Volumes | None = None,
    ) -> Request:
        """Turn what a caller gave into a request; text is parsed, a ``Path`` is taken literally."""
        if isinstance(reference, Path):
            reference = ImageReference(str(reference))
        elif isinstance(reference, str):
            reference = ImageReference.parse(reference)
        path = Path(reference.path) if root is None else root / reference.path
        return cls(str(reference), path, reference, budget_from(budget_bytes), volumes)

    def error(self, found: str, remedy: str) -> ReadError:
        """Return an error that names the reference."""
        return ReadError(self.name, found, remedy)

    def option(self, key: str) -> int | None:
        """Return the number that the fragment gives for a key."""
        return self.fragment.option(key)

    def allow(self, kind: str, *keys: str) -> None:
        """Refuse a fragment with other keys than these, which are what ``kind`` has."""
        for key, _ in self.fragment.fragment:
            if key not in keys:
                known = f"understands only {', '.join(keys)}" if keys else "has no parts to name"
                raise self.error(
                    f"the fragment says {key!r}, but {kind} {known}.",
                    "Correct the fragment, or leave it away.",
                )

    def pick(self, key: str, count: int, *, noun: str) -> int | None:
        """Return which of ``count`` parts the fragment names, ``None`` where it names none."""
        value = self.option(key)
        if value is not None and value >= count:
            raise self.error(
                f"{key}={value} is asked for, but the file has {count} {noun}(s), "
                f"numbered 0 to {count - 1}.",
                f"Write a {key} from 0 to {count - 1}.",
            )
        return value

    def check_budget(
        self, shape: tuple[int, ...], bytes_per_sample: float, *, remedy: str = ""
    ) -> None:
        """Refuse what would decode to more bytes than the budget.

        Parameters
        ----------
        shape
            The shape after decoding, as the header claims it.
        bytes_per_sample
            Bytes that one sample takes in memory.
        remedy
            What else can be done than raising the budget.
        """
        need = math.ceil(math.prod(shape) * bytes_per_sample)
        if need > self.budget_bytes:
            size = " x ".join(str(length) for length in shape)
            raise TooLargeError(
                self.name,
                f"the header claims {size} samples, {need:,} bytes once decoded; "
                f"the budget is {self.budget_bytes:,}.",
                remedy + "If the file is sound, raise the budget: budget_bytes=... or "
                f"{BUDGET_VARIABLE}={need}.",
            )

    def check_file(self) -> int:
        """Return the file's size in bytes once it is sure to be a readable, ordinary file.

        Raises
        ------
        ReadError
            If it is missing, empty, a folder, a pipe or device, or may not be read.
        """
        try:
            status = self.path.stat()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise self._missing() from error
        except OSError as error:
            raise self.unreadable(error) from error
        if stat.S_ISDIR(status.st_mode):
            raise self.error(
                "it is a folder, expected an image file.", "Name one file inside it, or index it."
            )
        if not stat.S_ISREG(status.st_mode):
            raise self.error(
                "it is a pipe, socket or device, expected an image file.", "Name a file on disk."
            )
        if status.st_size == 0:
            raise self.error("the file is empty (0 bytes).", "Copy it again from its source.")
        return status.st_size

    def check_loadable(self) -> None:
        """Refuse a file that is itself far larger than what it may decode to."""
        size, limit = self.path.stat().st_size, 2 * self.budget_bytes + (1 << 20)
        if size > limit:
            raise TooLargeError(
                self.name,
                f"the file has {size:,} bytes, which must be loaded whole; with a budget of "
                f"{self.budget_bytes:,} at most {limit:,} are.",
                f"If it is sound, raise the budget: budget_bytes=... or {BUDGET_VARIABLE}={size}.",
            )

    def read_bytes(self) -> bytes:
        """Return the file's whole content."""
        self.check_loadable()
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise self.unreadable(error) from error

    def unreadable(self, error: OSError) -> ReadError:
        """Return the error for a file that the system does not let us read."""
        reason = error.strerror or type(error).__name__
        return self.error(
            f"the file cannot be read ({reason}).", "Check its permissions and the disk."
        )

    def _missing(self) -> ReadError:
        remedy = "Paths in a manifest are relative to the manifest's folder."
        if "#" in self.path.name:
            remedy += " A Path is taken literally: give text to name a part of a file."
        return self.error("no such file.", remedy)

    def truncated(self, kind: str, detail: str) -> ReadError:
        """Return the error for a file that ends early or is damaged inside."""
        return self.error(
            f"the {kind} is truncated or damaged ({detail}).",
            "Copy it again from its source; half a picture is never returned.",
        )
