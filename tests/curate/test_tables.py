import json

import numpy as np
import pandas as pd
import pytest

from medglean.curate import tables
from medglean.curate.duplicates import Pairs, label_conflicts, leakage
from medglean.curate.order import Ranking
from medglean.curate.redundancy import redundancy
from medglean.data.manifest import Manifest
from medglean.errors import UsageError


@pytest.fixture
def manifest(tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    ids = ["007", "NA", "nan", "1e3", "None"]  # what a careless reader would lose
    for name in ids:
        (folder / f"{name}.png").write_bytes(b"")
    frame = pd.DataFrame(
        {
            "id": ids,
            "image": [f"{name}.png" for name in ids],
            "patient": ["01", "01", "02", "02", None],
            "site": ["A", "A", "B", "B", "B"],
        }
    )
    return Manifest.from_frame(frame, folder)


@pytest.fixture
def ranking():
    return Ranking(
        order=np.array([3, 0, 1]),
        similarity=np.array([np.nan, 0.25, 0.123456789]),
        nearest=np.array([-1, 3, 0]),
        reason=("random start", "least similar, so far", 'said "no"'),
    )


def test_the_selection_is_a_manifest_that_finds_its_images_elsewhere(manifest, ranking, tmp_path):
    out = tmp_path / "runs" / "list"
    out.mkdir(parents=True)
    tables.selected(manifest, ranking, method="enrich").write(out / "selected.csv")

    back = Manifest.read(out / "selected.csv")

    assert back.ids == ["1e3", "007", "NA"]
    assert [*back.frame.columns] == [
        "rank", "id", "image", "patient", "site", "label",
        "largest_similarity", "nearest", "reason", "curated_by",
    ]  # fmt: skip
    assert back.missing_files() == []
    assert back.warnings == ()
    assert back.frame["rank"].tolist() == ["1", "2", "3"]
    assert back.frame["nearest"].fillna("-").tolist() == ["-", "1e3", "007"]
    assert back.frame["largest_similarity"].fillna("-").tolist() == ["-", "0.25", "0.123457"]
    assert back.frame["reason"].tolist() == list(ranking.reason)
    assert back.frame["curated_by"].tolist() == ["enrich"] * 3
    assert back.frame["patient"].tolist() == ["02", "01", "01"]
    assert back.frame["label"].isna().all()
    root = pd.read_csv(out / "selected.csv", dtype=str)["root"].unique().tolist()
    assert root == ["../../scans"]


def test_beside_its_source_no_root_is_needed(manifest, ranking):
    path = manifest.root / "selected.csv"
    tables.selected(manifest, ranking, method="enrich").write(path)

    assert "root" not in path.read_text().splitlines()[0]
    assert Manifest.read(path).missing_files() == []


def test_labels_and_further_columns_are_kept(manifest, ranking):
    labelled = manifest.with_columns(label=["a", None, "b", "c", "d"])

    frame = tables.selected(labelled, ranking, method="enrich").frame

    assert frame["label"].fillna("-").tolist() == ["c", "a", "-"]
    assert frame["site"].tolist() == ["B", "A", "A"]


def test_several_labels_need_no_label(manifest, ranking):
    several = manifest.with_columns(labels=["a;b", "", "a", "b", None])

    frame = tables.selected(several, ranking, method="enrich").frame

    assert "label" not in frame
    assert frame["labels"].fillna("-").tolist() == ["b", "a;b", ""]


def test_images_taken_beforehand_come_first_with_rank_0(manifest, ranking):
    frame = tables.selected(manifest, ranking, method="enrich", preselected=[4, 2]).frame

    assert frame["id"].tolist() == ["None", "nan", "1e3", "007", "NA"]
    assert frame["rank"].tolist() == [0, 0, 1, 2, 3]
    assert frame["reason"].tolist()[:2] == ["preselected"] * 2


def test_curating_a_curated_list_replaces_its_columns(manifest, ranking):
    once = tables.selected(manifest, ranking, method="enrich")

    twice = tables.selected(once, ranking_of(2, 0), method="random")

    assert twice.frame["rank"].tolist() == [1, 2]
    assert twice.ids == ["NA", "1e3"]
    assert twice.frame["curated_by"].tolist() == ["random"] * 2
    assert [*twice.frame.columns] == [*once.frame.columns]


def test_the_order_round_trips_and_holds_what_tells_images_apart(manifest, ranking, tmp_path):
    tables.order(manifest, ranking).write(tmp_path / "order.csv")

    back = Manifest.read(tmp_path / "order.csv")

    assert back.ids == ["1e3", "007", "NA"]
    assert [*back.frame.columns] == [
        "rank", "id", "image", "patient", "largest_similarity", "nearest", "reason",
    ]  # fmt: skip
    assert back.missing_files() == []


def test_channels_are_kept(tmp_path, ranking):
    columns = {"id": list("abcd"), "image.t1": [*"abcd"], "image.t2": [*"efgh"]}
    manifest = Manifest.from_frame(pd.DataFrame(columns), tmp_path)

    frame = tables.order(manifest, ranking_of(3, 1)).frame

    assert [*frame.columns][:4] == ["rank", "id", "image.t1", "image.t2"]
    assert frame["image.t2"].tolist() == ["h", "f"]


@pytest.mark.parametrize(
    ("order", "told"),
    [
        ([5], "names rows 5 to 5, and the manifest has 5 rows, 0 to 4"),
        ([0, -1], "names rows -1 to 0"),
        ([1, 0, 1], "image 'NA' stands in the order twice"),
        ([], "no image was selected"),
    ],
)
def test_an_order_of_another_manifest(manifest, order, told):
    with pytest.raises(UsageError, match=told):
        tables.selected(manifest, ranking_of(*order), method="enrich")
    with pytest.raises(UsageError, match=told):
        tables.order(manifest, ranking_of(*order))


def test_dropped_images_name_the_one_that_stands_for_them(manifest):
    frame = tables.dropped(
        manifest,
        np.array([0, 3]),
        nearest=np.array([0, 0, 3, 3, -1]),
        similarity=np.array([1.0, 0.7, 0.9, 1.0, np.nan]),
        set_aside={4: "zero vector"},
    )

    assert frame["id"].tolist() == ["nan", "NA", "None"]
    assert frame["kept"].fillna("-").tolist() == ["1e3", "007", "-"]
    assert frame["similarity"].fillna(-1).tolist() == [0.9, 0.7, -1]
    assert frame["reason"].tolist() == [
        "represented by 1e3",
        "represented by 007",
        "zero vector",
    ]
    assert frame["patient"].fillna("-").tolist() == ["02", "01", "-"]


def test_duplicates_tell_what_is_wrong_about_them(manifest):
    labelled = manifest.with_columns(
        label=["a", "b", "a", None, "a"], split=["train", "test", "train", "val", None]
    )
    pairs = Pairs(
        np.array([0, 1, 2, 0]),
        np.array([1, 2, 3, 4]),
        np.array([0.9999999, 0.98, 0.97, 0.96]),
        4,
        0.95,
        np.array([0.9, 0.8, 0.7, 0.6]),
    )

    frame = tables.duplicates(
        labelled,
        pairs,
        leaks=leakage(pairs, labelled.frame["split"].tolist()),
        conflicts=label_conflicts(pairs, labelled.frame["label"].tolist(), min_similarity=0.9),
        chosen=np.array([0, 1, 4]),
    )

    assert frame["first"].tolist() == ["007", "NA", "nan", "007"]
    assert frame["second"].tolist() == ["NA", "nan", "1e3", "None"]
    assert frame["similarity"].tolist() == [1.0, 0.98, 0.97, 0.96]
    assert frame["ssim"].tolist() == [0.9, 0.8, 0.7, 0.6]
    assert frame["family"].tolist() == [1, 1, 1, 1]
    assert frame["same_patient"].tolist() == [True, False, True, False]
    assert frame["selected"].tolist() == [2, 1, 0, 2]
    assert frame["label_second"].fillna("-").tolist() == ["b", "a", "-", "a"]
    assert frame["split_first"].tolist() == ["train", "test", "train", "train"]
    assert frame["finding"].fillna("").tolist() == [
        "label conflict; split leak", "label conflict; split leak", "split leak", "",
    ]  # fmt: skip
    assert frame["suspect"].fillna("").tolist() == ["NA", "NA", "", ""]
    assert frame["majority"].fillna("").tolist() == ["a", "a", "", ""]


def test_without_pictures_labels_split_or_patients_there_are_no_such_columns(tmp_path):
    manifest = Manifest.from_frame(pd.DataFrame({"id": [*"ab"], "image": [*"ab"]}), tmp_path)
    pairs = Pairs(np.array([0]), np.array([1]), np.array([1.0]), 1, 0.95)

    frame = tables.duplicates(manifest, pairs)

    assert [*frame.columns] == [
        "first", "second", "similarity", "family", "finding", "suspect", "majority",
    ]  # fmt: skip


def test_text_of_a_table_keeps_ids(manifest, tmp_path):
    pairs = Pairs(np.array([0]), np.array([1]), np.array([1.0]), 1, 0.95)
    path = tmp_path / "duplicates.csv"
    path.write_text(tables.csv_text(tables.duplicates(manifest, pairs)))

    back = pd.read_csv(path, dtype=str, keep_default_na=False)

    assert back.loc[0, ["first", "second"]].tolist() == ["007", "NA"]


def test_the_junk_list(manifest):
    frame = tables.outliers(
        manifest,
        np.array([2, 4]),
        score=np.array([3.5, 2.25]),
        reason=["far from all", "far from all"],
        removed=np.array([True, False]),
    )

    assert frame["id"].tolist() == ["nan", "None"]
    assert frame["score"].tolist() == [3.5, 2.25]
    assert frame["kept_out"].tolist() == [True, False]
    everything = tables.outliers(manifest, np.array([2]), score=np.array([1.0]), reason=["far"])
    assert everything["kept_out"].tolist() == [True]


def test_redundancy_is_json():
    values = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    record = tables.redundancy_record(
        redundancy(values, groups=["a", "b", "c"], thresholds=(0.5, 0.7), bins=2)
    )

    back = json.loads(json.dumps(record, allow_nan=False))

    assert back["pairs"] == {"all": 3, "within": 0, "between": 3}
    assert back["above"]["all"] == {"0.5": 2, "0.7": 1}
    assert back["share_above"]["between"] == pytest.approx({"0.5": 2 / 3, "0.7": 1 / 3})
    assert back["share_above"]["within"] == {"0.5": None, "0.7": None}
    assert back["histogram"]["edges"] == [-1.0, 0.0, 1.0]
    assert back["histogram"]["counts"]["all"] == [0, 3]


def ranking_of(*order):
    count = len(order)
    return Ranking(
        np.array(order, dtype=np.int64), np.full(count, np.nan), np.full(count, -1), ("",) * count
    )
