import json
import math

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from medglean.data.shortcut_features import (
    border_features,
    brightness_features,
    feature_families,
    metadata_families,
)
from medglean.data.shortcuts import (
    boosted_trees,
    cross_validated,
    linear,
    probe,
    weighted_auroc,
)

RNG = np.random.default_rng(0)


def two_classes(n=120):
    truth = np.arange(n) % 2 == 1
    return np.stack([~truth, truth], axis=1), np.array([f"p{k // 2 * 2 + k % 2}" for k in range(n)])


def test_auroc_by_hand_and_as_scikit_learn_has_it():
    # positives 0.4 and 0.8, negatives 0.1 and 0.4: pairs won 1, half (tie), 1, 1 -> 3.5 / 4
    truth, score = np.array([0, 1, 0, 1], bool), np.array([0.1, 0.4, 0.4, 0.8])
    assert weighted_auroc(truth, score, np.ones((1, 4)))[0] == 0.875
    many, marks = RNG.random(200) < 0.3, np.round(RNG.random(200), 1)
    weights = RNG.integers(0, 4, (3, 200)).astype(float)
    for row in range(3):
        expected = roc_auc_score(many, marks, sample_weight=weights[row])
        assert weighted_auroc(many, marks, weights)[row] == pytest.approx(expected)
    assert math.isnan(weighted_auroc(np.ones(4, bool), score, np.ones((1, 4)))[0])


def test_features_that_tell_the_class_are_found():
    truth, groups = two_classes()
    told = truth[:, 1:] + 0.3 * RNG.standard_normal((120, 1))
    result = probe("file size", told, truth, ("a", "b"), groups)
    assert result.auroc > 0.95
    assert 0.9 < result.low < result.auroc < result.high <= 1.0
    assert (result.images, result.patients, result.note) == (120, 120, "")
    assert result.by_class["a"] == pytest.approx(result.by_class["b"], abs=0.01)


@pytest.mark.parametrize("family", ["file size", "border"])
def test_noise_is_not_found(family):
    truth, groups = two_classes(300)
    noise = RNG.standard_normal((300, 4))
    result = probe(family, noise, truth, ("a", "b"), groups)
    assert 0.35 < result.auroc < 0.65
    assert result.low < 0.5 < result.high + 0.05


def test_a_patients_own_mark_does_not_leak_from_fold_to_fold():
    # 30 patients of 10 images, each with a number of its own: known patients would be told
    # perfectly, unknown ones not at all
    patient = np.repeat(np.arange(30), 10)
    sick = patient % 2 == 1
    mark = np.random.default_rng(1).permutation(30)[patient][:, None].astype(float)
    truth = np.stack([~sick, sick], axis=1)
    by_patient = probe("file size", mark, truth, ("a", "b"), patient.astype(str))
    by_image = probe("file size", mark, truth, ("a", "b"), np.arange(300).astype(str))
    assert by_image.auroc > 0.95
    assert by_patient.auroc < 0.75
    assert by_patient.patients == 30


def test_a_class_of_few_patients_is_left_out_and_told():
    truth = np.zeros((60, 3), bool)
    truth[np.arange(60), [2] * 4 + [0, 1] * 28] = True
    result = probe(
        "border", RNG.random((60, 3)), truth, ("a", "b", "rare"), np.arange(60).astype(str)
    )
    assert set(result.by_class) == {"a", "b"}
    assert result.images == 56
    assert result.note == "4 patients with 'rare': left out, 5 are needed."


def test_too_few_patients_give_no_number_instead_of_a_wrong_one():
    truth, _ = two_classes(40)
    groups = np.where(truth[:, 0], "p0", np.arange(40).astype(str))  # one healthy patient
    result = probe("border", RNG.random((40, 3)), truth, ("a", "b"), groups)
    assert math.isnan(result.auroc)
    assert "not computable: fewer than two classes have 5 patients" in result.note
    assert json.dumps(result.to_dict(), allow_nan=False)
    assert result.to_dict()["auroc"] is None


def test_several_labels_are_probed_one_by_one():
    truth = RNG.random((200, 2)) < 0.4
    features = np.stack([truth[:, 0] + 0.1 * RNG.standard_normal(200), RNG.random(200)], axis=1)
    result = probe(
        "x", features, truth, ("told", "free"), np.arange(200).astype(str), exclusive=False
    )
    assert result.by_class["told"] > 0.95
    assert result.by_class["free"] < 0.65
    assert result.auroc == pytest.approx(sum(result.by_class.values()) / 2)


def test_same_seed_same_result():
    truth, groups = two_classes()
    features = RNG.random((120, 3))
    assert probe("x", features, truth, ("a", "b"), groups, seed=3) == probe(
        "x", features, truth, ("a", "b"), groups, seed=3
    )


def test_border_sees_the_border_only_and_brightness_all():
    thumbnails = RNG.integers(0, 255, (3, 64, 64)).astype(np.uint8)
    inner = thumbnails.copy()
    inner[:, 2:-2, 2:-2] = 0
    np.testing.assert_array_equal(border_features(thumbnails), border_features(inner))
    assert (brightness_features(thumbnails) != brightness_features(inner)).any()
    white = np.full((1, 64, 64), 255, np.uint8)
    assert border_features(white)[0].tolist() == [1.0] * 32 + [0.0] * 4
    assert brightness_features(white)[0].tolist() == [1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0]


def test_families_that_say_nothing_are_left_out():
    facts = pd.DataFrame(
        {
            "bytes": [10, 20, 30], "height": [8, 8, 8], "width": [8, 8, 8],
            "format": ["PNG", "PNG", "JPEG"], "channels": [1, 1, 1], "bits": [8, 8, 8],
        }
    )  # fmt: skip
    table = pd.DataFrame(
        {"view": ["PA", None, "AP"], "age": ["60", None, "70"], "source": ["x"] * 3}
    )
    thumbnails = np.zeros((3, 64, 64), np.uint8)
    families = feature_families(facts, thumbnails, table)
    assert set(families) == {"file size", "encoding", "view", "age"}
    assert families["view"].shape == (3, 3)  # AP, PA, missing
    assert all(np.isfinite(x).all() for x in families.values())


def test_scores_of_a_patient_come_from_models_that_never_saw_it():
    asked = []

    def learner(learn, label, score):
        asked.append((set(learn[:, 0]), set(score[:, 0])))
        return np.tile([0.25, 0.75], (len(score), 1))

    patient = np.repeat(np.arange(20), 3)
    scores = cross_validated(
        patient[:, None].astype(float), patient % 2, patient, learner, seed=0, classes=3
    )

    assert len(asked) == 5
    assert all(not seen & scored for seen, scored in asked)
    assert set().union(*(scored for _, scored in asked)) == set(range(20))
    # the third class does not occur, so nobody says it
    assert np.unique(scores, axis=0).tolist() == [[0.25, 0.75, 0.0]]


def test_a_probe_may_be_given_its_learner():
    truth, groups = two_classes(200)
    crossed = RNG.random((200, 2)) < 0.5
    crossed[:, 1] = crossed[:, 0] ^ truth[:, 1]  # neither tells alone, both together do
    x = crossed + 0.0
    by_line = probe("x", x, truth, ("a", "b"), groups, learner=linear())
    by_trees = probe("x", x, truth, ("a", "b"), groups, learner=boosted_trees(0))

    assert by_line.auroc < 0.65
    assert by_trees.auroc > 0.95
    assert probe("x", x, truth, ("a", "b"), groups) == by_trees
    assert probe("border", x, truth, ("a", "b"), groups).auroc == by_line.auroc


def test_facts_that_are_missing_are_no_family_and_no_error():
    facts = pd.DataFrame(
        {
            "bytes": [10.0, math.nan], "height": [math.nan] * 2, "width": [math.nan] * 2,
            "format": ["PNG", math.nan], "channels": [math.nan] * 2, "bits": [math.nan] * 2,
        }
    )  # fmt: skip
    table = pd.DataFrame({"ward": ["a", "b"], "sex": ["F", "M"]})

    assert set(metadata_families(facts, table, fields=("ward",))) == {
        "file size",
        "encoding",
        "ward",
    }
    facts[:] = math.nan
    assert set(metadata_families(facts, table)) == {"sex"}
