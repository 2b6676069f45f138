import copy
import math

import pytest
import torch
from tests.stain.tiny import tiny_preset
from torch.nn import functional as F

from medglean.stain.networks import build_network, needs_discriminator
from medglean.stain.objectives import gan_step, gan_validation

GENERATOR = torch.Generator()


def networks_for(preset):
    names = ("generator", "discriminator") if needs_discriminator(preset) else ("generator",)
    networks = {name: build_network(name, preset) for name in names}
    film = networks["generator"].film
    if film is not None:
        torch.nn.init.normal_(
            film.to_scale_and_shift.weight, generator=torch.Generator().manual_seed(1)
        )
    return networks


@pytest.fixture
def batch():
    draws = torch.Generator().manual_seed(0)
    return {
        "image": 2 * torch.rand(2, 3, 32, 32, generator=draws) - 1,
        "target": 2 * torch.rand(2, 3, 32, 32, generator=draws) - 1,
        "level": torch.tensor([2, 0]),
        "white": torch.ones(2, 3),
        "features": torch.randn(2, 8, generator=draws),
    }


class Moves:
    """Stands for the loop's update: notes each loss and which weights it has gradients for."""

    def __init__(self, networks, after=None):
        self.networks, self.after = networks, after
        self.losses, self.reached = {}, {}

    def __call__(self, loss, name):
        loss.backward()
        self.losses[name] = loss.detach()
        self.reached[name] = {
            each: any(weight.grad is not None for weight in network.parameters())
            for each, network in self.networks.items()
        }
        for network in self.networks.values():
            network.zero_grad(set_to_none=True)
        if self.after is not None:
            self.after(name)


def stepped(preset, batch, *, after=None):
    networks = networks_for(preset)
    moves = Moves(networks, after=None if after is None else lambda name: after(networks, name))
    logged = gan_step(networks, preset)(batch, GENERATOR, moves)
    return moves, logged


def test_first_the_discriminator_moves_and_then_the_generator_each_alone(batch):
    moves, _ = stepped(tiny_preset(), batch)

    assert list(moves.reached) == ["discriminator", "generator"]
    assert moves.reached["discriminator"] == {"generator": False, "discriminator": True}
    assert moves.reached["generator"] == {"generator": True, "discriminator": False}


def test_the_discriminator_learns_again_in_the_next_step(batch):
    networks = networks_for(tiny_preset())
    step = gan_step(networks, tiny_preset())
    for _ in range(2):
        moves = Moves(networks)
        step(batch, GENERATOR, moves)

    assert moves.reached["discriminator"]["discriminator"]
    assert all(weight.requires_grad for weight in networks["discriminator"].parameters())


def test_the_discriminator_s_loss_is_the_mean_of_both_halves_and_the_level_of_the_real(batch):
    preset = tiny_preset(losses={"level": 0.5})
    networks = copy.deepcopy(networks_for(preset))
    he, real = batch["image"], batch["target"]
    fake = networks["generator"](he, batch["features"])
    false = networks["discriminator"](he, fake.detach())
    true = networks["discriminator"](he, real)

    moves, logged = stepped(preset, batch)

    halves = [
        F.binary_cross_entropy_with_logits(one.patches, torch.full_like(one.patches, label))
        for one, label in ((false, 0.0), (true, 1.0))
    ]
    level = F.cross_entropy(true.levels, batch["level"])
    expected = 0.5 * sum(halves) + 0.5 * level
    torch.testing.assert_close(moves.losses["discriminator"], expected.detach())
    torch.testing.assert_close(logged["discriminator.patches"], 0.5 * sum(halves).detach())
    torch.testing.assert_close(logged["discriminator.level"], 0.5 * level.detach())


def test_the_generator_is_judged_by_the_discriminator_as_it_has_become(batch):
    def forget(networks, name):
        if name == "discriminator":
            for weight in networks["discriminator"].parameters():
                weight.data.zero_()

    _, logged = stepped(tiny_preset(), batch, after=forget)

    assert logged["adversarial"].item() == pytest.approx(math.log(2))
    assert logged["level"].item() == pytest.approx(math.log(4))


def test_the_generator_s_loss_is_the_sum_of_what_is_logged(batch):
    preset = tiny_preset(losses={"density": 3.0, "colour": 2.0, "pyramid": 1.0, "octaves": 2})

    moves, logged = stepped(preset, batch)

    terms = ("adversarial", "level", "l1", "density", "colour", "pyramid")
    assert set(logged) == {*terms, "generator", "discriminator.patches", "discriminator.level"}
    assert logged["generator"].item() == pytest.approx(
        sum(logged[n].item() for n in terms), rel=1e-5
    )
    assert moves.losses["generator"].item() == logged["generator"].item()
    assert not any(value.requires_grad for value in logged.values())


def test_without_an_adversarial_loss_there_is_regression_alone(batch):
    preset = tiny_preset(losses={"adversarial": 0.0})

    moves, logged = stepped(preset, batch)

    assert list(moves.losses) == ["generator"]
    assert set(logged) == {"l1", "generator"}


def test_pairs_without_a_level_teach_no_level(batch):
    alone = {name: value[:1] for name, value in batch.items()}
    batch["level"] = torch.tensor([2, -1])
    unknown = alone | {"level": torch.tensor([-1])}
    preset = tiny_preset()
    real = networks_for(preset)["discriminator"](batch["image"], batch["target"])

    _, both = stepped(preset, batch)
    moves, none = stepped(preset, unknown)

    expected = F.cross_entropy(real.levels[:1], torch.tensor([2]))
    torch.testing.assert_close(both["discriminator.level"], expected.detach())
    assert none["discriminator.level"] == none["level"] == 0
    assert moves.reached["generator"]["generator"]


def test_the_label_never_enters_the_generator(batch):
    preset = tiny_preset()
    networks = networks_for(preset)
    seen = []
    networks["generator"].register_forward_hook(
        lambda _module, given, made: seen.append((given, made))
    )
    for level in ([2, 0], [0, 3]):
        gan_step(networks, preset)(
            batch | {"level": torch.tensor(level)}, GENERATOR, Moves(networks)
        )

    (first, made), (second, made_again) = seen
    assert len(first) == len(second) == 2  # the image and its features
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))
    assert torch.equal(made, made_again)


def test_what_the_generator_is_told_is_the_features(batch):
    networks = networks_for(tiny_preset())
    other = batch["features"].flip(0)

    with torch.no_grad():
        one, two = (networks["generator"](batch["image"], f) for f in (batch["features"], other))

    assert not torch.equal(one, two)


def test_validation_by_hand():
    class Grey(torch.nn.Module):
        """Makes everything 0, the middle of [-1, 1]."""

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, image, features):
            assert features is None
            return image * self.weight

    targets = (torch.full((1, 3, 4, 4), 0.5), torch.full((1, 3, 4, 4), -1.0))

    def batches():
        for target in targets:
            yield {"image": torch.ones(1, 3, 4, 4), "target": target}

    with torch.no_grad():
        found = gan_validation(batches)({"generator": Grey()})

    # in [0, 1] the differences are 0.25 and 0.5: 20 log10 of 4 and of 2
    assert found["loss"] == pytest.approx((0.5 + 1.0) / 2)
    assert found["psnr"] == pytest.approx((20 * math.log10(4) + 20 * math.log10(2)) / 2)
