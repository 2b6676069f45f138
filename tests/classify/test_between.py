import numpy as np
import pytest
from tests.classify.judged import two_classes, write_run

from medglean.classify.between import MEAN, Paired, against_first, mean_difference, pair
from medglean.classify.stored_scores import read_scores
from medglean.errors import DataError
from medglean.measure.comparisons import holm
from medglean.measure.delong import compare_aurocs


def scores(folder, probability, targets, *, classes=("a", "b", "c"), **columns):
    return read_scores(
        write_run(folder, probability, targets, classes=classes, **columns), training=True
    )


def softmax(logits):
    shares = np.exp(logits)
    return shares / shares.sum(axis=1, keepdims=True)


def three(n=200, *, seed=0, strength=1.5, patients=1):
    """Return targets and two classifiers that look at the same images, the second one worse."""
    generator = np.random.default_rng(seed)
    targets = np.repeat(generator.integers(3, size=n // patients), patients)
    truth = targets[:, None] == np.arange(3)
    shared = np.repeat(generator.normal(size=(n // patients, 3)), patients, axis=0)
    first = strength * truth + shared + 0.5 * generator.normal(size=(n, 3))
    second = 0.5 * strength * truth + shared + 0.5 * generator.normal(size=(n, 3))
    return targets, softmax(first), softmax(second)


def test_each_class_is_compared_by_delong(tmp_path):
    targets, better, worse = three()

    found = pair(scores(tmp_path / "a", better, targets), scores(tmp_path / "b", worse, targets))

    assert list(found.differences) == [MEAN, "a", "b", "c"]
    expected = compare_aurocs(targets == 1, better[:, 1], worse[:, 1])
    one = found.differences["b"]
    assert (one.difference, one.p) == pytest.approx((expected.difference, expected.p))
    assert one.difference > 0
    each = [found.differences[name].difference for name in "abc"]
    assert found.differences[MEAN].difference == pytest.approx(np.mean(each))
    adjusted = holm([found.differences[name].p for name in "abc"])
    assert [found.adjusted[name] for name in "abc"] == pytest.approx(adjusted)
    assert found.adjusted[MEAN] == found.differences[MEAN].p


def test_exchanging_the_runs_turns_the_sign(tmp_path):
    targets, better, worse = three()
    first, second = (
        scores(tmp_path / "a", better, targets), scores(tmp_path / "b", worse, targets)
    )  # fmt: skip

    there, back = pair(first, second), pair(second, first)

    for name, one in there.differences.items():
        other = back.differences[name]
        assert other.difference == pytest.approx(-one.difference)
        assert (other.low, other.high) == pytest.approx((-one.high, -one.low))
        assert other.p == pytest.approx(one.p)


def test_with_one_class_the_mean_is_delongs_test():
    targets, better, worse = three(patients=4)
    groups = np.repeat(np.arange(50), 4).astype(str)
    truth = (targets == 0)[:, None]

    found = mean_difference(truth, better[:, :1], worse[:, :1], groups)

    expected = compare_aurocs(truth[:, 0], better[:, 0], worse[:, 0], groups=groups)
    assert found.standard_error == pytest.approx(expected.standard_error, rel=1e-12)
    assert found.p == pytest.approx(expected.p, rel=1e-9)


def test_spread_of_the_mean_is_that_of_resampled_patients():
    targets, better, worse = three(600, seed=3, patients=3)
    truth = targets[:, None] == np.arange(3)
    groups = np.repeat(np.arange(200), 3).astype(str)

    found = mean_difference(truth, better, worse, groups)

    generator = np.random.default_rng(0)
    place = np.arange(600).reshape(200, 3)

    def area(positive, score):
        above = score[positive][:, None] > score[~positive]
        return above.mean() + 0.5 * (score[positive][:, None] == score[~positive]).mean()

    drawn = []
    for _ in range(300):
        rows = place[generator.integers(200, size=200)].ravel()
        drawn.append(
            np.mean(
                [
                    area(truth[rows, j], better[rows, j]) - area(truth[rows, j], worse[rows, j])
                    for j in range(3)
                ]
            )
        )
    assert found.standard_error == pytest.approx(np.std(drawn), rel=0.12)
    # Classes taken for independent would say less: they are not.
    each = [
        compare_aurocs(truth[:, j], better[:, j], worse[:, j], groups=groups).standard_error
        for j in range(3)
    ]
    assert abs(found.standard_error / (np.sqrt(np.square(each).sum()) / 3) - 1) > 0.1


def test_without_any_difference_p_is_uniform_enough():
    generator = np.random.default_rng(1)
    p_values = []
    for _ in range(200):
        targets = generator.integers(3, size=60)
        truth = targets[:, None] == np.arange(3)
        logits = [1.0 * truth + generator.normal(size=(60, 3)) for _ in range(2)]
        p_values.append(
            mean_difference(truth, softmax(logits[0]), softmax(logits[1]), np.arange(60)).p
        )
    assert 0.01 <= np.mean(np.array(p_values) < 0.05) <= 0.1
    assert 0.4 < np.mean(p_values) < 0.6


def test_of_two_classes_one_says_it_all(tmp_path):
    probability, targets = two_classes(100, separation=2.0)
    worse, _ = two_classes(100, separation=2.0, seed=9)

    found = pair(
        scores(tmp_path / "a", probability, targets, classes=("no", "yes")),
        scores(tmp_path / "b", worse, targets, classes=("no", "yes")),
    )

    assert list(found.differences) == ["yes"]


def test_only_shared_images_count_in_whatever_order_rows_and_classes_are(tmp_path):
    targets, better, worse = three(120)
    ids = [f"image {row}" for row in range(120)]
    whole = scores(tmp_path / "a", better, targets, id=ids)
    order = np.random.default_rng(0).permutation(120)[:80]
    turned = (2 - targets)[order]
    part = scores(
        tmp_path / "b",
        worse[order][:, ::-1],
        turned,
        classes=("c", "b", "a"),
        id=[ids[row] for row in order],
    )

    found = pair(whole, part)

    rows = np.sort(order)
    expected = compare_aurocs(targets[rows] == 0, better[rows, 0], worse[rows, 0])
    assert len(found.first.ids) == 80
    assert found.differences["a"].p == pytest.approx(expected.p)
    assert not found.problems


def test_images_with_two_truths_are_left_out_and_told(tmp_path):
    targets, better, worse = three(100)
    other = targets.copy()
    other[:7] = (other[:7] + 1) % 3

    found = pair(scores(tmp_path / "a", better, targets), scores(tmp_path / "b", worse, other))

    assert len(found.first.ids) == 93
    assert found.problems[0].kind == "truth-differs"
    assert "7 of 100 images have another truth" in found.problems[0].found
    assert "'own/0'" in found.problems[0].found


def test_runs_that_cannot_be_compared_are_told(tmp_path):
    targets, better, worse = three(60)
    first = scores(tmp_path / "a", better, targets)

    with pytest.raises(DataError, match=r"classes are a, b, x \(single\), those of .*a, b, c"):
        pair(first, scores(tmp_path / "b", worse, targets, classes=("a", "b", "x")))
    with pytest.raises(DataError, match=r"no test image in common"):
        pair(first, scores(tmp_path / "c", worse, targets, id=[f"x{row}" for row in range(60)]))
    with pytest.raises(DataError, match=r"60 of the same id, but with another truth"):
        pair(first, scores(tmp_path / "d", worse, (targets + 1) % 3))


def test_patients_are_taken_from_the_run_that_knows_them(tmp_path):
    targets, better, worse = three(60, patients=2)
    patients = [str(row // 2) for row in range(60)]

    found = pair(
        scores(tmp_path / "a", better, targets),
        scores(tmp_path / "b", worse, targets, patient=patients),
    )

    assert found.differences["a"].groups == 30
    assert found.first.counted == "patients"


def test_several_runs_are_adjusted_together(tmp_path):
    targets, better, worse = three(100)
    first = scores(tmp_path / "a", better, targets)
    second = scores(tmp_path / "b", worse, targets)
    third = scores(tmp_path / "c", three(100, strength=1.4)[1], targets)
    other = scores(tmp_path / "d", worse, targets, id=[f"x{row}" for row in range(100)])

    found = against_first(first, [second, other, third])

    assert isinstance(found[1], DataError)
    pairs = [one for one in found if isinstance(one, Paired)]
    means = holm([one.differences[MEAN].p for one in pairs])
    assert [one.adjusted[MEAN] for one in pairs] == pytest.approx(means)
    classes = holm([one.differences[name].p for one in pairs for name in "abc"])
    assert [one.adjusted[name] for one in pairs for name in "abc"] == pytest.approx(classes)


def test_a_class_that_nobody_has_is_undefined_and_left_out_of_the_mean(tmp_path):
    generator = np.random.default_rng(0)
    truth = (generator.random((80, 3)) < 0.4).astype(np.float32)
    truth[:, 2] = 0.0
    first, second = generator.random((2, 80, 3))

    found = pair(scores(tmp_path / "a", first, truth), scores(tmp_path / "b", second, truth))

    each = found.differences
    assert np.isnan(each["c"].difference)
    assert np.isnan(found.adjusted["c"])
    assert each[MEAN].difference == pytest.approx((each["a"].difference + each["b"].difference) / 2)
