import numpy as np
import pytest

from medglean.measure import curves, intervals, subgroups, weighted


def world(*, patients=300, effect=(2.0, 0.5)):
    """Two images a patient; scores tell truth well in AP and badly in PA."""
    generator = np.random.default_rng(0)
    patient = np.repeat(np.arange(patients), 2)
    view = np.where(np.arange(2 * patients) % 2 == 0, "AP", "PA")
    truth = (generator.random(patients) < 0.5)[patient]
    strength = np.where(view == "AP", *effect)
    return truth, strength * truth + generator.normal(0, 1, len(truth)), view, patient


def auroc_of(truth, scores):
    return lambda rows: weighted.auroc(truth[rows], scores[rows])


def test_each_subgroup_is_measured_alone():
    truth, scores, view, patient = world()
    table = subgroups.subgroup_table(
        auroc_of(truth, scores), view, patient, truth=truth, replicates=300
    )

    assert [row.name for row in table.rows] == ["AP", "PA"]
    for row in table.rows:
        mine = view == row.name
        assert row.interval.value == curves.auroc(truth[mine], scores[mine])
        assert row.interval.low < row.interval.value < row.interval.high
        assert (row.interval.n, row.interval.groups) == (300, 300)
        assert (row.positives, row.few, row.note) == (truth[mine].sum(), False, "")


def test_a_subgroup_has_the_interval_of_its_own_weights():
    truth, scores, view, patient = world(patients=40)
    table = subgroups.subgroup_table(auroc_of(truth, scores), view, patient, replicates=50, seed=3)
    rows = np.flatnonzero(view == "PA")
    alone = weighted.auroc(truth[rows], scores[rows])
    values = intervals.bootstrap_values(
        {"": lambda weights: alone(weights[rows])}, patient, replicates=50, seed=3
    )[""]

    low, high = np.quantile(values, [0.025, 0.975])
    found = table.rows[1].interval
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)


def test_the_gap_is_paired_and_signed():
    truth, scores, view, patient = world()
    table = subgroups.subgroup_table(
        auroc_of(truth, scores), view, patient, truth=truth, replicates=500
    )
    gap = table.gap

    assert (gap.higher, gap.lower, gap.pairs, gap.note) == ("AP", "PA", 1, "")
    values = [row.interval.value for row in table.rows]
    assert gap.interval.value == values[0] - values[1] > 0.1
    assert 0 < gap.interval.low < gap.interval.value < gap.interval.high
    assert gap.interval.level == pytest.approx(0.95)
    assert (gap.interval.n, gap.interval.groups) == (600, 300)


def test_no_difference_is_not_found():
    truth, scores, view, patient = world(effect=(1.0, 1.0))
    gap = subgroups.subgroup_table(auroc_of(truth, scores), view, patient, replicates=500).gap

    assert gap.interval.low < 0 < gap.interval.high


def test_the_largest_of_many_gaps_has_the_level_of_all_pairs():
    generator = np.random.default_rng(1)
    values = generator.integers(0, 4, 800)
    hit = generator.random(800)
    table = subgroups.subgroup_table(
        lambda rows: weighted.mean(hit[rows]), values, np.arange(800), replicates=400
    )
    means = [hit[values == k].mean() for k in range(4)]

    assert (table.gap.higher, table.gap.lower) == (str(np.argmax(means)), str(np.argmin(means)))
    assert table.gap.interval.value == pytest.approx(max(means) - min(means))
    assert table.gap.pairs == 6
    assert table.gap.interval.level == pytest.approx(1 - 0.05 / 6)
    assert table.gap.note == "its limits rest on few resamples: ask for 1200 replicates"
    assert table.rows[0].positives is None


def test_small_subgroups_are_noted_and_left_out_of_the_gap():
    truth, scores, view, patient = world()
    view = view.astype(object)
    view[:30] = "L"
    view[30:60] = None
    view[60:62] = "one"
    table = subgroups.subgroup_table(
        auroc_of(truth, scores), view, patient, truth=truth, replicates=100, order=["PA"]
    )
    rows = {row.name: row for row in table.rows}

    assert list(rows) == ["PA", "AP", "L", "one", "not known"]
    assert rows["L"].few
    assert "30 images (few: below 50); 15 patients (few: below 20)" in rows["L"].note
    assert rows["not known"].interval.n == 30
    assert {table.gap.higher, table.gap.lower} == {"AP", "PA"}
    assert rows["one"].interval.groups == 1
    assert np.isnan([rows["one"].interval.value, rows["one"].interval.low]).all()


def test_one_subgroup_has_no_gap():
    truth, scores, _, patient = world(patients=60)
    table = subgroups.subgroup_table(
        auroc_of(truth, scores), ["PA"] * 120, patient, truth=truth, replicates=50
    )

    assert table.gap is None
    assert table.note == "no gap: 1 known and not few, 2 subgroups are needed"


@pytest.mark.parametrize(
    ("images", "groups", "positives", "note"),
    [
        (50, 20, 10, ""),
        (49, 20, 10, "49 images (few: below 50)"),
        (50, 19, None, "19 patients (few: below 20)"),
        (50, 20, 9, "9 positive images (few: below 10)"),
        (50, 20, 41, "9 negative images (few: below 10)"),
    ],
)
def test_the_rule_of_few(images, groups, positives, note):
    assert subgroups.few(images=images, groups=groups, positives=positives) == note


def test_age_bands_hold_their_lower_limit():
    ages = np.array([0.0, 17.99, 18.0, 39.9, 40.0, 79.0, 80.0, 101.0, np.nan])
    assert subgroups.age_bands(ages).tolist() == [
        "under 18", "under 18", "18 to 39", "18 to 39", "40 to 59", "60 to 79",
        "80 or over", "80 or over", "not known",
    ]  # fmt: skip
    assert subgroups.age_band_names([50.0]) == ["under 50", "50 or over"]
    bands = subgroups.age_bands(ages)
    positions = subgroups.subgroup_positions(bands, order=subgroups.age_band_names())
    assert list(positions) == [
        "under 18", "18 to 39", "40 to 59", "60 to 79", "80 or over", "not known",
    ]  # fmt: skip
    assert positions["18 to 39"].tolist() == [2, 3]


def test_bad_input_is_told():
    with pytest.raises(ValueError, match="ages: 1 of 2 are negative or infinite"):
        subgroups.age_bands([4.0, -1.0])
    with pytest.raises(ValueError, match="edges must be whole years that rise"):
        subgroups.age_bands([4.0], edges=[20.0, 10.0])
    with pytest.raises(ValueError, match="values has 2, groups has 3"):
        subgroups.subgroup_table(
            lambda rows: weighted.mean(np.ones(len(rows))), ["a", "b"], [1, 2, 3]
        )
