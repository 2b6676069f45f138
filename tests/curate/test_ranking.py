import json
from pathlib import Path

import numpy as np
import pytest

from medglean.curate.order import METHOD, START, Limits
from medglean.curate.ranking import rank_and_count, rank_farthest, rank_matrix, uniform_start
from medglean.curate.similarity import similarity_matrix
from medglean.errors import EmbeddingError, UsageError

GOLDEN = json.loads(Path(__file__).parents[1].joinpath("golden/enrich_order.json").read_text())
FAST = ["auto", "pruned", "blocked"]
ALL = [*FAST, "naive"]


def on_a_circle(*degrees):
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_the_authors_order():
    names = GOLDEN["names"]
    start = [names.index(name) for name in GOLDEN["start"]]

    ranking = rank_matrix(np.array(GOLDEN["similarities"]), start=start)

    assert [names[i] for i in ranking.order] == GOLDEN["start"] + GOLDEN["picks"]
    # B is compared with A; F is 0.06 to B; D 0.14 to A; C 0.21 to F; G 0.44 to F; H 0.5 to A;
    # E 0.71 to D.
    assert [names[i] for i in ranking.nearest[1:]] == ["A", "B", "A", "F", "F", "A", "D"]
    assert ranking.similarity[1:].tolist() == [0.16, 0.06, 0.14, 0.21, 0.44, 0.5, 0.71]
    assert np.isnan(ranking.similarity[0])
    assert ranking.reason == (START,) * 2 + (METHOD,) * 6


@pytest.mark.parametrize("algorithm", ALL)
def test_an_order_by_hand(algorithm):
    # From 0 the farthest of 10, 90, 45, 91 degrees is 91; then 45 (45 from 0), 10, 90.
    ranking = rank_farthest(on_a_circle(0, 10, 90, 45, 91), start=[0], algorithm=algorithm)

    assert ranking.order.tolist() == [0, 4, 3, 1, 2]
    assert ranking.nearest.tolist() == [-1, 0, 0, 0, 4]
    assert np.rad2deg(np.arccos(ranking.similarity[1:])) == pytest.approx([91, 45, 10, 1])


@pytest.mark.parametrize("algorithm", ALL)
def test_ties_go_to_the_lowest_position_and_so_does_the_nearest(algorithm):
    # 1 and 2 are the same, both opposite to 0; 3 is 90 degrees from everything.
    rows = np.array([[1.0, 0], [-1, 0], [-1, 0], [0, 1]])

    ranking = rank_farthest(rows, start=[0], algorithm=algorithm)

    assert ranking.order.tolist() == [0, 1, 3, 2]
    assert ranking.nearest.tolist() == [-1, 0, 0, 1]
    assert ranking.similarity[1:].tolist() == [-1.0, 0.0, 1.0]


@pytest.mark.parametrize("algorithm", ALL)
def test_a_repeat_of_lower_position_becomes_the_nearest(algorithm):
    # Rows 0 and 2 are the same. 2 is taken first; once 0 is taken it is the nearest of 1 by tie.
    rows = on_a_circle(0, 10, 0, 90)

    ranking = rank_farthest(rows, start=[2, 0], algorithm=algorithm)

    assert ranking.order.tolist() == [2, 0, 3, 1]
    assert ranking.nearest.tolist() == [-1, 2, 0, 0]


@pytest.mark.parametrize("algorithm", ALL)
def test_what_is_taken_counts_and_is_not_in_the_order(algorithm):
    rows = on_a_circle(0, 10, 90, 45, 91)

    ranking = rank_farthest(rows, start=[], taken=[4], algorithm=algorithm)

    assert ranking.order.tolist() == [0, 3, 1, 2]
    assert ranking.nearest.tolist() == [4, 0, 0, 4]
    assert ranking.reason == (METHOD,) * 4


@pytest.mark.parametrize("algorithm", ALL)
def test_full_groups_and_strata_are_skipped(algorithm):
    rows = on_a_circle(0, 90, 180, 91, 179, 1)
    limits = Limits(groups=np.array([0, 1, 2, 1, 2, 3]), max_per_group=1)

    ranking = rank_farthest(rows, start=[0], limits=limits, algorithm=algorithm)

    assert ranking.order.tolist() == [0, 2, 1, 5]
    assert ranking.stopped == "no image is left that the limits allow"

    quotas = Limits(strata=np.array([0, 0, 1, 1, 1, 1]), stratum_max=np.array([2, 2]))
    ranking = rank_farthest(rows, start=[0], limits=quotas, algorithm=algorithm)
    assert ranking.order.tolist() == [0, 2, 1, 3]


@pytest.mark.parametrize("algorithm", ALL)
def test_the_order_stops_once_all_that_is_left_is_alike(algorithm):
    rows = on_a_circle(0, 10, 90, 45, 91)

    ranking = rank_farthest(rows, start=[0], stop_similarity=0.9, algorithm=algorithm)

    assert ranking.order.tolist() == [0, 4, 3]
    assert ranking.stopped == "every image left has a similarity of at least 0.9 to one taken"
    assert ranking.first(2).stopped == ""
    whole = rank_farthest(rows, start=[0], count=3, algorithm=algorithm)
    assert whole.order.tolist() == [0, 4, 3]
    assert whole.stopped == ""


def test_stopping_includes_equality():
    rows = np.array([[1.0, 0], [0, 1], [3, 4]])

    assert len(rank_farthest(rows, start=[0], stop_similarity=0.0)) == 1
    assert len(rank_farthest(rows, start=[0], stop_similarity=0.1)) == 2


def test_the_smaller_mean_wins_under_rule_mean():
    # Taken 0 and 60 degrees. 150: similarities -0.87, 0 (largest 0, mean -0.43); 240: -0.5, -1
    # (largest -0.5, mean -0.75); 300: 0.5, -0.5 (largest 0.5, mean 0).
    rows = on_a_circle(0, 60, 150, 240, 300)

    by_mean = rank_farthest(rows, start=[0, 1], rule="mean")

    # After 240 the means are 150: (-0.87 + 0 + 0) / 3 and 300: (0.5 - 0.5 + 0.5) / 3.
    assert by_mean.order.tolist() == [0, 1, 3, 2, 4]
    assert by_mean.similarity[2:] == pytest.approx([-0.5, 0, 0.5], abs=1e-12)
    assert by_mean.nearest[2:].tolist() == [0, 1, 0] or by_mean.nearest[2:].tolist() == [0, 3, 0]
    # Here the two rules differ: 95 degrees has the smaller largest similarity (to 0), 170 (to 100)
    # the smaller mean.
    rows = on_a_circle(0, 100, 185, 50)
    assert rank_farthest(rows, start=[0, 1], rule="mean").order[2] == 2


def test_mean_and_largest_differ_by_hand():
    # Taken 0, 20 and 180 degrees. 100 degrees: largest cos 80 = 0.174, mean (-0.174 + 0.174 +
    # 0.174) / 3 = 0.058. 240: largest cos 60 = 0.5, mean (-0.5 - 0.766 + 0.5) / 3 = -0.255.
    rows = on_a_circle(0, 20, 180, 100, 240)

    assert rank_farthest(rows, start=[0, 1, 2]).order[3] == 3
    assert rank_farthest(rows, start=[0, 1, 2], rule="mean").order[3] == 4


@pytest.mark.parametrize("algorithm", ["naive", "auto"])
def test_a_batch_is_not_renewed_inside(algorithm):
    # From 0: 180 and 179 are the lowest two, though alike; one at a time would take 90 second.
    rows = on_a_circle(0, 180, 179, 90)

    ranking = rank_farthest(rows, start=[0], rule="batch", batch_size=2, algorithm=algorithm)

    assert ranking.order.tolist() == [0, 1, 2, 3]
    assert np.rad2deg(np.arccos(ranking.similarity[1:])) == pytest.approx([180, 1, 89])
    assert ranking.nearest[1:].tolist() == [0, 1, 2]
    assert rank_farthest(rows, start=[0]).order.tolist() == [0, 1, 3, 2]


def test_a_matrix_and_its_embeddings_give_the_same_order():
    rows = np.random.default_rng(1).standard_normal((50, 5))

    for rule in ("largest", "mean", "batch"):
        kwargs = {"start": [3, 7], "rule": rule, "batch_size": 7}
        by_rows = rank_farthest(rows, **kwargs)
        by_matrix = rank_matrix(similarity_matrix(rows), **kwargs)
        assert np.array_equal(by_rows.order, by_matrix.order)
        assert np.array_equal(by_rows.nearest, by_matrix.nearest)


def test_an_order_is_nested_and_covers_within_twice_the_best():
    rows = np.random.default_rng(2).standard_normal((300, 8))
    whole = rank_farthest(rows, start=[5])

    assert np.array_equal(rank_farthest(rows, start=[5], count=20).order, whole.order[:20])
    assert sorted(whole.order) == list(range(300))
    assert (np.diff(whole.similarity[1:]) >= 0).all()  # the next is never farther than the last


def test_a_start_is_uniform_nested_and_within_the_limits():
    first = [uniform_start(10, count=1, seed=seed)[0] for seed in range(2000)]
    counts = np.bincount(first, minlength=10)
    limits = Limits(groups=np.arange(10) // 5, max_per_group=2)

    assert counts.min() > 140  # mean 200, SD 13.4
    assert counts.max() < 260
    drawn = uniform_start(np.array([4, 9, 2]), count=3, seed=1)
    assert sorted(drawn) == [2, 4, 9]
    within = uniform_start(10, count=3, seed=3, limits=limits, taken=[0])
    assert np.bincount(within // 5).tolist() == [1, 2]
    assert 0 not in within


def test_work_is_counted():
    rows = np.random.default_rng(0).standard_normal((100, 8))
    _, naive = rank_and_count(rows, start=[0], algorithm="naive")
    _, blocked = rank_and_count(rows, start=[0], algorithm="blocked")

    assert (naive.algorithm, naive.similarities, naive.share) == ("naive", 10000, 1.0)
    assert blocked.algorithm == "blocked"
    assert blocked.share == blocked.similarities / 10000


ROWS = on_a_circle(0, 10, 20, 30)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": []}, "An order needs images to start from"),
        ({"start": [4]}, "start: position 4 does not exist; there are 4 embeddings"),
        ({"start": [0], "taken": [-1]}, "taken: position -1 does not exist"),
        ({"start": [1, 1]}, "position 1 comes twice"),
        ({"start": [1], "taken": [1]}, "position 1 comes twice"),
        ({"start": [0, 1], "count": 1}, "count is 1; expected at least the 2 images of the start"),
        ({"start": [0], "taken": [1], "count": 4}, "at most the 3 that are not taken"),
        ({"start": [0], "rule": "least"}, "rule 'least' is not known; expected one of largest"),
        ({"start": [0], "algorithm": "fast"}, "algorithm 'fast' is not known"),
        ({"start": [0], "batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"start": [0], "stop_similarity": 1.5}, r"must lie in \[-1, 1\], got 1.5"),
        ({"start": [0], "stop_similarity": np.nan}, r"must lie in \[-1, 1\], got nan"),
        (
            {"start": [0], "limits": Limits(groups=np.zeros(3, int), max_per_group=1)},
            "groups: 3 numbers for 4 images",
        ),
        (
            {"start": [0], "limits": Limits(groups=np.array([0, -1, 0, 0]), max_per_group=1)},
            "groups: number -1 found",
        ),
        (
            {"start": [0], "limits": Limits(strata=np.arange(4), stratum_max=np.ones(3, int))},
            "strata: number 3 found, and limits for 3 strata",
        ),
        (
            {"start": [0, 1], "limits": Limits(groups=np.zeros(4, int), max_per_group=1)},
            "start: position 1 breaks the limits",
        ),
    ],
)
def test_orders_that_cannot_be(options, message):
    with pytest.raises(UsageError, match=message):
        rank_farthest(ROWS, **options)


def test_too_large_a_start_is_refused():
    with pytest.raises(UsageError, match=r"5 images .* asked for and 4 of 4 can be drawn"):
        uniform_start(4, count=5, seed=0)


def test_zero_rows_cannot_be_ranked():
    with pytest.raises(EmbeddingError, match="1 embeddings are all zeros: row 1"):
        rank_farthest(np.array([[1.0], [0.0]]), start=[0])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (np.ones((2, 3)), r"square, found shape \(2, 3\)"),
        (np.array([[1, np.nan], [np.nan, 1]]), "NaN or infinite"),
        (np.array([[1, 0.2], [0.3, 1]]), "not symmetric"),
    ],
)
def test_matrices_that_are_no_similarities(table, message):
    with pytest.raises(EmbeddingError, match=message):
        rank_matrix(table, start=[0])
