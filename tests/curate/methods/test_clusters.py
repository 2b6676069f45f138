import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medglean.curate.methods import clusters
from medglean.curate.methods.clusters import rank_kmeans, rank_representatives
from medglean.curate.order import Limits

METHODS = [rank_representatives, rank_kmeans]


def blobs(sizes, *, spread=0.02, d=8, seed=0):
    generator = np.random.default_rng(seed)
    code = np.repeat(np.arange(len(sizes)), sizes)
    return np.eye(d)[code] + spread * generator.normal(size=(len(code), d)), code


@pytest.mark.parametrize("rank", METHODS)
@pytest.mark.parametrize("seed", range(5))
def test_one_image_of_each_cluster(rank, seed):
    values, code = blobs([30, 20, 10, 5, 3], seed=seed)

    assert sorted(code[rank(values, count=5).order].tolist()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("rank", METHODS)
def test_the_middle_of_a_cluster_is_taken_whatever_its_length(rank):
    values = np.array([[1.0, 0.9], [0.9, 1.0], [1.0, 0.8], [0.8, 1.0], [5.0, 5.0]])

    assert rank(values, count=1).order.tolist() == [4]


def test_representatives_are_nested_and_k_means_begins_with_the_largest():
    values, code = blobs([3, 30, 8])

    whole = rank_representatives(values, count=41).order
    for count in (1, 3, 10, 40):
        assert rank_representatives(values, count=count).order.tolist() == whole[:count].tolist()
    ranking = rank_kmeans(values, count=3, length=7)
    assert code[ranking.order[:3]].tolist() == [1, 2, 0]
    assert code[ranking.order[3:6]].tolist() == [1, 2, 0]  # the second round
    assert ranking.reason[0] == "nearest to the centre of a cluster of 30"
    assert ranking.reason[3] == "further image of a cluster"


@settings(max_examples=20)
@given(st.integers(0, 2**16), st.booleans(), st.sampled_from([1, 4, 30]))
def test_limits_and_what_is_taken_hold(seed, tied, count):
    generator = np.random.default_rng(seed)
    values = generator.integers(-1, 2, (30, 3)) + np.array([1.5, 0, 0])
    values = values if tied else values + 0.1 * generator.normal(size=(30, 3))
    groups = generator.integers(0, 5, 30)
    taken = [0, 7]
    used = np.bincount(groups[taken], minlength=5)
    room = np.maximum(np.minimum(np.bincount(groups, minlength=5) - used, 3 - used), 0)

    for rank in METHODS:
        order = rank(values, count=count, limits=Limits(groups, 3), taken=taken).order

        assert len(order) == min(count, room.sum())
        assert len(set(order.tolist()) | set(taken)) == len(order) + 2
        assert (np.bincount(groups[order], minlength=5) <= room).all()


@pytest.mark.parametrize("rank", METHODS)
def test_a_cluster_with_an_image_taken_beforehand_waits(rank):
    values, code = blobs([30, 20, 10])

    order = rank(values, count=3, taken=[2]).order

    assert set(code[order[:2]].tolist()) == {1, 2}


@pytest.mark.parametrize("rank", METHODS)
def test_identical_images_come_by_position_and_none_is_lost(rank):
    order = rank(np.ones((6, 2)), count=6).order

    assert order.tolist() == [0, 1, 2, 3, 4, 5]


def test_cuts_follow_the_largest_sum_of_squares():
    # a wide cluster of 20 and a tight one of 20: the wide one is cut first
    wide, _ = blobs([20], spread=0.3)
    tight, _ = blobs([0, 20], spread=0.01)

    order = rank_representatives(np.concatenate([wide, tight]), count=6).order

    assert (order >= 20).sum() == 1


def test_k_means_is_a_function_of_the_seed():
    values = np.random.default_rng(0).normal(size=(200, 5))

    first = rank_kmeans(values, count=20, seed=3).order

    assert rank_kmeans(values, count=20, seed=3).order.tolist() == first.tolist()
    assert rank_kmeans(values, count=20, seed=4).order.tolist() != first.tolist()


def test_large_sets_are_clustered_from_batches(monkeypatch):
    monkeypatch.setattr(clusters, "MINI_BATCH_FROM", 10)
    values, code = blobs([30, 20, 10])

    assert sorted(code[rank_kmeans(values, count=3).order].tolist()) == [0, 1, 2]


def test_beyond_some_clusters_centres_begin_at_random_images(monkeypatch):
    monkeypatch.setattr(clusters, "MINI_BATCH_FROM", 10)
    monkeypatch.setattr(clusters, "SPREAD_OUT", 3)
    values = np.random.default_rng(0).normal(size=(50, 4))

    order = rank_kmeans(values, count=20, seed=1).order

    assert len(set(order.tolist())) == 20
    assert rank_kmeans(values, count=20, seed=1).order.tolist() == order.tolist()
