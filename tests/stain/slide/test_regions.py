from __future__ import annotations

import io
import itertools
import json
import uuid

import cv2
import numpy as np
import pytest

from medglean.stain.optics import dab_density
from medglean.stain.slide.outlines import outlines
from medglean.stain.slide.regions import (
    DabTables,
    RegionFinder,
    cell_px,
    cells_of,
    write_collection,
)


def labelled(rows):
    mask = np.array([[each == "#" for each in row] for row in rows])
    return cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)[1]


def area_of(ring):
    """Return the area inside a closed ring; clockwise on a screen is positive."""
    x, y = np.array(ring).T
    return int((x[:-1] * y[1:] - x[1:] * y[:-1]).sum()) / 2


def test_a_ring_with_an_island_in_its_hole():
    found = outlines(labelled(["#####", "#...#", "#.#.#", "#...#", "#####"]))

    ring, island = found[1], found[2]
    assert ring.outer == [(0, 0), (5, 0), (5, 5), (0, 5), (0, 0)]
    assert [set(hole) for hole in ring.holes] == [{(1, 1), (4, 1), (4, 4), (1, 4)}]
    assert island.outer == [(2, 2), (3, 2), (3, 3), (2, 3), (2, 2)]
    assert island.holes == []


def test_cells_that_touch_at_corners_are_regions_of_their_own():
    falling, rising = outlines(labelled(["#.", ".#"])), outlines(labelled([".#", "#."]))

    assert [each.outer for each in falling.values()] == [
        [(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)],
        [(1, 1), (2, 1), (2, 2), (1, 2), (1, 1)],
    ]
    assert [each.outer[0] for each in rising.values()] == [(1, 0), (0, 1)]


def test_holes_that_touch_at_corners_stay_apart_from_the_rim():
    found = outlines(labelled(["####", "#.##", "##.#", "####"]))

    assert len(found) == 1
    assert area_of(found[1].outer) == 16
    assert sum(abs(area_of(hole)) for hole in found[1].holes) == 2


@pytest.mark.parametrize("share", [0.3, 0.5, 0.6, 0.8])
def test_areas_are_those_of_the_cells(share):
    mask = np.random.default_rng(0).random((40, 53)) < share
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=4
    )

    found = outlines(labels)

    assert sorted(found) == list(range(1, count))
    for label, outline in found.items():
        assert outline.outer[0] == outline.outer[-1]
        inside = area_of(outline.outer) - sum(abs(area_of(hole)) for hole in outline.holes)
        assert inside == stats[label, cv2.CC_STAT_AREA]


def test_filling_outlines_gives_the_mask_back():
    mask = cv2.GaussianBlur(np.random.default_rng(1).random((60, 80)), (0, 0), 2) > 0.5
    labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)[1]
    filled = np.zeros(mask.shape, int)
    y, x = (np.indices(mask.shape) + 0.5).reshape(2, -1)
    for outline in outlines(labels).values():
        for ring in (outline.outer, *outline.holes):  # crossings of a ray to the left
            for (x0, y0), (x1, y1) in itertools.pairwise(ring):
                if x0 == x1:
                    crossed = (x0 < x) & (min(y0, y1) < y) & (y < max(y0, y1))
                    filled += crossed.reshape(mask.shape)

    np.testing.assert_array_equal(filled % 2 == 1, mask)


def test_tables_are_the_formula():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    white = np.array([0.95, 0.9, 0.85])

    found = DabTables(white)(pixels)

    np.testing.assert_allclose(found, dab_density(pixels.transpose(2, 0, 1), white), atol=1e-5)


def found_in(cells, heights, *, smallest_um2=0.0, side_px=4, restart=False):
    """Return the features of cells that come in rows of some heights."""
    into = io.BytesIO()
    size_px = (cells.shape[0] * side_px - 1, cells.shape[1] * side_px)
    settings = {"size_px": size_px, "side_px": side_px, "mpp": (0.25, 0.5)}

    def finder():
        return RegionFinder(into, smallest_um2=smallest_um2, **settings)

    regions, top = finder(), 0
    for height in heights:
        regions.add(cells[top : top + height])
        top += height
        if restart:
            kept = {name: values.copy() for name, values in regions.arrays().items()}
            regions = finder()
            regions.take_up(kept)
    regions.end()
    features = [json.loads(line) for line in into.getvalue().splitlines()]
    assert len(features) == regions.count
    return features


@pytest.mark.parametrize("heights", [[48], [16, 16, 16], [1] * 48, [40, 8]])
@pytest.mark.parametrize("restart", [False, True])
def test_regions_do_not_depend_on_the_rows_they_come_in(heights, restart):
    noise = np.random.default_rng(2).random((48, 37))
    cells = cv2.GaussianBlur(noise, (0, 0), 2) > 0.49

    whole, parts = found_in(cells, [48]), found_in(cells, heights, restart=restart)

    def shapes(features):
        # where a walk around a hole begins is free
        return sorted(
            sorted(sorted(map(tuple, ring[:-1])) for ring in each["geometry"]["coordinates"])
            for each in features
        )

    assert shapes(parts) == shapes(whole)
    areas = sorted(each["properties"]["measurements"]["Area um^2"] for each in parts)
    assert sum(areas) == pytest.approx(cells.sum() * 16 * 0.25 * 0.5)


def test_what_qupath_reads():
    cells = np.zeros((10, 10), bool)
    cells[2:4, 3:8] = True
    cells[9, 9] = True

    (feature,) = found_in(cells, [5, 5], smallest_um2=2.5)  # a cell has 2 square micrometres

    assert feature["type"] == "Feature"
    uuid.UUID(feature["id"])
    assert feature["geometry"] == {
        "type": "Polygon",
        "coordinates": [[[12, 8], [32, 8], [32, 16], [12, 16], [12, 8]]],
    }
    assert feature["properties"]["objectType"] == "annotation"
    assert feature["properties"]["classification"]["name"] == "DAB positive (synthetic)"
    assert feature["properties"]["measurements"] == {"Area um^2": 20.0}


def test_outlines_end_at_the_border_of_the_slide():
    cells = np.ones((3, 2), bool)

    (feature,) = found_in(cells, [3])

    assert max(y for _, y in feature["geometry"]["coordinates"][0]) == 11  # not 12


def test_a_collection_is_valid_json(tmp_path):
    lines, out = tmp_path / "lines", tmp_path / "a.geojson"
    for features in ([], [{"a": 1}], [{"a": 1}, {"b": 2}]):
        lines.write_text("".join(json.dumps(each) + "\n" for each in features))
        write_collection(lines, out, notice="Synthetic")
        found = json.loads(out.read_text())
        assert found["type"] == "FeatureCollection"
        assert found["features"] == features
        assert found["notice"] == "Synthetic"


def test_cells_are_about_four_micrometres_and_fit_tiles():
    assert cell_px(1.0, 64, (100, 100)) == 4
    assert cell_px(0.5, 64, (100, 100)) == 8
    assert cell_px(0.1, 48, (100, 100)) == 16  # the largest power of two in 48
    assert cell_px(0.1, 24, (100, 100)) == 8
    assert cell_px(0.5, 1024, (100, 80_000)) == 32  # never more than 4096 along a side


def test_half_of_a_cell_is_enough():
    positive = np.zeros((4, 5), bool)
    positive[0, :2] = True  # half of the first
    positive[0, 2] = True  # a quarter of the second
    positive[0, 4] = True  # half of what the border leaves of the third

    assert cells_of(positive, 2).tolist() == [[True, False, True], [False, False, False]]


def test_a_region_that_never_ends_is_cut_and_its_area_kept(monkeypatch):
    monkeypatch.setattr("medglean.stain.slide.regions.MOST_ROWS", 8)
    cells = np.ones((40, 3), bool)

    found = found_in(cells, [4] * 10)

    assert len(found) > 1
    tops = [each["geometry"]["coordinates"][0][0][1] for each in found]
    assert tops == sorted(set(tops))
    areas = [each["properties"]["measurements"]["Area um^2"] for each in found]
    assert sum(areas) == pytest.approx(cells.sum() * 16 * 0.25 * 0.5)


def test_outlines_do_not_depend_on_the_rows_that_are_searched_at_a_time(monkeypatch):
    labels = cv2.connectedComponents(
        (np.random.default_rng(3).random((33, 21)) < 0.6).astype(np.uint8), connectivity=4
    )[1]
    whole = outlines(labels)
    for rows in (1, 7, 33, 34):
        monkeypatch.setattr("medglean.stain.slide.outlines.SLAB_ROWS", rows)
        assert outlines(labels) == whole
    some = np.arange(labels.max() + 1) % 2 == 1
    assert outlines(labels, some) == {n: each for n, each in whole.items() if some[n]}
