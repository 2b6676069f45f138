"""The command over shards: in this process, and once on a Ray cluster of two CPUs."""

from __future__ import annotations

import json
import os
import sys

import numpy as np
import pandas as pd
import pytest
from tests.curate.shards.here import in_this_process

from medglean import api, cli
from medglean.curate.shards import covering, engine
from medglean.data.index import index
from medglean.data.manifest import Manifest
from medglean.data.phantom import write_ultrasound
from medglean.errors import DataError, RunFolderError, UsageError

CLIPS, FRAMES = 12, 5
PCA = ("embedding.encoder=pca", "embedding.pca.components=8")
FILES = {
    "done", "run.json", "preset.toml", "environment.json", "log.txt", "selected.csv", "order.csv",
    "dropped.csv", "duplicates.csv", "outliers.csv", "redundancy.json", "problems.csv",
    "metrics.json", "report.html", "report.json", "encoder", "shards",
}  # fmt: skip


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("Ultraschall bilder")
    write_ultrasound(
        folder / "images",
        patients=CLIPS // 2,
        clips_per_patient=(2, 2),
        frames=FRAMES,
        size_px=(64, 64),
    )
    index(folder / "images", out=folder / "data.parquet")
    return folder


@pytest.fixture(scope="module")
def alone(clips):
    """What one machine chooses."""
    api.curate(
        clips / "data.parquet", budget=12, out=clips / "alone", preset="enrich2023", overrides=PCA
    )
    return clips / "alone"


@pytest.fixture
def here(monkeypatch):
    """Run what workers would run in this process."""
    monkeypatch.setattr(engine, "connect", in_this_process)


def curated(data, out, *overrides, budget=12, shards=3, **options):
    return api.curate(
        data, budget=budget, out=out, preset="enrich2023", overrides=[*PCA, *overrides],
        engine="ray", shards=shards, **options,
    )  # fmt: skip


def ids_in(run):
    return pd.read_csv(run / "selected.csv", dtype={"id": str})["id"].tolist()


def radius_of(run, alone):
    """Return the largest angle from an image to the nearest selected one."""
    with np.load(alone / "embedding.npz") as kept:
        values, ids = kept["embeddings"], kept["ids"].tolist()
    chosen = values[[ids.index(name) for name in ids_in(run)]]
    return covering.angle(float(covering.nearest_selected(values, chosen)[0].min()))


def rows_of(report, title):
    table = next(table for table in report.tables if table.title == title)
    return {row[0]: row[1] for row in table.rows}


def test_one_shard_writes_what_one_machine_writes(clips, alone, tmp_path, here):
    report = curated(clips / "data.parquet", tmp_path / "out", shards=None)

    assert rows_of(report, "What the shards cost")["Shards"] == 1
    assert {path.name for path in (tmp_path / "out").iterdir()} >= FILES
    written = {path.name for path in alone.iterdir()}
    assert written - {path.name for path in (tmp_path / "out").iterdir()} == {"embedding.npz"}
    for name in ("selected.csv", "dropped.csv"):
        ours, theirs = (
            pd.read_csv(place / name).drop(columns="root", errors="ignore")
            for place in (tmp_path / "out", alone)
        )
        pd.testing.assert_frame_equal(ours, theirs, atol=1e-6)
    keys = ["first", "second"]
    ours, theirs = (
        pd.read_csv(place / "duplicates.csv").sort_values(keys, ignore_index=True)
        for place in (tmp_path / "out", alone)
    )
    pd.testing.assert_frame_equal(
        ours.drop(columns="family"), theirs.drop(columns=["family", "ssim"]), atol=1e-6
    )
    ours, theirs = (
        json.loads((place / "redundancy.json").read_text()) for place in (tmp_path / "out", alone)
    )
    assert ours == theirs
    ours, theirs = (
        json.loads((place / "metrics.json").read_text()) for place in (tmp_path / "out", alone)
    )
    assert ours.pop("Covering radius")["note"].endswith("one shard: exactly one machine's order")
    for name, metric in theirs.items():
        assert ours[name]["value"] == pytest.approx(metric["value"], abs=1e-6)
        assert ours[name]["note"] == metric["note"]


def test_the_page_tells_what_shards_cost_and_leave_out(clips, alone, tmp_path, here):
    report = curated(clips / "data.parquet", tmp_path / "out")

    cost = rows_of(report, "What the shards cost")
    radius, least = radius_of(tmp_path / "out", alone), list(cost.values())[-3]
    assert cost["Shards"] == 3
    assert cost["Never divided between shards"] == "patient"
    assert cost["Covering radius, over all images (rad)"] == pytest.approx(radius, abs=1e-5)
    factor = float(cost["So this one's is at most so many times the best"])
    assert radius / least <= factor < radius / least + 0.011
    assert cost["Proven before the run: at most so many times"] == "4"
    assert f"at most {factor:.2f} times the best possible" in report.metrics[-1].note
    left_out = rows_of(report, "What was left out over shards")
    assert "Near-duplicates in different shards" in left_out
    assert "Redundancy and map of all images" not in left_out
    assert "Research use only" in (tmp_path / "out" / "report.html").read_text()
    order = pd.read_csv(tmp_path / "out" / "order.csv", dtype={"id": str})
    assert order["id"].tolist() == ids_in(tmp_path / "out")
    assert radius <= 1.25 * radius_of(alone, alone)


def test_large_sets_are_looked_at_on_a_sample(clips, tmp_path, here, monkeypatch):
    monkeypatch.setattr("medglean.curate.sharded.look.SAMPLE", 40)
    monkeypatch.setattr("medglean.curate.comparison.LOOKED_AT", 30)

    report = curated(clips / "data.parquet", tmp_path / "out")

    record = json.loads((tmp_path / "out" / "redundancy.json").read_text())
    assert record["random_images"] == 40
    assert record["pairs"]["all"] == 40 * 39 // 2
    told = rows_of(report, "What was left out over shards")["Redundancy and map of all images"]
    assert "40 images drawn at random from 60" in told
    assert "40 images drawn at random from 60" in report.figures[0].caption


def test_unreadable_images_are_set_aside_and_positions_stay_right(clips, tmp_path, here):
    frame = Manifest.read(clips / "data.parquet").frame[["id", "image", "patient", "group"]]
    (clips / "images" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    broken = pd.DataFrame([["broken", "images/broken.png", "p0", "c0"]], columns=frame.columns)
    manifest = Manifest.from_frame(pd.concat([broken, frame]), clips)

    report = curated(manifest, tmp_path / "out")

    assert "broken" in (tmp_path / "out" / "problems.csv").read_text()
    assert report.warnings[0].startswith("Images that could not be read or embedded")
    chosen = pd.read_csv(tmp_path / "out" / "selected.csv", dtype={"id": str})
    dropped = pd.read_csv(tmp_path / "out" / "dropped.csv", dtype={"id": str, "kept": str})
    assert len(chosen) == 12
    assert sorted([*chosen["id"], *dropped["id"]]) == sorted(frame["id"])
    group = dict(zip(frame["id"], frame["group"], strict=True))
    same = [group[one] == group[other] for one, other in zip(dropped["id"], dropped["kept"],
                                                             strict=True)]  # fmt: skip
    assert np.mean(same) > 0.9  # a frame is represented by one of its own clip
    pairs = pd.read_csv(tmp_path / "out" / "duplicates.csv", dtype=str)
    assert (pairs["first"].map(group) == pairs["second"].map(group)).mean() > 0.9


def test_only_the_training_part_is_embedded_and_nothing_taken_is_chosen_again(
    clips, tmp_path, here
):
    manifest = Manifest.read(clips / "data.parquet")
    patients = sorted(set(manifest.frame["patient"]))
    parts = ["test" if one in patients[:2] else "train" for one in manifest.frame["patient"]]
    divided = manifest.with_columns(split=parts)
    inside = [name for name, part in zip(divided.ids, parts, strict=True) if part == "train"]
    pd.DataFrame({"id": inside[::9]}).to_csv(tmp_path / "before.csv", index=False)

    report = curated(
        divided, tmp_path / "out", "selection.max_per_group=2", budget=6,
        preselected=tmp_path / "before.csv",
    )  # fmt: skip

    chosen = pd.read_csv(tmp_path / "out" / "selected.csv", dtype={"id": str})
    assert chosen["id"][: len(inside[::9])].tolist() == inside[::9]
    assert chosen["id"].is_unique
    assert set(chosen["patient"]) <= set(patients[2:])
    assert chosen["group"].value_counts().max() <= 2
    assert report.data["kept out, being of a validation or test part"] == 20
    assert "no bound is proven" in report.metrics[-1].note
    cost = rows_of(report, "What the shards cost")
    assert "not proven" in cost["At most so many times the best radius"]
    left_out = rows_of(report, "What was left out over shards")
    assert "Near-duplicates across the split" in left_out


def test_random_is_one_machines(clips, tmp_path, here):
    curated(clips / "data.parquet", tmp_path / "out", "selection.method=random")
    api.curate(
        clips / "data.parquet", budget=12, out=tmp_path / "alone", preset="enrich2023",
        overrides=[*PCA, "selection.method=random"],
    )  # fmt: skip

    assert ids_in(tmp_path / "out") == ids_in(tmp_path / "alone")


def test_a_run_that_stopped_goes_on_with_what_it_has(clips, tmp_path, here, monkeypatch):
    out = tmp_path / "out"

    def stop(*_given, **_options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("medglean.curate.sharded.task.write_lists", stop)
        with pytest.raises(KeyboardInterrupt):
            curated(clips / "data.parquet", out)
    parts = sorted((out / "shards").rglob("part-*.parquet"))
    times = {part: part.stat().st_mtime_ns for part in parts if part.parent.name != "images"}
    assert {part.parent.name for part in times} == {
        "embeddings", "candidates", "coverage", "pairs",
    }  # fmt: skip

    for other in ({"shards": 2}, {"budget": 11}, {"oversample": 2.0}):
        told = f"{next(iter(other))}: .* then, {next(iter(other.values()))} now"
        with pytest.raises(RunFolderError, match=told):
            curated(clips / "data.parquet", out, resume=True, **other)
    curated(clips / "data.parquet", out, resume=True)

    assert {part: part.stat().st_mtime_ns for part in times} == times
    page = (out / "report.html").stat().st_mtime_ns
    again = curated(clips / "data.parquet", out, resume=True)
    assert again.title == "Which images to label: data.parquet"
    assert (out / "report.html").stat().st_mtime_ns == page
    with pytest.raises(RunFolderError, match="task: curate over shards then, curate now"):
        api.curate(
            clips / "data.parquet", budget=12, out=out, preset="enrich2023", overrides=PCA,
            resume=True,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "options", "message"),
    [
        (("selection.method=rounds",), {}, "needs all images at once.*--preset enrich2023"),
        (("outliers.gate=true",), {}, r"outlier gate compares.*outliers\.gate=false"),
        (
            ("selection.stratum=label", 'selection.quotas={"b-lines" = 3}'),
            {},
            r"selection\.quotas are shared out.*each stratum",
        ),
        (("selection.patient=who",), {}, "shards are made by the column 'patient'"),
        (
            ("selection.method=random", "selection.start=3"),
            {},
            r"selection\.start concerns the method enrich alone",
        ),
        (("embedding.centre=true",), {}, r"embedding\.centre needs all images"),
        (("selection.start=0",), {}, "start of at least 1 image"),
        (("selection.start=20",), {}, "budget is 12 images, and 20 are drawn"),
        (("selection.group=none", "selection.max_per_group=2"), {}, "no groups are known"),
        ((), {"budget": 61}, "budget is 61, and there are 60"),
        ((), {"shards": 7}, "Ask for at most 6 shards"),
        ((), {"oversample": 0.5}, "oversample must be a number of at least 1"),
        ((), {"cache": "somewhere"}, "over shards no decoded image is kept"),
    ],
)
def test_what_shards_cannot_do_is_refused_before_anything_is_written(
    clips, tmp_path, overrides, options, message
):
    with pytest.raises(UsageError, match=message):
        curated(clips / "data.parquet", tmp_path / "out", *overrides, **options)
    assert not (tmp_path / "out").exists()


def test_without_ray_nothing_is_written(clips, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)

    with pytest.raises(UsageError, match=r"pip install 'medglean\[ray\]'"):
        curated(clips / "data.parquet", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_options_of_shards_belong_to_the_engine(clips, tmp_path):
    with pytest.raises(UsageError, match="shards, address: for the engine ray alone"):
        api.curate(clips / "data.parquet", budget=3, out=tmp_path / "out", shards=2, address="auto")
    with pytest.raises(UsageError, match="engine 'dask': expected one of local, ray"):
        api.curate(clips / "data.parquet", budget=3, out=tmp_path / "out", engine="dask")


def test_nothing_to_choose_from_is_told(clips, tmp_path):
    tested = Manifest.read(clips / "data.parquet").with_columns(split=["test"] * 60)

    with pytest.raises(DataError, match="no image can be chosen: none of 60"):
        curated(tested, tmp_path / "out")


@pytest.mark.slow
# Ray Data 2.60 reads settings of its own that it has deprecated itself
@pytest.mark.filterwarnings(
    "ignore:`use_(push_based_shuffle|polars|arrow_tensor_v2)` is deprecated:DeprecationWarning"
)
def test_the_command_with_ray_covers_as_one_machine_does(
    clips, alone, tmp_path, capsys, monkeypatch
):
    pytest.importorskip("ray")
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    out = tmp_path / "out"
    arguments = ["curate", str(clips / "data.parquet"), "-b", "12", "-o", str(out)]
    arguments += ["--preset", "enrich2023", "--engine", "ray", "--shards", "2", *PCA]

    assert cli.run(arguments) == 0

    assert "Images to label 12" in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} >= FILES
    assert len(list((out / "shards" / "embeddings").glob("*.done.json"))) == 2
    assert radius_of(out, alone) <= 1.25 * radius_of(alone, alone)
