import numpy as np
import pytest
from tests.curate.study.conftest import small_preset
from tests.curate.study.test_analysis import FIVE, FULL, found

from medglean.curate.study.figures import gain_curves, learning_curves, similarity_histogram
from medglean.curate.study.page import (
    cannot_reach,
    enough_table,
    gain_table,
    metrics,
    score_table,
    sentence,
    subset_table,
)
from medglean.curate.study.redundant import redundancy_of_pool


def test_figures_are_pictures_and_the_same_every_time():
    findings = found()
    drawn = [
        learning_curves(findings, score_name="AUROC", counted={"patients": "Patients"}),
        gain_curves(findings, other="random", score_name="AUROC"),
        similarity_histogram(
            np.linspace(-1, 1, 5), {"within": np.ones(4)}, thresholds={0.5: 0.25}, images=9
        ),
    ]

    assert all(b"<svg" in one for one in drawn)
    assert gain_curves(findings, other="random", score_name="AUROC") == drawn[1]


def test_one_replicate_and_one_method_can_be_drawn():
    alone = found({key: row[:1] for key, row in FIVE.items()})

    assert b"<svg" in learning_curves(alone, score_name="AUROC", counted={})


def test_tables_say_what_was_measured():
    findings, preset = found(), small_preset()

    assert score_table(findings, preset).rows[0] == ["10", "0.720 (0.016)", "0.620 (0.016)"]
    assert score_table(findings, preset).rows[-1][0] == "100 (all)"
    assert gain_table(findings, "random").rows[0] == ["10", "+0.100 (p 0.008)"]
    assert gain_table(findings, "full").columns == ["Images", "enrich", "random"]
    assert gain_table(findings, "full").rows[0][2].startswith("\N{MINUS SIGN}0.182")
    assert subset_table(findings, group="group").rows[1] == ["50 (50%)", "25 / 50", "25 / 50"]
    assert subset_table(findings, group="patient").rows[0] == ["10", "5", "5"]


def test_what_is_enough_and_what_it_saves():
    preset = small_preset("seconds_per_label=300.0")
    rows = enough_table(found(), preset).rows

    # 50 images at 300 s: 250 min, more than two hours
    assert rows[0] == ["enrich", "n/a", "50 (50%)", "50 %", "\N{MINUS SIGN}0.002", "4.2 h"]
    assert rows[1] == ["random", *["n/a"] * 5]
    assert sentence(found(), preset) == (
        "All 100 images teach AUROC 0.802; the fewest by enrich that are not significantly below "
        "are 50 (50 %), with 0.800."
    )


def test_the_sentence_tells_how_few_reach_the_mean_of_all():
    lower = {key: [0.7] * 5 if key == FULL else row for key, row in FIVE.items()}

    assert sentence(found(lower), small_preset()) == (
        "All 100 images teach AUROC 0.700; 10 (10 %) chosen by enrich teach 0.720."
    )


def test_too_few_replicates_are_told_wherever_a_test_stands():
    few, preset = found({key: row[:3] for key, row in FIVE.items()}), small_preset()

    assert cannot_reach(found(), preset) == ""
    assert "3 replicates against 3 cannot reach significance" in cannot_reach(few, preset)
    table = enough_table(few, preset)
    assert table.note.startswith("3 replicates against 3 cannot")
    assert table.rows[0][2:] == ["n/a"] * 4
    assert sentence(few, preset).endswith("50 (50 %) chosen by enrich teach 0.800.")


def test_intervals_stay_within_what_a_score_can_be():
    wide = found({key: [0.1, 0.99, 0.5, 0.9, 0.95] for key in FIVE})

    assert metrics(wide, small_preset())[0].high == 1.0
    assert metrics(wide, small_preset())[0].low > 0


def test_redundancy_of_two_clips():
    # two clips of two equal frames each, at right angles; the zero row is left out
    values = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [0, 0]], dtype=np.float32)
    figure, table = redundancy_of_pool(values, np.array(["a", "a", "b", "b", "b"]), "clip")

    assert b"<svg" in figure.data
    assert table.rows[0][:3] == ["all pairs", 6, "33.3 %"]
    assert table.rows[1][:3] == ["within one clip", 2, "100.0 %"]
    assert table.rows[2][:3] == ["between clips", 4, "0.0 %"]


@pytest.mark.parametrize(("seconds", "shown"), [(59, "59 s"), (1775, "30 min"), (7200, "2.0 h")])
def test_times_are_written_as_people_do(seconds, shown):
    from medglean.curate.study.page import duration

    assert duration(seconds) == shown
