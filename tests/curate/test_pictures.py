import io

import numpy as np
import pytest
from PIL import Image

from medglean.curate import pictures
from medglean.curate.duplicates import Pairs, label_conflicts
from medglean.curate.order import Ranking


@pytest.fixture
def drawn(monkeypatch):
    """Keep what is said of the pictures, which a PNG does not tell."""
    kept = []
    real = pictures.tile_grid

    def grid(tiles, **settings):
        kept.extend(tiles)
        return real(tiles, **settings)

    monkeypatch.setattr(pictures, "tile_grid", grid)
    return kept


def picture(position):
    """Every image is as grey as its position is high."""
    return np.full((8, 8), position / 10)


IDS = [f"image-{k}" for k in range(10)]


def test_first_picks_tell_rank_reason_and_similarity(drawn):
    ranking = Ranking(
        np.array([4, 2, 7]), np.array([np.nan, 0.126, 0.5]), np.array([-1, 4, 2]), ("r", "s", "t")
    )

    png = pictures.first_picks(ranking, picture, IDS, count=2)

    assert Image.open(io.BytesIO(png)).format == "PNG"
    assert [tile.above for tile in drawn] == [("image-4", "r"), ("image-2", "s")]
    assert [tile.below for tile in drawn] == ["rank 1", "rank 2, similarity 0.13"]
    assert [tile.image[0, 0] for tile in drawn] == [0.4, 0.2]


def test_what_the_method_chose_is_shown_after_a_long_random_start():
    reasons = ["random start"] * 100 + ["least similar"] * 3

    assert pictures.spread_over_reasons(reasons, 6) == [0, 1, 2, 100, 101, 102]
    assert pictures.spread_over_reasons(reasons[:100], 6) == [0, 1, 2, 3, 4, 5]
    assert pictures.spread_over_reasons(reasons, 200) == list(range(103))


def test_left_out_images_stand_on_the_right_of_what_stands_for_them(drawn):
    pictures.left_out(
        picture,
        IDS,
        dropped=np.array([1, 2]),
        kept=np.array([8, 9]),
        similarity=np.array([0.5, 0.95]),
    )

    assert [tile.above[0] for tile in drawn] == ["selected: image-9", "selected: image-8"]
    assert [tile.above[1] for tile in drawn] == ["left out: image-2", "left out: image-1"]
    assert [tile.below for tile in drawn] == ["similarity 0.950", "similarity 0.500"]
    assert drawn[0].image[0, 0, 0] == 0.9
    assert drawn[0].image[0, 0, -1] == 0.2


def test_pairs_are_spread_and_of_different_selected_images():
    similarity = np.array([0.9, 0.95, 0.8, np.nan, 0.7])
    kept = np.array([1, 1, 2, 3, 4])

    assert pictures.spread_pairs(kept, similarity, 3) == [1, 2, 4]
    assert pictures.spread_pairs(kept, similarity, 2) == [1, 4]
    assert pictures.spread_pairs(kept, similarity, 9) == [1, 0, 2, 4]


def test_junk_is_shown_with_its_reason(drawn):
    pictures.junk(
        picture,
        IDS,
        positions=np.array([6, 5]),
        score=np.array([0.1, np.nan]),
        reason=["looks like nothing else", "nearly constant"],
    )

    assert [tile.above for tile in drawn] == [
        ("image-6", "looks like nothing else"),
        ("image-5", "nearly constant"),
    ]
    assert [tile.below for tile in drawn] == ["similarity to others 0.10", ""]


def test_doubtful_labels_name_both_sides_and_the_one_to_doubt(drawn):
    pairs = Pairs(
        np.array([0, 1, 3, 5, 5, 5, 6]),
        np.array([1, 2, 4, 6, 7, 8, 7]),
        np.array([0.99, 0.98, 0.97, 0.96, 0.95, 0.94, 0.93]),
        7,
        0.9,
        np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]),
    )
    labels = ["a", "b", "b", "a", "", "a", "b", "c", "c", None]

    pictures.doubtful_labels(
        picture, IDS, label_conflicts(pairs, labels, min_similarity=0.9), count=3
    )

    assert drawn[0].above == (
        "left: a (image-0)",
        "right: b (image-1)",
        "2 of 3 say b: check the left one",
    )
    assert drawn[0].below == "similarity 0.990, SSIM 0.90"
    assert drawn[1].above[1:] == (
        "right: no class (image-4)",
        "no third near-duplicate decides",
    )
    assert drawn[2].above[2] == "2 of 4 say c"
    assert drawn[2].image[0, 0, 0] == 0.5
    assert drawn[2].image[0, 0, -1] == 0.6


def test_pairs_of_images_not_shown_before_come_first(drawn):
    pairs = Pairs(np.array([0, 0, 4]), np.array([1, 2, 5]), np.array([0.99, 0.985, 0.98]), 3, 0.9)

    pictures.doubtful_labels(
        picture, IDS, label_conflicts(pairs, ["a", "b", "b", "", "a", "b"]), count=3
    )

    assert [tile.id for tile in drawn] == ["image-0", "image-4", "image-0"]
