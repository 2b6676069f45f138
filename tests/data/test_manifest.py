from __future__ import annotations

import datetime
import errno
import hashlib
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medglean import files
from medglean.data.manifest import Manifest
from medglean.data.manifest_checks import suggest
from medglean.errors import DataError, ManifestError, Problem, UsageError


def put(folder: Path, text: str | bytes, name: str = "m.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def put_parquet(folder: Path, name: str = "m.parquet", **columns) -> Path:
    pq.write_table(pa.table(columns), folder / name)
    return folder / name


def problems_of(path: Path) -> list[Problem]:
    with pytest.raises(ManifestError) as caught:
        Manifest.read(path)
    return list(caught.value.problems)


def the_problem(path: Path, kind: str) -> Problem:
    found = [problem for problem in problems_of(path) if problem.kind == kind]
    assert len(found) == 1, found
    return found[0]


# --- what must be kept --------------------------------------------------------------------------


def test_words_that_look_missing_are_labels_and_only_the_empty_field_is_missing(tmp_path):
    path = put(tmp_path, 'id,image,label\n1,a,NA\n2,b,None\n3,c,nan\n4,d,\n5,e,null\n6,f,""\n')

    manifest = Manifest.read(path)

    assert manifest.classes() == ("NA", "None", "nan", "null")
    assert manifest.frame["label"].isna().tolist() == [False, False, False, True, False, True]
    assert {problem.kind for problem in manifest.warnings} == {"label-na"}
    assert "leave the field empty" in str(manifest.warnings[0])


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_ids_are_text(tmp_path, suffix):
    table = pd.DataFrame(
        {"id": ["007", "7", "1e3"], "image": ["a", "b", "c"], "patient": ["01"] * 3}
    )

    Manifest.from_frame(table, tmp_path).write(tmp_path / f"m.{suffix}")
    back = Manifest.read(tmp_path / f"m.{suffix}")

    assert back.ids == ["007", "7", "1e3"]
    assert back.groups().tolist() == ["01", "01", "01"]


def test_whole_numbers_as_ids_in_parquet_are_told(tmp_path):
    path = put_parquet(tmp_path, id=[7, 8], image=["a", "b"], patient=pa.array([1, None]))

    manifest = Manifest.read(path)

    assert manifest.ids == ["7", "8"]
    assert manifest.groups().tolist() == ["1", "id:8"]  # not "1.0"
    told = {problem.column: str(problem) for problem in manifest.warnings}
    assert "stored as integers, read as text. Store text: leading zeros" in told["id"]
    assert "patient" in told


def test_numbers_with_a_point_as_labels_are_refused(tmp_path):
    path = put_parquet(tmp_path, id=["a", "b"], image=["a", "b"], label=[0.0, 1.0])

    assert "expected text, found floating values such as 0.0" in str(the_problem(path, "not-text"))


def test_types_of_further_columns_are_kept_in_parquet_and_are_text_in_csv(tmp_path):
    day = datetime.date(2020, 3, 1)
    path = put_parquet(
        tmp_path, id=["a"], image=["x.png"], dose=[1.5], seen=[day], count=[3], bytes=[12]
    )
    manifest = Manifest.read(path)
    manifest.write(tmp_path / "again.parquet")
    manifest.write(tmp_path / "again.csv")

    types = pq.read_schema(tmp_path / "again.parquet")
    assert types.field("dose").type == pa.float64()
    assert types.field("seen").type == pa.date32()
    assert types.field("count").type == pa.int64()
    from_csv = Manifest.read(tmp_path / "again.csv").frame.iloc[0]
    assert (from_csv["dose"], from_csv["seen"], from_csv["count"]) == ("1.5", "2020-03-01", "3")
    assert from_csv["bytes"] == 12  # a known column of numbers


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_known_none_and_not_labelled_stay_apart(tmp_path, suffix):
    table = pd.DataFrame({"id": ["1", "2", "3"], "image": list("abc"), "labels": ["A;B", "", None]})

    Manifest.from_frame(table, tmp_path).write(tmp_path / f"m.{suffix}")
    labels = Manifest.read(tmp_path / f"m.{suffix}").frame["labels"]

    assert labels.tolist()[:2] == ["A;B", ""]
    assert labels.isna().tolist() == [False, False, True]
    assert Manifest.read(tmp_path / f"m.{suffix}").classes("labels") == ("A", "B")


@pytest.mark.parametrize(
    ("delimiter", "encoding"),
    [(",", "utf-8"), (";", "utf-8-sig"), ("\t", "utf-16"), (",", "utf-32"), (";", "utf-16")],
)
def test_delimiters_and_marked_encodings_are_read(tmp_path, delimiter, encoding):
    lines = ["id,image,label".replace(",", delimiter), "Käse,ä b.png,größe".replace(",", delimiter)]
    path = put(tmp_path, "\r\n".join(lines).encode(encoding))

    row = Manifest.read(path).frame.iloc[0]

    assert row.tolist() == ["Käse", "ä b.png", "größe"]


def test_the_hint_that_excel_writes_is_understood(tmp_path):
    path = put(tmp_path, "sep=;\r\nid;image\r\n1;a\r\n1;b\r\n")

    assert the_problem(path, "duplicate-id").row == 4


def test_quoted_newlines_blank_lines_and_semicolons_inside_a_comma_file(tmp_path):
    path = put(
        tmp_path,
        'id,image,labels,note\n1,a,X;Y,"two\nlines, one record"\n\n,,,\n'
        '2,b,X,"a ""word"""\n2,c,,\n',
    )

    problem = the_problem(path, "duplicate-id")

    # header 1, record 2 (two lines of text), blank 3, empty 4, record 5, the duplicate 6
    assert (problem.row, problem.column) == (6, "id")
    assert "the id '2' stands already in row 5" in str(problem)


# --- what must be told --------------------------------------------------------------------------


def test_all_problems_are_told_together_with_row_and_column(tmp_path):
    path = put(
        tmp_path,
        "id,image,label,split\n"
        "1,/etc/x.png,A,train\n"
        "1,../b.png,a,training\n"
        ",c.png,A,val\n"
        "4,,A,test\n"
        "5,e.png\n",
    )

    found = {(p.kind, p.row, p.column) for p in problems_of(path)}

    assert found == {
        ("absolute-path", 2, "image"),
        ("duplicate-id", 3, "id"),
        ("parent-path", 3, "image"),
        ("label-spelling", 3, "label"),
        ("split", 3, "split"),
        ("missing-id", 4, "id"),
        ("missing-image", 5, "image"),
        ("ragged-row", 6, None),
    }
    with pytest.raises(ManifestError, match=rf"8 problems.*\n.*{path}, row ") as caught:
        Manifest.read(path)
    assert "'training', expected train, val or test. Use these three names" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        ("name,label\nx,A\n", "missing-column", "no column 'id'; the columns are 'name', 'label'"),
        ("id,image\n", "empty", "has a header and no rows"),
        ("", "empty", "the file is empty"),
        ("\n\n\n", "empty", "the file is empty"),
        (
            "id,image,label,label\n1,a,b,c\n",
            "duplicate-column",
            "'label': 2 columns have this name",
        ),
        ("id,image,\n1,a,b\n", "unnamed-column", "a column without a name holds values"),
        ("id,image\n1,a,b\n", "ragged-row", "row 2: 3 fields, the header has 2"),
        ("id,image\n1\n", "ragged-row", "row 2: 1 fields, the header has 2"),
        ('id,image\n1,a\n2,"b\n', "quotes", "row 3: the quotes do not close"),
        ('id,image\n1,"a"b\n', "quotes", "write each quote twice"),
        ("id,image\n1,C:\\x\\a.png\n", "absolute-path", "'C:\\\\x\\\\a.png' is an absolute path"),
        ("id,image\n1,\\\\host\\a.png\n", "absolute-path", "is an absolute path"),
        ("id,image\n1,x\\a.png\n", "backslash", "holds a backslash. Write folders with '/'"),
        ("id,image\n1,https://a.org/x.png\n", "remote-path", "is an address, not a file"),
        ("id,image\n1,a/../../b.png\n", "parent-path", "leaves the manifest's folder"),
        ("id,image\n1,..\n", "parent-path", "leaves the manifest's folder"),
        ("id,image,mask\n1,a,../m.png\n", "parent-path", "column 'mask': '../m.png' leaves"),
        ("id,image\n1,a#2.png\n", "fragment", "'2.png' after the '#': expected key=number"),
        ("id,image\n1,#frame=1\n", "fragment", "no path before the '#'"),
        ("id,image,label\n1,a,1\n2,b,1.0\n", "label-number", "'1' and '1.0' are one number"),
        ("id,image,label\n1,a,x\n2,b, x\n", "label-spelling", "' x' and 'x' differ only by case"),
        ("id,image,label,labels\n1,a,x,x\n", "both-label-columns", "which is the truth"),
        ("id,image,labels\n1,a,x;;y\n", "labels", "'x;;y' holds an empty name"),
        ("id,image,labels\n1,a,x;x\n", "labels", "'x;x' holds a name twice"),
        ("id,image,labels\n1,a,x;Y\n2,b,y\n", "label-spelling", "'Y' and 'y' differ only by case"),
        (
            "id,image,image.t1\n1,a,b\n",
            "both-image-columns",
            "there is 'image' and also 'image.t1'",
        ),
        ("id,image.\n1,a\n", "unnamed-channel", "the channel has no name"),
        ("id,image,split\n1,a,Train\n", "split", "'Train', expected train, val or test"),
        ("id,image,bytes\n1,a,many\n", "not-a-number", "'many' is not a whole number from 0 on"),
        ("id,image,bytes\n1,a,-3\n", "not-a-number", "'-3' is not a whole number"),
        ("id,image,height\n1,a,2.5\n", "not-a-number", "'2.5' is not a whole number"),
        ("id,image,sha256\n1,a,ABC\n", "sha256", "'ABC' is not a SHA-256"),
        ("id,image,lable\n1,a,b\n", "unknown-column", "'lable': unknown column that looks like 'l"),
        ("id,image,patient_id\n1,a,b\n", "unknown-column", "Rename it to 'patient'"),
        ("id,image,root\n1,a,x\n2,b,y\n", "root", "2 different values, such as 'x' and 'y'"),
        (b"id,image\n1,a\n2,\x00b\n", "nul-byte", "row 3: a NUL byte"),
        ("id,image\n1,a\n".encode("utf-16-le"), "nul-byte", "a UTF-16 text without its byte-order"),
        ("id,image\n1,a\nä,b\n".encode("latin-1"), "encoding", "row 3: byte 0xE4 is not UTF-8"),
        (b"\xff\xfei\x00d\x00,", "encoding", "marked as UTF-16 but does not decode"),
        (b"PK\x03\x04....", "format", "a ZIP archive or an Excel workbook, not CSV or Parquet"),
        (b"\x89PNG\r\n\x1a\n....", "format", "this is a PNG image, not CSV or Parquet"),
        (b"\x1f\x8b....", "format", "a gzip archive"),
    ],
)
def test_a_bad_file_is_refused_with_its_reason(tmp_path, content, kind, message):
    path = put(tmp_path, content)

    matching = [problem for problem in problems_of(path) if problem.kind == kind]

    assert any(message in str(problem) for problem in matching), problems_of(path)
    assert all(str(path) in str(problem) for problem in matching)
    assert all(problem.remedy for problem in matching)


def test_a_path_that_goes_up_and_comes_back_stays_inside(tmp_path):
    path = put(tmp_path, "id,image\n1,a/../b..c/..d.png\n2,e%23f.png#frame=2\n")

    assert Manifest.read(path).file_of("e%23f.png#frame=2") == tmp_path / "e#f.png"


def test_a_parquet_cut_short_is_told(tmp_path):
    path = put_parquet(tmp_path, id=["a"] * 50, image=["b"] * 50)
    path.write_bytes(path.read_bytes()[:-20])

    assert "cut short or damaged. Write or copy it again" in str(the_problem(path, "damaged"))


def test_two_parquet_columns_of_one_name_are_told(tmp_path):
    table = pa.table([["a"], ["b"], ["c"]], names=["id", "image", "image"])
    pq.write_table(table, tmp_path / "m.parquet")

    assert the_problem(tmp_path / "m.parquet", "duplicate-column").column == "image"


def test_a_missing_file_and_a_folder_are_told(tmp_path):
    assert "there is no such file" in str(the_problem(tmp_path / "none.csv", "missing"))
    assert "cannot be opened (Is a directory)" in str(the_problem(tmp_path, "unreadable"))


@pytest.mark.parametrize("mixture", [[1, "1"], ["a", 2.5], [1, 2.5, "x"], [True, "x"], [b"x", "y"]])
def test_mixed_types_in_a_table_in_memory_are_told(tmp_path, mixture):
    count = len(mixture)
    table = pd.DataFrame(
        {
            "id": [str(i) for i in range(count)],
            "image": ["a"] * count,
            "label": pd.Series(mixture, dtype=object),
        }
    )

    with pytest.raises(ManifestError, match="expected text, found several types") as caught:
        Manifest.from_frame(table, tmp_path)
    assert (caught.value.problems[0].row, caught.value.problems[0].column) == (3, "label")


def test_numbers_and_words_among_labels_are_a_warning(tmp_path):
    mixed = Manifest.read(put(tmp_path, "id,image,label\n1,a,1\n2,b,COVID\n"))
    grades = Manifest.read(put(tmp_path, "id,image,label\n1,a,0\n2,b,1+\n3,c,2+\n"))

    assert [problem.kind for problem in mixed.warnings] == ["mixed-labels"]
    assert grades.warnings == ()  # the levels of a HER2 stain are one kind of name


def test_a_likely_typo_beside_the_known_column_is_only_a_warning(tmp_path):
    manifest = Manifest.read(put(tmp_path, "id,image,label,label2,vendor_note\n1,a,x,y,z\n"))

    assert [(p.kind, p.column) for p in manifest.warnings] == [("unknown-column", "label2")]


@pytest.mark.parametrize(
    ("name", "meant"),
    [("lable", "label"), ("patient_id", "patient"), (" Label", "label"), ("ID", "id"),
     ("spilt", "split"), ("file_name", "image"), ("Patient ID", "patient"), ("temperature", None),
     ("image.t1", None), ("stage", None), ("subtype", None), ("idx", None)],
)  # fmt: skip
def test_suggestions(name, meant):
    assert suggest(name) == meant


def test_a_fault_in_every_row_is_spelt_out_a_thousand_times_and_counted(tmp_path):
    table = pd.DataFrame({"id": [str(i) for i in range(3000)], "image": "/abs/a.png"})

    with pytest.raises(ManifestError, match=r"1001 problems") as caught:
        Manifest.from_frame(table, tmp_path)
    assert "the same in 2,000 further rows" in str(caught.value.problems[-1])


def test_missing_channels_are_a_warning_and_a_row_without_any_a_problem(tmp_path):
    some = Manifest.read(put(tmp_path, "id,image.t1,image.t2\n1,a,b\n2,c,\n"))
    path = put(tmp_path, "id,image.t1,image.t2\n1,a,b\n2,,\n")

    assert some.image_columns == ["image.t1", "image.t2"]
    assert [(p.kind, p.row, p.column) for p in some.warnings] == [
        ("missing-channel", 3, "image.t2")
    ]
    assert the_problem(path, "missing-image").row == 3


# --- groups, selections -------------------------------------------------------------------------


def test_groups_fall_back_from_patient_to_group_to_id(tmp_path):
    path = put(tmp_path, "id,image,patient,group\n1,a,7,\n2,b,,7\n3,c,,\n4,d,7,9\n")
    manifest = Manifest.read(path)

    assert manifest.groups().tolist() == ["7", "group:7", "id:3", "7"]
    assert manifest.grouped_by == "patient+group+id"
    assert manifest.groups("group").tolist() == ["patient:7", "7", "id:3", "9"]
    assert Manifest.read(put(tmp_path, "id,image\n1,a\n")).groups().tolist() == ["1"]


def test_select_and_with_columns(tmp_path):
    manifest = Manifest.read(put(tmp_path, "id,image,label\n1,a,x\n2,b,y\n3,c,x\n"))

    assert manifest.select(np.array([2, 0])).ids == ["3", "1"]
    assert manifest.select(manifest.frame["label"] == "x").ids == ["1", "3"]
    assert manifest.select([]).ids == []
    changed = manifest.with_columns(split=["train", "val", "test"], label=None)
    assert list(changed.frame.columns) == ["id", "image", "split"]
    assert list(manifest.frame.columns) == ["id", "image", "label"]
    with pytest.raises(ManifestError, match="'dev', expected train"):
        manifest.with_columns(split=["dev", "val", "test"])
    with pytest.raises(UsageError, match="no column 'labels'; the columns are id, image, label"):
        manifest.classes("labels")


def test_missing_files_are_asked_for_and_not_checked_at_reading(tmp_path):
    put(tmp_path, "x", "a.png")
    manifest = Manifest.read(put(tmp_path, "id,image,mask\n1,a.png#frame=3,\n2,b.png,m.png\n"))

    assert [(p.row, p.column) for p in manifest.missing_files()] == [(3, "image"), (3, "mask")]
    assert "there is no file 'b.png'" in str(manifest.missing_files()[0])


# --- writing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_same_content_gives_the_same_bytes_and_hash(tmp_path, suffix):
    table = pd.DataFrame({"id": ["1", "2"], "image": ["a", "b"], "label": ["x", None]})
    first, second = tmp_path / f"1.{suffix}", tmp_path / f"2.{suffix}"

    one = Manifest.from_frame(table, tmp_path).write(first)
    Manifest.read(first).write(second)

    assert first.read_bytes() == second.read_bytes()
    assert Manifest.read(first).hash == one.hash == Manifest.read(second).hash


def test_the_hash_is_of_names_lengths_missing_values_and_order(tmp_path):
    def hash_of(**columns):
        return Manifest.from_frame(pd.DataFrame(columns), tmp_path).hash

    base = hash_of(id=["ab", "c"], image=["x", "y"], label=["q", None])

    assert hash_of(id=["a", "bc"], image=["x", "y"], label=["q", None]) != base
    assert hash_of(id=["ab", "c"], image=["x", "y"], extra=["q", None]) != base
    assert hash_of(id=["c", "ab"], image=["y", "x"], label=[None, "q"]) != base
    assert hash_of(id=["ab", "c"], image=["x", "y"], labels=["q", None]) != hash_of(
        id=["ab", "c"], image=["x", "y"], labels=["q", ""]
    )


def test_the_hash_survives_a_round_trip_whatever_the_types(tmp_path):
    table = pd.DataFrame(
        {
            "id": ["1", "2"],
            "image": ["a", "b"],
            "word": pd.Categorical(["x", "y"]),
            "text": pd.Series(["x", None], dtype=object),
            "count": pd.array([1, None], dtype="Int64"),
            "share": [0.1, float("nan")],
            "small": np.array([1.5, 2.5], dtype=np.float32),
            "flag": [True, False],
            "when": pd.to_datetime(["2020-01-01", "2020-01-02"]),
            "day": [datetime.date(2020, 1, 1), None],
        }
    )
    manifest = Manifest.from_frame(table, tmp_path)

    manifest.write(tmp_path / "m.parquet")

    assert Manifest.read(tmp_path / "m.parquet").hash == manifest.hash


def test_a_further_column_of_mixed_types_cannot_be_written_as_parquet(tmp_path):
    table = pd.DataFrame({"id": ["1", "2"], "image": ["a", "b"], "odd": [1, "x"]})
    manifest = Manifest.from_frame(table, tmp_path)

    with pytest.raises(DataError, match="a further column holds values that Parquet cannot keep"):
        manifest.write(tmp_path / "m.parquet")
    assert list(tmp_path.iterdir()) == []
    manifest.write(tmp_path / "m.csv")


def test_the_hash_in_words():
    # worked out by hand from the rule in the docstring: one header line, lengths, joined text
    table = pd.DataFrame({"id": ["ab"], "image": ["x"]})
    digest = hashlib.sha256()
    for name, value in (("id", b"ab"), ("image", b"x")):
        digest.update(f"{len(name)}:{name}:text:1\n".encode())
        digest.update(len(value).to_bytes(8, "little") + value)

    assert Manifest.from_frame(table, ".").hash == digest.hexdigest()


def test_a_manifest_elsewhere_keeps_its_root_and_can_move_with_its_images(tmp_path):
    images, lists = tmp_path / "images", tmp_path / "lists"
    images.mkdir()
    lists.mkdir()
    table = pd.DataFrame({"id": ["1"], "image": ["a.png"]})

    for name in ("m.csv", "m.parquet"):
        Manifest.from_frame(table, images).write(lists / name)
        back = Manifest.read(lists / name)
        assert back.root == images
        assert list(back.frame.columns) == ["id", "image"]
    assert (lists / "m.csv").read_text() == "id,image,root\n1,a.png,../images\n"

    tmp_path.joinpath("moved").mkdir()
    images.rename(tmp_path / "moved" / "images")
    lists.rename(tmp_path / "moved" / "lists")
    moved = Manifest.read(tmp_path / "moved" / "lists" / "m.csv")
    assert moved.root == tmp_path / "moved" / "images"
    moved.write(moved.root / "m.csv")
    assert (moved.root / "m.csv").read_text() == "id,image\n1,a.png\n"


def test_a_full_disk_leaves_the_old_manifest(tmp_path, monkeypatch):
    path = put(tmp_path, "id,image\n1,a\n")
    manifest = Manifest.read(path)

    def no_room(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", no_room)
    with pytest.raises(DataError, match=r"m\.csv: the manifest cannot be written \(No space left"):
        manifest.with_columns(label=["x"]).write(path)

    assert path.read_text() == "id,image\n1,a\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_suffix_that_says_neither_format_is_refused(tmp_path):
    manifest = Manifest.read(put(tmp_path, "id,image\n1,a\n"))

    with pytest.raises(UsageError, match=r"written as \.parquet, \.pq, \.csv, not as '\.xlsx'"):
        manifest.write(tmp_path / "m.xlsx")


def test_a_root_column_in_memory_is_refused(tmp_path):
    table = pd.DataFrame({"id": ["1"], "image": ["a"], "root": ["b"]})

    with pytest.raises(ManifestError, match="its root as an argument"):
        Manifest.from_frame(table, tmp_path)


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)


@settings(max_examples=40)
@given(labels=st.lists(texts.filter(str.strip), min_size=1, max_size=5))
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_any_text_survives_both_formats(tmp_path_factory, suffix, labels):
    folder = tmp_path_factory.mktemp("texts")
    table = pd.DataFrame(
        {"id": [str(i) for i in range(len(labels))], "image": "a", "remark": labels}
    )

    Manifest.from_frame(table, folder).write(folder / f"m.{suffix}")

    assert Manifest.read(folder / f"m.{suffix}").frame["remark"].tolist() == labels


def test_a_hundred_thousand_rows_are_checked_in_a_moment(tmp_path):
    # vectorised: per-row Python in a check would take many times this, even on a busy machine
    count = 100_000
    table = pd.DataFrame(
        {
            "id": [f"{i:07d}" for i in range(count)],
            "image": [f"images/{i}.png" for i in range(count)],
            "patient": [str(i // 3) for i in range(count)],
            "label": ["A", "B"] * (count // 2),
        }
    )
    start = datetime.datetime.now()

    manifest = Manifest.from_frame(table, tmp_path)

    assert (datetime.datetime.now() - start).total_seconds() < 5
    assert len(manifest) == count
