"""Rows with all that measuring needs, what comes out, and which cases are shown."""

import dataclasses

import numpy as np
import pytest
from tests.anomaly.knowing import DISEASED_IMAGE, HEAD, HEALTHY_IMAGE, LESION
from tests.anomaly.tiny import tiny_mapper, tiny_preset

from medglean.anomaly.mapping import Mapped
from medglean.anomaly.masks import Masks
from medglean.anomaly.measured import (
    FIXED,
    Measured,
    Rows,
    assess,
    chosen_cases,
    fixed_thresholds,
    measure,
    result_frame,
    rows_of,
)
from medglean.anomaly.measures import BEST_DICE, PIXEL_AUROC
from medglean.errors import Problem

MAPPER = tiny_mapper(tiny_preset(method="threshold"))
GAPS = (DISEASED_IMAGE - HEALTHY_IMAGE)[0]


def rows(diseased, groups=None, masks=None, known=None):
    """Return rows of known images: diseased ones have a bright lesion."""
    count = len(diseased)
    sick = np.asarray(diseased, dtype=bool)
    images = np.stack([DISEASED_IMAGE if one else HEALTHY_IMAGE for one in sick])
    truth = np.where(sick[:, None, None], LESION, False) if masks is None else masks
    return Rows(
        rows=np.arange(count),
        ids=tuple(f"i{place}" for place in range(count)),
        groups=np.array([f"p{place}" for place in range(count)] if groups is None else groups),
        labels=tuple("lesion" if one else "healthy" for one in sick),
        targets=sick.astype(np.int64),
        images=images,
        truth=Masks(truth, np.ones(count, bool) if known is None else np.asarray(known), []),
        foreground=np.repeat(HEAD[None], count, axis=0),
        position=None,
    )


def mapped(of, sign=1.0):
    """Return maps that are the gap between image and healthy image, and the counterparts."""
    maps = sign * (of.images[:, 0] - HEALTHY_IMAGE[0])
    rebuilt = np.repeat(HEALTHY_IMAGE[None], len(of.rows), axis=0)
    return Mapped(maps.astype(np.float32), rebuilt, 2, ())


def test_a_map_that_finds_the_lesion_has_all_and_one_of_the_other_sign_has_none():
    of = rows([True, True, False, False])

    good = assess(MAPPER, of, mapped(of)).metrics
    bad = assess(MAPPER, of, mapped(of, sign=-1.0)).metrics

    assert good[PIXEL_AUROC].value == 1.0
    assert good[BEST_DICE].value == 1.0
    assert bad[PIXEL_AUROC].value == 0.0
    assert bad[BEST_DICE].value < 0.2


def test_an_image_whose_mask_is_not_known_is_not_measured_on_pixels():
    of = rows([True, True, False], known=[True, False, True])

    found = assess(MAPPER, of, mapped(of))

    assert (found.diseased, found.measured, found.healthy) == (2, 1, 1)


def test_without_any_mask_whole_images_are_measured():
    of = rows([True, False], masks=np.zeros((2, 16, 16), bool), known=[False, True])

    found = assess(MAPPER, of, mapped(of))

    assert not of.has_masks
    assert PIXEL_AUROC not in found.metrics
    assert found.metrics["image AUROC"].value == 1.0


def test_the_fixed_threshold_is_of_healthy_images_in_the_foreground():
    of = rows([False, False, True])
    maps = np.zeros((3, 16, 16), np.float32)
    maps[:2][:, HEAD] = np.linspace(0, 1, 2 * HEAD.sum()).reshape(2, -1)
    maps[:2][:, ~HEAD] = 50.0  # background does not count
    maps[2] = 99.0  # nor do diseased images

    found = fixed_thresholds(maps, of)

    assert found == {FIXED: pytest.approx(0.99, abs=1e-3)}


def test_there_is_no_fixed_threshold_without_a_healthy_map_or_foreground():
    of = rows([False, True])
    maps = np.zeros((2, 16, 16), np.float32)
    nowhere = dataclasses.replace(of, foreground=np.zeros_like(of.foreground))
    broken = maps.copy()
    broken[0, 0, 0] = np.nan

    assert fixed_thresholds(maps, nowhere) == {}
    assert fixed_thresholds(broken, of) == {}
    assert fixed_thresholds(maps[1:], rows([True])) == {}


def test_the_table_has_one_row_per_image():
    of = rows([True, False, True], known=[True, True, False])
    made = mapped(of)
    table = result_frame(Measured(of, made, assess(MAPPER, of, made)))

    assert table["id"].tolist() == ["i0", "i1", "i2"]
    assert table["label"].tolist() == ["lesion", "healthy", "lesion"]
    assert table["diseased"].tolist() == [True, False, True]
    assert table["mask.pixels"].isna().tolist() == [False, False, True]
    assert table["mask.pixels"].tolist()[:2] == [LESION.sum(), 0]
    np.testing.assert_allclose(table["map.mean"], [GAPS.mean(), 0, GAPS.mean()], rtol=1e-5)
    np.testing.assert_allclose(table["map.max"], [GAPS.max(), 0, GAPS.max()], rtol=1e-5)
    np.testing.assert_allclose(table["change.mean"], table["map.mean"], rtol=1e-5)
    np.testing.assert_allclose(table["score"], table["map.max"], rtol=1e-5)


def test_an_image_without_a_map_has_a_row_without_numbers():
    of = rows([True, False, True])
    made = mapped(of)
    made.maps[2] = np.nan
    told = (Problem("i2", "has no map.", "", kind="not-finite"),)
    made = made._replace(problems=told)
    measured = Measured(of, made, assess(MAPPER, of, made))

    table = result_frame(measured)

    assert table["score"].isna().tolist() == [False, False, True]
    assert table["map.mean"].isna().tolist() == [False, False, True]
    assert measured.problems == list(told)
    assert measured.assessment.excluded == 1


def test_rows_of_a_set_have_images_masks_and_places(start):
    taken = start.images.positions(labelled=False)[[0, 3, 7]]

    of = rows_of(start.images, taken, start.chosen.targets, tiny_mapper(start.preset), "label")

    frame = start.images.manifest.frame.iloc[taken]
    assert list(of.ids) == frame["id"].tolist()
    assert list(of.labels) == frame["label"].tolist()
    assert of.groups.tolist() == frame["patient"].tolist()
    np.testing.assert_array_equal(of.targets == 1, frame["label"] != "healthy")
    assert of.images.shape == (3, 1, 16, 16)
    assert of.images.max() <= 1.0
    assert of.position.tolist() == [0.0, 1.0, 1.0]  # slices 0 and 3 of the first, 3 of the second
    np.testing.assert_array_equal(of.truth.masks.any(axis=(1, 2)), of.targets == 1)
    assert (of.truth.masks & ~of.foreground).sum() < 0.5 * max(1, of.truth.masks.sum())


def test_measuring_maps_and_tells_what_it_took(start):
    preset = tiny_preset(method="threshold")
    mapper = tiny_mapper(preset)
    taken = start.images.positions("test", labelled=False)
    of = rows_of(start.images, taken, start.chosen.targets, mapper, "label")

    found = measure(mapper, of)

    assert found.mapped.maps.shape == (len(taken), 16, 16)
    assert found.assessment.metrics[PIXEL_AUROC].value > 0.5  # lesions are bright in FLAIR
    assert found.cpu_seconds >= 0


def test_shown_cases_go_from_large_to_small_and_end_with_a_healthy_one():
    sizes = [5, 40, 20, 10, 0, 0, 0]
    groups = ["a", "a", "b", "c", "d", "e", "f"]
    masks = np.zeros((7, 16, 16), bool)
    for place, size in enumerate(sizes):
        masks[place].flat[:size] = True
    of = rows([True] * 4 + [False] * 3, groups=groups, masks=masks)
    scores = [1, 1, 1, 1, 0.3, 0.1, 0.2]

    assert chosen_cases(of, scores, count=5) == [1, 2, 3, 6]  # of patient a the larger one
    assert chosen_cases(of, scores, count=2) == [1, 3, 6]
    assert chosen_cases(of, [np.nan, np.nan, 1, 1, 0, np.nan, np.nan], count=5) == [2, 3, 4]


def test_without_masks_cases_are_chosen_by_score():
    of = rows([True, True, False], masks=np.zeros((3, 16, 16), bool), known=[False, False, True])

    assert chosen_cases(of, [0.2, 0.9, 0.1], count=1) == [1, 2]


def test_no_usable_image_shows_nothing():
    assert chosen_cases(rows([True, False]), [np.nan, np.nan], count=3) == []
