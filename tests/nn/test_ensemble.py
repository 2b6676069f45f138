import pytest
import torch
from torch import nn

from medglean.nn.ensemble import MeanOfLogits, members_of


def test_the_mean_of_logits_not_of_probabilities():
    torch.manual_seed(0)
    first, second = nn.Linear(4, 3), nn.Linear(4, 3)
    images = torch.randn(5, 4)

    together = MeanOfLogits([first, second])(images)

    torch.testing.assert_close(together, (first(images) + second(images)) / 2)


def test_members_are_found_again_and_one_network_is_its_own_member():
    first, second = nn.Linear(4, 3), nn.Linear(4, 3)

    assert members_of(MeanOfLogits([first, second])) == [first, second]
    assert members_of(first) == [first]


def test_weights_of_every_member_are_in_its_state():
    one = MeanOfLogits([nn.Linear(2, 2), nn.Linear(2, 2)])

    assert set(one.state_dict()) == {
        f"members.{k}.{name}" for k in (0, 1) for name in ("weight", "bias")
    }


def test_no_member_is_refused():
    with pytest.raises(ValueError, match="at least one network"):
        MeanOfLogits([])
