import math

import pytest
import torch
from tests.anomaly.closed_form import DISEASED, HEALTHY, GaussianMixture

from medglean.anomaly.contrast import (
    difference,
    encoded_contrast,
    expected_images,
    likelihood_ratio,
    noised_contrast,
    noised_contrasts,
)
from medglean.anomaly.schedule import Schedule
from medglean.errors import UsageError

SCHEDULE = Schedule.linear()
SPREAD = 0.1


def brains():
    """Return a mixture whose diseased images are brighter by 0.8 in the middle."""
    means = torch.full((2, 1, 4, 4), 0.3, dtype=torch.float64)
    means[DISEASED, 0, 1:3, 1:3] += 0.8
    return GaussianMixture(means, [SPREAD, SPREAD], [0.5, 0.5], SCHEDULE)


MODEL = brains()
GAP = MODEL.means[DISEASED] - MODEL.means[HEALTHY]
TOLD = (MODEL.conditional(DISEASED), MODEL.conditional(HEALTHY))
X = MODEL.sample(DISEASED, 3, generator=torch.Generator().manual_seed(0))


def seeded():
    return torch.Generator().manual_seed(1)


def share_of_the_mean(level):
    """Return by how much the expected image follows the class's mean, not x_t."""
    abar = float(SCHEDULE.abar[level])
    return (1 - abar) / (abar * SPREAD**2 + 1 - abar)


def test_expected_image_is_the_clean_one_where_the_noise_is_known():
    noise = torch.randn(X.shape, generator=seeded(), dtype=torch.float64)
    abar = float(SCHEDULE.abar[400])
    x_t = math.sqrt(abar) * X + math.sqrt(1 - abar) * noise

    torch.testing.assert_close(expected_images(x_t, lambda x, level: noise, SCHEDULE, 400), X)


@pytest.mark.parametrize("draws", [1, 3])
def test_contrast_of_normal_classes_is_the_gap_of_their_means(draws):
    # E[x_0 | x_t, class] = mean + (1 - share) (...): classes differ by share times the gap
    found = noised_contrast(
        X, *TOLD, SCHEDULE, levels=(50, 200), generator=seeded(), draws=draws, weights=(1, 3)
    )

    share = 0.25 * share_of_the_mean(50) + 0.75 * share_of_the_mean(200)
    torch.testing.assert_close(found, (share * GAP).expand_as(X))


def test_encoded_contrast_agrees_and_draws_nothing():
    found = encoded_contrast(
        X, *TOLD, SCHEDULE, levels=(50, 200), encoder=MODEL.unconditional, weights=(0, 1)
    )

    torch.testing.assert_close(found, (share_of_the_mean(200) * GAP).expand_as(X))


def test_encoded_contrast_asks_at_the_encoded_image():
    asked = []

    def told(x, level):
        asked.append((level, x.flatten()[0].item()))
        return torch.zeros_like(x)

    encoded_contrast(
        torch.ones(1, 1, 1, 1),
        told,
        told,
        SCHEDULE,
        levels=(100, 300),
        encoder=lambda x, level: 0 * x,
    )

    signal = [math.sqrt(SCHEDULE.abar[level]) for level in (100, 100, 300, 300)]
    assert [level for level, _ in asked] == [100, 100, 300, 300]
    assert [value for _, value in asked] == pytest.approx(signal)


def test_likelihood_ratio_is_positive_in_the_lesion_and_0_elsewhere():
    of_diseased, of_healthy = (
        noised_contrast(
            MODEL.sample(label, 64, generator=torch.Generator().manual_seed(2)),
            *TOLD,
            SCHEDULE,
            levels=(300,),
            generator=seeded(),
            measure=likelihood_ratio,
        ).mean(dim=0)[0]
        for label in (DISEASED, HEALTHY)
    )

    assert of_diseased[1:3, 1:3].min() > 0.4
    assert of_healthy[1:3, 1:3].max() < -0.4
    assert of_diseased[0].abs().max() < 1e-12


def test_noise_of_an_image_does_not_depend_on_its_batch():
    settings = {"levels": (100, 200), "draws": 2, "measure": likelihood_ratio}
    generators = [torch.Generator().manual_seed(seed) for seed in (3, 4, 5)]

    together = noised_contrast(X, *TOLD, SCHEDULE, generator=generators, **settings)
    alone = noised_contrast(
        X[1:2], *TOLD, SCHEDULE, generator=[torch.Generator().manual_seed(4)], **settings
    )

    torch.testing.assert_close(together[1:2], alone)


def test_both_contrasts_from_one_set_of_evaluations():
    asked = []

    def told(x, level):
        asked.append(level)
        return TOLD[1](x, level)

    settings = {"levels": (100, 200), "draws": 2}
    both = noised_contrasts(X, TOLD[0], told, SCHEDULE, generator=seeded(), **settings)

    assert asked == [100, 100, 200, 200]
    for measure, found in zip((difference, likelihood_ratio), both, strict=True):
        expected = noised_contrast(
            X, *TOLD, SCHEDULE, generator=seeded(), measure=measure, weights=(1, 3), **settings
        )
        torch.testing.assert_close((found[0] + 3 * found[1]) / 4, expected)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"levels": (0, 5)}, "two or more that increase"),
        ({"levels": (5, 2000)}, r"L = 2000 is outside 0\.\.1000"),
        ({"levels": ()}, "two or more that increase"),
        ({"weights": (1,)}, r"weights \(1,\) for the noise levels \(100, 200\)"),
        ({"weights": (0, 0)}, "not all 0"),
        ({"weights": (2, -1)}, "0 or more"),
        ({"draws": 0}, "at least 1 draw of noise, got 0"),
    ],
)
def test_bad_settings_are_refused(changed, message):
    settings = {"levels": (100, 200)} | changed

    with pytest.raises(UsageError, match=message):
        noised_contrast(X, *TOLD, SCHEDULE, generator=seeded(), **settings)
