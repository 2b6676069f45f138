import pytest
import torch

from medglean.stain.padding import padded


def test_a_row_is_mirrored_at_both_ends():
    image = torch.tensor([1.0, 2, 3, 4, 5]).reshape(1, 1, 1, 5)

    whole, (rows, columns) = padded(image, 4)

    assert whole[0, 0, 0].tolist() == [2, 1, 2, 3, 4, 5, 4, 3]
    assert whole[..., rows, columns].tolist() == image.tolist()
    assert whole.shape[2:] == (4, 8)


def test_a_short_row_is_mirrored_again_and_again():
    image = torch.tensor([1.0, 2, 3]).reshape(1, 1, 3, 1)

    whole, inside = padded(image, 16)

    period = [1.0, 2.0, 3.0, 2.0]
    before = inside[0].start
    assert whole[0, 0, :, 0].tolist() == [period[(k - before) % 4] for k in range(16)]


@pytest.mark.parametrize("sides", [(32, 32), (64, 32)])
def test_what_fits_is_left_alone(sides):
    image = torch.rand(2, 3, *sides)

    whole, inside = padded(image, 32)

    assert whole is image
    assert torch.equal(whole[(..., *inside)], image)
