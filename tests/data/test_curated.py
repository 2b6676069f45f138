import numpy as np
import pandas as pd

from medglean.data.curated import not_representative
from medglean.data.manifest import Manifest


def manifest(**columns):
    table = pd.DataFrame({"id": ["1", "2", "3"], "image": ["a.png", "b.png", "c.png"], **columns})
    return Manifest.from_frame(table, ".")


def test_a_set_that_nobody_curated_is_not_warned_of():
    assert not_representative(manifest()) == ()
    assert not_representative(manifest(curated_by=[None, None, None])) == ()


def test_chosen_images_are_counted_among_those_measured():
    chosen = manifest(curated_by=["enrich", None, "coverage"])

    [all_rows] = not_representative(chosen)
    assert all_rows.startswith("2 of 3 images")
    assert "(coverage, enrich)" in all_rows
    [first] = not_representative(chosen, np.array([0, 1]))
    assert first.startswith("1 of 2 images")
    assert not_representative(chosen, np.array([1])) == ()
