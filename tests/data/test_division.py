"""What the settings of a split may say, and what is done with them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from medglean.classify.settings import ClassifyPreset
from medglean.data.division import SplitSettings, check_division, divide
from medglean.data.manifest import Manifest
from medglean.data.splits import split_hash
from medglean.errors import SplitError

VIEWS = {"column": "view", "train_values": ("PA", "AP"), "test_values": ("AP Supine",)}


def manifest_of(count=60, **columns):
    ids = [f"i{row:03d}" for row in range(count)]
    frame = {"id": ids, "image": [f"{one}.png" for one in ids]}
    frame |= {
        "patient": [f"p{row:03d}" for row in range(count)],
        "label": ["a", "b"] * (count // 2),
    }
    return Manifest.from_frame(pd.DataFrame(frame | columns), "/images")


def views(*, torn=0):
    """Return 40 PA or AP, 16 AP supine under three spellings, 4 lateral; some patients on both."""
    patients = [f"p{row:03d}" for row in range(60)]
    patients[40 : 40 + torn] = patients[:torn]
    view = ["PA", "ap"] * 20 + ["AP Supine", "ap  supine", "APsupine", "AP Supine"] * 4 + ["L"] * 4
    return manifest_of(view=view, patient=patients)


def parts_of(manifest, tied=None, **settings):
    split = SplitSettings(**settings)
    return divide(manifest, split, seed=0, label="label", tied=tied).frame["split"]


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"train": 0.7, "val": 0.2, "test": 0.2}, r"must be 1, got 1\.1"),
        ({"stratify": ()}, "stratify lists no column"),
        ({"stratify": ("label", "none")}, "'none' alone"),
        ({"test_values": ("PA",)}, r"test_values is for a split by a column.*column = 'view'"),
        ({"across_groups": True}, "across_groups is for a split by a column"),
        ({"column": "view", "train_values": ("PA",)}, "test_values names none of its values"),
        ({"column": "view", "test_values": ("PA",)}, "train_values names none"),
        ({"column": "split", "train_values": ("a",), "test_values": ("b",)}, "kept anyway"),
        (
            {"column": "view", "train_values": ("AP Supine",), "test_values": ("ap supine",)},
            "'ap supine' is in train_values and in test_values",
        ),
    ],
)
def test_settings_that_contradict_one_another_are_refused_in_words(given, match):
    with pytest.raises(ValidationError, match=match):
        SplitSettings(**given)


def test_settings_come_back_from_a_presets_text():
    split = SplitSettings(duplicates="together", stratify=("label", "source"), **VIEWS)
    preset = ClassifyPreset(name="here", split=split)
    assert 'stratify = [\n    "label",\n    "source",\n]' in preset.to_toml()
    assert ClassifyPreset(name="here", split=SplitSettings(stratify="none")).to_toml()


def test_by_a_column_parts_are_its_values_and_validation_is_taken_from_training():
    parts = parts_of(views(), train=0.7, val=0.1, test=0.2, **VIEWS)

    assert (parts[40:56] == "test").all()
    assert parts[56:].isna().all()
    assert sorted(parts[:40].value_counts().items()) == [("train", 35), ("val", 5)]


def test_values_for_validation_are_used_as_named():
    settings = VIEWS | {"train_values": ("PA",), "val_values": ("AP",)}
    parts = parts_of(views(), **settings)
    assert parts[:40].tolist() == ["train", "val"] * 20


def test_a_patient_on_both_sides_of_a_column_is_refused_with_the_count_and_the_remedy():
    with pytest.raises(SplitError, match=r"3 group\(s\), such as 'p000'.*6 images.*across_groups"):
        parts_of(views(torn=3), **VIEWS)


def test_a_patient_on_both_sides_may_be_accepted_and_is_told_with_its_size():
    split = SplitSettings(across_groups=True, val=0, train=0.8, **VIEWS)
    rows = divide(views(torn=3), split, seed=0, label="label")
    told = check_division(rows, split, label="label")

    [torn] = [problem for problem in told if problem.kind == "groups-across-parts"]
    assert not torn.fatal
    assert "3 group(s)" in torn.found
    assert "6 images (3 in train, 3 in test)" in torn.found
    assert not [problem for problem in told if problem.fatal]


def test_near_duplicates_count_as_on_both_sides_of_a_column():
    tied = [("i000", "i041")]
    with pytest.raises(SplitError, match=r"1 group\(s\), such as 'p000'"):
        parts_of(views(), tied=tied, **VIEWS)


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"column": "position"}, "no column 'position' to divide by; the columns are id, image"),
        ({"test_values": ("supine",)}, r"no image for 'test'.*'supine'.*'PA'.*split\.test_values"),
    ],
)
def test_a_column_or_value_that_is_not_there_is_named(changed, match):
    with pytest.raises(SplitError, match=match):
        parts_of(views(), **(VIEWS | changed))


def test_a_standing_split_is_not_overruled_by_a_column_unless_asked():
    standing = views().with_columns(split=["test"] * 10 + ["train"] * 50)
    with pytest.raises(SplitError, match=r"30 of 60 rows stand in another part.*anew=true"):
        parts_of(standing, **VIEWS)
    parts = parts_of(standing, anew=True, **VIEWS)
    assert (parts[40:56] == "test").all()


def test_a_division_by_column_divided_again_is_the_same():
    split = SplitSettings(**VIEWS)
    once = divide(views(), split, seed=0, label="label")
    again = divide(once, split, seed=0, label="label")
    assert split_hash(once) == split_hash(again)


def test_near_duplicates_stay_together_also_when_validation_is_taken_from_training():
    rng = np.random.default_rng(0)
    tied = [tuple(f"i{row:03d}" for row in rng.permutation(60)[:2]) for _ in range(12)]
    parts = dict(zip(manifest_of().ids, parts_of(manifest_of(), tied=tied), strict=True))
    assert all(len({parts[one] for one in linked}) == 1 for linked in tied)

    standing = manifest_of(split=["train"] * 50 + ["test"] * 10)
    inside = [linked for linked in tied if all(int(one[1:]) < 50 for one in linked)]
    parts = dict(zip(standing.ids, parts_of(standing, tied=inside), strict=True))
    assert all(len({parts[one] for one in linked}) == 1 for linked in inside)
    assert set(parts.values()) == {"train", "val", "test"}


def test_a_standing_split_with_near_duplicates_on_both_sides_is_refused():
    standing = manifest_of(split=["train"] * 50 + ["test"] * 10)
    with pytest.raises(SplitError, match=r"near duplicates stand in test and train.*'i003'"):
        parts_of(standing, tied=[("i003", "i055")])


def test_near_duplicates_that_nobody_looked_for_are_refused():
    with pytest.raises(SplitError, match=r"not looked for here.*duplicates=ignore"):
        parts_of(manifest_of(), duplicates="together")


def test_a_chain_of_a_large_share_of_the_set_is_told():
    split = SplitSettings(duplicates="together")
    tied = [tuple(f"i{row:03d}" for row in range(15))]
    rows = divide(manifest_of(), split, seed=0, label="label", tied=tied)
    [told] = check_division(rows, split, label="label", tied=tied)
    assert told.kind == "duplicates-chained"
    assert "15 of 60 images (25%)" in told.found
    short = [tied[0][:12]]
    assert check_division(rows, split, label="label", tied=short) == []


def test_a_column_to_stratify_by_that_is_absent_is_told_and_left_out():
    split = SplitSettings(stratify=("source", "label"))
    rows = divide(manifest_of(), split, seed=0, label="label")
    plain = divide(manifest_of(), SplitSettings(), seed=0, label="label")
    assert split_hash(rows) == split_hash(plain)
    [told] = check_division(rows, split, label="label")
    assert told.kind == "stratify-absent"
    assert told.column == "source"
    with pytest.raises(SplitError, match="no column 'finding'"):
        divide(manifest_of(), split, seed=0, label="finding")


def test_without_classes_nothing_is_stratified():
    rows = manifest_of().with_columns(label=None)
    parts = parts_of(rows, stratify="none")
    assert parts.value_counts().to_dict() == {"train": 42, "test": 12, "val": 6}
