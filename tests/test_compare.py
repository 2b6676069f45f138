import json

import numpy as np
import pytest
from tests.classify.judged import two_classes, write_run
from tests.classify.test_between import three

from medglean.classify.between import MEAN
from medglean.compare import compare_runs
from medglean.runs.report import Metric, Report
from medglean.runs.rundir import RunFolder

CLASSES = ("a", "b", "c")


def finished(
    folder, probability, targets, *, classes=CLASSES, task="classify", weights=None, **columns
):
    """Make the folder of a finished run from its scores."""
    weights = weights or folder.name
    scores = folder.with_name(f"{folder.name} scores")
    write_run(scores, probability, targets, classes=classes, **columns)
    with RunFolder.create(
        folder,
        preset_toml='name = "x"\ntask = "classify"\n',
        command=["test"],
        manifest_hash="",
        seed=0,
        split_hash=weights,
        task=task,
    ) as run:
        if task == "classify":
            run.write_json("model.json", {"weights_sha256": weights})
        run.write("results.parquet", (scores / "results.parquet").read_bytes())
        Report("t", "s", metrics=[Metric("AUROC", 0.9, low=0.8, high=0.95, n=9)]).write(run.path)
        run.finish()
    return folder


def test_two_classifiers_are_compared_on_the_same_images(tmp_path):
    targets, better, worse = three(200)
    first = finished(tmp_path / "first", better, targets)
    second = finished(tmp_path / "second", worse, targets)

    lines = compare_runs([first, second], out=tmp_path / "page")

    assert lines[0] == f"{first}: AUROC 0.900 (95 % CI 0.800-0.950, 9 images)"
    assert lines[4] == f"{first} and {second} on 200 test images that both have:"
    assert lines[5].startswith(f"    AUROC, {MEAN}: 0.9")
    assert "; p < 0.001" in lines[5]
    stored = json.loads((tmp_path / "page" / "report.json").read_text())
    table = stored["tables"][0]
    assert [row[0] for row in table["rows"]] == [MEAN.capitalize(), *CLASSES]
    assert table["rows"][0][5] < 0.001
    assert stored["figures"][0]["title"] == "Whether the runs differ"
    assert stored["tables"][-1]["title"] == "All measures"


def test_a_run_and_its_own_evaluation_are_one_classifier(tmp_path):
    targets, better, _ = three(60)
    run = finished(tmp_path / "run", better, targets)
    own = finished(tmp_path / "ev", better, targets, task="classify-evaluate", weights="run")

    lines = compare_runs([run, own])

    assert len(lines) == 4


def test_an_evaluation_counts_with_all_its_images(tmp_path):
    targets, better, worse = three(90)
    split = ["train"] * 30 + ["test"] * 60
    first = finished(tmp_path / "a", better, targets, split=split)
    second = finished(tmp_path / "b", worse, targets, split=split, task="classify-evaluate")
    third = finished(tmp_path / "c", better, targets, split=split, task="classify-evaluate")

    assert f"{first} and {second} on 60 test images" in "\n".join(compare_runs([first, second]))
    assert f"{second} and {third} on 90 test images" in "\n".join(compare_runs([second, third]))


def test_what_cannot_be_compared_is_told(tmp_path):
    targets, better, worse = three(60)
    first = finished(tmp_path / "a", better, targets)
    changed = finished(tmp_path / "b", worse, np.r_[(targets[:3] + 1) % 3, targets[3:]])
    elsewhere = finished(tmp_path / "c", worse, targets, id=[f"x{row}" for row in range(60)])
    binary = finished(
        tmp_path / "d", *two_classes(60, separation=1.0), classes=("no", "yes")
    )  # fmt: skip
    damaged = finished(tmp_path / "e", worse, targets)
    (damaged / "results.parquet").write_bytes(b"")

    lines = compare_runs([first, changed, elsewhere, binary, damaged], out=tmp_path / "page")

    notes = [line for line in lines if line.startswith("note: ")]
    assert sum("3 of 60 images have another truth" in note for note in notes) == 1
    assert sum("no test image in common" in note for note in notes) == 1
    assert sum("its classes are no, yes" in note for note in notes) == 1
    assert sum("damaged file" in note for note in notes) == 1
    stored = json.loads((tmp_path / "page" / "report.json").read_text())
    assert len(stored["warnings"]) == len(notes)


@pytest.mark.parametrize("task", ["anomaly", "classify-predict"])
def test_runs_of_other_kinds_are_told_in_a_line_as_ever(tmp_path, task):
    targets, better, worse = three(30)
    first = finished(tmp_path / "a", better, targets, task=task)
    second = finished(tmp_path / "b", worse, targets, task=task)

    assert len(compare_runs([first, second])) == 4
