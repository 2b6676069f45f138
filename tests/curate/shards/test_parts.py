"""Parts with marks: what counts as done, and what is told."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from medglean import files
from medglean.curate.shards.parts import Part, matrix, vectors
from medglean.errors import DataError


@pytest.fixture
def part(tmp_path):
    part = Part(tmp_path, "embeddings", 7)
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    part.write({"id": pa.array(["a", "b", "c"]), "values": vectors(values)}, key="k", usable=3)
    return part


def test_what_is_written_is_read(part):
    mark, told = part.find("k")

    assert told == []
    assert mark == {
        "format": 1,
        "shard": 7,
        "key": "k",
        "rows": 3,
        "sha256": files.sha256_of_file(part.path),
        "usable": 3,
    }
    assert part.path.name == "part-00007.parquet"
    assert matrix(part.read("values").column("values")).tolist() == [[0, 1], [2, 3], [4, 5]]


def test_same_content_gives_same_bytes(part):
    before = part.path.read_bytes()
    values = np.arange(6, dtype=np.float32).reshape(3, 2)

    part.write({"id": pa.array(["a", "b", "c"]), "values": vectors(values)}, key="k", usable=3)

    assert part.path.read_bytes() == before


def test_without_a_mark_a_part_does_not_count_and_nothing_is_told(part):
    part.mark_path.unlink()

    assert part.find("k") == (None, [])


def test_a_killed_rewrite_leaves_no_mark_beside_another_part(part, monkeypatch):
    def killed(path, value):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        part.write({"id": pa.array(["z"])}, key="k")

    assert part.find("k") == (None, [])


def spoil(path):
    path.write_bytes(path.read_bytes()[:-1] + b"X")


@pytest.mark.parametrize(
    ("damage", "kind", "found"),
    [
        (lambda part: spoil(part.path), "damaged-part", "SHA-256"),
        (lambda part: part.path.unlink(), "damaged-part", "cannot be read"),
        (lambda part: part.mark_path.write_text("{"), "damaged-mark", "unreadable"),
        (lambda part: part.mark_path.write_text('{"format": 9}'), "damaged-mark", "format"),
        (lambda part: part.mark_path.write_text("[1]"), "damaged-mark", "format"),
    ],
)
def test_damage_is_told_and_made_again(part, damage, kind, found):
    damage(part)

    mark, [told] = part.find("k")

    assert mark is None
    assert told.kind == kind
    assert found in told.found
    assert not told.fatal
    assert told.file == str(part.path)


def test_a_part_of_something_else_is_told(part):
    mark, [told] = part.find("another key")

    assert mark is None
    assert told.kind == "outdated-part"


def test_a_part_that_cannot_be_read_says_what_to_do(part):
    part.path.write_bytes(b"PAR1")

    with pytest.raises(DataError, match=r"part-00007\.parquet: .* Run again with resume"):
        part.read()


def test_rows_of_one_number_and_no_rows_keep_their_width():
    for shape in [(4, 1), (0, 3)]:
        column = pa.chunked_array([vectors(np.ones(shape, dtype=np.float32))])

        assert matrix(column).shape == shape
