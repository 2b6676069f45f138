import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medglean.curate import redundancy as module
from medglean.curate.redundancy import redundancy
from medglean.curate.similarity import similarity_matrix
from medglean.errors import EmbeddingError, UsageError


def on_a_circle(*degrees):
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_shares_by_hand():
    # Cosines: 0-20 0.940, 0-50 0.643, 0-170 -0.985, 20-50 0.866, 20-170 -0.866, 50-170 -0.5.
    rows = on_a_circle(0, 20, 50, 170)

    found = redundancy(rows, groups=["p", "p", "q", "q"], bins=4)

    assert found.pairs == {"all": 6, "within": 2, "between": 4}
    assert found.above["all"] == {0.5: 3, 0.7: 2, 0.9: 1}
    assert found.shares["within"] == {0.5: 0.5, 0.7: 0.5, 0.9: 0.5}
    assert found.shares["between"] == {0.5: 0.5, 0.7: 0.25, 0.9: 0.0}
    assert found.edges.tolist() == [-1, -0.5, 0, 0.5, 1]
    assert found.counts["all"].sum() == 6
    assert found.counts["all"].tolist()[2:] == [0, 3]


def test_a_pair_at_a_threshold_is_not_above_it_and_is_in_the_bin_that_begins_there():
    # (1, 0, 0, 0) and (1, 1, 1, 1): exactly 1/2. With (2, 0, 0, 0): 1/2 and 1.
    rows = np.array([[1.0, 0, 0, 0], [1, 1, 1, 1], [2, 0, 0, 0]])

    found = redundancy(rows, thresholds=(0.5, 0.49, 1.0, -1.0), bins=4)

    assert found.above["all"] == {0.5: 1, 0.49: 3, 1.0: 0, -1.0: 3}
    assert found.counts["all"].tolist() == [0, 0, 0, 3]


def test_one_image_has_no_pairs():
    found = redundancy(np.ones((1, 3)), groups=["a"])

    assert found.pairs == {"all": 0, "within": 0, "between": 0}
    assert all(math.isnan(share) for share in found.shares["all"].values())
    assert found.counts["between"].sum() == 0


def test_without_groups_there_are_only_all_pairs():
    assert set(redundancy(np.eye(3)).pairs) == {"all"}


@settings(max_examples=60)
@given(
    n=st.integers(1, 50),
    d=st.integers(1, 20),
    kind=st.sampled_from(["random", "integers", "copies"]),
    single=st.booleans(),
    bins=st.integers(1, 60),
    seed=st.integers(0, 2**16),
)
def test_counts_are_those_of_the_whole_matrix(n, d, kind, single, bins, seed):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, d))
    if kind == "integers":
        rows = rng.integers(-1, 2, (n, d)).astype(float)
        rows[~rows.any(axis=1)] = 1
    if kind == "copies":
        rows = rows[rng.integers(0, max(1, n // 4), n)]
    rows = rows.astype(np.float32 if single else np.float64)
    groups = rng.integers(0, 4, n)
    thresholds = (0.5, 0.7, 0.9, float(rng.uniform(-1, 1)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", 7)
        found = redundancy(rows, groups=groups, thresholds=thresholds, bins=bins)

    upper = np.triu_indices(n, 1)
    similarity = similarity_matrix(rows)[upper]
    same = (groups[:, None] == groups)[upper]
    for which, of in (("all", same | ~same), ("within", same), ("between", ~same)):
        chosen = similarity[of]
        assert found.pairs[which] == len(chosen)
        assert found.above[which] == {t: int((chosen > t).sum()) for t in thresholds}
        place = np.searchsorted(found.edges, chosen, side="right") - 1
        wanted = np.bincount(np.clip(place, 0, bins - 1), minlength=bins)
        assert np.array_equal(found.counts[which], wanted)


def test_blocks_of_their_own_size():
    rows = np.random.default_rng(0).standard_normal((2500, 6)).astype(np.float32)
    similarity = similarity_matrix(rows)[np.triu_indices(2500, 1)]

    found = redundancy(rows)

    assert found.above["all"] == {t: int((similarity > t).sum()) for t in (0.5, 0.7, 0.9)}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"groups": ["a"]}, EmbeddingError, "1 groups for 3 embeddings"),
        ({"bins": 0}, UsageError, "bins must be at least 1, got 0"),
        ({"thresholds": (0.5, 1.5)}, UsageError, r"thresholds must lie in \[-1, 1\], got 1.5"),
    ],
)
def test_what_cannot_be_counted(options, error, message):
    with pytest.raises(error, match=message):
        redundancy(np.eye(3), **options)


def test_zero_rows_are_refused():
    with pytest.raises(EmbeddingError, match="all zeros: row 0"):
        redundancy(np.zeros((2, 2)))
