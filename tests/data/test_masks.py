from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medglean.data.masks import prepared_mask
from medglean.data.recipe import Recipe
from medglean.errors import ReadError


def test_structures_are_told_apart_by_their_value(tmp_path):
    mask = np.zeros((4, 4), np.uint8)
    mask[0], mask[1] = 1, 2
    Image.fromarray(mask).save(tmp_path / "mask.png")
    recipe = Recipe(size_px=(4, 4))
    found = prepared_mask("mask.png", tmp_path, recipe, structures={"wall": 1, "cavity": 2})

    assert found.sum(axis=(1, 2)).tolist() == [4, 4]
    assert found[1, 1].all()
    with pytest.raises(ReadError, match=r"mask.png: the mask holds the value 2, expected 0 or"):
        prepared_mask("mask.png", tmp_path, recipe, structures={"wall": 1})


def test_a_coloured_mask_is_refused(tmp_path: Path):
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).save(tmp_path / "mask.png")
    with pytest.raises(ReadError, match=r"expected one\. Write masks as grey images"):
        prepared_mask("mask.png", tmp_path, Recipe(size_px=(4, 4)))
