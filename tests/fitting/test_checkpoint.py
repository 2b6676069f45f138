from __future__ import annotations

import errno
import os
import resource
import time

import pytest
import safetensors.torch
import torch
from torch import nn

from medglean.errors import CheckpointError
from medglean.fitting import checkpoint

TENSORS = {
    "a": torch.arange(6.0).reshape(2, 3),
    "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "step": torch.tensor(7.0),
    "count": torch.tensor([3], dtype=torch.int64),
}


@pytest.fixture
def folder(tmp_path):
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, {**TENSORS, "a": TENSORS["a"] * step}, {"step": step, "x": "é"})
    return tmp_path


def test_what_was_saved_comes_back(folder):
    found = checkpoint.latest(folder)

    assert found is not None
    assert found.facts == {"step": 3, "x": "é", "format": 1}
    assert torch.equal(found.tensors["a"], TENSORS["a"] * 3)
    assert found.tensors["half"].dtype == torch.bfloat16
    assert found.tensors["step"].shape == ()
    assert found.warnings == ()


def test_the_newest_two_are_kept_and_nothing_else(folder):
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["last-0000000002.safetensors", "last-0000000003.safetensors"]


def test_other_software_can_read_it(folder):
    theirs = safetensors.torch.load_file(folder / "last-0000000003.safetensors")
    assert torch.equal(theirs["a"], TENSORS["a"] * 3)


def test_every_flipped_bit_is_seen(folder):
    path = folder / "last-0000000003.safetensors"
    good = path.read_bytes()
    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(CheckpointError, match=r"last-0000000003.safetensors: damaged"):
            checkpoint.read(path)


@pytest.mark.parametrize("kept", [0, 5, 40, -1])
def test_a_damaged_one_is_set_aside_and_the_one_before_is_used(folder, kept):
    path = folder / "last-0000000003.safetensors"
    path.write_bytes(path.read_bytes()[:kept])

    found = checkpoint.latest(folder)

    assert found is not None
    assert found.facts["step"] == 2
    assert len(found.warnings) == 1
    assert "last-0000000003.safetensors: damaged or cut short" in found.warnings[0]
    assert "last-0000000002.safetensors is used instead" in found.warnings[0]
    assert (folder / "damaged-0000000003.safetensors").exists()
    again = checkpoint.latest(folder)
    assert again is not None
    assert again.warnings == ()


def test_where_all_are_damaged_it_says_so_every_time(folder):
    for path in folder.iterdir():
        path.write_bytes(b"no")
    for _ in range(2):
        with pytest.raises(CheckpointError, match="none of 2 checkpoints is whole"):
            checkpoint.latest(folder)


def test_a_foreign_file_is_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="not a checkpoint of medglean"):
        checkpoint.read(path)


def test_a_later_layout_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    checkpoint.save(tmp_path, TENSORS, {"step": 1})
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="layout 2, this version reads 1"):
        checkpoint.read(checkpoint.path_of(tmp_path, 1))


def test_tied_weights_can_be_saved(tmp_path):
    weight = torch.ones(3)
    path = tmp_path / "tied.safetensors"
    checkpoint.write(path, {"one": weight, "two": weight[:2], "three": weight}, {})
    assert torch.equal(checkpoint.read(path).tensors["two"], torch.ones(2))


def test_a_full_disk_is_told_and_the_last_good_one_kept(folder, monkeypatch):
    real = os.fdopen

    def full(*args, **options):
        file = real(*args, **options)

        class Full:
            def write(self, data):
                file.write(data[:100])
                raise OSError(errno.ENOSPC, "No space left on device")

            def __enter__(self):
                file.__enter__()
                return self

            def __exit__(self, *problem):
                return file.__exit__(*problem)

        return Full()

    monkeypatch.setattr(os, "fdopen", full)
    with pytest.raises(CheckpointError, match=r"cannot be written \(No space left on device\)"):
        checkpoint.save(folder, TENSORS, {"step": 4})
    monkeypatch.undo()

    assert [path.name for path in folder.glob(".*")] == []
    found = checkpoint.latest(folder)
    assert found is not None
    assert found.facts["step"] == 3


def test_a_file_size_limit_is_told_too(folder):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        with pytest.raises(CheckpointError, match=r"cannot be written \(File too large\).*0.4 MB"):
            checkpoint.save(folder, {"big": torch.zeros(100_000)}, {"step": 4})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert checkpoint.latest(folder).facts["step"] == 3


def test_an_architecture_that_differs_is_told_key_by_key(tmp_path):
    path = tmp_path / "best.safetensors"
    trained = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2, bias=False))
    checkpoint.write(path, checkpoint.pack_networks("", {"net": trained}), {"step": 1})
    other = nn.Sequential(nn.Linear(4, 5), nn.Linear(3, 2))
    before = other[0].weight.clone()

    with pytest.raises(CheckpointError) as caught:
        checkpoint.load_weights(path, {"net": other})

    text = str(caught.value)
    assert "made by another architecture; 5 keys differ" in text
    assert "missing: net.1.weight" in text
    assert "not expected: net.2.weight" in text
    assert "net.0.weight: (3, 4) float32 in the file, (5, 4) float32 in the network" in text
    assert torch.equal(other[0].weight, before)


def test_weights_load_into_the_same_architecture(tmp_path):
    path = tmp_path / "best.safetensors"
    trained, fresh = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    trained(torch.tensor([[1.0, 2.0], [3.0, 5.0]]))
    checkpoint.write(path, checkpoint.pack_networks("", {"net": trained}), {"value": 0.5})

    assert checkpoint.load_weights(path, {"net": fresh})["value"] == 0.5
    assert torch.equal(fresh.running_mean, trained.running_mean)


def test_left_overs_of_killed_writers_are_removed_once_they_are_old(folder):
    dead = folder / ".last-0000000009.safetensors.999999-0a1b2c3d.tmp"
    fresh = folder / ".last-0000000009.safetensors.999999-ffffffff.tmp"
    alive = folder / f".last-0000000009.safetensors.{os.getpid()}-0a1b2c3d.tmp"
    for path in (dead, fresh, alive):
        path.write_bytes(b"half")
    long_ago = time.time() - 3600
    os.utime(dead, (long_ago, long_ago))
    os.utime(alive, (long_ago, long_ago))

    checkpoint.save(folder, TENSORS, {"step": 4})

    assert not dead.exists()
    assert fresh.exists()
    assert alive.exists()


def test_the_last_weights_are_the_averaged_ones_where_there_is_an_average(tmp_path):
    network = nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1))
    tensors = {f"network.net.{key}": value for key, value in network.state_dict().items()}
    average = torch.full((1, 2), 7.0)
    path = checkpoint.save(
        tmp_path / "checkpoints", {**tensors, "ema.net.0.weight": average}, {"step": 3}
    )
    fresh = nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1))

    facts = checkpoint.load_last(path, {"net": fresh})

    assert facts["step"] == 3
    assert torch.equal(fresh[0].weight, average)
    assert torch.equal(fresh[0].bias, network[0].bias)
