import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from medglean.data.augment import augment, to_float
from medglean.data.augment_draw import _DRAWS, _PLACES, draw
from medglean.data.augment_settings import Augment
from medglean.randomness import uniforms

STRONG = Augment(
    flip_horizontal=0.5,
    flip_vertical=0.5,
    quarter_turns=True,
    geometry_probability=0.7,
    rotation_deg=20,
    translate=0.1,
    scale=(0.8, 1.25),
    aspect=1.2,
    shear_deg=8,
    crop_area=(0.5, 1.0),
    crop_aspect=1.3,
    fill="mean",
    tone_probability=0.7,
    invert=0.3,
    tone_curve=0.8,
    gamma=(0.5, 2.0),
    contrast=(0.6, 1.6),
    brightness=0.2,
    blur_probability=0.5,
    blur_sigma_px=2.0,
    sharpen_probability=0.5,
    sharpen=2.0,
    downscale_probability=0.5,
    downscale=0.3,
    noise_probability=0.7,
    noise_sd=0.1,
    jpeg_probability=0.5,
    jpeg_quality=(20, 90),
    border_probability=0.5,
    border=0.1,
    erase_count=3,
)
# each alone, as strong as it may be: the settings that a single change needs
SINGLE = {
    "flip_horizontal": {"flip_horizontal": 1.0},
    "flip_vertical": {"flip_vertical": 1.0},
    "quarter_turns": {"quarter_turns": True},
    "rotation": {"rotation_deg": 90.0},
    "translate": {"translate": 0.5},
    "scale": {"scale": (0.5, 2.0)},
    "aspect": {"aspect": 3.0},
    "shear": {"shear_deg": 40.0},
    "crop": {"crop_area": (0.1, 0.5)},
    "invert": {"invert": 1.0},
    "tone_curve": {"tone_curve": 2.0},
    "gamma": {"gamma": (0.2, 5.0)},
    "contrast": {"contrast": (0.2, 3.0)},
    "brightness": {"brightness": 0.5},
    "blur": {"blur_sigma_px": 5.0},
    "sharpen": {"sharpen": 5.0},
    "downscale": {"downscale": 0.2},
    "noise": {"noise_sd": 0.3},
    "jpeg": {"jpeg_quality": (5, 60)},
    "border": {"border": 0.3},
    "erase": {"erase_count": 4},
}


def smooth_images(count=8, channels=1, size=(32, 32), dtype=np.uint8):
    """Blobs away from the border, so that geometry can be measured by centres of mass."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[: size[0], : size[1]]
    out = np.zeros((count, channels, *size))
    for image in out:
        for plane in image:
            cy, cx = rng.uniform(0.35, 0.65, 2) * size
            plane[...] = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 12)
    if np.issubdtype(dtype, np.floating):
        return out.astype(dtype)
    return np.rint(out * np.iinfo(dtype).max).astype(dtype)


def once(batch, settings, *, seed=0, epoch=0, first=0):
    return augment(
        batch, settings, seed=seed, epoch=epoch, index=np.arange(first, first + len(batch))
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_all_off_only_changes_the_type(dtype):
    batch = smooth_images(dtype=dtype)
    out = once(batch, Augment())
    top = 1 if dtype == np.float32 else np.iinfo(dtype).max
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, (batch / np.float32(top)).astype(np.float32))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_an_image_does_not_depend_on_its_batch(dtype, channels):
    batch = smooth_images(channels=channels, dtype=dtype)
    index = np.array([5, 900, 31, 2, 7, 100000, 8, 1])
    together = augment(batch, STRONG, seed=3, epoch=4, index=index)
    for place in range(8):
        alone = augment(
            batch[place : place + 1], STRONG, seed=3, epoch=4, index=index[place : place + 1]
        )
        np.testing.assert_array_equal(together[place], alone[0])
    backwards = augment(batch[::-1], STRONG, seed=3, epoch=4, index=index[::-1])
    np.testing.assert_array_equal(together, backwards[::-1])


@pytest.mark.parametrize("name", SINGLE)
def test_each_change_happens_and_depends_on_seed_epoch_and_index(name):
    batch = np.repeat(smooth_images(1), 6, axis=0)
    settings = Augment(**SINGLE[name])
    out = once(batch, settings)
    assert (out != to_float(batch)).any()
    assert 0 <= out.min() <= out.max() <= 1
    np.testing.assert_array_equal(out, once(batch, settings))
    if name not in ("flip_horizontal", "flip_vertical", "invert"):  # certain: nothing to differ
        for other in (
            once(batch, settings, epoch=1),
            once(batch, settings, seed=1),
            once(batch, settings, first=6),
        ):
            assert (out != other).any()
        assert len({image.tobytes() for image in out}) > 1


@pytest.mark.parametrize("name", SINGLE)
def test_switching_one_on_leaves_what_the_others_draw(name):
    common = {"size_px": (32, 32), "seed": 0, "epoch": 0, "index": np.arange(5)}
    everything = draw(STRONG, **common)
    without = draw(STRONG.model_copy(update={"jpeg_quality": None, "erase_count": 0}), **common)
    np.testing.assert_array_equal(everything.matrix, without.matrix)
    np.testing.assert_array_equal(everything.border_px, without.border_px)
    quiet = draw(Augment(noise_sd=0.1), **common)
    beside = draw(Augment(**{"noise_sd": 0.1, **SINGLE[name]}), **common)
    np.testing.assert_array_equal(beside.noise_start, quiet.noise_start)
    strength = SINGLE[name].get("noise_sd", 0.1) / 0.1
    np.testing.assert_allclose(beside.noise_sd, quiet.noise_sd * strength, rtol=1e-12)


def test_flips_turn_the_right_axis():
    batch = smooth_images()
    plain = to_float(batch)
    np.testing.assert_array_equal(once(batch, Augment(flip_horizontal=1)), plain[..., ::-1])
    np.testing.assert_array_equal(once(batch, Augment(flip_vertical=1)), plain[..., ::-1, :])


def test_half_of_many_are_flipped():
    batch = np.zeros((400, 1, 1, 2), np.uint8)
    batch[..., 1] = 255
    flipped = once(batch, Augment(flip_horizontal=0.5))[:, 0, 0, 0]
    assert 160 < flipped.sum() < 240  # 200 give or take four standard deviations of 10


def centres(images):
    y, x = np.mgrid[: images.shape[2], : images.shape[3]]
    mass = images.sum(axis=(1, 2, 3))
    return (
        np.stack([(images[:, 0] * y).sum((1, 2)), (images[:, 0] * x).sum((1, 2))], 1)
        / (mass[:, np.newaxis])
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"rotation_deg": 30},
        {"translate": 0.1},
        {"scale": (0.7, 1.3), "aspect": 1.2, "shear_deg": 10},
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_geometry_moves_blobs_where_its_matrix_says(changes, dtype):
    batch = smooth_images(size=(64, 48), dtype=dtype)
    settings = Augment(**changes)
    drawn = draw(settings, size_px=(64, 48), seed=0, epoch=0, index=np.arange(8))
    moved = centres(once(batch, settings))
    before = centres(batch.astype(float))
    np.testing.assert_allclose(moved, forward(before, drawn.matrix), atol=0.1)
    assert np.abs(moved - before).max() > 1


def forward(points, matrices):
    """Forward map of (y, x) points, from matrices that map output (x, y) to input."""
    out = []
    for (y, x), matrix in zip(points, matrices, strict=True):
        linear, shift = matrix[:, :2], matrix[:, 2]
        out.append(np.linalg.solve(linear, np.array([x, y]) - shift)[::-1])
    return np.array(out)


def test_drawn_geometry_keeps_to_its_ranges():
    many = {"size_px": (50, 100), "seed": 0, "epoch": 0, "index": np.arange(3000)}

    def linear(**changes):
        return draw(Augment(**changes), **many).matrix

    turned = linear(rotation_deg=15)[:, :, :2]
    angle = np.rad2deg(np.arctan2(turned[:, 1, 0], turned[:, 0, 0]))
    np.testing.assert_allclose(np.linalg.det(turned), 1, atol=1e-9)
    assert 14.9 < np.abs(angle).max() <= 15
    assert abs(angle.mean()) < 1

    shifted = linear(translate=0.1)[:, :, 2]
    assert 9.9 < np.abs(shifted[:, 0]).max() <= 10  # a tenth of 100 wide
    assert 4.9 < np.abs(shifted[:, 1]).max() <= 5  # a tenth of 50 high

    larger = 1 / np.sqrt(np.linalg.det(linear(scale=(0.5, 2.0))[:, :, :2]))
    assert 0.5 <= larger.min() < 0.51
    assert 1.98 < larger.max() <= 2.0
    assert abs(np.log(larger).mean()) < 0.03  # as often smaller as larger

    cropped = linear(crop_area=(0.25, 0.5))
    area = np.linalg.det(cropped[:, :, :2])
    assert 0.25 <= area.min() < 0.26
    assert 0.49 < area.max() <= 0.5
    corners = np.array([[-0.5, -0.5, 1], [99.5, 49.5, 1]]).T  # outer edges of the image
    seen = cropped @ corners
    assert seen.min() >= -0.5 - 1e-9
    assert seen[:, 0].max() <= 99.5 + 1e-9
    assert seen[:, 1].max() <= 49.5 + 1e-9


def test_geometry_is_stretch_then_shear_then_turn_then_shift():
    common = {"size_px": (50, 100), "seed": 0, "epoch": 0, "index": np.arange(20)}
    changes = [
        {"scale": (0.5, 2.0), "aspect": 1.5},
        {"shear_deg": 20.0},
        {"rotation_deg": 40.0},
        {"translate": 0.2},
    ]
    bottom = np.broadcast_to([[0.0, 0.0, 1.0]], (20, 1, 3))

    def whole(**settings):
        return np.concatenate([draw(Augment(**settings), **common).matrix, bottom], axis=1)

    # each maps output to input, so the first change is the last to be undone
    stretch, shear, turned, shift = (whole(**change) for change in changes)
    together = whole(**{name: value for change in changes for name, value in change.items()})
    np.testing.assert_allclose(together, stretch @ shear @ turned @ shift, atol=1e-9)


def test_draws_go_up_with_their_numbers():
    index = np.arange(50)
    u = uniforms(2, "augment", 7, index=index, draws=_DRAWS)
    common = {"size_px": (50, 100), "seed": 2, "epoch": 7, "index": index}
    moved = draw(Augment(translate=0.1), **common).matrix[:, :, 2]
    either_way = 2 * u[:, _PLACES["translate"]] - 1
    np.testing.assert_allclose(moved, -either_way * [10, 5], atol=1e-9)  # input = output - shift

    batch = np.full((50, 1, 2, 2), 0.5, np.float32)
    out = augment(batch, Augment(brightness=0.3), seed=2, epoch=7, index=index)
    added = (2 * u[:, _PLACES["brightness"]] - 1)[:, 0] * 0.3
    np.testing.assert_allclose(out[:, 0, 0, 0], 0.5 + added, atol=1e-6)


@pytest.mark.parametrize(
    ("fill", "corner"), [("black", 0.0), ("edge", 0.8), ("mean", 0.8), ("reflect", 0.8)]
)
def test_what_lies_beyond_the_image(fill, corner):
    batch = np.full((4, 1, 20, 20), 204, np.uint8)
    out = once(batch, Augment(scale=(0.5, 0.5), fill=fill))
    np.testing.assert_allclose(out[:, 0, 0, 0], corner, atol=1e-6)
    np.testing.assert_allclose(out[:, 0, 10, 10], 0.8, atol=1e-6)


def test_gamma_brightness_and_inversion_by_hand():
    batch = np.array([0, 51, 102, 255], np.uint8).reshape(1, 1, 2, 2)
    squared = once(batch, Augment(gamma=(2.0, 2.0)))
    np.testing.assert_allclose(squared.ravel(), [0, 0.04, 0.16, 1], atol=1e-6)
    inverted = once(batch, Augment(invert=1.0))
    np.testing.assert_allclose(inverted.ravel(), [1, 0.8, 0.6, 0], atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_contrast_turns_about_the_mean(dtype):
    top = 1 if dtype == np.float32 else np.iinfo(dtype).max
    batch = (np.array([0.4, 0.6, 0.4, 0.6]) * top).astype(dtype).reshape(1, 1, 2, 2)
    out = once(batch, Augment(contrast=(0.5, 0.5)))
    np.testing.assert_allclose(out.ravel(), [0.45, 0.55, 0.45, 0.55], atol=2 / 255 / 2)
    out = once(batch, Augment(contrast=(2.0, 2.0)))
    np.testing.assert_allclose(out.ravel(), [0.3, 0.7, 0.3, 0.7], atol=2 / 255)


def test_tone_is_the_same_for_8_bit_and_float():
    settings = Augment(gamma=(0.5, 2), tone_curve=1.0, contrast=(0.5, 2), brightness=0.1)
    batch = smooth_images()
    np.testing.assert_allclose(once(batch, settings), once(to_float(batch), settings), atol=1e-5)


@given(strength=st.floats(0, 3), seed=st.integers(0, 1000))
def test_tone_curves_rise_from_0_to_1(strength, seed):
    settings = Augment(tone_curve=strength, gamma=(0.5, 2))
    curve = draw(settings, size_px=(4, 4), seed=seed, epoch=0, index=np.arange(3)).curve
    assert (np.diff(curve, axis=1) > 0).all()
    np.testing.assert_allclose(curve[:, [0, -1]], [[0, 1]] * 3, atol=1e-12)


def test_blur_smooths_and_sharpening_steepens():
    batch = np.zeros((6, 1, 32, 32), np.float32)
    batch[..., 16:] = 0.5
    batch += 0.25
    slope = lambda images: np.abs(np.diff(images, axis=3)).max()  # noqa: E731 - one number
    assert slope(once(batch, Augment(blur_sigma_px=3.0))[:1]) < 0.5
    sharper = once(batch, Augment(sharpen=1.0))
    assert sharper.max() > 0.76
    assert sharper.min() < 0.24
    np.testing.assert_allclose(once(batch, Augment(blur_sigma_px=3.0)).mean(), 0.5, atol=0.01)


def test_noise_has_the_spread_asked_for_and_differs_by_channel():
    batch = np.full((300, 2, 16, 16), 0.5, np.float32)
    out = once(batch, Augment(noise_sd=0.1)) - 0.5
    # the amount is uniform in 0..0.1, so the variance is 0.1**2 / 3
    assert out.var() == pytest.approx(0.01 / 3, rel=0.15)
    assert abs(out.mean()) < 1e-3
    assert abs(np.corrcoef(out[:, 0].ravel(), out[:, 1].ravel())[0, 1]) < 0.02


def test_noise_on_images_larger_than_its_table():
    batch = np.full((1, 1, 1100, 1000), 0.5, np.float32)
    assert once(batch, Augment(noise_sd=0.1)).std() > 0


def test_border_and_rectangles_cover_no_more_than_asked():
    batch = np.full((50, 1, 40, 40), 255, np.uint8)
    masked = once(batch, Augment(border=0.1))
    assert (masked[:, 0, 4:-4, 4:-4] == 1).all()
    assert (masked[:, 0, 3, 20] == 0).any()
    erased = 1 - once(batch, Augment(erase_count=2, erase_size=(0.1, 0.25), erase_fill="black"))
    area = erased.sum(axis=(1, 2, 3))
    assert area.min() >= 16
    assert area.max() <= 200
    assert (area > 100).any()


def test_border_is_filled_with_the_mean():
    batch = np.zeros((20, 1, 40, 40), np.uint8)
    batch[..., 20:] = 255
    out = once(batch, Augment(border=0.3, border_fill="mean"))
    assert set(np.unique(out).tolist()) == {0.0, 0.5, 1.0}


def test_quarter_turns_need_squares():
    with pytest.raises(ValueError, match="square images, found 20 x 30"):
        once(smooth_images(size=(20, 30)), Augment(quarter_turns=True))


def test_the_batch_is_not_written_to():
    batch = smooth_images(dtype=np.float32)
    before = batch.copy()
    once(batch, STRONG)
    np.testing.assert_array_equal(batch, before)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"scale": (1.2, 0.8)}, "scale must satisfy 0 < low <= high <= 10, got 1.2 and 0.8"),
        ({"crop_area": (0.5, 1.5)}, "crop_area must satisfy"),
        ({"jpeg_quality": (0, 50)}, "jpeg_quality must satisfy"),
        ({"flip_horizontal": 1.5}, "less than or equal to 1"),
        ({"rotate": 5}, "Extra inputs"),
    ],
)
def test_bad_settings_are_refused(settings, match):
    with pytest.raises(ValidationError, match=match):
        Augment(**settings)


def test_illumination_is_a_smooth_field_within_its_strength():
    flat = np.full((6, 1, 64, 64), 128, np.uint8)
    settings = Augment(illumination=0.3)

    changed = augment(flat, settings, seed=0, epoch=0, index=np.arange(6))

    ratio = changed / (128 / 255)
    # a cubic may overshoot its knots by about an eighth
    assert ratio.max() < np.exp(0.3 * 1.3)
    assert ratio.min() > np.exp(-0.3 * 1.3)
    assert ratio.std(axis=(1, 2, 3)).min() > 0.02
    assert np.abs(np.diff(changed, axis=3)).max() < 0.02
    some = augment(
        flat,
        Augment(illumination=0.3, illumination_probability=0.5),
        seed=0,
        epoch=0,
        index=np.arange(6),
    )
    met = [not np.allclose(image, 128 / 255) for image in some]
    assert 0 < sum(met) < 6
    np.testing.assert_array_equal(some[met], changed[met])


def test_illumination_leaves_what_others_draw():
    image = np.random.default_rng(0).integers(0, 256, (4, 1, 32, 32)).astype(np.uint8)
    without = augment(image, Augment(border=0.3), seed=1, epoch=2, index=np.arange(4))
    both = augment(
        image, Augment(border=0.3, illumination=0.2), seed=1, epoch=2, index=np.arange(4)
    )

    np.testing.assert_array_equal(without == 0, both == 0)
