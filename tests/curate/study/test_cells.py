import numpy as np
import pytest
from tests.curate.study.test_learners import settings, squares

from medglean.curate.study.cells import Cell, run_cell, run_cells, table


def cell(replicate=0, method="random", size="8", learn=range(8)):
    rows = np.array(learn)
    return Cell(
        replicate,
        method,
        size,
        rows,
        np.arange(24, 40),
        np.arange(24),
        2,
        2,
        {"without": 4, "with": 4},
    )


def timeless(records):
    rows = [{k: v for k, v in one.items() if k != "seconds"} for one in records]
    return sorted(rows, key=lambda one: (one["replicate"], one["method"]))


def test_every_cell_has_a_file_and_a_seed_of_its_own():
    others = [
        cell(), cell(replicate=1), cell(method="enrich"), cell(size="9"), cell(size="9%"),
        cell(size="2.5%"), cell(size="25%"),
    ]  # fmt: skip

    assert len({one.name for one in others}) == len({one.key(0) for one in others}) == len(others)
    assert cell(size="2.5%").name == "000-random-2.5pc"
    assert cell().key(0) != cell().key(1)
    assert cell().fingerprint() != cell(learn=range(1, 9)).fingerprint()


def test_a_record_says_what_was_learnt_and_how_well(tmp_path):
    record = run_cell(cell(), squares(), settings("pca-logistic"), seed=0, folder=tmp_path)

    assert record["images"] == 8
    assert record["test_images"] == 16
    assert set(record["scores"]) == {"auroc", "accuracy", "f1"}
    row = table([record], primary="accuracy").iloc[0]
    assert row["score"] == row["score: accuracy"] == record["scores"]["accuracy"]
    assert row["images: with"] == 4


def test_the_order_of_the_selection_does_not_matter_to_the_learner(tmp_path):
    there, back = (
        run_cell(cell(learn=rows), squares(), settings("pca-logistic"), seed=0, folder=tmp_path)
        for rows in (range(8), range(7, -1, -1))
    )

    assert there["scores"] == back["scores"]


@pytest.mark.slow
def test_two_processes_give_the_same_records(tmp_path):
    cells = [cell(replicate, method) for replicate in (0, 1) for method in ("enrich", "random")]
    alone, together = (
        list(
            run_cells(
                cells, squares(), settings("pca-logistic"), seed=0, folder=tmp_path, processes=count
            )
        )
        for count in (1, 2)
    )

    assert timeless(together) == timeless(alone)
