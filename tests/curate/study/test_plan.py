import numpy as np
import pandas as pd
import pytest
from tests.curate.study.conftest import small_preset

from medglean.curate.study.plan import replicates, size_name, sizes_of, start_of
from medglean.data.manifest import Manifest
from medglean.errors import DataError, UsageError


def manifest(patients=20, frames=5, **columns):
    rows = [
        {
            "id": f"{patient}-{frame}",
            "image": f"{patient}-{frame}.png",
            "patient": f"p{patient:02}",
            "group": f"c{patient:02}-{frame // 3}",
            "label": "b-lines" if patient % 4 == 0 else "a-lines",
        }
        for patient in range(patients)
        for frame in range(frames)
    ]
    return Manifest.from_frame(pd.DataFrame(rows).assign(**columns), ".")


def test_patients_are_dealt_out_anew_for_each_replicate():
    data = manifest()
    found = replicates(data, small_preset("replicates=4"))
    patients = data.groups("patient")

    tests = [set(patients[one.test]) for one in found]
    assert [len(test) for test in tests] == [6, 6, 6, 6]  # 30 % of 15 and of 5, rounded: 4 and 2
    assert len({tuple(sorted(test)) for test in tests}) == 4
    for one, test in zip(found, tests, strict=True):
        assert not test & set(patients[one.pool])
        assert len(one.pool) + len(one.test) == 100
        assert one.test_share == pytest.approx(0.3)
        assert (data.frame["label"].to_numpy()[one.test] == "b-lines").sum() == 10
    again = replicates(data, small_preset("replicates=4"))
    assert all(np.array_equal(a.test, b.test) for a, b in zip(found, again, strict=True))
    other = replicates(data, small_preset("replicates=4", "seed=1"))
    assert not all(np.array_equal(a.test, b.test) for a, b in zip(found, other, strict=True))


def test_a_split_that_stands_is_the_test_set_of_all():
    parts = ["test" if place < 30 else "val" if place < 40 else "train" for place in range(100)]
    data = manifest(split=parts)
    first, second = replicates(data, small_preset("test.kind=auto"))

    assert first.test.tolist() == second.test.tolist() == list(range(30))
    assert first.pool.tolist() == second.pool.tolist() == list(range(40, 100))


def test_fixed_without_a_split_draws_once():
    first, second = replicates(manifest(), small_preset("test.kind=fixed"))

    assert np.array_equal(first.test, second.test)
    assert len(first.test) == 30


def test_a_patient_on_both_sides_is_refused():
    data = manifest(split=["train", "test"] * 50)
    with pytest.raises(DataError, match=r"20 of the patients are in train and in test.*'p00'"):
        replicates(data, small_preset("test.kind=fixed"))


def test_one_patient_or_an_empty_pool_is_refused():
    with pytest.raises(DataError, match="one patient only"):
        replicates(manifest(patients=1), small_preset())
    with pytest.raises(DataError, match="0 images to select from and 30 to test on"):
        replicates(manifest(), small_preset("balanced_groups=9"))


def test_balanced_groups_have_exactly_as_many_images():
    data = manifest()
    first, second = replicates(data, small_preset("balanced_groups=3"))
    names, counts = np.unique(data.groups("group")[first.pool], return_counts=True)

    assert set(counts) == {3}
    assert all(str(name).endswith("-0") for name in names)  # the second clip has 2 frames only
    assert (np.diff(first.pool) > 0).all()
    assert len(first.test) == len(second.test) == 30  # the test part is not reduced


def test_sizes_are_told_by_their_own_text():
    preset = small_preset("sizes=['50%', 7, 0.125]")

    assert sizes_of(preset, 80) == {"7": 7, "12.5%": 10, "50%": 40}
    assert size_name("2.5 %") == "2.5%"
    with pytest.raises(UsageError, match="not all different for a training pool of 56"):
        sizes_of(preset, 56)
    with pytest.raises(UsageError, match="a size is 7, and there are 6 images"):
        sizes_of(preset, 6)


def test_the_start_is_one_for_all_sizes():
    assert start_of(small_preset(), 70, [4, 14]) == 2
    assert start_of(small_preset("start=auto"), 700, [45, 400]) == 4
    with pytest.raises(UsageError, match="start is 7 images, and the smallest subset has 4"):
        start_of(small_preset("start='10%'"), 70, [4, 14])
