import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medglean.curate.methods import neighbours
from medglean.curate.methods.neighbours import (
    default_neighbours,
    nearest_neighbours,
    similarity_graph,
)
from medglean.curate.similarity import similarity_matrix
from medglean.errors import UsageError


def world(seed, kind, n=60, d=5):
    generator = np.random.default_rng(seed)
    if kind == "tied":  # few directions, many copies
        return generator.integers(-1, 2, size=(n, d)) + np.r_[1.5, np.zeros(d - 1)]
    values = generator.normal(size=(n, d))
    if kind == "clustered":
        values = generator.normal(size=(6, d))[np.arange(n) % 6] + 0.01 * values
    return values.astype(np.float32)


def by_sorting(values, k):
    table = similarity_matrix(values)
    np.fill_diagonal(table, -np.inf)
    position = np.argsort(-table, axis=1, kind="stable")[:, :k]
    return position, np.take_along_axis(table, position, axis=1)


@settings(max_examples=30)
@given(
    st.integers(0, 2**16),
    st.sampled_from(["random", "clustered", "tied"]),
    st.sampled_from([1, 3, 20, 59]),
    st.sampled_from([7, 64]),
)
def test_equal_to_sorting_all_similarities(seed, kind, k, tile):
    values = world(seed, kind)
    position, similarity = by_sorting(values, k)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "TILE", tile)  # several tiles, the last of them cut
        patch.setattr(neighbours, "SLACK", 4)
        found = nearest_neighbours(values, k=k)

    np.testing.assert_array_equal(found.position, position)
    np.testing.assert_array_equal(found.similarity, similarity)


def test_what_float32_cannot_tell_apart_is_settled_in_float64(monkeypatch):
    monkeypatch.setattr(neighbours, "SLACK", 2)
    values = np.column_stack([np.ones(60), 1e-5 * np.arange(60)])  # angles of 0.00001 steps
    position, similarity = by_sorting(values, 3)

    found = nearest_neighbours(values, k=3)

    assert position[59].tolist() == [58, 57, 56]
    np.testing.assert_array_equal(found.position, position)
    np.testing.assert_array_equal(found.similarity, similarity)


@pytest.mark.parametrize("kind", ["clustered", "tied"])
def test_graph_joins_where_either_is_a_neighbour(kind):
    values = world(1, kind)
    position, _ = by_sorting(values, 4)
    joined = np.zeros((60, 60), dtype=bool)
    np.put_along_axis(joined, position, True, axis=1)
    joined |= joined.T
    table = similarity_matrix(values).astype(np.float32)
    joined &= table > 0

    graph = similarity_graph(values, neighbours=4)

    assert (len(graph), graph.neighbours) == (60, 4)
    for image in range(60):
        part = slice(graph.start[image], graph.start[image + 1])
        np.testing.assert_array_equal(graph.column[part], np.flatnonzero(joined[image]))
        np.testing.assert_array_equal(graph.weight[part], table[image, joined[image]])


def test_graph_of_one_image_has_no_pairs():
    graph = similarity_graph(np.ones((1, 3)))

    assert (len(graph), len(graph.column)) == (1, 0)


def test_more_neighbours_than_images_mean_all_others():
    graph = similarity_graph(world(0, "random", n=5), neighbours=99)

    assert np.diff(graph.start).tolist() == [4] * 5


@pytest.mark.parametrize(
    ("n", "k"), [(1, 1), (2, 1), (1820, 1819), (45_460, 87), (1_000_000, 32), (20, 19)]
)
def test_default_number_of_neighbours(n, k):
    assert default_neighbours(n) == k


@pytest.mark.parametrize("k", [0, 3])
def test_a_wrong_number_of_neighbours_is_refused(k):
    with pytest.raises(UsageError, match=rf"neighbours must be 1 to 2 for 3 images, got {k}"):
        nearest_neighbours(np.eye(3), k=k)
