"""Numbers by hand, who is counted where, and comparisons that are paired by patient."""

import numpy as np
import pytest

from medglean.anomaly import measures as names
from medglean.anomaly.assess import COMPARED, assess_maps, difference_of
from medglean.measure import curves

DRAWS = {"replicates": 30, "seed": 0}


def world(seed=0, *, patients=12, slices=4, side=12, shift=0.6):
    """Half of each patient's slices diseased, mostly in the middle; the map is bright there."""
    rng = np.random.default_rng(seed)
    n = patients * slices
    groups = np.repeat([f"p{k:02d}" for k in range(patients)], slices)
    diseased = np.tile(np.arange(slices) % 4 // 2 == 1, patients)
    position = np.where(diseased, rng.uniform(0.2, 0.7, n), rng.uniform(0, 1, n))
    masks = np.zeros((n, side, side), dtype=bool)
    for row in np.flatnonzero(diseased):
        size = int(rng.integers(3, 8))
        masks[row, 4 : 4 + size, 4 : 4 + size] = True
    maps = np.round(rng.gamma(2.0, 0.1, size=masks.shape) + shift * masks, 2).astype(np.float32)
    return {
        "maps": maps,
        "masks": masks,
        "images": None,
        "diseased": diseased,
        "groups": groups,
        "position": position,
    }


def assess(data, **changed):
    return assess_maps(**{**DRAWS, **data, **changed})


def test_values_by_hand():
    # diseased image: mask pixels .9 .2 of .9 .2 .5 .0; healthy image: mean .1
    maps = np.array([[[0.9, 0.2], [0.5, 0.0]], [[0.4, 0.0], [0.0, 0.0]]])
    masks = np.array([[[True, True], [False, False]], [[False, False], [False, False]]])
    images = np.full((2, 2, 2, 2), 0.5)
    rebuilt = images.copy()
    rebuilt[1, 0, 0] = 0.9  # two of eight numbers differ by 0.4

    found = assess_maps(
        maps,
        masks,
        images,
        np.array([True, False]),
        ["a", "b"],
        rebuilt=rebuilt,
        threshold=0.45,
        replicates=20,
    )
    value = {name: interval.value for name, interval in found.metrics.items()}

    assert value[names.PIXEL_AUROC] == pytest.approx(3 / 4)
    assert value[names.PIXEL_AP] == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)
    assert value[names.BEST_DICE] == pytest.approx(2 * 2 / (2 + 3))  # from .2 on
    assert found.thresholds[names.BEST_DICE] == 0.2
    assert value[names.FIXED_DICE] == pytest.approx(2 * 1 / (2 + 2))  # .9 and .5 are called
    assert value[names.HEALTHY_MAP] == pytest.approx(0.1)
    assert value[names.IDENTITY] == pytest.approx(0.1)
    assert value[names.IMAGE_AUROC] == 1.0
    assert (found.n, found.diseased, found.measured, found.healthy) == (2, 1, 1, 1)
    assert found.primary[0] == names.BEST_DICE
    assert np.isnan(found.metrics[names.BEST_DICE].low)  # of one patient there is no interval
    assert names.POSITION_AUROC not in value


def test_otsu_of_each_image_and_their_average():
    maps = np.zeros((2, 2, 2))
    maps[0, 0], maps[1, 0] = 0.2, 1.0
    maps[1, 1] = 0.4  # above the average threshold's reach in image 0, below Otsu's in image 1
    masks = np.zeros((2, 2, 2), dtype=bool)
    masks[:, 0] = True
    data = {"maps": maps, "masks": masks, "images": None, "diseased": np.array([True, True])}

    found = assess_maps(**data, groups=["a", "b"], replicates=20)
    average = found.thresholds[names.AVERAGE_OTSU_DICE]

    assert found.metrics[names.OTSU_DICE].value == 1.0
    assert 0.2 < average < 0.4  # so: nothing of image 0, all of image 1
    assert found.metrics[names.AVERAGE_OTSU_DICE].value == pytest.approx((0 + 2 * 2 / 6) / 2)


def test_a_flipped_map_is_worse_than_chance():
    data = world()
    upright, flipped = assess(data), assess({**data, "maps": 1 - data["maps"]})

    assert upright.metrics[names.PIXEL_AUROC].value > 0.9
    assert flipped.metrics[names.PIXEL_AUROC].value < 0.1
    gap = difference_of(upright, flipped, **DRAWS)
    assert gap[names.PIXEL_AUROC].low > 0.8
    assert difference_of(flipped, upright, **DRAWS)[names.PIXEL_AUROC].high < -0.8


def test_each_measure_counts_its_own_images():
    found = assess(world())

    assert found.metrics[names.BEST_DICE].n == 24
    assert found.metrics[names.HEALTHY_MAP].n == 24
    assert found.metrics[names.IMAGE_AUROC].n == 48
    assert {interval.groups for interval in found.metrics.values()} == {12}
    for interval in found.metrics.values():
        assert interval.low <= interval.value <= interval.high


def test_position_explains_the_image_auroc_away():
    data = world(shift=0.0)
    data["position"] = np.where(data["diseased"], 0.5, np.tile([0.0, 1.0], 24))
    data["scores"] = -np.abs(data["position"] - 0.5)  # knows the position only
    found = assess(data)

    assert found.metrics[names.IMAGE_AUROC].value == 1.0
    assert found.metrics[names.POSITION_AUROC].value == 1.0
    assert found.matched == 0  # every position is either diseased or healthy
    assert np.isnan(found.metrics[names.MATCHED_AUROC].value)
    assert any("nothing could be matched" in note for note in found.notes)

    data["position"][data["diseased"]] = np.tile([0.0, 0.5, 1.0], 8)
    mixed = assess(data)
    assert mixed.matched == 8 * 12 * 2
    assert "192 pairs" in mixed.metrics[names.MATCHED_AUROC].note
    assert mixed.metrics[names.MATCHED_AUROC].value == pytest.approx(1.0)  # scores are old ones


def test_what_position_alone_does_is_told():
    told = [note for note in assess(world(patients=30)).notes if "Where an image lies" in note]

    assert len(told) == 1
    assert "quote that" in told[0]
    data = world(patients=30)
    data["position"] = np.full(120, 0.5)
    assert not any("Where an image lies" in note for note in assess(data).notes)


def test_thirds_by_size_and_position():
    data = world(patients=20)
    found = assess(data)

    assert [name.split()[0] for name in found.by_size] == ["small", "medium", "large"]
    assert sum(part[names.PIXEL_AUROC].n for part in found.by_size.values()) == 40
    sizes = [part[names.PIXEL_AP].n for part in found.by_size.values()]
    assert min(sizes) >= 5
    assert next(iter(found.by_position)).startswith("low (0.2")
    data["position"] = np.where(np.arange(80) % 2, 0.0, 1.0)
    assert assess(data).by_position == {}  # of two positions there are no thirds


def test_pixels_outside_the_foreground_do_not_count():
    data = world()
    foreground = np.ones(data["masks"].shape, dtype=bool)
    foreground[:, :, 11:] = False
    data["maps"][:, :, 11:] = 9.0  # a skull
    inside = names.IN_FOREGROUND
    found = assess(data, foreground=foreground)
    kept = foreground & data["diseased"][:, None, None]

    exact = curves.auroc(data["masks"][kept], data["maps"][kept].astype(np.float64))
    assert found.metrics[names.PIXEL_AUROC + inside].value == pytest.approx(exact, abs=1e-3)
    assert found.metrics[names.PIXEL_AUROC].value < 0.95 < exact
    assert found.metrics[names.HEALTHY_MAP + inside].value < 0.3
    assert found.metrics[names.HEALTHY_MAP].value > 0.9
    assert found.scores.max() < 9
    assert not any("outside the foreground" in note for note in found.notes)
    foreground[:, :6] = False
    assert any("outside the foreground" in n for n in assess(data, foreground=foreground).notes)


def test_maps_with_nan_are_left_out_and_told():
    data = world()
    broken = {**data, "maps": data["maps"].copy()}
    broken["maps"][6, 0, 0] = np.nan
    found = assess(broken)
    rest = np.arange(48) != 6
    without = assess({k: v if v is None else v[rest] for k, v in data.items()})

    assert (found.excluded, found.n, found.measured) == (1, 47, 23)
    assert any("1 of 48 images are left out" in note for note in found.notes)
    assert np.isnan(found.scores[6])
    assert found.metrics == without.metrics
    assert found.by_size == without.by_size


def test_without_masks_only_images_are_measured():
    data = world()
    found = assess({**data, "masks": None}, threshold=0.3)

    assert set(found.metrics) == {
        names.HEALTHY_MAP,
        names.IMAGE_AUROC,
        names.MATCHED_AUROC,
        names.POSITION_AUROC,
    }
    assert found.tally is None
    assert found.by_size == {}
    assert any("no masks" in note for note in found.notes)


def test_undefined_is_nan_and_told():
    data = world()
    healthy = assess({**data, "diseased": np.zeros(48, dtype=bool)})
    sick = assess({**data, "diseased": np.ones(48, dtype=bool)})

    assert np.isnan(healthy.metrics[names.BEST_DICE].value)
    assert np.isnan(healthy.metrics[names.IMAGE_AUROC].value)
    assert any("No diseased image" in note for note in healthy.notes)
    assert any(
        "labelled healthy with a mask that is not empty: 24" in note for note in healthy.notes
    )
    assert np.isnan(sick.metrics[names.HEALTHY_MAP].value)
    assert any("with an empty one: 24" in note for note in sick.notes)
    few = assess(world(patients=4))
    assert any("Of only 4 patients" in note for note in few.notes)


def test_comparison_is_paired_by_patient():
    # the second method's map is the first's, a little worse everywhere: images differ much more
    # from one another than the methods do, and only a paired comparison can tell them apart
    data = world(patients=15)
    rng = np.random.default_rng(3)
    hard = np.repeat(rng.random(15), 4)[:, None, None]
    good = (data["maps"] - 0.6 * data["masks"] * hard).astype(np.float32)
    worse = (good - 0.03 * data["masks"]).astype(np.float32)
    first, second = (assess({**data, "maps": maps}, replicates=150) for maps in (good, worse))
    gaps = difference_of(first, second, replicates=150)
    gap = gaps[names.PIXEL_AUROC]
    one, other = first.metrics[names.PIXEL_AUROC], second.metrics[names.PIXEL_AUROC]

    assert one.low < other.high  # apart they overlap
    assert gap.low > 0
    assert gap.value == pytest.approx(one.value - other.value)
    assert gap.high - gap.low < (one.high - one.low) / 3
    assert (gap.n, gap.groups) == (30, 15)
    assert set(gaps) <= set(COMPARED)


def test_comparison_is_on_the_images_of_both():
    data = world()
    first_maps, second_maps = data["maps"].copy(), 0.5 * data["maps"]
    first_maps[6], second_maps[10] = np.nan, np.nan
    gaps = difference_of(
        assess({**data, "maps": first_maps}), assess({**data, "maps": second_maps}), **DRAWS
    )

    for name in (names.BEST_DICE, names.PIXEL_AUROC, names.PIXEL_AP, names.IMAGE_AUROC):
        # scaling a map changes no order; bins are chosen on each method's own images
        assert gaps[name].value == pytest.approx(0.0, abs=1e-3)
    assert gaps[names.BEST_DICE].n == 22
    assert gaps[names.IMAGE_AUROC].n == 46


def test_other_images_are_refused():
    with pytest.raises(ValueError, match="two methods on the same images, found 48 and 44"):
        difference_of(assess(world()), assess(world(patients=11)))


def test_same_seed_same_intervals():
    data = world()

    assert assess(data).metrics == assess(data).metrics
    assert assess(data, seed=1).metrics != assess(data).metrics


def test_otsu_of_a_signed_map_parts_what_speaks_for_disease():
    maps = np.full((1, 8, 8), -5.0)
    maps[0, 2:4, 2:4] = 3.0
    maps[0, 5, 5] = 0.2
    masks = np.zeros((1, 8, 8), bool)
    masks[0, 2:4, 2:4] = True

    found = assess_maps(maps, masks, None, np.array([True]), ["a"], replicates=10)

    assert found.metrics[names.OTSU_DICE].value == 1.0
