import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medglean.curate.methods.coverage import group_weights, rank_coverage
from medglean.curate.methods.neighbours import similarity_graph
from medglean.curate.order import Limits
from medglean.curate.similarity import similarity_matrix
from medglean.errors import UsageError


def world(seed, kind, n=40, d=4):
    generator = np.random.default_rng(seed)
    if kind == "tied":
        return generator.integers(-1, 2, size=(n, d)) + np.r_[1.5, np.zeros(d - 1)]
    return generator.normal(size=(n, d))


def dense(graph):
    """Similarities along the graph as a table: 0 where two images are not joined."""
    table = np.eye(len(graph))
    for image in range(len(graph)):
        part = slice(graph.start[image], graph.start[image + 1])
        table[image, graph.column[part]] = graph.weight[part]
    return table


def plain_greedy(table, weights, count, *, limits=Limits(), taken=()):  # noqa: B008 - frozen
    """Look at every image at every step; sums in the order that the fast way uses."""
    n = len(table)
    covered = np.zeros(n)
    counter = limits.counter(n)
    for position in taken:
        counter.take(position)
        covered = np.maximum(covered, table[position])
    order = []
    while len(order) < count and counter.free.any():
        more = weights * np.maximum(table - covered, 0.0)
        itself = weights * (1.0 - covered)
        np.fill_diagonal(more, 0.0)
        # a running sum adds one number after the other, as a loop does
        gains = np.cumsum(np.column_stack([itself, more]), axis=1)[:, -1]
        gains[~counter.free] = -np.inf
        best = int(gains.argmax())  # the first of equals
        order.append(best)
        counter.take(best)
        covered = np.maximum(covered, table[best])
    return order


@settings(max_examples=25)
@given(
    st.integers(0, 2**16),
    st.sampled_from(["random", "tied"]),
    st.sampled_from([3, 39]),
    st.booleans(),
    st.booleans(),
)
def test_lazy_greedy_is_plain_greedy(seed, kind, k, weighted, limited):
    values = world(seed, kind)
    groups = np.random.default_rng(seed).integers(0, 6, size=40)
    weights = group_weights(groups) if weighted else np.full(40, 1 / 40)
    limits = Limits(groups, 3) if limited else Limits()
    taken = (5, 17) if limited else ()
    graph = similarity_graph(values, neighbours=k)
    expected = plain_greedy(dense(graph), weights, 40, limits=limits, taken=taken)

    ranking = rank_coverage(
        values,
        count=40,
        weights=weights if weighted else None,
        neighbours=k,
        limits=limits,
        taken=taken,
    )

    assert ranking.order.tolist() == expected


def test_three_directions_by_hand():
    # gains: image 0 covers itself and its two copies (3), image 3 itself and one copy (2)
    values = np.array([[1, 0, 0], [2, 0, 0], [3, 0, 0], [0, 1, 0], [0, 2, 0], [0, 0, 1]], float)

    ranking = rank_coverage(values, count=6)

    assert ranking.order.tolist() == [0, 3, 5, 1, 2, 4]  # all covered: by position
    assert ranking.reason[:4] == (
        "stands for 3 images",
        "stands for 2 images",
        "stands for 1 image",
        "stands for 1 image",
    )
    assert ranking.nearest.tolist()[:1] == [-1]
    assert ranking.similarity[3:].tolist() == [1.0, 1.0, 1.0]
    assert np.isnan(ranking.similarity[0])


def test_images_opposite_to_one_another_cover_nothing():
    values = np.array([[1.0, 0.0], [-1.0, 0.0], [-1.0, 0.1]])

    assert rank_coverage(values, count=2).order.tolist() == [1, 0]


def test_group_weights_let_a_short_clip_speak():
    values = np.array([[1.0, 0.0]] * 6 + [[0.0, 1.0]] * 2 + [[-0.1, 1.0]])
    groups = np.array([0, 0, 0, 0, 1, 1, 2, 3, 4])

    weights = group_weights(groups)

    assert weights.sum() == pytest.approx(1.0)
    assert np.bincount(groups, weights) == pytest.approx(np.full(5, 0.2))
    assert rank_coverage(values, count=1).order.tolist() == [0]  # six frames against three
    # by clips: 2 of 5 show the first view, 3 of 5 the second
    assert rank_coverage(values, count=1, weights=weights).order.tolist() == [6]


def test_group_weights_skip_numbers_that_do_not_occur():
    assert group_weights(np.array([0, 2, 2])).tolist() == [0.5, 0.25, 0.25]


def test_what_was_taken_covers_and_is_not_in_the_order():
    values = np.array([[1.0, 0.0]] * 5 + [[0.0, 1.0]] * 2)

    ranking = rank_coverage(values, count=7, taken=[2])

    assert ranking.order.tolist() == [5, 0, 1, 3, 4, 6]
    assert ranking.nearest[0] == 2
    assert ranking.similarity[0] == 0.0


def test_at_least_63_percent_of_the_best_of_all_sets():
    values = np.random.default_rng(0).normal(size=(12, 3))
    table = np.maximum(similarity_matrix(values), 0)
    best = max(
        table[[a, b, c]].max(axis=0).sum() for a in range(12) for b in range(a) for c in range(b)
    )

    chosen = rank_coverage(values, count=3).order

    assert table[chosen].max(axis=0).sum() >= (1 - 1 / np.e) * best


def test_the_order_is_nested():
    values = world(3, "random")

    assert rank_coverage(values, count=40).order[:7].tolist() == (
        rank_coverage(values, count=7).order.tolist()
    )


def test_a_weight_of_zero_is_refused():
    with pytest.raises(UsageError, match="weights must all be above 0"):
        rank_coverage(np.eye(2), count=1, weights=np.array([1.0, 0.0]))
