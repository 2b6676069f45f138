from dataclasses import replace

import numpy as np
import pytest
from tests.stain.tiny import run_folder

from medglean.stain.likeness import Features
from medglean.stain.measured import Kept, Made
from medglean.stain.study.cells import Cell, joined, read_cell, write_cell
from medglean.stain.study.rows import Cost


def cell(rows, *, cpu=1.0, cost=10.0, shown=()):
    rng = np.random.default_rng(0)
    table = {"psnr": np.array(rows, dtype=float), "dice": np.full(len(rows), np.nan)}
    kept = {
        row: Kept(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8), np.array([0.9, 0.8, 0.7]))
        for row in shown
    }
    return Cell(Made(np.array(rows), table, kept, cpu), Cost(cost, 4, 100))


def test_a_cell_is_read_as_it_was_written(start, tmp_path):
    with run_folder(tmp_path / "run", start) as run:
        write_cell(run, "cells/a", cell([3, 5], shown=[5]))
        again = read_cell(run, "cells/a", shown=[1, 5])

    np.testing.assert_array_equal(again.made.rows, [3, 5])
    np.testing.assert_array_equal(again.made.table["psnr"], [3.0, 5.0])
    assert np.isnan(again.made.table["dice"]).all()
    np.testing.assert_array_equal(
        again.made.kept[5].generated, cell([3, 5], shown=[5]).made.kept[5].generated
    )
    np.testing.assert_array_equal(again.made.kept[5].white, [0.9, 0.8, 0.7])
    assert again.cost == Cost(10.0, 4, 100)


def test_a_cell_that_is_not_whole_is_not_read(start, tmp_path):
    with run_folder(tmp_path / "run", start) as run:
        assert read_cell(run, "cells/a", shown=[]) is None
        write_cell(run, "cells/a", cell([3, 5], shown=[5]))
        assert read_cell(run, "cells/a", shown=[3]) is None  # asked for later: made again
        (run.path / "cells" / "a.json").unlink()  # killed before the last file
        assert read_cell(run, "cells/a", shown=[]) is None


def test_folds_are_joined_in_the_order_of_rows():
    whole = joined([cell([4, 1], cpu=1.0, cost=10.0, shown=[4]), cell([2], cpu=4.0, cost=30.0)])

    np.testing.assert_array_equal(whole.made.rows, [1, 2, 4])
    np.testing.assert_array_equal(whole.made.table["psnr"], [1.0, 2.0, 4.0])
    assert set(whole.made.kept) == {4}
    assert whole.made.cpu_seconds == pytest.approx(2.0)  # per image: two at 1, one at 4
    assert whole.cost.cpu_seconds == pytest.approx(20.0)  # of a fold


def test_a_pair_in_two_folds_is_refused():
    with pytest.raises(ValueError, match="found one in two"):
        joined([cell([1, 2]), cell([2])])


def test_features_are_kept_with_a_cell(start, tmp_path):
    one = cell([3, 5])
    features = Features(np.ones((2, 4)), np.zeros((2, 4)), np.ones((2, 3)))
    with run_folder(tmp_path / "run", start) as run:
        write_cell(run, "cells/a", Cell(replace(one.made, features=features), one.cost))
        again = read_cell(run, "cells/a", shown=[])

    np.testing.assert_array_equal(again.made.features.generated, np.ones((2, 4)))
    assert joined([again, cell([1])]).made.features.real.shape == (2, 4)
