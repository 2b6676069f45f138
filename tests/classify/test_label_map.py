import pandas as pd
import pytest

from medglean.classify.label_map import mapped, proposal
from medglean.classify.label_words import read_label_map
from medglean.data.manifest import Manifest
from medglean.errors import DataError, UsageError

CLASSES = ("COVID-19", "NORMAL", "PNEUMONIA")


def manifest(**columns):
    count = len(next(iter(columns.values())))
    table = {
        "id": [str(row) for row in range(count)],
        "image": [f"{row}.png" for row in range(count)],
    }
    made = Manifest.from_frame(pd.DataFrame({**table, **columns}), "/data")
    return Manifest(made.frame, made.root, path=made.root / "other.parquet")


def single(given, label_map=None, classes=CLASSES):
    return mapped(given, column="label", classes=classes, label_map=label_map)


def several(given, label_map=None, classes=CLASSES):
    return mapped(given, column="labels", classes=classes, label_map=label_map)


def kinds(problems):
    return [problem.kind for problem in problems]


def test_names_that_fit_are_left_as_they_are():
    given = manifest(label=["NORMAL", "COVID-19", None])

    found, problems = single(given)

    assert found is given
    assert kinds(problems) == ["absent-class"]
    assert "no image of PNEUMONIA" in problems[0].found


def test_names_are_changed_to_the_runs():
    given = manifest(label=["No finding", "covid", "NORMAL", None], source=["a", "b", "c", "d"])

    found, problems = single(given, {"No finding": "NORMAL", "covid": "COVID-19"})

    assert found.frame["label"].tolist()[:3] == ["NORMAL", "COVID-19", "NORMAL"]
    assert found.frame["label"].isna().tolist() == [False, False, False, True]
    assert found.path == given.path
    assert found.hash != given.hash
    assert kinds(problems) == ["absent-class"]
    assert given.frame["label"].tolist()[0] == "No finding"


def test_left_out_images_are_gone_and_counted():
    given = manifest(label=["NORMAL", "unlabelled", "unlabelled", "artefact", "COVID-19"])

    found, problems = single(given, {"unlabelled": "", "artefact": ""})

    assert found.ids == ["0", "4"]
    told = next(problem for problem in problems if problem.kind == "left-out")
    assert "3 images are left out as --map says: 2 of unlabelled, 1 of artefact." in told.found
    assert not told.fatal


def test_a_map_may_exchange_names():
    given = manifest(label=["NORMAL", "PNEUMONIA"])

    found, _ = single(given, {"NORMAL": "PNEUMONIA", "PNEUMONIA": "NORMAL"})

    assert found.frame["label"].tolist() == ["PNEUMONIA", "NORMAL"]


def test_unknown_names_are_all_told_with_a_proposal_to_paste():
    given = manifest(label=["normal"] * 3 + ["No finding", "covid-19", "PNEUMONIA"])

    with pytest.raises(DataError) as told:
        single(given)

    text = str(told.value)
    assert "class 'normal' has 3 image(s)" in text
    assert "class 'No finding' has 1 image(s)" in text
    assert "the run's classes are COVID-19, NORMAL, PNEUMONIA" in text
    assert "--map 'No finding=CLASS' --map covid-19=COVID-19 --map normal=NORMAL" in text
    assert "other.parquet" in text


def test_a_proposal_overlooks_case_blanks_and_small_slips():
    names = ["No Finding", "no_finding", "Covid 19", "pnuemonia", "tumour"]

    found = proposal(names, ["No finding", "COVID-19", "PNEUMONIA"])

    assert found == (
        "--map 'No Finding=No finding' --map 'no_finding=No finding' --map 'Covid 19=COVID-19' "
        "--map pnuemonia=PNEUMONIA --map tumour=CLASS"
    )


def test_a_proposal_that_was_pasted_without_thinking_is_refused():
    with pytest.raises(DataError, match=r"'tumour' is 'CLASS', and the run's classes are COVID-19"):
        single(manifest(label=["tumour", "NORMAL"]), {"tumour": "CLASS"})


def test_a_name_in_the_map_that_no_image_has_is_told():
    _, problems = single(manifest(label=["NORMAL", "COVID-19"]), {"No findng": "NORMAL"})

    assert kinds(problems) == ["unused-map", "absent-class"]
    assert "'No findng', which no image has" in problems[0].found


def test_a_map_that_leaves_nothing_is_refused():
    with pytest.raises(DataError, match=r"no image is labelled with one of the run's classes"):
        single(manifest(label=["a", "b"]), {"a": "", "b": ""})


def test_findings_become_one_class_where_one_remains():
    given = manifest(
        labels=["Pneumonia;Viral;COVID-19", "Pneumonia;Bacterial", "", "Devices", None]
    )

    found, problems = single(
        given,
        {"Pneumonia": "", "Viral": "", "Bacterial": "PNEUMONIA", "Devices": "", "": "NORMAL"},
    )

    assert found.frame["label"].tolist()[:3] == ["COVID-19", "PNEUMONIA", "NORMAL"]
    assert found.ids == ["0", "1", "2", "4"]
    assert "labels" not in found.frame
    told = next(problem for problem in problems if problem.kind == "left-out")
    assert "1 images have none of the run's classes: 1 of Devices." in told.found


def test_findings_without_a_name_for_none_are_left_out():
    found, problems = single(manifest(labels=["COVID-19", "", ""]))

    assert found.ids == ["0"]
    assert any("2 of no finding" in problem.found for problem in problems)


def test_two_of_the_runs_classes_in_one_image_are_refused():
    given = manifest(labels=["NORMAL", "COVID-19;PNEUMONIA"])

    with pytest.raises(DataError, match=r"1 image\(s\) have several.*row 3\) COVID-19 and PNEUM"):
        single(given)
    found, _ = single(given, {"PNEUMONIA": "COVID-19"})
    assert found.frame["label"].tolist() == ["NORMAL", "COVID-19"]


def test_findings_are_renamed_and_left_out_without_losing_images():
    given = manifest(labels=["effusion;devices", "devices", "", None])

    found, problems = several(
        given, {"effusion": "Pleural effusion", "devices": ""}, ("Pleural effusion", "Nodule")
    )

    assert found.frame["labels"].tolist()[:3] == ["Pleural effusion", "", ""]
    assert found.frame["labels"].isna().tolist() == [False, False, False, True]
    assert kinds(problems) == ["absent-class"]


def test_two_findings_that_become_one_are_counted_once():
    found, _ = several(manifest(labels=["left;right"]), {"left": "NORMAL", "right": "NORMAL"})

    assert found.frame["labels"].tolist() == ["NORMAL"]


def test_a_class_becomes_the_only_finding_and_a_reader_is_told():
    found, problems = several(
        manifest(label=["PNEUMONIA", "healthy", None]), {"healthy": ""}, CLASSES
    )

    assert found.frame["labels"].tolist()[:2] == ["PNEUMONIA", ""]
    assert "label" not in found.frame
    assert kinds(problems) == ["one-finding", "absent-class"]


def test_images_without_truth_are_refused():
    with pytest.raises(DataError, match=r"no column 'label' or 'labels'"):
        single(manifest(source=["a"]))


def test_words_and_files_are_read_together(tmp_path):
    toml, table = tmp_path / "labels.toml", tmp_path / "labels.csv"
    toml.write_text('"No finding" = "NORMAL"\n"unlabelled" = ""\n')
    table.write_text("theirs,ours\nViral,PNEUMONIA\nartefact,\n")

    found = read_label_map([str(toml), str(table), "a=b=c", " x = y "])

    assert found == {
        "No finding": "NORMAL",
        "unlabelled": "",
        "Viral": "PNEUMONIA",
        "artefact": "",
        "a": "b=c",
        "x": "y",
    }


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("labels.toml", "a = [1]", r"'a' is no text"),
        ("labels.toml", "a = ", r"not a TOML file"),
        ("labels.csv", "a,b\n1,2\n", r"columns 'theirs' and 'ours', found 'a', 'b'"),
    ],
)
def test_files_that_are_no_map_are_told(tmp_path, name, content, message):
    file = tmp_path / name
    file.write_text(content)

    with pytest.raises(UsageError, match=message):
        read_label_map([str(file)])


def test_words_that_say_nothing_or_two_things_are_told(tmp_path):
    with pytest.raises(UsageError, match=r"--map 'NORMAL': expected THEIRS=OURS"):
        read_label_map(["NORMAL"])
    with pytest.raises(UsageError, match=r"'a' is to be 'b' and 'c'"):
        read_label_map(["a=b", "a=c"])
    with pytest.raises(UsageError, match=r"absent\.toml"):
        read_label_map([str(tmp_path / "absent.toml")])
