"""Train, evaluate, predict and report on phantom brains, by every method, and what may go wrong."""

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.anomaly.tiny import FIT, tiny_preset

from medglean import api, cli
from medglean.anomaly import page, reporting, task
from medglean.anomaly.measured import FIXED
from medglean.anomaly.model import load_mapper
from medglean.data.manifest import Manifest
from medglean.data.phantom import write_brain
from medglean.errors import CheckpointError, DataError, PresetError, RunFolderError

CONTRAST = {"sampler": "contrast", "contrast_levels": [10, 30], "contrast_draws": 1}
METHODS = {
    "contrast": {
        "translate": CONTRAST,
        "map": {"difference": "signed", "foreground": "mask", "median_px": 3},
    },
    "ddim": {"translate": {"guidance": "classifier"}, "combine": "threshold"},
    "vae": {"method": "vae", "combine": "threshold"},
    "fpgan": {"method": "fpgan"},
    "threshold": {"method": "threshold"},
}
FAST = {**FIT, "max_steps": 2, "optimizer": {"name": "adamw", "learning_rate": 0.02}}
LITTLE = {"fit": FAST, "classifier": {"fit": FAST}}


class Work(NamedTuple):
    """A folder to work in, with one set of phantoms for all."""

    folder: Path
    manifest: Path

    @property
    def cache(self):
        return self.folder / "cache"

    def preset(self, name, **changes):
        path = self.folder / f"{name}.toml"
        path.write_text(tiny_preset(**{**LITTLE, **changes}).to_toml())
        return path

    def train(self, name, out, *, manifest=None, resume=False, **changes):
        return api.train(
            "anomaly",
            self.preset(name, **changes),
            self.manifest if manifest is None else manifest,
            out=out,
            resume=resume,
            cache=self.cache,
            workers=0,
        )

    def evaluate(self, run, manifest, out, **options):
        return api.evaluate(run, manifest, out=out, cache=self.cache, workers=0,
                            accelerator="cpu", **options)  # fmt: skip


@pytest.fixture(scope="module")
def work(tmp_path_factory, brains):
    return Work(tmp_path_factory.mktemp("work"), brains)


@pytest.fixture(scope="module")
def trained(work):
    """Return a run of the contrast of the classes."""
    work.train("contrast", work.folder / "contrast", **METHODS["contrast"])
    return work.folder / "contrast"


@pytest.fixture(scope="module")
def simple(work):
    """Return a run that learns nothing, so that its tests take no time."""
    work.train("threshold", work.folder / "threshold", **METHODS["threshold"])
    return work.folder / "threshold"


DRAWN = {"test_commands_say_what_came_out", "test_from_labels_to_maps_and_reports_by_every_method"}


@pytest.fixture(autouse=True)
def pictures(request, monkeypatch):
    """Leave pictures, which take most of a report's time, to the tests of whole runs."""
    if request.node.originalname not in DRAWN:
        monkeypatch.setattr(reporting, "result_figures", lambda *_: [])
    else:
        monkeypatch.setattr(page, "SHOWN", 1)


def few(work, folder):
    """Write a manifest with every fourth image."""
    manifest = Manifest.read(work.manifest)
    return str(manifest.select(np.arange(0, len(manifest), 4)).write(folder / "few.parquet").path)


def by_command(work, name, folder):
    """Train, evaluate, predict and report as a user would."""
    preset, data = str(work.preset(name, **METHODS[name])), str(work.manifest)
    run, common = str(folder / "run"), ["--workers", "1"]
    cached, on_cpu = ["--cache", str(work.cache)], ["--device", "cpu"]
    for words in (
        ["train", "anomaly", preset, data, "-o", run, *cached, *common],
        ["evaluate", run, data, "-o", str(folder / "ev"), "--split", "test", *on_cpu, *cached,
         *common],
        ["predict", run, few(work, folder), "-o", str(folder / "out"), *on_cpu, *common],
        ["report", run, str(folder / "ev"), "-o", str(folder / "both")],
    ):  # fmt: skip
        assert cli.run(words) == 0, words


def by_function(work, name, folder):
    """Train, evaluate and predict without processes that decode, which take seconds to start."""
    work.train(name, folder / "run", **METHODS[name])
    work.evaluate(folder / "run", work.manifest, folder / "ev", split="test")
    api.predict(folder / "run", few(work, folder), out=folder / "out", workers=0,
                accelerator="cpu")  # fmt: skip


def test_commands_say_what_came_out(work, tmp_path, capsys):
    by_command(work, "contrast", tmp_path)

    said = capsys.readouterr().out
    assert "best Dice" in said
    assert "Research use only" in said
    assert (tmp_path / "both" / "report.html").is_file()


@pytest.mark.parametrize("name", METHODS)
def test_from_labels_to_maps_and_reports_by_every_method(work, tmp_path, name):
    by_function(work, name, tmp_path)

    frame, split = (
        Manifest.read(work.manifest).frame,
        pd.read_csv(tmp_path / "run" / "split.csv", dtype=str),
    )
    test = set(split.loc[split["split"] == "test", "id"])
    made = pd.read_parquet(tmp_path / "run" / "results.parquet")
    again = pd.read_parquet(tmp_path / "ev" / "results.parquet")
    assert set(made["id"]) == test
    pd.testing.assert_frame_equal(again, made, rtol=1e-4, atol=1e-6)
    stored, evaluated = (
        json.loads((tmp_path / part / "report.json").read_text()) for part in ("run", "ev")
    )
    assert evaluated["metrics"][0]["value"] == pytest.approx(stored["metrics"][0]["value"])
    assert not any("flatter" in warning for warning in evaluated["warnings"])
    predicted = pd.read_csv(tmp_path / "out" / "predictions.csv", dtype={"id": str})
    assert predicted["id"].tolist() == frame["id"].tolist()[::4]
    both = predicted.merge(made, on="id", suffixes=("", ".run"))
    assert len(both) >= 2
    np.testing.assert_allclose(both["score"], both["score.run"], rtol=1e-4, atol=1e-6)
    assert all((tmp_path / "out" / file).is_file() for file in predicted["map.file"])
    facts = json.loads((tmp_path / "run" / "model.json").read_text())
    assert list(facts["thresholds"]) == [FIXED]
    divided = name == "contrast" or "combine" in METHODS[name]
    assert bool(facts["scales"]) == divided
    assert "map.area" in predicted
    html = (tmp_path / "run" / "report.html").read_text()
    assert "Research use only" in html
    assert "http://" not in html.replace("http://www.w3.org", "")


def test_no_patient_is_on_two_sides(work, trained):
    split = pd.read_csv(trained / "split.csv", dtype=str).merge(
        Manifest.read(work.manifest).frame[["id", "patient"]], on="id"
    )

    assert (split.groupby("patient")["split"].nunique() == 1).all()
    assert set(split["split"]) == {"train", "val", "test"}


def test_lesions_are_brighter_on_maps_than_the_rest_and_images_with_one_score_higher(simple):
    report = json.loads((simple / "report.json").read_text())
    value = {metric["name"]: metric["value"] for metric in report["metrics"]}

    assert value["pixel AUROC"] > 0.85  # 0.15 with the sign of the map turned round
    results = pd.read_parquet(simple / "results.parquet")
    sick = results["diseased"]
    assert results.loc[sick, "map.mean"].notna().all()
    assert (results["mask.pixels"] > 0).tolist() == sick.tolist()


def test_scales_and_the_threshold_are_those_of_healthy_validation_images(trained):
    mapper = load_mapper(trained)

    names = {f"{what} at {level}" for what in ("difference", "likelihood ratio")
             for level in (10, 30)}  # fmt: skip
    assert set(mapper.scales) == {*names, "map", "threshold"}
    assert all(value > 0 for value in mapper.scales.values())
    assert mapper.thresholds[FIXED] != 0
    stored = json.loads((trained / "report.json").read_text())
    table = next(table for table in stored["tables"] if table["title"] == "Thresholds")
    assert mapper.thresholds[FIXED] in [row[1] for row in table["rows"]]


def test_training_again_is_the_same_bit_for_bit(work, trained, tmp_path):
    work.train("contrast", tmp_path / "again", **METHODS["contrast"])

    first, second = load_mapper(trained), load_mapper(tmp_path / "again")
    assert first.weights_sha256 == second.weights_sha256
    assert (first.scales, first.thresholds) == (second.scales, second.thresholds)
    for name in ("results.csv", "split.csv"):
        assert (trained / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


@pytest.mark.parametrize("stage", ["calibrated", "training_report"])
def test_a_training_killed_after_any_stage_ends_as_one_that_was_not(
    work, trained, tmp_path, monkeypatch, stage
):
    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(task, stage, killed)
        with pytest.raises(KeyboardInterrupt):
            work.train("contrast", tmp_path / "run", **METHODS["contrast"])
    assert not (tmp_path / "run" / "done").exists()
    monkeypatch.setattr("medglean.anomaly.objectives.diffusion_step", killed)  # all is learnt

    work.train("contrast", tmp_path / "run", resume=True, **METHODS["contrast"])

    assert load_mapper(tmp_path / "run").weights_sha256 == load_mapper(trained).weights_sha256
    assert (tmp_path / "run/results.csv").read_bytes() == (trained / "results.csv").read_bytes()


def test_a_finished_run_is_left_alone_and_a_taken_folder_refused(work, trained):
    before = (trained / "report.html").stat().st_mtime_ns

    with pytest.raises(RunFolderError, match=r"a run is here already.*--resume"):
        work.train("contrast", trained, **METHODS["contrast"])
    report = work.train("contrast", trained, resume=True, **METHODS["contrast"])

    assert (trained / "report.html").stat().st_mtime_ns == before
    assert report.metrics[0].name == "best Dice"


def test_a_run_that_is_not_done_cannot_be_applied(work, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    for name in ("done", "model.json"):
        (tmp_path / "run" / name).unlink()

    with pytest.raises(RunFolderError, match=r"no trained networks yet.*--resume"):
        api.predict(tmp_path / "run", work.manifest, out=tmp_path / "out")


def test_a_prediction_killed_between_parts_ends_as_one_that_was_not(
    work, trained, tmp_path, monkeypatch
):
    monkeypatch.setattr(task, "rows_at_a_time", lambda recipe, most: 4)
    options = {"accelerator": "cpu", "workers": 0}
    source = few(work, tmp_path)
    whole = api.predict(trained, source, out=tmp_path / "whole", **options)
    write, calls = task.MapWriter.write, []

    def stops_at_the_third(writer, part):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return write(writer, part)

    with monkeypatch.context() as patch:
        patch.setattr(task.MapWriter, "write", stops_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            api.predict(trained, source, out=tmp_path / "out", **options)

    resumed = api.predict(trained, source, out=tmp_path / "out", resume=True, **options)

    pd.testing.assert_frame_equal(resumed, whole)
    assert len(calls) == 3
    for file in resumed["map.file"]:
        assert (tmp_path / "out" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    assert not (tmp_path / "out" / "parts").exists()
    again = api.predict(trained, source, out=tmp_path / "out", resume=True, **options)
    pd.testing.assert_frame_equal(again, whole)


def test_a_volume_gets_a_map_that_lies_on_it(work, tmp_path):
    by_range = {"intensity": {"rule": "min-max", "scope": "volume"}}
    work.train("ranged", tmp_path / "run", images=by_range, **METHODS["threshold"])
    volumes = write_brain(tmp_path / "v", patients=2, slices=3, size_px=(32, 32), nifti=True)
    frame = Manifest.read(volumes).frame
    flair = frame["image.flair"].str.split("#").str[0]
    whole = pd.DataFrame({"id": ["one", "two"], "image.flair": list(dict.fromkeys(flair))})
    manifest = Manifest.from_frame(whole, volumes.parent)

    table = api.predict(
        tmp_path / "run", manifest, out=tmp_path / "out", workers=0, accelerator="cpu"
    )

    assert table["id"].tolist() == [f"{v}_s{k:03d}" for v in ("one", "two") for k in range(3)]
    assert table["map.file"].tolist() == ["maps/one.nii.gz"] * 3 + ["maps/two.nii.gz"] * 3
    for name, source in zip(("one", "two"), dict.fromkeys(flair), strict=True):
        made = nibabel.load(tmp_path / "out" / "maps" / f"{name}.nii.gz")
        scan = nibabel.load(volumes.parent / source)
        np.testing.assert_allclose(made.affine, scan.affine)
        assert made.shape == scan.shape
        assert made.get_fdata().max() > 0


def test_without_masks_whole_images_are_measured(work, tmp_path):
    bare = Manifest.read(work.manifest).with_columns(mask=None)

    report = work.train("bare", tmp_path / "run", manifest=bare, **METHODS["threshold"])

    assert report.metrics[0].name == "image AUROC"
    assert "no masks were there" in report.sentence
    assert any("no masks" in warning for warning in report.warnings)
    table = pd.read_parquet(tmp_path / "run" / "results.parquet")
    assert table.loc[table["diseased"], "mask.pixels"].isna().all()


def test_masks_that_are_missing_for_some_are_counted(work, simple, tmp_path):
    manifest = Manifest.read(work.manifest)
    sick = np.flatnonzero(manifest.frame["label"] == "lesion")
    masks = manifest.frame["mask"].astype(object).copy()
    masks.iloc[sick[::2]] = None
    some = manifest.with_columns(mask=masks)

    report = work.evaluate(simple, some, tmp_path / "out")

    told = next(warning for warning in report.warnings if "without a mask" in warning)
    assert f"one: {len(sick[::2])}. Pixels are measured on the other {len(sick[1::2])}" in told
    table = pd.read_parquet(tmp_path / "out" / "results.parquet").set_index("id")
    assert table.loc[manifest.frame["id"].iloc[sick[::2]], "mask.pixels"].isna().all()


def test_a_mask_that_cannot_be_read_costs_a_mask(work, simple, tmp_path):
    manifest = Manifest.read(work.manifest)
    place = int(np.flatnonzero(manifest.frame["label"] == "lesion")[0])
    masks = manifest.frame["mask"].astype(object).copy()
    masks.iloc[place] = "masks/none.png"

    report = work.evaluate(simple, manifest.with_columns(mask=masks), tmp_path / "out")

    assert [problem.row for problem in report.problems if problem.column == "mask"] == [place + 2]


@pytest.mark.parametrize("parts", [{"train": 0.5, "val": 0.0, "test": 0.5}, None])
def test_with_one_patient_of_a_class_it_is_told_what_is_missing(work, tmp_path, parts):
    """Two patients: one part cannot have both classes, whichever way they are divided."""
    manifest = Manifest.read(work.manifest)
    two = manifest.select(manifest.frame["patient"].isin(["p0000", "p0001"]).to_numpy())
    healthy_alone = two.frame["patient"] == "p0000"
    two = two.with_columns(label=["healthy" if one else "lesion" for one in healthy_alone])
    changes = {} if parts is None else {"split": parts}

    with pytest.raises(DataError) as caught:
        work.train("two", tmp_path / "run", manifest=two, **METHODS["threshold"], **changes)

    assert "fewer parts" in str(caught.value) or "split" in str(caught.value)
    assert not (tmp_path / "run" / "done").exists()


def test_evaluation_on_seen_images_is_told(work, simple, tmp_path):
    report = work.evaluate(simple, work.manifest, tmp_path / "out")

    seen = (pd.read_csv(simple / "split.csv", dtype=str)["split"] != "test").sum()
    told = next(warning for warning in report.warnings if "flatter" in warning)
    assert told.startswith(f"{seen} of 48 images have the id of one that the run was trained")


def test_evaluation_is_resumed_and_left_alone_when_done(work, simple, tmp_path):
    first = work.evaluate(simple, work.manifest, tmp_path / "out", split="test")
    page = (tmp_path / "out" / "report.html").stat().st_mtime_ns

    again = work.evaluate(simple, work.manifest, tmp_path / "out", split="test", resume=True)

    assert again.metrics[0].value == pytest.approx(first.metrics[0].value)
    assert (tmp_path / "out" / "report.html").stat().st_mtime_ns == page
    with pytest.raises(RunFolderError, match="split"):
        work.evaluate(simple, work.manifest, tmp_path / "out", split="val", resume=True)


def test_a_part_that_there_is_not_is_told(work, simple, tmp_path):
    with pytest.raises(DataError, match=r"no labelled image that can be read in part 'tets'"):
        work.evaluate(simple, work.manifest, tmp_path / "out", split="tets")


def test_classes_that_the_run_does_not_know_are_refused(work, simple, tmp_path):
    manifest = Manifest.read(work.manifest)
    other = manifest.frame["label"].map({"healthy": "normal", "lesion": "tumour"})

    with pytest.raises(DataError, match=r"no image is 'healthy' .*\('lesion'\).* are .*'normal', "
                       r"'tumour'\. Name them as in training") as caught:  # fmt: skip
        work.evaluate(simple, manifest.with_columns(label=list(other)), tmp_path / "out")
    assert "medglean predict" in str(caught.value)


def test_a_class_that_the_run_does_not_know_counts_as_diseased_and_is_told(work, simple, tmp_path):
    manifest = Manifest.read(work.manifest)
    labels = list(manifest.frame["label"])
    labels[0] = "tumour"

    report = work.evaluate(simple, manifest.with_columns(label=labels), tmp_path / "out")

    told = next(one for one in report.problems if one.kind == "unknown-class")
    assert "was not trained on 'tumour': such images count as diseased" in told.found
    table = pd.read_parquet(tmp_path / "out" / "results.parquet").set_index("id")
    assert table.loc[manifest.ids[0], "diseased"]


def test_diseased_images_alone_can_be_evaluated(work, simple, tmp_path):
    manifest = Manifest.read(work.manifest)
    sick = manifest.select((manifest.frame["label"] == "lesion").to_numpy())

    report = work.evaluate(simple, sick, tmp_path / "out")

    assert any("No healthy image" in warning for warning in report.warnings)
    assert report.metrics[0].name == "best Dice"


def test_an_image_whose_map_is_not_finite_is_named_and_others_go_on(
    work, trained, tmp_path, monkeypatch
):
    from medglean.anomaly import methods

    asked = methods.contrasts_of
    manifest = Manifest.read(work.manifest).select(np.arange(16))
    bad = manifest.ids[5]

    def broken(mapper, x, generators):
        found = asked(mapper, x, generators)
        found[0, 0, 5 % len(x), 0, 3, 3] = np.inf if len(x) == 8 else 0.0
        return found

    monkeypatch.setattr(methods, "contrasts_of", broken)
    report = work.evaluate(trained, manifest, tmp_path / "ev")
    table = api.predict(trained, manifest, out=tmp_path / "out", workers=0,
                        accelerator="cpu")  # fmt: skip

    named = [problem.file for problem in report.problems if problem.kind == "not-finite"]
    assert bad in named
    assert len(named) == 2  # one in each batch of 8
    results = pd.read_parquet(tmp_path / "ev" / "results.parquet").set_index("id")
    assert results["score"].isna().sum() == 2
    assert results.loc[bad].isna()[["score", "map.mean", "map.max"]].all()
    assert any("2 of 16 images are left out: their map holds NaN" in w for w in report.warnings)
    assert len(table) == 14
    told = pd.read_csv(tmp_path / "out" / "problems.csv", dtype=str)
    assert set(told.loc[told["kind"] == "not-finite", "file"]) == set(named)


def test_an_image_that_cannot_be_read_is_named_and_others_go_on(work, simple, tmp_path):
    folder = tmp_path / "set"
    shutil.copytree(work.manifest.parent, folder)
    manifest = Manifest.read(folder / work.manifest.name)
    broken = manifest.file_of(manifest.frame["image.flair"].iloc[2])
    broken.write_bytes(broken.read_bytes()[:100])

    table = api.predict(simple, manifest, out=tmp_path / "out", workers=0, accelerator="cpu")
    report = api.evaluate(simple, manifest, out=tmp_path / "ev", cache=tmp_path / "cache",
                          workers=0, accelerator="cpu")  # fmt: skip

    assert len(table) == 47
    assert report.data["images"] == {"used": 47, "could not be read": 1}
    told = pd.read_csv(tmp_path / "out" / "problems.csv", dtype=str)
    assert told["file"].str.contains(broken.name).any()


def test_a_checkpoint_of_another_architecture_is_refused_with_the_keys(trained, work, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    state = load_file(run / "unet.safetensors")
    state["out.2.weight"] = torch.zeros(3, 3)
    state["stranger"] = torch.zeros(1)
    del state["time_embed.0.bias"]
    save_file(state, run / "unet.safetensors")
    facts = json.loads((run / "model.json").read_text())
    import hashlib

    digest = hashlib.sha256((run / "unet.safetensors").read_bytes()).hexdigest()
    facts["networks"]["unet"]["sha256"] = digest
    (run / "model.json").write_text(json.dumps(facts))

    with pytest.raises(CheckpointError) as caught:
        api.predict(run, work.manifest, out=tmp_path / "out", accelerator="cpu")
    for key in ("out.2.weight", "stranger", "time_embed.0.bias"):
        assert key in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_an_edited_preset_is_refused(trained, work, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    text = (run / "preset.toml").read_text()
    (run / "preset.toml").write_text(text.replace("width = 32", "width = 64", 1))

    with pytest.raises(CheckpointError, match=r"width: 32 then, 64 now"):
        api.predict(run, work.manifest, out=tmp_path / "out", accelerator="cpu")


def relabelled(work, **columns):
    return Manifest.read(work.manifest).with_columns(**columns)


@pytest.mark.parametrize(
    ("changes", "columns", "error", "message"),
    [
        ({"labels": {"healthy": "normal"}}, {}, DataError,
         r"no image is of the healthy class 'normal'; the classes in column 'label' are 'healthy', "
         r"'lesion'\. Set labels\.healthy="),
        ({}, {"label": ["healthy"] * 48}, DataError, r"no image is diseased .*both classes\. Add"),
        ({"labels": {"healthy": "lesion"}}, {"label": ["lesion"] * 48}, DataError,
         r"no image is diseased"),
        ({}, {"label": None}, DataError, r"no column 'label' or 'labels'"),
        ({"images": {"channels": ["pet"]}}, {}, DataError, r"pet"),
        ({"match_on": "age"}, {}, DataError, r"no column 'age', which match_on names"),
    ],
)  # fmt: skip
def test_data_that_cannot_be_learnt_from(work, tmp_path, changes, columns, error, message):
    manifest = relabelled(work, **columns)

    with pytest.raises(error, match=message):
        work.train("bad", tmp_path / "run", manifest=manifest, **METHODS["threshold"], **changes)
    assert not (tmp_path / "run" / "done").exists()


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("translate.noise_level=0", "greater than or equal to 1"),
        ("translate.noise_level=101", r"L = 101 is outside 1\.\.100"),
        ("map.noise_levels=[50, 200]", r"L = 200 is outside 1\.\.100"),
        ("translate.scale=-1", "greater than or equal to 0"),
        ("translate.steps=60", "more than the 50 levels"),
        ("map.median_px=4", "must be odd"),
        ("images.size_px=[16, 24]", r"\[16, 24\].*square"),
    ],
)
def test_settings_that_cannot_be_met(work, tmp_path, override, told):
    with pytest.raises(PresetError, match=told):
        api.train("anomaly", work.preset("ddim"), work.manifest, out=tmp_path / "run",
                  overrides=[override], cache=work.cache, workers=0)  # fmt: skip
    assert not (tmp_path / "run" / "done").exists()


def test_several_names_of_which_one_is_diseased(work, tmp_path):
    manifest = Manifest.read(work.manifest)
    names = ["old" if place == 0 else name for place, name in enumerate(manifest.frame["label"])]
    several = manifest.with_columns(label=None, labels=names)

    report = work.train(
        "several", tmp_path / "run", manifest=several, labels={"diseased": ["lesion"]},
        **METHODS["threshold"],
    )  # fmt: skip

    assert any(problem.kind == "other-class" for problem in report.problems)
    assert sum(v for k, v in report.data["images"].items() if "," in k) == 47
