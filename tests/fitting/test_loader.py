from __future__ import annotations

import multiprocessing
import os
import signal
import sys

import numpy as np
import pytest
import torch

from medglean.errors import DataError, DecoderError, UsageError
from medglean.fitting import Loader
from medglean.fitting.loader import _start_worker
from medglean.randomness import epoch_order


class Seen:
    """Remembers what it was asked for."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []

    def __call__(self, indices, epoch):
        self.calls.append(indices.tolist())
        return {"index": torch.from_numpy(indices), "epoch": torch.full(indices.shape, epoch)}


class Faulty:
    def __init__(self, deed: str) -> None:
        self.deed = deed

    def __call__(self, indices, epoch):
        if 5 in indices and self.deed == "error":
            raise DecoderError("a.dcm#frame=5", "it crashed.", "Convert it.")
        if 5 in indices and self.deed == "death":
            os.kill(os.getpid(), signal.SIGKILL)
        return {"index": torch.from_numpy(indices)}


def batches(loader, epoch=0, first=0):
    return [batch["index"].tolist() for batch in loader.epoch(epoch, first)]


def test_the_order_is_that_of_seed_and_epoch():
    positions = np.array([10, 20, 30, 40, 50])
    loader = Loader(Seen(), positions, batch_size=2, seed=9)

    for epoch in (0, 1):
        order = positions[epoch_order(9, epoch, 5)].tolist()
        assert batches(loader, epoch) == [order[:2], order[2:4], order[4:]]
        assert [loader.indices(epoch, n).tolist() for n in range(3)] == batches(loader, epoch)
    assert batches(loader, 0) != batches(loader, 1)
    assert loader.batches_per_epoch == 3
    assert [loader.batch_images(n) for n in range(3)] == [2, 2, 1]


def test_the_middle_of_an_epoch_fetches_nothing_that_came_before():
    fetch = Seen()
    loader = Loader(fetch, np.arange(6), batch_size=2, seed=0)

    later = batches(loader, 4, first=2)

    assert later == batches(Loader(Seen(), np.arange(6), batch_size=2, seed=0), 4)[2:]
    assert fetch.calls == later


def test_drop_last_and_no_shuffle():
    loader = Loader(Seen(), np.arange(5), batch_size=2, seed=0, drop_last=True, shuffle=False)
    assert batches(loader) == [[0, 1], [2, 3]]
    assert loader.batches_per_epoch == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_give_the_same_batches_and_leave_nobody_behind(workers):
    plain = Loader(Seen(), np.arange(11), batch_size=2, seed=3)
    loader = Loader(Seen(), np.arange(11), batch_size=2, seed=3, workers=workers)

    for epoch, first in ((0, 0), (1, 3), (2, 0)):
        assert batches(loader, epoch, first) == batches(plain, epoch, first)
    half = loader.epoch(3)
    assert next(half)["index"].tolist() == batches(plain, 3)[0]
    half.close()
    assert batches(loader, 4) == batches(plain, 4)  # what was under way for epoch 3 is dropped

    assert len(multiprocessing.active_children()) == workers
    loader.close()
    assert multiprocessing.active_children() == []


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")
@pytest.mark.parametrize(("parent_lives", "code"), [(True, 0), (False, 1)])
def test_a_worker_whose_parent_died_before_it_began_ends(parent_lives, code):
    # seen in a soak: killed between fork and the worker's first line, it lived on for ever and
    # held the lock of the run
    parent = os.getpid() if parent_lives else os.getpid() + 1
    child = os.fork()
    if child == 0:
        _start_worker(0, parent=parent)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == code


def test_loading_does_not_touch_the_global_generator():
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    loader = Loader(Seen(), np.arange(4), batch_size=2, seed=0, workers=1)
    batches(loader)
    loader.close()
    assert torch.equal(torch.rand(1), expected)


def test_devices_share_out_each_batch():
    whole = Loader(Seen(), np.arange(10), batch_size=4, seed=1)
    parts = [whole.for_device(rank=rank, world_size=2, pin_memory=False) for rank in (0, 1)]

    full = batches(whole)
    shared = [batches(part) for part in parts]

    assert [one + two for one, two in zip(*shared, strict=True)] == full


def test_a_last_batch_that_cannot_be_shared_is_filled_up_from_the_first():
    whole = Loader(Seen(), np.arange(7), batch_size=4, seed=1)
    parts = [whole.for_device(rank=rank, world_size=2, pin_memory=False) for rank in (0, 1)]

    last = [batches(part)[-1] for part in parts]

    assert [len(part) for part in last] == [2, 2]
    assert last[0] + last[1] == [*batches(whole)[-1], batches(whole)[0][0]]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_keeps_its_type(workers):
    loader = Loader(
        Faulty("error"), np.arange(8), batch_size=2, seed=0, workers=workers, shuffle=False
    )
    with pytest.raises(DecoderError, match=r"a.dcm#frame=5: it crashed. Convert it."):
        batches(loader)
    loader.close()


def test_a_worker_that_dies_is_explained():
    loader = Loader(Faulty("death"), np.arange(8), batch_size=2, seed=0, workers=1, shuffle=False)
    with pytest.raises(DataError, match=r"a process that loads batches died.*fewer workers"):
        batches(loader)
    loader.close()
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(
    ("positions", "options", "message"),
    [
        ([], {}, "the split is empty"),
        ([1], {"drop_last": True}, "1 images make no whole batch of 4"),
        ([1], {"world_size": 3}, "batch_size 4 cannot be shared out among 3 devices"),
    ],
)
def test_what_makes_no_batch_is_refused(positions, options, message):
    with pytest.raises(UsageError, match=message):
        Loader(Seen(), np.array(positions), batch_size=4, seed=0, **options)


def test_the_fingerprint_depends_on_the_images_and_the_batches():
    base = Loader(Seen(), np.arange(5), batch_size=2, seed=0)
    assert base.fingerprint() == Loader(Seen(), np.arange(5), batch_size=2, seed=0).fingerprint()
    others = [
        Loader(Seen(), np.arange(6), batch_size=2, seed=0),
        Loader(Seen(), np.arange(5)[::-1], batch_size=2, seed=0),
        Loader(Seen(), np.arange(5), batch_size=3, seed=0),
        Loader(Seen(), np.arange(5), batch_size=2, seed=0, shuffle=False),
    ]
    assert base.fingerprint() not in {other.fingerprint() for other in others}
