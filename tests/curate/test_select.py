import numpy as np
import pytest

from medglean.curate.methods.table import BEGIN_AT_RANDOM, METHODS, SUMMARY
from medglean.curate.outliers import OutlierGate
from medglean.curate.ranking import rank_farthest, rank_matrix
from medglean.curate.select import select
from medglean.curate.ssim import ssim_matrix
from medglean.errors import EmbeddingError, UsageError

CLIPS, FRAMES = 12, 10


def frames(*, junk=0, d=16, seed=0):
    """Return clips of similar frames, and some images that look like nothing else at the end."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(CLIPS, d)) + np.r_[4.0, np.zeros(d - 1)]
    values = np.repeat(centres, FRAMES, axis=0)
    values += 0.3 * generator.normal(size=values.shape)
    return np.concatenate([values, 4 * generator.normal(size=(junk, d))])


VALUES = frames()
GROUPS = np.repeat([f"clip {c}" for c in range(CLIPS)], FRAMES)
PATIENTS = np.repeat([f"p{c // 2}" for c in range(CLIPS)], FRAMES)
SITES = np.where(np.arange(120) < 80, "north", "south")
PICTURES = np.random.default_rng(9).random((120, 16, 16))
KNOWN = {"groups": GROUPS, "patients": PATIENTS, "strata": SITES, "thumbnails": PICTURES}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_one_order_of_all_images(method):
    found = select(VALUES, method=method, budget=24, seed=5, **KNOWN)

    assert found.method == method
    assert sorted(found.ranking.order.tolist()) == list(range(120))
    assert found.chosen.tolist() == found.ranking.order[:24].tolist()
    assert len(found.ranking.reason) == len(found.ranking.similarity) == 120
    assert found.warnings == ()
    assert found.outliers is None
    assert found.start == (2 if method in BEGIN_AT_RANDOM else 0)
    assert found.comparison.draws == 5
    assert found.comparison.selection.groups == len(set(GROUPS[found.chosen]))
    assert SUMMARY[method]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_honours_limits_and_what_is_taken(method):
    taken = [3, 4, 119]

    found = select(
        VALUES,
        method=method,
        budget=24,
        max_per_group=4,
        quotas={"north": 10, "south": "14"},
        preselected=taken,
        draws=0,
        **KNOWN,
    )

    assert len(found.ranking) == len(found.chosen) == 24
    assert set(found.chosen.tolist()).isdisjoint(taken)
    both = np.concatenate([found.chosen, taken])
    assert np.unique(GROUPS[both], return_counts=True)[1].max() <= 4
    assert (SITES[found.chosen] == "north").sum() == 10
    assert found.taken.tolist() == taken
    assert found.comparison is None


@pytest.mark.parametrize("method", METHODS)
def test_a_seed_repeats_its_selection(method):
    one, same = (select(VALUES, method=method, budget=10, seed=7, draws=0, **KNOWN) for _ in "ab")

    np.testing.assert_array_equal(one.ranking.order, same.ranking.order)
    np.testing.assert_array_equal(one.ranking.similarity, same.ranking.similarity)


@pytest.mark.parametrize("method", ["enrich", "random", "random-groups", "whole-groups", "k-means"])
def test_another_seed_gives_another_selection(method):
    one, other = (
        select(VALUES, method=method, budget=10, seed=seed, draws=0, **KNOWN) for seed in (0, 1)
    )

    assert one.ranking.order.tolist() != other.ranking.order.tolist()


def test_coverage_beats_random_and_interval_in_what_it_is_for():
    told = select(VALUES, method="coverage", budget=12).comparison

    assert told.selection.coverage_mean > told.random_mean.coverage_mean
    assert told.selection.coverage_mean > told.interval.coverage_mean - 1e-3


def test_enrich_takes_junk_first_and_the_gate_lists_it():
    values = frames(junk=4)  # 3 %
    junk = {120, 121, 122, 123}

    without = select(values, method="enrich", budget=20, draws=0)
    gated = select(values, method="enrich", budget=20, outlier_gate=OutlierGate())

    early = without.ranking.order[without.start :][:6].tolist()
    assert len(junk & set(early)) >= 3
    assert set(gated.outliers.position.tolist()) >= junk
    assert len(gated.outliers) <= 6
    assert junk.isdisjoint(gated.ranking.order.tolist())
    assert len(gated.eligible) + len(gated.outliers) == 124
    [warning] = gated.warnings
    assert warning.kind == "outliers"
    assert f"leaves out {len(gated.outliers)} of 124 images" in str(warning)


def test_a_gate_that_lists_many_is_called_too_narrow():
    gate = OutlierGate(deviations=0.1, least_deviation=0.0)

    found = select(VALUES, method="random", budget=5, outlier_gate=gate, draws=0)

    assert len(found.outliers) > 6
    assert "So many are hardly outliers: raise deviations, or lower most_share." in str(
        found.warnings[0]
    )


def test_enrich_by_structure_is_the_rule_on_ssim():
    found = select(VALUES, method="enrich-ssim", budget=10, start=3, draws=0, **KNOWN)
    table = ssim_matrix(PICTURES)

    expected = rank_matrix(table, start=found.ranking.order[:3], count=10)
    assert found.chosen.tolist() == expected.order.tolist()
    eight_bit = {**KNOWN, "thumbnails": np.rint(PICTURES * 255).astype(np.uint8)}
    assert len(select(VALUES, method="enrich-ssim", budget=10, draws=0, **eight_bit).chosen) == 10
    with pytest.raises(UsageError, match="compares thumbnails, and there are none"):
        select(VALUES, method="enrich-ssim", budget=10, draws=0)


@pytest.mark.parametrize("rule", ["mean", "batch"])
def test_enrich_by_other_rules(rule):
    found = select(VALUES, method=f"enrich-{rule}", budget=120, start=3, draws=0)

    expected = rank_farthest(VALUES, start=found.ranking.order[:3], rule=rule)
    assert found.chosen.tolist() == expected.order.tolist()


def test_what_is_preselected_is_never_gated():
    values = frames(junk=4)

    found = select(
        values, method="coverage", budget=5, preselected=[121], outlier_gate=OutlierGate(), draws=0
    )

    assert 121 in found.eligible
    assert set(found.outliers.position.tolist()) >= {120, 122, 123}
    assert 121 not in found.outliers.position


def test_zero_rows_are_set_aside_and_told_and_positions_stay_those_of_the_table():
    values = VALUES.copy()
    values[[0, 50]] = 0
    ids = [f"image {i}" for i in range(120)]

    found = select(values, method="enrich", budget=5, ids=ids, draws=0, groups=GROUPS)

    assert found.set_aside.tolist() == [0, 50]
    assert sorted(found.ranking.order.tolist()) == np.delete(np.arange(120), [0, 50]).tolist()
    [warning] = found.warnings
    assert "2 of 120 rows are zero and were set aside" in str(warning)
    assert "image 0, image 50" in str(warning)
    nearest = found.ranking.nearest[1]
    assert nearest == found.ranking.order[0]


def test_rows_that_are_all_alike_are_told_and_can_be_centred():
    values = VALUES + np.r_[50.0, np.zeros(15)]

    plain = select(values, method="coverage", budget=12, draws=0)
    centred = select(values, method="coverage", budget=12, centre=True, draws=0)

    assert "100% of pairs of images have a cosine similarity above 0.9" in str(plain.warnings[0])
    assert "Centre the embedding" in str(plain.warnings[0])
    assert centred.warnings == ()
    assert len(set(GROUPS[centred.chosen])) > 9


def test_limits_that_leave_too_few_are_told():
    found = select(VALUES, method="coverage", budget=30, groups=GROUPS, max_per_group=2, draws=0)

    assert len(found.chosen) == 24
    assert "24 images were chosen for a budget of 30: the limits leave no more" in str(
        found.warnings[0]
    )


def test_a_stop_similarity_that_stops_early_is_told():
    found = select(VALUES, method="enrich", budget=100, stop_similarity=0.9, draws=0)

    assert len(found.ranking) < 100
    assert found.ranking.similarity[found.start :].max() < 0.9
    assert found.warnings[0].kind == "short"


def test_quotas_with_too_few_images_are_told():
    found = select(VALUES, method="random", budget=60, strata=SITES, quotas={"south": 50}, draws=0)

    assert (SITES[found.chosen] == "south").sum() == 40
    assert "stratum 'south' has 40 images of the 50" in str(found.warnings[0])
    assert len(found.ranking) == 60


def test_a_quota_that_max_per_group_makes_impossible_is_told():
    # 4 southern clips of at most 3, one frame of which is taken
    found = select(
        VALUES,
        method="coverage",
        budget=24,
        max_per_group=3,
        quotas={"south": 14},
        preselected=[119],
        draws=0,
        **KNOWN,
    )

    assert "stratum 'south' has 11 images of the 14 its quota asks for" in str(found.warnings[0])
    assert (SITES[found.chosen] == "south").sum() == 11
    assert len(found.ranking) == 24


def test_start_and_order_length_are_what_is_asked_for():
    found = select(VALUES, method="enrich", budget=30, start=20, order_length=40, draws=0)
    share = select(VALUES, method="enrich", budget=30, start="10%", draws=0)
    with_taken = select(VALUES, method="enrich", budget=30, preselected=[1], draws=0)

    assert (found.start, len(found.ranking)) == (20, 40)
    assert found.ranking.reason[:20] == ("random start",) * 20
    assert found.ranking.reason[20] != "random start"
    assert share.start == 12
    assert with_taken.start == 0


def test_the_start_honours_the_limits():
    found = select(
        VALUES, method="enrich", budget=12, start=12, groups=GROUPS, max_per_group=1, draws=0
    )

    assert len(set(GROUPS[found.chosen])) == 12


def test_ids_can_be_preselected():
    ids = [f"image {i}" for i in range(120)]

    found = select(
        VALUES, method="coverage", budget=3, ids=ids, preselected=["image 7", "image 2"], draws=0
    )

    assert found.taken.tolist() == [2, 7]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"method": "magic"}, "there is no method 'magic'; the methods are rounds, enrich"),
        ({"budget": 0}, "budget must be at least 1, got 0"),
        ({"budget": 121}, "the budget is 121, and there are 120 images beside"),
        (
            {"budget": 119, "preselected": [1, 2]},
            "the budget is 119, and there are 118 images beside",
        ),
        ({"budget": 5, "start": 10}, "the budget is 5 images, and 10 are drawn at random"),
        ({"start": 0}, "enrich needs a start of at least 1 image, or preselected images"),
        ({"order_length": 9}, "order_length must be at least the budget of 10, got 9"),
        ({"method": "coverage", "start": 3}, "start concerns the method enrich alone"),
        ({"method": "random", "stop_similarity": 0.5}, "stop_similarity concerns the method enr"),
        ({"method": "coverage-groups"}, "coverage-groups needs to know the groups of the images"),
        ({"method": "coverage-patients"}, "coverage-patients needs to know the patients"),
        ({"max_per_group": 2}, "max_per_group is given and no groups are known"),
        ({"quotas": {"north": 3}}, "quotas need to know the strata of the images"),
        ({"quotas": {"east": 3}, "strata": SITES}, "no image is of 'east'"),
        ({"groups": GROUPS[:7]}, "groups: expected one entry per image, 120, found 7"),
        ({"preselected": [120]}, "preselected: positions must be 0 to 119, found 120"),
        ({"preselected": ["x"]}, "preselected holds ids, and the images have none"),
        (
            {"preselected": ["x", "5"], "ids": [str(i) for i in range(120)]},
            "preselected: 1 of 2 ids are not in the manifest: x. Correct or remove them",
        ),
    ],
)
def test_bad_arguments_are_refused(asked, message):
    with pytest.raises(UsageError, match=message):
        select(VALUES, **{"budget": 10, "method": "enrich", **asked})


def test_bad_embeddings_are_refused():
    broken, zero = VALUES.copy(), VALUES.copy()
    broken[7, 3] = np.nan
    zero[7] = 0

    with pytest.raises(EmbeddingError, match="NaN or infinite values: 'image 7'"):
        select(broken, budget=5, ids=[f"image {i}" for i in range(120)])
    with pytest.raises(EmbeddingError, match="1 preselected images have an embedding of zeros"):
        select(zero, budget=5, preselected=[7])
    with pytest.raises(EmbeddingError, match="120 embeddings for 3 images"):
        select(VALUES, budget=5, ids=["a", "b", "c"])
    with pytest.raises(EmbeddingError, match="every row of the embedding is zero"):
        select(np.zeros((3, 2)), budget=1)


@pytest.mark.parametrize("method", METHODS)
def test_a_budget_that_the_gate_leaves_too_little_for_is_told(method):
    values = frames(junk=4)
    known = {name: np.r_[labels, labels[:4]] for name, labels in KNOWN.items()}

    found = select(values, method=method, budget=124, outlier_gate=OutlierGate(), draws=0, **known)

    assert len(found.chosen) == 124 - len(found.outliers) < 124
    assert f"{len(found.chosen)} images were chosen for a budget of 124: the others were" in str(
        found.warnings[-1]
    )


def test_a_gate_that_leaves_nothing_is_refused():
    with pytest.raises(UsageError, match="none of 3 images can be chosen: all are set aside or"):
        select(
            np.eye(3),
            budget=1,
            outlier_gate=OutlierGate(least_contrast=1.0),
            thumbnails=np.zeros((3, 4, 4)),
        )
