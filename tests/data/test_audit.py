import json

import cv2
import numpy as np
import pandas as pd
import pytest

from medglean.data.audit import audit
from medglean.data.glance import glance
from medglean.data.manifest import Manifest
from medglean.data.phantom import write_cxr
from medglean.errors import GateError, UsageError

FLAWS = ("duplicate", "relabelled", "truncated", "constant", "confound")


def manifest_of(labels_csv):
    table = pd.read_csv(labels_csv, dtype=str)
    frame = table.rename(columns={"path": "image", "patient_id": "patient"}).drop(columns="mask")
    return Manifest.from_frame(frame.assign(id=table.path), labels_csv.parent)


@pytest.fixture(scope="module")
def flawed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flawed") / "set"
    return manifest_of(
        write_cxr(folder, patients=40, images_per_patient=(1, 2), size_px=(96, 96), flaws=FLAWS)
    )


@pytest.fixture(scope="module")
def found(flawed):
    return audit(flawed)


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clean") / "set"
    return manifest_of(write_cxr(folder, patients=60, images_per_patient=(1, 2), size_px=(96, 96)))


def ids_of(result, kind):
    return [set(finding.ids) for finding in result.of(kind)]


def planted(manifest, mark):
    return next(name for name in manifest.ids if mark in name)


def first_image_of(manifest, label):
    return manifest.frame.loc[manifest.frame.label == label, "id"].iloc[0]


def test_a_clean_set_has_no_errors_and_no_shortcut(clean):
    result = audit(clean)
    assert [f for f in result.findings if f.severity != "note"] == []
    assert max(probe.auroc for probe in result.probes) < 0.7
    result.check(["unreadable", "duplicates", "leakage", "label-conflict", "shortcut"])


def test_every_planted_flaw_is_found_and_nothing_else(flawed, found):
    healthy, ill = (first_image_of(flawed, label) for label in ("normal", "opacity"))
    assert ids_of(found, "unreadable") == [{planted(flawed, "_cut")}]
    assert ids_of(found, "constant") == [{planted(flawed, "_blank")}]
    assert {healthy, planted(flawed, "_again")} in ids_of(found, "duplicates")
    assert ids_of(found, "label-conflict") == [{ill, planted(flawed, "_resaved")}]
    assert len(found.of("duplicates")) == 2
    assert {f.kind for f in found.findings} == {
        "unreadable", "constant", "duplicates", "label-conflict", "shortcut"
    }  # fmt: skip


def test_pairs_say_how_alike_they_are(flawed, found):
    by_kind = found.pairs.set_index("kind")
    assert set(by_kind.index) == {"file", "near"}
    assert by_kind.loc["file", "id_b"] == planted(flawed, "_again")
    assert by_kind.loc["near", "similarity"] > 0.99
    assert not by_kind.loc["near", "mirrored"]


def test_the_confound_is_told_with_its_number(found):
    probes = {probe.family: probe for probe in found.probes}
    assert probes["source"].auroc > 0.8
    assert probes["border"].auroc > 0.7
    sentences = [finding.found for finding in found.of("shortcut")]
    assert any(
        "the label can be told from the column 'source' alone: AUROC 0." in s for s in sentences
    )
    assert any("the outermost pixels" in s for s in sentences)
    assert all(finding.value > 0.7 for finding in found.of("shortcut"))


def test_split_groups_keep_copies_and_patients_together(flawed, found):
    group = dict(zip(flawed.ids, found.split_groups, strict=True))
    patient = dict(zip(flawed.ids, flawed.frame.patient, strict=True))
    again = planted(flawed, "_again")
    assert group[again] == group[first_image_of(flawed, "normal")]
    assert patient[again] != patient[first_image_of(flawed, "normal")]
    for name in ("p0003", "p0010"):
        assert len({group[i] for i in flawed.ids if patient[i] == name}) == 1
    assert len(set(group.values())) == 38  # 40 patients less two joined by copies


def test_forms_for_programs_and_people(found):
    told = found.to_dict()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    frame = found.to_frame()
    assert list(frame.columns) == ["kind", "severity", "found", "remedy", "ids", "value"]
    assert len(frame) == len(found.findings) == len(found.problems)
    assert found.problems[0].fatal
    lines = found.summary_lines()
    assert "normal" in lines[0]
    assert "40 groups by patient" in lines[0]
    assert lines[1].startswith("error (unreadable): images/")
    assert any(line.startswith("probe: label from border: AUROC 0.") for line in lines)


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        ("unreadable", "unreadable: 1 found, 0 allowed"),
        ("duplicates:1", "duplicates: 2 found, 1 allowed"),
        ("label-conflict", "label-conflict: 1 found"),
        ("shortcut:0.75", "shortcut: source has AUROC 0.[89]"),
    ],
)
def test_gates(found, gate, message):
    with pytest.raises(GateError, match=message) as caught:
        found.check([gate])
    assert caught.value.exit_code == 4


def test_gates_that_are_met(found):
    found.check(["unreadable:1", "duplicates:2", "leakage", "shortcut:0.999"])
    found.check([])


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        ("duplicate", "there is no kind 'duplicate'; there are unreadable, altered"),
        ("shortcut:high", "'high' is no number. Write 'shortcut:0.9'"),
    ],
)
def test_wrong_gates_are_named(found, gate, message):
    with pytest.raises(UsageError, match=message):
        found.check([gate])


def test_patients_and_copies_on_both_sides_of_the_split(flawed):
    again, first = planted(flawed, "_again"), first_image_of(flawed, "normal")
    split = np.array(["train"] * len(flawed), dtype=object)
    frame = flawed.frame
    split[(frame.patient == frame.patient[frame.id == again].iloc[0]).to_numpy()] = "test"
    split[np.flatnonzero(frame.patient == "p0001")[0]] = "test"
    manifest = flawed.with_columns(split=split)
    result = audit(manifest, seen=glance(flawed), probe_shortcuts=False)

    sides = {finding.found: set(finding.ids) for finding in result.of("leakage")}
    copies = next(ids for text, ids in sides.items() if "the same file" in text)
    assert copies == {again, first}
    one = {i for i, p in zip(frame.id, frame.patient, strict=True) if p == "p0001"}
    if len(one) > 1:
        assert one in sides.values()
    with pytest.raises(GateError, match="leakage"):
        result.check(["leakage"])


def test_an_altered_file_is_told(clean):
    digests = glance(clean).facts.sha256.tolist()
    digests[3] = "0" * 64
    result = audit(clean.with_columns(sha256=digests), probe_shortcuts=False)
    assert ids_of(result, "altered") == [{clean.ids[3]}]


def save(folder, name, image):
    cv2.imwrite(str(folder / name), image)
    return name


def noise(seed, height=64, width=64):
    values = (
        np.random.default_rng(seed).integers(0, 255, (height // 8, width // 8)).astype(np.uint8)
    )
    return cv2.resize(values, (width, height), interpolation=cv2.INTER_CUBIC)


def small_set(folder, count, **columns):
    names = [save(folder, f"{k}.png", noise(k)) for k in range(count)]
    return Manifest.from_frame(pd.DataFrame({"id": names, "image": names, **columns}), folder)


def test_nothing_readable(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n")
    table = pd.DataFrame({"id": ["a", "b"], "image": ["a.png", "b.png"], "label": ["x", "y"]})
    result = audit(Manifest.from_frame(table, tmp_path))
    assert len(result.of("unreadable")) == 2
    assert result.counts["readable"] == 0
    assert result.probes == ()
    assert json.dumps(result.to_dict(), allow_nan=False)
    assert "0 readable" in result.summary_lines()[0]


def test_one_class(tmp_path):
    result = audit(small_set(tmp_path, 6, label=["only"] * 6))
    assert [f.found for f in result.of("classes")] == ["one class only: 'only'."]
    assert result.probes == ()


def test_no_labels_and_no_patients(tmp_path):
    result = audit(small_set(tmp_path, 3))
    assert [f.found for f in result.of("unlabelled")] == ["no image has a label."]
    assert "3 images without patients" in result.summary_lines()[0]


def test_missing_labels_tiny_classes_and_like_names(tmp_path):
    labels = ["Pneumonia"] * 6 + ["pneumonias"] * 6 + ["NORMAL", None]
    result = audit(small_set(tmp_path, 14, label=labels))
    said = " ".join(f.found for f in result.findings)
    assert "1 of 14 images have no label" in said
    assert "class 'NORMAL' has 1 image(s) of 1 patient(s)" in said
    assert "nearly the same name" in said


def test_levels_of_a_stain_are_not_like_names(tmp_path):
    labels = [name for name in ("0", "1+", "2+", "3+") for _ in range(5)]
    result = audit(small_set(tmp_path, 20, label=labels), probe_shortcuts=False)
    assert result.of("classes") == []


def test_several_labels_per_image(tmp_path):
    labels = ["a;b", "", "b", None] * 8
    result = audit(small_set(tmp_path, 32, labels=labels))
    assert result.counts["classes"] == {
        "a": {"images": 8, "groups": 8},
        "b": {"images": 16, "groups": 16},
    }
    assert result.counts["labelled"] == 24
    assert {probe.images for probe in result.probes} == {24}


def test_odd_sizes_and_depths(tmp_path):
    names = [save(tmp_path, f"{k}.png", noise(k)) for k in range(9)]
    names.append(save(tmp_path, "wide.png", noise(20, 64, 160)))
    names.append(save(tmp_path, "deep.png", noise(21).astype(np.uint16) * 256))
    result = audit(Manifest.from_frame(pd.DataFrame({"id": names, "image": names}), tmp_path))
    assert ids_of(result, "size") == [{"wide.png"}]
    assert result.of("depth")[0].found == "several bit depths: 10 of 8 bit, 1 of 16 bit."


def test_frames_of_a_clip_are_one_note_and_no_warning(tmp_path):
    base = noise(0, 96, 96)
    names = [save(tmp_path, f"{k}.png", base[k : k + 64, :64]) for k in range(3)]
    names.append(save(tmp_path, "other.png", noise(5)))
    table = pd.DataFrame({"id": names, "image": names, "group": ["c1"] * 3 + ["c2"]})
    table["label"] = ["x", "y", "y", "x"]  # neighbouring frames may differ, copies may not
    result = audit(Manifest.from_frame(table, tmp_path))
    assert result.of("duplicates") == result.of("label-conflict") == []
    assert "3 images have a copy or near copy within" in result.of("repeats")[0].found


def test_equal_files_of_one_patient_with_two_labels_are_a_conflict(tmp_path):
    names = [save(tmp_path, name, noise(0)) for name in ("a.png", "b.png")]
    table = pd.DataFrame({"id": names, "image": names, "patient": "p", "label": ["x", "y"]})
    result = audit(Manifest.from_frame(table, tmp_path))
    assert ids_of(result, "label-conflict") == [set(names)]
    assert "the same file labelled 'x' and 'y'" in result.of("label-conflict")[0].found
