"""The audit must say where the class was planted, and nothing else."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

from medglean.classify.shortcuts import page
from medglean.classify.shortcuts.audit import audited, shortcuts_part
from medglean.nn.floor import pca_floor
from medglean.runs.report import Report


def by_key(audit):
    return {one.baseline.key: one for one in audit.baselines}


def warned(audit):
    return " ".join([*page.baseline_warnings(audit), *page.origin_warnings(audit.origin)])


def verdicts(audit):
    return {key: one.verdict for key, one in by_key(audit).items()}


@pytest.fixture(scope="module")
def middle(in_the_middle):
    return audited(in_the_middle)


@pytest.fixture(scope="module")
def border(in_the_border):
    return audited(in_the_border)


@pytest.fixture(scope="module")
def middle_part(in_the_middle):
    return shortcuts_part(in_the_middle)


@pytest.fixture(scope="module")
def border_part(in_the_border):
    return shortcuts_part(in_the_border)


def test_a_class_in_the_middle_is_seen_by_whole_images_only(middle):
    found = by_key(middle)

    assert verdicts(middle) == {
        "constant": "beaten",
        "floor": "not shown",  # it tells them apart as well as the network
        "border": "beaten",
        "hidden": "beaten",
        "network hidden": "beaten",
        "metadata": "beaten",
    }
    assert middle.network.area.value == found["floor"].area.value == 1.0
    for key in ("border", "hidden", "network hidden", "metadata"):
        assert 0.2 < found[key].area.value < 0.75


def test_a_class_in_the_border_is_seen_by_the_border_and_with_the_middle_hidden(border):
    found = by_key(border)

    assert {key for key, verdict in verdicts(border).items() if verdict == "beaten"} == {
        "constant",
        "metadata",
    }
    for key in ("border", "hidden", "network hidden"):
        assert found[key].area.value > 0.95


def test_a_network_that_reads_the_middle_does_worse_than_a_border_that_tells(made):
    audit = audited(made("border", reads="middle"))

    assert by_key(audit)["border"].verdict == "ahead"
    assert by_key(audit)["border"].area_gain.high < -0.2


def test_the_first_page_says_which_is_which(middle_part, border_part):
    (told,) = middle_part.sentences
    assert told.startswith("Shortcut audit on the same 30 images: the network (AUROC 1.000) beats ")
    beats, _, rest = told.partition("; it is NOT shown to beat ")
    for words in ("the border alone", "metadata alone", "itself with the middle hidden"):
        assert words in beats
    assert rest.startswith("the floor without a network (1.000; difference 0.000, 95 % CI ")
    (told,) = border_part.sentences
    beats, _, rest = told.partition("; it is NOT shown to beat ")
    assert "the border alone" not in beats
    assert "the border alone (1.000; difference 0.000" in rest


def test_what_tells_too_much_is_warned_of_and_what_does_not_is_not(middle_part, border_part):
    assert [w for w in middle_part.warnings if "floor" not in w] == []
    text = " ".join(border_part.warnings)
    assert (
        "The AUROC is 1.000 from the border alone and 1.000 from the picture with the middle hidden"
        in text
    )
    assert "With the middle hidden (64 % of the picture) the network's AUROC is 1.000" in text
    assert "metadata" not in text


@pytest.mark.parametrize("in_table", [True, False])
def test_a_class_in_the_table_is_found_and_its_column_named(made, in_table):
    def manufacturer(label, rng):
        told = label if in_table else rng.permutation(label)
        return {"manufacturer": [f"maker {one}" for one in told]}

    audit = audited(made("middle", table=manufacturer))
    families, text = page.family_table(audit), warned(audit)

    assert families.rows[0][0] == "manufacturer" or not in_table
    assert ("Alone, without any picture, 'manufacturer' (1.000)" in text) == in_table
    assert ("Class nearly equals manufacturer" in text) == in_table
    (told,) = page.sentences_of(audit)
    assert ("metadata alone" in told.partition("NOT shown")[0]) != in_table


def test_a_class_in_the_file_size_is_found(made):
    audit = audited(made("middle", padded=True))

    assert "Alone, without any picture, 'file size' (1.000) has AUROC of 0.8" in warned(audit)


def test_numbers_are_scikit_learns(in_the_middle, middle):
    judged = in_the_middle
    truth, said = judged.found.truth, by_key(middle)["border"].baseline.answer
    area = roc_auc_score(truth[:, 1], said.probability[:, 1])
    hits = accuracy_score(truth[:, 1], said.probability[:, 1] > 0.5)

    found = by_key(middle)["border"]

    assert found.area.value == pytest.approx(area)
    assert found.right.value == pytest.approx(hits)
    assert found.area_gain.value == pytest.approx(1.0 - area)
    assert found.area_gain.low == pytest.approx(1.0 - found.area.high)  # the network is perfect


def test_the_floor_is_that_of_the_studies(in_the_middle, middle):
    judged = in_the_middle
    expected = pca_floor(
        judged.images.stored,
        judged.images.targets,
        train=judged.learn,
        test=judged.scores.rows,
        kind="single",
        classes=2,
    )

    np.testing.assert_allclose(
        by_key(middle)["floor"].baseline.answer.probability, expected, atol=1e-6
    )


def test_the_networks_own_number_is_the_headline(in_the_middle, middle):
    quoted = in_the_middle.found.headline["AUROC"]

    assert (middle.network.area.value, middle.network.area.low) == (quoted.value, quoted.low)


def test_without_the_training_part_baselines_are_cross_validated(made):
    audit = audited(made("border", learn=False))

    assert by_key(audit)["border"].area.value > 0.95
    assert audit.copies is None
    assert "cross-validated in five parts over the patients" in page.baseline_table(audit).note
    assert "30 images (baselines cross-validated on them): " in page.sentences_of(audit)[0]


def test_patients_that_are_judged_are_not_learnt_from(made):
    judged = made("border")
    everything = dataclasses.replace(judged, learn=judged.images.positions())

    assert len(audited(everything).ground.learn_truth) == 60
    alone = dataclasses.replace(judged, learn=judged.scores.rows)
    assert audited(alone).ground.learn_truth is None


@pytest.mark.parametrize("learn", [True, False])
def test_several_classes(made, learn):
    audit = audited(made("border", classes=3, patients=108, learn=learn))

    assert "(macro AUROC 1.000)" in page.sentences_of(audit)[0]
    assert "from the border alone" in warned(audit)


@pytest.mark.parametrize("learn", [True, False])
def test_several_findings(made, learn):
    names = [("opacity", "fluid;opacity", "")[number % 3] for number in range(108)]
    judged = made("nothing", reads="middle", patients=108, classes=3, labels=names, learn=learn)
    audit = audited(judged)

    constant = by_key(audit)["constant"]
    # the three sets are as frequent, so a constant is exactly right in one of three
    assert constant.right.value == pytest.approx(1 / 3)
    assert constant.baseline.answer.probability[0].tolist() == pytest.approx([1 / 3, 2 / 3])
    assert "exact match" in page.sentences_of(audit)[0]


def test_a_finding_nobody_has_is_left_out_and_told(made):
    names = ["opacity" if number % 2 else "" for number in range(90)]
    names[3] = "opacity;rare"  # one patient of the training part
    judged = made("border", labels=names)
    audit = audited(judged)

    assert audit.network.baseline.answer.columns == (0,)
    assert by_key(audit)["border"].area.value > 0.95
    assert "1 patients with 'rare': left out, 5 are needed." in page.baseline_table(audit).note


def test_few_patients_give_notes_and_no_numbers(made):
    judged = made("middle", patients=12)
    part = shortcuts_part(judged)

    assert len(judged.scores.rows) == 4
    assert "could not measure" in part.sentences[-1]
    assert "the border alone" in part.sentences[-1]
    assert "patients with 'class 0': left out, 5 are needed." in part.tables[0].note
    values = {metric.name: metric.value for metric in part.metrics}
    assert math.isnan(values["AUROC, network minus border alone"])


def test_one_image_is_no_error(made):
    judged = made("middle", patients=4)
    one = dataclasses.replace(
        judged,
        scores=judged.scores.of(judged.scores.rows[:1]),
        found=dataclasses.replace(
            judged.found,
            truth=judged.found.truth[:1],
            called=judged.found.called[:1],
            probability=judged.found.probability[:1],
        ),
        groups=judged.groups[:1],
        learn=None,
    )

    assert "Nothing is known of shortcuts here" in shortcuts_part(one).sentences[0]


def test_an_audit_that_was_not_asked_for_is_not_made(made):
    judged = made("middle", preset={"measure": {"shortcuts": False}}, patients=12)

    part = shortcuts_part(judged)

    assert (part.sentences, part.tables, part.figures) == ((), (), ())


def test_same_seed_same_part(in_the_border, border_part):
    again = shortcuts_part(in_the_border)

    assert again.metrics == border_part.metrics
    assert [f.data for f in again.figures] == [f.data for f in border_part.figures]


def test_the_part_makes_a_report(border_part, tmp_path):
    report = Report(
        "audit",
        " ".join(border_part.sentences),
        metrics=border_part.metrics,
        tables=border_part.tables,
        figures=border_part.figures,
        warnings=border_part.warnings,
        data=border_part.data,
    )
    report.write(tmp_path)

    stored = json.loads((tmp_path / "report.json").read_text())
    assert stored["metrics"][2]["name"] == "AUROC, network minus border alone"
    assert "NOT shown to be beaten" in (tmp_path / "report.html").read_text()
