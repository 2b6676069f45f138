import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medglean.data.balance import balance
from medglean.data.manifest import Manifest
from medglean.data.splits import (
    joined_groups,
    k_folds,
    split_by_group,
    split_hash,
    split_problems,
)
from medglean.errors import SplitError

THREE = {"train": 0.7, "val": 0.15, "test": 0.15}
TWO = {"train": 0.8, "test": 0.2}


def manifest_of(patients, label=None, **columns):
    count = len(patients)
    frame = pd.DataFrame(
        {
            "id": [f"i{row:05d}" for row in range(count)],
            "image": [f"{row}.png" for row in range(count)],
            "patient": patients,
            **({} if label is None else {"label": label}),
            **columns,
        }
    )
    return Manifest.from_frame(frame, "/images")


def clinic(patients=200, seed=0):
    """Patients with 1 to 9 images, one class each, three classes of 60, 30 and 10 in a hundred."""
    rng = np.random.default_rng(seed)
    rows = []
    for patient in range(patients):
        label = rng.choice(["normal", "pneumonia", "covid"], p=[0.6, 0.3, 0.1])
        rows += [(f"p{patient:03d}", label)] * int(rng.integers(1, 10))
    patient, label = zip(*rows, strict=True)
    return manifest_of(list(patient), list(label))


def sides(manifest):
    return dict(zip(manifest.ids, manifest.frame["split"], strict=True))


def test_a_patient_is_on_one_side_only():
    split = split_by_group(clinic(), fractions=THREE, seed=0)
    assert split.frame.groupby("patient")["split"].nunique().max() == 1
    assert set(split.frame["split"]) == {"train", "val", "test"}
    assert split_problems(split) == []


def test_every_class_has_its_share_in_every_part():
    split = split_by_group(clinic(), fractions=THREE, seed=0)
    table = pd.crosstab(split.frame["label"], split.frame["split"], normalize="index")
    for part, share in THREE.items():
        np.testing.assert_allclose(table[part], share, atol=0.02)


def test_one_image_per_patient_is_shared_out_to_the_image():
    labels = ["a"] * 70 + ["b"] * 30
    split = split_by_group(
        manifest_of([f"p{row}" for row in range(100)], labels), fractions=TWO, seed=1
    )
    table = pd.crosstab(split.frame["label"], split.frame["split"])
    assert table.loc["a"].to_dict() == {"train": 56, "test": 14}
    assert table.loc["b"].to_dict() == {"train": 24, "test": 6}


def test_the_order_of_rows_does_not_matter():
    manifest = clinic()
    split = split_by_group(manifest, fractions=THREE, seed=3)
    shuffled = manifest.select(np.random.default_rng(0).permutation(len(manifest)))
    again = split_by_group(shuffled, fractions=THREE, seed=3)
    assert sides(split) == sides(again)
    assert split_hash(split) == split_hash(again)


def test_the_seed_decides():
    manifest = clinic()
    hashes = {split_hash(split_by_group(manifest, fractions=TWO, seed=s)) for s in (0, 0, 1, 2)}
    assert len(hashes) == 3


def test_the_hash_is_of_who_is_where():
    split = split_by_group(clinic(20), fractions=TWO, seed=0)
    parts = split.frame["split"].copy()
    other = {"train": "test", "test": "train"}
    parts.iloc[0] = other[parts.iloc[0]]
    assert split_hash(split) != split_hash(split.with_columns(split=parts))
    assert split_hash(split) == split_hash(split.with_columns(note=["x"] * len(split)))
    with pytest.raises(SplitError, match=r"no column 'split'.*split_by_group"):
        split_hash(clinic(5))


def test_the_same_file_under_two_patients_stays_together():
    manifest = manifest_of(
        ["a", "b", "c", "d", "e", "f"],
        ["x", "y"] * 3,
        sha256=["1" * 64, "2" * 64, "1" * 64, "3" * 64, "4" * 64, None],
        bytes=[1] * 6,
    )
    names = joined_groups(manifest)
    assert names.tolist() == ["a", "b", "a", "d", "e", "f"]
    assert joined_groups(manifest, tied_by=()).tolist() == list("abcdef")


def test_near_duplicates_chain_patients_together():
    manifest = manifest_of(["d", "c", "b", "a", "e"], list("xyxyx"))
    tied = [["i00000", "i00001"], ["i00002", "i00001"], ["i00003", "i00002"]]
    assert joined_groups(manifest, tied=tied).tolist() == ["a", "a", "a", "a", "e"]
    split = split_by_group(manifest, fractions=TWO, seed=0, tied=tied)
    assert split.frame["split"].iloc[:4].nunique() == 1
    assert split_problems(split.with_columns(split=["train", "test", "test", "test", "test"]),
                          tied=tied)[0].fatal  # fmt: skip


def test_an_unknown_id_among_the_ties_is_named():
    with pytest.raises(SplitError, match=r"'nobody'.*no such id"):
        joined_groups(manifest_of(["a", "b"]), tied=[["i00000", "nobody"]])


def test_a_standing_split_is_kept_and_completed():
    manifest = clinic(60)
    parts = np.full(len(manifest), None, dtype=object)
    first = manifest.frame["patient"] == "p000"
    parts[np.flatnonzero(first)[0]] = "test"  # the patient's other rows follow
    split = split_by_group(manifest.with_columns(split=parts), fractions=TWO, seed=0)
    assert set(split.frame["split"][first]) == {"test"}
    assert split.frame["split"].notna().all()
    share = (split.frame["split"] == "test").mean()
    assert share == pytest.approx(0.2, abs=0.03)


def test_a_whole_standing_split_stays_as_it_is_unless_asked():
    split = split_by_group(clinic(40), fractions=TWO, seed=0)
    assert sides(split_by_group(split, fractions=TWO, seed=9)) == sides(split)
    assert sides(split_by_group(split, fractions=TWO, seed=9, overwrite=True)) != sides(split)


def test_a_standing_split_is_not_moved_to_fill_a_part():
    manifest = manifest_of(["a", "b", "c", "d"], list("xyxy"))
    whole = manifest.with_columns(split=["train", "train", "test", "test"])
    assert sides(split_by_group(whole, fractions=THREE, seed=0)) == sides(whole)
    partly = manifest.with_columns(split=["train", "train", "train", None])
    with pytest.raises(SplitError, match=r"none is left for 'test'"):
        split_by_group(partly, fractions=THREE, seed=0)
    split = split_by_group(partly, fractions=TWO, seed=0)
    assert split.frame["split"].tolist() == ["train", "train", "train", "test"]


def test_a_part_that_is_not_dealt_out_may_stand():
    parts = np.full(100, None, dtype=object)
    parts[:10] = "test"
    manifest = manifest_of([f"p{row}" for row in range(100)], ["a", "b"] * 50, split=parts)
    split = split_by_group(manifest, fractions={"train": 0.8, "val": 0.2, "test": 0.0}, seed=0)
    assert (split.frame["split"][:10] == "test").all()
    counts = split.frame["split"].value_counts()
    assert counts["test"] == 10
    assert counts["val"] == pytest.approx(18, abs=2)


def test_a_standing_split_that_tears_a_patient_is_refused():
    manifest = manifest_of(["a", "a", "b", "c"], list("xyxy"), split=["train", "test", None, None])
    with pytest.raises(SplitError, match=r"'a' is in test and train.*split\.anew=true"):
        split_by_group(manifest, fractions=TWO, seed=0)


def test_a_standing_part_that_is_not_asked_for_is_refused():
    manifest = manifest_of(["a", "b", "c"], list("xyx"), split=["val", None, None])
    with pytest.raises(SplitError, match=r"rows stand in part 'val'.*overwrite"):
        split_by_group(manifest, fractions=TWO, seed=0)


def test_rows_without_a_label_are_shared_out_too():
    labels = ["a"] * 40 + ["b"] * 40 + [None] * 20
    split = split_by_group(
        manifest_of([f"p{row}" for row in range(100)], labels), fractions=TWO, seed=0
    )
    unlabelled = split.frame["split"][split.frame["label"].isna()]
    assert (unlabelled == "test").sum() == 4
    [problem] = split_problems(split)
    assert problem.kind == "unlabelled"
    assert not problem.fatal
    assert "20 of 100 rows" in problem.found


def test_several_labels_per_image_are_all_balanced():
    rng = np.random.default_rng(0)
    rows = [
        ";".join(name for name, p in (("a", 0.5), ("b", 0.2), ("c", 0.05)) if rng.random() < p)
        for _ in range(1000)
    ]
    manifest = manifest_of([f"p{row // 2}" for row in range(1000)], labels=rows)
    split = split_by_group(manifest, fractions=THREE, stratify="labels", seed=0)
    for name in "abc":
        has = split.frame["labels"].str.contains(name)
        share = split.frame["split"][has].value_counts(normalize=True)
        for part in THREE:
            assert share[part] == pytest.approx(THREE[part], abs=0.04)


def test_a_class_with_one_image_goes_to_one_part_and_is_told():
    manifest = manifest_of([f"p{row}" for row in range(21)], ["a", "b"] * 10 + ["rare"])
    split = split_by_group(manifest, fractions=TWO, seed=0)
    assert split.frame["split"].iloc[20] == "train"
    [problem] = split_problems(split)
    assert problem.kind == "class-absent"
    assert "'rare' has no image in test" in problem.found


def test_a_missing_class_is_told():
    manifest = manifest_of([f"p{row}" for row in range(10)], ["a"] * 10)
    split = split_by_group(manifest, fractions=TWO, seed=0)
    assert [problem.kind for problem in split_problems(split)] == ["one-class"]


def test_no_part_is_left_empty():
    # one patient holds nearly everything, so the others' shares round to nothing
    patients = ["big"] * 100 + ["b", "c"]
    split = split_by_group(manifest_of(patients, ["x"] * 102), fractions=THREE, seed=0)
    assert split.frame["split"].nunique() == 3
    assert set(split.frame["split"][:100]) == {"train"}


@pytest.mark.parametrize(
    ("manifest", "options", "match"),
    [
        (manifest_of(["a"] * 9, ["x"] * 9), {}, r"1 group\(s\) by 'patient' in 9 rows.*at least 2"),
        (manifest_of(["a", "b"], ["x", "y"]), {"fractions": THREE}, r"2 group\(s\).*at least 3"),
        (clinic(5), {"fractions": {"train": 0.8, "test": 0.1}}, "sum to 0.9, expected 1"),
        (clinic(5), {"fractions": {"train": 0.8, "exam": 0.2}}, "'exam': expected train, val"),
        (clinic(5), {"fractions": {"train": 1.5, "test": -0.5}}, "'train' is 1.5, expected 0 to 1"),
        (clinic(5), {"fractions": {"train": float("nan"), "test": 1}}, "is nan, expected 0 to 1"),
        (manifest_of(["a", "b"]), {}, "no column 'label' to share out"),
    ],
)
def test_what_cannot_be_split_says_why(manifest, options, match):
    with pytest.raises(SplitError, match=match):
        split_by_group(manifest, **{"fractions": TWO, "seed": 0, **options})


def test_an_empty_manifest_is_refused():
    empty = clinic(3).select(np.array([], dtype=int))
    with pytest.raises(SplitError, match="no rows"):
        split_by_group(empty, fractions=TWO, seed=0)


def test_folds_are_even_disjoint_by_patient_and_complete():
    manifest = clinic()
    folds = k_folds(manifest, folds=5, seed=0)
    assert np.bincount(folds).tolist() == pytest.approx([len(manifest) / 5] * 5, rel=0.03)
    assert pd.Series(folds).groupby(manifest.frame["patient"]).nunique().max() == 1
    with pytest.raises(SplitError, match="expected at least 300 for 300 folds"):
        k_folds(manifest, folds=300, seed=0)


def test_a_hundred_thousand_rows_take_seconds():
    rng = np.random.default_rng(0)
    labels = rng.choice(["a", "b", "c"], 30_000)
    counts = np.eye(3, dtype=int)[np.searchsorted(["a", "b", "c"], labels)]
    sides = balance(counts, [0.8, 0.2], names=np.arange(30_000).astype(str), seed=0)
    np.testing.assert_allclose(counts[sides == 1].sum(0), counts.sum(0) * 0.2, atol=1)


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.sampled_from("abc")), min_size=1, max_size=40),
    st.integers(0, 5),
)
def test_any_data_split_or_say_why(rows, seed):
    manifest = manifest_of([f"p{p}" for p, _ in rows], [label for _, label in rows])
    groups = len({p for p, _ in rows})
    if groups < 3:
        with pytest.raises(SplitError):
            split_by_group(manifest, fractions=THREE, seed=seed)
        return
    split = split_by_group(manifest, fractions=THREE, seed=seed)
    assert split.frame.groupby("patient")["split"].nunique().max() == 1
    assert split.frame["split"].nunique() == 3
    assert not any(problem.fatal for problem in split_problems(split))


def test_patients_with_many_images_are_in_every_part():
    # 300 patients with 1 image, 60 with 2, 20 with 3: each part must get its share of each kind
    sizes = np.repeat([1, 2, 3], [300, 60, 20])
    counts = np.stack([sizes, np.zeros_like(sizes)], axis=1)
    counts[::2] = counts[::2, ::-1]  # every other patient is of the other class
    shares = [0.7, 0.1, 0.2]

    sides = balance(counts, shares, names=np.arange(len(sizes)).astype(str), seed=0)

    for size, patients in ((1, 300), (2, 60), (3, 20)):
        found = np.bincount(sides[sizes == size], minlength=3)
        np.testing.assert_allclose(found, np.multiply(shares, patients), atol=2.5)
    images = [counts[sides == part].sum(axis=0) for part in range(3)]
    np.testing.assert_allclose(images, np.outer(shares, counts.sum(axis=0)), atol=1)
