from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medglean.classify.shortcuts.written import FACTS, families_of, file_facts
from medglean.data.manifest import Manifest


@pytest.fixture
def manifest(tmp_path):
    for number, size in enumerate([(8, 6), (9, 6), (8, 6)]):
        Image.new("L", size, number).save(tmp_path / f"{number}.png")
    frame = pd.DataFrame(
        {
            "id": ["a", "b", "c"],
            "image": [f"{number}.png" for number in range(3)],
            "label": ["x", "y", "x"],
            "ward": ["east", "west", "east"],
            "sex": ["F", "M", None],
        }
    )
    return Manifest.from_frame(frame, tmp_path)


def test_headers_are_read_where_the_manifest_says_nothing(manifest):
    facts = file_facts(manifest, np.array([1, 0]))

    assert facts["width"].tolist() == [9, 8]
    assert facts["height"].tolist() == [6, 6]
    assert facts["format"].tolist() == ["PNG", "PNG"]
    size = [(manifest.root / name).stat().st_size for name in ("1.png", "0.png")]
    assert facts["bytes"].tolist() == size


def test_the_manifest_is_believed_where_it_says_all(manifest):
    known = {name: ["PNG"] * 3 if name == "format" else [7, 8, 9] for name in FACTS}
    facts = file_facts(manifest.with_columns(**known), np.array([0, 2]))

    assert facts["bytes"].tolist() == [7, 9]


def test_files_that_are_not_there_leave_gaps(manifest):
    (manifest.root / "1.png").unlink()
    facts = file_facts(manifest, np.arange(3))

    assert np.isnan(facts["bytes"]).tolist() == [False, True, False]
    for number in (0, 2):
        (manifest.root / f"{number}.png").unlink()
    assert file_facts(manifest, np.arange(3)).isna().all(axis=None)


class _Images:
    def __init__(self, manifest):
        self.manifest = manifest


def test_families_are_facts_and_columns_but_never_the_label(manifest):
    families = families_of(_Images(manifest), np.arange(3), further=("ward", "label", "id"))

    assert {"dimensions", "sex", "ward"} <= set(families)
    assert not {"label", "id", "image", "encoding"} & set(families)
    assert families["sex"].shape == (3, 3)
    assert "ward" not in families_of(_Images(manifest), np.arange(3), further=())


def test_without_files_the_columns_are_left(manifest):
    for number in range(3):
        (manifest.root / f"{number}.png").unlink()

    assert set(families_of(_Images(manifest), np.arange(3), further=())) == {"sex"}
