"""Where a run took place, without saying whose machine it was.

Neither host, user nor home folder are told, and no environment variables.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import medglean

_PACKAGE = Path(medglean.__file__).resolve().parent


def utc_now() -> str:
    """Return the time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def describe_environment(command: Sequence[str] | None = None) -> dict[str, Any]:
    """Return what is needed to tell why two runs differ, as JSON-able values.

    Parameters
    ----------
    command
        The command line; by default this process's. The home folder is written ``~``.

    Returns
    -------
    dict
        Time, command, medglean's version and git commit, Python, kind of platform, CPU, memory in
        bytes, torch with its devices, and the versions of the packages medglean rests on.
    """
    return {
        "time": utc_now(),
        "command": [without_home(word) for word in (sys.argv if command is None else command)],
        "medglean": {"version": medglean.__version__, "git": git_commit(_PACKAGE)},
        "python": platform.python_version(),
        "platform": {"system": platform.system(), "machine": platform.machine()},
        "cpu": {"model": _cpu_model(), "count": _cpu_count()},
        "memory_bytes": _memory_bytes(),
        "torch": _torch(),
        "packages": _package_versions(),
    }


def without_home(text: str) -> str:
    """Write the user's home folder as ``~`` wherever it stands in a text.

    Examples
    --------
    >>> import pathlib
    >>> without_home(f"--out={pathlib.Path.home()}/runs/a")
    '--out=~/runs/a'
    """
    home = str(Path.home())
    if len(home) < 2:  # a home of "/" names nobody
        return text
    return re.sub(re.escape(home) + r"(?=[/\\]|$)", "~", text)


def git_commit(package: Path) -> str | None:
    """Return the commit of medglean's own working tree, with ``+changes`` where files differ.

    None where medglean was installed: the repository around a virtual environment is not ours.
    """
    root = package.parents[1]
    try:
        top = _git(root, "rev-parse", "--show-toplevel")
        if Path(top).resolve() != root.resolve():
            return None
        commit = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+changes" if changed else "")


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", *words], cwd=folder, capture_output=True, text=True, timeout=10, check=True
    )
    return done.stdout.strip()


def _cpu_model() -> str:
    """Return the processor's name, or its architecture where the system does not tell."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine()
    named = re.search(r"^model name\s*:\s*(.+)$", text, flags=re.MULTILINE)
    return named.group(1).strip() if named else platform.machine()


def _cpu_count() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _torch() -> dict[str, Any]:
    import torch

    devices = [
        {
            "name": torch.cuda.get_device_name(index),
            "memory_bytes": torch.cuda.get_device_properties(index).total_memory,
        }
        for index in range(torch.cuda.device_count())
    ]
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "devices": devices,
        "threads": torch.get_num_threads(),
    }


def _package_versions() -> dict[str, str]:
    """Return the installed version of each package that medglean requires."""
    try:
        required = importlib.metadata.requires("medglean") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    names = {re.split(r"[^A-Za-z0-9._-]", line)[0] for line in required if "extra ==" not in line}
    versions = {}
    for name in sorted(names):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
