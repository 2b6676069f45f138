import numpy as np
import pandas as pd
import pytest
from tests.classify.judged import judge, two_classes, write_run

from medglean.classify.assess import assess
from medglean.classify.decisions import Decisions
from medglean.classify.drop import (
    auroc_changes,
    changes,
    headline_statistics,
    on_classes,
    shared_classes,
)
from medglean.classify.external import external_part
from medglean.classify.scores import PROBABILITY as IN_SCORES
from medglean.classify.stored_scores import PROBABILITY, read_scores
from medglean.errors import RunFolderError
from medglean.measure import weighted
from medglean.measure.operating import OperatingPoint
from medglean.runs.report import Report


def three_classes(n, *, seed=0, without=()):
    generator = np.random.default_rng(seed)
    targets = generator.choice([j for j in range(3) if j not in without], n)
    logits = generator.normal(size=(n, 3)) + 1.5 * (targets[:, None] == np.arange(3))
    shares = np.exp(logits)
    return shares / shares.sum(axis=1, keepdims=True), targets


def test_stored_scores_are_read_back_as_they_were_written(tmp_path):
    probability, targets = three_classes(30)
    split = ["test"] * 20 + ["val"] * 10
    run = write_run(
        tmp_path / "run", probability, targets, classes=("a", "b", "c"), split=split,
        patient=[str(row // 2) for row in range(30)],
    )  # fmt: skip

    found = read_scores(run, training=True)

    assert PROBABILITY == IN_SCORES
    assert (found.kind, found.classes, found.part) == ("single", ("a", "b", "c"), "test")
    np.testing.assert_array_equal(found.probability, probability[:20])
    np.testing.assert_array_equal(found.targets, targets[:20])
    assert list(found.groups[:4]) == ["0", "0", "1", "1"]
    assert len(read_scores(run, training=False).ids) == 30


def test_without_a_test_part_the_validation_part_is_read(tmp_path):
    probability, targets = three_classes(12)
    run = write_run(
        tmp_path / "run", probability, targets, classes=("a", "b", "c"), split=["val"] * 12
    )

    assert read_scores(run, training=True).part == "val"


def test_a_damaged_table_is_told(tmp_path):
    run = write_run(tmp_path / "run", *two_classes(10, separation=1.0))
    (run / "results.parquet").write_bytes(b"nothing")
    with pytest.raises(RunFolderError, match=r"results\.parquet.*damaged file"):
        read_scores(run, training=True)

    pd.DataFrame({"id": ["1"], "psnr": [20.0]}).to_parquet(run / "results.parquet")
    with pytest.raises(RunFolderError, match=r"'probability\.CLASS', found id, psnr"):
        read_scores(run, training=True)


@pytest.mark.parametrize("kind", ["two", "three", "findings"])
def test_headline_is_that_of_the_report(tmp_path, kind):
    if kind == "two":
        classes, (probability, targets) = ("a", "b"), two_classes(80, separation=1.0)
    else:
        classes, (probability, targets) = ("a", "b", "c"), three_classes(80)
    if kind == "findings":
        targets = np.stack([targets == 0, targets > 0, targets == 2], axis=1).astype(np.float32)
    run = write_run(tmp_path / "run", probability, targets, classes=classes)
    stored = read_scores(run, training=True)

    statistics = headline_statistics(stored, classes, threshold=0.4)

    expected = assess(
        targets, probability, stored.groups, kind=stored.kind, classes=classes, threshold=0.4,
        replicates=2,
    )  # fmt: skip
    once = np.ones((80, 1))
    found = {name: float(statistic(once)[0]) for name, statistic in statistics.items()}
    assert found == pytest.approx({name: one.value for name, one in expected.headline.items()})


def test_change_is_here_less_home_and_its_spread_adds_up():
    generator = np.random.default_rng(0)
    home, here = generator.normal(0.0, 1.0, 400), generator.normal(-0.5, 2.0, 300)
    found = changes(
        {"mean": weighted.mean(home)},
        np.arange(400).astype(str),
        {"mean": weighted.mean(here)},
        np.arange(300).astype(str),
        replicates=4000,
    )["mean"]

    assert found.change.value == pytest.approx(here.mean() - home.mean())
    # Independent means: variances add, and the normal interval holds.
    error = np.sqrt(home.var() / 400 + here.var() / 300)
    assert found.change.high - found.change.low == pytest.approx(2 * 1.96 * error, rel=0.06)
    assert found.change.value < 0
    assert found.is_clear
    assert (found.change.n, found.change.groups) == (700, 700)


def test_sets_of_equally_many_patients_are_not_resampled_in_step():
    values = np.random.default_rng(1).normal(size=200)
    groups = np.arange(200).astype(str)
    same = {"mean": weighted.mean(values)}

    found = changes(same, groups, same, groups, replicates=1000)["mean"]

    assert found.change.value == 0.0
    assert found.change.high - found.change.low > 0.2  # paired draws would give 0
    assert not found.is_clear


def test_unpaired_delong_on_numbers_worked_out_by_hand(tmp_path):
    # Hanley and McNeil's mean placements: each set has AUROC and variance of its own.
    home = two_classes(300, separation=3.0, seed=1)
    here = two_classes(200, separation=1.0, seed=2)
    first = read_scores(write_run(tmp_path / "a", *home), training=True)
    second = read_scores(write_run(tmp_path / "b", *here), training=True)

    found = auroc_changes(first, second, ["ill"])["ill"]

    def by_hand(probability, targets):
        positive, negative = probability[targets == 1, 1], probability[targets == 0, 1]
        wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
        v10, v01 = wins.mean(axis=1), wins.mean(axis=0)
        return wins.mean(), v10.var(ddof=1) / len(v10) + v01.var(ddof=1) / len(v01)

    (own, own_variance), (other, other_variance) = by_hand(*home), by_hand(*here)
    z = (own - other) / np.sqrt(own_variance + other_variance)
    from scipy import stats

    assert found.home.value == pytest.approx(own)
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(z)))


def test_only_classes_of_both_sets_are_compared(tmp_path):
    classes = ("a", "b", "c")
    home = read_scores(
        write_run(tmp_path / "a", *three_classes(90, seed=1), classes=classes), training=True
    )
    here = read_scores(
        write_run(tmp_path / "b", *three_classes(60, seed=2, without=(1,)), classes=classes),
        training=True,
    )

    shared = shared_classes(home, here)
    kept = on_classes(home, shared)

    assert shared == ("a", "c")
    assert len(kept.ids) == int((home.targets != 1).sum())
    assert set(np.unique(kept.targets)) == {0, 2}
    assert kept.probability.shape[1] == 3  # it may still call b, and is then wrong


def test_a_drop_is_told_with_its_interval(tmp_path):
    run = write_run(tmp_path / "run", *two_classes(400, separation=5.0, seed=1))
    here = judge(*two_classes(300, separation=1.0, seed=2))

    part = external_part(here, run)

    assert part.sentences[0].startswith("AUROC falls from 1.000 on the run's own test part to 0.7")
    assert "(drop 0.2" in part.sentences[0]
    assert "chance" not in part.sentences[0]
    metric = part.metrics[0]
    assert metric.name == "AUROC: change from the run's own test part"
    assert metric.value < metric.high < 0
    assert part.tables[0].rows[0][0] == "AUROC"
    assert part.tables[1].rows[0][-1] < 1e-6
    assert [row[0] for row in part.tables[0].rows][-1] == "Calibration error (less is better)"
    assert part.figures[0].data.startswith(b"<?xml")
    Report("t", "s", metrics=part.metrics, tables=part.tables, figures=part.figures).to_html()


def test_no_difference_is_said_to_be_chance(tmp_path):
    run = write_run(tmp_path / "run", *two_classes(200, separation=2.0, seed=1))

    part = external_part(judge(*two_classes(200, separation=2.0, seed=3)), run)

    assert "it may be chance" in part.sentences[0]
    assert not part.warnings


def test_the_runs_own_images_have_no_drop(tmp_path):
    probability, targets = two_classes(60, separation=2.0)
    run = write_run(tmp_path / "run", probability, targets)
    own = judge(probability, targets, ids=[f"own/{row}" for row in range(60)])

    part = external_part(own, run)

    assert part.sentences == part.tables == part.figures == part.warnings == ()


def test_left_out_classes_are_named(tmp_path):
    classes = ("a", "b", "c")
    run = write_run(tmp_path / "run", *three_classes(200, seed=1), classes=classes)
    here = judge(*three_classes(150, seed=2, without=(1,)), classes=classes)

    part = external_part(here, run)

    assert part.sentences[0].startswith("Macro AUROC over a and c, which both have, ")
    assert "Images of other classes are left out on both sides." in part.tables[0].note
    assert [row[0] for row in part.tables[1].rows] == ["a", "c"]


def test_findings_are_compared_one_by_one(tmp_path):
    generator = np.random.default_rng(0)
    classes = ("a", "b", "c")
    truth = (generator.random((200, 3)) < 0.4).astype(np.float32)
    probability = np.clip(0.3 * truth + generator.random((200, 3)) * 0.7, 0, 1)
    run = write_run(tmp_path / "run", probability, truth, classes=classes)
    other = truth.copy()
    other[:, 1] = 0.0  # nobody there has b

    part = external_part(judge(probability[::-1], other[::-1], classes=classes), run)

    assert "over a and c" in part.sentences[0]
    assert [row[0] for row in part.tables[0].rows][:3] == [
        "Macro AUROC", "Exact match", "Hamming loss (less is better)",
    ]  # fmt: skip


def test_one_shared_class_leaves_auroc_undefined_and_says_so(tmp_path):
    run = write_run(tmp_path / "run", *two_classes(100, separation=2.0))
    probability, _ = two_classes(50, separation=2.0, seed=3)

    part = external_part(judge(probability, np.ones(50, dtype=np.int64)), run)

    assert "cannot be compared" in part.sentences[0]
    assert np.isnan(part.metrics[0].value)
    assert part.tables[0].rows[0][1] == "n/a"


def test_thresholds_that_do_not_hold_are_told(tmp_path):
    probability, targets = two_classes(400, separation=4.0, seed=1)
    run = write_run(tmp_path / "run", probability, targets)
    points = {"ill": (OperatingPoint("sensitivity >= 0.95", 0.3, 0.95, 0.99),)}
    here = judge(
        *two_classes(300, separation=0.5, seed=2), decisions=Decisions((1.0,), points=points)
    )

    part = external_part(here, run)

    rows = {row[0]: row[1:] for row in part.tables[2].rows}
    name = "ill from 0.3 on (sensitivity >= 0.95): sensitivity"
    expected = (probability[targets == 1, 1] >= 0.3).mean()
    assert rows[name][0].startswith(f"{expected:.3f} (")
    warning = next(one for one in part.warnings if "Thresholds" in one)
    assert "specificity" in warning
    assert f"{expected:.3f} at home" in warning


def test_another_prevalence_is_told(tmp_path):
    run = write_run(tmp_path / "run", *two_classes(300, separation=2.0, positives=0.2))

    part = external_part(judge(*two_classes(300, separation=2.0, positives=0.7)), run)

    told = [one for one in part.warnings if "not equally frequent" in one]
    assert len(told) == 1
    assert "calibrated at home are off here" in told[0]


def test_shared_patients_and_files_are_told_where_the_split_names_them(tmp_path):
    run = write_run(tmp_path / "run", *two_classes(100, separation=2.0))
    split = pd.read_csv(run / "split.csv", dtype=str)
    split["patient"] = [f"p{row}" for row in range(len(split))]
    split["sha256"] = [f"{row:064x}" for row in range(len(split))]
    split.to_csv(run / "split.csv", index=False)
    probability, targets = two_classes(40, separation=2.0, seed=3)

    part = external_part(
        judge(
            probability,
            targets,
            patients=["p0", "p0", "p50", *(f"q{row}" for row in range(37))],
            sha256=[f"{1:064x}", *(f"{row + 900:064x}" for row in range(39))],
        ),
        run,
    )

    # p0 and file 1 were learnt from; p50 was only tested on.
    assert sum("2 of 40 images are of patients" in one for one in part.warnings) == 1
    assert sum("1 of 40 images are byte for byte" in one for one in part.warnings) == 1


def test_a_run_without_scores_or_split_still_gives_a_report(tmp_path):
    run = write_run(tmp_path / "run", *two_classes(50, separation=2.0))
    here = judge(*two_classes(50, separation=2.0, seed=3))
    (run / "results.parquet").unlink()
    assert "cannot be told" in external_part(here, run).warnings[0]

    (run / "split.csv").write_text("a,b\n1,2\n")
    with pytest.raises(RunFolderError, match=r"split\.csv"):
        external_part(here, run)
