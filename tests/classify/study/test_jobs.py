import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.classify.study import trees

from medglean.classify.study import jobs
from medglean.classify.study.settings import SlurmSettings
from medglean.classify.study.task import cxr2022
from medglean.classify.study.train import write_failure
from medglean.errors import DataError, Interrupted, MedgleanError, UsageError


def study(out, tmp_path, *overrides, **more):
    changes = [f"{text.replace(trees.TINY, 'resnet18')}" for text in trees.SMALL]
    small = trees.load_preset(
        "cxr2022-radiography",
        trees.CxrStudyPreset,
        overrides=[*changes, "study.ablations=['optimizer']", "study.jobs=2", *overrides],
    )
    source = tmp_path / "in"
    if not source.exists():
        trees.radiography(source)
    return cxr2022(source, small, dataset="radiography", out=out, command=["medglean"], **more)


@pytest.mark.slow
def test_two_cells_are_trained_at_once_as_processes_of_this_machine(tmp_path):
    pytest.importorskip("submitit", reason="needs the extra cluster")
    out = tmp_path / "study"

    report = study(out, tmp_path, "study.executor=local")

    assert (out / "done").is_file()
    assert {file.stem for file in out.glob("cells/*.json")} == {
        "resnet18", "resnet18-optimizer-sgd",
    }  # fmt: skip
    assert len(list((out / "jobs").glob("*_log.out"))) == 2
    assert "ResNet18 had accuracy" in report.sentence


@pytest.fixture
def faked(monkeypatch, tmp_path):
    """Let jobs be made up: each is told what to leave, and is done at the second look."""
    fake = SimpleNamespace(started=[], leaves={}, stopped=[], gpus=[])

    class Made:
        def __init__(self, name, folder):
            self.job_id, self.name, self.looks = f"job {name}", name, 0
            self.paths = SimpleNamespace(stdout=Path("log.out"))
            self.folder = folder

        def done(self):
            self.looks += 1
            if self.looks == 2 and self.name in fake.leaves:
                fake.leaves[self.name](self.name)
            return self.looks >= 2

        def cancel(self, check=True):
            fake.stopped.append(self.name)
            self.looks = 2

    def starter(plan):
        fake.plan = plan

        def start(name, place):
            fake.started.append((name, place))
            return Made(name, plan.folder)

        return start

    monkeypatch.setattr(jobs, "starter", starter)
    monkeypatch.setattr(jobs, "LOOK_EVERY_S", {"local": 0.0, "slurm": 0.0})
    monkeypatch.setattr(jobs, "FILES_COME_S", {"local": 0.0, "slurm": 0.0})
    return fake


def cell_named(plan, name):
    return next(cell for cell in plan.cells if cell.name == name)


def test_one_job_that_fails_does_not_keep_the_others_from_being_trained(tmp_path, faked):
    def fails(name):
        write_failure(faked.plan, cell_named(faked.plan, name), DataError("no such file."))

    faked.leaves = {"resnet18": fails}

    with pytest.raises(DataError, match=r"2 training\(s\) failed: resnet18, .*: no such file"):
        study(tmp_path / "study", tmp_path, "study.executor=local")

    assert faked.started == [("resnet18", 0), ("resnet18-optimizer-sgd", 1)]
    # the second ended without leaving word
    (tmp_path / "study/cells/resnet18.failed.json").unlink()
    faked.leaves = {}
    with pytest.raises(MedgleanError, match=r"ended without a result; its output is in log\.out"):
        study(tmp_path / "study", tmp_path, "study.executor=local", resume=True)


def test_no_more_jobs_run_at_once_than_there_are_places(tmp_path, faked):
    with pytest.raises(MedgleanError):
        study(tmp_path / "study", tmp_path, "study.executor=local", "study.jobs=1")

    assert [place for _, place in faked.started] == [0, 0]


def test_ctrl_c_stops_the_jobs_and_can_be_resumed(tmp_path, faked):
    def ctrl_c(name):
        raise KeyboardInterrupt

    faked.leaves = {"resnet18": ctrl_c}

    with pytest.raises(Interrupted, match="Go on with --resume"):
        study(tmp_path / "study", tmp_path, "study.executor=slurm")

    assert faked.stopped == ["resnet18", "resnet18-optimizer-sgd"]
    assert not (tmp_path / "study" / "done").exists()
    assert not (tmp_path / "study" / "failed.json").exists()


def test_without_the_extra_the_error_names_it(monkeypatch):
    plan = SimpleNamespace(preset=SimpleNamespace(study=SimpleNamespace(executor="local", jobs=1)))
    monkeypatch.setitem(sys.modules, "submitit", None)

    with pytest.raises(UsageError, match=r"medglean\[cluster\].*study\.executor=here"):
        jobs.starter(plan)


def slurm_plan(tmp_path, **settings):
    own = SlurmSettings(**settings)
    return SimpleNamespace(
        folder=tmp_path,
        preset=SimpleNamespace(study=SimpleNamespace(executor="slurm", jobs=1, slurm=own)),
    )


def test_without_slurm_the_error_says_so(tmp_path, monkeypatch):
    pytest.importorskip("submitit", reason="needs the extra cluster")
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)

    with pytest.raises(UsageError, match="the command srun is not here"):
        jobs.starter(slurm_plan(tmp_path))


def test_what_a_job_asks_of_slurm(tmp_path, monkeypatch):
    submitit = pytest.importorskip("submitit", reason="needs the extra cluster")
    monkeypatch.setattr("shutil.which", lambda name, **__: f"/bin/{name}")
    written = []

    def submit_command(self, command):
        written.append(self._make_submission_file_text(command, "uid"))
        return submitit.SlurmJob(folder=self.folder, job_id="12", tasks=[0])

    monkeypatch.setattr(submitit.SlurmExecutor, "_submit_command", submit_command)
    asked = {"partition": "gpu", "cpus": 6, "memory_gb": 32.0, "minutes": 90}
    start = jobs.starter(slurm_plan(tmp_path, gpus=2, extra={"account": "xray"}, **asked))

    job = start("alexnet", 0)

    assert job.job_id == "12"
    lines = written[0].splitlines()
    for option in (
        "job-name=medglean-alexnet", "partition=gpu", "gpus-per-node=2", "cpus-per-task=6",
        "mem=32GB", "time=90", "account=xray", "signal=USR2@180",
    ):  # fmt: skip
        assert f"#SBATCH --{option}" in lines
    start = jobs.starter(slurm_plan(tmp_path, gpus=0))
    start("alexnet", 0)
    assert "gpus-per-node" not in written[1]
    assert "partition" not in written[1]


def test_a_job_that_is_put_into_the_queue_again_is_the_same():
    pytest.importorskip("submitit", reason="needs the extra cluster")

    again = jobs.TrainCell().checkpoint("folder", "cell", 2, "1")

    assert isinstance(again.function, jobs.TrainCell)
    assert again.args == ("folder", "cell", 2, "1")


@pytest.mark.parametrize(
    ("visible", "names"),
    [("", []), ("2,3", ["2", "3"]), ("GPU-8a, MIG-1", ["GPU-8a", "MIG-1"])],
)
def test_each_place_has_a_gpu_of_those_that_may_be_used(monkeypatch, visible, names):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    assert jobs.gpus_here() == names


def test_what_is_started_does_not_take_ctrl_c():
    before = signal.getsignal(signal.SIGINT)
    with jobs._without_ctrl_c():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGINT) is before
