import numpy as np
import pytest
import torch
from torch import nn

from medglean.anomaly.objectives import (
    Noised,
    classifier_step,
    classifier_validation,
    diffusion_losses,
    diffusion_step,
    diffusion_validation,
    from_network,
    schedule_of,
    to_network,
    trained_timesteps,
)
from medglean.anomaly.schedule import q_sample
from medglean.anomaly.settings import DiffusionSettings
from medglean.errors import PresetError

IMAGES = torch.rand(512, 1, 4, 4, generator=torch.Generator().manual_seed(0))


class Heard(nn.Module):
    """A network that keeps what it is asked, and answers with fixed outputs."""

    def __init__(self, answer):
        super().__init__()
        self.answer, self.asked = answer, []
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x, t, y=None):
        self.asked.append((x, t, y))
        return self.answer(x, t) + self.weight


def taken(step, network, batch):
    losses = []
    logged = step(batch, torch.Generator().manual_seed(1), lambda loss, name: losses.append(loss))
    return losses, logged, network.asked[-1]


def batch_of(targets):
    return {"image": IMAGES[: len(targets)], "target": torch.tensor(targets)}


def test_timesteps_are_uniform_over_the_levels_that_are_trained_on():
    settings = DiffusionSettings(train_levels=(11, 14), learned_range=False)
    network = Heard(lambda x, t: torch.zeros_like(x))
    step = diffusion_step({"unet": network}, settings, schedule_of(settings))

    _, _, (_, t, y) = taken(step, network, batch_of([0, 1] * 256))

    assert set(t.tolist()) == {10, 11, 12, 13}
    assert min(np.bincount(t)[10:]) > 100  # of 512, 128 expected
    assert y.tolist() == [0, 1] * 256


@pytest.mark.parametrize("levels", [(0, 10), (5, 4), (1, 1001)])
def test_levels_outside_of_the_process_are_refused(levels):
    with pytest.raises(PresetError, match=r"train_levels is .* expected two levels of 1..T = 1000"):
        trained_timesteps(DiffusionSettings(train_levels=levels))


def test_all_levels_are_trained_on_by_default():
    assert trained_timesteps(DiffusionSettings(steps=50)) == range(50)


def test_the_levels_in_focus_are_trained_on_more_often():
    settings = DiffusionSettings(focus=(11, 20), focus_share=0.75, learned_range=False)
    network = Heard(lambda x, t: torch.zeros_like(x))
    step = diffusion_step({"unet": network}, settings, schedule_of(settings))

    _, _, (_, t, _) = taken(step, network, batch_of([0, 1] * 256))

    inside = ((t >= 10) & (t < 20)).float().mean().item()
    assert inside == pytest.approx(0.75 + 0.25 * 0.01, abs=0.06)  # 512 draws: sd 0.02
    assert t.max() > 900


def test_the_class_of_a_share_is_withheld():
    settings = DiffusionSettings(label_dropout=0.25, learned_range=False)
    network = Heard(lambda x, t: torch.zeros_like(x))
    step = diffusion_step({"unet": network}, settings, schedule_of(settings))

    _, _, (_, _, y) = taken(step, network, batch_of([1] * 512))

    assert set(y.tolist()) == {-1, 1}
    assert 0.18 < (y == -1).float().mean() < 0.32


def test_the_network_sees_noised_images_and_its_error_is_the_loss():
    settings = DiffusionSettings(learned_range=False, value_range="signed")
    schedule = schedule_of(settings)
    network = Heard(lambda x, t: torch.zeros_like(x))
    step = diffusion_step({"unet": network}, settings, schedule)

    (loss,), logged, (x_t, t, _) = taken(step, network, batch_of([0] * 512))

    clean = 2 * IMAGES - 1
    signal = torch.from_numpy(np.sqrt(schedule.abar))[t + 1].float().view(-1, 1, 1, 1)
    spread = torch.from_numpy(np.sqrt(1 - schedule.abar))[t + 1].float().view(-1, 1, 1, 1)
    noise = (x_t - signal * clean) / spread
    assert loss.item() == pytest.approx(noise.square().mean().item(), rel=1e-3)
    assert loss.item() == pytest.approx(1.0, abs=0.05)  # standard normal
    assert logged["loss"].item() == logged["mse"].item() == loss.item()


def test_the_hybrid_loss_adds_the_bound():
    settings = DiffusionSettings(vb_weight=0.5)
    network = Heard(lambda x, t: torch.zeros(len(x), 2, 4, 4))
    step = diffusion_step({"unet": network}, settings, schedule_of(settings))

    (loss,), logged, _ = taken(step, network, batch_of([0] * 64))

    assert set(logged) == {"loss", "mse", "vb"}
    assert logged["vb"] > 0
    assert loss.item() == pytest.approx((logged["mse"] + 0.5 * logged["vb"]).item(), rel=1e-5)


def test_min_snr_weighs_the_error_of_little_noise_down():
    settings = DiffusionSettings(learned_range=False, min_snr=5.0)
    schedule = schedule_of(settings)
    t, noise = torch.tensor([0, 999]), torch.ones(2, 1, 4, 4)
    x_t = q_sample(IMAGES[:2], noise, t, schedule)
    noised = Noised(IMAGES[:2], t, noise, x_t)

    losses = diffusion_losses(torch.zeros(2, 1, 4, 4), noised, settings, schedule)

    # SNR of level 1 is 0.9999 / 0.0001
    np.testing.assert_allclose(losses["mse"], [1.0, 1.0])
    np.testing.assert_allclose(losses["total"], [5 / 9999, 1.0], rtol=1e-4)


def test_the_range_of_values_goes_there_and_back():
    signed = DiffusionSettings(value_range="signed")

    seen = to_network(IMAGES, signed)

    assert seen.min() < -0.9
    torch.testing.assert_close(from_network(seen, signed), IMAGES)
    assert to_network(IMAGES, DiffusionSettings()) is IMAGES


def test_the_classifier_learns_by_cross_entropy_on_noised_images():
    settings = DiffusionSettings()
    network = Heard(lambda x, t: torch.tensor([[0.0, 1.0]]).repeat(len(x), 1))
    step = classifier_step({"classifier": network}, settings, schedule_of(settings))

    (loss,), logged, (x_t, t, y) = taken(step, network, batch_of([1, 1, 1, 0]))

    # log(1 + e) for the one, log(1 + e) - 1 for three
    assert loss.item() == pytest.approx(np.log1p(np.e) - 0.75, rel=1e-5)
    assert logged["accuracy"].item() == 0.75
    assert y is None
    assert not torch.allclose(x_t, IMAGES[:4])
    assert len(set(t.tolist())) > 1


def test_a_validation_asks_the_same_each_time_over_all_timesteps():
    settings = DiffusionSettings(steps=100, learned_range=False)
    schedule = schedule_of(settings)
    network = Heard(lambda x, t: torch.zeros_like(x))
    targets = np.arange(50) % 2
    validate = diffusion_validation(IMAGES[:50], targets, settings, schedule, seed=0, batch_size=16)

    with torch.no_grad():
        one, same = validate({"unet": network}), validate({"unet": network})

    t = torch.cat([asked[1] for asked in network.asked[:4]])
    y = torch.cat([asked[2] for asked in network.asked[:4]])
    assert sorted(t.tolist()) == list(range(1, 100, 2))
    assert y.tolist() == targets.tolist()
    assert one == same
    assert one["loss"] == one["mse"] == pytest.approx(1.0, abs=0.15)


def test_the_classifier_is_judged_level_by_level():
    settings = DiffusionSettings(steps=100)
    schedule = schedule_of(settings)
    targets = np.arange(50) % 2
    images = torch.from_numpy(targets.astype(np.float32)).view(-1, 1, 1, 1).expand(50, 1, 4, 4)
    # says "diseased" where the image is bright
    network = Heard(lambda x, t: torch.stack([0.5 - x.mean((1, 2, 3)), x.mean((1, 2, 3))], dim=1))
    validate = classifier_validation(images, targets, settings, schedule, seed=0, batch_size=16)

    with torch.no_grad():
        found = validate({"classifier": network})

    levels = [6, 26, 51, 76]
    assert set(found) == {"loss", *(f"{n}.{t}" for t in levels for n in ("auroc", "accuracy"))}
    assert found["auroc.6"] == 1.0
    assert found["accuracy.6"] == 1.0
    assert 0.6 < found["auroc.51"] < 1.0
