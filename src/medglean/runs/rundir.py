"""What was done: one folder per run, the only place where results are written.

::

    run.json            command, hashes of manifest and split, seed, times
    preset.toml         the resolved settings
    environment.json    versions and machine kind
    log.txt             one line per event, in UTC
    metrics.json        numbers
    results.parquet     one row per image, and the same as results.csv
    problems.csv        files that could not be used, and why
    checkpoints/        written by the training loop
    report.html         and report.json
    failed.json         why it failed, if it did
    done                written last
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import medglean
from medglean.errors import Interrupted, MedgleanError, Problem, RunFolderError
from medglean.files import write_bytes
from medglean.runs.disk import log_into, told
from medglean.runs.environment import describe_environment, utc_now, without_home
from medglean.runs.lock import HOLDER_NAME, LOCK_NAME, RunLock, describe_holder, is_locked
from medglean.runs.tables import json_ready, problems_csv

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1
Status = Literal["running", "interrupted", "done", "failed"]
log = logging.getLogger("medglean")


class RunFolder:
    """A run on disk; made by `RunFolder.create` or `RunFolder.open`.

    As a context manager it gives the lock back at the end. An error inside marks the run as
    failed; Ctrl-C and `Interrupted` leave it to be resumed.

    Attributes
    ----------
    path
        The folder.
    record
        The content of ``run.json``.
    """

    def __init__(self, path: Path, record: Mapping[str, Any], lock: RunLock | None) -> None:
        self.path = path
        self.record = dict(record)
        self._lock = lock
        self._handler: logging.Handler | None = None

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        preset_toml: str,
        command: Sequence[str],
        manifest_hash: str,
        seed: int,
        split_hash: str | None = None,
        asked: Mapping[str, str | int | float | None] | None = None,
        task: str = "",
        resume: bool = False,
        may_change: Collection[str] = (),
    ) -> RunFolder:
        """Make a run folder, or go on with one, and take its lock.

        Parameters
        ----------
        path
            Must not exist or be empty, unless ``resume`` is set.
        preset_toml
            The resolved settings.
        command
            The command line; the home folder in it is written ``~``.
        manifest_hash, split_hash
            SHA-256 of what the run works on.
        seed
            Of everything random.
        asked
            What else decides the work and is no setting, such as the budget of a curation.
        task
            Such as ``"classify"``.
        resume
            Go on with the run that is there; starts one where there is none. A run that is done
            is returned as it is: look at ``is_done``.
        may_change
            Dotted keys of the preset, such as ``"fit.workers"``, or whole tables, such as
            ``"study"``, that may differ when resuming.

        Raises
        ------
        RunFolderError
            If the folder is not empty, in use, not a run, of another preset, manifest, split or
            seed, or cannot be written.
        """
        path = Path(path)
        with told(path):
            path.mkdir(parents=True, exist_ok=True)
            _refuse_taken(path, resume=resume)
            lock = RunLock(path)
            lock.acquire()
            try:
                _refuse_taken(path, resume=resume)  # another process may have been quicker
                record = {
                    "format": FORMAT,
                    "medglean": medglean.__version__,
                    "task": task,
                    "created": utc_now(),
                    "command": [without_home(word) for word in command],
                    "manifest_hash": manifest_hash,
                    "split_hash": split_hash,
                    "asked": dict(asked or {}),
                    "seed": seed,
                    "resumed": [],
                }
                if (path / "run.json").exists():
                    record = _continued(path, record, preset_toml, may_change)
                run = cls(path, record, lock)
                if not run.is_done:
                    run._begin(preset_toml, command)
            except BaseException:
                lock.release()
                raise
        return run

    @classmethod
    def open(cls, path: Path, *, write: bool = False) -> RunFolder:
        """Open a run to read it, or with ``write`` to add to it under its lock.

        Raises
        ------
        RunFolderError
            If it is not a run, is of a newer format, or is in use while ``write`` is asked for.
        """
        path = Path(path)
        record = _read_record(path)
        if not (path / "preset.toml").is_file():
            raise RunFolderError(
                f"{path}: not a whole run: preset.toml is missing. Start it again with --resume."
            )
        lock = RunLock(path) if write else None
        if lock is not None:
            with told(path):
                lock.acquire()
        return cls(path, record, lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            stopped = isinstance(error, Interrupted | KeyboardInterrupt | SystemExit)
            if error is not None and not stopped and not self.is_done:
                # The text of an error that is not ours may quote what it worked on: left out.
                text = str(error) if isinstance(error, MedgleanError) else ""
                with contextlib.suppress(OSError, RunFolderError):  # the first error matters more
                    self.fail(f"{type(error).__name__}: {text}".rstrip(": "))
        finally:
            self.close()

    @property
    def is_done(self) -> bool:
        """Whether the run came to its end."""
        return (self.path / "done").exists()

    @property
    def preset_path(self) -> Path:
        """The resolved settings, for `load_preset`."""
        return self.path / "preset.toml"

    @property
    def checkpoints(self) -> Path:
        """Where the training loop keeps its files."""
        return self.path / "checkpoints"

    def status(self) -> Status:
        """Tell whether the run is done, running, failed, or interrupted and resumable."""
        if self.is_done:
            return "done"
        if (self._lock is not None) or is_locked(self.path):
            return "running"
        return "failed" if (self.path / "failed.json").exists() else "interrupted"

    def write(self, name: str, data: bytes | str) -> Path:
        """Write a file whole, or leave the old one; ``name`` may name a subfolder."""
        if self._lock is None:
            raise RunFolderError(f"{self.path}: opened for reading. Open it with write=True.")
        if self.is_done:
            raise RunFolderError(
                f"{self.path}: this run is done and stays as it is. Write to another folder."
            )
        file = self.path / name
        with told(self.path):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(file, data.encode() if isinstance(data, str) else data)
        return file

    def write_json(self, name: str, value: Any) -> Path:  # noqa: ANN401 - whatever JSON can say
        """Write a value as JSON; NaN becomes null."""
        text = json.dumps(json_ready(value), indent=2, ensure_ascii=False, allow_nan=False)
        return self.write(name, text + "\n")

    def read_json(self, name: str) -> Any:  # noqa: ANN401 - whatever JSON can say
        """Read a JSON file of this run.

        Raises
        ------
        RunFolderError
            If it is missing or damaged.
        """
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunFolderError(
                f"{self.path / name}: expected a JSON file, found {_reason(error)}. "
                "The run may not have come that far: see its log.txt."
            ) from error

    def write_metrics(self, metrics: Mapping[str, Any]) -> Path:
        """Write ``metrics.json``."""
        return self.write_json("metrics.json", metrics)

    def write_results(self, frame: pd.DataFrame, *, name: str = "results") -> tuple[Path, Path]:
        """Write a table with one row per image as Parquet and as CSV; return both paths."""
        parquet = io.BytesIO()
        frame.to_parquet(parquet, index=False)
        return (
            self.write(f"{name}.parquet", parquet.getvalue()),
            self.write(f"{name}.csv", frame.to_csv(index=False, lineterminator="\n")),
        )

    def write_problems(self, problems: Iterable[Problem]) -> Path:
        """Write ``problems.csv``, also when there are none: an empty list says so."""
        return self.write("problems.csv", problems_csv(problems))

    def finish(self) -> None:
        """Write the ``done`` mark; nothing can be written afterwards."""
        log.info("done")
        (self.path / "failed.json").unlink(missing_ok=True)
        self.write("done", utc_now() + "\n")

    def fail(self, reason: str) -> None:
        """Mark the run as failed, in a sentence without patient data."""
        log.error("failed: %s", reason)
        self.write_json("failed.json", {"time": utc_now(), "reason": reason})

    def close(self) -> None:
        """Stop logging into the folder and give the lock back."""
        if self._handler is not None:
            log.removeHandler(self._handler)
            self._handler.close()
            self._handler = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _begin(self, preset_toml: str, command: Sequence[str]) -> None:
        """Write what is known before the work starts; ``run.json`` first, for it makes a run."""
        self.write_json("run.json", self.record)
        self.write("preset.toml", preset_toml)
        resumed = self.record["resumed"]
        suffix = f"-{len(resumed)}" if resumed else ""
        self.write_json(f"environment{suffix}.json", describe_environment(command))
        (self.path / "failed.json").unlink(missing_ok=True)
        self._handler = log_into(self.path / "log.txt")
        log.info("%s with medglean %s", "resumed" if resumed else "started", medglean.__version__)


def _refuse_taken(path: Path, *, resume: bool) -> None:
    """Refuse a folder that holds anything, unless it is a run to resume."""
    others = [
        entry.name
        for entry in path.iterdir()
        if entry.name not in {LOCK_NAME, HOLDER_NAME} and not entry.name.endswith(".tmp")
    ]
    if not others:
        return
    is_run = "run.json" in others
    if not is_run:
        raise RunFolderError(
            f"{path}: not empty and not a run (found {sorted(others)[0]!r}). Choose another folder "
            "with --out; nothing was changed."
        )
    if not resume:
        held = f", in use by {describe_holder(path)}" if is_locked(path) else ""
        raise RunFolderError(
            f"{path}: a run is here already{held}. Choose another folder with --out, or go on with "
            "this one with --resume; nothing was changed."
        )


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads((path / "run.json").read_text(encoding="utf-8"))
        version = record["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFolderError(
            f"{path}: not a run: expected run.json, found {_reason(error)}. Give the folder that "
            "was named with --out."
        ) from error
    if version != FORMAT:
        raise RunFolderError(
            f"{path}: run.json has format {version}, this medglean reads {FORMAT}. Use the version "
            f"that wrote it: {record.get('medglean', 'unknown')}."
        )
    return dict(record)


def _continued(
    path: Path, record: Mapping[str, Any], preset_toml: str, may_change: Collection[str]
) -> dict[str, Any]:
    """Return the old record with a new time, if the work asked for is the same."""
    before = _read_record(path)
    different = [
        f"{key}: {before.get(key)} then, {record[key]} now"
        for key in ("task", "manifest_hash", "split_hash", "seed")
        if before.get(key) != record[key]
    ]
    then, now = before.get("asked", {}), record["asked"]
    different += [
        f"{key}: {then.get(key)} then, {now.get(key)} now"
        for key in sorted(then.keys() | now.keys())
        if then.get(key) != now.get(key)
    ]
    if (path / "preset.toml").exists():
        then = _flat(tomllib.loads((path / "preset.toml").read_text(encoding="utf-8")))
        now = _flat(tomllib.loads(preset_toml))
        different += [
            f"{key}: {then.get(key, 'unset')!r} then, {now.get(key, 'unset')!r} now"
            for key in sorted(then.keys() | now.keys())
            if then.get(key) != now.get(key) and not _may_change(key, may_change)
        ]
    if different:
        lines = "\n".join(f"  {line}" for line in different)
        raise RunFolderError(
            f"{path}: cannot go on, for this would be other work:\n{lines}\nResume with the same "
            "manifest and settings, or start anew with another --out."
        )
    return {**before, "resumed": [*before.get("resumed", []), utc_now()]}


def _may_change(key: str, allowed: Collection[str]) -> bool:
    """Say whether a setting, or a table that it stands in, is among those that may change."""
    parts = key.split(".")
    return any(".".join(parts[:count]) in allowed for count in range(1, len(parts) + 1))


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return "damaged content"
