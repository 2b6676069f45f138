import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medglean.curate.methods.rounds import rank_rounds
from medglean.curate.order import Limits
from medglean.errors import UsageError

DRAWN = "random image of the next group"


def clips(seed, count=12, frames=6, dimensions=8):
    """Return frames that are near to their clip's centre, and the clip of each."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(count, dimensions))
    values = np.repeat(centres, frames, axis=0)
    values += 0.3 * generator.normal(size=values.shape)
    return values, np.repeat(np.arange(count), frames)


def plain_first_round(values, groups, steps, beta, taken=()):
    """Choose by the definition: every gain anew at each step, in float64."""
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    kernel = np.exp(beta * (unit @ unit.T - 1))
    covered = np.zeros(len(values))
    closed = set()
    for position in taken:
        covered = np.maximum(covered, kernel[position])
        closed.add(groups[position])
    order = []
    while len(order) < steps:
        gains = np.maximum(kernel - covered, 0).sum(axis=1)
        gains[[code in closed for code in groups]] = -1
        if gains.max() < 0:
            break
        best = int(np.flatnonzero(gains >= gains.max() * (1 - 1e-9))[0])
        order.append(best)
        closed.add(groups[best])
        covered = np.maximum(covered, kernel[best])
    return order


@given(
    st.integers(0, 2**16),
    st.sampled_from([0.5, 2.0, 5.0, 20.0]),
    st.lists(st.integers(0, 71), max_size=4),
)
def test_first_round_is_plain_greedy_facility_location(seed, beta, taken):
    values, groups = clips(seed)
    ranking = rank_rounds(values, groups=groups, count=72, beta=beta, taken=taken)
    expected = plain_first_round(values, groups, 72, beta, taken)

    assert ranking.order[: len(expected)].tolist() == expected
    assert len(expected) == 12 - len(set(groups[taken]))
    assert DRAWN not in ranking.reason[: len(expected)]


def test_every_group_gives_one_before_any_gives_two():
    values, groups = clips(1)
    order = rank_rounds(values, groups=groups, count=72, seed=3).order

    for number in range(6):
        assert sorted(groups[order[12 * number : 12 * (number + 1)]]) == list(range(12))
    assert sorted(order) == list(range(72))


def test_the_group_that_resembles_most_others_comes_first():
    angles = np.deg2rad([0, 10, 20, 30, 205])  # 10 and 20 are in the middle of the four
    values = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    order = rank_rounds(values, groups=None, count=2, beta=20.0).order

    assert order[0] == 1  # of equals the lowest position
    assert order[1] == 4  # what is not covered yet


def test_without_groups_each_image_is_one():
    values, _ = clips(2)
    alone = rank_rounds(values, groups=None, count=72)
    expected = plain_first_round(values, np.arange(72), 72, 3.0)

    assert alone.order.tolist() == expected


def test_beyond_the_chosen_ones_come_groups_without_an_image():
    values, groups = clips(4)
    ranking = rank_rounds(values, groups=groups, count=72, chosen=5)

    assert ranking.reason[5:] == (DRAWN,) * 67
    assert sorted(groups[ranking.order[:12]]) == list(range(12))
    assert ranking.order[:5].tolist() == plain_first_round(values, groups, 5, 3.0)


def test_later_rounds_and_anchors_are_functions_of_the_seed():
    values, groups = clips(5, count=40)
    how = {"groups": groups, "count": 240, "anchors": 50}
    first = rank_rounds(values, seed=0, **how).order

    assert first.tolist() == rank_rounds(values, seed=0, **how).order.tolist()
    assert first.tolist() != rank_rounds(values, seed=1, **how).order.tolist()
    assert sorted(groups[first[:40]]) == list(range(40))


def test_limits_hold_in_both_parts():
    values, groups = clips(6)
    strata = groups % 2
    limits = Limits(groups, 2, strata, np.array([3, 8]))
    order = rank_rounds(values, groups=groups, count=72, limits=limits, taken=[0, 1]).order

    assert 0 not in groups[order]  # full from the start
    assert np.bincount(groups[order]).max() <= 2
    assert np.bincount(strata[order]).tolist() == [1, 8]  # two of stratum 0 were taken before


def test_what_was_taken_covers():
    values, groups = clips(7)
    ranking = rank_rounds(values, groups=groups, count=3, taken=[10])

    assert groups[10] not in groups[ranking.order]
    assert ranking.nearest[0] == 10


@pytest.mark.parametrize("wrong", [{"beta": 0.0}, {"anchors": 0}, {"chosen": -1}])
def test_settings_out_of_range_are_refused(wrong):
    values, groups = clips(8)
    with pytest.raises(UsageError, match=f"{next(iter(wrong))} must be above 0"):
        rank_rounds(values, groups=groups, count=3, **wrong)
