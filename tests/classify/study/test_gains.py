"""Paired differences and the bound of macro F1, against formulas of their own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score, roc_auc_score
from tests.classify.study.made_up import FINDINGS, NAMES, trained_of, truth_of

from medglean.classify.study.gains import (
    bound_of,
    comparable,
    delong,
    difference,
    groups_of,
    resampled,
)
from medglean.classify.study.told import arithmetic_told
from medglean.measure.delong import compare_aurocs


def pair(n=80, classes=NAMES):
    targets = truth_of("single", len(classes), n)
    first = trained_of(targets, classes=classes, skill=2.0, seed=1)
    second = trained_of(targets, classes=classes, skill=0.5, seed=2)
    return targets, first, second


def test_a_difference_is_the_resamples_own():
    targets, first, second = pair()
    groups = groups_of(first)
    drawn = [resampled(one.found, groups, replicates=300, seed=4) for one in (first, second)]
    found = difference(*drawn, "accuracy")

    right = [(one.found.truth == one.found.called).all(axis=1) for one in (first, second)]
    gap = right[0].astype(float) - right[1]
    assert found.value == pytest.approx(gap.mean())
    # by hand: two images a patient, all with the same weight
    by_patient = gap.reshape(-1, 2).mean(axis=1)
    random = np.random.default_rng(0)
    means = [random.choice(by_patient, len(by_patient)).mean() for _ in range(4000)]
    low, high = np.quantile(means, [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.035)
    assert (found.n, found.groups, found.replicates) == (len(targets), len(targets) // 2, 300)


def test_a_difference_turns_its_sign_with_its_order_and_is_nothing_to_itself():
    _, first, second = pair()
    groups = groups_of(first)
    one, other = (resampled(t.found, groups, replicates=200) for t in (first, second))
    for name in ("accuracy", "macro AUROC"):
        there, back = difference(one, other, name), difference(other, one, name)
        assert there.value == -back.value
        assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
        itself = difference(one, one, name)
        assert (itself.value, itself.low, itself.high) == (0.0, 0.0, 0.0)


def test_pairing_makes_the_interval_shorter():
    _, first, _ = pair(200)
    probability = first.found.probability
    called = first.found.called.copy()
    called[:6] = False  # all right but for six images
    close = replace(first.found, called=called)
    groups = groups_of(first)
    one, other = (resampled(f, groups, replicates=300) for f in (first.found, close))
    paired = difference(one, other, "accuracy")
    alone = first.found.headline["accuracy"]
    assert paired.high - paired.low < 0.5 * (alone.high - alone.low)
    assert probability is first.found.probability


def test_resampled_auroc_is_scikit_learns():
    targets, first, _ = pair()
    found = resampled(first.found, groups_of(first), replicates=50)
    expected = roc_auc_score(targets, first.found.probability, multi_class="ovr")
    assert found.values["macro AUROC"] == pytest.approx(expected)


def test_scores_that_are_no_numbers_have_no_auroc():
    _, first, second = pair()
    broken = replace(first.found, probability=np.full_like(first.found.probability, np.nan))
    groups = groups_of(first)
    one, other = (resampled(f, groups, replicates=50) for f in (broken, second.found))
    found = difference(one, other, "macro AUROC")
    assert np.isnan(found.value)
    assert "undefined" in found.note
    assert delong(broken, second.found, groups) == {}
    assert np.isnan(difference(one, other, "accuracy").value)
    assert np.isnan(bound_of(broken).f1)


def test_delong_is_of_every_class_or_of_one_of_two():
    _, first, second = pair()
    found = delong(first.found, second.found, groups_of(first))
    assert list(found) == list(NAMES)
    assert all(one.difference > 0 for one in found.values())

    _, first, second = pair(classes=NAMES[:2])
    (only,) = delong(first.found, second.found, groups_of(first)).values()
    expected = compare_aurocs(
        first.found.truth[:, 1], first.found.probability[:, 1], second.found.probability[:, 1],
        groups=groups_of(first),
    )  # fmt: skip
    assert only == expected


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_the_bound_is_scikit_learns_and_holds(kind):
    classes = NAMES if kind == "single" else FINDINGS
    base = trained_of(truth_of(kind, len(classes), 40), kind=kind, classes=classes).found
    for seed in range(20):
        draw = np.random.default_rng(seed)
        truth = base.truth[draw.permutation(40)[:15]]
        called = (truth ^ (draw.random(truth.shape) < seed / 20)) & (
            draw.random(5)[: len(classes)] < 0.8
        )
        support = tuple(truth.sum(axis=0).tolist())
        one = replace(base, truth=truth, called=called, support=support, n=len(truth))
        bound = bound_of(one)
        kept = np.flatnonzero(one.truth.any(axis=0))
        how = {"average": "macro", "zero_division": 0}
        truth, called = one.truth[:, kept], one.called[:, kept]
        assert bound.precision == pytest.approx(precision_score(truth, called, **how))
        assert bound.recall == pytest.approx(recall_score(truth, called, **how))
        assert bound.f1 == pytest.approx(f1_score(truth, called, **how))
        assert bound.most == pytest.approx((bound.precision + bound.recall) / 2)
        assert bound.holds


def test_a_macro_f1_above_the_bound_is_told(monkeypatch):
    _, first, _ = pair()
    impossible = replace(bound_of(first.found), f1=bound_of(first.found).most + 0.01)
    assert not impossible.holds
    assert arithmetic_told([first]) == []
    monkeypatch.setattr("medglean.classify.study.told.bound_of", lambda found: impossible)
    (told,) = arithmetic_told([first])
    assert told.startswith("AlexNet: macro F1")
    assert told.endswith("which cannot be.")


def test_groups_must_fit_the_images():
    _, first, _ = pair()
    assert len(set(groups_of(replace(first, groups=())))) == first.found.n
    with pytest.raises(ValueError, match="3 groups for 80 test images"):
        groups_of(replace(first, groups=("a", "b", "c")))


def test_other_images_are_not_compared():
    _, first, _ = pair()
    _, other, _ = pair(60)
    assert comparable(first.found, first.constant)
    assert not comparable(first.found, other.found)
