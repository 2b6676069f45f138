"""Runs over shards, whole and damaged; in this process, with the workers' own functions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.curate.shards.clips import clip_manifest, clip_values
from tests.curate.shards.encoders import TableEncoder
from tests.curate.shards.here import in_this_process

from medglean.curate.duplicates import near_duplicates
from medglean.curate.order import Limits
from medglean.curate.select import select
from medglean.curate.shards import covering, engine
from medglean.curate.shards.engine import run_sharded
from medglean.errors import RunFolderError, UsageError

IMAGES, CLIPS, SHARDS, BUDGET, START = 240, 16, 4, 30, 6
OPTIONS = {"shards": SHARDS, "budget": BUDGET, "start": START, "seed": 3, "batch": 32}


@pytest.fixture
def here(monkeypatch):
    """Run what workers would run in this process."""
    monkeypatch.setattr(engine, "connect", in_this_process)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A manifest, its embeddings, and the clip of each image."""
    folder = tmp_path_factory.mktemp("images")
    values, clip = clip_values(IMAGES, clips=CLIPS, spread=0.05)
    np.save(folder / "table.npy", values)
    manifest = clip_manifest(clip, folder).write(folder / "manifest.parquet")
    return manifest, values, clip


def encoder_of(manifest, **options):
    return TableEncoder(manifest.root / "table.npy", **options)


def results(folder):
    """Return the bytes of every part and mark."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def whole(images, tmp_path, here):
    """An unbroken run, with what it told about its progress."""
    manifest, _, _ = images
    folder, stages = tmp_path / "whole" / "run", []
    folder.parent.mkdir()
    run = run_sharded(
        manifest,
        encoder=encoder_of(manifest, log=folder.parent / "log.txt"),
        out=folder,
        progress=lambda *told: stages.append(told),
        **OPTIONS,
    )
    return folder, run, stages


def test_selection_is_close_to_one_machines(images, whole):
    _, values, _ = images
    _, run, _ = whole
    alone = select(values, method="enrich", budget=BUDGET, start=START, seed=3, draws=0)

    similarity, _ = covering.nearest_selected(values, values[run.ranking.order])
    radius = covering.angle(float(similarity.min()))
    one, _ = covering.nearest_selected(values, values[alone.chosen])

    assert len(set(run.ranking.order.tolist())) == BUDGET
    assert run.ranking.order[:START].tolist() == alone.chosen[:START].tolist()
    assert radius <= 1.25 * covering.angle(float(one.min()))
    assert run.certificate.radius == pytest.approx(radius, abs=1e-7)
    assert 1 <= run.certificate.factor <= 4
    assert run.mean_similarity == pytest.approx(similarity.mean())
    assert run.problems == ()


def test_one_shard_is_one_machine_bit_for_bit(images, tmp_path, here):
    manifest, values, _ = images
    alone = select(values, method="enrich", budget=BUDGET, start=START, seed=3, draws=0)

    run = run_sharded(
        manifest, encoder=encoder_of(manifest), out=tmp_path / "run", **{**OPTIONS, "shards": 1}
    )

    assert run.ranking.order.tolist() == alone.chosen.tolist()
    assert run.ranking.similarity.tobytes() == alone.ranking.similarity[:BUDGET].tobytes()
    assert run.ranking.reason == alone.ranking.reason[:BUDGET]


def test_folder_holds_all_that_was_computed(images, whole):
    manifest, values, clip = images
    folder, run, stages = whole

    assert len(run.parts) == SHARDS
    shards = [pq.read_table(part) for part in run.parts]
    ids = [name for shard in shards for name in shard["id"].to_pylist()]
    assert sorted(ids) == sorted(manifest.ids)
    patients = [{clip[int(name)] // 2 for name in shard["id"].to_pylist()} for shard in shards]
    assert sum(map(len, patients)) == len(set().union(*patients))
    covered = pq.read_table(folder / "coverage" / "part-00000.parquet").to_pydict()
    nearest = values[covered["nearest"]].astype(float)
    own = values[[int(name) for name in covered["id"]]].astype(float)
    cosine = (own * nearest).sum(axis=1)
    cosine /= np.linalg.norm(own, axis=1) * np.linalg.norm(nearest, axis=1)
    np.testing.assert_allclose(covered["similarity"], cosine, atol=1e-12)
    assert set(covered["nearest"]) <= set(run.ranking.order.tolist())
    for stage in ("embed", "rank", "cover"):
        assert (stage, SHARDS, SHARDS) in stages


def test_finished_parts_are_not_made_again_and_damaged_ones_are(images, whole, tmp_path):
    manifest, _, _ = images
    folder, run, _ = whole
    before = results(folder)
    (folder / "embeddings" / "part-00001.done.json").unlink()
    damaged = folder / "embeddings" / "part-00002.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    (folder / "candidates" / "part-00003.parquet").unlink()
    log = tmp_path / "log.txt"

    again = run_sharded(manifest, encoder=encoder_of(manifest, log=log), out=folder, **OPTIONS)

    assert results(folder) == before
    assert again.ranking.order.tolist() == run.ranking.order.tolist()
    assert again.ranking.similarity.tobytes() == run.ranking.similarity.tobytes()
    firsts = {int(line.split()[0]) for line in log.read_text().splitlines()}
    assert {int(run.plan.shard_of[row]) for row in firsts} == {1, 2}
    assert [(Path(told.file).name, told.kind) for told in again.problems] == [
        ("part-00002.parquet", "damaged-part"),
        ("part-00003.parquet", "damaged-part"),
    ]


def test_images_that_fail_are_set_aside_and_random_is_one_machines(images, tmp_path, here):
    manifest, values, _ = images
    encoder = encoder_of(manifest, fails=("7",), nan=("8",), zero=("9",))

    run = run_sharded(
        manifest, encoder=encoder, out=tmp_path / "run", method="random",
        preselected=[11, 10], **OPTIONS,
    )  # fmt: skip

    usable = values.copy()
    usable[7:10] = 0
    alone = select(usable, method="random", budget=BUDGET, preselected=[10, 11], seed=3, draws=0)
    assert run.ranking.order.tolist() == alone.chosen.tolist()
    assert run.ranking.nearest.tolist() == alone.ranking.nearest[:BUDGET].tolist()
    assert np.flatnonzero(~run.usable).tolist() == [7, 8, 9]
    assert len(run.problems) == 3
    assert run.certificate.factor == float("inf")


def test_budget_is_met_though_most_of_a_shard_fails(images, whole, tmp_path, here):
    manifest, _, _ = images
    _, run, _ = whole
    first = [str(row) for row in run.plan.rows(0)]
    encoder = encoder_of(manifest, fails=tuple(first))

    found = run_sharded(
        manifest, encoder=encoder, out=tmp_path / "run", oversample=1.0, **{**OPTIONS, "budget": 90}
    )

    assert len(found.ranking) == 90
    assert len(found.parts) == SHARDS - 1
    assert len(found.problems) == len(first)
    assert not set(map(str, found.ranking.order)) & set(first)


def test_near_duplicates_are_all_those_within_a_shard(images, tmp_path, here):
    manifest, values, _ = images

    run = run_sharded(
        manifest, encoder=encoder_of(manifest, zero=("9",)), out=tmp_path / "run", alike=0.4,
        most_pairs=50, **OPTIONS,
    )  # fmt: skip

    usable = values.copy()
    usable[9] = 0
    everywhere = near_duplicates(usable, threshold=0.4)
    home = run.plan.shard_of
    within = everywhere.select(home[everywhere.first] == home[everywhere.second])
    assert 50 < len(within) < len(everywhere)
    assert run.pairs.total == len(within)
    for name in ("first", "second", "similarity"):
        assert getattr(run.pairs, name).tolist() == getattr(within, name)[:50].tolist()


def test_limits_and_preselected_images(images, tmp_path, here):
    manifest, _, clip = images
    limits = Limits(groups=clip, max_per_group=2)

    run = run_sharded(
        manifest, encoder=encoder_of(manifest), out=tmp_path / "run", limits=limits,
        preselected=[0, 1], oversample=2.0, **{**OPTIONS, "budget": 20, "start": 0},
    )  # fmt: skip

    assert np.bincount(clip[[0, 1, *run.ranking.order]]).max() == 2
    assert not {0, 1} & set(run.ranking.order.tolist())
    assert run.certificate.factor == float("inf")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "coverage"}, "needs all images at once"),
        ({"budget": 0}, "budget must be at least 1, got 0"),
        ({"start": 0}, "between 1 and the budget 30, got 0"),
        ({"start": 31}, "between 1 and the budget 30, got 31"),
        ({"shards": 99}, "8 different values of patient"),
        ({"oversample": 0.5}, "oversample must be"),
    ],
)
def test_what_cannot_be_is_refused(images, tmp_path, options, message):
    manifest, _, _ = images

    with pytest.raises(UsageError, match=message):
        run_sharded(
            manifest, encoder=encoder_of(manifest), out=tmp_path / "run", **{**OPTIONS, **options}
        )


def test_a_folder_of_something_else_is_refused(images, whole, tmp_path):
    manifest, _, _ = images
    folder, _, _ = whole
    encoder = encoder_of(manifest)

    with pytest.raises(RunFolderError, match=r"holds a run over shards\. Resume"):
        run_sharded(manifest, encoder=encoder, out=folder, resume=False, **OPTIONS)
    with pytest.raises(RunFolderError, match="made with another shards, shard_of"):
        run_sharded(manifest, encoder=encoder, out=folder, **{**OPTIONS, "shards": 2})
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(RunFolderError, match="unreadable"):
        run_sharded(manifest, encoder=encoder, out=tmp_path, **OPTIONS)
