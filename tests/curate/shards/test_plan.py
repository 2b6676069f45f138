"""Whole patients in shards of about equal size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medglean.curate.shards.plan import at_random, by_unit, candidate_counts
from medglean.errors import UsageError

patients = st.lists(st.integers(0, 12), min_size=1, max_size=80)


@given(units=patients, shards=st.integers(1, 6))
def test_every_patient_is_in_one_shard_and_no_shard_is_empty(units, shards):
    count = len(set(units))
    if count < shards:
        with pytest.raises(UsageError, match=f"{shards} shards .* there are {count} "):
            by_unit(units, shards=shards)
        return

    plan = by_unit(units, shards=shards)

    homes = {}
    for unit, shard in zip(units, plan.shard_of.tolist(), strict=True):
        homes.setdefault(unit, set()).add(shard)
    assert all(len(home) == 1 for home in homes.values())
    assert plan.sizes.min() >= 1
    assert plan.sizes.sum() == len(units)
    # Graham 1969, with the mean and the largest patient as lower bounds of the best division: what
    # is put last on the largest shard finds it no fuller than the mean
    largest = max(units.count(unit) for unit in units)
    assert plan.sizes.max() <= len(units) / shards + largest


@given(units=patients)
def test_rows_are_ascending_and_each_image_comes_once(units):
    plan = by_unit(units, shards=min(3, len(set(units))))

    rows = [plan.rows(shard) for shard in range(plan.shards)]

    assert sorted(np.concatenate(rows).tolist()) == list(range(len(units)))
    for shard, own in enumerate(rows):
        assert (np.diff(own) > 0).all()
        assert (plan.shard_of[own] == shard).all()


def test_division_by_hand():
    # images: a 4, b 3, c 3, d 2. a -> 0 (4); b -> 1 (3); c -> 1 (6); d -> 0 (6)
    units = list("abcdabcdabca")

    plan = by_unit(units, shards=2)

    assert dict(zip(units, plan.shard_of.tolist(), strict=True)) == {"a": 0, "b": 1, "c": 1, "d": 0}
    assert plan.sizes.tolist() == [6, 6]
    assert plan.by == "patient"


def test_random_shards_divide_patients_and_depend_on_the_seed_alone():
    plan = at_random(101, shards=4, seed=3)

    assert plan.sizes.tolist() == [26, 25, 25, 25]
    assert (plan.shard_of == at_random(101, shards=4, seed=3).shard_of).all()
    assert (plan.shard_of != at_random(101, shards=4, seed=4).shard_of).any()
    assert plan.by == "random"


@pytest.mark.parametrize("shards", [0, -2])
def test_no_shards_are_refused(shards):
    with pytest.raises(UsageError, match=f"shards must be at least 1, got {shards}"):
        by_unit(["a"], shards=shards)


def test_more_shards_than_images_are_refused():
    with pytest.raises(UsageError, match="at most 2 shards"):
        at_random(2, shards=3, seed=0)


@given(
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=6),
    picks=st.integers(0, 60),
    oversample=st.none() | st.floats(1.0, 8.0),
)
def test_candidates_are_enough_to_pick_from(sizes, picks, oversample):
    counts = candidate_counts(np.array(sizes), picks=picks, oversample=oversample)

    assert (counts <= np.minimum(sizes, picks)).all()
    assert counts.sum() >= min(picks, sum(sizes))


def test_a_share_is_rounded_up():
    # 2 * 10 * 34 / 100 = 6.8; 2 * 10 * 66 / 100 = 13.2, but no more than the 10 picks
    assert candidate_counts(np.array([34, 66]), picks=10, oversample=2).tolist() == [7, 10]


@pytest.mark.parametrize("oversample", [0.5, float("nan"), float("inf")])
def test_an_oversample_that_cannot_be_is_refused(oversample):
    with pytest.raises(UsageError, match=f"at least 1, got {oversample}"):
        candidate_counts(np.array([3]), picks=1, oversample=oversample)


def test_negative_picks_are_refused():
    with pytest.raises(UsageError, match="0 or more, got -1"):
        candidate_counts(np.array([3]), picks=-1)
