import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydantic import ValidationError

from medglean.data.intensity import Limits, limits_of, to_unit
from medglean.data.recipe import Intensity
from medglean.errors import DataError

RULES = [
    Intensity(rule="percentile", low=1, high=99),
    Intensity(rule="min-max"),
    Intensity(rule="window", low=-160, high=240),
]
finite = arrays.arrays(np.float32, (2, 5, 4), elements=st.floats(-(2.0**99), 2.0**99, width=32))
whole = arrays.arrays(np.int16, (1, 6, 6), elements=st.integers(-1024, 3071))


def test_window_computed_by_hand():
    # (v + 160) / 400: -1000 -> clipped 0, 0 -> 0.4, 40 -> 0.5, 240 -> 1, 3000 -> clipped 1
    ct = np.array([[-1000, 0, 40, 240, 3000]], dtype=np.int16)
    unit, warnings = to_unit(ct, Intensity(rule="window", low=-160, high=240))
    np.testing.assert_allclose(unit, [[0, 0.4, 0.5, 1, 1]], atol=1e-7)
    assert unit.dtype == np.float32
    assert warnings == ()


def test_percentile_computed_by_hand():
    # 0..10: percentile 10 is 1 and percentile 90 is 9, so v -> (v - 1) / 8
    values = np.arange(11, dtype=np.uint8)[np.newaxis]
    unit, _ = to_unit(values, Intensity(rule="percentile", low=10, high=90))
    np.testing.assert_allclose(unit[0], np.clip((np.arange(11) - 1) / 8, 0, 1), atol=1e-7)


def test_background_zeros_can_be_left_out_of_the_percentiles():
    # 900 zeros and 1..100: of all values percentile 99 is 90, of those that are not zero 99
    values = np.concatenate([np.zeros(900), np.arange(1, 101)]).reshape(1, 1000)
    all_of_them = Intensity(rule="percentile", low=0, high=99)
    brain = Intensity(rule="percentile", low=0, high=99, skip_zeros=True)

    assert limits_of(values, all_of_them)[:2] == ((0.0,), (pytest.approx(90.01),))
    assert limits_of(values, brain)[:2] == ((0.0,), (pytest.approx(99.01),))
    low = Intensity(rule="percentile", low=1, high=100, skip_zeros=True)
    assert limits_of(values, low)[:2] == ((pytest.approx(1.99),), (100.0,))
    assert to_unit(np.zeros((1, 4)), brain).values.tolist() == [[0, 0, 0, 0]]


def test_full_scale_is_the_encoding_not_the_image():
    values = np.array([[0, 51, 102]], dtype=np.uint8)
    unit, _ = to_unit(values, Intensity(), full_scale=(0, 255))
    np.testing.assert_allclose(unit, [[0, 0.2, 0.4]], atol=1e-7)


def test_full_scale_without_one_says_what_to_choose():
    with pytest.raises(DataError, match=r"full-scale.*'percentile', 'min-max' or 'window'"):
        to_unit(np.zeros((1, 2, 2), np.float32), Intensity())


def test_channels_have_their_own_ends():
    values = np.stack([np.arange(4.0), 100 * np.arange(4.0) - 7])
    unit, _ = to_unit(values, Intensity(rule="min-max"))
    np.testing.assert_allclose(unit[0], unit[1], atol=1e-6)
    assert unit[1].tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])


def test_a_slice_takes_the_ends_of_its_volume():
    volume = np.stack([np.full((4, 4), v, np.float32) for v in (0, 10, 40)])[np.newaxis]
    rule = Intensity(rule="min-max", scope="volume")
    ends = limits_of(volume, rule)
    unit, warnings = to_unit(volume[:, 1], rule, limits=ends)
    assert unit[0, 0, 0] == pytest.approx(0.25)
    assert warnings == ()  # constant within the slice, but the volume has a range


def test_a_volume_with_other_channels_is_refused():
    with pytest.raises(DataError, match=r"2 channels.*volume it is a slice of 1"):
        to_unit(np.zeros((2, 3)), RULES[1], limits=Limits((0.0,), (1.0,)))


@pytest.mark.parametrize("rule", RULES[:2])
def test_a_constant_image_becomes_zeros_and_is_told(rule):
    unit, warnings = to_unit(np.full((2, 3, 3), 7.5), rule)
    assert (unit == 0).all()
    assert warnings == ("2 of 2 channels constant: no range, set to zeros",)


def test_coinciding_percentiles_fall_back_to_the_whole_range_and_are_told():
    values = np.zeros((1, 20, 20), np.uint8)
    values[0, 3, 3], values[0, 3, 4] = 200, 50
    unit, warnings = to_unit(values, Intensity(rule="percentile", low=2, high=98))
    assert unit.max() == 1.0
    assert unit[0, 3, 4] == pytest.approx(0.25)
    assert "percentiles 2 and 98 have the same value" in warnings[0]


def test_nan_and_infinity_are_left_out_of_the_range_and_counted():
    values = np.array([[0.0, 5.0, 10.0, np.nan, np.nan, np.inf, -np.inf]])
    unit, warnings = to_unit(values, Intensity(rule="min-max"))
    assert unit[0].tolist() == [0.0, 0.5, 1.0, 0.0, 0.0, 1.0, 0.0]
    assert warnings == (
        "2 of 7 values are NaN; set to 0",
        "2 of 7 values are infinite; clipped to the range",
    )


def test_an_image_without_a_finite_value_is_refused():
    with pytest.raises(DataError, match="none of the 4 values of a channel is finite"):
        to_unit(np.full((1, 2, 2), np.nan), Intensity(rule="percentile", low=1, high=99))


def test_ends_at_the_largest_floats_do_not_overflow():
    unit, _ = to_unit(np.array([[-1.7e308, 0.0, 1.7e308]]), Intensity(rule="min-max"))
    assert unit[0].tolist() == pytest.approx([0, 0.5, 1])


def test_32_bit_integers_keep_small_differences_on_a_large_offset():
    values = np.array([[2**31 - 5, 2**31 - 3, 2**31 - 1]], dtype=np.int64)
    unit, _ = to_unit(values, Intensity(rule="min-max"))
    assert unit[0].tolist() == pytest.approx([0, 0.5, 1])


@pytest.mark.parametrize("rule", RULES)
@given(values=finite)
def test_always_in_unit_range_and_monotone(rule, values):
    unit, _ = to_unit(values, rule)
    assert np.isfinite(unit).all()
    assert unit.min() >= 0
    assert unit.max() <= 1
    for channel, mapped in zip(values, unit, strict=True):
        order = np.argsort(channel, axis=None)
        assert (np.diff(mapped.ravel()[order]) >= 0).all()


@pytest.mark.parametrize("rule", RULES[:2])
@given(values=whole, slope=st.sampled_from([0.25, 1.0, 3.0, 100.0]), offset=st.integers(-999, 999))
def test_percentiles_do_not_see_the_scanners_gain_and_offset(rule, values, slope, offset):
    plain, _ = to_unit(values, rule)
    changed, _ = to_unit(values.astype(np.float64) * slope + offset, rule)
    np.testing.assert_allclose(plain, changed, atol=1e-5)


@given(values=whole)
def test_inverted_values_give_the_inverted_image(values):
    rule = Intensity(rule="percentile", low=5, high=95)
    unit, warnings = to_unit(values, rule)
    inverted, _ = to_unit(-values.astype(np.int32), rule)
    if not warnings:
        np.testing.assert_allclose(inverted, 1 - unit, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"rule": "percentile", "low": 99, "high": 1}, "0 <= low < high <= 100, got 99.0 and 1.0"),
        ({"rule": "window", "low": 5, "high": 5}, "low < high, got 5.0 and 5.0"),
        ({"rule": "window", "high": 50}, "needs both low and high"),
        ({"rule": "full-scale", "scope": "volume"}, "scope 'volume' has no meaning"),
        ({"rule": "min-max", "low": float("nan")}, "finite"),
        ({"rule": "min-max", "skip_zeros": True}, "skip_zeros has no meaning"),
    ],
)
def test_bad_rules_are_refused(settings, match):
    with pytest.raises(ValidationError, match=match):
        Intensity(**settings)
