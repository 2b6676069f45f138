from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from tests.stain.slide.painted import (
    painted_preset,
    painted_stainer,
    slide_pixels,
    with_slide,
    write_png,
)

from medglean.errors import DataError, RunFolderError
from medglean.stain.slide import folder, outputs, pyramid, stain_slide_file, task


@pytest.fixture(scope="module")
def stainer():
    return painted_stainer(painted_preset(slide={"compression": "deflate", "formats": ["ome"]}))


@pytest.fixture
def slide(tmp_path):
    return write_png(tmp_path / "slide.png", slide_pixels())


class Killed(BaseException):
    """Stands for a process that ends where it is."""


def killed_after(calls):
    def progress(done, total):
        if done == calls:
            raise Killed

    return progress


@pytest.mark.parametrize("calls", [20, 30, 40])
def test_a_rendering_that_was_stopped_goes_on_to_the_same_bytes(tmp_path, stainer, slide, calls):
    settings = {"formats": ["ome", "tiff", "dzi"], "compression": "jpeg", "tile_px": 64}
    changed = with_slide(stainer, **settings)
    whole = stain_slide_file(changed, slide, tmp_path / "a.ome.tif")
    with pytest.raises(Killed):
        stain_slide_file(changed, slide, tmp_path / "b.ome.tif", progress=killed_after(calls))
    left = tmp_path / "b.ome.tif.part"
    with (left / "tiles.dat").open("ab") as file:
        file.write(b"half a tile")  # written, but not committed
    assert not (tmp_path / "b.ome.tif").exists()
    counted = []

    result = stain_slide_file(
        changed, slide, tmp_path / "b.ome.tif", resume=True,
        progress=lambda done, total: counted.append((done, total)),
    )  # fmt: skip

    assert not left.exists()
    assert counted[-1][0] == counted[-1][1]
    assert len(counted) < counted[-1][1]
    for name in (".tif", ".geojson", ".dzi"):
        assert (tmp_path / f"b{name}").read_bytes() == (tmp_path / f"a{name}").read_bytes()
    for file in (tmp_path / "a_files").rglob("*.jpeg"):
        other = tmp_path / "b_files" / file.relative_to(tmp_path / "a_files")
        assert other.read_bytes() == file.read_bytes()
    ours, theirs = (
        (tmp_path / f"{name}.ome.tif").read_bytes().replace(b"a.ome.tif", b"b.ome.tif")
        for name in "ba"
    )
    assert len(ours) == len(theirs)
    assert result.dab_p90 == whole.dab_p90
    assert result.regions == whole.regions


SCRIPT = f"""
import sys, types
from pathlib import Path
tests = sys.modules["tests"] = types.ModuleType("tests")
tests.__path__ = [{str(Path(__file__).parents[2])!r}]
from medglean.nn import backbones
from tests.stain.tiny import TINY
backbones.ARCHITECTURES["tiny"] = TINY
from tests.stain.slide.painted import painted_preset, painted_stainer
from medglean.stain.slide import stain_slide_file
stainer = painted_stainer(painted_preset(slide={{"tile_px": 64}}))
tell = lambda done, total: print(done, flush=True)
stain_slide_file(stainer, Path(sys.argv[1]), Path(sys.argv[2]), resume=True, progress=tell)
"""


def test_a_killed_process_leaves_what_a_resumed_one_needs(tmp_path, slide):
    out = tmp_path / "b.ome.tif"
    command = [sys.executable, "-c", SCRIPT, str(slide), str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.strip() == "30":
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    stainer = painted_stainer(painted_preset(slide={"tile_px": 64}))

    stain_slide_file(stainer, slide, out, resume=True)

    stain_slide_file(stainer, slide, tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(tifffile.imread(out), tifffile.imread(tmp_path / "a.ome.tif"))


def test_a_full_disk_is_told_and_what_was_written_stays(tmp_path, stainer, slide, monkeypatch):
    out = tmp_path / "out.ome.tif"
    written = 0
    whole = stain_slide_file(stainer, slide, tmp_path / "whole.ome.tif")
    plain = pyramid.PyramidWriter._append

    def full(self, waiting):
        nonlocal written
        written += 1
        if written > 12:
            raise_from = OSError(errno.ENOSPC, "No space left on device")
            with pyramid.told(self.folder.path):
                raise raise_from
        plain(self, waiting)

    monkeypatch.setattr(pyramid.PyramidWriter, "_append", full)
    with pytest.raises(RunFolderError, match=r"the disk is full .* go on with --resume"):
        stain_slide_file(stainer, slide, out)
    monkeypatch.undo()
    state = json.loads((tmp_path / "out.ome.tif.part" / "state.json").read_text())["state"]
    assert state["stage"] == "tiles"
    assert state["row"] > 0

    result = stain_slide_file(stainer, slide, out, resume=True)

    np.testing.assert_array_equal(tifffile.imread(result.paths[0]), tifffile.imread(whole.paths[0]))


def test_a_slide_larger_than_the_free_disk_is_refused_before_it_starts(
    tmp_path, stainer, slide, monkeypatch
):
    usage = type("Usage", (), {"free": 10_000_000})
    monkeypatch.setattr("shutil.disk_usage", lambda _path: usage)

    with pytest.raises(DataError, match=r"needs about 0\.0 GB of disk, and 0\.0 GB are free"):
        stain_slide_file(stainer, slide, tmp_path / "out.ome.tif")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["slide.png"]


def test_what_is_there_is_not_overwritten_and_what_is_done_is_returned(tmp_path, stainer, slide):
    out = tmp_path / "out.ome.tif"
    first = stain_slide_file(stainer, slide, out)
    before = out.stat().st_mtime_ns

    assert stain_slide_file(stainer, slide, out, resume=True) == first
    assert out.stat().st_mtime_ns == before
    with pytest.raises(RunFolderError, match=r"out\.ome\.tif: is there already"):
        stain_slide_file(stainer, slide, out)
    with pytest.raises(RunFolderError, match="differs in the settings of slide"):
        stain_slide_file(with_slide(stainer, feather_px=4), slide, out, resume=True)


def test_an_earlier_attempt_is_neither_lost_nor_mixed_with_another(tmp_path, stainer, slide):
    out = tmp_path / "out.ome.tif"
    with pytest.raises(Killed):
        stain_slide_file(stainer, slide, out, progress=killed_after(20))

    with pytest.raises(RunFolderError, match="an earlier rendering was stopped here"):
        stain_slide_file(stainer, slide, out)
    other = write_png(tmp_path / "other.png", slide_pixels(seed=1))
    with pytest.raises(RunFolderError, match="differs in the slide"):
        stain_slide_file(stainer, other, out, resume=True)


@pytest.mark.parametrize("moment", ["point_header", "fsync_folder", "stored_result"])
def test_a_kill_while_files_are_finished_loses_nothing(
    tmp_path, stainer, slide, monkeypatch, moment
):
    changed = with_slide(stainer, formats=["ome", "tiff"])
    modules = {"point_header": outputs, "fsync_folder": folder, "stored_result": task}

    def killed(*_given, **_named):
        raise Killed

    monkeypatch.setattr(modules[moment], moment, killed)
    with pytest.raises(Killed):
        stain_slide_file(changed, slide, tmp_path / "b.ome.tif")
    monkeypatch.undo()
    calls = []

    result = stain_slide_file(
        changed, slide, tmp_path / "b.ome.tif", resume=True, progress=lambda *n: calls.append(n)
    )

    assert not calls  # nothing is generated again
    assert not (tmp_path / "b.ome.tif.part").exists()
    first, second = (tifffile.imread(tmp_path / name) for name in ("b.ome.tif", "b.tif"))
    np.testing.assert_array_equal(first, second)
    assert first.shape[:2] == result.size_px
