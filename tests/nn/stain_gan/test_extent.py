import itertools

import pytest

from medglean.errors import UsageError
from medglean.nn.stain_gan.extent import reach_of, seen_by, tokens_inside


def test_one_halving_by_hand():
    # token i sees pixels 2 i - 1 to 2 i + 2; pixel 0 is made of tokens -1 and 0, pixel 1 of 0 and 1
    assert seen_by(0, halvings=1, patch_px=1) == (-3, 2)
    assert seen_by(1, halvings=1, patch_px=1) == (-1, 4)
    assert reach_of(halvings=1, patch_px=1) == 3


def test_patches_see_whole_patches():
    # pixel 5 is in patch 2 of 2 x 2, whose network sees patches -1 to 4: pixels -2 to 9
    assert seen_by(2, halvings=1, patch_px=1) == (-1, 4)
    assert seen_by(5, halvings=1, patch_px=2) == (-2, 9)


def test_reach_is_three_strides_less_three():
    # each halving doubles what is seen and adds a pixel and a half on either side
    for halvings in range(1, 11):
        assert reach_of(halvings=halvings, patch_px=1) == 3 * (2**halvings - 1)


@pytest.mark.parametrize("borders", [(0, 8, 64), (0, 5, 13, 14, 40, 64), (0, 3, 4, 64)])
@pytest.mark.parametrize("stride_px", [1, 4, 16])
def test_ranges_that_share_out_pixels_share_out_tokens(borders, stride_px):
    parts = [
        tokens_inside(slice(start, stop), side=64, stride_px=stride_px)
        for start, stop in itertools.pairwise(borders)
    ]
    found = [token for part in parts for token in range(part.start, part.stop)]
    assert found == list(range(64 // stride_px))


def test_a_token_belongs_to_the_range_with_its_middle():
    assert tokens_inside(slice(4, 12), side=32, stride_px=8) == slice(0, 1)
    assert tokens_inside(slice(5, 13), side=32, stride_px=8) == slice(1, 2)
    assert tokens_inside(slice(None), side=32, stride_px=8) == slice(0, 4)
    with pytest.raises(UsageError, match="has a step"):
        tokens_inside(slice(0, 8, 2), side=32, stride_px=8)
