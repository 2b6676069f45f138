import pytest
import torch
from bench.anomaly import build, calls_of, flop_of, records_of, seconds_an_image
from torch import nn

FOUND = {
    "unet": {"seconds": 0.2, "flop": 4e9},
    "gradient": {"seconds": 0.4, "flop": 2e9},
    "product": {"seconds": 0.5, "flop": 1e11},
}


def test_seconds_and_limit_by_hand():
    # batch 2: 1000 x 0.2 / 2 + 500 x 0.4 / 2 = 200 s; 100 x 0.1 + 50 x 0.2 = 20 s
    # limit: (1000 x 4e9 + 500 x 2e9) / 2 operations at 2e11 a second = 12.5 s
    told = seconds_an_image(FOUND, 2)
    assert told["1000 + 500"] == pytest.approx({"measured": 200.0, "limit": 12.5})
    assert told["50 + 50"] == pytest.approx({"measured": 20.0, "limit": 1.25})


def test_a_record_for_each_schedule(capsys):
    records = records_of(FOUND, batch=2, side_px=256, device="CPU", calls=3)
    assert [record["value"] for record in records] == pytest.approx([200.0, 20.0])
    assert "translation, 50 + 50, 256 px, batch 2, CPU" in records[1]["name"]
    assert "10% of the limit" in capsys.readouterr().out  # 20 ms of the U-Net's 200 ms


def test_operations_of_a_convolution_by_hand():
    layer, x = nn.Conv2d(3, 5, 3, padding=1), torch.zeros(2, 3, 8, 8)
    assert flop_of(lambda: layer(x)) == 2 * (3 * 9) * 5 * 8 * 8 * 2


def test_small_networks_are_called():
    device = torch.device("cpu")
    calls = calls_of(build(device, small=True), device, batch=1)
    assert calls["unet"]().shape == (1, 8, 64, 64)
    assert calls["gradient"]().shape == (1, 4, 64, 64)
    assert flop_of(calls["gradient"]) > 0
