import pytest
import torch
from tests.stain.tiny import tiny_preset

from medglean.errors import PresetError
from medglean.nn.stain_gan import PatchDiscriminator, StainUNet
from medglean.stain.levels import LevelClassifier
from medglean.stain.networks import (
    build_network,
    needs_discriminator,
    needs_level_head,
    networks_of,
)
from medglean.stain.settings import StainPreset

PIX2PIX = {
    "generator": {"attention": {"kind": "none"}, "level_features": False},
    "discriminator": {"level_head": False},
    "measure": {"judge": False},
}


def test_a_run_keeps_what_its_preset_needs():
    without_judge = tiny_preset(measure={"judge": False})
    without_features = tiny_preset(generator={"level_features": False})

    assert networks_of(tiny_preset()) == ("level", "judge", "generator")
    assert networks_of(without_judge) == ("level", "generator")
    assert networks_of(without_features) == ("judge", "generator")
    assert networks_of(tiny_preset(method="mean-colour")) == ()


@pytest.mark.parametrize(
    ("changes", "opponent", "head"),
    [
        ({}, True, True),
        ({"losses": {"adversarial": 0.0}}, False, False),
        ({"losses": {"level": 0.0}}, True, False),
        ({"discriminator": {"level_head": False}}, True, False),
        ({"method": "mean-colour"}, False, False),
    ],
)
def test_the_losses_decide_whether_there_is_an_opponent(changes, opponent, head):
    preset = tiny_preset(**changes)

    assert needs_discriminator(preset) == opponent
    assert needs_level_head(preset) == head


def test_networks_are_as_the_settings_say():
    preset = tiny_preset()

    generator = build_network("generator", preset)
    discriminator = build_network("discriminator", preset)
    level = build_network("level", preset)

    assert isinstance(generator, StainUNet)
    assert (generator.stride_px, generator.level_channels) == (preset.stride_px, 8)
    assert isinstance(level, LevelClassifier)
    assert level.feature_count == 8
    assert level(torch.zeros(1, 3, 32, 32)).shape == (1, 4)
    assert isinstance(discriminator, PatchDiscriminator)
    assert discriminator(*torch.zeros(2, 1, 3, 32, 32)).levels.shape == (1, 4)


def test_pix2pix_is_a_matter_of_settings():
    preset = tiny_preset(**PIX2PIX)

    generator = build_network("generator", preset)

    assert networks_of(preset) == ("generator",)
    assert not generator.attention
    assert generator.level_channels is None
    assert build_network("discriminator", preset).to_levels is None


def test_the_report_s_generator_is_told_what_a_resnet_sees():
    with torch.device("meta"):
        generator = build_network("generator", StainPreset(name="paper"))

    assert generator.stride_px == 256
    assert generator.level_channels == 512  # of a ResNet-18
    assert list(generator.attention) == ["3", "4", "5"]


@pytest.mark.parametrize("name", ["level", "judge", "generator", "discriminator"])
def test_the_seed_alone_decides_the_weights(name):
    one, same, other = (build_network(name, tiny_preset(), seed=seed) for seed in (0, 0, 1))

    def weights(network):
        return torch.cat([weight.flatten() for weight in network.parameters()])

    assert torch.equal(weights(one), weights(same))
    assert not torch.equal(weights(one), weights(other))


def test_too_small_images_for_an_architecture_are_refused():
    preset = tiny_preset(level={"architecture": "alexnet"})

    with pytest.raises(PresetError, match=r"'alexnet', which needs .* 63 pixels; .* a side of 32"):
        build_network("level", preset)


def test_an_architecture_that_there_is_not_is_refused():
    preset = tiny_preset(level={"architecture": "resnet1"})

    with pytest.raises(PresetError, match=r"level\.architecture is 'resnet1', expected one of ale"):
        build_network("judge", preset)


def test_another_name_is_refused():
    with pytest.raises(ValueError, match="no network is named 'critic'"):
        build_network("critic", tiny_preset())
