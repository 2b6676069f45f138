import errno
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from medglean import api, files
from medglean.classify import task
from medglean.classify.model import load_classifier
from medglean.classify.settings import ClassifyPreset
from medglean.data.manifest import Manifest
from medglean.errors import (
    CheckpointError,
    DataError,
    MedgleanError,
    RunFolderError,
)
from medglean.measure.curves import auroc
from medglean.runs.preset import load_preset


def small(*overrides):
    settings = (
        "images.size_px=[32, 32]",
        "fit.epochs=1",
        "fit.batch_size=16",
        "fit.accelerator=cpu",
        "fit.precision=32-true",
        "fit.ema_decay=none",
        "split.train=0.6",
        "split.val=0.2",
        "measure.replicates=200",
        "measure.saliency=0",
    )
    return load_preset("cxr-small", ClassifyPreset, overrides=[*settings, *overrides])


def test_a_run_holds_everything_that_was_asked_for(trained):
    names = {path.name for path in trained.run.iterdir()}

    assert {
        "done",
        "preset.toml",
        "split.csv",
        "network.safetensors",
        "model.json",
        "log.csv",
        "log.txt",
        "results.parquet",
        "results.csv",
        "problems.csv",
        "metrics.json",
        "report.html",
        "report.json",
        "environment.json",
    } <= names
    page = (trained.run / "report.html").read_text()
    assert "Research use only" in page
    assert "confusion" in page.lower()
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_no_patient_is_on_two_sides(trained):
    split = pd.read_csv(trained.run / "split.csv", dtype=str)
    patients = Manifest.read(trained.manifest).frame.set_index("id")["patient"]

    assert split.set_index("id")["patient"].to_dict() == patients.to_dict()

    assert (split.groupby("patient")["split"].nunique() == 1).all()
    assert set(split["split"]) == {"train", "val", "test"}


def test_report_numbers_are_those_of_the_scores(trained):
    scores = pd.read_parquet(trained.run / "results.parquet")
    test = scores[scores["split"] == "test"]
    expected = auroc(
        (test["label"] == "opacity").to_numpy(), test["probability.opacity"].to_numpy()
    )

    stored = json.loads((trained.run / "report.json").read_text())

    assert stored["metrics"][0]["name"] == "AUROC"
    assert stored["metrics"][0]["value"] == pytest.approx(expected)
    assert stored["metrics"][0]["n"] == len(test)
    assert f"{expected:.3f}" in stored["summary"]


def test_prediction_repeats_the_scores_of_the_run(trained, tmp_path):
    table = api.predict(trained.run, trained.images, out=tmp_path / "out", accelerator="cpu")

    known = pd.read_parquet(trained.run / "results.parquet").set_index("id")
    found = table.set_index("id").loc[known.index]
    np.testing.assert_allclose(
        found["probability.opacity"], known["probability.opacity"], atol=1e-6
    )
    assert (found["predicted"] == known["predicted"]).all()
    total = table[["probability.normal", "probability.opacity"]].sum(axis=1)
    np.testing.assert_allclose(total, 1.0)
    written = pd.read_csv(tmp_path / "out" / "predictions.csv", dtype={"id": str})
    assert list(written["id"]) == list(table["id"])


def test_prediction_goes_on_where_it_stopped(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(task, "rows_at_a_time", lambda recipe: 10)
    whole = api.predict(trained.run, trained.manifest, out=tmp_path / "whole", accelerator="cpu")
    score = task.score_rows
    calls = []

    def stops_at_the_third(*args):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return score(*args)

    monkeypatch.setattr(task, "score_rows", stops_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        api.predict(trained.run, trained.manifest, out=tmp_path / "out", accelerator="cpu")
    calls.clear()
    monkeypatch.setattr(task, "score_rows", lambda *args: calls.append(1) or score(*args))

    resumed = api.predict(
        trained.run, trained.manifest, out=tmp_path / "out", resume=True, accelerator="cpu"
    )

    pd.testing.assert_frame_equal(resumed, whole)
    assert len(calls) == -(-len(whole) // 10) - 2
    assert not (tmp_path / "out" / "parts").exists()


def test_one_broken_image_costs_one_image(trained, tmp_path):
    folder = tmp_path / "images"
    shutil.copytree(trained.images / "images", folder)
    broken = sorted(folder.iterdir())[0]
    broken.write_bytes(broken.read_bytes()[:200])

    table = api.predict(trained.run, folder, out=tmp_path / "out", accelerator="cpu")

    assert len(table) == len(list(folder.iterdir())) - 1
    problems = pd.read_csv(tmp_path / "out" / "problems.csv", dtype=str)
    assert problems["file"].str.contains(broken.name).any()


def test_only_broken_images_are_an_error_that_names_one(trained, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    whole = next((trained.images / "images").iterdir()).read_bytes()
    (folder / "cut.png").write_bytes(whole[:400])

    with pytest.raises(DataError, match=r"cut\.png"):
        api.predict(trained.run, folder, out=tmp_path / "out", accelerator="cpu")


def test_evaluation_on_the_test_part_gives_the_runs_own_number(trained, tmp_path):
    report = api.evaluate(
        trained.run,
        trained.manifest,
        out=tmp_path / "out",
        split="test",
        cache=trained.cache,
        accelerator="cpu",
    )

    stored = json.loads((trained.run / "report.json").read_text())
    assert report.metrics[0].value == pytest.approx(stored["metrics"][0]["value"])
    assert not any("flatter" in warning for warning in report.warnings)


def test_evaluation_on_training_images_is_told(trained, tmp_path):
    report = api.evaluate(
        trained.run,
        trained.manifest,
        out=tmp_path / "out",
        cache=trained.cache,
        accelerator="cpu",
    )

    assert any("flatter" in warning for warning in report.warnings)


def test_evaluation_on_a_curated_set_is_told(trained, tmp_path):
    curated = Manifest.read(trained.manifest).with_columns(curated_by="enrich")

    report = api.evaluate(
        trained.run, curated, out=tmp_path / "out", cache=trained.cache, accelerator="cpu"
    )

    assert any("not representative" in warning for warning in report.warnings)


def test_training_again_is_the_same_bit_for_bit(trained, tmp_path):
    first = load_classifier(trained.run)
    manifest = Manifest.read(trained.manifest)
    preset = first.preset
    task.fit(manifest, preset, out=tmp_path / "again", command=["x"], cache=trained.cache)
    again = load_classifier(tmp_path / "again")

    assert first.weights_sha256 == again.weights_sha256
    for name, value in first.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name])


def test_a_finished_run_is_left_alone_and_a_taken_folder_refused(trained):
    manifest = Manifest.read(trained.manifest)
    before = (trained.run / "report.html").stat().st_mtime_ns
    preset = load_classifier(trained.run).preset

    with pytest.raises(RunFolderError, match=r"a run is here already.*--resume"):
        task.fit(manifest, preset, out=trained.run, cache=trained.cache)
    report = task.fit(manifest, preset, out=trained.run, resume=True, cache=trained.cache)

    assert (trained.run / "report.html").stat().st_mtime_ns == before
    assert report.metrics[0].name == "AUROC"


def test_several_findings_per_image(phantoms, tmp_path):
    manifest = Manifest.read(phantoms / "data.parquet")
    labels = [
        ";".join([*(["opacity"] if label == "opacity" else []), *(["even"] if i % 2 else [])])
        for i, label in enumerate(manifest.frame["label"])
    ]
    several = manifest.with_columns(label=None, labels=labels)

    report = task.fit(
        several,
        small("labels.weights=balanced", "labels.smoothing=0.05", "mixup=0.2"),
        out=tmp_path / "run",
        cache=phantoms / "cache",
    )

    names = [metric.name for metric in report.metrics]
    assert names[:3] == ["macro AUROC", "exact match", "Hamming loss"]
    scores = pd.read_parquet(tmp_path / "run" / "results.parquet")
    assert {"probability.even", "probability.opacity", "labels"} <= set(scores)


def test_a_standing_split_is_kept_and_validation_comes_from_training(phantoms, tmp_path):
    manifest = Manifest.read(phantoms / "data.parquet")
    patients = sorted(set(manifest.frame["patient"]))
    held_out = set(patients[::4])
    stands = manifest.with_columns(
        split=["test" if p in held_out else "train" for p in manifest.frame["patient"]]
    )

    task.fit(stands, small(), out=tmp_path / "run", cache=phantoms / "cache")

    split = pd.read_csv(tmp_path / "run" / "split.csv", dtype=str)
    in_test = split["patient"].isin(held_out)
    assert (split.loc[in_test, "split"] == "test").all()
    assert set(split.loc[~in_test, "split"]) == {"train", "val"}


@pytest.mark.parametrize(
    ("overrides", "labels", "message"),
    [
        (["labels.classes=['normal', 'tumour']"], None, r"class 'tumour'.*has no image"),
        ([], "one image", r"class 'rare' has 1 image\(s\), expected at least 2.*min_images=1"),
        ([], "one class", r"only one class, 'normal'; expected at least two"),
        ([], "none", r"no column 'label'.*or 'labels'"),
        (["images.channels=['a', 'b']"], None, r"expects channels a, b.*image\.NAME"),
    ],
)
def test_data_that_cannot_be_learnt_from(phantoms, tmp_path, overrides, labels, message):
    manifest = Manifest.read(phantoms / "data.parquet")
    count = len(manifest)
    if labels == "one image":
        manifest = manifest.with_columns(label=["rare", *manifest.frame["label"][1:]])
    elif labels == "one class":
        manifest = manifest.with_columns(label=["normal"] * count)
    elif labels == "none":
        manifest = manifest.with_columns(label=None)

    with pytest.raises(DataError, match=message):
        task.fit(manifest, small(*overrides), out=tmp_path / "run", cache=tmp_path / "cache")
    assert not (tmp_path / "run" / "done").exists()


def test_nothing_kept_aside_is_refused_before_training(phantoms, tmp_path):
    manifest = Manifest.read(phantoms / "data.parquet")
    preset = small("split.train=1.0", "split.val=0.0", "split.test=0.0")

    with pytest.raises(DataError, match=r"no image is kept aside.*split\.test above 0"):
        task.fit(manifest, preset, out=tmp_path / "run", cache=phantoms / "cache")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_other_classes_are_left_out_and_counted(phantoms, tmp_path):
    manifest = Manifest.read(phantoms / "data.parquet")
    labels = list(manifest.frame["label"])
    labels[:3] = ["artefact"] * 3

    report = task.fit(
        manifest.with_columns(label=labels),
        small("labels.classes=['opacity', 'normal']"),
        out=tmp_path / "run",
        cache=phantoms / "cache",
    )

    assert any("3 images have a class" in str(problem) for problem in report.problems)
    assert load_classifier(tmp_path / "run").classes == ("opacity", "normal")


def test_full_disk_loses_nothing(trained, tmp_path, monkeypatch):
    manifest = Manifest.read(trained.manifest)
    write = files.atomic_writer

    def full(path, **options):
        if path.suffix == ".safetensors":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr("medglean.files.atomic_writer", full)
        patch.setattr("medglean.fitting.checkpoint.atomic_writer", full, raising=False)
        with pytest.raises((MedgleanError, OSError), match=r"(?i)disk|space"):
            task.fit(manifest, small(), out=tmp_path / "run", cache=trained.cache)

    report = task.fit(manifest, small(), out=tmp_path / "run", resume=True, cache=trained.cache)
    assert (tmp_path / "run" / "done").exists()
    assert report.metrics[0].n


def test_damaged_weights_are_told(trained, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(trained.run, copy)
    weights = copy / "network.safetensors"
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)

    with pytest.raises(CheckpointError, match=r"network\.safetensors.*changed or damaged"):
        load_classifier(copy)


def test_a_folder_that_is_no_run_is_refused(trained, tmp_path):
    with pytest.raises(RunFolderError, match=r"not a run"):
        api.predict(tmp_path, trained.images, out=tmp_path / "out")


def test_a_class_unknown_to_the_run_is_refused(trained, tmp_path):
    manifest = Manifest.read(trained.manifest)
    other = manifest.with_columns(label=["tumour", *manifest.frame["label"][1:]])

    with pytest.raises(DataError, match=r"class 'tumour' has 1 image"):
        api.evaluate(trained.run, other, out=tmp_path / "out", cache=trained.cache)


def test_an_altered_image_is_told_when_the_cache_is_made(phantoms, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(phantoms / "images", folder / "images")
    manifest = api.index(folder / "images", out=folder / "data.parquet").manifest
    first = manifest.file_of(manifest.frame["image"].iloc[0])
    second = manifest.file_of(manifest.frame["image"].iloc[1])
    first.write_bytes(second.read_bytes())

    report = task.fit(
        Manifest.read(folder / "data.parquet"),
        small(),
        out=tmp_path / "run",
        cache=tmp_path / "cache",
    )

    told = [str(problem) for problem in report.problems]
    assert any(first.name in text for text in told), told
