"""Near duplicates as what a split keeps on one side."""

from __future__ import annotations

import os

import cv2
import numpy as np
import pandas as pd
import pytest

from medglean.data import ties as module
from medglean.data.manifest import Manifest
from medglean.data.phantom import cxr_image
from medglean.data.ties import near_duplicate_ties
from medglean.errors import CacheError


@pytest.fixture
def folder(tmp_path):
    """Write six chests, a copy, a mirrored copy, two black images, and a file that is none."""
    chests = [cxr_image(5, number, opacity=False, size_px=(96, 96))[0] for number in range(6)]
    black = np.zeros((96, 96), np.uint8)
    images = [*chests, chests[1], np.ascontiguousarray(chests[2][:, ::-1]), black, black]
    for number, image in enumerate(images):
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
    (tmp_path / "10.png").write_bytes(b"no image")
    return tmp_path


def manifest_of(folder):
    names = [str(number) for number in range(11)]
    frame = {"id": names, "image": [f"{name}.png" for name in names]}
    frame["patient"] = ["p0", "p1", "p2", "p3", "p4", "p5", "p1", "p7", "p8", "p9", "p10"]
    return Manifest.from_frame(pd.DataFrame(frame), folder)


def test_copies_are_tied_and_what_shows_nothing_or_cannot_be_read_is_not(folder):
    found = near_duplicate_ties(manifest_of(folder), workers=1)

    assert found.sets == (("1", "6"), ("2", "7"))
    [told] = found.problems
    assert not told.fatal
    assert "4 images show the same picture as another, in 2 sets; 1 of the sets join" in told.found


def test_what_was_found_is_kept_until_a_file_changes(folder, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    first = near_duplicate_ties(manifest_of(folder), cache=cache)
    looked = []

    def glance(*args, **kwargs):
        looked.append(1)
        return original(*args, **kwargs)

    original = module.glance
    monkeypatch.setattr(module, "glance", glance)
    assert near_duplicate_ties(manifest_of(folder), cache=cache) == first
    assert not looked

    os.utime(folder / "0.png", ns=(1, 1))
    assert near_duplicate_ties(manifest_of(folder), cache=cache) == first
    assert looked == [1]

    for kept in cache.iterdir():
        kept.write_text("[0, 1")
    assert near_duplicate_ties(manifest_of(folder), cache=cache) == first
    assert looked == [1, 1]


def test_a_cache_that_cannot_be_written_is_told(folder):
    with pytest.raises(CacheError, match="cannot be written"):
        near_duplicate_ties(manifest_of(folder), cache=folder / "0.png" / "cache")


def test_a_set_without_copies_has_no_ties(folder):
    found = near_duplicate_ties(manifest_of(folder).select(range(6)))
    assert found.sets == ()
    assert found.problems == ()
