"""Encoders for the tests; in a module of their own because workers unpickle them by name."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medglean.errors import Problem, ReadError


@dataclass(frozen=True)
class TableEncoder:
    """Gives each id its row of a table on disk; fails for some ids, and warns of ``odd`` ones.

    ``log`` gets one line for each call, so that a test sees what was computed.
    """

    table: Path
    log: Path | None = None
    fails: tuple[str, ...] = ()
    nan: tuple[str, ...] = ()
    zero: tuple[str, ...] = ()
    odd: tuple[str, ...] = ()
    slow_s: float = 0.0

    @property
    def record(self):
        return {"name": "table", "sha256": hashlib.sha256(self.table.read_bytes()).hexdigest()}

    def encode(self, manifest):
        ids = manifest.ids
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(f"{ids[0]} {len(ids)}\n")
        time.sleep(self.slow_s)
        for name in ids:
            if name in self.fails:
                raise ReadError(f"{name}.png", "cut short.", "Copy it again.")
        values = np.load(self.table)[[int(name) for name in ids]].astype(np.float32)
        values[[name in self.nan for name in ids]] = np.nan
        values[[name in self.zero for name in ids]] = 0
        odd = [name for name in ids if name in self.odd]
        return values, [Problem(name, "odd.", "Look at it.", fatal=False) for name in odd]
