"""The fast algorithms give what the naive one gives: order, similarities, nearest, and the end."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medglean.curate import similarity
from medglean.curate.order import Limits
from medglean.curate.ranking import blocked as ranking_blocked
from medglean.curate.ranking import farthest as face
from medglean.curate.ranking import pruned as ranking_pruned
from medglean.curate.ranking import pruned_kernels as kernels
from medglean.curate.ranking import rank_and_count, rank_farthest, uniform_start
from medglean.curate.similarity_kernels import canonical_slack
from medglean.errors import UsageError

KINDS = ["random", "clips", "tight clips", "few distinct", "all equal", "integers", "scaled copies"]


def make(kind, n, d, rng):
    if kind == "random":
        return rng.standard_normal((n, d))
    if kind in {"clips", "tight clips"}:
        spread = 0.05 if kind == "clips" else 1e-6
        centres = rng.standard_normal((8, d))
        return centres[rng.integers(0, 8, n)] + spread * rng.standard_normal((n, d))
    if kind == "few distinct":
        return rng.standard_normal((5, d))[rng.integers(0, 5, n)]
    if kind == "all equal":
        return np.tile(rng.standard_normal(d), (n, 1))
    if kind == "scaled copies":
        return rng.standard_normal((5, d))[rng.integers(0, 5, n)] * rng.uniform(0.5, 2, (n, 1))
    rows = rng.integers(-2, 3, (n, d)).astype(float)
    rows[~rows.any(axis=1)] = 1
    return rows


def assert_same(found, wanted):
    assert np.array_equal(found.order, wanted.order)
    assert np.array_equal(found.similarity, wanted.similarity, equal_nan=True)
    assert np.array_equal(found.nearest, wanted.nearest)
    assert found.reason == wanted.reason
    assert found.stopped == wanted.stopped


def draw_case(kind, seed):
    """Return embeddings and options drawn from a seed."""
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(2, 200)), int(rng.integers(1, 40))
    rows = make(kind, n, d, rng).astype(rng.choice([np.float32, np.float64]))
    limits = Limits()
    if rng.random() < 0.5:
        limits = Limits(
            groups=rng.integers(0, max(1, n // 5), n),
            max_per_group=int(rng.integers(1, 6)),
            strata=rng.integers(0, 3, n),
            stratum_max=rng.integers(n // 10 + 1, n + 1, 3),
        )
    taken = rng.choice(n, rng.integers(0, min(20, n)), replace=False)
    begun = int(rng.integers(0 if len(taken) else 1, min(30, n - len(taken)) + 1))
    try:
        start = uniform_start(n, count=begun, seed=seed, limits=limits, taken=taken)
    except UsageError:  # the limits allow no such start
        taken, limits = taken[:0], Limits()
        start = uniform_start(n, count=1, seed=seed)
    options = {
        "start": start,
        "taken": taken,
        "limits": limits,
        "count": int(rng.integers(len(start), n - len(taken) + 1)) if rng.random() < 0.5 else None,
        "stop_similarity": float(rng.uniform(-0.5, 1)) if rng.random() < 0.4 else None,
    }
    return rows, options


@pytest.fixture
def small_parts(monkeypatch):
    """Make pools, blocks and lists so small that a few images fill several of each."""
    monkeypatch.setattr(ranking_blocked, "SMALLEST_POOL", 4)
    monkeypatch.setattr(ranking_blocked, "LARGEST_POOL", 16)
    monkeypatch.setattr(similarity, "ROWS", 9)
    monkeypatch.setattr(similarity, "COLUMNS", 5)
    monkeypatch.setattr(ranking_pruned, "PENDING", 3)
    monkeypatch.setattr(face, "_WORTH_CLUSTERING", 2)
    monkeypatch.setattr(ranking_pruned, "DEAR", 0.01)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("small_parts")
def test_all_algorithms_agree(kind):
    @settings(max_examples=25)
    @given(seed=st.integers(0, 2**32 - 1))
    def check(seed):
        rows, options = draw_case(kind, seed)
        wanted = rank_farthest(rows, algorithm="naive", **options)
        for algorithm in ("blocked", "pruned", "auto"):
            assert_same(rank_farthest(rows, algorithm=algorithm, **options), wanted)

    check()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("small_parts")
def test_batches_agree(kind):
    @settings(max_examples=10)
    @given(seed=st.integers(0, 2**32 - 1), batch_size=st.integers(1, 30))
    def check(seed, batch_size):
        rows, options = draw_case(kind, seed)
        options |= {"rule": "batch", "batch_size": batch_size}
        wanted = rank_farthest(rows, algorithm="naive", **options)
        assert_same(rank_farthest(rows, **options), wanted)

    check()


@pytest.mark.parametrize("kind", ["clips", "random", "integers"])
def test_all_algorithms_agree_at_their_own_sizes(kind):
    rows = make(kind, 5000, 24, np.random.default_rng(5)).astype(np.float32)
    options = {"start": uniform_start(5000, count=40, seed=0), "count": 1500}

    wanted = rank_farthest(rows, algorithm="naive", **options)

    for algorithm in ("blocked", "pruned", "auto"):
        assert_same(rank_farthest(rows, algorithm=algorithm, **options), wanted)


def test_auto_prunes_clips_and_not_noise():
    rng = np.random.default_rng(3)
    clips = np.repeat(rng.standard_normal((50, 64)), 100, axis=0)
    clips += 0.02 * rng.standard_normal(clips.shape)
    noise = rng.standard_normal((5000, 64))
    start = uniform_start(5000, count=50, seed=0)

    _, on_clips = rank_and_count(clips, start=start, count=1000)
    _, on_noise = rank_and_count(noise, start=start, count=1000)

    assert on_clips.algorithm == "pruned"
    assert on_clips.share < 0.25
    assert on_noise.algorithm == "blocked"
    assert on_noise.share < 1


def test_auto_goes_over_to_blocked_where_clusters_turn_out_dear(monkeypatch):
    monkeypatch.setattr(face, "_WORTH_CLUSTERING", 2)
    monkeypatch.setattr(ranking_pruned, "PROMISING", 2.0)
    rows = np.random.default_rng(4).standard_normal((2000, 32))
    options = {"start": uniform_start(2000, count=10, seed=0), "count": 1200}

    found, work = rank_and_count(rows, **options)

    assert work.algorithm == "pruned, then blocked"
    assert_same(found, rank_farthest(rows, algorithm="naive", **options))


def test_rows_that_repeat_cost_nothing():
    rows = np.repeat(np.random.default_rng(0).standard_normal((4, 8)), 500, axis=0)

    for algorithm in ("blocked", "pruned"):
        _, work = rank_and_count(rows, start=[0], algorithm=algorithm)
        assert work.share < 0.01  # of 2000 x 2000: each row against four


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-8, 1e-7, 1e-5, 0.3, math.pi / 2, 3.0, math.pi])
def test_angles_are_bounded_on_both_sides(angle):
    slack = canonical_slack(128)
    for error in (-0.95 * slack, 0.0, 0.95 * slack):  # the cosine here is rounded, too
        cosine = math.cos(angle) + error
        lower, upper = kernels.lower_angle(cosine, slack), kernels.upper_angle(cosine, slack)
        assert lower <= angle <= upper
        assert upper - lower <= kernels.widest(slack)


def test_any_angle_has_narrow_bounds():
    slack = canonical_slack(128)
    near = 1 - np.geomspace(1e-16, 2, 500)

    gaps = [kernels.upper_angle(c, slack) - kernels.lower_angle(c, slack) for c in near]

    assert max(gaps) <= kernels.widest(slack)
    assert max(gaps) > 0.8 * kernels.widest(slack)
