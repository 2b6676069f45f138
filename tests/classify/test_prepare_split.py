"""A split that stands in the manifest is kept, refused where it leaks, or dealt anew on request."""

from __future__ import annotations

import pandas as pd
import pytest

from medglean.classify.prepare import choose
from medglean.classify.settings import ClassifyPreset
from medglean.data.division import SplitSettings
from medglean.data.manifest import Manifest
from medglean.errors import SplitError


def a_manifest(*, leaks):
    """Return 40 images of 40 patients, the first 30 to train; with a leak, one is on both sides."""
    patients = [f"p{number}" for number in range(40)]
    if leaks:
        patients[39] = "p0"
    return Manifest.from_frame(
        pd.DataFrame(
            {
                "id": [str(number) for number in range(40)],
                "image": [f"{number}.png" for number in range(40)],
                "patient": patients,
                "label": ["normal", "ill"] * 20,
                "split": ["train"] * 30 + ["test"] * 10,
            }
        ),
        ".",
    )


def parts_of(manifest, **settings):
    preset = ClassifyPreset(name="here", split=SplitSettings(**settings))
    return choose(manifest, preset).manifest.frame["split"]


def test_a_standing_test_part_is_kept():
    parts = parts_of(a_manifest(leaks=False))

    assert list(parts[30:]) == ["test"] * 10
    assert "test" not in set(parts[:30])


def test_a_standing_split_that_leaks_is_refused_with_the_way_out():
    with pytest.raises(SplitError, match=r"'p0' is in test and (train|val).*split\.anew=true"):
        parts_of(a_manifest(leaks=True))


def test_dealt_anew_a_patient_is_on_one_side():
    parts = parts_of(a_manifest(leaks=True), anew=True)

    assert parts[39] == parts[0]
    assert list(parts[30:]) != ["test"] * 10
    assert set(parts) == {"train", "val", "test"}
