"""Work on a manifest part by part, and what a run knows of images that it has seen."""

import pandas as pd
import pytest

from medglean.data.manifest import Manifest
from medglean.data.recipe import Recipe
from medglean.errors import DataError, Problem
from medglean.runs.applied import (
    PART_BYTES,
    drop_parts,
    in_parts,
    rows_at_a_time,
    seen_before,
    with_the_runs_split,
)
from medglean.runs.rundir import RunFolder

IDS = [f"i{number}" for number in range(7)]


@pytest.fixture
def run(tmp_path):
    with RunFolder.create(
        tmp_path / "run", preset_toml="", command=[], manifest_hash="m", seed=0, split_hash="s"
    ) as folder:
        yield folder


@pytest.fixture
def manifest(tmp_path):
    frame = pd.DataFrame({"id": IDS, "image": [f"{one}.png" for one in IDS]})
    return Manifest.from_frame(frame, tmp_path)


def split_of(run, parts):
    rows = [f"{one},{part}" for one, part in parts.items()]
    run.write("split.csv", "\n".join(["id,split", *rows]) + "\n")


class Work:
    """Scores all images but those that it is told fail; counts its calls."""

    def __init__(self, *failing, stop_at=None):
        self.failing, self.stop_at, self.calls = failing, stop_at, 0

    def __call__(self, part):
        self.calls += 1
        if self.calls == self.stop_at:
            raise KeyboardInterrupt
        good = [one for one in part.ids if one not in self.failing]
        problems = [
            Problem(one, "cannot be read.", "Copy it again.", row=place + 2, kind="broken")
            for place, one in enumerate(part.ids)
            if one in self.failing
        ]
        frame = pd.DataFrame({"id": pd.Series(good, dtype="str"),
                              "score": [float(one[1:]) for one in good]})  # fmt: skip
        return frame, problems


def test_parts_make_one_table_and_rows_of_problems_count_from_the_whole(run, manifest):
    told, seen = Problem("x", "was told before.", ""), []

    table, problems = in_parts(
        run, manifest, Work("i1", "i5"), rows=3, told=[told],
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip

    assert table["id"].tolist() == ["i0", "i2", "i3", "i4", "i6"]
    assert problems[0] == told
    assert [(one.file, one.row) for one in problems[1:]] == [("i1", 3), ("i5", 7)]
    assert seen == [(3, 7), (6, 7), (7, 7)]
    listed = pd.read_csv(run.path / "problems.csv", dtype=str)
    assert listed["file"].tolist() == ["x", "i1", "i5"]


def test_parts_that_are_done_are_not_done_again(run, manifest):
    stopped = Work("i1", stop_at=3)
    with pytest.raises(KeyboardInterrupt):
        in_parts(run, manifest, stopped, rows=3)
    rest = Work("i1")

    table, problems = in_parts(run, manifest, rest, rows=3)

    whole, all_problems = Work("i1")(manifest)
    pd.testing.assert_frame_equal(table, whole)
    assert problems == all_problems
    assert rest.calls == 1


def test_a_part_whose_problems_were_not_written_is_done_again(run, manifest):
    in_parts(run, manifest, Work(), rows=3)
    (run.path / "parts" / "part-000001.json").unlink()
    again = Work()

    in_parts(run, manifest, again, rows=3)

    assert again.calls == 1


def test_a_part_of_which_no_image_can_be_used_costs_these_images(run, manifest):
    table, problems = in_parts(run, manifest, Work("i0", "i1", "i2"), rows=3)

    assert table["id"].tolist() == IDS[3:]
    assert table["score"].dtype == float
    assert len(problems) == 3


def test_if_no_image_can_be_used_the_first_is_named_and_all_are_listed(run, manifest):
    with pytest.raises(DataError, match=r"none of the 7 images could be read\. The first: i0, row"):
        in_parts(run, manifest, Work(*IDS), rows=3)

    assert len(pd.read_csv(run.path / "problems.csv")) == 7


def test_parts_are_dropped(run, manifest):
    in_parts(run, manifest, Work(), rows=3)

    drop_parts(run)

    assert not (run.path / "parts").exists()


def test_rows_at_a_time_follow_the_size_of_an_image():
    small = Recipe(size_px=(64, 64), channels="grey")
    large = Recipe(size_px=(4096, 4096), channels="rgb")

    assert rows_at_a_time(small) == 1024
    assert rows_at_a_time(small, most=256) == 256
    assert rows_at_a_time(large) == 16  # never less, however large
    middle = Recipe(size_px=(512, 512), channels="grey")
    per_image = 512 * 512 * (PART_BYTES // (512 * 512 * rows_at_a_time(middle)))
    assert rows_at_a_time(middle) * per_image <= PART_BYTES


def test_images_get_the_part_that_they_had_in_training(run, manifest):
    split_of(run, {"i1": "train", "i3": "test", "other": "val"})

    placed = with_the_runs_split(manifest, run.path).frame["split"]

    assert placed.iloc[[1, 3]].tolist() == ["train", "test"]
    assert placed.isna().sum() == 5


def test_images_that_the_run_never_saw_have_no_part(run, manifest):
    split_of(run, {"other": "train"})

    with pytest.raises(DataError, match=r"none of its ids is in the split.*Leave --split out"):
        with_the_runs_split(manifest, run.path)


def test_images_that_were_learnt_or_chosen_on_are_warned_of(run):
    split_of(run, {"i1": "train", "i2": "val", "i3": "test"})

    (told,) = seen_before(run.path, IDS)

    assert told.startswith("2 of 7 images have the id of one that the run was trained or chosen on")
    assert seen_before(run.path, ["i3", "new"]) == []


def test_ids_that_look_like_numbers_or_nothing_stay_texts(run):
    split_of(run, {"007": "train", "NA": "train"})

    assert seen_before(run.path, ["7"]) == []
    assert seen_before(run.path, ["007", "NA"])[0].startswith("2 of 2")
