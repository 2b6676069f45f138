import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medglean.curate.quotas import resolve_quotas, shared_out
from medglean.errors import UsageError

SITES = ["A", "B", "C", "D"]


def resolved(quotas, available=(100, 100, 30, 10), budget=40):
    allowed, warnings = resolve_quotas(
        quotas, names=SITES, available=np.array(available), budget=budget
    )
    return allowed.tolist(), [str(warning) for warning in warnings]


def test_shares_and_numbers_and_the_rest_in_proportion():
    # half of 40, 8, and the 12 left over as 30 : 10
    assert resolved({"A": "50%", "B": 8}) == ([20, 8, 9, 3], [])
    assert resolved({"A": 0.5, "B": "20"}) == ([20, 20, 0, 0], [])


def test_a_stratum_that_is_too_small_gives_all_and_others_take_over():
    allowed, warnings = resolved({"D": 20})

    assert allowed == [13, 13, 4, 10]  # 30 shared as 100 : 100 : 30
    assert len(warnings) == 1
    assert "stratum 'D' has 10 images of the 20 its quota asks for" in warnings[0]


def test_a_quota_is_not_exceeded_to_fill_the_budget():
    allowed, warnings = resolved({"A": 10, "B": 10, "C": 0.25, "D": 10}, available=(99, 99, 99, 4))

    assert allowed == [10, 10, 10, 4]
    assert "they leave 34 images for a budget of 40" in warnings[1]


@pytest.mark.parametrize(
    ("quotas", "message"),
    [
        ({"A": 5, "E": 5}, r"there are 2 quotas and 4 strata; no image is of 'E'. The strata are"),
        ({"A": "many"}, r"the quota of 'A' must be a number, got 'many'"),
        ({"A": 41}, r"the quota of 'A' is 41, and there are 40 images in the budget"),
        ({"A": "60%", "B": "60%"}, r"add up to 48 images, the budget is 40. Lower them"),
        (
            {"A": 5, "B": 5, "C": 5, "D": 5},
            r"add up to 20 images, the budget is 40, and no stratum is without a quota. Raise",
        ),
    ],
)
def test_impossible_quotas_are_refused(quotas, message):
    with pytest.raises(UsageError, match=message):
        resolved(quotas)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=6), st.integers(0, 200))
def test_shares_add_up_and_stay_within_one_of_exact(available, total):
    shares = shared_out(total, np.array(available))

    assert shares.sum() == min(total, sum(available))
    assert (shares <= available).all()
    if sum(available):
        exact = min(total, sum(available)) * np.array(available) / sum(available)
        assert (abs(shares - exact) < 1).all()
