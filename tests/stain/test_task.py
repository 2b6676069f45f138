"""Train, evaluate and predict on phantom pairs, patches and slides, and what may go wrong."""

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image
from tests.stain.tiny import tiny_preset

from medglean import api, cli
from medglean.data.manifest import Manifest
from medglean.data.phantom import write_slide
from medglean.data.slides import open_slide
from medglean.errors import DataError, PresetError, RunFolderError, UsageError
from medglean.stain import applying
from medglean.stain.model import load_stainer


class Work(NamedTuple):
    """A folder to work in, with one set of phantoms for all."""

    folder: Path
    manifest: Path
    run: Path

    def train(self, out, *, manifest=None, resume=False, **changes):
        path = self.folder / "preset.toml"
        path.write_text(tiny_preset(**changes).to_toml())
        return api.train(
            "stain",
            path,
            self.manifest if manifest is None else manifest,
            out=out,
            resume=resume,
            cache=self.folder / "cache",
            workers=0,
        )

    def predict(self, source, out, *overrides, **options):
        return api.predict(
            self.run, source, out=out, overrides=overrides, accelerator="cpu", **options
        )


@pytest.fixture(scope="module")
def work(tmp_path_factory, stained):
    folder = tmp_path_factory.mktemp("work")
    work = Work(folder, stained, folder / "run")
    work.train(work.run)
    return work


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    path = tmp_path_factory.mktemp("slide") / "s.svs"
    write_slide(path, size_px=(300, 340), mpp=0.5)
    return path


def numbers(folder):
    """Return the metrics of a report by name."""
    found = json.loads((folder / "report.json").read_text())["metrics"]
    return {metric["name"]: metric["value"] for metric in found}


def test_training_measures_pairs_that_were_kept_aside_beside_the_mean_colour(work):
    assert (work.run / "done").is_file()
    page = (work.run / "report.html").read_text()
    results = pd.read_parquet(work.run / "results.parquet")
    split = pd.read_csv(work.run / "split.csv")

    assert set(results["id"]) == set(split["id"][split["split"] == "test"])
    assert "mean colour" in page.lower()
    assert "never a diagnosis" in page.lower()
    assert any("PSNR" in name for name in numbers(work.run))


def test_a_finished_run_is_left_as_it_is(work):
    before = (work.run / "generator.safetensors").stat().st_mtime_ns

    work.train(work.run, resume=True)

    assert (work.run / "generator.safetensors").stat().st_mtime_ns == before


def test_evaluating_the_test_part_again_gives_the_numbers_of_training(work, tmp_path):
    api.evaluate(
        work.run,
        work.manifest,
        out=tmp_path / "again",
        split="test",
        cache=work.folder / "cache",
        accelerator="cpu",
    )

    again, before = numbers(tmp_path / "again"), numbers(work.run)
    shared = again.keys() & before.keys()
    assert len(shared) > 3
    assert {k: again[k] for k in shared} == pytest.approx(
        {k: before[k] for k in shared}, nan_ok=True
    )


def test_a_part_without_pairs_is_refused(work, tmp_path):
    manifest = Manifest.read(work.manifest)
    manifest = manifest.with_columns(split=["train"] * len(manifest))

    with pytest.raises(DataError, match=r"no pair that can be read in part 'test'"):
        api.evaluate(work.run, manifest, out=tmp_path / "e", split="test", accelerator="cpu")


def test_a_label_outside_the_levels_is_refused_before_anything_is_written(work, tmp_path):
    manifest = Manifest.read(work.manifest)
    manifest = manifest.with_columns(label=["4+", *manifest.frame["label"].tolist()[1:]])

    with pytest.raises(DataError, match=r"no level: '4\+' \(1\)"):
        work.train(tmp_path / "run", manifest=manifest)
    assert not (tmp_path / "run").exists()


def test_patches_are_stained_at_their_own_size_and_say_what_they_are(work, tmp_path):
    table = work.predict(work.manifest.parent / "set/he", tmp_path / "out")

    assert len(table) == 16
    assert set(table["kind"]) == {"patch"}
    assert set(table["level"]) <= {"0", "1+", "2+", "3+"}
    assert table["dab.positive"].between(0, 1).all()
    for file in table["file"]:
        with Image.open(tmp_path / "out" / file) as image:
            assert image.width == 72
            assert image.height > 72  # the strip with the notice is below
            assert "not for diagnosis" in image.text["Description"]
    assert (tmp_path / "out/predictions.csv").is_file()


def test_what_is_above_the_strip_is_what_the_network_gives(work, tmp_path):
    source = next((work.manifest.parent / "set/he").iterdir())

    with_strip = work.predict(source, tmp_path / "a")
    without = work.predict(source, tmp_path / "b", "predict.legend=false")

    shown = np.asarray(Image.open(tmp_path / "a" / with_strip["file"][0]))
    plain = np.asarray(Image.open(tmp_path / "b" / without["file"][0]))
    given = np.asarray(Image.open(source), dtype=np.float32).transpose(2, 0, 1) / 255
    expected = load_stainer(work.run).on_device("cpu").stain(given[None])[0]
    assert np.array_equal(shown[:72], plain)
    assert np.abs(plain - 255 * expected.transpose(1, 2, 0)).max() <= 0.51


def test_the_white_of_the_patch_is_put_back(work, tmp_path):
    work.train(
        tmp_path / "run", method="mean-colour", white={"normalise": True}, measure={"judge": False}
    )
    source = next((work.manifest.parent / "set/he").iterdir())
    stainer = load_stainer(tmp_path / "run")

    table = api.predict(
        tmp_path / "run",
        source,
        out=tmp_path / "out",
        overrides=["white.reapply=input", "predict.legend=false"],
    )

    given = np.asarray(Image.open(source), dtype=np.float32) / 255
    white = np.quantile(given, 0.99, axis=(0, 1))
    painted = np.asarray(Image.open(tmp_path / "out" / table["file"][0]))[0, 0]
    np.testing.assert_allclose(painted, 255 * white * stainer.colour, atol=2)
    assert abs(painted - 255 * stainer.colour).max() > 2


def test_a_bad_image_costs_one_row_and_is_told(work, tmp_path):
    folder = tmp_path / "set"
    shutil.copytree(work.manifest.parent / "set/he", folder)
    names = sorted(path.name for path in folder.iterdir())
    Image.fromarray(np.zeros((70, 70), np.uint8)).save(folder / "grey.png")
    (folder / names[0]).write_bytes((folder / names[0]).read_bytes()[:900])
    frame = pd.DataFrame({"id": [*names, "grey.png"], "image": [*names, "grey.png"]})

    table = work.predict(Manifest.from_frame(frame, folder), tmp_path / "out")

    assert len(table) == 15
    told = pd.read_csv(tmp_path / "out/problems.csv")
    assert set(told["file"]) == {names[0], "grey.png"}
    assert told["found"].str.contains("expected H&E in red, green, blue").any()


def test_a_stopped_prediction_goes_on(work, tmp_path, monkeypatch):
    source = work.manifest.parent / "set/he"
    done = []
    stained = applying.StainWriter._patch

    def stops(self, id, reference, root):
        if len(done) == 9:
            raise KeyboardInterrupt
        done.append(id)
        return stained(self, id, reference, root)

    monkeypatch.setattr("medglean.stain.task.ROWS", 4)
    monkeypatch.setattr(applying.StainWriter, "_patch", stops)
    with pytest.raises(KeyboardInterrupt):
        work.predict(source, tmp_path / "out")
    again = []
    monkeypatch.setattr(
        applying.StainWriter, "_patch", lambda self, *of: again.append(of) or stained(self, *of)
    )
    table = work.predict(source, tmp_path / "out", resume=True)

    assert len(table) == 16
    assert len(again) == 8  # two parts of four were done


def test_a_slide_becomes_a_pyramid_of_the_same_size_and_resolution(work, slide, tmp_path):
    out = tmp_path / "stained.ome.tif"

    table = work.predict(slide, out)

    assert table["kind"].tolist() == ["slide"]
    with open_slide(out) as made:
        assert made.mpp == pytest.approx((0.5, 0.5))
        assert made.size_px[1] == 340
        assert made.size_px[0] >= 300
    with tifffile.TiffFile(out) as file:
        assert file.is_ome
        assert "not for diagnosis" in file.ome_metadata
    assert json.loads((tmp_path / "stained.geojson").read_text())["type"] == "FeatureCollection"
    assert not out.with_name(out.name + ".part").exists()


def test_slides_and_patches_of_a_manifest_go_into_one_folder(work, slide, tmp_path):
    patch = next((work.manifest.parent / "set/he").iterdir())
    frame = pd.DataFrame({"id": ["slide", "patch"], "image": [slide.name, patch.name]})
    folder = tmp_path / "set"
    folder.mkdir()
    shutil.copy(slide, folder)
    shutil.copy(patch, folder)

    table = work.predict(Manifest.from_frame(frame, folder), tmp_path / "out")

    assert table["kind"].tolist() == ["slide", "patch"]
    assert all((tmp_path / "out" / file).is_file() for file in table["file"])


def test_a_region_of_a_slide_is_a_patch(work, slide, tmp_path):
    reference = f"{slide.name}#level=0,x=100,y=90,w=60,h=50"
    frame = pd.DataFrame({"id": ["region"], "image": [reference]})

    table = work.predict(Manifest.from_frame(frame, slide.parent), tmp_path / "out")

    assert table[["kind", "height_px", "width_px"]].to_numpy().tolist() == [["patch", 50, 60]]


def test_a_slide_without_resolution_is_refused_until_it_is_given(work, tmp_path):
    bare = tmp_path / "bare.tif"
    rng = np.random.default_rng(0)
    pixels = rng.integers(60, 250, (160, 160, 3), dtype=np.uint8)
    with tifffile.TiffWriter(bare) as file:
        file.write(pixels, tile=(64, 64), photometric="rgb", subifds=0)
        file.write(pixels[::2, ::2], tile=(64, 64), photometric="rgb", subfiletype=1)

    with pytest.raises(DataError, match=r"slide\.mpp"):
        work.predict(bare, tmp_path / "a.ome.tif")
    work.predict(bare, tmp_path / "b.ome.tif", "slide.mpp=0.25", "slide.tissue=false")

    with open_slide(tmp_path / "b.ome.tif") as made:
        assert made.mpp == pytest.approx((0.25, 0.25))
    assert not (tmp_path / "a.ome.tif").exists()


@pytest.mark.parametrize(
    ("override", "error", "told"),
    [
        ("generator.width=8", UsageError, "can be changed"),
        ("fit.seed=3", UsageError, "can be changed"),
        ("slide.tile_px=65", PresetError, "not a multiple of 16"),
        ("slide.speed=3", PresetError, "speed"),
        ("white.reapply=own", PresetError, "targets are not normalised"),
    ],
)
def test_settings_that_cannot_change_while_applying_are_refused(
    work, tmp_path, override, error, told
):
    with pytest.raises(error, match=told):
        work.predict(work.manifest.parent / "set/he", tmp_path / "out", override)


def test_a_file_is_written_for_one_slide_alone(work, tmp_path):
    with pytest.raises(UsageError, match="for a stain of one slide"):
        work.predict(work.manifest.parent / "set/he", tmp_path / "all.ome.tif")


def test_a_run_of_something_else_is_refused(work, tmp_path):
    other = tmp_path / "run"
    shutil.copytree(work.run, other)
    record = json.loads((other / "run.json").read_text())
    (other / "run.json").write_text(json.dumps({**record, "task": "stain-evaluate"}))

    with pytest.raises(RunFolderError, match="a run of 'stain-evaluate'"):
        api.predict(other, work.manifest, out=tmp_path / "out")


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(work, tmp_path, capsys):
    preset = tmp_path / "p.toml"
    preset.write_text(tiny_preset(white={"normalise": True, "reapply": "training"}).to_toml())
    before = sorted(tmp_path.iterdir())

    status = cli.run(["train", "stain", str(preset), str(work.manifest), "--dry-run"])

    said = capsys.readouterr().out
    assert status == 0
    assert "favor attention on the skip connections 3" in said
    assert "first a classifier of the levels on H&E" in said
    assert "adversarial 1, level 1, l1 100" in said
    assert "mean white is put back" in said
    assert "0: 4, 1+: 4, 2+: 4, 3+: 4" in said
    assert sorted(tmp_path.iterdir()) == before


def test_without_pairs_kept_aside_the_report_says_what_was_measured(work, tmp_path):
    report = work.train(
        tmp_path / "run", split={"train": 1.0, "val": 0.0, "test": 0.0}, fit={"max_steps": 1}
    )

    assert any("neither a test nor a validation part" in one for one in report.warnings)
    assert len(pd.read_parquet(tmp_path / "run/results.parquet")) == 16


def test_the_mean_colour_trains_nothing_and_paints_it(work, tmp_path):
    work.train(tmp_path / "run", method="mean-colour", measure={"judge": False})
    stainer = load_stainer(tmp_path / "run")

    table = api.predict(
        tmp_path / "run",
        next((work.manifest.parent / "set/he").iterdir()),
        out=tmp_path / "out",
        overrides=["predict.legend=false"],
    )

    painted = np.asarray(Image.open(tmp_path / "out" / table["file"][0]))
    assert not stainer.networks
    assert len(np.unique(painted.reshape(-1, 3), axis=0)) == 1
    assert np.abs(painted[0, 0] - 255 * stainer.colour).max() <= 0.51
