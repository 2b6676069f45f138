"""Two rounds of farthest-first: equal to one machine's where they must be, close elsewhere."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.curate.shards.clips import clip_values

from medglean.curate.order import Limits
from medglean.curate.ranking import rank_farthest
from medglean.curate.shards import covering, select
from medglean.curate.shards.plan import at_random, by_unit
from medglean.curate.shards.select import Pool
from medglean.errors import UsageError


def radius_of(values, order):
    similarity, _ = covering.nearest_selected(values, values[order])
    return covering.angle(float(similarity.min()))


def assert_same(one, other):
    assert one.order.tolist() == other.order.tolist()
    assert one.nearest.tolist() == other.nearest.tolist()
    assert np.array_equal(one.similarity, other.similarity, equal_nan=True)
    assert one.reason == other.reason


# small whole numbers: many ties, many rows that point the same way
grids = hnp.arrays(
    np.float32, st.tuples(st.integers(2, 14), st.just(3)), elements=st.integers(-2, 2)
).filter(lambda values: values.any(axis=1).all())


@given(values=grids, data=st.data())
def test_one_shard_gives_one_machines_order_bit_for_bit(values, data):
    n = len(values)
    start = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=3, unique=True))
    count = data.draw(st.integers(len(start), n))
    oversample = data.draw(st.none() | st.floats(1, 3))
    plan = by_unit(np.zeros(n), shards=1)

    sharded = select.rank_sharded(values, plan, start=start, count=count, oversample=oversample)

    assert_same(sharded, rank_farthest(values, start=start, count=count))


@given(values=grids, shards=st.integers(1, 4), data=st.data())
def test_shards_that_put_everything_forward_give_one_machines_order(values, shards, data):
    n = len(values)
    units = data.draw(st.lists(st.integers(0, 5), min_size=n, max_size=n))
    plan = by_unit(units, shards=min(shards, len(set(units))))

    sharded = select.rank_sharded(values, plan, start=[0], count=n)

    assert_same(sharded, rank_farthest(values, start=[0], count=n))


@given(values=grids, data=st.data())
def test_merged_radius_is_at_most_four_times_the_best(values, data):
    n = len(values)
    units = data.draw(st.lists(st.integers(0, 5), min_size=n, max_size=n))
    plan = by_unit(units, shards=min(3, len(set(units))))
    picks = data.draw(st.integers(1, min(3, n - 1)))

    ranking = select.rank_sharded(values, plan, start=[0], count=picks + 1)
    radius = radius_of(values, ranking.order)
    best = min(
        radius_of(values, [0, *others]) for others in itertools.combinations(range(1, n), picks)
    )
    proof = covering.certify(ranking, picks=picks, lowest_similarity=math.cos(radius))

    rounding = 1e-6
    assert radius <= select.PROVEN_FACTOR * best + rounding
    assert proof.at_least <= best + rounding
    assert proof.radius == pytest.approx(radius, abs=rounding)


@pytest.mark.parametrize("seed", [0, 1])
def test_patient_shards_lose_little_and_random_shards_much(seed):
    values, clip = clip_values(1500, clips=60, spread=0.05, seed=seed)
    start = np.random.default_rng(seed).choice(1500, size=10, replace=False)
    patients = by_unit(clip // 2, shards=6)

    def radius(plan, oversample):
        ranking = select.rank_sharded(values, plan, start=start, count=120, oversample=oversample)
        return radius_of(values, ranking.order)

    alone = radius_of(values, rank_farthest(values, start=start, count=120).order)

    assert radius(patients, 2.0) <= 1.25 * alone
    assert radius(patients, None) <= 1.1 * alone
    assert radius(at_random(1500, shards=6, seed=seed), 1.0) >= 2 * alone


def test_preselected_images_count_as_taken_and_are_not_in_the_order():
    values, clip = clip_values(300, clips=12)
    plan = by_unit(clip, shards=3)

    ranking = select.rank_sharded(values, plan, start=[5, 9], count=20, taken=[7, 250])
    alone = rank_farthest(values, start=[5, 9], count=20, taken=[7, 250])

    assert ranking.order[:2].tolist() == [5, 9]
    assert not {7, 250} & set(ranking.order.tolist())
    assert len(set(ranking.order.tolist())) == 20
    assert ranking.similarity[0] == alone.similarity[0]
    # each pick's neighbour was taken before it
    seen = {7, 250}
    for position, nearest in zip(ranking.order.tolist(), ranking.nearest.tolist(), strict=True):
        assert nearest in seen
        seen.add(position)


def test_a_start_that_takes_most_of_a_shard_leaves_enough_candidates():
    values, _ = clip_values(12, clips=4)
    plan = by_unit([0] * 4 + [1] * 8, shards=2)

    # 8 picks of 8 images left, all but one of them in one shard
    ranking = select.rank_sharded(values, plan, start=[0, 1, 2, 4], count=12, oversample=1.0)

    assert sorted(ranking.order.tolist()) == list(range(12))


def test_limits_hold_in_the_merged_order():
    values, clip = clip_values(300, clips=12)
    limits = Limits(groups=clip, max_per_group=2)

    ranking = select.rank_sharded(
        values, by_unit(clip // 2, shards=3), start=[0], count=20, limits=limits
    )

    assert len(ranking) == 20
    assert np.bincount(clip[ranking.order]).max() == 2


def test_nothing_to_pick_beyond_the_start():
    values, clip = clip_values(30, clips=3)

    ranking = select.rank_sharded(values, by_unit(clip, shards=2), start=[3, 4], count=2)

    assert ranking.order.tolist() == [3, 4]
    assert covering.certify(ranking, picks=0, lowest_similarity=0.5).factor == 1.0


def test_certificate_by_hand():
    # on a circle: start at 0 degrees, pick 180, pick 90; 270 is left, 90 degrees from 0 and 180
    values = np.array([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    ranking = rank_farthest(values, start=[0], count=3)

    proof = covering.certify(ranking, picks=2, lowest_similarity=0.0)

    assert ranking.order.tolist() == [0, 2, 1]
    assert proof.radius == pytest.approx(math.pi / 2)
    # the last pick was 90 degrees from the others, and so is the image left: half of that
    assert proof.at_least == pytest.approx(math.pi / 4)
    assert proof.factor == pytest.approx(2)


def test_everything_covered_is_certified_as_best():
    values = np.array([[1.0, 0], [2, 0]])
    ranking = rank_farthest(values, start=[0], count=2)

    assert covering.certify(ranking, picks=1, lowest_similarity=1.0).factor == 1.0


@given(values=grids, data=st.data())
def test_nearest_selected_agrees_with_all_pairs(values, data):
    chosen = data.draw(st.lists(st.integers(0, len(values) - 1), min_size=1, unique=True))

    similarity, nearest = covering.nearest_selected(values, values[chosen])

    exact = values.astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    pairs = exact @ exact[chosen].T
    np.testing.assert_allclose(similarity, pairs.max(axis=1), atol=1e-12)
    np.testing.assert_allclose(pairs[np.arange(len(values)), nearest], similarity, atol=1e-12)


def test_nearest_selected_in_blocks_is_the_same(monkeypatch):
    values, _ = clip_values(100, clips=5)
    whole = covering.nearest_selected(values, values[:7])
    monkeypatch.setattr(covering, "BLOCK_BYTES", 2000)

    blocked = covering.nearest_selected(values, values[:7])

    np.testing.assert_allclose(blocked[0], whole[0], atol=1e-15)
    assert (blocked[1] == whole[1]).all()


def test_nothing_selected_is_refused():
    with pytest.raises(UsageError, match="nothing is selected"):
        covering.nearest_selected(np.ones((2, 2)), np.empty((0, 2)))


def test_a_union_holds_each_image_once_and_in_order():
    one = Pool(np.array([2, 5]), np.array([[2.0], [5]]))
    other = Pool(np.array([1, 5]), np.array([[1.0], [5]]))

    union = Pool.union([one, other])

    assert union.positions.tolist() == [1, 2, 5]
    assert union.values[:, 0].tolist() == [1, 2, 5]
    assert union.find([5, 1]).tolist() == [2, 0]
    assert union.at([5, 1]).values[:, 0].tolist() == [1, 5]


@pytest.mark.parametrize("method", ["coverage", "kmeans", ""])
def test_methods_that_need_all_images_are_refused(method):
    with pytest.raises(UsageError, match=f"method '{method}' needs all images at once"):
        select.check_method(method)


def test_methods_over_shards_are_let_through():
    for method in select.METHODS:
        select.check_method(method)


@pytest.mark.parametrize(("similarity", "radians"), [(1.0, 0), (0, math.pi / 2), (-1.1, math.pi)])
def test_angle(similarity, radians):
    assert covering.angle(similarity) == pytest.approx(radians)
