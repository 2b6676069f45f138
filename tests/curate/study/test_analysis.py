import math

import numpy as np
import pandas as pd
import pytest

from medglean.curate.study.analysis import analyse, half_width


def cells(scores):
    """Make a table from {(method, size, images): scores}."""
    return pd.DataFrame(
        [
            {
                "replicate": number,
                "method": method,
                "size": size,
                "images": images,
                "patients": images // 2,
                "groups": images,
                "score": score,
            }
            for (method, size, images), row in scores.items()
            for number, score in enumerate(row)
        ]
    )


FULL = ("full", "full", 100)
FIVE = {
    ("enrich", "10", 10): [0.70, 0.71, 0.72, 0.73, 0.74],
    ("random", "10", 10): [0.60, 0.61, 0.62, 0.63, 0.64],
    ("enrich", "50%", 50): [0.81, 0.79, 0.80, 0.82, 0.78],
    ("random", "50%", 50): [0.70, 0.72, 0.71, 0.73, 0.74],
    FULL: [0.80, 0.81, 0.79, 0.83, 0.78],
}


def found(scores=FIVE, *, paired=False, test_share=0.3, level=0.05):
    return analyse(
        cells(scores),
        methods=("enrich", "random"),
        baselines=("random",),
        level=level,
        paired=paired,
        test_share=test_share,
    )


def test_points_by_hand():
    findings = found()
    first = findings.of("enrich")[0]

    assert findings.sizes == ["10", "50%"]
    assert findings.methods == ["enrich", "random"]
    assert (first.images, first.patients, first.groups) == (10, 5, 10)
    assert first.mean == pytest.approx(0.72)
    assert first.sd == pytest.approx(0.0158114, abs=1e-6)
    # t(4) 97.5 % = 2.776445: 0.72 -+ 2.776445 * 0.0158114 / sqrt 5
    assert first.low == pytest.approx(0.72 - 0.0196324, abs=1e-6)
    assert first.against["random"].gain == pytest.approx(0.10)
    # every one above: 2 of the 252 ways to deal five ranks of ten
    assert first.against["random"].rank.p == pytest.approx(2 / 252)
    assert first.against["random"].signed is None
    assert "random" not in findings.of("random")[0].against


def test_the_smallest_size_that_is_not_below_the_full_set():
    findings = found()

    assert findings.enough["enrich"].size == "50%"
    assert findings.enough["random"] is None
    assert findings.can_reach


def test_a_size_that_is_below_ends_the_search_even_if_a_smaller_one_is_not():
    scores = FIVE | {("enrich", "10", 10): FIVE[FULL], ("enrich", "50%", 50): [0.1] * 5}

    assert found(scores).enough["enrich"] is None


def test_three_replicates_say_that_they_cannot_reach_significance():
    findings = found({key: row[:3] for key, row in FIVE.items()})

    assert not findings.can_reach
    assert findings.smallest_p == pytest.approx(0.1)
    assert findings.replicates == 3


def test_pairs_are_compared_within_their_replicate():
    # the splits differ much, the methods by 0.01 to 0.03 in each: ranks see nothing, pairs do
    base = np.array([0.5, 0.6, 0.7, 0.8, 0.9])
    scores = {
        ("enrich", "10", 10): base + np.array([0.02, 0.03, 0.02, 0.03, 0.02]),
        ("random", "10", 10): base,
        FULL: base,
    }
    against = found(scores, paired=True).points[0].against["random"]

    assert against.rank.p > 0.6
    assert against.signed.p == pytest.approx(2 / 32)
    assert against.decisive is against.corrected
    # sd 0.0054772, variance of the mean 3e-5 * (1/5 + 3/7) = 1.885714e-5: t = 0.024 / 0.00434248
    assert against.corrected.statistic == pytest.approx(5.526796, abs=1e-5)
    assert against.low == pytest.approx(0.024 - 2.776445 * 0.00434248, abs=1e-6)


def test_rows_are_paired_by_replicate_whatever_their_order():
    shuffled = cells(FIVE).sample(frac=1.0, random_state=1)
    findings = analyse(
        shuffled,
        methods=("enrich", "random"),
        baselines=("random",),
        level=0.05,
        paired=True,
        test_share=0.0,
    )

    assert findings.of("enrich")[1].scores.tolist() == FIVE[("enrich", "50%", 50)]


def test_one_replicate_has_no_spread():
    findings = found({key: row[:1] for key, row in FIVE.items()})

    assert math.isnan(findings.full.sd)
    assert math.isnan(findings.full.low)
    assert math.isnan(half_width(np.array([0.5]), test_share=0.0))
    assert math.isnan(findings.points[0].against["random"].low)
    assert not findings.can_reach
