import math

import pytest
import torch
from tests.anomaly.closed_form import DISEASED, HEALTHY, GaussianMixture

from medglean.anomaly.ddpm import ddpm_translate, reverse_moments, standard_normal
from medglean.anomaly.schedule import Schedule, levels_of
from medglean.errors import UsageError

SCHEDULE = Schedule.linear()
X = torch.full((2, 1, 1, 2), 0.3, dtype=torch.float64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def still(x, level):
    return torch.zeros_like(x)


def test_one_step_by_hand():
    # the noised image divided by sqrt(abar), moved by s times the variance times the gradient
    abar = float(SCHEDULE.abar[300])
    noised = math.sqrt(abar) * X + math.sqrt(1 - abar) * standard_normal(X, seeded())

    rebuilt = ddpm_translate(
        X,
        still,
        SCHEDULE,
        (0, 300),
        gradient=lambda x, level: torch.full_like(x, 2.0),
        scale=3.0,
        generator=seeded(),
        clip=None,
    )

    torch.testing.assert_close(rebuilt, noised / math.sqrt(abar) + 3 * (1 - abar) * 2)


def test_clipped_image_bounds_the_result_without_guidance():
    rebuilt = ddpm_translate(
        100 * X, still, SCHEDULE, (0, 300), generator=seeded(), clip=(-1.0, 1.0)
    )

    assert rebuilt.flatten().tolist() == pytest.approx([1.0] * 4)


def test_variance_is_learned_or_fixed():
    t, eps = torch.full((2,), 400), torch.zeros_like(X)

    def variance(output, **settings):
        return reverse_moments(output, X, t, SCHEDULE, **settings).log_variance.exp().max().item()

    small, large = SCHEDULE.posterior_variance[400], SCHEDULE.betas[400]
    assert variance(eps) == pytest.approx(small)
    assert variance(eps, variance="beta") == pytest.approx(large)
    assert variance(torch.cat([eps, eps - 1], dim=1)) == pytest.approx(small)
    assert variance(torch.cat([eps, eps + 1], dim=1)) == pytest.approx(large)
    assert variance(torch.cat([eps, eps], dim=1)) == pytest.approx(math.sqrt(small * large))


@pytest.mark.parametrize("steps", [None, 100])
def test_moments_of_images_drawn_with_the_exact_noise(steps):
    # x ~ N(0.4, 0.5^2), noised to abar: E[x' | x] - 0.4 = k (x - 0.4) with
    # k = abar s^2 / (abar s^2 + 1 - abar); x' | x has variance s^2 (1 - k) + k^2 (1 - abar) / abar
    mean = torch.full((1, 1, 16, 16), 0.4, dtype=torch.float64)
    model = GaussianMixture(mean, [0.5], [1.0], SCHEDULE)
    x = torch.full((32, 1, 16, 16), 1.4, dtype=torch.float64)
    abar = float(SCHEDULE.abar[300])
    k = abar * 0.25 / (abar * 0.25 + 1 - abar)

    drawn = ddpm_translate(
        x,
        model.conditional(0),
        SCHEDULE,
        levels_of(300, steps),
        generator=seeded(),
        variance="beta",
        clip=None,
    )

    assert drawn.mean().item() == pytest.approx(0.4 + k, abs=0.03)
    expected = math.sqrt(0.25 * (1 - k) + k**2 * (1 - abar) / abar)
    assert drawn.std().item() == pytest.approx(expected, rel=0.03)


def test_guidance_carries_diseased_images_to_the_healthy_mean():
    means = torch.zeros(2, 1, 4, 4, dtype=torch.float64)
    means[DISEASED, 0, 1:3, 1:3] = 1.0
    model = GaussianMixture(means, [0.1, 0.1], [0.5, 0.5], SCHEDULE)
    x = model.sample(DISEASED, 16, generator=seeded())
    levels = levels_of(500, 50, spacing="quadratic")

    def lesion(scale):
        rebuilt = ddpm_translate(
            x,
            model.unconditional,
            SCHEDULE,
            levels,
            gradient=model.gradient(HEALTHY),
            scale=scale,
            generator=seeded(1),
            clip=None,
        )
        return rebuilt[:, 0, 1:3, 1:3].mean(dim=(1, 2))

    assert lesion(0).max() > 0.8  # without guidance some stay diseased
    assert lesion(1).abs().max() < 0.2  # with it none does


def test_noise_of_an_image_does_not_depend_on_its_batch():
    levels = levels_of(20)
    together = ddpm_translate(X, still, SCHEDULE, levels, generator=[seeded(3), seeded(4)])
    alone = ddpm_translate(X[1:], still, SCHEDULE, levels, generator=[seeded(4)])

    torch.testing.assert_close(together[1:], alone)
    assert not torch.equal(together[0], together[1])


def test_same_generator_same_images():
    first, second = (
        ddpm_translate(X, still, SCHEDULE, levels_of(10), generator=seeded(5)) for _ in range(2)
    )

    assert torch.equal(first, second)


def test_bad_settings_are_refused():
    with pytest.raises(UsageError, match="got 1 generators for 2 images"):
        standard_normal(X, [seeded()])
    with pytest.raises(UsageError, match="must be 0 or more, got -1"):
        ddpm_translate(X, still, SCHEDULE, (0, 5), scale=-1, generator=seeded())
    with pytest.raises(UsageError, match=r"outside 0\.\.1000"):
        ddpm_translate(X, still, SCHEDULE, (0, 2000), generator=seeded())
    with pytest.raises(UsageError, match="start at 0"):
        ddpm_translate(X, still, SCHEDULE, (2, 5), generator=seeded())
