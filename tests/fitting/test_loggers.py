from __future__ import annotations

import math
import sys

import pytest

from medglean.errors import UsageError
from medglean.fitting.loggers import CsvLog, make_loggers

from .tiny import tiny_fit


@pytest.fixture
def log(tmp_path):
    log = CsvLog(tmp_path / "log.csv")
    log.append({"step": 1, "epoch": 1, "train.loss": 0.1})
    log.append({"step": 2, "epoch": 1, "train.loss": 1 / 3})
    log.append({"step": 2, "epoch": 1, "val.auroc": float("nan")})
    return log


def test_columns_are_added_as_they_turn_up(log):
    assert log.path.read_text().splitlines() == [
        "step,epoch,train.loss,val.auroc",
        "1,1,0.1,",
        "2,1,0.3333333333333333,",
        "2,1,,nan",
    ]


def test_numbers_come_back_exactly(log):
    rows = log.rows()
    assert rows[1] == {"step": 2, "epoch": 1, "train.loss": 1 / 3}
    assert math.isnan(rows[2]["val.auroc"])


def test_rows_after_the_checkpoint_are_cut(log):
    again = CsvLog(log.path)
    again.cut(1)
    again.append({"step": 2, "epoch": 1, "train.loss": 0.5})
    assert [(row["step"], row["train.loss"]) for row in again.rows()] == [(1, 0.1), (2, 0.5)]


def test_a_line_cut_short_by_a_kill_is_no_row(log):
    with log.path.open("a") as file:
        file.write("3,1,0.77")
    again = CsvLog(log.path)
    assert len(again.rows()) == 3
    again.cut(9)
    again.append({"step": 3, "epoch": 1, "train.loss": 0.25})
    assert again.rows()[-1] == {"step": 3, "epoch": 1, "train.loss": 0.25}
    assert len(again.rows()) == 4


def test_no_log_is_no_rows(tmp_path):
    log = CsvLog(tmp_path / "log.csv")
    log.cut(5)
    assert log.rows() == []
    assert not log.path.exists()


@pytest.mark.parametrize(
    ("extra", "module"), [("tensorboard", "torch.utils.tensorboard"), ("mlflow", "mlflow")]
)
def test_a_missing_package_names_its_extra(tmp_path, monkeypatch, extra, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=rf"pip install 'medglean\[{extra}\]'"):
        make_loggers([extra], tmp_path, first_step=0)


def test_an_unknown_logger(tmp_path):
    with pytest.raises(UsageError, match="no logger 'wandb'"):
        make_loggers(["wandb"], tmp_path, first_step=0)


@pytest.mark.filterwarnings("ignore")  # of the packages themselves
def test_tensorboard_gets_the_rows(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = tiny_fit(tmp_path, loggers=("tensorboard",), epochs=1)

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    told = [(event.step, event.value) for event in events.Scalars("val/loss")]
    assert told == [(3, pytest.approx(result.best_value))]


@pytest.mark.filterwarnings("ignore")  # of the packages themselves
def test_mlflow_gets_the_rows_of_both_sittings_in_one_run(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)

    tiny_fit(tmp_path / "run", loggers=("mlflow",), epochs=1)
    tiny_fit(tmp_path / "run", loggers=("mlflow",), epochs=2, resume=True)

    client = mlflow.MlflowClient(tracking_uri=(tmp_path / "run" / "mlflow" / "store").as_uri())
    run = (tmp_path / "run" / "mlflow" / "run-id.txt").read_text()
    history = client.get_metric_history(run, "val.loss")
    assert [metric.step for metric in history] == [3, 6]
    assert client.get_run(run).data.metrics["epoch"] == 2
