"""Both reports of a run: what they say of the method, the data and the numbers."""

import json

import numpy as np
import pytest
from tests.anomaly.tiny import run_folder, tiny_mapper, tiny_preset

from medglean.anomaly.measured import measure, rows_of
from medglean.anomaly.reporting import evaluation_report, part_sizes, training_report


@pytest.fixture
def run(tmp_path, start):
    with run_folder(tmp_path / "run", start) as folder:
        split = start.chosen.manifest.frame[["id", "split"]]
        folder.write("split.csv", split.to_csv(index=False))
        yield folder


def measured_on(start, part, mapper):
    taken = start.images.positions(part, labelled=False)
    return measure(mapper, rows_of(start.images, taken, start.chosen.targets, mapper, "label"))


def mapper_of(**changes):
    return tiny_mapper(tiny_preset(method="threshold", **changes))


def test_a_training_report_says_what_was_done_with_what(run, start):
    mapper = mapper_of()
    sizes = part_sizes(start.images, start.chosen.targets)
    found = measured_on(start, "test", mapper)

    report = training_report(
        run, mapper, start.images, found, {}, part="test", sizes=sizes, problems=[]
    )

    assert report.title == "tiny: where lesion is"
    assert report.sentence.startswith("Nothing was learnt: the map is the brightness itself. On ")
    assert report.done["method"] == "threshold without learning"
    assert report.data["healthy"] == "healthy"
    assert report.data["diseased"] == "lesion"
    assert report.data["images"] == {**sizes, "could not be read": 0}
    assert not any("no test part" in warning for warning in report.warnings)
    stored = json.loads((run.path / "metrics.json").read_text())
    assert stored["best Dice"]["value"] == pytest.approx(report.metrics[0].value)


def test_numbers_of_the_validation_part_are_told_to_be_so(run, start):
    mapper = mapper_of()
    found = measured_on(start, "val", mapper)

    report = training_report(run, mapper, start.images, found, {}, part="val", sizes={},
                             problems=[])  # fmt: skip

    assert "There is no test part" in report.warnings[0]


@pytest.mark.parametrize(("part", "flatters"), [("test", False), ("train", True), ("val", True)])
def test_an_evaluation_on_seen_images_is_told(run, start, part, flatters):
    mapper = mapper_of()
    found = measured_on(start, part, mapper)

    report = evaluation_report(run, run.path, mapper, start.images, found, split=part, problems=[])

    assert any("flatter" in warning for warning in report.warnings) == flatters
    count = len(start.images.positions(part, labelled=False))
    assert report.title == f"tiny: evaluated on {count} images"
    assert f"was applied to {count} {part} images." in report.sentence
    assert report.done["part"] == part


def test_parts_are_counted_by_class(start):
    sizes = part_sizes(start.images, start.chosen.targets)

    assert sum(sizes.values()) == 48
    split = start.chosen.manifest.frame["split"].to_numpy(dtype=object)
    assert sizes["val, diseased"] == int(((split == "val") & (start.chosen.targets == 1)).sum())


def test_many_diseases_are_shortened_in_the_title(run, start):
    mapper = mapper_of()
    many = mapper.__class__(**{**vars(mapper), "diseased": ("a", "b", "c", "d")})
    found = measured_on(start, "val", mapper)

    report = training_report(run, many, start.images, found, {}, part="val", sizes={}, problems=[])

    assert report.title == "tiny: where a / b / c ... is"
    assert np.isfinite(report.done["CPU seconds per map"])
