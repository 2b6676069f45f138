from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from medglean.errors import UsageError
from medglean.fitting import FitSettings, OptimizerSettings, make_fabric, make_optimizer
from medglean.fitting.devices import resolved
from medglean.fitting.settings import CHANGEABLE


def test_settings_are_read_without_torch():
    code = "import sys, medglean.fitting.settings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epoch": 3}, "Extra inputs are not permitted"),
        ({"batch_size": 0}, "greater than or equal to 1"),
        ({"ema_decay": 1.0}, "less than 1"),
        ({"devices": 0}, "devices must be 1 or more"),
        ({"precision": "16-mixed", "check_gradients": True}, "cannot be used with 16-mixed"),
        ({"schedule": {"name": "one-cycle", "warmup_steps": 3}}, "one-cycle rises by itself"),
        ({"schedule": {"decay_after_epochs": 3}}, "the schedule is constant"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        FitSettings.model_validate(settings)


def test_settings_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        FitSettings().epochs = 3


def test_what_may_change_is_a_field_and_not_fixed():
    assert set(FitSettings.model_fields) >= CHANGEABLE
    fixed = FitSettings().fixed()
    assert not CHANGEABLE & fixed.keys()
    assert fixed["optimizer.learning_rate"] == 1e-4
    assert "schedule.name" in fixed


@pytest.mark.parametrize(
    ("name", "kind"),
    [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)],
)
def test_the_optimiser_has_its_settings(name, kind):
    network = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    network[0].requires_grad_(requires_grad=False)
    settings = OptimizerSettings(
        name=name, learning_rate=0.5, weight_decay=0.1, momentum=0.7, betas=(0.5, 0.6), eps=1e-3
    )
    optimizer = make_optimizer(network.parameters(), settings)
    group = optimizer.param_groups[0]

    assert type(optimizer) is kind
    assert (group["lr"], group["weight_decay"], group["fused"]) == (0.5, 0.1, True)
    assert len(group["params"]) == 2
    assert group["momentum"] == 0.7 if name == "sgd" else group["betas"] == (0.5, 0.6)
    assert not make_optimizer(network.parameters(), settings, precision="16-mixed").param_groups[0][
        "fused"
    ]


def test_nothing_to_train():
    network = nn.Linear(1, 1).requires_grad_(requires_grad=False)
    with pytest.raises(UsageError, match="nothing to train"):
        make_optimizer(network.parameters(), OptimizerSettings())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_is_not_there():
    with pytest.raises(UsageError, match=r"accelerator 'cuda' with 1 device.*medglean doctor"):
        make_fabric(FitSettings(accelerator="cuda"))


@pytest.mark.parametrize(("has_bf16", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
def test_auto_precision_is_what_the_processor_has_instructions_for(monkeypatch, has_bf16, expected):
    monkeypatch.setattr("medglean.fitting.devices._cpu_has_bf16", lambda: has_bf16)

    found = resolved(FitSettings(precision="auto", accelerator="cpu"))

    assert found.precision == expected
    assert found.fixed()["precision"] == expected
    given = FitSettings(precision="32-true")
    assert resolved(given) is given
