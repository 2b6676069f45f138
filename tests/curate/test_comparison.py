import numpy as np
import pytest

from medglean.curate import comparison
from medglean.curate.comparison import Membership, compare, coverage_curve, summarise
from medglean.curate.methods.simple import random_positions
from medglean.curate.similarity import similarity_matrix
from medglean.errors import UsageError
from medglean.randomness import key_of

# four directions: 0 and 1 are 10 degrees apart, 2 is at 90, 3 at 180
ANGLES = np.deg2rad([0.0, 10.0, 90.0, 180.0])
VALUES = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)


def test_summary_by_hand():
    of = Membership(np.array([0, 0, 1, 2]), None, np.array([0, 1, 1, 1]))

    told = summarise(VALUES, np.array([0, 1]), membership=of)

    covered = [1.0, 1.0, np.cos(np.deg2rad(80)), np.cos(np.deg2rad(170))]
    assert told.coverage_mean == pytest.approx(np.mean(covered), abs=1e-6)
    assert told.coverage_low == pytest.approx(np.percentile(covered, 5), abs=1e-6)
    assert told.coverage_worst == pytest.approx(covered[3], abs=1e-6)
    assert told.nearest_mean == pytest.approx(np.cos(np.deg2rad(10)), abs=1e-6)
    assert told.redundant_share == 1.0
    assert (told.groups, told.strata) == (1, 2)
    assert np.isnan(told.patients)


def test_one_image_has_no_redundancy():
    told = summarise(VALUES, np.array([2]))

    assert np.isnan(told.nearest_mean)
    assert np.isnan(told.redundant_share)


@pytest.mark.parametrize("rows", [3, 1024])
@pytest.mark.parametrize("columns", [2, 4096])
def test_blocks_change_nothing(rows, columns, monkeypatch):
    monkeypatch.setattr(comparison, "ROWS", rows)
    monkeypatch.setattr(comparison, "COLUMNS", columns)
    values = np.random.default_rng(0).normal(size=(40, 5))
    chosen = np.random.default_rng(1).permutation(40)[:11]
    table = similarity_matrix(values)
    among = table[np.ix_(chosen, chosen)] - 9 * np.eye(11)

    told = summarise(values, chosen)

    assert told.coverage_mean == pytest.approx(table[:, chosen].max(axis=1).mean(), abs=1e-6)
    assert told.coverage_worst == pytest.approx(table[:, chosen].max(axis=1).min(), abs=1e-6)
    assert told.nearest_mean == pytest.approx(among.max(axis=1).mean(), abs=1e-6)
    assert told.redundant_share == pytest.approx((among.max(axis=1) > 0.9).mean())


def test_compare_counts_what_was_taken_for_all_three():
    values = np.eye(6)

    told = compare(values, np.array([5]), taken=[0, 1], draws=3, seed=1)

    # three of six directions, whichever: three at 1, three at 0
    assert told.selection.coverage_mean == 0.5
    assert told.random_mean.coverage_mean == 0.5
    assert told.interval.coverage_mean == 0.5
    assert told.random_sd.coverage_mean == 0.0
    assert told.draws == 3


def test_compare_with_several_random_draws():
    generator = np.random.default_rng(0)
    clips = np.repeat(np.arange(20), 10)
    values = np.eye(20)[clips] + 0.05 * generator.normal(size=(200, 20))
    one_each = np.arange(0, 200, 10)

    told = compare(values, one_each, membership=Membership(groups=clips), draws=8, seed=3)

    assert told.selection.groups == 20
    assert 10 < told.random_mean.groups < 17  # 12.9 expected
    assert told.random_sd.groups > 0
    assert told.selection.coverage_worst > told.random_mean.coverage_worst
    assert told.selection.nearest_mean < told.random_mean.nearest_mean
    assert compare(values, one_each, draws=8, seed=3).random_mean.coverage_mean == (
        told.random_mean.coverage_mean
    )
    assert np.isnan(compare(values, one_each, draws=1).random_sd.coverage_mean)


def test_the_spread_is_that_of_a_sample_of_draws():
    values = np.random.default_rng(0).normal(size=(30, 4))

    told = compare(values, np.arange(4), draws=2, seed=9)

    one, other = (
        summarise(values, random_positions(30, count=4, seed=key_of(9, "comparison", draw)))
        for draw in range(2)
    )
    gap = one.coverage_mean - other.coverage_mean
    assert told.random_mean.coverage_mean == pytest.approx(one.coverage_mean - gap / 2)
    assert told.random_sd.coverage_mean == pytest.approx(abs(gap) / np.sqrt(2))


def test_many_images_are_sampled_and_it_is_told(monkeypatch):
    monkeypatch.setattr(comparison, "LOOKED_AT", 400)
    monkeypatch.setattr(comparison, "ASKED", 60)
    values = np.random.default_rng(0).normal(size=(1000, 4))
    chosen = np.arange(100)

    told = compare(values, chosen, draws=2)
    whole = summarise(values, chosen)

    assert told.looked_at == 400
    assert told.selection.coverage_mean == pytest.approx(whole.coverage_mean, abs=0.02)
    assert told.selection.coverage_worst >= whole.coverage_worst
    assert told.selection.nearest_mean == pytest.approx(whole.nearest_mean, abs=0.03)
    assert compare(values, chosen, draws=1).selection == told.selection
    assert compare(values[:300], chosen, draws=1).looked_at == 300


def test_coverage_curve_is_the_coverage_of_each_first_part():
    values = np.random.default_rng(0).normal(size=(50, 4))
    order = np.random.default_rng(1).permutation(50)

    curve = coverage_curve(values, order, [20, 5, 5, 1, 99])

    assert curve.budgets.tolist() == [1, 5, 20]
    for place, budget in enumerate(curve.budgets):
        told = summarise(values, order[:budget])
        assert curve.mean[place] == pytest.approx(told.coverage_mean, abs=1e-6)
        assert curve.low[place] == pytest.approx(told.coverage_low, abs=1e-6)
        assert curve.worst[place] == pytest.approx(told.coverage_worst, abs=1e-6)
    with_more = coverage_curve(values, order[:5], [5], taken=order[5:20])
    assert with_more.mean[0] == pytest.approx(curve.mean[2], abs=1e-6)


def test_bad_arguments_are_refused():
    with pytest.raises(UsageError, match="at least 1 image and 1 draw, got 0 and 5"):
        compare(VALUES, np.empty(0, dtype=np.int64))
    with pytest.raises(UsageError, match="at least 1 image and 1 draw, got 1 and 0"):
        compare(VALUES, np.array([1]), draws=0)
    with pytest.raises(UsageError, match="budgets of a coverage curve must be at least 1, got 0"):
        coverage_curve(VALUES, np.arange(4), [0, 2])
