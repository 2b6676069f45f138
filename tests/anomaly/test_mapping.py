import dataclasses

import numpy as np
import pytest
import torch
from tests.anomaly.tiny import tiny_mapper, tiny_preset

from medglean.anomaly import methods
from medglean.anomaly.baselines.threshold import threshold_map
from medglean.anomaly.mapping import combined, map_images, measure_scales, rebuild
from medglean.anomaly.maps import refine, scale_of
from medglean.data.foreground import eroded, foreground_mask
from medglean.errors import DataError, UsageError

IDS = [f"i{number}" for number in range(7)]


def disc(number):
    """Return a bright disc on black with a little texture, another one for each number."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:16, :16] - 7.5
    values = 0.4 + 0.3 * rng.random((16, 16))
    return (values * (np.hypot(x, y) < 6.5))[None].astype(np.float32)


IMAGES = np.stack([disc(number) for number in range(7)])


def mapper_that(counterpart, monkeypatch, **changes):
    """Return a mapper whose counterparts are those of a function of images and level."""

    def instead(mapper, x, *, noise_level, generators):
        return counterpart(x, noise_level), 3

    monkeypatch.setattr(methods, "counterpart", instead)
    return tiny_mapper(tiny_preset(translate={"guidance": "none"}, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {
            "map": {"flip": True, "noise_levels": [9, 20], "median_px": 3, "foreground": "mask"},
            "translate": {"guidance": "none", "steps": 2},
        },
        {"translate": {"guidance": "classifier-free", "scale": 2.0, "steps": 3}},
        {"translate": {"guidance": "classifier", "normalised": True, "scale": 0.1, "steps": 3}},
        {"translate": {"sampler": "ddpm", "steps": 3}, "map": {"flip": True}},
        {"translate": {"sampler": "released", "noise_level": 5}},
        {"method": "vae"},
        {"method": "fpgan"},
        {"method": "threshold"},
    ],
    ids=["levels", "free", "normalised", "ddpm", "released", "vae", "fpgan", "threshold"],
)
def test_a_map_does_not_depend_on_the_batch_or_the_order(changes):
    mapper = tiny_mapper(tiny_preset(**changes), size=0.02)
    order = np.array([3, 0, 6, 1, 5, 2, 4])

    one = map_images(mapper, IMAGES, ids=IDS)
    smaller = dataclasses.replace(mapper, preset=tiny_preset(predict={"batch_size": 2}, **changes))
    two = map_images(smaller, IMAGES[order], ids=[IDS[place] for place in order])

    assert one.maps.shape == (7, 16, 16)
    assert one.maps.dtype == np.float32
    assert one.maps.any()
    np.testing.assert_allclose(two.maps, one.maps[order], atol=1e-5)
    assert one.problems == two.problems == ()
    assert one.evaluations == two.evaluations
    if mapper.method == "threshold":
        assert one.rebuilt is None
        assert one.evaluations == 0
    else:
        np.testing.assert_allclose(two.rebuilt, one.rebuilt[order], atol=1e-5)


def test_noise_is_drawn_by_id_and_seed():
    mapper = tiny_mapper(tiny_preset(translate={"sampler": "ddpm"}))

    one, same, other, by_place = (
        map_images(mapper, IMAGES[:2], ids=ids, seed=seed).maps
        for ids, seed in (
            (["a", "b"], 0),
            (["a", "c"], 0),
            (["a", "b"], 1),
            (None, 0),
        )
    )

    np.testing.assert_array_equal(one[0], same[0])
    assert not np.allclose(one[1], same[1])
    assert not np.allclose(one, other)
    assert not np.allclose(one, by_place)


def test_the_map_is_the_difference_that_the_settings_name(monkeypatch):
    def brighter_above_darker_below(x, level):
        return torch.cat([x[:, :, :8] + 0.25, x[:, :, 8:] - 0.5], dim=2)

    def mapped(kind):
        changes = {"map": {"difference": kind}}
        return map_images(mapper_that(brighter_above_darker_below, monkeypatch, **changes), IMAGES)

    halves = {kind: mapped(kind).maps[0, [0, 15], 0].tolist() for kind in
              ("absolute", "positive", "negative")}  # fmt: skip

    assert halves == {"absolute": [0.25, 0.5], "positive": [0.0, 0.5], "negative": [0.25, 0.0]}


def test_only_the_channels_that_the_settings_name_are_summed(monkeypatch):
    images = np.repeat(IMAGES, 3, axis=1)
    gaps = torch.tensor([0.1, 0.2, 0.4]).view(1, 3, 1, 1)
    mapper = mapper_that(
        lambda x, level: x - gaps,
        monkeypatch,
        images={"channels": ["t1", "t2", "flair"]},
        map={"channels": ["flair", "t1"]},
    )

    np.testing.assert_allclose(map_images(mapper, images).maps, 0.5, atol=1e-6)


def test_the_map_of_the_mirror_image_is_turned_back(monkeypatch):
    def left_half_black(x, level):
        return torch.cat([0 * x[..., :8], x[..., 8:]], dim=3)

    alone = map_images(mapper_that(left_half_black, monkeypatch), IMAGES)
    both = map_images(mapper_that(left_half_black, monkeypatch, map={"flip": True}), IMAGES)

    assert not alone.maps[:, :, 8:].any()
    np.testing.assert_allclose(alone.maps[:, :, :8], IMAGES[:, 0, :, :8])
    np.testing.assert_allclose(both.maps, 0.5 * IMAGES[:, 0])  # each half from one of the two
    np.testing.assert_array_equal(both.rebuilt, alone.rebuilt)
    assert (alone.evaluations, both.evaluations) == (3, 6)


def test_maps_of_several_noise_levels_are_averaged(monkeypatch):
    def darker_by_level(x, level):
        return x - level / 100

    mapper = mapper_that(darker_by_level, monkeypatch, map={"noise_levels": [10, 20, 60]})
    found = map_images(mapper, IMAGES)

    np.testing.assert_allclose(found.maps, 0.3, atol=1e-6)
    np.testing.assert_allclose(found.rebuilt, IMAGES - 0.1, atol=1e-6)
    assert found.evaluations == 9
    np.testing.assert_allclose(rebuild(mapper, IMAGES, noise_level=20), IMAGES - 0.2, atol=1e-6)
    np.testing.assert_allclose(rebuild(mapper, IMAGES), IMAGES - 0.5, atol=1e-6)


def test_maps_are_masked_and_filtered_as_the_settings_say(monkeypatch):
    settings = {"foreground": "mask", "erode": 0.1, "median_px": 3, "smooth": 0.05}
    plain = map_images(mapper_that(lambda x, _: x**2, monkeypatch), IMAGES)

    found = map_images(mapper_that(lambda x, _: x**2, monkeypatch, map=settings), IMAGES)

    np.testing.assert_array_equal(found.maps, refine(plain.maps, IMAGES, **settings))
    assert not np.array_equal(found.maps, plain.maps)


def test_an_image_without_a_map_is_named_and_others_go_on(monkeypatch):
    images = IMAGES.copy()
    images[4, 0, 3, 3] = np.nan

    def fails_for_the_second(x, level):
        out = 0.5 * x
        if torch.equal(x[1], torch.from_numpy(IMAGES[1])):
            out[1, 0, 8, 8] = torch.inf
        return out

    mapper = mapper_that(fails_for_the_second, monkeypatch, map={"median_px": 3,
                                                                "foreground": "mask"})  # fmt: skip
    found = map_images(mapper, images, ids=IDS)

    bad = [1, 4]
    good = [0, 2, 3, 5, 6]
    assert np.isnan(found.maps[bad]).all()
    assert np.isfinite(found.maps[good]).all()
    alone = map_images(mapper, IMAGES[good], ids=[IDS[place] for place in good])
    np.testing.assert_array_equal(found.maps[good], alone.maps)
    assert [problem.file for problem in found.problems] == ["i1", "i4"]
    assert "the translation went to NaN" in found.problems[0].found
    assert "the image holds NaN" in found.problems[1].found


def test_a_network_that_meets_nan_keeps_it_to_that_image():
    images = IMAGES.copy()
    images[2, 0, 5, 5] = np.nan
    mapper = tiny_mapper(tiny_preset(translate={"normalised": True}), size=0.02)

    found, clean = map_images(mapper, images), map_images(mapper, IMAGES)

    others = [0, 1, 3, 4, 5, 6]
    np.testing.assert_allclose(found.maps[others], clean.maps[others], atol=1e-6)
    assert np.isnan(found.maps[2]).all()


def test_a_threshold_names_an_image_with_nan_too():
    images = IMAGES.copy()
    images[2] = np.nan

    found = map_images(tiny_mapper(tiny_preset(method="threshold")), images, ids=IDS)

    assert [problem.file for problem in found.problems] == ["i2"]
    assert np.isfinite(np.delete(found.maps, 2, axis=0)).all()


def test_the_threshold_looks_at_flair_where_there_is_one():
    images = np.random.default_rng(0).random((2, 3, 16, 16), dtype=np.float32)
    names = {"channels": ["t1", "flair", "t2"]}
    settings = {"equalise": True, "erode": 0.06, "median_px": 9}

    by_name = map_images(tiny_mapper(tiny_preset(method="threshold", images=names)), images)
    other = tiny_preset(method="threshold", images=names, threshold={"channel": "t2"})
    unknown = tiny_preset(method="threshold", images=names, threshold={"channel": "dwi"})

    np.testing.assert_array_equal(by_name.maps, threshold_map(images, channel=1, **settings))
    found = map_images(tiny_mapper(other), images).maps
    np.testing.assert_array_equal(found, threshold_map(images, channel=2, **settings))
    with pytest.raises(UsageError, match="channel is 'dwi'; the images have t1, flair, t2"):
        map_images(tiny_mapper(unknown), images)


def test_two_maps_are_averaged_by_their_scales(monkeypatch):
    mapper = mapper_that(lambda x, _: 0.5 * x, monkeypatch, combine="threshold")
    mapper = dataclasses.replace(mapper, scales={"map": 0.2, "threshold": 0.8})

    found = map_images(mapper, IMAGES).maps

    other = threshold_map(IMAGES, equalise=True, channel=0, erode=0.06, median_px=9)
    expected = 0.5 * (0.5 * IMAGES[:, 0] / 0.2 + other / 0.8)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(combined(mapper, 0.5 * IMAGES[:, 0], IMAGES), expected, rtol=1e-5)


def test_the_two_maps_weigh_as_the_settings_say(monkeypatch):
    mapper = mapper_that(lambda x, _: 0.5 * x, monkeypatch, combine="threshold", combine_weight=0.2)
    mapper = dataclasses.replace(mapper, scales={"map": 0.2, "threshold": 0.8})

    found = map_images(mapper, IMAGES).maps

    other = threshold_map(IMAGES, equalise=True, channel=0, erode=0.06, median_px=9)
    expected = 0.8 * 0.5 * IMAGES[:, 0] / 0.2 + 0.2 * other / 0.8
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_scales_are_those_of_healthy_images(monkeypatch):
    settings = {"foreground": "mask", "erode": 0.1}
    mapper = mapper_that(lambda x, _: 0.5 * x, monkeypatch, combine="threshold", map=settings)

    found = measure_scales(mapper, IMAGES)

    inside = foreground_mask(IMAGES)
    other = threshold_map(IMAGES, equalise=True, channel=0, erode=0.06, median_px=9)
    assert found == {
        "map": scale_of(0.5 * IMAGES[:, 0], eroded(inside, share=0.1)),
        "threshold": scale_of(other, eroded(inside, share=0.06)),
    }


def test_maps_cannot_be_averaged_without_scales(monkeypatch):
    asked = []
    mapper = mapper_that(lambda x, _: asked.append(x) or x, monkeypatch, combine="threshold")

    with pytest.raises(UsageError, match=r"needs the scales .*measure_scales on healthy"):
        map_images(mapper, IMAGES)
    assert asked == []
    with pytest.raises(DataError, match="none of 0 healthy images has a map"):
        measure_scales(mapper, IMAGES[:0])


@pytest.mark.parametrize("shape", [(2, 1, 16, 17), (2, 4, 16, 16), (1, 16, 16)])
def test_images_of_another_size_or_channel_count_are_refused(shape):
    mapper = tiny_mapper(tiny_preset())

    with pytest.raises(DataError, match=r"the networks take \(1, 16, 16\)\. Prepare them with"):
        map_images(mapper, np.zeros(shape, np.float32))
    with pytest.raises(DataError, match=r"the networks take \(1, 16, 16\)"):
        rebuild(mapper, np.zeros(shape, np.float32))


def test_each_image_has_one_id():
    with pytest.raises(UsageError, match="1 ids for 7 images"):
        map_images(tiny_mapper(tiny_preset(method="threshold")), IMAGES, ids=["a"])


def test_a_threshold_rebuilds_nothing():
    with pytest.raises(UsageError, match="method 'threshold' rebuilds no images"):
        rebuild(tiny_mapper(tiny_preset(method="threshold")), IMAGES)


def test_progress_is_told_batch_by_batch(monkeypatch):
    told = []
    mapper = mapper_that(lambda x, _: x, monkeypatch, predict={"batch_size": 3})

    map_images(mapper, IMAGES, progress=lambda done, total: told.append((done, total)))

    assert told == [(3, 7), (6, 7), (7, 7)]


def test_no_image_gives_no_map():
    found = map_images(tiny_mapper(tiny_preset()), IMAGES[:0])

    assert found.maps.shape == (0, 16, 16)
    assert found.problems == ()


def test_half_precision_is_close_and_weights_get_no_gradients():
    full, half = (
        tiny_mapper(tiny_preset(predict={"precision": precision}), size=0.02)
        for precision in ("32-true", "bf16-mixed")
    )

    exact, near = (map_images(mapper, IMAGES[:2]).rebuilt for mapper in (full, half))

    assert not np.array_equal(exact, near)
    assert near.dtype == np.float32
    np.testing.assert_allclose(near, exact, atol=0.05 * np.abs(exact).max())
    for network in half.networks.values():
        assert all(weight.grad is None for weight in network.parameters())
