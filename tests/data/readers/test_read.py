from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medglean.data.readers import probe, read
from medglean.data.reference import ImageReference
from medglean.errors import ReadError

ramp = np.add.outer(np.arange(40), 2 * np.arange(30)).astype(np.uint8)


def test_reference_as_text_object_or_path(tmp_path):
    Image.fromarray(ramp).save(tmp_path / "Möwe #1.png")

    for reference in (
        "Möwe %231.png",
        ImageReference("Möwe #1.png"),
        Path("Möwe #1.png"),
    ):
        np.testing.assert_array_equal(read(reference, root=tmp_path).values[0], ramp)


def test_missing(tmp_path):
    with pytest.raises(ReadError, match=r"^a\.png: no such file\. Paths in a manifest are"):
        read("a.png", root=tmp_path)
    with pytest.raises(ReadError, match="A Path is taken literally"):
        read(tmp_path / "a.dcm#frame=1")
    (tmp_path / "b.png").write_bytes(b"x")
    with pytest.raises(ReadError, match="no such file"):
        read("b.png/c.png", root=tmp_path)


def test_folder_empty_and_pipe(tmp_path):
    (tmp_path / "b.png").touch()
    os.mkfifo(tmp_path / "c.png")

    with pytest.raises(ReadError, match="it is a folder, expected an image file"):
        read(tmp_path)
    with pytest.raises(ReadError, match=r"the file is empty \(0 bytes\)"):
        read(tmp_path / "b.png")
    with pytest.raises(ReadError, match="it is a pipe, socket or device"):
        read(tmp_path / "c.png")
    with pytest.raises(ReadError, match="it is a pipe, socket or device"):
        probe(tmp_path / "c.png")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path):
    Image.fromarray(ramp).save(tmp_path / "a.png")
    (tmp_path / "a.png").chmod(0)

    with pytest.raises(ReadError, match=r"cannot be read \(Permission denied\)"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"id,label\n1,normal\n" * 1000, "found text"),
        ("Grüße ".encode() * 1000, "found text"),
        (b"<html><body>404</body></html>", "found text"),
        (b"%PDF-1.7\n", "found a PDF document"),
        (b"PK\x03\x04....", "found a ZIP archive"),
        (bytes(5000), "found nothing but zero bytes"),
        (b"\x00\x01\x02\x03\xff" * 100, "found an unknown format"),
        (gzip.compress(b"hello", mtime=0), "found a gzip file that holds no NIfTI"),
        (b"\x1f\x8b broken", "found a gzip file that holds no NIfTI"),
        (b"version https://git-lfs.github.com/spec/v1\n", "found a Git LFS pointer"),
    ],
)
def test_other_content_renamed_to_png(tmp_path, content, found):
    (tmp_path / "a.png").write_bytes(content)

    for function in (read, probe):
        with pytest.raises(ReadError, match=rf"a\.png: expected PNG, {found}"):
            function(tmp_path / "a.png")


def test_content_wins_over_suffix_and_is_told(tmp_path):
    Image.fromarray(ramp).save(tmp_path / "a.jpg", "PNG")
    Image.fromarray(ramp).save(tmp_path / "noname", "PNG")

    picture = read(tmp_path / "a.jpg")

    np.testing.assert_array_equal(picture.values[0], ramp)
    told = "the suffix '.jpg' says JPEG, the content is PNG and was read as such."
    assert picture.warnings == (told,)
    assert probe(tmp_path / "a.jpg").extra == {"suffix_warning": told}
    assert read(tmp_path / "noname").warnings == ()
