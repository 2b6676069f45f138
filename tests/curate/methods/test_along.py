import numpy as np
import pytest

from medglean.curate.methods import along
from medglean.curate.methods.along import ranked, to_earlier
from medglean.curate.similarity import similarity_matrix


@pytest.mark.parametrize("block", [1, 3, 1024])
@pytest.mark.parametrize("taken", [(), (3, 5, 8, 11)])
def test_equal_to_looking_at_all_before(block, taken, monkeypatch):
    monkeypatch.setattr(along, "BLOCK", block)
    values = np.random.default_rng(1).normal(size=(20, 4))
    table = similarity_matrix(values)
    order = np.setdiff1d(np.random.default_rng(2).permutation(20), taken)[::-1]

    similarity, nearest = to_earlier(values, order, taken=taken)

    for place, image in enumerate(order):
        before = [*taken, *order[:place]]
        if not before:
            assert np.isnan(similarity[place])
            assert nearest[place] == -1
            continue
        assert nearest[place] == before[int(table[image, before].argmax())]
        assert similarity[place] == pytest.approx(table[image, before].max(), abs=1e-6)


def test_of_equal_images_the_first_taken_is_named_and_nothing_exceeds_one():
    similarity, nearest = to_earlier(np.full((4, 3), 0.1), np.array([2, 0, 3, 1]))

    assert nearest.tolist() == [-1, 2, 2, 2]
    assert similarity[1:].max() <= 1.0


def test_one_reason_or_one_for_each():
    values = np.eye(2)

    assert ranked(values, np.array([1, 0]), reason="why").reason == ("why", "why")
    assert ranked(values, np.array([1, 0]), reason=["a", "b"]).reason == ("a", "b")


def test_an_empty_order():
    ranking = ranked(np.eye(2), np.empty(0, dtype=np.int64), reason="why")

    assert len(ranking) == len(ranking.similarity) == 0
