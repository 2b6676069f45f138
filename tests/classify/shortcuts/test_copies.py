from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from medglean.classify.shortcuts import page
from medglean.classify.shortcuts.audit import audited
from medglean.classify.shortcuts.copies import copies_of


@pytest.fixture(scope="module")
def judged(made):
    """Images with structure; two that are judged were learnt from, one of them mirrored."""
    found = made("middle", patients=48)
    rng = np.random.default_rng(1)
    smooth = ndimage.gaussian_filter(rng.normal(0, 1, (48, 40, 40)), (0, 2, 2))
    stored = found.images.stored.copy()
    middle = stored[:, :, 14:26, 14:26].copy()
    stored[:, 0] = np.clip(128 + 300 * smooth, 0, 255)
    stored[:, :, 14:26, 14:26] = middle // 4 + stored[:, :, 14:26, 14:26] // 2
    first, second = found.scores.rows[[0, 3]]
    stored[first] = np.clip(stored[found.learn[5]].astype(int) + 3, 0, 255)
    stored[second] = stored[found.learn[7]][:, :, ::-1]
    found.images.cached = replace(found.images.cached, array=stored)
    return found


def test_copies_across_the_split_are_found_and_no_others(judged):
    rows, learn = judged.scores.rows, judged.learn

    found = copies_of(judged.images, learn, rows)

    pairs = set(zip(found.judged.tolist(), found.learnt.tolist(), strict=True))
    assert pairs == {(rows[0], learn[5]), (rows[3], learn[7])}
    mirrored = dict(zip(found.judged.tolist(), found.mirrored.tolist(), strict=True))
    assert mirrored == {rows[0]: False, rows[3]: True}
    assert found.seen(rows).nonzero()[0].tolist() == [0, 3]
    assert (found.similarity > 0.93).all()


def test_the_network_is_measured_with_and_without_them(judged):
    audit = audited(judged)
    rest = np.setdiff1d(np.arange(len(judged.scores.rows)), [0, 3])
    truth, said = judged.found.truth[rest, 1], judged.found.probability[rest, 1]

    assert audit.copies.images == 2
    assert audit.copies.area == audit.network.area
    assert audit.copies.area_without.value == pytest.approx(roc_auc_score(truth, said))
    assert audit.copies.area_without.n == len(rest)
    (warning,) = page.copies_warnings(audit.copies, 16)
    assert warning.startswith("2 of 16 judged images (12 %) have a near duplicate")
    table = page.copies_table(audit.copies, judged.images.ids)
    ids = judged.images.ids
    assert {(row[0], row[1]) for row in table.rows} == {
        (ids[judged.scores.rows[0]], ids[judged.learn[5]]),
        (ids[judged.scores.rows[3]], ids[judged.learn[7]]),
    }


def test_without_copies_nothing_is_told(in_the_middle):
    audit = audited(in_the_middle)

    assert audit.copies.images == 0
    assert audit.copies.area_without is None
    assert page.copies_warnings(audit.copies, 30) == []
    assert page.copies_table(audit.copies, in_the_middle.images.ids) is None
