import math

import pytest
import torch
from bench.stain import (
    flop_of,
    in_theory,
    in_turns,
    measure_attention,
    measure_generator,
    measure_memory,
    measured_error,
    plain_unet,
)
from torch import nn

from medglean.nn.stain_gan import StainUNet


def test_theory_by_hand():
    # s = 0.5, d = 16: 1 - 4 / 16 = 3/4, to the -8: 9.989; minus 1, by 256: 0.0351
    assert in_theory(0.5, 256) == pytest.approx(math.sqrt((0.75**-8 - 1) / 256))
    assert in_theory(0.5, 256) == pytest.approx(0.187, abs=5e-4)
    assert in_theory(1.0, 256) == math.inf


def test_error_of_soft_logits_is_near_theory():
    assert measured_error(0.5, 256, draws=4, orthogonal=True) == pytest.approx(0.165, abs=0.03)


def test_plain_unet_is_pix2pix():
    network = plain_unet()
    assert sum(weight.numel() for weight in network.parameters()) == 54_413_955


def test_plain_unet_and_ours_are_the_same_network():
    plain, ours = plain_unet(2), StainUNet(width=2, attention="none").eval()
    source = iter([each for each in plain.modules() if isinstance(each, nn.Conv2d)])
    for layer in ours.down:
        layer.load_state_dict(next(source).state_dict())
    source = iter([each for each in plain.modules() if isinstance(each, nn.ConvTranspose2d)])
    for layer in reversed(ours.up):
        layer.load_state_dict(next(source).state_dict())
    for module in ours.modules():  # those of the plain one are as new
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
    image = torch.rand(1, 3, 256, 256) * 2 - 1
    with torch.no_grad():
        assert plain(image).std() > 0
        torch.testing.assert_close(ours(image), plain(image))


def test_operations_of_the_generator_by_hand():
    widths = [3, 2, 4, 8, 16, 16, 16, 16, 16]
    expected = 0
    for n in range(1, 9):
        outer, inner, pixels = widths[n - 1], widths[n], (256 >> n) ** 2
        below = inner if n == 8 else 2 * inner
        expected += 2 * 16 * (outer * inner + below * outer) * pixels
    network = plain_unet(2)
    assert flop_of(lambda: network(torch.zeros(1, 3, 256, 256))) == expected


def test_calls_take_turns_and_the_first_does_not_count():
    order = []
    found = in_turns({n: lambda n=n: order.append(n) for n in "ab"}, times=2, threads=1)
    assert order == list("ababab")
    assert set(found) == {"a", "b"}


def test_records_of_small_measurements(capsys):
    attention = measure_attention(calls=1, threads=1, long=False, sides=(8, 16))
    assert [record["unit"] for record in attention] == ["times as fast"] * 2
    records = measure_generator(calls=1, threads=1, side=256, width=2)
    assert len(records) == 2 * 2 * 3
    assert all(record["value"] > 0 for record in records)
    assert "megapixels/s" in capsys.readouterr().out


@pytest.mark.slow
def test_memory_of_a_fresh_process():
    (record,) = measure_memory(sides=(128,))
    assert 256 <= record["value"] < 4096
