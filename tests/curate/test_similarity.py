import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medglean.curate import similarity as module
from medglean.curate import similarity_kernels as kernels
from medglean.curate.lanes_kernels import LANES
from medglean.curate.similarity import (
    centred,
    check_embeddings,
    inverse_norms,
    similarity_matrix,
    to_set,
    unit_rows,
)
from medglean.errors import EmbeddingError, UsageError

RNG = np.random.default_rng(0)


def dot_by_the_book(a, b):
    """The order of additions that lanes_kernels documents, in plain Python floats."""
    a, b = [float(x) for x in a], [float(x) for x in b]
    whole = len(a) // LANES * LANES
    lanes = [0.0] * LANES
    for k in range(whole):
        lanes[k % LANES] += a[k] * b[k]
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = [lanes[k] + lanes[k + half] for k in range(half)]
    total = lanes[0]
    for k in range(whole, len(a)):
        total += a[k] * b[k]
    return total


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("d", [1, 15, 16, 17, 128, 133])
def test_the_canonical_dot_product_adds_in_its_documented_order(d, dtype):
    rows = RNG.standard_normal((2, d)).astype(dtype)

    assert kernels.dot(rows, 0, rows, 1) == dot_by_the_book(rows[0], rows[1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_canonical_similarity_is_symmetric_and_repeats_in_every_loop(dtype):
    rows = RNG.standard_normal((40, 37)).astype(dtype)
    table = similarity_matrix(rows)
    shuffled = RNG.permutation(40)

    assert np.array_equal(table, table.T)
    assert np.array_equal(table[np.ix_(shuffled, shuffled)], similarity_matrix(rows[shuffled]))
    assert np.allclose(table, unit_rows(rows) @ unit_rows(rows).T, atol=1e-6)


def test_similarity_by_hand():
    # (3, 4) against (4, 3): 24 / 25; against (-4, 3): 0; against (-3, -4): -1.
    rows = np.array([[3.0, 4.0], [4.0, 3.0], [-4.0, 3.0], [-3.0, -4.0]])

    assert similarity_matrix(rows)[0] == pytest.approx([1, 0.96, 0, -1], abs=1e-15)


@pytest.mark.parametrize("kind", ["normal", "positive", "wide"])
@pytest.mark.parametrize("d", [3, 128, 700])
def test_errors_stay_within_their_bounds(kind, d):
    rows = RNG.standard_normal((4, d))
    if kind == "positive":  # nothing cancels: the bound is relative to the sum of sizes
        rows = np.abs(rows)
    if kind == "wide":
        rows *= 10.0 ** RNG.uniform(-20, 20, rows.shape)
    inverse = inverse_norms(rows)
    units = np.empty(rows.shape, dtype=np.float32)
    kernels.gather_unit(rows, inverse, np.arange(4), units)
    filtered = units @ units.T
    exact_rows = [[Fraction(x) for x in row] for row in rows]

    for i, a in enumerate(exact_rows):
        for j, b in enumerate(exact_rows):
            product = sum(x * y for x, y in zip(a, b, strict=True))
            squares = sum(x * x for x in a) * sum(y * y for y in b)
            length = Fraction(math.isqrt(int(squares * 4**400)), 2**400)
            canonical = Fraction(kernels.similarity(rows, inverse, i, j))
            assert abs(canonical - product / length) <= kernels.canonical_slack(d)
            assert abs(canonical - Fraction(float(filtered[i, j]))) <= kernels.filter_slack(d)


def test_rows_are_scaled_or_centred_in_their_type():
    rows = RNG.standard_normal((5, 7)).astype(np.float32) + 3

    assert unit_rows(rows).dtype == centred(rows).dtype == np.float32
    assert np.linalg.norm(unit_rows(rows), axis=1) == pytest.approx(np.ones(5), abs=1e-6)
    assert centred(rows).mean(axis=0) == pytest.approx(np.zeros(7), abs=1e-6)
    assert centred(rows) + rows.mean(axis=0) == pytest.approx(rows, abs=1e-6)


@given(
    n=st.integers(1, 60),
    d=st.integers(1, 20),
    distinct=st.integers(1, 60),
    single=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_to_set_finds_the_nearest_and_the_lowest_of_several(n, d, distinct, single, seed):
    rng = np.random.default_rng(seed)
    rows = (rng.standard_normal((distinct, d)) + 0.01)[rng.integers(0, distinct, n)]
    rows = rows.astype(np.float32 if single else np.float64)
    chosen = rng.choice(n, rng.integers(1, n + 1), replace=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROWS", 7)
        patch.setattr(module, "COLUMNS", 3)
        largest, nearest = to_set(rows, chosen)

    table = similarity_matrix(rows)[:, np.sort(chosen)]
    assert np.array_equal(largest, table.max(axis=1))
    assert np.array_equal(nearest, np.sort(chosen)[table.argmax(axis=1)])


def test_what_is_usable_is_passed_on_without_a_copy():
    rows = np.array([[1.0, 2.0], [0.0, 0.0], [3.0, 4.0]], dtype=np.float32)

    checked = check_embeddings(rows)

    assert np.shares_memory(checked.values, rows)
    assert checked.usable.tolist() == [True, False, True]
    assert check_embeddings(rows.astype(np.float16)).values.dtype == np.float32
    assert check_embeddings(rows.astype(np.int32)).values.dtype == np.float64
    assert check_embeddings(rows[:, ::-1]).values.flags.c_contiguous


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros(3), r"shape \(3,\); expected one row per image"),
        (np.zeros((0, 3)), r"shape \(0, 3\): there is nothing to compare"),
        (np.array([["a"]]), "type <U1; expected real numbers"),
        (np.ones((2, 2)) * 1j, "type complex128; expected real numbers"),
        (
            np.array([[1.0], [np.nan], [np.inf]]),
            "2 of 3 embeddings have NaN or infinite .* 'b', 'c'",
        ),
        (np.array([[1.0], [1e-200], [0]]), "1 embeddings are longer than .* or shorter .*'b'"),
        (np.array([[1e200], [1.0], [0]]), "1 embeddings are longer than .*'a'"),
    ],
)
def test_embeddings_that_cannot_be_compared(values, message):
    with pytest.raises(EmbeddingError, match=message):
        check_embeddings(values, ids=["a", "b", "c"][: len(values)])


def test_many_broken_rows_are_counted_and_some_named():
    with pytest.raises(
        EmbeddingError, match=r"8 of 8 .*row 0, row 1, row 2, row 3, row 4 and 3 more"
    ):
        check_embeddings(np.full((8, 2), np.nan))


def test_embeddings_of_other_images():
    with pytest.raises(EmbeddingError, match="2 embeddings for 3 images"):
        check_embeddings(np.ones((2, 2)), ids=["a", "b", "c"])


def test_zero_rows_are_refused_where_a_cosine_is_needed():
    rows = np.array([[1.0, 2.0], [0.0, 0.0]])

    with pytest.raises(EmbeddingError, match="1 embeddings are all zeros: row 1"):
        unit_rows(rows)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ([], "No row is chosen"),
        ([2], "chosen: position 2 does not exist; there are 2 embeddings"),
        ([-1], "chosen: position -1 does not exist"),
        ([0.5], "chosen must be a list of positions"),
    ],
)
def test_positions_that_cannot_be_chosen(chosen, message):
    with pytest.raises(UsageError, match=message):
        to_set(np.ones((2, 2)), chosen)
