"""Cells as jobs of submitit: processes of this machine, or jobs of a Slurm cluster.

A job is told the study's folder and the name of a cell, and reads everything else from the folder;
what came of it stands there, too. Importing this loads no torch, so that a job can say which GPU
it has before anything looks for one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from medglean.errors import Interrupted, MedgleanError, UsageError

if TYPE_CHECKING:
    from medglean.classify.study.plan import Plan
    from medglean.classify.study.settings import SlurmSettings

FOLDER = "jobs"
"""In the study's folder: what submitit writes, among it the jobs' output."""
LOOK_EVERY_S: Mapping[str, float] = {"local": 0.2, "slurm": 5.0}
FILES_COME_S: Mapping[str, float] = {"local": 0.0, "slurm": 30.0}
"""How long the files of an ended job are waited for, on disks that machines share."""
_LONGEST_LOCAL_MIN = 60 * 24 * 365
_TIMES_IN_QUEUE = 1000
_BEFORE_THE_END_S = 180
"""How long before its time is out a job is told, so that it can be put into the queue again."""


class Job(Protocol):
    """What is used of submitit's jobs."""

    @property
    def job_id(self) -> str:
        """Its number, as the machine or the cluster gives it."""
        ...

    @property
    def paths(self) -> Any:  # noqa: ANN401 - submitit's
        """Where its output is."""
        ...

    def done(self) -> bool:
        """Say whether it has ended, in whatever way."""
        ...

    def cancel(self, check: bool = True) -> None:
        """Ask it to stop."""
        ...


class TrainCell:
    """What a job does; put into the queue again where its time is out."""

    def __call__(self, folder: str, name: str, threads: int, gpu: str) -> None:
        """Train a cell.

        Parameters
        ----------
        folder, name
            Of the study, and of the cell.
        threads
            To compute with on the processor.
        gpu
            The one GPU to see, as ``CUDA_VISIBLE_DEVICES`` names it; empty: those that there are.
        """
        if gpu:
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        # as at the command line: what is open is closed, and training has its own way to stop
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        import torch

        from medglean.classify.study.plan import read_plan
        from medglean.classify.study.train import train_cell, write_failure

        torch.set_num_threads(threads)
        plan = read_plan(Path(folder))
        cell = next(cell for cell in plan.cells if cell.name == name)
        try:
            train_cell(plan, cell)
        except MedgleanError as error:
            write_failure(plan, cell, error)
        except KeyboardInterrupt:
            write_failure(plan, cell, Interrupted("stopped. Go on with --resume."))

    def checkpoint(self, folder: str, name: str, threads: int, gpu: str) -> Any:  # noqa: ANN401
        """Return what is put into the queue again: the same, which goes on where it stopped."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, folder, name, threads, gpu)


def starter(plan: Plan) -> Callable[[str, int], Job]:
    """Return a function that starts a job for a cell's name at one of the places for jobs.

    Raises
    ------
    UsageError
        If submitit is not installed, there is no Slurm here, or an option is none of Slurm's.
    """
    study = plan.preset.study
    try:
        import submitit
    except ImportError as error:
        raise UsageError(
            f"study.executor={study.executor} needs a package that is not installed. Install it "
            "with `pip install 'medglean[cluster]'`, or set study.executor=here."
        ) from error
    if study.executor == "slurm":
        return _slurm(plan, submitit)
    gpus, threads = gpus_here(), max(1, _cores() // study.jobs)
    executor = submitit.AutoExecutor(plan.folder / FOLDER, cluster="local")
    executor.update_parameters(timeout_min=_LONGEST_LOCAL_MIN, stderr_to_stdout=True)

    def start(name: str, place: int) -> Job:
        gpu = gpus[place % len(gpus)] if gpus else ""
        with _without_ctrl_c():
            job: Job = executor.submit(TrainCell(), str(plan.folder), name, threads, gpu)
        return job

    return start


def _slurm(plan: Plan, submitit: Any) -> Callable[[str, int], Job]:  # noqa: ANN401 - a module
    settings = plan.preset.study.slurm
    try:
        executor = submitit.AutoExecutor(
            plan.folder.absolute() / FOLDER,
            cluster="slurm",
            slurm_max_num_timeout=_TIMES_IN_QUEUE,
        )
    except RuntimeError as error:
        raise UsageError(
            "study.executor=slurm: the command srun is not here, so this machine starts no jobs of "
            "a Slurm cluster. Run the study on one that does, or set study.executor=local."
        ) from error
    executor.update_parameters(**slurm_parameters(settings))

    def start(name: str, place: int) -> Job:
        executor.update_parameters(name=f"medglean-{name}")
        folder = str(plan.folder.absolute())
        try:
            job: Job = executor.submit(TrainCell(), folder, name, settings.cpus, "")
        except submitit.core.utils.FailedJobError as error:
            raise UsageError(
                f"sbatch refused the job: {str(error).strip()} Correct study.slurm."
            ) from error
        return job

    return start


def slurm_parameters(settings: SlurmSettings) -> dict[str, Any]:
    """Return what submitit is told of a job's needs."""
    return {
        "timeout_min": settings.minutes,
        "mem_gb": settings.memory_gb,
        "cpus_per_task": settings.cpus,
        "gpus_per_node": settings.gpus or None,
        "stderr_to_stdout": True,
        "slurm_partition": settings.partition,
        "slurm_signal_delay_s": _BEFORE_THE_END_S,
        "slurm_additional_parameters": dict(settings.extra) or None,
    }


def stop(job: Job) -> None:
    """Ask a job to stop after its present step, with a checkpoint."""
    if type(job).__name__ == "LocalJob":
        # submitit's own way leaves a process one second; this is passed on to it and waited for
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(job.job_id), signal.SIGTERM)
    else:
        job.cancel(check=False)


def gpus_here() -> list[str]:
    """Return the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def _cores() -> int:
    """Return the processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Let a process that is started inside not take Ctrl-C, which the terminal sends to all.

    The study takes it, and tells its jobs to stop in a way that leaves them time.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
