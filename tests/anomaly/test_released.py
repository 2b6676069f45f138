import math

import numpy as np
import pytest
import torch

from medglean.anomaly.released import released_translate
from medglean.anomaly.schedule import Schedule
from medglean.errors import UsageError
from medglean.nn.diffusion_unet import DiffusionUNet, NoiseClassifier, load_release

SCHEDULE = Schedule.linear()
FEW = Schedule(np.array([0.1, 0.2, 0.3]))
LAYOUT = {"side_px": 32, "in_channels": 4, "width": 32, "multipliers": (1, 2), "blocks": 1}


@pytest.fixture(scope="module")
def networks(golden):
    unet = DiffusionUNet(**LAYOUT, out_channels=8, attention_px=(16,))
    classifier = NoiseClassifier(**LAYOUT, attention_px=(16,), head_width=64)
    load_release(unet, golden / "guided_unet_small.safetensors")
    load_release(classifier, golden / "guided_classifier_small.safetensors")
    return unet.eval(), classifier.eval()


@pytest.mark.parametrize("scale", [0, 3000])
def test_golden_translation(golden, networks, scale):
    arrays = np.load(golden / "guided_diffusion_small.npz")
    x, noise = (torch.from_numpy(arrays[name]) for name in ("x", "translate_noise_t0"))

    with torch.no_grad():
        rebuilt = released_translate(
            *networks, x, SCHEDULE, noise_level=20, target=0, scale=scale, noise=noise
        )

    expected = arrays[f"translate_L20_s{scale}"]
    np.testing.assert_allclose(rebuilt.numpy(), expected, rtol=0, atol=1e-5)


def still(x, t, y):
    return torch.zeros_like(x)


def no_classifier(x, t):
    raise AssertionError


def test_smallest_case_by_hand():
    # L = 1: noise is added at timestep 0, and nothing else happens
    x, noise = torch.full((1, 1, 1, 1), 0.5), torch.full((1, 1, 1, 1), 2.0)

    rebuilt = released_translate(
        still, no_classifier, x, FEW, noise_level=1, target=0, scale=0, noise=noise
    )

    assert rebuilt.item() == pytest.approx(math.sqrt(0.9) * 0.5 + math.sqrt(0.1) * 2)


def test_predicted_image_is_clipped_without_guidance():
    # abar .9, .72, .504; no noise is predicted, so that x0 = x_t / sqrt(abar), clipped to 1
    x, nothing = torch.full((1, 1, 1, 1), 4.0), torch.zeros(1, 1, 1, 1)
    first = 4 * math.sqrt(0.9)
    eps = (first / math.sqrt(0.72) - 1) / math.sqrt(1 / 0.72 - 1)
    up = math.sqrt(0.504) + math.sqrt(1 - 0.504) * eps
    assert up / math.sqrt(0.9) > 1  # clipped on the way back too: what is left is 1

    rebuilt = released_translate(
        still, no_classifier, x, FEW, noise_level=2, target=0, scale=0, noise=nothing
    )

    assert rebuilt.item() == pytest.approx(1.0)


def test_guided_step_by_hand():
    # logits (x, -x): d log p_0 / dx = 2 (1 - p_0), with p_0 = sigmoid(2 x)
    x, nothing = torch.full((1, 1, 1, 1), 0.2), torch.zeros(1, 1, 1, 1)
    first = 0.2 * math.sqrt(0.9)
    up = first * math.sqrt(0.504 / 0.72)
    push = 2 * (1 - 1 / (1 + math.exp(-2 * up)))
    eps = -20 * math.sqrt(0.1) * push
    expected = (up - math.sqrt(0.1) * eps) / math.sqrt(0.9)
    assert expected > 1  # not clipped after guidance

    rebuilt = released_translate(
        still,
        lambda x, t: torch.cat([x, -x], dim=1).flatten(1),
        x,
        FEW,
        noise_level=2,
        target=0,
        scale=20,
        noise=nothing,
    )

    assert rebuilt.item() == pytest.approx(expected, rel=1e-5)


def test_networks_are_told_target_and_timestep():
    asked, judged = [], []

    def unet(x, t, y):
        asked.append((t.tolist(), y.tolist()))
        return torch.zeros(len(x), 2, 1, 1)

    def classifier(x, t):
        judged.append(t.tolist())
        return torch.cat([x, -x], dim=1).flatten(1)

    x = torch.zeros(2, 1, 1, 1)
    released_translate(unet, classifier, x, FEW, noise_level=3, target=1, scale=1, noise=x)

    assert asked == [([k] * 2, [1, 1]) for k in (1, 2, 1, 0)]
    assert judged == [[1, 1], [0, 0]]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"noise_level": 0}, r"L = 0 is outside 1\.\.3"),
        ({"noise_level": 4}, r"L = 4 is outside 1\.\.3"),
        ({"scale": -1}, "must be 0 or more, got -1"),
    ],
)
def test_bad_settings_are_refused(changed, message):
    x = torch.zeros(1, 1, 1, 1)
    settings = {"noise_level": 2, "target": 0, "scale": 0.0, "noise": x} | changed

    with pytest.raises(UsageError, match=message):
        released_translate(still, no_classifier, x, FEW, **settings)
