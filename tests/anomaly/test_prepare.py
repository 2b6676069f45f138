import numpy as np
import pandas as pd
import pytest

from medglean.anomaly.prepare import DISEASED, HEALTHY, NULL, choose, targets_of
from medglean.anomaly.settings import AnomalyPreset, LabelSettings
from medglean.data.manifest import Manifest
from medglean.errors import DataError


def manifest(column="label", values=None, **more):
    values = ["healthy", "tumour"] * 20 if values is None else values
    count = len(values)
    table = {
        "id": [f"i{number}" for number in range(count)],
        "image": [f"{number}.png" for number in range(count)],
        "patient": [f"p{number // 4}" for number in range(count)],
        column: values,
    }
    return Manifest.from_frame(pd.DataFrame(table | more), ".")


def preset(**settings):
    return AnomalyPreset.model_validate({"name": "test"} | settings)


def test_both_classes_are_told_apart_and_divided_by_patient():
    chosen = choose(manifest(), preset())

    frame = chosen.manifest.frame
    np.testing.assert_array_equal(chosen.targets, [HEALTHY, DISEASED] * 20)
    assert (chosen.healthy, chosen.diseased) == ("healthy", ("tumour",))
    assert frame["label"].tolist() == ["healthy", "tumour"] * 20
    assert (frame.groupby("patient")["split"].nunique() == 1).all()
    assert set(frame["split"]) == {"train", "val", "test"}
    assert "healthy-or-diseased" not in frame
    assert chosen.match is None


def test_the_division_shares_out_healthy_and_diseased_whatever_their_names():
    values = ["none"] * 60 + ["a", "b", "c"] * 10
    rows = manifest(values=values, patient=[f"p{number}" for number in range(90)])

    chosen = choose(rows, preset(labels={"healthy": "none"}, split={"train": 0.5, "val": 0.0,
                                                                   "test": 0.5}))  # fmt: skip

    test = (chosen.manifest.frame["split"] == "test").to_numpy()
    assert np.bincount(chosen.targets[test]).tolist() == [30, 15]
    assert chosen.diseased == ("a", "b", "c")


def test_what_is_neither_or_unlabelled_is_left_out_and_counted():
    values = ["healthy", "tumour", "stroke", None] * 10

    chosen = choose(manifest(values=values), preset(labels={"diseased": ["tumour"]}))

    assert len(chosen.manifest) == 20
    assert set(chosen.manifest.frame["label"]) == {"healthy", "tumour"}
    told = {problem.kind: problem for problem in chosen.problems}
    assert "10 of 40 images have no label" in told["unlabelled"].found
    assert "10 of 40 images are neither" in told["other-class"].found
    assert not any(problem.fatal for problem in chosen.problems)


@pytest.mark.parametrize(
    ("diseased", "expected"),
    [
        (None, [HEALTHY, DISEASED, DISEASED, DISEASED, NULL, NULL]),
        (("effusion",), [HEALTHY, DISEASED, HEALTHY, NULL, NULL, NULL]),
    ],
)
def test_of_several_findings_a_diseased_one_decides(diseased, expected):
    rows = manifest("labels", ["clear", "clear;effusion", "device;clear", "device", "", None])

    found = targets_of(rows, LabelSettings(healthy="clear", diseased=diseased))

    np.testing.assert_array_equal(found, expected)


def test_an_unknown_healthy_class_is_refused_with_the_classes_that_there_are():
    with pytest.raises(DataError, match=r"healthy class 'normal'; .* 'healthy', 'tumour'. Set "
                                        r"labels.healthy="):  # fmt: skip
        choose(manifest(), preset(labels={"healthy": "normal"}))


def test_an_unknown_diseased_class_is_refused():
    with pytest.raises(DataError, match=r"'glioma' of labels.diseased has no image; .*'tumour'"):
        choose(manifest(), preset(labels={"diseased": ["tumour", "glioma"]}))


def test_the_healthy_class_cannot_be_diseased():
    with pytest.raises(DataError, match="'healthy' is named as healthy and as diseased"):
        choose(manifest(), preset(labels={"diseased": ["healthy"]}))


def test_a_class_without_an_image_is_refused():
    with pytest.raises(DataError, match="no image is diseased"):
        choose(manifest(values=["healthy"] * 8), preset())
    with pytest.raises(DataError, match="none is healthy"):
        choose(manifest("labels", ["clear;a", "a"] * 4), preset(labels={"healthy": "clear"}))


def test_no_column_of_labels_is_refused():
    rows = Manifest.from_frame(pd.DataFrame({"id": ["a"], "image": ["a.png"]}), ".")

    with pytest.raises(DataError, match="no column 'label' or 'labels'"):
        choose(rows, preset())


def test_classes_are_matched_on_the_place_in_the_volume():
    slices = list(range(1, 6)) * 8

    chosen = choose(manifest(slice=slices), preset(match_on="position"))

    volumes = chosen.manifest.groups("patient")
    for one in set(volumes):
        places = chosen.match[volumes == one]
        assert places.min() == 0.0
        assert places.max() == 1.0
    with pytest.raises(DataError, match="match_on is the position, and column 'slice'"):
        choose(manifest(), preset(match_on="position"))


def test_the_number_that_classes_are_matched_on_is_kept():
    position = [str(number % 4) for number in range(40)]

    chosen = choose(manifest(slice=position), preset(match_on="slice"))

    assert chosen.match.tolist() == [float(value) for value in position]


def test_images_where_one_class_is_alone_are_counted():
    position = [9.0 if number % 4 == 0 else 1.0 for number in range(40)]

    chosen = choose(manifest(slice=position), preset(match_on="slice"))

    (problem,) = (one for one in chosen.problems if one.kind == "unmatched")
    inside = (chosen.manifest.frame["split"] == "train").sum()
    assert f"{inside // 4} of {inside} training images lie where 'slice'" in problem.found


def test_a_column_that_cannot_be_matched_on_is_refused():
    with pytest.raises(DataError, match=r"no column 'slice', which match_on names; .*patient"):
        choose(manifest(), preset(match_on="slice"))
    words = ["1.0"] * 39 + ["top"]
    with pytest.raises(DataError, match=r"'top' at id 'i39', expected a number \(1 such"):
        choose(manifest(slice=words), preset(match_on="slice"))
    apart = [float(number % 2) for number in range(40)]
    with pytest.raises(DataError, match="no range in common"):
        choose(manifest(slice=apart), preset(match_on="slice"))
