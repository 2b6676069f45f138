"""Algorithm 1 on a mixture of two normal distributions: scores and gradients without training."""

import math

import pytest
import torch
from tests.anomaly.closed_form import DISEASED, HEALTHY, GaussianMixture

from medglean.anomaly.guidance import classifier_free, classifier_guided, gradient_of
from medglean.anomaly.schedule import Schedule, levels_of
from medglean.anomaly.translate import decode, encode

SCHEDULE = Schedule.linear()
SPREAD = 0.1
LESION = (slice(None), 0, slice(1, 3), slice(1, 3))
LEVELS = levels_of(500, 100, spacing="quadratic")


def brains(dtype=torch.float64):
    """Return a mixture whose diseased images are brighter in the middle, and nowhere else."""
    means = torch.zeros(2, 1, 4, 4, dtype=dtype)
    means[:] = torch.linspace(0.2, 0.8, 16).view(4, 4)
    means[DISEASED, 0, 1:3, 1:3] += 0.8
    return GaussianMixture(means, [SPREAD, SPREAD], [0.6, 0.4], SCHEDULE)


MODEL = brains()
X = MODEL.sample(DISEASED, 32, generator=torch.Generator().manual_seed(0))


def translated(decoder, *, x=X, encoder=MODEL.unconditional, iterations=1):
    encoded = encode(x, encoder, SCHEDULE, LEVELS, iterations=iterations)
    return decode(encoded, decoder, SCHEDULE, LEVELS)


def guided(scale, *, sign=1.0, label=HEALTHY):
    exact = MODEL.gradient(label)
    return classifier_guided(
        MODEL.unconditional, lambda x, level: sign * exact(x, level), SCHEDULE, scale=scale
    )


def counterpart(x):
    """Return the healthy image with the same deviation from its mean, up to what is left at L.

    At level L the images of both classes are z sd_L away from their means; decoded as healthy,
    the means' distance there, sqrt(abar_L) times that of the clean images, counts as deviation.
    """
    abar = float(SCHEDULE.abar[LEVELS[-1]])
    spread = math.sqrt(abar * SPREAD**2 + 1 - abar)
    left = SPREAD * math.sqrt(abar) / spread
    return x - (1 - left) * (MODEL.means[DISEASED] - MODEL.means[HEALTHY])


def test_without_guidance_the_image_returns():
    assert (translated(guided(0)) - X).abs().max() < 1e-3


def test_guidance_carries_a_diseased_image_to_its_healthy_counterpart():
    rebuilt = translated(guided(1), encoder=MODEL.conditional(DISEASED))

    torch.testing.assert_close(rebuilt, counterpart(X), atol=0.02, rtol=0)


def test_the_map_shows_the_lesion_and_nothing_else():
    # the encoder is not told that the image is diseased
    change = (X - translated(guided(1))).abs()

    inside = change[LESION].flatten()
    outside = change.clone()
    outside[LESION] = 0
    assert inside.min() > 0.5
    assert outside.max() < 0.05


def test_guidance_of_the_wrong_sign_keeps_the_lesion():
    rebuilt = translated(guided(1, sign=-1))

    assert (rebuilt[LESION] - X[LESION]).min() > -0.1


def test_healthy_image_stays_as_it_is():
    x = MODEL.sample(HEALTHY, 32, generator=torch.Generator().manual_seed(1))

    assert (translated(guided(1), x=x) - x).abs().max() < 0.1


def test_guidance_the_other_way_adds_a_lesion():
    x = MODEL.sample(HEALTHY, 8, generator=torch.Generator().manual_seed(1))

    change = translated(guided(1, label=DISEASED), x=x) - x

    assert change[LESION].min() > 0.5


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_classifier_free_and_classifier_guidance_are_one(scale):
    free = classifier_free(MODEL.conditional(HEALTHY), MODEL.unconditional, scale=scale)

    for level in LEVELS[1:]:
        found, expected = free(X, level), guided(scale)(X, level)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(translated(free), translated(guided(scale)), atol=1e-6, rtol=1e-6)


def test_gradient_of_a_classifier_is_that_of_the_formula():
    found = gradient_of(MODEL.classifier, target=HEALTHY)
    expected = MODEL.gradient(HEALTHY)

    for level in (1, 50, 500, 1000):
        x = math.sqrt(SCHEDULE.abar[level]) * X
        torch.testing.assert_close(found(x, level), expected(x, level))


def test_stronger_guidance_removes_more():
    left = [translated(guided(scale))[LESION].mean().item() for scale in (0.0, 0.02, 0.1, 1.0)]

    assert left == sorted(left, reverse=True)
    assert left[0] - left[-1] > 0.6


def test_normalised_guidance_does_not_depend_on_the_size_of_the_gradient():
    def rebuilt(size):
        exact = MODEL.gradient(HEALTHY)
        decoder = classifier_guided(
            MODEL.unconditional,
            lambda x, level: size * exact(x, level),
            SCHEDULE,
            scale=0.3,
            normalised=True,
        )
        return translated(decoder)

    weak, strong = rebuilt(1e-4), rebuilt(100.0)

    torch.testing.assert_close(weak, strong)
    assert (X - weak)[LESION].mean() > 0.3


def test_single_precision():
    model = brains(torch.float32)
    decoder = classifier_guided(model.unconditional, model.gradient(HEALTHY), SCHEDULE, scale=1.0)
    encoded = encode(X.float(), model.unconditional, SCHEDULE, LEVELS, iterations=1)

    rebuilt = decode(encoded, decoder, SCHEDULE, LEVELS)

    assert rebuilt.dtype == torch.float32
    torch.testing.assert_close(rebuilt.double(), translated(guided(1)), atol=1e-3, rtol=0)
