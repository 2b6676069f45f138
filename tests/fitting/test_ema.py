from __future__ import annotations

import pytest
import torch
from torch import nn

from medglean.fitting.ema import Ema, decay_at


def test_the_decay_warms_up():
    # min(d, (1 + n) / (10 + n))
    assert [decay_at(n, decay=0.5) for n in (0, 2, 8, 100)] == [0.1, 0.25, 0.5, 0.5]


def test_average_by_hand():
    network = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        network.weight.fill_(1.0)
    ema = Ema(network, decay=0.9)

    with torch.no_grad():
        network.weight.fill_(2.0)
    ema.update()  # 0.1 * 1 + 0.9 * 2 = 1.9
    assert ema.average["weight"].item() == pytest.approx(1.9)
    with torch.no_grad():
        network.weight.fill_(0.0)
    ema.update()  # decay 2 / 11: 1.9 * 2 / 11
    assert ema.average["weight"].item() == pytest.approx(1.9 * 2 / 11)


def test_statistics_are_averaged_and_counts_copied():
    network = nn.BatchNorm1d(1)
    ema = Ema(network, decay=0.9)
    network(torch.tensor([[3.0], [5.0]]))  # running mean 0.1 * 4
    ema.update()

    assert ema.average["running_mean"].item() == pytest.approx(0.9 * 0.4)
    assert ema.average["num_batches_tracked"].item() == 1


def test_weights_come_back_bit_for_bit_even_after_an_error():
    network = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    ema = Ema(network, decay=0.9)
    with torch.no_grad():
        network[0].weight.mul_(3.0)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    averaged = {key: value.clone() for key, value in ema.average.items()}

    def fail() -> None:
        with ema.applied():
            assert torch.equal(network[0].weight, averaged["0.weight"])
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()

    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert all(torch.equal(averaged[key], value) for key, value in ema.average.items())


def test_tied_weights_are_averaged_and_exchanged_once():
    network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    network[1].weight = network[0].weight
    ema = Ema(network, decay=0.9)
    old = network[0].weight.detach().clone()
    with torch.no_grad():
        network[0].weight.mul_(2.0)

    with ema.applied():
        assert torch.equal(network[1].weight, old)
    assert torch.equal(network[1].weight, old * 2.0)


def test_a_buffer_that_is_replaced_is_still_followed():
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(1))

    network = Counts()
    ema = Ema(network, decay=0.9)
    network.seen = torch.ones(1)
    ema.update()

    assert ema.average["seen"].item() == pytest.approx(0.9)
