import numpy as np
import pytest

from medglean.curate.outliers import OutlierGate, find_outliers, flat_images, threshold_of
from medglean.errors import UsageError


def clips_with_junk(*, clips=30, frames=33, junk=20, d=32, seed=0):
    """Return clips of similar frames with 2 % of images that look like nothing else."""
    generator = np.random.default_rng(seed)
    shared = np.r_[4.0, np.zeros(d - 1)]
    centres = generator.normal(size=(clips, d)) + shared
    frames_of = np.repeat(centres, frames, axis=0)
    frames_of += 0.3 * generator.normal(size=frames_of.shape)
    odd = 3 * generator.normal(size=(junk, d))
    values = np.concatenate([frames_of, odd])
    shuffled = generator.permutation(len(values))
    return values[shuffled], shuffled >= len(frames_of)


@pytest.mark.parametrize("seed", range(3))
def test_most_junk_is_listed_and_little_else(seed):
    values, is_junk = clips_with_junk(seed=seed)

    found = find_outliers(values, gate=OutlierGate())

    assert is_junk[found.position].sum() >= 18  # of 20
    assert (~is_junk[found.position]).sum() <= 20  # of 990
    assert set(found.reason) == {"looks like nothing else"}
    assert (np.diff(found.score) >= 0).all()
    assert (found.score < found.threshold).all()


def test_threshold_by_hand():
    # median 0.8, absolute differences 0.3 0.1 0 0.1 0.15: MAD 0.1
    score = np.array([0.5, 0.7, 0.8, 0.9, 0.95])

    assert threshold_of(score, gate=OutlierGate(deviations=2.0)) == pytest.approx(0.8 - 0.29652)
    assert threshold_of(np.full(4, 0.9), gate=OutlierGate()) == pytest.approx(0.87)


def test_the_score_is_the_similarity_to_the_kth_nearest():
    angles = np.deg2rad([0, 10, 30, 180])
    values = np.stack([np.cos(angles), np.sin(angles)], axis=1)

    found = find_outliers(values, gate=OutlierGate(neighbour=2, deviations=0.5))

    # second nearest: 30, 20, 30 and 170 degrees away
    assert found.position.tolist() == [3]
    assert found.score == pytest.approx(np.cos(np.deg2rad([170])))
    assert found.nearest.tolist() == [2]
    assert found.neighbour == 2


def test_copies_of_most_images_do_not_make_the_others_junk():
    values = np.concatenate([np.repeat(np.eye(4)[:2], 40, axis=0), [[1, 0.1, 0, 0]]])

    assert len(find_outliers(values, gate=OutlierGate())) == 0


def test_flat_thumbnails_are_listed_with_their_reason():
    values = np.random.default_rng(0).normal(size=(12, 4)) + 5
    thumbnails = np.random.default_rng(1).random((12, 8, 8))
    thumbnails[4] = 0.3

    found = find_outliers(values, gate=OutlierGate(deviations=50.0), thumbnails=thumbnails)

    assert found.position.tolist() == [4]
    assert found.reason == ("nearly constant",)
    assert flat_images(thumbnails, gate=OutlierGate(least_contrast=0.9)).all()


def test_both_reasons_are_told():
    values = np.concatenate([np.ones((12, 3)), [[1.0, -1.0, 0.0]]])
    thumbnails = np.random.default_rng(1).random((13, 8, 8))
    thumbnails[12] = 0

    found = find_outliers(values, gate=OutlierGate(), thumbnails=thumbnails)

    assert found.reason == ("looks like nothing else; nearly constant",)


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_images_to_be_odd(n):
    assert len(find_outliers(np.eye(3)[:n], gate=OutlierGate())) == 0


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"neighbour": 0}, "neighbour must be at least 1, got 0"),
        ({"deviations": -1.0}, "deviations must be 0 or more, got -1.0"),
        ({"least_deviation": float("nan")}, "least_deviation must be 0 or more, got nan"),
    ],
)
def test_bad_settings_are_refused(setting, message):
    with pytest.raises(UsageError, match=message):
        OutlierGate(**setting)


def test_thumbnails_of_8_bits():
    values = np.random.default_rng(0).normal(size=(12, 4)) + 5
    thumbnails = np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8)
    thumbnails[5] = 7
    gate = OutlierGate(deviations=100.0)

    assert find_outliers(values, gate=gate, thumbnails=thumbnails).position.tolist() == [5]


def test_at_most_a_share_is_listed_the_loneliest_of_all():
    values = clips_with_junk()[0]
    all_of_them = find_outliers(values, gate=OutlierGate(deviations=0.5))
    few = find_outliers(values, gate=OutlierGate(deviations=0.5, most_share=0.01))

    assert len(few) == int(0.01 * len(values)) < len(all_of_them)
    assert few.position.tolist() == all_of_them.position[: len(few)].tolist()
    assert few.alone == len(all_of_them)
    with pytest.raises(UsageError, match="most_share must be above 0"):
        OutlierGate(most_share=0.0)
