"""Batches in an order that is a function of (seed, epoch), from any point of an epoch on.

A batch is named by its epoch and its number; nothing else decides what is in it. So it is the
same for 0, 1 or many worker processes, and a resumed run starts in the middle of an epoch without
decoding what came before.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import signal
import sys
from collections.abc import Generator, Iterator, Sequence, Sized
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import torch
from jaxtyping import Int
from torch.utils.data import DataLoader, Dataset

from medglean.errors import DataError, MedgleanError, UsageError
from medglean.randomness import epoch_order

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

Batch = dict[str, torch.Tensor]
"""Tensors by name whose first axis is the image; ``"index"`` says which images they are."""


class Fetch(Protocol):
    """What turns positions into a batch: a pure function of its two arguments."""

    def __call__(self, indices: Int[np.ndarray, " b"], epoch: int) -> Batch:
        """Return the images at ``indices`` as they look in this epoch."""
        ...


class Loader:
    """The batches of one split.

    Parameters
    ----------
    fetch
        Called as ``fetch(indices, epoch)``. It must draw nothing from a global generator, and be
        picklable where processes are not forked (macOS, Windows).
    positions
        Rows of the manifest that this split has, shape (n,).
    batch_size
        Images per batch over all devices; the last batch of an epoch may be smaller.
    seed
        Seed of the order.
    workers
        Processes that fetch; 0: this one does.
    rank, world_size
        Which device's part of every batch this loader gives, of how many.
    drop_last
        Leave out a last batch that is smaller than the others.
    shuffle
        Whether each epoch has its own order; otherwise that of ``positions``.
    ids
        Id of every row of the manifest, for messages.
    pin_memory
        Put batches where a GPU can copy them from while it computes.

    Raises
    ------
    UsageError
        If there is no image, or no batch, or a batch cannot be shared out among the devices.

    Examples
    --------
    >>> import numpy as np, torch
    >>> def fetch(indices, epoch):
    ...     return {"index": torch.from_numpy(indices)}
    >>> loader = Loader(fetch, np.arange(5), batch_size=2, seed=0, shuffle=False)
    >>> [batch["index"].tolist() for batch in loader.epoch(0, first_batch=1)]
    [[2, 3], [4]]
    """

    def __init__(
        self,
        fetch: Fetch,
        positions: Int[np.ndarray, " n"],
        *,
        batch_size: int,
        seed: int,
        workers: int = 0,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
        shuffle: bool = True,
        ids: Sequence[str] | None = None,
        pin_memory: bool = False,
    ) -> None:
        self.fetch = fetch
        self.positions = np.asarray(positions, dtype=np.int64)
        self.batch_size, self.seed, self.workers = batch_size, seed, workers
        self.rank, self.world_size = rank, world_size
        self.drop_last, self.shuffle, self.pin_memory = drop_last, shuffle, pin_memory
        self.ids = ids
        self._plan = _Plan()
        self._loader: DataLoader[Any] | None = None
        self._check()

    def _check(self) -> None:
        count = len(self.positions)
        if count == 0:
            raise UsageError("no image to load: the split is empty. Look at the column 'split'.")
        if self.batches_per_epoch == 0:
            raise UsageError(
                f"{count} images make no whole batch of {self.batch_size}, and a smaller one is "
                "left out (drop_last). Set a smaller batch_size."
            )
        if self.batch_size % self.world_size:
            raise UsageError(
                f"batch_size {self.batch_size} cannot be shared out among {self.world_size} "
                "devices. Set it to a multiple of their number."
            )

    @property
    def batches_per_epoch(self) -> int:
        """How many batches an epoch has."""
        whole, rest = divmod(len(self.positions), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def batch_images(self, batch: int) -> int:
        """Return how many images batch number ``batch`` of an epoch has, over all devices."""
        return min(self.batch_size, len(self.positions) - batch * self.batch_size)

    def fingerprint(self) -> str:
        """Return a SHA-256 of which images there are and how they are cut into batches."""
        digest = hashlib.sha256(np.ascontiguousarray(self.positions).tobytes())
        digest.update(f"{self.batch_size},{self.drop_last},{self.shuffle}".encode())
        return digest.hexdigest()

    def for_device(self, *, rank: int, world_size: int, pin_memory: bool) -> Loader:
        """Return a loader of the same batches that gives one device's part of each."""
        return Loader(
            self.fetch,
            self.positions,
            batch_size=self.batch_size,
            seed=self.seed,
            workers=self.workers,
            rank=rank,
            world_size=world_size,
            drop_last=self.drop_last,
            shuffle=self.shuffle,
            ids=self.ids,
            pin_memory=pin_memory,
        )

    def indices(self, epoch: int, batch: int) -> Int[np.ndarray, " b"]:
        """Return which images this device has in a batch; nothing is loaded."""
        return self._cut(self._order(epoch), batch)

    def _order(self, epoch: int) -> Int[np.ndarray, " n"]:
        if not self.shuffle:
            return self.positions
        order: np.ndarray = self.positions[epoch_order(self.seed, epoch, len(self.positions))]
        return order

    def _cut(self, order: Int[np.ndarray, " n"], batch: int) -> Int[np.ndarray, " b"]:
        whole = order[batch * self.batch_size : (batch + 1) * self.batch_size]
        missing = -len(whole) % self.world_size
        if missing:  # every device must take part in every step: the first of the epoch fill up
            whole = np.concatenate([whole, np.resize(order, missing)])
        share = len(whole) // self.world_size
        return whole[self.rank * share : (self.rank + 1) * share]

    def epoch(self, epoch: int, first_batch: int = 0) -> Generator[Batch, None, None]:
        """Give the batches of an epoch from number ``first_batch`` on.

        Raises
        ------
        MedgleanError
            What ``fetch`` raised, as it was, also when a worker process did.
        DataError
            If a worker process died.
        """
        order = self._order(epoch)
        numbers = range(first_batch, self.batches_per_epoch)
        self._plan.items = [(epoch, self._cut(order, number)) for number in numbers]
        if self._loader is None:
            self._loader = self._open()
        batches = iter(self._loader)
        _tell_deaths_only_when_asked(batches)
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except (RuntimeError, ConnectionError, EOFError) as error:
                raise _explained(error, workers=self.workers) from error
            if isinstance(batch, _Failure):
                raise batch.error
            yield batch

    def _open(self) -> DataLoader[Any]:
        forks = sys.platform == "linux" and self.workers > 0
        return DataLoader(
            cast("Dataset[Any]", _Fetched(self.fetch)),
            sampler=self._plan,
            batch_size=None,  # an item of the plan is a whole batch already
            collate_fn=_as_it_is,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            worker_init_fn=functools.partial(_start_worker, parent=os.getpid())
            if self.workers
            else None,
            # forked workers share the memory map of the cache and need no guarded main module
            multiprocessing_context="fork" if forks else None,
            pin_memory=self.pin_memory,
            generator=torch.Generator().manual_seed(0),  # otherwise it draws from the global one
        )

    def close(self) -> None:
        """End the worker processes; a later epoch starts new ones."""
        loader, self._loader = self._loader, None
        iterator = getattr(loader, "_iterator", None)
        if iterator is None or not hasattr(iterator, "_shutdown_workers"):
            return
        workers: list[BaseProcess] = list(getattr(iterator, "_workers", ()))
        iterator._shutdown_workers()
        for worker in workers:
            if worker.is_alive():  # hung in a read: they do not heed SIGTERM, see _start_worker
                worker.kill()
            worker.join(timeout=5.0)


class _Plan(Sized):
    """The batches that are still to come, in order; refilled before each epoch."""

    def __init__(self) -> None:
        self.items: list[tuple[int, np.ndarray]] = []

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


class _Failure:
    """An error on its way from a worker process: torch would keep its text and lose its type."""

    def __init__(self, error: MedgleanError) -> None:
        self.error = error


class _Fetched:
    """The data set that torch's loader sees: an item is a batch."""

    def __init__(self, fetch: Fetch) -> None:
        self.fetch = fetch

    def __getitem__(self, item: tuple[int, np.ndarray]) -> Batch | _Failure:
        epoch, indices = item
        try:
            return self.fetch(indices, epoch)
        except MedgleanError as error:
            return _Failure(error)


def _as_it_is(batch: Any) -> Any:  # noqa: ANN401 - a batch or a failure
    return batch


def _start_worker(worker: int, *, parent: int) -> None:
    """Let the main process decide when a worker ends.

    Ctrl-C and Slurm signal every process of a job, and a worker that dies of it would spoil the
    checkpoint that the main process is about to write. But when the main process is killed, its
    workers must go at once: a lock that they inherited would hold up the resumed run.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.platform == "linux":
        ask_for_signal_at_parents_death = 1  # PR_SET_PDEATHSIG of prctl(2)
        ctypes.CDLL(None).prctl(ask_for_signal_at_parents_death, signal.SIGKILL)
        if os.getppid() != parent:  # it died before we asked, so the signal will never come
            os._exit(1)


def _tell_deaths_only_when_asked(batches: Any) -> None:  # noqa: ANN401 - torch's own iterator
    """Let a worker's death be found by the next ``next``, within five seconds.

    Otherwise torch's handler of SIGCHLD raises wherever the main process happens to be: in the
    middle of a step, or of a checkpoint.
    """
    if getattr(batches, "_worker_pids_set", False):
        torch._C._remove_worker_pids(id(batches))
        batches._worker_pids_set = False


def _explained(error: Exception, *, workers: int) -> Exception:
    """Return what to raise: a worker that died shows as a pipe that ended, or as torch's words."""
    died = "exited unexpectedly" in str(error) or not isinstance(error, RuntimeError)
    if not (workers and died):
        return error
    return DataError(
        f"a process that loads batches died ({type(error).__name__}: {error}). Most often memory "
        "ran out: set fewer workers or a smaller batch_size; workers = 0 shows the error itself."
    )
