"""A run on a Ray cluster of two CPUs, killed and taken up again; and what is refused."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.curate.shards.clips import clip_manifest, clip_values
from tests.curate.shards.encoders import TableEncoder
from tests.curate.shards.here import in_this_process

from medglean.curate.shards import engine
from medglean.curate.shards.cluster import connect
from medglean.curate.shards.engine import run_sharded
from medglean.errors import UsageError

SHARDS = 4
OPTIONS = {"shards": SHARDS, "budget": 30, "start": 6, "seed": 3, "batch": 32, "cpus": 2}

DRIVER = """
import sys
from pathlib import Path
from tests.curate.shards.encoders import TableEncoder
from tests.curate.shards.test_cluster import OPTIONS
from medglean.data.manifest import Manifest
from medglean.curate.shards.engine import run_sharded

manifest = Manifest.read(sys.argv[1])
encoder = TableEncoder(manifest.root / "table.npy", slow_s=0.4)
run_sharded(manifest, encoder=encoder, out=Path(sys.argv[2]), **OPTIONS)
"""


@pytest.fixture
def manifest(tmp_path):
    values, clip = clip_values(240, clips=16, spread=0.05)
    np.save(tmp_path / "table.npy", values)
    return clip_manifest(clip, tmp_path).write(tmp_path / "manifest.parquet")


def kill_after_the_first_mark(process, marks):
    """Send SIGKILL as soon as a shard is marked as done."""
    try:
        deadline = time.monotonic() + 150
        while not list(marks.glob("*.done.json")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def bytes_of(folder, kind):
    return {part.name: part.read_bytes() for part in (folder / kind).glob("*.parquet")}


@pytest.mark.slow
# Ray Data 2.60 reads settings of its own that it has deprecated itself
@pytest.mark.filterwarnings(
    "ignore:`use_(push_based_shuffle|polars|arrow_tensor_v2)` is deprecated:DeprecationWarning"
)
def test_killed_after_the_first_shard_it_goes_on_to_the_same_bits(manifest, tmp_path, monkeypatch):
    folder, log, unbroken = tmp_path / "run", tmp_path / "log.txt", tmp_path / "unbroken"
    command = [sys.executable, "-c", DRIVER, str(manifest.path), str(folder)]
    root = Path(__file__).resolve().parents[3]
    process = subprocess.Popen(command, cwd=root, stderr=subprocess.DEVNULL)
    kill_after_the_first_mark(process, folder / "embeddings")
    # a worker may outlive the driver for a moment; what it still writes is whole or not there
    marks = (folder / "embeddings").glob("*.done.json")
    done = {int(json.loads(mark.read_text())["shard"]) for mark in marks}

    encoder = TableEncoder(manifest.root / "table.npy", log=log)
    resumed = run_sharded(manifest, encoder=encoder, out=folder, **OPTIONS)

    monkeypatch.setattr(engine, "connect", in_this_process)
    plain = TableEncoder(manifest.root / "table.npy")
    whole = run_sharded(manifest, encoder=plain, out=unbroken, **OPTIONS)
    firsts = {int(line.split()[0]) for line in log.read_text().splitlines()}
    embedded = {int(whole.plan.shard_of[row]) for row in firsts}
    assert 1 <= len(done) < SHARDS
    assert not embedded & done
    assert resumed.problems == ()
    assert resumed.ranking.order.tolist() == whole.ranking.order.tolist()
    assert resumed.ranking.similarity.tobytes() == whole.ranking.similarity.tobytes()
    for kind in ("embeddings", "candidates"):
        assert bytes_of(folder, kind) == bytes_of(unbroken, kind)
    for shard in range(SHARDS):
        name = f"coverage/part-{shard:05d}.parquet"
        ours, theirs = pq.read_table(folder / name), pq.read_table(unbroken / name)
        # matrix products: their last bits depend on the number of threads
        np.testing.assert_allclose(ours["similarity"], theirs["similarity"], atol=1e-14)


def test_without_ray_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)

    with pytest.raises(UsageError, match=r"pip install 'medglean\[ray\]'"), connect():
        pass


@pytest.mark.parametrize(
    ("options", "message"),
    [({"cpus": 1}, "at least 2 CPUs"), ({"address": "auto", "cpus": 4}, "Give one of the two")],
)
def test_a_cluster_that_cannot_be_is_refused(options, message):
    with pytest.raises(UsageError, match=message), connect(**options):
        pass
