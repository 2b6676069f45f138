from __future__ import annotations

import errno
import hashlib
import logging
import os
import socket
import stat
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
import tifffile
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from tests.data.small_files import dicom, dicom_set, jpeg, png

from medglean import files
from medglean.data import walk as walk_module
from medglean.data.index import IndexResult, examine, index
from medglean.data.manifest import Manifest
from medglean.errors import DataError, UsageError


@pytest.fixture(autouse=True)
def own_key(tmp_path_factory, monkeypatch):
    """Keep the tests' keys away from the user's."""
    folder = tmp_path_factory.mktemp("config")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    return folder / "medglean" / "pseudonym.key"


@pytest.fixture
def source(tmp_path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def run(source: Path, name: str = "m.csv", **options) -> IndexResult:
    return index(source, out=source.parent / "out" / name, **options)


def kinds(result: IndexResult) -> list[str]:
    return [problem.kind for problem in result.problems]


# --- what is recorded ---------------------------------------------------------------------------


def test_size_hash_and_header_of_each_file_are_recorded(source):
    first = png(source / "a" / "1.png", height=5, width=7)
    png(source / "b.png", height=9, width=2)

    frame = run(source).manifest.frame

    assert frame["id"].tolist() == ["a/1.png", "b.png"]
    assert frame["bytes"].tolist()[0] == first.stat().st_size
    assert frame["sha256"].tolist()[0] == hashlib.sha256(first.read_bytes()).hexdigest()
    assert frame[["height", "width"]].to_numpy().tolist() == [[5, 7], [9, 2]]
    assert frame["format"].tolist() == ["PNG", "PNG"]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_manifest_beside_above_and_apart_finds_its_images(tmp_path, suffix):
    images = tmp_path / "data" / "set"
    png(images / "x" / "a.png")
    places = [images, images.parent, tmp_path, tmp_path / "elsewhere" / "deep"]

    for place in places:
        out = place / f"m.{suffix}"
        index(images, out=out)
        manifest = Manifest.read(out)
        assert manifest.missing_files() == []
        assert manifest.file_of(manifest.frame["image"][0]).samefile(images / "x" / "a.png")
        assert manifest.ids == ["x/a.png"]  # the same wherever the manifest lies
    assert Manifest.read(tmp_path / f"m.{suffix}").frame["image"].tolist() == ["data/set/x/a.png"]
    apart = Manifest.read(places[-1] / f"m.{suffix}")
    assert (apart.frame["image"].tolist(), apart.root) == (["x/a.png"], images)


def test_a_source_that_takes_no_files_is_fine(source, monkeypatch):
    png(source / "a.png")
    before = sorted(source.rglob("*"))
    source.chmod(0o555)
    try:
        result = run(source, "m.parquet")
    finally:
        source.chmod(0o755)

    assert sorted(source.rglob("*")) == before
    assert Manifest.read(result.manifest.path).root == source


@pytest.mark.parametrize(
    "name",
    [
        "with blanks.png",
        "größe ✓.png",
        unicodedata.normalize("NFD", "ärzte.png"),
        "a#1.png",
        "50%23.png",
        "two\nlines.png",
        'quote"comma,semi;.png',
        " edge .png",
        "=1+1.png",
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_odd_names_survive(source, name, suffix):
    png(source / name)

    result = run(source, f"m.{suffix}")
    manifest = Manifest.read(result.manifest.path)

    assert manifest.ids == [name]
    assert manifest.file_of(manifest.frame["image"][0]) == source / name
    assert manifest.missing_files() == []


def test_both_unicode_forms_of_a_name_and_both_cases_are_four_files(source):
    names = [unicodedata.normalize(form, "ä.png") for form in ("NFC", "NFD")] + ["b.png", "B.png"]
    for name in names:
        png(source / name)

    assert sorted(run(source).manifest.ids) == sorted(names)


def test_index_twice_gives_the_same_bytes_whatever_the_number_of_workers(source):
    for number in range(100):
        png(source / f"{number}.png", value=number)
    one = run(source, "1.parquet", workers=1).manifest
    two = run(source, "2.parquet", workers=4).manifest

    assert one.path.read_bytes() == two.path.read_bytes()
    assert one.hash == two.hash


def test_progress_ends_at_the_total(source):
    for number in range(130):
        png(source / f"{number}.png")
    told = []

    run(source, progress=lambda done, total: told.append((done, total)))

    assert told == [(100, 130), (130, 130)]


# --- what lies among images ---------------------------------------------------------------------


def test_broken_files_go_to_the_list_and_the_others_go_on(source):
    good = png(source / "good.png")
    (source / "cut.png").write_bytes(good.read_bytes()[:20])
    (source / "empty.png").write_bytes(b"")
    (source / "text.dcm").write_text("hello")
    (source / "page.jpg").write_text("<html>not found</html>")

    result = run(source)

    assert result.manifest.ids == ["good.png"]
    assert result.counts["broken"] == 4
    listed = pd.read_csv(source.parent / "out" / "problems.csv", dtype=str)
    assert listed["file"].tolist() == ["cut.png", "empty.png", "page.jpg", "text.dcm"]
    assert listed["found"].notna().all()
    assert listed["manifest"].unique().tolist() == ["m.csv"]


def test_litter_and_files_that_are_no_images_are_counted_not_listed(source):
    png(source / "a.png")
    for name in (".DS_Store", "._a.png", "Thumbs.db", "desktop.ini", ".hidden/b.png"):
        png(source / name)
    png(source / "__MACOSX" / "c.png")
    (source / "README.txt").write_text("hello")
    (source / "sheet.xlsx").write_bytes(b"PK")
    (source / "scan.mha").write_text("ObjectType = Image")

    result = run(source)

    assert result.manifest.ids == ["a.png"]
    assert result.counts["hidden"] == 6
    assert result.counts["not images"] == 2
    assert "1 files with suffix .mha are of no known format" in str(result.problems[0])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs POSIX")
def test_pipes_and_sockets_are_passed_over_and_told(tmp_path):
    source = Path(tmp_path, "s")
    png(source / "a.png")
    os.mkfifo(source / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(source)  # a socket's path may only be short
        try:
            server.bind("socket.png")
        finally:
            os.chdir(here)
        result = run(source)

    assert result.manifest.ids == ["a.png"]
    assert [str(p).split(",")[0] for p in result.problems] == [
        "pipe.png: a pipe",
        "socket.png: a socket",
    ]
    assert result.counts["special"] == 2


def test_devices_are_passed_over_and_told(source):
    png(source / "a.png")
    try:
        os.mknod(source / "null.png", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except (OSError, AttributeError):
        pytest.skip("no right to make a device")

    assert "a character device" in str(run(source).problems[0])


def test_links_are_not_followed_out_of_the_folder_nor_round_in_a_loop(source, tmp_path):
    png(tmp_path / "outside" / "secret.png")
    png(source / "a" / "x.png")
    (source / "out").symlink_to(tmp_path / "outside")
    (source / "out.png").symlink_to(tmp_path / "outside" / "secret.png")
    (source / "a" / "loop").symlink_to(source)
    (source / "self").symlink_to(source / "self")
    (source / "again.png").symlink_to(source / "a" / "x.png")

    result = run(source)

    assert result.manifest.ids == ["a/x.png"]
    told = {problem.file: problem.kind for problem in result.problems}
    assert told == {"out": "link", "out.png": "link", "self": "broken-link"}
    assert result.counts["links"] == 5


def test_links_are_followed_when_asked_for_and_loops_still_end(source, tmp_path):
    png(tmp_path / "outside" / "b.png")
    png(source / "a" / "x.png")
    (source / "out").symlink_to(tmp_path / "outside")
    (source / "a" / "loop").symlink_to(source)

    assert run(source, follow_links=True).manifest.ids == ["a/x.png", "out/b.png"]


def test_links_into_a_hidden_store_of_the_folder_are_files(source):
    png(source / ".git" / "annex" / "k1.png")
    (source / "a.png").symlink_to(Path(".git/annex/k1.png"))

    assert run(source).manifest.ids == ["a.png"]


def test_the_source_may_be_a_link(source, tmp_path):
    png(source / "a.png")
    (tmp_path / "link").symlink_to(source)

    manifest = index(tmp_path / "link", out=tmp_path / "out" / "m.csv").manifest

    assert manifest.missing_files() == []


def test_a_folder_that_may_not_be_opened_is_told(source, monkeypatch):
    png(source / "a.png")
    png(source / "shut" / "b.png")
    real = os.scandir

    def scandir(path):
        if str(path).rstrip("/").endswith("shut"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path)

    monkeypatch.setattr(walk_module.os, "scandir", scandir)
    result = run(source)

    assert result.manifest.ids == ["a.png"]
    assert "shut/: the folder cannot be opened (Permission denied)" in str(result.problems[0])


def test_names_that_a_manifest_cannot_hold_are_told(source):
    png(source / "a.png")
    png(source / "back\\slash.png")
    (source / os.fsdecode(b"latin-\xe4.png")).write_bytes((source / "a.png").read_bytes())

    result = run(source)

    assert result.manifest.ids == ["a.png"]
    told = sorted(map(str, result.problems))
    assert told[0].startswith("back\\slash.png: a backslash in the name")
    assert told[1].startswith("latin-\\xe4.png: the name is not valid UTF-8. Rename it.")


# --- nothing lost -------------------------------------------------------------------------------


def test_a_missing_an_empty_and_an_imageless_folder_are_told(source, tmp_path):
    with pytest.raises(DataError, match=r"none: no such folder"):
        run(tmp_path / "none")
    with pytest.raises(DataError, match=r"in: the folder is empty"):
        run(source)
    (source / "a.txt").write_text("x")
    with pytest.raises(DataError, match=r"in: no image among 1 files"):
        run(source)
    assert not (tmp_path / "out" / "m.csv").exists()


def test_a_folder_of_broken_images_is_told_with_the_first(source):
    (source / "a.png").write_bytes(b"nonsense")

    with pytest.raises(DataError, match=r"none of 1 image files can be read.*a\.png: expected PNG"):
        run(source)
    assert (source.parent / "out" / "problems.csv").exists()


def test_an_existing_manifest_is_kept_unless_told(source):
    png(source / "a.png")
    run(source)
    png(source / "b.png")

    with pytest.raises(UsageError, match=r"m\.csv: exists already.*--overwrite"):
        run(source)
    assert len(Manifest.read(source.parent / "out" / "m.csv")) == 1
    assert len(run(source, overwrite=True).manifest) == 2


def test_wrong_options_are_told_before_the_long_pass(source):
    png(source / "a.png")
    with pytest.raises(UsageError, match=r"written as \.parquet, \.pq, \.csv"):
        run(source, "m.xlsx")
    with pytest.raises(UsageError, match=r"layout 'kermani' is not known\. Choose auto, covid19"):
        run(source, layout="kermani")
    with pytest.raises(UsageError, match=r"an address\. Fetch the images first"):
        index("https://example.org/dicomweb", out=source.parent / "m.csv")


def test_a_foreign_problems_file_is_not_overwritten(source):
    png(source / "a.png")
    mine = source.parent / "out" / "problems.csv"
    mine.parent.mkdir()
    mine.write_text("my,own,list\n")

    with pytest.raises(UsageError, match=r"problems\.csv: exists and was not written by index"):
        run(source)
    assert mine.read_text() == "my,own,list\n"


def test_two_manifests_in_one_folder_keep_both_lists_of_problems(source):
    png(source / "a.png")
    (source / "bad.png").write_bytes(b"x")
    run(source, "one.csv")
    run(source, "two.csv")
    (source / "bad.png").unlink()
    run(source, "one.csv", overwrite=True)

    listed = pd.read_csv(source.parent / "out" / "problems.csv", dtype=str)
    assert listed["manifest"].tolist() == ["two.csv"]


def test_an_output_folder_that_takes_no_files_is_told_before_the_long_pass(source, monkeypatch):
    png(source / "a.png")

    def refuse(*args, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("medglean.data.index.tempfile.TemporaryFile", refuse)
    monkeypatch.setattr("medglean.data.index.walk", pytest.fail)
    with pytest.raises(DataError, match=r"m\.csv: cannot be written \(Read-only file system\)"):
        run(source)


def test_an_output_folder_below_a_file_is_told(source):
    png(source / "a.png")

    with pytest.raises(DataError, match="cannot be written"):
        index(source, out=source / "a.png" / "m.csv")


@pytest.mark.parametrize("room_for", [0, 1])
def test_a_full_disk_leaves_nothing_half_written(source, monkeypatch, room_for):
    png(source / "a.png")
    run(source)
    before = {p.name: p.read_bytes() for p in (source.parent / "out").iterdir()}
    png(source / "b.png")
    written = []

    def no_room(descriptor):
        if len(written) >= 2 * room_for:  # a file and its folder are synced
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(descriptor)

    monkeypatch.setattr(files.os, "fsync", no_room)
    with pytest.raises(DataError, match=r"cannot be written \(No space left on device\)"):
        run(source, overwrite=True)

    after = {p.name: p.read_bytes() for p in (source.parent / "out").iterdir()}
    assert after["m.csv"] == before["m.csv"]
    assert set(after) == set(before)


def test_a_manifest_inside_its_images_is_not_indexed_itself(source):
    png(source / "a.png")
    index(source, out=source / "m.csv")

    again = index(source, out=source / "m.csv", overwrite=True)

    assert (again.layout, again.manifest.ids) == ("folder", ["a.png"])
    assert "not images" not in again.counts


def test_a_parser_that_fails_costs_one_file_and_its_message_is_not_quoted(source, monkeypatch):
    path = png(source / "a.png")

    def crash(*args, **options):
        raise RuntimeError("DOE^JANE")

    monkeypatch.setattr("medglean.data.examine.readers.probe", crash)
    problem = examine(path, "a.png").problem

    assert "its header cannot be parsed (RuntimeError)" in str(problem)
    assert "DOE" not in str(problem)


# --- several images in a file -------------------------------------------------------------------


def test_frames_and_pages_are_rows_of_one_group(source):
    dicom(source / "clip.dcm", frames=3, PatientID="1")
    tifffile.imwrite(source / "pages.tif", np.zeros((2, 8, 9), np.uint8), photometric="minisblack")
    png(source / "single.png")

    frame = run(source).manifest.frame

    assert frame["image"].tolist() == [
        "clip.dcm#frame=0", "clip.dcm#frame=1", "clip.dcm#frame=2",
        "pages.tif#page=0", "pages.tif#page=1", "single.png",
    ]  # fmt: skip
    clip = frame["group"][0]
    assert clip.startswith("image-")
    assert frame["group"].tolist()[:5] == [clip] * 3 + ["pages.tif"] * 2
    assert frame["id"].tolist()[1] == f"{clip}#frame=1"
    assert frame["group"].isna().tolist() == [False] * 5 + [True]


def test_one_row_a_file_when_asked_for(source):
    dicom(source / "clip.dcm", frames=3, PatientID="1")

    frame = run(source, frames="file").manifest.frame

    assert frame["image"].tolist() == ["clip.dcm"]
    assert frame["frames"].tolist() == [3]


def test_a_header_that_claims_millions_of_frames_is_a_problem_not_millions_of_rows(source):
    png(source / "a.png")
    dicom(source / "bomb.dcm", NumberOfFrames=2_000_000_000)

    result = run(source)

    assert result.manifest.ids == ["a.png"]
    assert "its header claims 2,000,000,000 frames" in str(result.problems[0])


# --- DICOM --------------------------------------------------------------------------------------


def test_technical_tags_of_a_dicom_reach_the_manifest(source):
    dicom(
        source / "a.dcm", PatientID="4711", StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.4",
        Modality="DX", ViewPosition="PA", BodyPartExamined="CHEST", PatientSex="F",
        PatientAge="045Y", Manufacturer="SIEMENS Healthineers", ImageLaterality="L",
        PixelSpacing=[0.2, 0.1], SliceThickness=3, KVP=120,
    )  # fmt: skip

    row = run(source, "m.parquet").manifest.frame.iloc[0]

    expected = {
        "modality": "DX", "view": "PA", "body_part": "CHEST", "sex": "F", "age": "45",
        "manufacturer": "Siemens", "laterality": "L", "spacing_y_mm": 0.2, "spacing_x_mm": 0.1,
        "slice_thickness_mm": 3.0, "kvp": 120.0, "photometric": "MONOCHROME2", "height": 4,
        "width": 6, "bits": 12, "transfer_syntax": "Explicit VR Little Endian", "format": "DICOM",
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("tags", "column", "expected"),
    [
        ({"PatientAge": "018M"}, "age", "1"),
        ({"PatientAge": "003W"}, "age", "0"),
        ({"PatientAge": "104Y"}, "age", "90"),
        ({"PatientAge": "forty"}, "age", None),
        ({"ViewPosition": "LLD"}, "view", "LLD"),
        ({"ViewPosition": "JANE DOE"}, "view", None),
        ({"PatientSex": "Jane"}, "sex", None),
        ({"Manufacturer": "Doe Imaging"}, "manufacturer", "other"),
        ({"Manufacturer": "GE MEDICAL SYSTEMS"}, "manufacturer", "GE"),
        ({"Manufacturer": "FUJIFILM"}, "manufacturer", "Fuji"),
        ({"Manufacturer": "GEORGE DOE"}, "manufacturer", "other"),
        ({"ImagerPixelSpacing": [0.143, 0.144]}, "spacing_x_mm", 0.144),
    ],
)
def test_values_of_tags(source, tags, column, expected):
    dicom(source / "a.dcm", PatientID="1", **tags)

    row = run(source, "m.parquet").manifest.frame.iloc[0]

    assert row.get(column) == expected


def test_a_text_where_a_number_should_be_is_left_out(source):
    data = dicom_set(PatientID="1")
    data.add_new(0x00180060, "LO", "Jane")  # kVp
    pydicom.dcmwrite(source / "a.dcm", data)

    assert "kvp" not in run(source).manifest.frame


def test_ids_become_pseudonyms_under_the_key(source, own_key):
    dicom(source / "a.dcm", PatientID="4711", StudyInstanceUID="1.2.3")
    dicom(source / "b.dcm", PatientID="4711 ", StudyInstanceUID="1.2.4")
    dicom(source / "c.dcm", PatientID="4712", StudyInstanceUID="1.2.5")

    first = run(source).manifest.frame
    again = run(source, "again.csv").manifest.frame
    own_key.unlink()
    other = run(source, "other.csv").manifest.frame

    assert first["patient"][0] == first["patient"][1] != first["patient"][2]
    assert first["patient"].str.fullmatch(r"patient-[0-9a-f]{16}").all()
    assert first["study"].str.fullmatch(r"study-[0-9a-f]{16}").all()
    assert first["study"].nunique() == 3
    assert again["patient"].tolist() == first["patient"].tolist()
    assert not set(other["patient"]) & set(first["patient"])


def test_ids_are_kept_when_asked_for_and_no_key_is_made(source, own_key):
    dicom(
        source / "a.dcm", PatientID="4711", StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.4",
        PatientName="DOE^JANE", ManufacturerModelName="DOE JANE 3000",
    )  # fmt: skip

    row = run(source, keep_ids=True).manifest.frame.iloc[0]
    assert "JANE" not in str(row.to_dict())

    assert (row["patient"], row["study"], row["series"]) == ("4711", "1.2.3", "1.2.4")
    assert row["id"] == "a.dcm"
    assert not own_key.exists()


def test_no_key_is_made_where_there_is_no_dicom(source, own_key):
    png(source / "a.png")
    run(source)

    assert not own_key.exists()


def test_a_key_with_the_data_or_open_to_others_is_refused(source, own_key):
    dicom(source / "a.dcm", PatientID="1")
    with pytest.raises(UsageError, match="would lie with the data"):
        run(source, key_file=source / "k.key")
    with pytest.raises(UsageError, match="would lie with the data"):
        run(source, key_file=source.parent / "out" / "k.key")
    own_key.parent.mkdir()
    own_key.write_text("ab" * 32)
    own_key.chmod(0o644)
    with pytest.raises(UsageError, match="others may use this key"):
        run(source)
    assert not (source.parent / "out" / "m.csv").exists()


def test_equal_ids_of_two_issuers_are_two_patients_and_told(source):
    dicom(source / "a.dcm", PatientID="1", IssuerOfPatientID="North")
    dicom(source / "b.dcm", PatientID="1", IssuerOfPatientID="South")

    result = run(source)

    assert result.manifest.frame["patient"].nunique() == 2
    assert "1 patient ids are used by several issuers" in str(result.problems[0])
    assert "North" not in str(result.problems)


def test_without_patient_id_each_study_is_a_patient_and_told(source):
    for name, patient, study in [("a", "", "1"), ("b", "", "1"), ("c", "ANONYMOUS", "2")]:
        dicom(source / f"{name}.dcm", PatientID=patient, StudyInstanceUID=f"1.2.{study}")

    result = run(source)

    patients = result.manifest.frame["patient"].tolist()
    assert patients[0] == patients[1] != patients[2]
    assert "3 DICOM files name no patient. Each study counts as a patient" in str(
        result.problems[0]
    )


def test_dicom_files_without_pixels_are_left_out_and_counted(source):
    dicom(source / "a.dcm", PatientID="1")
    report = dicom_set(PatientID="1", Modality="SR")
    for name in ("PixelData", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit"):
        delattr(report, name)
    pydicom.dcmwrite(source / "report.dcm", report)

    result = run(source)

    assert len(result.manifest) == 1
    assert "1 DICOM files hold no image" in str(result.problems[0])


def test_dicom_without_a_suffix_is_found(source):
    dicom(source / "IM000001", PatientID="1")

    assert run(source).manifest.frame["image"].tolist() == ["IM000001"]


TEXT_VRS = ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC",
            "UI", "UN", "UR", "UT")  # fmt: skip


def marked(dataset: Dataset, marks: list[str]) -> None:
    """Put a marker of its own into every text element of the standard's dictionary."""
    for tag, entry in pydicom.datadict.DicomDictionary.items():
        group, vr, keyword = tag >> 16, entry[0], entry[4]
        if group in (0x0002, 0x0004, 0x0000, 0xFFFE) or vr not in TEXT_VRS or not keyword:
            continue
        if keyword in ("SpecificCharacterSet", "NumberOfFrames"):
            continue
        mark = f"MARKER{len(marks):05d}"
        marks.append(mark)
        # numbers are written as text, since pydicom would refuse the marker
        kind = "LO" if vr in ("DS", "IS") else vr
        dataset.add_new(tag, kind, mark.encode() if vr == "UN" else mark)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_no_text_of_a_dicom_leaks_into_any_output(tmp_path, suffix, caplog, capfd, recwarn):
    caplog.set_level(logging.DEBUG)
    source = tmp_path / "in"
    marks: list[str] = []
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        data = dicom_set()
        marked(data, marks)
        nested = Dataset()
        nested.PatientName = "MARKERNESTED^JANE"
        nested.CodeMeaning = "MARKERMEANING"
        data.RequestAttributesSequence = Sequence([nested])
        block = data.private_block(0x0011, "MARKERCREATOR", create=True)
        block.add_new(0x01, "LO", "MARKERPRIVATE")
        source.mkdir()
        pydicom.dcmwrite(source / "a.dcm", data)
        multi = dicom_set(frames=2, PatientName="MARKERMULTI^X", PatientID="MARKERMULTIID")
        pydicom.dcmwrite(source / "b.dcm", multi)
        whole = (source / "a.dcm").read_bytes()
    (source / "cut.dcm").write_bytes(whole[: len(whole) // 3])
    (source / "odd.dcm").write_bytes(whole[:400].replace(b"MARKER", b"\xffARKER") + whole[400:])
    assert len(marks) > 1500
    marks += ["MARKERNESTED", "MARKERMEANING", "MARKERCREATOR", "MARKERPRIVATE", "MARKERMULTI"]
    caplog.clear()
    capfd.readouterr()
    recwarn.clear()

    result = run(source, f"m.{suffix}")

    said = [result.summary(), repr(result), caplog.text, *capfd.readouterr()]
    said += [str(problem) for problem in result.problems]
    said += [str(warning.message) for warning in recwarn.list]
    said.append(result.manifest.frame.to_csv())
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(written) == 2
    said += [path.read_bytes().decode("latin-1") + path.name for path in written]
    everything = "\n".join(said)
    there = whole.decode("latin-1")
    assert [mark for mark in marks if mark not in there] == ["MARKERMULTI"]  # that is in b.dcm
    assert "ARKER" not in everything
    assert "JANE" not in everything
    assert len(result.manifest) >= 3


def test_a_patient_in_the_path_is_told_without_being_named(source):
    dicom(source / "DOE_JANE" / "1.dcm", PatientName="DOE^JANE", PatientID="88123")

    result = run(source)

    told = [problem for problem in result.problems if problem.kind == "identifying-path"]
    assert "1 DICOM files lie under paths that hold the patient's name" in str(told[0])
    assert "JANE" not in str(told[0])
    assert "JANE" not in result.manifest.ids[0]


# --- a manifest from real data ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "rows", "classes", "grouped_by"),
    [
        ("cxr_kermany_224", 1600, ("NORMAL", "PNEUMONIA"), "patient"),
        ("cxr_covid_chestxray", 403, ("COVID-19", "No Finding", "other"), "patient"),
        ("cxr_actualmed_covid", 38, ("COVID-19", "No finding"), "patient"),
        ("us_busi", 545, ("benign", "malignant", "normal"), "group"),
    ],
)
def test_real_folders_need_no_option(real_data, tmp_path, name, rows, classes, grouped_by):
    result = index(real_data(name), out=tmp_path / "m.parquet")

    assert result.layout == "csv"
    assert len(result.manifest) == rows
    assert result.manifest.classes() == classes
    assert result.manifest.grouped_by == grouped_by
    assert result.manifest.missing_files() == []
    assert result.problems == []
    assert not set(result.manifest.frame) & {"notes", "date", "location", "url", "clinical_notes"}


def test_real_odd_dicom_files_are_indexed(real_data, tmp_path):
    result = index(real_data("dicom_odd"), out=tmp_path / "m.parquet")

    assert result.counts["images"] == 27
    assert result.manifest.frame["format"].unique().tolist() == ["DICOM"]


def test_a_jpeg_that_is_called_png_is_told(source):
    jpeg(source / "a.jpg").rename(source / "a.png")

    result = run(source)

    assert result.manifest.frame["format"].tolist() == ["JPEG"]
    assert "the suffix '.png' says PNG, the content is JPEG" in str(result.problems[0])
