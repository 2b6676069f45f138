"""Reading a slide from end to end keeps memory small, whatever the slide's size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from medglean.data.phantom.slide import write_slide

SIDE = 5120  # 79 MB of pixels
READER = """
import sys
from pathlib import Path
from medglean.data.slides import open_slide

def peak_mb():
    rows = Path("/proc/self/status").read_text().splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith("VmHWM:")) / 1024

with open_slide(sys.argv[1], cache_bytes=8 << 20) as slide:
    slide.read(0, 0, 0, 512, 512)
    slide.read(0, 2048, 2048, 512, 512)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = peak_mb()
    height, width = slide.size_px
    for y in range(0, height, 512):
        for x in range(0, width, 512):
            slide.read(0, x, y, 512, 512)
    slide.thumbnail(512)
    print(slide.backend, peak_mb() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(("vendor", "backend"), [("aperio", "openslide"), ("generic", "tifffile")])
def test_memory_does_not_grow_with_what_was_read(tmp_path, vendor, backend):
    path = write_slide(tmp_path / "a.svs", (SIDE, SIDE), vendor=vendor, downsamples=(1,))

    done = subprocess.run(
        [sys.executable, "-c", READER, str(path)], capture_output=True, text=True, check=True
    )

    found, grown_mb = done.stdout.split()
    assert found == backend
    # 8 MiB of tiles are kept; a block of the thumbnail is 1024 x 1024 in RGBA, RGB and sums
    assert float(grown_mb) < 45
