import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medglean.measure.pixels import overlap


def masks(*rows):
    """One structure, one row of pixels per image."""
    return np.array(rows, dtype=bool)[:, None, :]


def test_values_by_hand():
    # 2 pixels in both, 3 true, 4 predicted: Jaccard 2 / 5, Dice 4 / 7
    found = overlap(masks([1, 1, 1, 0, 0, 0]), masks([0, 1, 1, 1, 1, 0]))

    assert found.jaccard()[0, 0] == pytest.approx(0.4)
    assert found.dice()[0, 0] == pytest.approx(4 / 7)


def test_nothing_to_find_and_nothing_found_is_undefined():
    found = overlap(masks([0, 0], [0, 0], [1, 0]), masks([0, 0], [1, 0], [0, 0]))

    assert np.isnan(found.jaccard()[0, 0])
    assert np.isnan(found.dice()[0, 0])
    assert found.jaccard()[1:, 0].tolist() == [0.0, 0.0]
    assert found.dice()[1:, 0].tolist() == [0.0, 0.0]


def test_structures_are_measured_apart():
    truth = np.zeros((1, 2, 2, 2), dtype=bool)
    predicted = np.zeros((1, 2, 2, 2), dtype=bool)
    truth[0, 0, 0], truth[0, 1, 1] = True, True
    predicted[0, 0, 0], predicted[0, 1, :, 0] = True, True

    assert overlap(truth, predicted).jaccard()[0].tolist() == pytest.approx([1.0, 1 / 3])


def test_pooled_adds_pixels_of_each_group():
    truth = masks([1, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0])
    predicted = masks([1, 0, 0, 0], [0, 0, 0, 1], [1, 0, 0, 0])
    found = overlap(truth, predicted)

    # group a: 1 in both, union 2 + 1 = 3; group b: 1 of 1; all: 2 of 4
    by_group = found.pooled(["a", "a", "b"])
    assert by_group.jaccard()[:, 0].tolist() == pytest.approx([1 / 3, 1.0])
    assert found.pooled().jaccard()[:, 0].tolist() == pytest.approx([0.5])


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"shape \(1, 1, 3\), the prediction \(1, 1, 2\)"):
        overlap(masks([1, 0, 0]), masks([1, 0]))
    with pytest.raises(ValueError, match=r"masks has 2, groups has 1"):
        overlap(masks([1], [0]), masks([1], [0])).pooled(["a"])


@given(st.integers(0, 999))
def test_dice_and_jaccard_say_the_same(seed):
    generator = np.random.default_rng(seed)
    truth, predicted = (generator.random((5, 2, 4, 4)) < 0.3 for _ in range(2))
    found = overlap(truth, predicted)
    dice, jaccard = found.dice(), found.jaccard()

    np.testing.assert_allclose(dice, 2 * jaccard / (1 + jaccard))
    np.testing.assert_array_equal(overlap(predicted, truth).jaccard(), jaccard)
