import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from medglean.data.masks import prepared_mask
from medglean.data.picture import Picture
from medglean.data.prepare import (
    only_foreground,
    prepare,
    prepare_channels,
    prepare_one,
    volume_limits,
)
from medglean.data.recipe import Foreground, Intensity, Recipe
from medglean.data.resize import resize
from medglean.errors import DataError

RGB = ("red", "green", "blue")


def picture(values, channels=("grey",), **more):
    values = np.asarray(values, dtype=more.pop("dtype", np.uint8))
    more.setdefault("full_scale", (0, 255))
    return Picture(values=values, unit="8-bit", channels=channels, **more)


def test_luminance_is_bt601():
    colour = np.zeros((3, 1, 3))
    colour[0, 0, 0] = colour[1, 0, 1] = colour[2, 0, 2] = 255
    grey = prepare(picture(colour, RGB), Recipe(size_px=(1, 3)))
    np.testing.assert_allclose(grey[0, 0], [0.299, 0.587, 0.114], atol=1e-6)


def test_colour_channels_are_found_by_name_not_by_place():
    colour = np.stack([np.full((2, 2), v) for v in (10, 20, 30)])
    rgb = prepare(picture(colour, ("blue", "green", "red")), Recipe(size_px=(2, 2), channels="rgb"))
    np.testing.assert_allclose(rgb[:, 0, 0] * 255, [30, 20, 10], rtol=1e-6)


def test_grey_saved_as_colour_is_exactly_grey():
    plane = np.arange(256).reshape(16, 16)
    recipe = Recipe(size_px=(16, 16))
    as_colour = prepare(picture(np.stack([plane] * 3), RGB), recipe)
    np.testing.assert_array_equal(as_colour, prepare(picture(plane[np.newaxis]), recipe))


def test_rgb_of_grey_repeats_it():
    image = prepare(picture(np.arange(9).reshape(1, 3, 3)), Recipe(size_px=(3, 3), channels="rgb"))
    assert image.shape == (3, 3, 3)
    assert (image[0] == image[2]).all()


def test_named_channels_are_chosen_in_the_recipes_order():
    values = np.stack([np.full((2, 2), v) for v in (0, 51, 255)])
    image = prepare(
        picture(values, ("t1", "t2", "flair")), Recipe(size_px=(2, 2), channels=("flair", "t2"))
    )
    np.testing.assert_allclose(image[:, 0, 0], [1, 0.2], atol=1e-6)


def test_a_missing_channel_is_named():
    with pytest.raises(DataError, match=r"channels \['grey'\].*expects \['t2'\]"):
        prepare(picture(np.zeros((1, 2, 2))), Recipe(channels=("t2",)))


def test_channels_that_are_not_colours_are_not_guessed():
    with pytest.raises(DataError, match=r"Name the channels to use in images\.channels"):
        prepare(picture(np.zeros((2, 2, 2)), ("a", "b")), Recipe())


def test_one_picture_per_channel():
    pictures = [picture(np.full((1, 4, 6), v), spacing_mm=(2.0, 3.0)) for v in (255, 51)]
    done = prepare_channels(pictures, Recipe(size_px=(2, 2), channels=("t1", "t2")))
    assert done.image.shape == (2, 2, 2)
    np.testing.assert_allclose(done.image[:, 0, 0], [1, 0.2], atol=1e-6)
    assert done.spacing_mm == (4.0, 9.0)


def test_channels_of_different_size_are_refused():
    pictures = [picture(np.zeros((1, 4, 4))), picture(np.zeros((1, 4, 5)))]
    with pytest.raises(DataError, match=r"4 x 4, 4 x 5 pixels.*one grid"):
        prepare_channels(pictures, Recipe(channels=("t1", "t2")))


def test_a_volume_asks_for_a_slice():
    volume = picture(np.zeros((1, 3, 4, 5)), axes=("R", "A", "S"))
    with pytest.raises(DataError, match=r"3 R, 4 A, 5 S.*#axis=2,index=81"):
        prepare(volume, Recipe())


def test_a_single_frame_is_an_image():
    frame = picture(
        np.arange(6).reshape(1, 1, 2, 3), axes=("frame", "y", "x"), spacing_mm=(9.0, 2.0, 3.0)
    )
    done = prepare_one(frame, Recipe(size_px=(2, 3)))
    assert done.spacing_mm == (2.0, 3.0)
    np.testing.assert_allclose(done.image[0] * 255, np.arange(6).reshape(2, 3), atol=1e-5)


def test_a_picture_one_pixel_high_keeps_its_axes():
    image = prepare(picture(np.array([[[0, 255, 0, 255]]])), Recipe(size_px=(1, 4)))
    assert image[0].tolist() == [[0, 1, 0, 1]]


def test_a_slice_uses_its_volumes_range():
    volume = np.zeros((1, 2, 4, 4))
    volume[0, 1] = 200
    recipe = Recipe(size_px=(4, 4), intensity=Intensity(rule="min-max", scope="volume"))
    ends = volume_limits(picture(volume, axes=("frame", "y", "x")), recipe)
    image = prepare(picture(np.full((1, 4, 4), 100)), recipe, limits=ends)
    assert image.max() == pytest.approx(0.5)


def test_warnings_of_reader_and_intensity_are_kept():
    done = prepare_one(
        picture(np.zeros((1, 2, 2)), warnings=("alpha channel dropped",)),
        Recipe(intensity=Intensity(rule="min-max")),
    )
    assert done.warnings == (
        "alpha channel dropped",
        "1 of 1 channels constant: no range, set to zeros",
    )


def test_shrinking_averages_so_that_fine_stripes_do_not_alias():
    stripes = np.zeros((1, 64, 64), np.float32)
    stripes[:, :, ::2] = 1  # one pixel wide: picking pixels would give all black or all white
    small = resize(stripes, (16, 16), how="stretch").image
    np.testing.assert_allclose(small, 0.5, atol=1e-6)


@pytest.mark.parametrize("size", [(8, 8), (20, 40), (64, 8)])
def test_resizing_does_not_shift(size):
    # a linear ramp through the centres: pixel j of m sees (j + 0.5) / m of the whole
    ramp = ((np.arange(32) + 0.5) / 32).astype(np.float32)
    image = np.broadcast_to(ramp, (1, 32, 32)).copy()
    out = resize(image, size, how="stretch").image[0]
    expected = (np.arange(size[1]) + 0.5) / size[1]
    inside = slice(2, -2)  # growing repeats the border
    np.testing.assert_allclose(out[0][inside], expected[inside], atol=1e-5)
    np.testing.assert_allclose(out.mean(), 0.5, atol=1e-5)


def test_pad_keeps_the_aspect_ratio_and_centres():
    out = resize(np.ones((1, 10, 40), np.float32), (20, 20), how="pad")
    assert out.step == (2.0, 2.0)
    rows = out.image[0].max(axis=1)
    assert rows.tolist() == [0] * 7 + [1] * 5 + [0] * 8


def test_crop_keeps_the_aspect_ratio_and_the_middle():
    image = np.zeros((1, 10, 40), np.float32)
    image[:, :, 15:25] = 1
    out = resize(image, (20, 20), how="crop")
    assert out.step == (0.5, 0.5)
    assert out.image.min() == 1


def test_centre_crop_keeps_the_middle_share():
    image = np.zeros((1, 8, 8), np.float32)
    image[:, 1:7, 1:7] = 1
    out = resize(image, (6, 6), how="stretch", centre_crop=0.75)
    assert out.image.min() == 1
    assert resize(image, (6, 6), how="stretch").image.min() == 0.0625  # (1/3) / (4/3) along y and x


def test_centre_pads_without_resampling():
    image = np.arange(1, 241 * 240 + 1 - 240, dtype=np.float32).reshape(1, 240, 240) / 57600
    out = resize(image, (256, 256), how="centre")
    assert out.step == (1.0, 1.0)
    np.testing.assert_array_equal(out.image[:, 8:-8, 8:-8], image)
    assert out.image.sum(dtype=np.float64) == pytest.approx(image.sum(dtype=np.float64))


def test_centre_cuts_what_is_too_long_and_pads_what_is_too_short():
    image = np.zeros((1, 4, 10), np.float32)
    image[0, :, 3:7] = 1
    out = resize(image, (6, 4), how="centre").image[0]
    assert out.sum(axis=1).tolist() == [0, 4, 4, 4, 4, 0]


def test_a_mask_follows_its_image_when_centred(tmp_path):
    mask = np.zeros((240, 240), np.uint8)
    mask[100, 30] = 4
    Image.fromarray(mask).save(tmp_path / "mask.png")
    found = prepared_mask("mask.png", tmp_path, Recipe(size_px=(256, 256), resize="centre"))
    assert np.argwhere(found).tolist() == [[0, 108, 38]]


def test_spacing_follows_the_resize():
    done = prepare_one(
        picture(np.zeros((1, 100, 50)), spacing_mm=(0.5, 0.25)), Recipe(size_px=(10, 10))
    )
    assert done.spacing_mm == (5.0, 1.25)


def test_histogram_equalisation_by_hand():
    # values 0, 0, 128, 255: ranks 1, 1, 2.5, 3.5 -> from the first to the last 0, 0, 0.6, 1
    image = prepare(
        picture(np.array([[[0, 0], [128, 255]]])), Recipe(size_px=(2, 2), equalise="histogram")
    )
    np.testing.assert_allclose(image[0].ravel(), [0, 0, 0.6, 1], atol=1e-6)


def test_histogram_equalisation_does_not_see_gamma():
    values = np.random.default_rng(0).random((1, 32, 32)).astype(np.float32)
    recipe = Recipe(size_px=(32, 32), equalise="histogram")
    plain, bent = (
        prepare(Picture(v, "float", full_scale=(0, 1)), recipe) for v in (values, values**0.5)
    )
    np.testing.assert_allclose(plain, bent, atol=2e-3)


def test_clahe_raises_local_contrast_and_stays_in_range():
    rng = np.random.default_rng(0)
    faint = (120 + 6 * rng.random((1, 64, 64))).astype(np.uint8)
    plain = prepare(picture(faint), Recipe(size_px=(64, 64)))
    image = prepare(picture(faint), Recipe(size_px=(64, 64), equalise="clahe"))
    assert image.std() > 1.5 * plain.std()
    assert 0 <= image.min() <= image.max() <= 1
    assert image.dtype == np.float32


def test_equalising_a_constant_image_gives_no_nan():
    for equalise in ("clahe", "histogram"):
        image = prepare(picture(np.zeros((1, 16, 16))), Recipe(size_px=(16, 16), equalise=equalise))
        assert np.isfinite(image).all()


def head(brightness):
    """A bright rim around tissue of one brightness, in noisy air."""
    y, x = np.mgrid[:64, :64]
    radius = np.hypot(y - 31.5, x - 31.5)
    air = np.random.default_rng(0).uniform(0, 0.02, (64, 64))
    return np.where(radius < 26, np.where(radius > 22, 0.9, brightness), air)


def test_only_the_foreground_is_kept_and_its_median_set():
    image = np.stack([head(0.2), head(0.4)]).astype(np.float32)

    kept = only_foreground(image, Foreground(erode=0.08, median=0.3))

    assert (kept[:, :3] == 0).all()  # air
    assert (kept[:, 31, 6] == 0).all()  # the rim: 25.5 px from the centre of 26
    np.testing.assert_allclose(kept[:, 31, 31], 0.3, rtol=1e-6)
    np.testing.assert_allclose(
        only_foreground(image, Foreground(erode=0.08))[:, 31, 31], [0.2, 0.4]
    )


def test_a_bright_lesion_hardly_moves_the_median_and_is_clipped():
    image = head(0.2).astype(np.float32)
    image[28:36, 28:36] = 0.9

    kept = only_foreground(image[None], Foreground(erode=0.1, median=0.3))[0]

    assert kept[40, 31] == pytest.approx(0.3, rel=1e-6)
    assert kept[31, 31] == 1.0  # 0.9 / 0.2 * 0.3 = 1.35


def test_the_foreground_is_of_all_channels_together():
    recipe = Recipe(
        size_px=(64, 64), channels=("a", "b"), foreground=Foreground(erode=0.0), dtype="float32"
    )
    half = head(0.5)
    half[:, :32] = 0.0  # dark in one channel alone
    pictures = [picture(np.rint(255 * one)[None]) for one in (head(0.5), half)]

    both = prepare_channels(pictures, recipe).image

    assert both[0, 31, 16] == pytest.approx(0.5, abs=0.01)
    assert both[1, 31, 16] == 0.0
    assert (both[:, :3] == 0).all()


def test_a_mask_is_not_cut_to_the_foreground(tmp_path):
    Image.fromarray(np.full((16, 16), 255, np.uint8)).save(tmp_path / "m.png")
    recipe = Recipe(size_px=(16, 16), foreground=Foreground(erode=0.2))

    assert prepared_mask("m.png", tmp_path, recipe).all()


def test_every_setting_changes_the_hash():
    base = Recipe()
    others = [
        Recipe(size_px=(224, 223)),
        Recipe(channels="rgb"),
        Recipe(resize="pad"),
        Recipe(centre_crop=0.9),
        Recipe(equalise="clahe"),
        Recipe(dtype="uint16"),
        Recipe(intensity=Intensity(rule="min-max")),
    ]
    assert len({recipe.hash() for recipe in [base, *others]}) == 8
    assert Recipe.model_validate_json(base.model_dump_json()).hash() == base.hash()


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"size_px": (0, 10)}, "1 to 16384"),
        ({"channels": ()}, "at least one name"),
        ({"channels": ("a", "a")}, "one twice"),
        ({"centre_crop": 0.0}, "greater than 0"),
        ({"sise_px": (1, 1)}, "Extra inputs"),
    ],
)
def test_bad_recipes_are_refused(settings, match):
    with pytest.raises(ValidationError, match=match):
        Recipe(**settings)
