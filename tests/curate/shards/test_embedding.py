"""Embedding one shard: batches, images that fail, resuming."""

from __future__ import annotations

import numpy as np
import pytest
from tests.curate.shards.clips import clip_manifest, clip_values
from tests.curate.shards.encoders import TableEncoder

from medglean.curate.shards.embedding import embed_shard, images_path, read_embeddings
from medglean.errors import EmbeddingError, UsageError


@pytest.fixture
def shard(tmp_path):
    """A folder with one shard of ten images, and the table of their embeddings."""
    values, clip = clip_values(10, clips=3, width=4)
    np.save(tmp_path / "table.npy", values)
    images_path(tmp_path, 0).parent.mkdir()
    clip_manifest(clip, tmp_path).write(images_path(tmp_path, 0))
    return tmp_path, values


def test_embeds_in_batches_and_once(shard):
    folder, values = shard
    encoder = TableEncoder(folder / "table.npy", log=folder / "log.txt")

    mark, told = embed_shard(encoder, folder, 0, batch=4)
    again, _ = embed_shard(encoder, folder, 0, batch=4)

    assert (folder / "log.txt").read_text() == "0 4\n4 4\n8 2\n"
    assert again == mark
    assert told == []
    assert (mark["rows"], mark["usable"], mark["width"], mark["problems"]) == (10, 10, 4, [])
    assert mark["encoder"] == encoder.record["sha256"]
    read, usable = read_embeddings(folder, 0)
    assert (read == values).all()
    assert usable.all()


def test_images_that_fail_are_set_aside_one_by_one(shard):
    folder, values = shard
    encoder = TableEncoder(folder / "table.npy", fails=("5",), nan=("1",), zero=("9",))

    mark, _ = embed_shard(encoder, folder, 0, batch=4)

    read, usable = read_embeddings(folder, 0)
    assert np.flatnonzero(~usable).tolist() == [1, 5, 9]
    assert (read[usable] == values[usable]).all()
    assert (read[~usable] == 0).all()
    assert mark["usable"] == 7
    told = {problem["file"]: problem for problem in mark["problems"]}
    assert told["5.png"]["kind"] == "ReadError"
    assert told["5.png"]["remedy"] == "Copy it again. It is set aside and cannot be selected."
    assert "NaN" in told["image '1'"]["found"]
    assert "all zeros" in told["image '9'"]["found"]
    assert not any(problem["fatal"] for problem in mark["problems"])


def test_warnings_of_the_encoder_are_told_once(shard):
    folder, _ = shard
    encoder = TableEncoder(folder / "table.npy", odd=("2", "6"), fails=("5",))

    mark, _ = embed_shard(encoder, folder, 0, batch=4)

    assert [problem["file"] for problem in mark["problems"]] == ["2", "5.png", "6"]
    assert mark["usable"] == 9


def test_another_encoder_batch_or_image_is_another_part(shard):
    folder, values = shard
    embed_shard(TableEncoder(folder / "table.npy"), folder, 0, batch=4)
    np.save(folder / "table.npy", values + 1)

    mark, [told] = embed_shard(TableEncoder(folder / "table.npy"), folder, 0, batch=4)
    other, [told_again] = embed_shard(TableEncoder(folder / "table.npy"), folder, 0, batch=5)

    assert told.kind == told_again.kind == "outdated-part"
    assert (read_embeddings(folder, 0)[0] == values + 1).all()
    assert mark["key"] != other["key"]


def test_a_shard_that_fails_as_a_whole_is_not_marked_as_done(shard):
    folder, _ = shard
    every = tuple(map(str, range(10)))
    encoder = TableEncoder(folder / "table.npy", fails=every)

    mark, _ = embed_shard(encoder, folder, 0, batch=4)

    assert (mark["usable"], mark["width"], len(mark["problems"])) == (0, 0, 10)
    assert not (folder / "embeddings").exists()
    assert embed_shard(TableEncoder(folder / "table.npy"), folder, 0, batch=4)[0]["usable"] == 10


class Changing(TableEncoder):
    def encode(self, manifest):
        values, told = super().encode(manifest)
        return values[:, : 3 if "0" in manifest.ids else 4], told


class Short(TableEncoder):
    def encode(self, manifest):
        values, told = super().encode(manifest)
        return values[1:], told


class Nameless(TableEncoder):
    record = {"name": "table"}  # noqa: RUF012


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        (Changing, EmbeddingError, r"different lengths, \[3, 4\]"),
        (Short, UsageError, r"shape \(3, 4\) for 4 images; expected \(4, d\)"),
        (Nameless, UsageError, r"keys \['name'\] and no 'sha256'"),
    ],
)
def test_an_encoder_that_breaks_its_word_is_refused(shard, kind, error, message):
    folder, _ = shard

    with pytest.raises(error, match=message):
        embed_shard(kind(folder / "table.npy"), folder, 0, batch=4)
