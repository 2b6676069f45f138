import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medglean.curate.methods.simple import (
    interval_positions,
    random_group_positions,
    random_positions,
    rank_interval,
    rank_random,
    rank_random_groups,
    rank_whole_groups,
    whole_group_positions,
)
from medglean.curate.order import Limits
from medglean.curate.similarity import similarity_matrix

GROUPS = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 3])
VALUES = np.random.default_rng(0).normal(size=(10, 3))


def all_orders(seed, limits, taken):
    how = {"seed": seed, "limits": limits, "taken": taken}
    return {
        "random": random_positions(10, **how),
        "random-groups": random_group_positions(GROUPS, **how),
        "whole-groups": whole_group_positions(GROUPS, **how),
        "interval": interval_positions(10, count=4, length=10, limits=limits, taken=taken),
    }


@given(st.integers(0, 2**20), st.lists(st.integers(0, 9), unique=True), st.booleans())
def test_each_image_comes_once_but_for_what_is_taken_or_forbidden(seed, taken, limited):
    limits = Limits(GROUPS, 2) if limited else Limits()
    used = np.bincount(GROUPS[taken], minlength=4) if taken else np.zeros(4, dtype=int)
    sizes = np.bincount(GROUPS)
    room = np.maximum(np.minimum(sizes, 2) - used, 0) if limited else sizes - used

    for name, order in all_orders(seed, limits, taken).items():
        assert len(set(order.tolist())) == len(order), name
        assert set(order.tolist()).isdisjoint(taken), name
        assert np.bincount(GROUPS[order], minlength=4).tolist() == room.tolist(), name


def test_random_is_uniform_and_a_function_of_the_seed():
    first = [random_positions(10, count=3, seed=seed) for seed in range(2000)]

    shares = np.bincount(np.concatenate(first), minlength=10) / 2000
    assert shares == pytest.approx(np.full(10, 0.3), abs=0.05)  # 5 standard errors
    np.testing.assert_array_equal(first[7], random_positions(10, count=3, seed=7))


def test_random_groups_gives_one_of_each_per_round():
    for seed in range(20):
        order = random_group_positions(GROUPS, seed=seed)
        codes = GROUPS[order].tolist()

        assert sorted(codes[:4]) == [0, 1, 2, 3]
        assert sorted(codes[4:7]) == [0, 1, 2]  # group 3 has no second image
        assert codes[4:7] == [code for code in codes[:4] if code != 3]  # in the same turns
        assert codes[9] == 0


def test_random_groups_draws_groups_and_images_uniformly():
    orders = np.array([random_group_positions(GROUPS, seed=seed) for seed in range(2000)])

    assert np.bincount(GROUPS[orders[:, 0]]) / 2000 == pytest.approx(np.full(4, 0.25), abs=0.05)
    of_group_0 = orders[:, 0][GROUPS[orders[:, 0]] == 0]
    assert np.bincount(of_group_0) / len(of_group_0) == pytest.approx(np.full(4, 0.25), abs=0.1)


def test_a_group_with_images_taken_beforehand_has_had_its_rounds():
    order = random_group_positions(GROUPS, taken=[0, 1, 9])

    codes = GROUPS[order].tolist()
    assert sorted(codes[:2]) == [1, 2]
    assert sorted(codes[2:4]) == [1, 2]
    assert sorted(codes[4:6]) == [0, 1]


def test_whole_groups_come_whole():
    for seed in range(20):
        order = whole_group_positions(GROUPS, seed=seed)

        assert np.count_nonzero(np.diff(GROUPS[order])) == 3
        for code in range(4):
            assert (np.diff(order[GROUPS[order] == code]) > 0).all()  # in their own order
    firsts = [GROUPS[whole_group_positions(GROUPS, count=1, seed=seed)[0]] for seed in range(2000)]
    assert np.bincount(firsts) / 2000 == pytest.approx(np.full(4, 0.25), abs=0.05)


def test_interval_by_hand():
    # middles of four stretches of 2.5: 1.25, 3.75, 6.25, 8.75; bit-reversed 0, 2, 1, 3
    assert interval_positions(10, count=4).tolist() == [1, 6, 3, 8]
    assert interval_positions(10, count=10).tolist() == [0, 8, 4, 2, 6, 1, 9, 5, 3, 7]
    assert sorted(interval_positions(10, count=4, length=10).tolist()) == list(range(10))


@given(st.integers(1, 300), st.data())
def test_interval_gaps_differ_by_one_at_most(n, data):
    count = data.draw(st.integers(1, n))

    chosen = np.sort(interval_positions(n, count=count))

    assert len(chosen) == count
    assert set(np.diff(chosen)) <= {n // count, n // count + 1}


def test_interval_runs_within_clips_that_the_manifest_mixes():
    clips = np.arange(12) % 3

    chosen = interval_positions(12, count=6, within=clips)

    assert np.bincount(clips[chosen]).tolist() == [2, 2, 2]
    assert sorted(chosen[clips[chosen] == 0].tolist()) == [3, 9]  # of 0, 3, 6, 9: second, fourth


def test_interval_steps_over_what_is_taken():
    assert sorted(interval_positions(10, count=3, taken=[1, 4, 7, 9]).tolist()) == [2, 5, 8]


def test_rankings_tell_the_most_similar_image_taken_before():
    table = similarity_matrix(VALUES)
    taken = [4]
    rankings = {
        "random": rank_random(VALUES, count=9, seed=1, taken=taken),
        "random image of the next group": rank_random_groups(
            VALUES, groups=GROUPS, count=9, taken=taken
        ),
        "all of a random group": rank_whole_groups(VALUES, groups=GROUPS, count=9, taken=taken),
        "fixed interval": rank_interval(VALUES, count=9, taken=taken),
    }

    for reason, ranking in rankings.items():
        assert ranking.reason == (reason,) * 9
        for place, image in enumerate(ranking.order):
            before = [*taken, *ranking.order[:place]]
            best = before[int(table[image, before].argmax())]
            assert ranking.nearest[place] == best
            assert ranking.similarity[place] == pytest.approx(table[image, best], abs=1e-6)
