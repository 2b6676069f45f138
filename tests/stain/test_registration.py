import functools
import time

import cv2
import numpy as np
import pytest
from tests.stain.made_pairs import picture, preset, save, write_pairs

from medglean.data.phantom.stain import stain_pair
from medglean.stain.optics import white_point
from medglean.stain.pairs import open_pairs
from medglean.stain.registration import (
    LEAST_CORRELATION,
    SIDE_PX,
    _correlations,
    block_shifts,
    check_pairs,
    pair_shift,
)

PAIRS = "path_he_ihc_pairs"
NAMES = (
    *(f"bci/{{}}/{n}.png" for n in ("00007_test_1+", "00011_test_3+", "00052_test_3+")),
    *(f"bci/{{}}/{n}.png" for n in ("00249_test_2+", "00361_test_2+")),
    *(f"mist/{{}}/15M2102762_{n}.jpg" for n in ("15_26", "18_18", "21_24")),
    *(f"mist/{{}}/{n}.jpg" for n in ("19M2102438_31_28", "31M2101871_17_22")),
)


@functools.cache
def phantom(number, *, level=2, size=256):
    he, ihc = stain_pair(0, number, level=level, size_px=(size, size))
    return he.transpose(2, 0, 1), ihc.transpose(2, 0, 1)


def moved(ihc, dy, dx, margin=32):
    """Return the part of an image whose structures lie dy lower and dx further right."""
    side = ihc.shape[1] - 2 * margin
    return ihc[:, margin - dy : margin - dy + side, margin - dx : margin - dx + side]


def of_file(file):
    return np.ascontiguousarray(cv2.imread(str(file))[..., ::-1].transpose(2, 0, 1))


@pytest.mark.parametrize(("dy", "dx"), [(0, 0), (9, -4), (-6, 13), (-20, -20)])
def test_a_known_shift_is_found_with_its_sign_within_a_reduced_pixel(dy, dx):
    he, ihc = phantom(3)

    found = pair_shift(moved(he, 0, 0), moved(ihc, dy, dx))

    assert found.dy_px == pytest.approx(dy, abs=192 / SIDE_PX)
    assert found.dx_px == pytest.approx(dx, abs=192 / SIDE_PX)
    assert found.correlation > 0.4


def test_the_sign_is_that_of_the_target_seen_from_the_image():
    he = np.full((3, 40, 40), 0.9)
    he[:, 10:14, 20:24] = 0.2
    lower = np.full((3, 40, 40), 0.9)
    lower[:, 13:17, 20:24] = 0.2

    assert pair_shift(he, lower).dy_px == pytest.approx(3, abs=0.01)
    assert pair_shift(lower, he).dy_px == pytest.approx(-3, abs=0.01)


def test_correlations_are_pearsons_r_over_what_overlaps():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(12, 15)), rng.normal(size=(12, 15)) + 5

    surface = _correlations(one, other, 3)

    assert surface.shape == (7, 7)
    for dy, dx in ((0, 0), (2, -3), (-1, 1)):
        first = one[max(0, -dy) : 12 - max(0, dy), max(0, -dx) : 15 - max(0, dx)]
        second = other[max(0, dy) : 12 + min(0, dy), max(0, dx) : 15 + min(0, dx)]
        expected = np.corrcoef(first.ravel(), second.ravel())[0, 1]
        assert surface[dy + 3, dx + 3] == pytest.approx(expected, abs=1e-9)


def test_without_structure_nothing_is_found():
    plain, (he, _) = np.full((3, 256, 256), 200, np.uint8), phantom(0)

    assert pair_shift(plain, plain) == (0, 0, 0)
    assert pair_shift(he, plain).correlation == 0


def test_oblong_images_and_tiny_ones_are_compared():
    he, ihc = phantom(1)

    assert pair_shift(he[:, :100], ihc[:, :100]).correlation > 0.4
    assert abs(pair_shift(he[:, :3, :3], ihc[:, :3, :3]).correlation) <= 1 + 1e-9


def test_other_sizes_are_refused():
    he, ihc = phantom(0, size=64)

    for function in (pair_shift, block_shifts):
        with pytest.raises(ValueError, match="expected one shape"):
            function(he, ihc[:, 1:])


def test_parts_of_a_bent_pair_have_shifts_of_their_own():
    he, ihc = phantom(5)
    bent = ihc.copy()
    bent[:, :, 128:] = np.roll(ihc[:, :, 128:], 6, axis=1)

    found = block_shifts(he, bent)

    np.testing.assert_allclose(found[:, 0, :2], 0, atol=1)
    np.testing.assert_allclose(found[:, 1, 0], 6, atol=2)


def test_pairs_that_lie_badly_are_told_and_others_are_not(tmp_path):
    side = 192
    rows = write_pairs(tmp_path, 4)
    for number in range(4):
        he, ihc = phantom(number)
        shift = (0, 0) if number != 1 else (11, -5)
        ihc = picture(7, height=1024, width=256)[512:768].transpose(2, 0, 1) if number == 2 else ihc
        save(tmp_path / "he" / f"{number}.png", moved(he, 0, 0).transpose(1, 2, 0))
        save(tmp_path / "ihc" / f"{number}.png", moved(ihc, *shift).transpose(1, 2, 0))
    settings = preset(images={"size_px": (side, side), "channels": "rgb", "resize": "centre"})
    pairs = open_pairs(rows, settings, cache=None, workers=0)

    told = {problem.file: problem for problem in check_pairs(pairs, pairs.positions())}

    assert set(told) == {"he/1.png", "he/2.png"}
    assert told["he/1.png"].kind == "shifted"
    assert "11 px down and 5 px left" in told["he/1.png"].found
    assert told["he/2.png"].kind == "badly-registered"
    assert (told["he/2.png"].row, told["he/2.png"].fatal) == (4, False)


def test_rows_without_pixels_are_passed_over_and_targets_are_needed(tmp_path):
    rows = write_pairs(tmp_path, 2)
    (tmp_path / "he" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")

    pairs = open_pairs(rows, preset(), cache=None, workers=0)
    assert all(problem.row == 3 for problem in check_pairs(pairs, [0, 1]))
    alone = open_pairs(rows, preset(), cache=None, workers=0, need_targets=False)
    with pytest.raises(ValueError, match="opened without targets"):
        check_pairs(alone, [1])


# --- real pairs -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(real_data):
    folder = real_data(PAIRS)
    loaded = []
    for name in NAMES:
        he, ihc = of_file(folder / name.format("HE")), of_file(folder / name.format("IHC"))
        whites = [white_point([image], percentile=99) for image in (he, ihc)]
        loaded.append((he, ihc, *whites))
    return loaded


def compared(one, other):
    return pair_shift(one[0], other[1], white_he=one[2], white_ihc=other[3])


def test_real_pairs_correlate_and_wrong_ones_do_not(real):
    right = np.array([compared(one, one) for one in real])
    wrong = [compared(one, real[place - 3])[2] for place, one in enumerate(real)]

    # as stated beside LEAST_CORRELATION
    expected = [0.044, 0.069, 0.196]
    assert np.sort(right[:, 2])[[0, 1, 9]].tolist() == pytest.approx(expected, abs=2e-3)
    assert max(wrong) < 0.0605
    assert LEAST_CORRELATION > 0.0605
    assert np.abs(right[:5, :2]).max() < 3  # BCI is registered


def test_a_shift_of_real_pairs_is_found_within_a_reduced_pixel(real):
    for he, ihc, *whites in real[:5]:
        found = pair_shift(
            moved(he, 0, 0, 64), moved(ihc, 40, -24, 64), white_he=whites[0], white_ihc=whites[1]
        )
        assert (found.dy_px, found.dx_px) == pytest.approx((40, -24), abs=8)


def test_sections_that_were_never_registered_are_told(real_data):
    folder = real_data("path_serial_sections_landmarks") / "lung-lesion_3" / "images"
    he = of_file(folder / "29-041-Izd2-w35-He-les3.jpg")
    for name in ("CD31-3", "Cc10-5", "Ki67-7", "proSPC-4"):
        other = of_file(folder / f"29-041-Izd2-w35-{name}-les3.jpg")
        found = pair_shift(he[:, :660, :892], other[:, :660, :892])
        far = max(abs(found.dy_px), abs(found.dx_px)) > 0.012 * 892
        assert found.correlation < LEAST_CORRELATION or far


def test_a_large_pair_takes_little_time():
    """About 8 ms of 1024 x 1024 pixels are measured."""
    he, ihc = (np.tile(image, (1, 4, 4)) for image in phantom(0))
    pair_shift(he, ihc)

    start = time.process_time()
    for _ in range(5):
        pair_shift(he, ihc)

    assert (time.process_time() - start) / 5 < 0.2
