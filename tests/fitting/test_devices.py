from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from medglean.fitting import checkpoint

SCRIPT = Path(__file__).with_name("ddp_script.py")


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> tuple[Path, dict[str, list[str]]]:
    """What the processes of each fit wrote; torch is started once and forked."""
    folder = tmp_path_factory.mktemp("devices")
    fits = {
        "one": {"count": 1, "folder": "one"},
        "two": {"count": 2, "folder": "two"},
        "stopped": {"count": 2, "folder": "parts", "max_steps": 4},
        "resumed": {"count": 2, "folder": "parts", "resume": True},
        "bypass": {"count": 2, "folder": "bypass", "bypass": True},
    }
    requests = [
        {**each, "folder": str(folder / each["folder"]), "port": free_port()}
        for each in fits.values()
    ]
    subprocess.run(
        [sys.executable, str(SCRIPT), json.dumps(requests), str(folder)], check=True, timeout=250
    )
    return folder, {
        name: [(folder / f"log-{number}.{rank}").read_text() for rank in range(fits[name]["count"])]
        for number, name in enumerate(fits)
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def newest(folder: Path) -> dict[str, torch.Tensor]:
    found = checkpoint.latest(folder / "checkpoints")
    assert found is not None
    return found.tensors


@pytest.mark.slow
def test_two_processes_give_what_one_gives_and_resume_to_the_same_bits(outputs):
    folder, said = outputs
    for name, steps in (("one", 6), ("two", 6), ("stopped", 4), ("resumed", 6)):
        assert all(f"done {steps}" in text for text in said[name]), said[name]

    one, two, parts = (newest(folder / name) for name in ("one", "two", "parts"))
    assert one.keys() == two.keys() == parts.keys()
    for key, value in one.items():
        # each process has half of every batch: sums are made in another order, nothing else
        torch.testing.assert_close(two[key], value, atol=1e-6, rtol=1e-5)
        assert torch.equal(parts[key], two[key])
    history = (folder / "two" / "log.csv").read_text()
    assert history.count("\n") == 5  # a header, two epochs with a row of training and validation


@pytest.mark.slow
def test_a_step_that_would_train_each_device_alone_is_refused(outputs):
    _, said = outputs
    for text in said["bypass"]:
        assert "the training step did not call the networks of the mapping" in text
