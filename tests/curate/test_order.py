import numpy as np
import pytest

from medglean.curate.order import Limits, Ranking
from medglean.errors import UsageError

GROUPS = np.array([0, 0, 1, 1, 2])
STRATA = np.array([0, 1, 0, 1, 0])


def test_without_limits_only_what_was_taken_is_gone():
    limits = Limits()
    counter = limits.counter(3)
    counter.take(1)

    assert not limits.any
    assert counter.free.tolist() == [True, False, True]


def test_a_full_group_is_closed():
    counter = Limits(groups=GROUPS, max_per_group=1).counter(5)
    counter.take(0)

    assert counter.free.tolist() == [False, False, True, True, True]


def test_group_and_stratum_count_together():
    limits = Limits(GROUPS, 2, STRATA, np.array([1, 2]))
    counter = limits.counter(5)
    assert limits.any
    counter.take(0)  # stratum 0 is full now

    assert counter.free.tolist() == [False, True, False, True, False]
    counter.take(1)
    assert counter.free.tolist() == [False, False, False, True, False]


def test_a_stratum_that_may_give_nothing_is_closed_from_the_start():
    counter = Limits(strata=STRATA, stratum_max=np.array([0, 1])).counter(5)

    assert counter.free.tolist() == [False, True, False, True, False]


def test_counting_leaves_the_limits_as_they_were():
    most = np.array([1, 1])
    Limits(strata=STRATA, stratum_max=most).counter(5).take(0)

    assert most.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_per_group": 2}, "no groups are known"),
        ({"groups": GROUPS, "max_per_group": 0}, "at least 1, got 0"),
        ({"strata": STRATA}, "quotas need both"),
        ({"stratum_max": np.array([1])}, "quotas need both"),
    ],
)
def test_limits_that_make_no_sense_are_refused(given, message):
    with pytest.raises(UsageError, match=message):
        Limits(**given)


def test_a_smaller_budget_is_the_beginning_of_the_order():
    ranking = Ranking(
        np.array([4, 2, 0]),
        np.array([np.nan, 0.1, 0.5]),
        np.array([-1, 4, 2]),
        ("random start", "method", "method"),
        "all images",
    )
    first = ranking.first(2)

    assert first.order.tolist() == [4, 2]
    assert first.nearest.tolist() == [-1, 4]
    assert first.reason == ("random start", "method")
    assert first.stopped == ""
    assert ranking.first(3).stopped == "all images"
    assert len(first) == 2
