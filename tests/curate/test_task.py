"""The command end to end, on made-up clips of near-duplicate frames."""

import json

import numpy as np
import pandas as pd
import pytest

from medglean import api, cli
from medglean.data.index import index
from medglean.data.manifest import Manifest
from medglean.data.phantom import write_ultrasound
from medglean.errors import EmbeddingError, PresetError, RunFolderError, UsageError

FILES = {
    "done", "preset.toml", "environment.json", "log.txt", "selected.csv", "order.csv",
    "dropped.csv", "duplicates.csv", "outliers.csv", "redundancy.json", "embedding.npz",
    "problems.csv", "metrics.json", "report.html", "report.json",
}  # fmt: skip
CLIPS, FRAMES = 12, 5


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
def run(clips):
    api.curate(
        clips / "data.parquet",
        budget="20%",
        out=clips / "run",
        overrides=["outliers.gate=false"],
        cache=clips / "cache",
    )
    return clips / "run"


def curated(clips, out, *overrides, budget=12, **options):
    return api.curate(
        clips / "data.parquet",
        budget=budget,
        out=out,
        overrides=overrides,
        cache=clips / "cache",
        **options,
    )


def test_a_run_holds_everything_that_was_asked_for(run):
    assert {path.name for path in run.iterdir()} >= FILES
    page = (run / "report.html").read_text()
    assert "Research use only" in page
    assert "Label these 12 of 60 images" in page
    shares = json.loads((run / "redundancy.json").read_text())["share_above"]
    assert shares["within"]["0.9"] > shares["between"]["0.9"]


def test_the_work_list_is_a_manifest_with_reasons(run, clips):
    chosen = Manifest.read(run / "selected.csv")

    assert chosen.frame["rank"].astype(int).tolist() == list(range(1, 13))
    assert chosen.missing_files() == []
    assert set(chosen.frame["curated_by"]) == {"rounds"}
    assert chosen.frame["group"].nunique() == CLIPS  # one frame of each clip in the first round
    assert set(chosen.frame["reason"]) == {"adds most coverage"}
    order = pd.read_csv(run / "order.csv", dtype={"id": str})
    assert order["id"].tolist()[:12] == chosen.ids
    assert sorted(order["id"]) == sorted(Manifest.read(clips / "data.parquet").ids)


def test_the_embedding_is_kept_with_its_origin(run):
    with np.load(run / "embedding.npz", allow_pickle=False) as kept:
        assert kept["embeddings"].shape[0] == CLIPS * FRAMES
        assert json.loads(str(kept["encoder"]))["name"] == "pca"


def test_the_gate_lists_what_it_keeps_out(clips, tmp_path):
    report = curated(clips, tmp_path / "out", "outliers.deviations=0.5", "outliers.most_share=0.2")

    listed = pd.read_csv(tmp_path / "out" / "outliers.csv")
    order = pd.read_csv(tmp_path / "out" / "order.csv")
    assert len(listed) > 3
    assert set(listed["id"]).isdisjoint(order["id"])
    assert len(listed) + len(order) == CLIPS * FRAMES
    assert any("outlier gate leaves out" in warning for warning in report.warnings)


def test_it_is_a_function_of_the_seed(run, clips, tmp_path):
    curated(clips, tmp_path / "same", "outliers.gate=false")
    curated(clips, tmp_path / "other", "selection.method=random", "seed=1")

    first = (run / "order.csv").read_text()
    assert pd.read_csv(tmp_path / "same" / "order.csv")["id"].equals(
        pd.read_csv(run / "order.csv")["id"]
    )
    assert (tmp_path / "other" / "order.csv").read_text() != first


def test_a_finished_curation_is_left_alone(run, clips):
    before = (run / "report.html").stat().st_mtime_ns
    report = curated(clips, run, "outliers.gate=false", budget="20%", resume=True)

    assert report.title == "Which images to label: data.parquet"
    assert (run / "report.html").stat().st_mtime_ns == before


def test_going_on_with_another_budget_is_refused(run, clips):
    with pytest.raises(RunFolderError, match="budget: 20% then, 40% now"):
        curated(clips, run, "outliers.gate=false", budget="40%", resume=True)
    with pytest.raises(RunFolderError, match="images taken beforehand: None then"):
        curated(
            clips, run, "outliers.gate=false", budget="20%", resume=True,
            preselected=run / "selected.csv",
        )  # fmt: skip


def test_only_the_training_part_can_be_chosen(clips, tmp_path):
    manifest = Manifest.read(clips / "data.parquet")
    patients = sorted(set(manifest.frame["patient"]))
    parts = ["test" if one in patients[:3] else "train" for one in manifest.frame["patient"]]
    divided = manifest.with_columns(split=parts)
    api.curate(divided, budget=8, out=tmp_path / "out", cache=clips / "cache")

    order = pd.read_csv(tmp_path / "out" / "order.csv")
    assert set(order["patient"]) == set(patients[3:])
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["data"]["kept out, being of a validation or test part"] == 30


def test_copies_across_a_split_are_listed(clips, tmp_path):
    manifest = Manifest.read(clips / "data.parquet")
    frames = [name.endswith("4.png") for name in manifest.ids]  # the last frame of each clip
    parts = ["test" if last else "train" for last in frames]
    report = api.curate(
        manifest.with_columns(split=parts), budget=8, out=tmp_path / "out", cache=clips / "cache"
    )

    leaks = pd.read_csv(tmp_path / "out" / "leakage.csv")
    assert len(leaks) > 0
    assert (leaks["split_first"] != leaks["split_second"]).all()
    assert set(leaks["finding"]) == {"split leak"}
    assert leaks["same_group"].mean() > 0.5
    assert any("different parts of the split" in warning for warning in report.warnings)


def test_images_taken_beforehand_are_not_chosen_again(clips, tmp_path):
    manifest = Manifest.read(clips / "data.parquet")
    before = manifest.ids[::FRAMES][:3]
    pd.DataFrame({"id": before}).to_csv(tmp_path / "before.csv", index=False)
    curated(clips, tmp_path / "out", budget=9, preselected=tmp_path / "before.csv")

    chosen = Manifest.read(tmp_path / "out" / "selected.csv").frame
    assert chosen["rank"].astype(int).tolist() == [0, 0, 0, *range(1, 10)]
    assert sorted(chosen["id"][:3]) == sorted(before)
    assert chosen["group"].nunique() == CLIPS  # their clips have had their turn


def test_labelled_images_count_as_taken(clips, tmp_path):
    manifest = Manifest.read(clips / "data.parquet")
    labels = [name if row < 10 else None for row, name in enumerate(manifest.frame["label"])]
    api.curate(
        manifest.with_columns(label=labels),
        budget="10%",
        out=tmp_path / "out",
        overrides=["selection.preselected=labelled"],
        cache=clips / "cache",
    )

    chosen = Manifest.read(tmp_path / "out" / "selected.csv").frame
    assert (chosen["rank"].astype(int) == 0).sum() == 10
    assert (chosen["rank"].astype(int) > 0).sum() == 5  # a tenth of the other fifty


def test_quotas_of_a_column(clips, tmp_path):
    curated(
        clips,
        tmp_path / "out",
        "selection.stratum=label",
        'selection.quotas={"b-lines" = "75%"}',
        "selection.method=coverage",
    )

    counts = Manifest.read(tmp_path / "out" / "selected.csv").frame["label"].value_counts()
    assert counts.to_dict() == {"b-lines": 9, "a-lines": 3}


def test_embeddings_made_elsewhere(clips, tmp_path):
    manifest = Manifest.read(clips / "data.parquet")
    values = np.random.default_rng(0).normal(size=(60, 8))
    np.savez(tmp_path / "mine.npz", ids=np.array(manifest.ids), embeddings=values)
    asked = ("embedding.encoder=arrays", f"embedding.arrays.path={tmp_path / 'mine.npz'}")
    curated(clips, tmp_path / "out", *asked)
    assert len(Manifest.read(tmp_path / "out" / "selected.csv")) == 12

    values[7, 3] = np.nan
    np.savez(tmp_path / "mine.npz", ids=np.array(manifest.ids), embeddings=values)
    with pytest.raises(EmbeddingError, match=manifest.ids[7]):
        curated(clips, tmp_path / "nan", *asked)


def test_an_unreadable_image_is_told_and_nothing_is_lost(clips, tmp_path):
    frame = Manifest.read(clips / "data.parquet").frame[["id", "image", "patient", "group"]].copy()
    (clips / "images" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    frame.loc[len(frame)] = ["broken", "images/broken.png", "p9", "c99"]
    manifest = Manifest.from_frame(frame, clips)
    report = api.curate(
        manifest,
        budget=5,
        out=tmp_path / "out",
        overrides=["outliers.gate=false"],
        cache=clips / "cache",
    )

    assert "broken" in (tmp_path / "out" / "problems.csv").read_text()
    assert len(pd.read_csv(tmp_path / "out" / "order.csv")) == 60
    assert any("could not be read" in warning for warning in report.warnings)


@pytest.mark.parametrize(
    ("overrides", "options", "error", "message"),
    [
        ((), {"budget": 61}, UsageError, "budget is 61, and there are 60"),
        ((), {"budget": "0%"}, UsageError, "above 0"),
        (("selection.method=magic",), {}, PresetError, "there is no method 'magic'"),
        (
            ("selection.stratum=site", 'selection.quotas={"A" = 3}'),
            {},
            UsageError,
            "no such column",
        ),
        (("selection.quotas={A = 3}",), {}, PresetError, "quotas and stratum belong together"),
        (
            ("selection.method=enrich", "selection.start=20"),
            {},
            UsageError,
            "budget is 12 images, and 20 are drawn",
        ),
    ],
)
def test_what_cannot_be_met_is_refused(clips, tmp_path, overrides, options, error, message):
    with pytest.raises(error, match=message):
        curated(clips, tmp_path / "out", *overrides, **options)


def test_unknown_ids_taken_beforehand_are_named(clips, tmp_path):
    pd.DataFrame({"id": ["nobody"]}).to_csv(tmp_path / "before.csv", index=False)
    with pytest.raises(UsageError, match=r"1 of 1 ids are not among the images .* nobody"):
        curated(clips, tmp_path / "out", preselected=tmp_path / "before.csv")
    pd.DataFrame({"name": ["x"]}).to_csv(tmp_path / "before.csv", index=False)
    with pytest.raises(UsageError, match="expected a column 'id'"):
        curated(clips, tmp_path / "two", preselected=tmp_path / "before.csv")


def test_the_command_says_what_to_do_next(clips, tmp_path, capsys):
    out = tmp_path / "list"
    arguments = ["curate", str(clips / "data.parquet"), "-b", "25%", "-o", str(out)]
    arguments += ["--seed", "3", "--cache", str(clips / "cache"), "selection.method=random"]

    assert cli.run(arguments) == 0
    told = capsys.readouterr().out
    assert "Images to label 15" in told
    assert "Patients with a selected image: This selection " in told  # beside random, interval
    assert f"Next: label {out / 'selected.csv'}" in told
    assert 'method = "random"' in (out / "preset.toml").read_text()
    assert "seed = 3" in (out / "preset.toml").read_text()


def test_a_dry_run_checks_and_writes_nothing(clips, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["curate", str(clips / "data.parquet"), "--dry-run"]

    assert cli.run([*arguments, "-b", "30%"]) == 0
    told = capsys.readouterr().out
    assert "images: 60 of 60 can be chosen, 0 of them are taken beforehand; 12 groups" in told
    assert "to label: 18" in told
    assert "Nothing was written." in told
    assert cli.run([*arguments, "-b", "61"]) == 2
    assert list(tmp_path.iterdir()) == []
