import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medglean.anomaly.masks import open_masks
from medglean.anomaly.prepare import DISEASED, HEALTHY
from medglean.data.manifest import Manifest
from medglean.data.recipe import Recipe

RECIPE = Recipe(size_px=(8, 8))
TARGETS = np.array([DISEASED, HEALTHY, DISEASED, DISEASED])


@pytest.fixture
def manifest(tmp_path):
    mask = np.zeros((8, 8), np.uint8)
    mask[2:5, 3:6] = 255
    Image.fromarray(mask).save(tmp_path / "a.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    frame = pd.DataFrame(
        {
            "id": list("abcd"),
            "image": [f"{name}.png" for name in "abcd"],
            "mask": ["a.png", None, None, "broken.png"],
        }
    )
    return Manifest.from_frame(frame, tmp_path)


def test_a_healthy_image_needs_no_mask_and_a_diseased_one_does(manifest):
    found = open_masks(manifest, RECIPE, np.arange(4), TARGETS)

    assert found.known.tolist() == [True, True, False, False]
    assert found.masks.sum(axis=(1, 2)).tolist() == [9, 0, 0, 0]
    assert found.masks[0, 2:5, 3:6].all()


def test_a_mask_that_cannot_be_read_is_told_by_file_and_row(manifest):
    (problem,) = open_masks(manifest, RECIPE, np.arange(4), TARGETS).problems

    assert "broken.png" in problem.file
    assert (problem.row, problem.column, problem.fatal) == (5, "mask", False)


def test_rows_are_taken_in_the_order_asked_for(manifest):
    found = open_masks(manifest, RECIPE, np.array([1, 0]), TARGETS[[1, 0]])

    assert found.masks.sum(axis=(1, 2)).tolist() == [0, 9]


def test_without_the_column_only_healthy_images_are_known(manifest):
    bare = manifest.with_columns(mask=None)

    assert open_masks(bare, RECIPE, np.arange(4), TARGETS).known.tolist() == [
        False,
        True,
        False,
        False,
    ]
