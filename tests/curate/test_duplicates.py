import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import cosine_similarity

from medglean.curate import duplicates
from medglean.curate.duplicates import (
    Pairs,
    by_structure,
    families,
    label_conflicts,
    leakage,
    near_duplicates,
)
from medglean.curate.ssim import ssim_pairs
from medglean.data.duplicates import near_duplicates as by_hash
from medglean.errors import EmbeddingError, UsageError


def made(*triples, threshold=0.9):
    """Return pairs from (first, second, similarity)."""
    first, second, similarity = zip(*triples, strict=True)
    return Pairs(np.array(first), np.array(second), np.array(similarity), len(triples), threshold)


def all_pairs(values, threshold):
    """The definition: every pair, one at a time, from another library's cosine."""
    cosine = np.round(np.clip(cosine_similarity(values), -1, 1), 12)
    found = [
        (-cosine[i, j], i, j)
        for i in range(len(values))
        for j in range(i + 1, len(values))
        if cosine[i, j] >= threshold and values[i].any() and values[j].any()
    ]
    return [(i, j, -negative) for negative, i, j in sorted(found)]


def told(pairs):
    return list(
        zip(pairs.first.tolist(), pairs.second.tolist(), pairs.similarity.tolist(), strict=True)
    )


@settings(max_examples=30)
@given(seed=st.integers(0, 2**16), count=st.integers(1, 40), threshold=st.floats(-1, 0.99))
def test_all_pairs_in_blocks_are_those_one_by_one(seed, count, threshold):
    values = np.random.default_rng(seed).normal(size=(count, 3))
    values[3::7] = 0.0
    with pytest.MonkeyPatch.context() as patch:  # so that there are blocks of every kind
        patch.setattr(duplicates, "_ROWS", 7)
        patch.setattr(duplicates, "_COLUMNS", 5)
        pairs = near_duplicates(values, threshold=threshold)

    expected = all_pairs(values, threshold)
    assert {(i, j) for i, j, _ in told(pairs)} == {(i, j) for i, j, _ in expected}
    np.testing.assert_allclose(pairs.similarity, [s for _, _, s in expected], atol=1e-11)
    assert (np.diff(pairs.similarity) <= 0).all()
    assert pairs.total == len(pairs) == len(expected)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**16), most=st.integers(1, 60))
def test_only_the_most_similar_are_kept_and_all_are_counted(seed, most):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(6, 3))[rng.integers(0, 6, 30)]  # many ties
    everything = near_duplicates(values, threshold=-1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_ROWS", 4)
        patch.setattr(duplicates, "_COLUMNS", 3)
        best = near_duplicates(values, threshold=-1.0, most=most)

    assert everything.total == best.total == 435
    assert told(best) == told(everything)[:most]
    assert best.left_out == 435 - len(best)


def test_scale_does_not_matter_however_large_or_small():
    values = np.array([[1.0, 2.0], [1e-100, 2e-100], [1e100, 2e100], [-1.0, -2.0]])

    pairs = near_duplicates(values, threshold=0.999)

    assert told(pairs) == [(0, 1, 1.0), (0, 2, 1.0), (1, 2, 1.0)]


def test_a_known_angle():
    values = np.array([[1.0, 0.0], [np.cos(0.3), np.sin(0.3)]], dtype=np.float32)

    pairs = near_duplicates(values, threshold=0.95)

    assert pairs.similarity[0] == pytest.approx(np.cos(0.3), abs=1e-7)
    assert len(near_duplicates(values, threshold=0.96)) == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[1.0, np.nan], [1.0, 1.0]]), "1 of 2 embeddings have NaN.*row 0"),
        (np.zeros(3), r"Embeddings have shape \(3,\)"),
        (np.zeros((0, 4)), "there is nothing to compare"),
    ],
)
def test_embeddings_that_cannot_be_compared(values, message):
    with pytest.raises(EmbeddingError, match=message):
        near_duplicates(values)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"threshold": 1.01}, r"lies in \[-1, 1\], got 1.01"),
        ({"threshold": float("nan")}, "got nan"),
        ({"most": 0}, "at least one pair to keep, got 0"),
    ],
)
def test_settings_without_a_meaning(given, message):
    with pytest.raises(UsageError, match=message):
        near_duplicates(np.eye(3), **given)


def test_pictures_decide_the_order():
    rng = np.random.default_rng(0)
    picture = rng.random((16, 16))
    thumbnails = np.stack([picture, rng.random((16, 16)), picture, 0.9 * picture])

    ordered = by_structure(made((0, 1, 0.99), (0, 2, 0.95), (0, 3, 0.97)), thumbnails)

    assert told(ordered) == [(0, 2, 0.95), (0, 3, 0.97), (0, 1, 0.99)]
    np.testing.assert_array_equal(
        ordered.structure, ssim_pairs(thumbnails, ordered.first, ordered.second)
    )
    assert (np.diff(ordered.structure) < 0).all()


def test_the_count_outlives_a_new_order():
    pairs = Pairs(np.array([0]), np.array([1]), np.array([0.99]), 70, 0.9)

    assert by_structure(pairs, np.ones((2, 11, 11))).total == 70


def test_families_follow_chains_and_the_largest_comes_first():
    pairs = made((0, 5, 1.0), (2, 3, 1.0), (3, 7, 0.95))

    assert families(pairs, count=8).tolist() == [1, -1, 0, 0, -1, 1, -1, 0]


def test_leakage_counts_pairs_across_the_split():
    pairs = made((0, 1, 1.0), (1, 2, 0.99), (2, 3, 0.98), (3, 4, 0.97), (0, 5, 0.96))
    split = ["train", "test", "train", "val", "val", None]

    found = leakage(pairs, split, patients=["p", "p", "q", None, None, "p"])

    assert told(found.pairs) == [(0, 1, 1.0), (1, 2, 0.99), (2, 3, 0.98)]
    assert found.parts == (("train", "test"), ("test", "train"), ("train", "val"))
    assert found.same_patient.tolist() == [True, False, False]
    assert found.counts() == {("test", "train"): 2, ("train", "val"): 1}
    assert found.images() == {"test": 1, "train": 2, "val": 1}


def test_unknown_patients_are_not_the_same_patient():
    found = leakage(made((0, 1, 1.0)), ["train", "test"], patients=[None, float("nan")])

    assert found.same_patient.tolist() == [False]
    assert leakage(made((0, 1, 1.0)), ["train", "test"]).same_patient is None


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA])
def test_rows_outside_every_part_leak_nothing(missing):
    assert len(leakage(made((0, 1, 1.0)), ["train", missing]).pairs) == 0


def test_conflicts_name_the_image_that_its_neighbourhood_contradicts():
    pairs = made((0, 1, 1.0), (1, 2, 0.99), (1, 3, 0.98), (4, 5, 0.97), (0, 2, 0.96))
    labels = ["benign", "malignant", "benign", "benign", "benign", "malignant"]

    found = label_conflicts(pairs, labels, min_similarity=0.9)

    assert told(found.pairs) == [(0, 1, 1.0), (1, 2, 0.99), (1, 3, 0.98), (4, 5, 0.97)]
    assert found.labels[0] == ("benign", "malignant")
    assert found.majority == ("benign", "benign", "benign", "")
    assert found.votes == ((3, 4), (3, 4), (3, 4), (1, 2))
    assert found.suspect.tolist() == [1, 1, 1, -1]


def test_a_majority_that_contradicts_both_accuses_neither():
    pairs = made((0, 1, 1.0), (0, 2, 0.99), (0, 3, 0.98), (1, 4, 0.97))

    found = label_conflicts(pairs, ["a", "b", "c", "c", "c"], min_similarity=0.9)

    assert (found.majority[0], found.suspect[0]) == ("c", -1)


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA])
def test_an_image_without_label_contradicts_nothing_and_has_no_vote(missing):
    pairs = made((0, 1, 1.0), (0, 2, 0.99), (1, 2, 0.98))

    found = label_conflicts(pairs, ["a", "b", missing])

    assert told(found.pairs) == [(0, 1, 1.0)]
    assert found.votes == ((1, 2),)


def test_several_labels_are_a_set():
    pairs = made((0, 1, 1.0), (0, 2, 0.99))

    found = label_conflicts(pairs, ["nodule;effusion", "effusion; nodule", ""])

    assert told(found.pairs) == [(0, 2, 0.99)]
    assert found.labels == (("effusion;nodule", ""),)


def test_only_conflicts_from_a_similarity_on():
    pairs = made((0, 1, 0.98), (0, 2, 0.979))

    found = label_conflicts(pairs, ["a", "b", "b"])

    assert told(found.pairs) == [(0, 1, 0.98)]
    assert found.majority == ("b",)  # the neighbourhood still sees all pairs
    assert len(label_conflicts(pairs, ["a", "b", "b"], min_similarity=0.979).pairs) == 2


def test_images_without_a_direction_have_no_pairs():
    pairs = near_duplicates(np.zeros((3, 4)))

    assert (len(pairs), pairs.total) == (0, 0)
    assert families(pairs, count=3).tolist() == [-1, -1, -1]
    assert len(label_conflicts(pairs, ["a", "b", "c"]).pairs) == 0
    assert leakage(pairs, ["train", "test", "val"]).counts() == {}


def test_known_conflicts_of_breast_ultrasound_come_first(real_data):
    """Five families of copies, each called benign once and otherwise elsewhere."""
    root = real_data("us_busi")
    table = pd.read_csv(root / "labels.csv", dtype=str)
    thumbnails = read_thumbnails(root, table["path"])
    known = known_conflicts(thumbnails, table["label"])
    values = PCA(64, random_state=0).fit_transform(thumbnails.reshape(len(table), -1))

    pairs = near_duplicates(values, threshold=0.9)
    for ordered in (pairs, by_structure(pairs, thumbnails)):
        found = label_conflicts(ordered, table["label"].tolist())
        assert {(i, j) for i, j, _ in told(found.pairs)} == known
        everything = label_conflicts(ordered, table["label"].tolist(), min_similarity=0.9)
        assert {(i, j) for i, j, _ in told(everything.pairs)[: len(known)]} == known
        assert len(everything.pairs) > len(known)
    assert len(known) == 6
    assert families(found.pairs, count=len(table)).max() + 1 == 5
    # one copy is in the set three times, twice benign: the third is the suspect
    assert {table["path"][k] for k in found.suspect if k >= 0} == {"images/malignant_051.jpg"}


def read_thumbnails(root, paths):
    return (
        np.stack(
            [
                cv2.resize(
                    cv2.imread(str(root / path), cv2.IMREAD_GRAYSCALE),
                    (64, 64),
                    interpolation=cv2.INTER_AREA,
                )
                for path in paths
            ]
        )
        / 255.0
    )


def known_conflicts(thumbnails, labels):
    """What another method, hashes of the pictures, finds among them."""
    found = by_hash(np.rint(thumbnails * 255).astype(np.uint8))
    straight = ~found.mirrored
    return {
        (i, j)
        for i, j in zip(
            found.first[straight].tolist(), found.second[straight].tolist(), strict=True
        )
        if labels[i] != labels[j]
    }
