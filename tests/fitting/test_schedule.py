from __future__ import annotations

import pytest
import torch

from medglean.fitting import ScheduleSettings
from medglean.fitting.schedule import factor


def curve(steps: int, *, per_epoch: int = 10, **settings: object) -> list[float]:
    schedule = ScheduleSettings.model_validate(settings)
    return [
        factor(step, schedule=schedule, total_steps=steps, steps_per_epoch=per_epoch)
        for step in range(steps)
    ]


def torchs_curve(steps: int, make) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_constant_is_one_after_a_straight_warm_up():
    assert curve(6, name="constant", warmup_steps=4) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_cosine_by_hand():
    # final + (1 - final) (1 + cos(pi p)) / 2 at p = 0, 1/4, 1/2, 3/4 with final 0.2
    expected = [1.0, 0.2 + 0.8 * 0.8535534, 0.6, 0.2 + 0.8 * 0.1464466]
    assert curve(4, name="cosine", final_factor=0.2) == pytest.approx(expected, abs=1e-6)


def test_cosine_is_torchs():
    theirs = torchs_curve(20, lambda opt: torch.optim.lr_scheduler.CosineAnnealingLR(opt, 20))
    assert curve(20, name="cosine") == pytest.approx(theirs, abs=1e-6)


def test_cosine_starts_from_the_top_after_the_warm_up():
    rates = curve(12, name="cosine", warmup_steps=2)
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[7] == pytest.approx(0.5)


def test_linear_decay_by_hand():
    # two epochs of 2 steps at 1, then 4 steps down towards 0.2
    rates = curve(8, per_epoch=2, name="linear-decay", decay_after_epochs=2, final_factor=0.2)
    assert rates == pytest.approx([1, 1, 1, 1, 1, 0.8, 0.6, 0.4])


def test_one_cycle_is_torchs():
    def make(optimizer):
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=1.0, total_steps=50, final_div_factor=1e9, cycle_momentum=False
        )

    theirs = torchs_curve(49, make)
    assert curve(50, name="one-cycle")[:49] == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("name", ["constant", "cosine", "linear-decay", "one-cycle"])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_shortest_fits_have_a_rate(name, steps):
    assert all(0.0 <= rate <= 1.0 for rate in curve(steps, name=name))
