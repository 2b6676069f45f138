from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats.contingency import association

from medglean.classify.shortcuts import page
from medglean.classify.shortcuts.origin import cramers_v, origin_of, own_sources

RNG = np.random.default_rng(0)


def origin(sources, label, *, features=None, patients=None, column="source", **table):
    label = np.asarray(label)
    truth = label[:, None] == np.arange(label.max() + 1)
    return origin_of(
        pd.DataFrame({column: sources, **table}),
        truth,
        tuple(f"class {j}" for j in range(truth.shape[1])),
        np.arange(len(label)).astype(str) if patients is None else patients,
        RNG.standard_normal((len(label), 4)) if features is None else features,
        exclusive=True,
        seed=0,
    )


def test_cramers_v_is_scipys():
    table = RNG.integers(1, 30, (3, 4))

    assert cramers_v(table) == pytest.approx(association(table, method="cramer"))
    empty = np.concatenate([table, np.zeros((1, 4), int)])
    assert cramers_v(empty) == pytest.approx(cramers_v(table))
    assert math.isnan(cramers_v(np.array([[3, 4]])))


def test_own_sources_by_hand():
    counts = np.array([[95, 5, 0], [0, 5, 90], [0, 60, 0]])

    # class 0: 95 of 100 from a source of its own; class 1: 90 of 95; class 2: its source is 60/70
    assert own_sources(counts, counts.sum(axis=0)).tolist() == [True, False, False]


def test_class_that_equals_source_is_told():
    label = np.arange(60) % 2
    found = origin([f"hospital {j}" for j in label], label, features=label[:, None] + 0.0)

    assert found.coincides
    assert found.cramers_v == {"": 1.0}
    assert found.shared_information[""] == pytest.approx(1.0)
    assert found.probe.auroc == 1.0
    (warning,) = page.origin_warnings(found)
    assert warning.startswith("Class nearly equals source: every class")
    assert "The picture does tell its source: AUROC 1.000" in warning


def test_class_that_has_nothing_to_do_with_source_is_not():
    label = np.arange(80) % 2
    found = origin([f"hospital {j}" for j in np.arange(80) // 2 % 2], label)

    assert not found.coincides
    assert found.cramers_v[""] == pytest.approx(0.0)
    assert page.origin_warnings(found) == []
    table = page.origin_table(found)
    assert table.rows == [["class 0", 20, 20], ["class 1", 20, 20]]
    assert "Cramér's V 0.000" in table.note


def test_one_class_from_its_own_place_is_named():
    label = np.repeat([0, 1, 2], 20)
    sources = ["a", "b"] * 20 + ["c"] * 20
    found = origin(sources, label)

    assert found.own == ("class 2",)
    assert not found.coincides
    assert page.origin_warnings(found)[0].startswith("'class 2': almost all images come from")


def test_a_source_needs_patients_and_rare_ones_are_one():
    label = np.arange(60) % 2
    sources = ["a"] * 25 + ["b"] * 25 + ["c", "d"] * 4 + [None, None]
    found = origin(sources, label)

    assert found.sources == ("a", "b", "(others)", "(not known)")
    assert found.counts.sum(axis=0).tolist() == [25, 25, 8, 2]
    assert origin([f"s{k}" for k in range(60)], label) is None
    one_patient = np.where(np.arange(60) < 25, "p", np.arange(60).astype(str))
    assert origin(sources, label, patients=one_patient) is None


def test_without_sources_the_manufacturer_stands_for_them():
    label = np.arange(40) % 2
    makers = ["a", "b"] * 20

    assert origin(makers, label, column="manufacturer").column == "manufacturer"
    assert origin(makers, label, column="view").column == "view"
    assert origin(makers, label, column="source", view=makers).column == "source"
    assert origin(makers, label, column="colour") is None


def test_findings_are_looked_at_one_by_one():
    tied, free = np.arange(60) % 2 == 0, np.arange(60) // 2 % 2 == 0
    found = origin_of(
        pd.DataFrame({"source": np.where(tied, "a", "b")}),
        np.stack([tied, free], axis=1),
        ("tied", "free"),
        np.arange(60).astype(str),
        RNG.standard_normal((60, 3)),
        exclusive=False,
        seed=0,
    )

    assert found.cramers_v == {"tied": pytest.approx(1.0), "free": pytest.approx(0.0)}
    assert found.own == ("tied",)
    assert "most tied to source is 'tied': Cramér's V 1.000" in page.origin_table(found).note
