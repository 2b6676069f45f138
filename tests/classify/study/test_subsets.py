import numpy as np
import pandas as pd
import pytest

from medglean.classify.prepare import Chosen
from medglean.classify.study.subsets import most_frequent, with_share
from medglean.data.manifest import Manifest


def chosen_of(labels, *, patients=None, parts=None, kind="single"):
    column = "label" if kind == "single" else "labels"
    ids = [f"{number:03}" for number in range(len(labels))]
    frame = pd.DataFrame({"id": ids, "image": [f"{one}.png" for one in ids], column: labels})
    frame["split"] = parts or ["train"] * len(labels)
    if patients is not None:
        frame["patient"] = patients
    manifest = Manifest.from_frame(frame, ".")
    return Chosen(manifest, kind, manifest.classes(column), ())


def test_the_most_frequent_classes_are_counted_on_the_training_part():
    labels = ["a"] * 5 + ["b"] * 3 + ["c"] * 2 + ["d"] * 2
    parts = ["test"] * 4 + ["train"] * 8

    chosen = chosen_of(labels, parts=parts)

    assert most_frequent(chosen, 1) == ("b",)
    assert most_frequent(chosen, 3) == ("b", "c", "d")  # of a, one training image is left
    several = chosen_of(["x;y", "y;z", "y", "z;x", "z"], kind="multi")
    assert most_frequent(several, 2) == ("y", "z")


@pytest.fixture
def grouped():
    labels, patients = [], []
    for patient in range(60):
        for _ in range(1 + patient % 3):
            labels.append("ill" if patient % 4 == 0 else "well")
            patients.append(f"p{patient}")
    parts = ["train" if int(one[1:]) < 50 else "test" for one in patients]
    return chosen_of(labels, patients=patients, parts=parts)


def test_a_share_is_of_whole_patients_inside_the_larger_and_alike_in_its_classes(grouped):
    frame = grouped.manifest.frame
    learn = set(np.flatnonzero(frame["split"] == "train"))
    test = set(np.flatnonzero(frame["split"] == "test"))
    before: set[int] = set()
    for share in (0.1, 0.25, 0.5, 0.8):
        rows = set(with_share(grouped, share, group="patient", seed=0).tolist())

        assert test <= rows
        taken = rows & learn
        assert before <= taken
        assert share * len(learn) <= len(taken) < share * len(learn) + 3  # at most a patient more
        inside = set(frame.loc[sorted(taken), "patient"])
        assert taken == {row for row in learn if frame.loc[row, "patient"] in inside}
        ill = (frame.loc[sorted(taken)].drop_duplicates("patient")["label"] == "ill").mean()
        assert abs(ill - 0.25) < 0.12
        before = taken
    assert with_share(grouped, 1.0, group="patient", seed=0).tolist() == list(range(len(frame)))


def test_another_seed_takes_other_patients(grouped):
    first, second = (with_share(grouped, 0.3, group="patient", seed=seed) for seed in (0, 1))

    assert first.tolist() == with_share(grouped, 0.3, group="patient", seed=0).tolist()
    assert first.tolist() != second.tolist()


def test_the_smallest_share_has_every_class_but_not_every_set_of_findings():
    labels = ["common"] * 97 + ["rare", "rarer", "rarest"]
    parts = {"single": 4, "multi": 0}
    for kind, least in parts.items():
        chosen = chosen_of(labels, kind=kind)
        found = [
            {labels[row] for row in with_share(chosen, 0.05, group="id", seed=seed)}
            for seed in range(8)
        ]
        assert min(len(one) for one in found) >= max(least, 1)
        if kind == "multi":  # else a tenth of a set would be made of what hardly occurs in it
            assert np.mean([len(one) - 1 for one in found]) < 1
