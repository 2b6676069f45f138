from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from medglean.data.phantom.slide import write_slide
from medglean.data.slides import open_slide


@pytest.mark.parametrize("vendor", ["aperio", "generic"])
def test_threads_read_what_one_reads(tmp_path, vendor):
    path = write_slide(tmp_path / "a.tif", (700, 900), vendor=vendor)
    corners = [(x, y) for y in range(0, 600, 150) for x in range(0, 800, 90)]

    with open_slide(path, cache_bytes=1 << 20) as slide, ThreadPoolExecutor(4) as pool:
        expected = [slide.read(0, x, y, 100, 100) for x, y in corners]
        found = list(pool.map(lambda at: slide.read(0, *at, 100, 100), corners))

    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other)
