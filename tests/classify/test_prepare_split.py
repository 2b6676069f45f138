"""A split that stands in the manifest is kept, refused where it leaks, or dealt anew on request."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import pytest

from medglean.classify.prepare import choose
from medglean.classify.settings import ClassifyPreset
from medglean.data.division import SplitSettings
from medglean.data.manifest import Manifest
from medglean.data.phantom import cxr_image
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


def test_near_duplicates_are_looked_for_when_asked_and_stay_on_one_side(tmp_path):
    chests = [cxr_image(3, number, opacity=False, size_px=(64, 64))[0] for number in range(12)]
    for number in range(24):  # the second half are mirror images of the first
        image = chests[number % 12][:, :: -1 if number >= 12 else 1]
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.ascontiguousarray(image))
    ids = [str(number) for number in range(24)]
    frame = {"id": ids, "image": [f"{one}.png" for one in ids], "label": ["normal", "ill"] * 12}
    manifest = Manifest.from_frame(pd.DataFrame(frame), tmp_path)
    preset = ClassifyPreset(name="here", split=SplitSettings(duplicates="together"))

    chosen = choose(manifest, preset, workers=1)

    parts = chosen.manifest.frame["split"].to_numpy()
    assert (parts[:12] == parts[12:]).all()
    assert set(parts) == {"train", "val", "test"}
    told = [problem for problem in chosen.problems if problem.kind == "near-duplicates"]
    assert "24 images" in told[0].found
    alone = choose(manifest, ClassifyPreset(name="here")).manifest.frame["split"].to_numpy()
    assert (alone[:12] != alone[12:]).any()


def test_divided_by_a_column_other_values_are_left_out_and_counted():
    view = ["PA"] * 20 + ["AP Supine"] * 16 + ["L", "L", "lateral", None]
    manifest = a_manifest(leaks=False).with_columns(split=None, view=view)
    split = {"column": "view", "train_values": ("pa",), "test_values": ("ap supine",)}
    chosen = choose(manifest, ClassifyPreset(name="here", split=SplitSettings(**split)))

    assert len(chosen.manifest) == 36
    assert (chosen.manifest.frame["split"][20:] == "test").all()
    assert "test" not in set(chosen.manifest.frame["split"][:20])
    [told] = [problem for problem in chosen.problems if problem.kind == "other-value"]
    assert "4 of 40 images" in told.found
    assert "L (2), " in told.found
    assert not told.fatal
