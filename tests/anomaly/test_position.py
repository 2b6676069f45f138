import numpy as np
import pandas as pd

from medglean.anomaly.position import relative_position
from medglean.data.manifest import Manifest


def manifest(**columns):
    count = len(columns["slice"])
    frame = pd.DataFrame({"id": [f"i{n}" for n in range(count)], **columns})
    return Manifest.from_frame(frame.assign(image="x.png"), "/nowhere")


def test_the_place_is_that_among_the_slices_of_the_same_volume():
    table = manifest(
        slice=[10, 20, 30, 1, 2], patient=["a"] * 5, group=["a1", "a1", "a1", "a2", "a2"]
    )

    found = relative_position(table, "slice")

    np.testing.assert_allclose(found, [0.0, 0.5, 1.0, 0.0, 1.0])


def test_the_patient_stands_in_for_the_volume():
    table = manifest(slice=[3, 5, 4], patient=["a", "a", "a"])

    np.testing.assert_allclose(relative_position(table, "slice"), [0.0, 1.0, 0.5])


def test_a_missing_number_and_a_single_slice_have_no_place():
    table = manifest(slice=[1, None, 5, 7], patient=["a", "a", "a", "b"])

    found = relative_position(table, "slice")

    np.testing.assert_allclose(found, [0.0, np.nan, 1.0, np.nan])


def test_without_a_column_there_is_none():
    table = manifest(slice=["x", "y"], patient=["a", "a"])

    assert relative_position(table, None) is None
    assert relative_position(table, "height") is None
    assert relative_position(table, "slice") is None
