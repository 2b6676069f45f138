"""What a rendering has done so far, on disk, so that it can be killed at any moment and go on.

While a slide is worked on, everything lies in ``OUT.part`` beside the output: files that only grow,
and ``state.json``, which says how many bytes of each count. The state is replaced by renaming,
after the bytes it counts are safely on disk; on going on, files are cut to what it says. So a row
of tiles is there wholly or not at all.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from medglean.errors import DataError, RunFolderError
from medglean.files import fsync_folder, write_bytes, write_json
from medglean.runs.disk import told
from medglean.runs.lock import RunLock

STATE = "state.json"
FORMAT = 1
Arrays = Mapping[str, np.ndarray]


class PartFolder:
    """The folder beside an output.

    Parameters
    ----------
    path
        The folder; it is made where there is none.
    identity
        What must be the same on going on: slide, weights, settings.
    resume
        Go on with what is there.

    Attributes
    ----------
    state
        As it was last committed; empty at first.

    Raises
    ------
    RunFolderError
        If the folder is there and ``resume`` is not set, if it belongs to another slide, network
        or settings, if another process works in it, or if the disk is full or forbids it.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], *, resume: bool) -> None:
        self.path, self.identity = path, dict(identity)
        self.state: dict[str, Any] = {}
        self._files: dict[str, IO[bytes]] = {}
        self._lengths: dict[str, int] = {}
        with told(path.parent):
            there = path.is_dir()
            if there and not resume:
                raise RunFolderError(
                    f"{path}: an earlier rendering was stopped here. Go on with --resume, or "
                    "remove this folder."
                )
            path.mkdir(parents=True, exist_ok=True)
        self._lock = RunLock(path)
        self._lock.acquire()
        try:
            if there and (path / STATE).is_file():
                self._take_up()
        except BaseException:
            self.close()
            raise

    def _take_up(self) -> None:
        found: dict[str, Any] = json.loads((self.path / STATE).read_text(encoding="utf-8"))
        theirs = found.get("identity", {})
        different = [key for key in self.identity if theirs.get(key) != self.identity[key]]
        if found.get("format") != FORMAT or different:
            what = ", ".join(different) or "the version of the format"
            raise RunFolderError(
                f"{self.path}: the earlier rendering differs in {what}. Use the same slide, run "
                "and settings as then, or remove this folder and start again."
            )
        self.state = found["state"]
        self._lengths = dict(found["lengths"])
        for name, length in self._lengths.items():
            file = self.path / name
            size = file.stat().st_size if file.is_file() else -1
            if size < length:
                raise RunFolderError(
                    f"{file}: holds {max(size, 0)} bytes, {length} were written: it was damaged "
                    "or removed. Remove the folder and start again."
                )

    def append_to(self, name: str) -> IO[bytes]:
        """Return a file that grows, at the end of what counts; open until the folder is closed."""
        if name not in self._files:
            with told(self.path):
                file = (self.path / name).open("ab")
                file.truncate(self._lengths.get(name, 0))
                file.seek(0, os.SEEK_END)
            self._files[name] = file
        return self._files[name]

    def commit(
        self, state: Mapping[str, Any], arrays: Arrays | None = None, *, whole: bool = False
    ) -> None:
        """Make what was appended count.

        Parameters
        ----------
        state
            What is to be known on going on; JSON.
        arrays
            The same for arrays; they replace those of the last commit.
        whole
            All files are finished, and from now on may be given their names outside.
        """
        with told(self.path):
            for file in self._files.values():
                file.flush()
                os.fsync(file.fileno())
            self._lengths |= {name: file.tell() for name, file in self._files.items()}
            lengths = {} if whole else self._lengths
            kept, earlier = dict(state), self.state.get("arrays")
            if arrays is not None:
                kept["arrays"] = "arrays-0.npz" if earlier == "arrays-1.npz" else "arrays-1.npz"
                into = io.BytesIO()
                np.savez(into, allow_pickle=False, **arrays)
                write_bytes(self.path / kept["arrays"], into.getvalue())
            elif earlier is not None:
                kept["arrays"] = earlier
            said = {"format": FORMAT, "identity": self.identity, "lengths": lengths, "state": kept}
            write_json(self.path / STATE, said)
            self.state = kept

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays of the last commit."""
        if "arrays" not in self.state:
            return {}
        with np.load(self.path / self.state["arrays"]) as kept:
            return dict(kept)

    def publish(self, moves: Mapping[str, Path]) -> None:
        """Give finished files and folders their names outside; done again, it does the rest."""
        with told(self.path):
            for name, final in moves.items():
                if (self.path / name).exists():
                    (self.path / name).replace(final)
            fsync_folder(self.path.parent)

    def cut(self) -> None:
        """Cut every file to what counts; none may be open."""
        for name, length in self._lengths.items():
            if (self.path / name).stat().st_size != length:
                os.truncate(self.path / name, length)

    def close_files(self) -> None:
        """Let go of the files; what was not committed does not count."""
        for file in self._files.values():
            with contextlib.suppress(OSError):  # a full disk has been told before
                file.close()
        self._files.clear()

    def close(self) -> None:
        """Let go of the files, and of the lock."""
        self.close_files()
        self._lock.release()

    def remove(self) -> None:
        """Remove the folder, when all it was for has been published."""
        self.close()
        shutil.rmtree(self.path, ignore_errors=True)


@contextlib.contextmanager
def opened(path: Path, identity: Mapping[str, Any], *, resume: bool) -> Iterator[PartFolder]:
    """Open a `PartFolder`, and close it however the block ends."""
    folder = PartFolder(path, identity, resume=resume)
    try:
        yield folder
    finally:
        folder.close()


def stage_of(path: Path) -> str | None:
    """Return the stage that was last committed in a folder; None where there is none."""
    if not (path / STATE).is_file():
        return None
    state: dict[str, Any] = json.loads((path / STATE).read_text(encoding="utf-8"))["state"]
    return state.get("stage")


def check_room(out: Path, *, needed_bytes: int, there: Path) -> None:
    """Refuse to start where the disk has not the room.

    Parameters
    ----------
    out
        The output; its folder exists.
    needed_bytes
        For everything, while it is worked on.
    there
        A folder whose files count as room already taken, of an earlier attempt.

    Raises
    ------
    DataError
        If there is less free; tells how much is needed.
    """
    taken = sum(file.stat().st_size for file in there.rglob("*") if file.is_file())
    free = shutil.disk_usage(out.parent).free
    if free + taken < needed_bytes:
        raise DataError(
            f"{out}: needs about {needed_bytes / 1e9:.1f} GB of disk, and {free / 1e9:.1f} GB are "
            "free. Free space, choose another disk with --out, or set slide.level=1, "
            "slide.quality=75 or fewer slide.formats."
        )
