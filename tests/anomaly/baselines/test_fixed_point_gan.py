import math

import numpy as np
import pytest
import torch
from tests.anomaly.baselines.brains import SIDE_PX, brains
from torch import nn

from medglean.anomaly.baselines.fixed_point_gan import (
    DISCRIMINATOR,
    GENERATOR,
    Translated,
    critic_loss,
    gan_rebuild,
    gan_step,
    generator_loss,
    gradient_penalty,
)
from medglean.anomaly.settings import GanSettings
from medglean.errors import UsageError
from medglean.fitting import FitSettings, Loader, checkpoint, fit, make_optimizer
from medglean.fitting.progress import Silent
from medglean.nn.fixed_point_gan import Judgement, build_discriminator, build_generator

WEIGHTS = GanSettings(lambda_cls=2.0, lambda_gp=3.0, lambda_id=5.0, lambda_rec=7.0)


def judged(realness, logits) -> Judgement:
    return Judgement(torch.tensor(realness).reshape(-1, 1, 1, 1), torch.tensor(logits))


def pair(side_px=16, width=2):
    return {
        GENERATOR: build_generator(width=width, blocks=1),
        DISCRIMINATOR: build_discriminator(side_px=side_px, width=width),
    }


# -- losses by hand


def test_penalty_of_a_linear_critic_in_closed_form():
    weight = torch.tensor([[[[3.0, 0.0], [0.0, 4.0]]]], requires_grad=True)
    points = torch.rand(2, 1, 2, 2, requires_grad=True)
    slope = torch.autograd.grad((points * weight).sum(), points, create_graph=True)[0]

    penalty = gradient_penalty(slope)
    penalty.backward()

    # (|w| - 1)^2 = 16, and its gradient 2 (|w| - 1) w / |w|
    assert penalty.item() == pytest.approx(16.0)
    torch.testing.assert_close(weight.grad, 8 * weight.detach() / 5)


def test_penalty_where_there_is_no_slope_is_one_and_has_a_gradient_that_is_a_number():
    slope = torch.zeros(2, 1, 2, 2, requires_grad=True)

    penalty = gradient_penalty(slope)
    penalty.backward()

    assert penalty.item() == 1.0
    assert torch.isfinite(slope.grad).all()


def test_critic_loss_by_hand():
    real = judged([2.0, 4.0], [[0.0, 0.0], [0.0, math.log(3.0)]])
    fake = judged([1.0, -2.0], [[9.0, 0.0], [0.0, 9.0]])
    slope = torch.tensor([3.0, 0.0]).reshape(2, 1, 1, 1)

    loss = critic_loss(real, fake, slope, torch.tensor([0, 1]), settings=WEIGHTS)

    # cross-entropies ln 2 and ln 4/3; those of the fakes do not count
    domain = (math.log(2) + math.log(4 / 3)) / 2
    assert loss.wasserstein.item() == pytest.approx(3.0 - -0.5)
    assert loss.penalty.item() == pytest.approx((4.0 + 1.0) / 2)
    assert loss.domain.item() == pytest.approx(domain, rel=1e-6)
    assert loss.total.item() == pytest.approx(-3.5 + 3.0 * 2.5 + 2.0 * domain, rel=1e-6)


def test_generator_loss_by_hand():
    images = torch.full((2, 1, 1, 2), 0.5)
    other = Translated(
        torch.full_like(images, -1.0),
        judged([1.0, 2.0], [[0.0, math.log(3.0)]] * 2),
        torch.full_like(images, 0.25),
    )
    same = Translated(
        torch.full_like(images, 0.75), judged([0.0, 1.0], [[0.0, 0.0]] * 2), images + 0.125
    )

    loss = generator_loss(
        images, other, same, torch.tensor([0, 0]), torch.tensor([1, 1]), settings=WEIGHTS
    )

    assert loss.adversarial.item() == pytest.approx(-1.5 - 0.5)
    assert loss.domain.item() == pytest.approx(math.log(4 / 3) + math.log(2), rel=1e-6)
    assert loss.cycle.item() == pytest.approx(0.25 + 0.125)
    assert loss.identity.item() == pytest.approx(0.25)  # not how far the other domain's is
    wanted = -2.0 + 2.0 * (math.log(4 / 3) + math.log(2)) + 7.0 * 0.375 + 5.0 * 0.25
    assert loss.total.item() == pytest.approx(wanted, rel=1e-6)


# -- the step


def record(networks, images, target, *, settings, seed=0):
    calls = []
    step = gan_step(networks, settings)
    logged = step(
        {"image": images, "target": target},
        torch.Generator().manual_seed(seed),
        lambda loss, name: calls.append((name, loss)),
    )
    return calls, logged


@pytest.mark.parametrize(("images", "updates"), [(10, 5), (7, 5), (3, 3), (1, 1)])
def test_the_discriminator_moves_so_often_and_then_the_generator(images, updates):
    target = torch.arange(images) % 2
    calls, logged = record(
        pair(), torch.rand(images, 1, 16, 16), target, settings=GanSettings(critic_steps=5)
    )

    assert [name for name, _ in calls] == [DISCRIMINATOR] * updates + [GENERATOR]
    totals = torch.stack([loss for _, loss in calls[:-1]])
    assert logged["critic.total"].item() == pytest.approx(totals.mean().item(), rel=1e-5)
    assert logged["generator.total"].item() == pytest.approx(calls[-1][1].item(), rel=1e-6)
    assert not any(value.requires_grad for value in logged.values())


def test_every_update_sees_other_images_of_the_batch_in_minus_one_to_one():
    seen = []

    class Spy(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, images, points=None):
            seen.append((images.detach(), points))
            return self.network(images, points)

    networks = pair()
    networks[DISCRIMINATOR] = Spy(networks[DISCRIMINATOR])
    images = torch.rand(6, 1, 16, 16)
    record(networks, images, torch.tensor([0, 1] * 3), settings=GanSettings(critic_steps=3))

    *critics, made = seen
    real = torch.cat([both[:2] for both, _ in critics])
    torch.testing.assert_close(real, 2 * images - 1)
    for both, points in critics:
        low, high = torch.minimum(both[:2], both[2:]), torch.maximum(both[:2], both[2:])
        assert ((points >= low - 1e-6) & (points <= high + 1e-6)).all()  # between real and fake
    own = networks[GENERATOR](2 * images[4:] - 1, torch.tensor([0, 1]))
    torch.testing.assert_close(made[0][2:], own)  # the last part's, translated to its own domain
    assert made[1] is None


def test_drawn_domains_are_those_of_the_part_in_another_order():
    asked = []

    class Spy(nn.Module):
        def forward(self, images, domain):
            asked.append(domain.tolist())
            return images.clone().requires_grad_()

    networks = pair()
    networks[GENERATOR] = Spy()
    target = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1])
    for seed in range(3):
        record(
            networks,
            torch.rand(8, 1, 16, 16),
            target,
            settings=GanSettings(critic_steps=1),
            seed=seed,
        )

    drawn = asked[::3]  # the discriminator's turn; then there, and back
    assert all(sorted(domains) == target.tolist() for domains in drawn)
    assert len({tuple(domains) for domains in drawn}) > 1
    assert asked[1] == drawn[0] + target.tolist()
    assert asked[2] == target.tolist() * 2


def test_the_drawing_is_the_generators():
    images, target = torch.rand(4, 1, 16, 16), torch.tensor([0, 1, 0, 1])
    one, same, other = (
        record(pair(), images, target, settings=GanSettings(critic_steps=2), seed=seed)[1]
        for seed in (0, 0, 1)
    )

    assert {key: value.item() for key, value in one.items()} == {
        key: value.item() for key, value in same.items()
    }
    assert one["critic.penalty"].item() != other["critic.penalty"].item()


# -- in the loop


def train(folder, *, steps, resume=False, networks=None, critic_steps=2, rates=None, **changes):
    base = {
        "epochs": 1000,
        "max_steps": steps,
        "batch_size": 8,
        "accelerator": "cpu",
        "log_every_steps": 1,
        "optimizer": {"learning_rate": 2e-3, "betas": (0.5, 0.999)},
    }
    settings = FitSettings.model_validate(base | changes)
    networks = pair(side_px=SIDE_PX, width=4) if networks is None else networks
    images = torch.cat([brains(lesion=False, count=6), brains(lesion=True, count=6)])
    target = torch.tensor([0] * 6 + [1] * 6)

    def fetch(indices, epoch):
        return {
            "image": images[indices],
            "target": target[indices],
            "index": torch.from_numpy(indices),
        }

    optimizers = {
        name: make_optimizer(network.parameters(), settings.optimizer)
        for name, network in networks.items()
    }
    for name, rate in (rates or {}).items():
        optimizers[name].param_groups[0]["lr"] = rate
    result = fit(
        gan_step(networks, GanSettings(critic_steps=critic_steps)),
        networks=networks,
        optimizers=optimizers,
        loader=Loader(fetch, np.arange(12), batch_size=settings.batch_size, seed=0),
        settings=settings,
        folder=folder,
        resume=resume,
        progress=Silent(),
    )
    return networks, [row for row in result.history if "train.generator.identity" in row]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_training_on_brains_teaches_the_identity_and_the_cycle(tmp_path, precision):
    _, rows = train(tmp_path, steps=16, precision=precision)

    for name in ("identity", "cycle"):
        values = [row[f"train.generator.{name}"] for row in rows]
        assert np.mean(values[-3:]) < 0.6 * np.mean(values[:3])
    assert rows[-1]["train.critic.penalty"] < rows[0]["train.critic.penalty"]


@pytest.mark.parametrize("moved", [GENERATOR, DISCRIMINATOR])
def test_each_update_moves_its_own_network_alone(tmp_path, moved):
    networks = pair(side_px=SIDE_PX, width=4)
    still = DISCRIMINATOR if moved == GENERATOR else GENERATOR
    before = {name: [w.clone() for w in each.parameters()] for name, each in networks.items()}

    train(tmp_path, steps=1, networks=networks, rates={still: 0.0})

    for name, weights in before.items():
        pairs = zip(weights, networks[name].parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs) == (name == still)


def test_a_resumed_training_ends_with_the_same_bits(tmp_path):
    train(tmp_path / "whole", steps=7, ema_decay=0.9)
    train(tmp_path / "cut", steps=3, ema_decay=0.9)
    train(tmp_path / "cut", steps=7, ema_decay=0.9, resume=True)

    whole, cut = (checkpoint.latest(tmp_path / n / "checkpoints").tensors for n in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    assert all(torch.equal(whole[key], cut[key]) for key in whole)


def test_accumulation_beside_critic_steps_is_refused(tmp_path):
    with pytest.raises(UsageError, match="called twice for one batch"):
        train(tmp_path, steps=1, accumulate=2)


# -- rebuilding


def test_rebuilding_translates_to_the_class_in_zero_to_one():
    network = build_generator(width=2, blocks=1)
    images = torch.rand(3, 1, 16, 16)

    healthy, sick = gan_rebuild(network, images), gan_rebuild(network, images, target=1)

    torch.testing.assert_close(healthy, (network(2 * images - 1, torch.zeros(3).long()) + 1) / 2)
    assert healthy.shape == images.shape
    assert 0 <= healthy.min() <= healthy.max() <= 1
    assert not healthy.requires_grad
    assert not torch.allclose(healthy, sick, atol=1e-3)
    with pytest.raises(UsageError, match="multiples of 4, got 18"):
        gan_rebuild(network, torch.zeros(1, 1, 18, 16))
