"""The contrast of the classes, asked of a network whose answer is known."""

import dataclasses

import numpy as np
import pytest
import torch
from tests.anomaly.knowing import (
    DISEASED_IMAGE,
    HEAD,
    HEALTHY_IMAGE,
    LESION,
    Knows,
    images_of,
    knowing_mapper,
)

from medglean.anomaly.by_contrast import (
    MEASURES,
    contrast_evaluations,
    contrast_scales,
    contrasts_of,
    scale_name,
    signed_map,
)
from medglean.anomaly.mapping import map_images, measure_scales
from medglean.errors import DataError, UsageError
from medglean.randomness import torch_generator

GAP = DISEASED_IMAGE - HEALTHY_IMAGE
UNITS = {scale_name(measure, level): 1.0 for measure in MEASURES for level in (10, 30)}
REST = HEAD & ~LESION


def asked(mapper, images):
    generators = [torch_generator(0, "test", str(place)) for place in range(len(images))]
    return contrasts_of(mapper, torch.from_numpy(images), generators)


@pytest.mark.parametrize("diseased", [True, False])
def test_both_measures_are_what_the_network_knows(diseased):
    images = images_of(2, diseased=diseased, noise=0.0)

    found = asked(knowing_mapper(), images)

    assert found.shape == (2, 2, 2, 1, 16, 16)
    for place in range(2):
        np.testing.assert_allclose(found[0, :, place], np.stack([GAP, GAP]), atol=1e-5)
        ratio = GAP**2 if diseased else -(GAP**2)  # closer to what is expected of its own class
        np.testing.assert_allclose(found[1, :, place], np.stack([ratio, ratio]), atol=1e-5)


def test_a_lesion_is_above_the_rest_by_each_measure():
    images = images_of(2, diseased=True)

    for measure in asked(knowing_mapper(), images):
        lesion, rest = measure[..., LESION], measure[..., REST]
        assert lesion.min() > rest.max()
        assert lesion.min() > 0.05


def test_the_map_is_the_mean_of_measures_and_levels_over_their_scales():
    mapper = knowing_mapper()
    scales = {"difference at 10": 1.0, "difference at 30": 2.0,
              "likelihood ratio at 10": 4.0, "likelihood ratio at 30": 8.0}  # fmt: skip
    mapper = dataclasses.replace(mapper, scales=scales)
    found = np.zeros((2, 2, 1, 1, 16, 16), np.float32)
    found[:, :, 0, 0, 3, 4] = [[1, 6], [8, -16]]

    made = signed_map(mapper, found)

    assert made[0, 0, 3, 4] == (1 / 1 + 6 / 2 + 8 / 4 - 16 / 8) / 4
    assert np.count_nonzero(made) == 1


def test_scales_are_standard_deviations_over_the_foreground_of_all_batches():
    rng = np.random.default_rng(0)
    found = rng.standard_normal((2, 2, 5, 1, 16, 16)).astype(np.float32) * 3 + 7
    inside = rng.random((5, 16, 16)) < 0.4
    batches = [(found[:, :, :3], inside[:3]), (found[:, :, 3:], inside[3:])]

    scales = contrast_scales(knowing_mapper(), iter(batches))

    for row, measure in enumerate(MEASURES):
        for column, level in enumerate((10, 30)):
            expected = found[row, column, :, 0][inside].std(dtype=np.float64)
            assert scales[scale_name(measure, level)] == pytest.approx(expected)


def test_an_image_without_a_finite_contrast_does_not_spoil_the_scales():
    rng = np.random.default_rng(0)
    found = rng.standard_normal((2, 2, 3, 1, 16, 16)).astype(np.float32)
    inside = np.ones((3, 16, 16), bool)
    without = contrast_scales(knowing_mapper(), iter([(found[:, :, :2], inside[:2])]))
    found[0, 1, 2, 0, 5, 5] = np.inf

    assert contrast_scales(knowing_mapper(), iter([(found, inside)])) == without


def test_classes_that_do_not_differ_have_scale_1():
    found = np.zeros((2, 2, 1, 1, 16, 16), np.float32)
    nowhere = np.zeros((1, 16, 16), bool)

    assert set(contrast_scales(knowing_mapper(), iter([(found, ~nowhere)])).values()) == {1.0}
    assert set(contrast_scales(knowing_mapper(), iter([(found + 1, nowhere)])).values()) == {1.0}


def test_scales_that_were_not_measured_are_asked_for():
    with pytest.raises(UsageError, match=r"'difference at 10', which was not measured\. Measure"):
        map_images(knowing_mapper(), images_of(1, diseased=True))


@pytest.mark.parametrize("value_range", ["unit", "signed"])
@pytest.mark.parametrize("flip", [False, True])
def test_the_map_of_a_diseased_image_is_higher_in_the_lesion(value_range, flip):
    mapper = knowing_mapper(
        diffusion={"learned_range": False, "value_range": value_range}, map={"flip": flip}
    )
    if flip:  # the network knows one side alone: its answer for the mirror image is elsewhere
        mirrored = LESION[:, ::-1]
        assert not (mirrored & LESION).any()
    mapper = dataclasses.replace(mapper, scales=UNITS)

    sick = map_images(mapper, images_of(2, diseased=True))
    well = map_images(mapper, images_of(2, diseased=False))

    lesion = sick.maps[:, LESION]
    assert lesion.min() > sick.maps[:, HEAD & ~LESION & ~LESION[:, ::-1]].max()
    assert lesion.mean() > well.maps[:, LESION].mean()
    assert not sick.maps[:, ~HEAD].any()
    assert sick.evaluations == contrast_evaluations(mapper) * (2 if flip else 1) == 4 * (1 + flip)


@pytest.mark.parametrize(("kind", "lit"), [("positive", True), ("negative", False)])
def test_the_sign_that_is_asked_for_is_that_of_the_map(kind, lit):
    mapper = dataclasses.replace(knowing_mapper(map={"difference": kind}), scales=UNITS)

    found = map_images(mapper, images_of(1, diseased=True, noise=0.0)).maps[0]

    assert (found[LESION] > 0.1).all() == lit
    assert found.min() >= 0


def test_the_counterpart_is_what_is_expected_of_a_healthy_image():
    mapper = dataclasses.replace(knowing_mapper(), scales=UNITS)

    found = map_images(mapper, images_of(1, diseased=True, noise=0.0)).rebuilt

    np.testing.assert_allclose(found[0], HEALTHY_IMAGE, atol=1e-5)


def test_in_signed_range_the_counterpart_is_in_the_images_range():
    mapper = knowing_mapper(diffusion={"learned_range": False, "value_range": "signed"})
    mapper = dataclasses.replace(mapper, scales=UNITS)

    found = map_images(mapper, images_of(1, diseased=True, noise=0.0)).rebuilt

    np.testing.assert_allclose(found[0], HEALTHY_IMAGE, atol=1e-5)


def test_scales_of_a_mapper_are_measured_with_its_own_noise():
    mapper = knowing_mapper(combine="threshold")
    images = images_of(3, diseased=False)

    scales = measure_scales(mapper, images)

    assert set(scales) == {*UNITS, "map", "threshold"}
    gap = GAP[0][HEAD]
    assert scales["difference at 10"] == pytest.approx(gap.std(), rel=0.15)  # the mask closes gaps
    assert scales["map"] > 0
    mapped = map_images(dataclasses.replace(mapper, scales=scales), images_of(2, diseased=True))
    assert mapped.maps[:, LESION].min() > mapped.maps[:, REST].mean()


def test_healthy_images_without_a_map_are_told():
    class Broken(Knows):
        def forward(self, x, t, y=None):
            return super().forward(x, t, y) * torch.nan

    mapper = knowing_mapper()
    broken = dataclasses.replace(mapper, networks={"unet": Broken(mapper.preset)})

    with pytest.raises(DataError, match=r"none of 2 healthy images has a map.*went to NaN"):
        measure_scales(broken, images_of(2, diseased=False))


def test_translation_takes_the_lesion_away_and_leaves_the_rest():
    for guidance in ("class", "classifier-free"):
        mapper = knowing_mapper(
            translate={"sampler": "ddim", "guidance": guidance, "scale": 1.0},
            map={"difference": "signed", "foreground": "none"},
        )

        found = map_images(mapper, images_of(1, diseased=True, noise=0.0))

        assert found.maps[0][LESION].min() > 0.1
        assert np.abs(found.maps[0][~LESION]).max() < 0.01
