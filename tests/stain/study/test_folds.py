import numpy as np
import pytest

from medglean.errors import DataError
from medglean.stain.study.folds import folds_of, torn_groups

USABLE = np.array([0, 1, 3, 4, 6])
GROUPS = np.array(["a", "a", "b", "b", "c", "c", "a"], dtype=object)
PARTS = np.array(["train", "train", "test", "val", "test", "test", "train"], dtype=object)


@pytest.mark.parametrize("kind", ["pair", "group"])
def test_each_pair_is_tested_once_and_never_learnt_from_there(kind):
    folds = folds_of(kind, USABLE, GROUPS, PARTS)

    assert sorted(np.concatenate([fold.test for fold in folds])) == USABLE.tolist()
    for fold in folds:
        assert not set(fold.test) & set(fold.train)
        assert sorted([*fold.test, *fold.train]) == USABLE.tolist()
    assert len({fold.name for fold in folds}) == len(folds) == (5 if kind == "pair" else 3)


def test_a_group_is_never_on_both_sides():
    folds = folds_of("group", USABLE, GROUPS, PARTS)

    assert [fold.test.tolist() for fold in folds] == [[0, 1, 6], [3], [4]]
    assert torn_groups(folds, GROUPS) == 0
    assert torn_groups(folds_of("pair", USABLE, GROUPS, PARTS), GROUPS) == 3  # those of group a


def test_the_split_is_one_fold_without_validation_pairs():
    (fold,) = folds_of("split", USABLE, GROUPS, PARTS)

    assert (fold.name, fold.train.tolist(), fold.test.tolist()) == ("split", [0, 1, 6], [4])


def test_names_of_many_folds_sort_as_they_are_counted():
    names = [fold.name for fold in folds_of("pair", np.arange(12), np.arange(12), ["train"] * 12)]

    assert names == sorted(names)
    assert names[0] == "pair-00"


@pytest.mark.parametrize(
    ("kind", "usable", "told"),
    [
        ("split", [0, 1], "2 and 0 pairs"),
        ("pair", [0], "study.folds=pair leaves one pair out"),
        ("group", [0, 1, 6], "study.folds=group leaves one group out"),
    ],
)
def test_nothing_to_learn_from_or_to_measure_is_refused(kind, usable, told):
    with pytest.raises(DataError, match=told):
        folds_of(kind, np.array(usable), GROUPS, PARTS)
