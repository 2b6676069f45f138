import numpy as np
import pandas as pd
import pytest

from medglean.data.manifest import Manifest
from medglean.data.splits import split_by_group
from medglean.data.strata import class_counts
from medglean.errors import SplitError

THREE = {"train": 0.7, "val": 0.1, "test": 0.2}


def manifest_of(**columns):
    count = len(next(iter(columns.values())))
    ids = [f"i{row:05d}" for row in range(count)]
    frame = {"id": ids, "image": [f"{one}.png" for one in ids]}
    return Manifest.from_frame(pd.DataFrame(frame | columns), "/images")


def counted(manifest, columns, *, smallest=0.5):
    rows = np.arange(len(manifest))
    counts = class_counts(manifest, columns, rows, units=len(manifest), smallest=smallest)
    return sorted(counts.sum(axis=0).tolist())


def test_one_column_counts_its_values_and_what_has_none():
    manifest = manifest_of(labels=["a;b", "a", "", None])
    assert counted(manifest, ["labels"]) == [1, 1, 1, 2]
    assert counted(manifest, []) == [4]


def test_two_columns_count_values_and_frequent_combinations_by_hand():
    # labels a: 5, b: 3; sources s: 4, t: 4; a of s 2, a of t 3, b of s 2, b of t 1 (rare: left out)
    manifest = manifest_of(label=list("aaaaabbb"), source=list("ssttt" + "sst"))
    assert counted(manifest, ["label", "source"]) == sorted([5, 3, 4, 4, 2, 3, 2])


def test_rare_values_of_the_second_column_count_as_one():
    # with 1 / smallest = 2 groups: u, v and w stand once each
    manifest = manifest_of(label=list("aaaabbb"), source=list("ssuvssw"))
    # label 4, 3; source s 4, rare 3; a and s 2, a and rare 2, b and s 2, b and rare 1: left out
    assert counted(manifest, ["label", "source"]) == sorted([4, 3, 4, 3, 2, 2, 2])


def test_a_missing_column_is_named():
    with pytest.raises(SplitError, match="no column 'site' to share out evenly"):
        counted(manifest_of(label=["a", "b"]), ["label", "site"])


def hospitals(seed):
    """Return 600 images: three classes whose shares differ among two big and 60 small sources."""
    rng = np.random.default_rng(seed)
    source = rng.choice(
        ["big", "other", *(f"s{n}" for n in range(60))], 600, p=[0.4, 0.3, *[0.005] * 60]
    )
    label = [
        rng.choice(["x", "y", "z"], p=[0.8, 0.1, 0.1] if one == "big" else [0.2, 0.5, 0.3])
        for one in source
    ]
    return manifest_of(label=label, source=source)


@pytest.mark.parametrize("seed", range(4))
def test_label_and_source_and_both_together_are_shared_out(seed):
    split = split_by_group(
        hospitals(seed), fractions=THREE, stratify=["label", "source"], seed=seed
    )
    frame = split.frame
    big = frame["source"].where(frame["source"].isin(["big", "other"]), "small")
    for key in (frame["label"], big, frame["label"] + big):
        table = pd.crosstab(key, frame["split"])
        wanted = np.outer(table.sum(axis=1), [THREE[part] for part in table.columns])
        np.testing.assert_allclose(table, wanted, atol=2.5)


def test_a_source_of_its_own_for_each_image_leaves_the_label_even():
    manifest = manifest_of(label=["a", "b"] * 100, source=[f"s{row}" for row in range(200)])
    split = split_by_group(manifest, fractions=THREE, stratify=["label", "source"], seed=0)
    table = pd.crosstab(split.frame["label"], split.frame["split"])
    assert (
        table.loc["a"].to_dict() == table.loc["b"].to_dict() == {"train": 70, "val": 10, "test": 20}
    )
