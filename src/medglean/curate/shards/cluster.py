"""Ray, as little of it as is needed: a cluster, an embedding with Ray Data, tasks in a window.

One CPU is left free of workers. Ray Data reads its input in tasks of their own; where actors hold
every CPU those tasks never run and the job waits for ever.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from medglean.curate.shards.embedding import Encoder, embed_shard
from medglean.errors import DataError, MedgleanError, Problem, UsageError

if TYPE_CHECKING:
    import numpy as np

Answer = tuple[dict[str, Any], list[Problem]]
Progress = Callable[[str, int, int], None]
LEAST_CPUS = 2


@dataclass(frozen=True)
class Cluster:
    """A running Ray cluster.

    Attributes
    ----------
    ray
        The module.
    workers
        How many workers may run at a time: one fewer than the cluster has CPUs.
    gpus
        GPUs that each embedding worker holds; may be a part of one.
    """

    ray: ModuleType
    workers: int
    gpus: float

    def embed(
        self, encoder: Encoder, folder: Path, shards: int, *, batch: int, progress: Progress
    ) -> list[Answer]:
        """Embed every shard that is not done; see `embed_shard`.

        Each worker unpickles the encoder once and then takes one shard after another.
        """
        import ray.data

        # Ray Data sets up its own logger when it is imported
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        rows = ray.data.from_items(
            [{"shard": shard} for shard in range(shards)], override_num_blocks=shards
        )
        answers = rows.map_batches(
            _Embedder,
            fn_constructor_args=(encoder, folder, batch),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(self.workers, shards)),
            num_cpus=1,
            num_gpus=self.gpus,
        )
        found: dict[int, Answer] = {}
        with _told():
            for row in answers.iter_rows():
                found[int(row["shard"])] = _unpacked(row["answer"])
                progress("embed", len(found), shards)
        return [found[shard] for shard in range(shards)]

    def map(
        self,
        work: Callable[..., Any],
        jobs: Sequence[tuple[Any, ...]],
        *,
        stage: str,
        progress: Progress,
    ) -> list[Any]:
        """Call ``work`` with each job's arguments, at most ``workers`` at a time, in order.

        Arguments may be references that `put` returned.
        """
        task = self.ray.remote(num_cpus=1, max_retries=2)(work)
        waiting = list(enumerate(jobs))[::-1]
        running: dict[Any, int] = {}
        found: dict[int, Any] = {}
        with _told():
            while waiting or running:
                while waiting and len(running) < self.workers:
                    number, job = waiting.pop()
                    running[task.remote(*job)] = number
                ready, _ = self.ray.wait(list(running), num_returns=1)
                found[running.pop(ready[0])] = self.ray.get(ready[0])
                progress(stage, len(found), len(jobs))
        return [found[number] for number in range(len(jobs))]

    def put(self, value: object) -> Any:  # noqa: ANN401 - a reference, which Ray does not type
        """Store a value once for all workers and return a reference to it."""
        return self.ray.put(value)


@contextlib.contextmanager
def connect(
    *, address: str | None = None, cpus: int | None = None, gpus_per_worker: float = 0.0
) -> Iterator[Cluster]:
    """Start a cluster on this machine, or join one, and leave it at the end.

    Parameters
    ----------
    address
        Of a running cluster, such as ``"auto"`` or ``"ray://head:10001"``; None: start one here.
    cpus
        How many CPUs the cluster here has, at least 2; None: as many as the machine. Not for a
        cluster that runs already.
    gpus_per_worker
        How many GPUs each embedding worker holds.

    Raises
    ------
    UsageError
        If Ray is not installed or already connected, the cluster cannot be reached, or it has
        fewer than two CPUs.
    """
    ray = require_ray()
    if cpus is not None and (cpus < LEAST_CPUS or address is not None):
        raise UsageError(
            f"cpus={cpus}, address={address!r}: a cluster here needs at least {LEAST_CPUS} CPUs, "
            "one for a worker and one left free; a running cluster has its own number. Give one "
            "of the two."
        )
    if ray.is_initialized():
        raise UsageError("this process is connected to a Ray cluster already. Call ray.shutdown().")
    logging.getLogger("ray").setLevel(logging.ERROR)
    local = {"num_cpus": cpus or max(LEAST_CPUS, os.cpu_count() or 1)} if address is None else {}
    try:
        ray.init(
            address=address or "local",
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            **local,
        )
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise UsageError(
            f"the Ray cluster {address or 'on this machine'} cannot be used ({error}). Check the "
            "address, and that Ray and Python have the same versions there."
        ) from error
    try:
        total = int(ray.cluster_resources().get("CPU", 0))
        if total < LEAST_CPUS:
            raise UsageError(
                f"the Ray cluster has {total} CPU; at least {LEAST_CPUS} are needed, because one "
                "is left free. Give it more."
            )
        yield Cluster(ray, total - 1, gpus_per_worker)
    finally:
        ray.shutdown()


class _Embedder:
    """One worker of the pool; made once per process."""

    def __init__(self, encoder: Encoder, folder: Path, batch: int) -> None:
        self.encoder, self.folder, self.batch = encoder, folder, batch

    def __call__(self, rows: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        shards = [int(shard) for shard in rows["shard"]]
        return {"shard": shards, "answer": [self._embed(shard) for shard in shards]}

    def _embed(self, shard: int) -> str:
        try:
            mark, told = embed_shard(self.encoder, self.folder, shard, batch=self.batch)
        except MedgleanError as error:  # it would come back as an error of Ray's, with a long trace
            return json.dumps({"error": str(error), "usage": isinstance(error, UsageError)})
        return json.dumps({"mark": mark, "told": [problem.to_row() for problem in told]})


def _unpacked(text: str) -> Answer:
    answer = json.loads(text)
    if "error" in answer:
        raise (UsageError if answer["usage"] else DataError)(answer["error"])
    return answer["mark"], [Problem(**row) for row in answer["told"]]


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turn what went wrong in a worker into an error that says what is kept."""
    import ray.exceptions

    try:
        yield
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, MedgleanError):
            raise cause from error
        raise
    except ray.exceptions.RayError as error:
        raise DataError(
            f"a worker was lost ({type(error).__name__}: {str(error).splitlines()[0]}). Shards "
            "that were finished are kept: run again with resume. If it was the memory, use more "
            "and smaller shards in a new folder."
        ) from error


def require_ray() -> ModuleType:
    """Import Ray, set up so that it sends and says nothing, and return the module.

    Raises
    ------
    UsageError
        If it is not installed.
    """
    # nothing is sent anywhere; read when Ray is first imported and by the processes it starts
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
    except ImportError as error:
        raise UsageError(
            "the engine 'ray' needs Ray, which is not installed. Run: pip install 'medglean[ray]'"
        ) from error
    module: ModuleType = ray
    return module
