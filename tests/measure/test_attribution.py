import numpy as np
import pytest

from medglean.measure import attribution
from medglean.measure.intervals import cluster_bootstrap


def one(statistic, count):
    return float(statistic(np.ones((count, 1)))[0])


MAPS = np.array([[[3.0, 1.0], [-2.0, 0.0]], [[1.0, 1.0], [1.0, 1.0]], [[0.0, -1.0], [0.0, 0.0]]])
MASKS = np.array(
    [[[True, False], [False, False]], [[True, True], [False, False]], [[True] * 2] * 2]
)


def test_shares_worked_out_by_hand():
    found = attribution.mask_mass(MAPS, MASKS)

    np.testing.assert_array_equal(found.mass_share(), [0.75, 0.5, np.nan])
    np.testing.assert_array_equal(found.area_share(), [0.25, 0.5, 1.0])
    np.testing.assert_array_equal(found.enrichment(), [3.0, 1.0, np.nan])
    assert one(attribution.mean_mass_share(found), 3) == 0.625
    assert one(attribution.mean_area_share(found), 3) == 0.375
    assert one(attribution.mean_enrichment(found), 3) == pytest.approx(0.625 / 0.375)
    interval = cluster_bootstrap(attribution.mean_mass_share(found), [0, 1, 2])
    assert interval.low == 0.5
    assert interval.high == 0.75


def test_an_empty_mask_is_undefined():
    found = attribution.mask_mass(MAPS[:1], np.zeros_like(MASKS[:1]))

    assert np.isnan(found.mass_share()).all()
    assert np.isnan(found.area_share()).all()
    assert np.isnan(attribution.pointing_hits(MAPS[:1], np.zeros_like(MASKS[:1]))).all()


def test_the_size_of_both_signs_counts_where_asked():
    found = attribution.mask_mass(MAPS, MASKS, signs="absolute")

    # 3 of 3 + 1 + 2; 2 of 4; the last map's one pixel of size 1 lies in the mask of everything
    np.testing.assert_array_equal(found.mass_share(), [0.5, 0.5, 1.0])


def test_only_pixels_within_count():
    within = np.array([[[True, True], [False, True]]] * 3)

    found = attribution.mask_mass(MAPS, MASKS, within=within)

    np.testing.assert_array_equal(found.pixels, [3, 3, 3])
    np.testing.assert_allclose(found.mass_share(), [0.75, 2 / 3, np.nan])
    np.testing.assert_allclose(found.area_share(), [1 / 3, 2 / 3, 1.0])


def test_shares_agree_with_plain_loops_and_turn_with_the_sign():
    generator = np.random.default_rng(0)
    maps = generator.normal(size=(5, 7, 6))
    masks = generator.random((5, 7, 6)) < 0.4

    found, turned = attribution.mask_mass(maps, masks), attribution.mask_mass(-maps, masks)

    for row in range(5):
        inside = sum(max(value, 0) for value in maps[row][masks[row]])
        outside = sum(max(value, 0) for value in maps[row][~masks[row]])
        assert found.mass_share()[row] == pytest.approx(inside / (inside + outside))
        assert turned.mass_share()[row] != pytest.approx(inside / (inside + outside))
    assert found.enrichment() == pytest.approx(found.mass_share() / masks.mean(axis=(1, 2)))
    scaled = attribution.mask_mass(maps * np.array([1e-9, 1, 3, 1e6, 2])[:, None, None], masks)
    np.testing.assert_allclose(scaled.mass_share(), found.mass_share())


def test_the_level_by_chance_is_of_the_same_images():
    # the second map is empty, so its mask of everything must not raise the level
    maps = np.stack([np.eye(4), np.zeros((4, 4))])
    masks = np.stack([np.eye(4) > 0, np.ones((4, 4), dtype=bool)])

    found = attribution.mask_mass(maps, masks)

    assert one(attribution.mean_area_share(found), 2) == 0.25
    assert one(attribution.mean_enrichment(found), 2) == 4.0


def test_weights_count_images_as_if_they_were_repeated():
    found = attribution.mask_mass(MAPS, MASKS)
    weights = np.array([[2.0, 0.0, 0.0], [1.0, 3.0, 0.0], [5.0, 1.0, 4.0]])

    np.testing.assert_allclose(attribution.mean_mass_share(found)(weights), [2 / 3, 0.5, np.nan])
    np.testing.assert_allclose(
        attribution.mean_enrichment(found)(weights), [2.0 / 1.0, 1.0, np.nan]
    )


def test_a_box_goes_around_all_parts_of_a_mask():
    mask = np.zeros((1, 4, 5), dtype=bool)
    mask[0, 1, 1] = mask[0, 2, 3] = True

    box = attribution.bounding_boxes(mask)

    expected = np.zeros((4, 5), dtype=bool)
    expected[1:3, 1:4] = True
    np.testing.assert_array_equal(box[0], expected)
    assert not attribution.bounding_boxes(np.zeros((1, 4, 5), dtype=bool)).any()
    found = attribution.energy_pointing(np.ones((1, 4, 5)), mask)
    assert found.mass_share().tolist() == [pytest.approx(6 / 20)]


def test_the_highest_pixel_points():
    maps = np.array([[[0.1, 0.9, 0.2]], [[0.9, 0.1, 0.9]], [[0.0, 0.0, 0.0]], [[-1.0, -2.0, -3.0]]])
    masks = np.array([[[True, False, False]]] * 4)

    np.testing.assert_array_equal(
        attribution.pointing_hits(maps, masks), [0.0, 0.5, np.nan, np.nan]
    )
    near = attribution.pointing_hits(maps, masks, tolerance_px=1.0)
    np.testing.assert_array_equal(near, [1.0, 0.5, np.nan, np.nan])
    within = np.array([[[True, False, True]]] * 4)
    assert attribution.pointing_hits(maps, masks, within=within)[0] == 0.0
    assert one(attribution.hit_rate(near), 4) == 0.75


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: attribution.mask_mass(MAPS, MASKS[:2]), "masks"),
        (lambda: attribution.mask_mass(MAPS * np.nan, MASKS), "maps"),
        (lambda: attribution.mask_mass(MAPS, MASKS, signs="negative"), "signs"),
        (
            lambda: attribution.pointing_hits(MAPS, MASKS, tolerance_px=-1.0),
            r"tolerance_px must be at least 0, got -1\.0",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(call, told):
    with pytest.raises((ValueError, TypeError), match=told):
        call()
