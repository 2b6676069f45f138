import pytest
from tests.stain.tiny import tiny_preset

from medglean.stain.described import losses_of, method_name, settings_of, white_of


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"method": "mean-colour"}, "mean colour of the training images"),
        ({"losses": {"adversarial": 0}}, "U-Net, FAVOR+ attention, level features"),
        (
            {"generator": {"attention": {"kind": "none"}, "level_features": False},
             "discriminator": {"level_head": False}},
            "GAN",
        ),
    ],
)  # fmt: skip
def test_a_method_is_named_by_its_parts(changes, name):
    assert method_name(tiny_preset(**changes)) == name


def test_losses_without_effect_are_not_named():
    losses = {"adversarial": 0, "level": 1, "density": 10}

    assert losses_of(tiny_preset(losses=losses)) == "l1 100, density 10"
    assert losses_of(tiny_preset(discriminator={"level_head": False})) == "adversarial 1, l1 100"


def test_settings_say_what_was_done_with_white():
    normal = tiny_preset(white={"normalise": True, "reapply": "training"})

    assert "mean of the training slides" in white_of(normal)
    assert settings_of(normal)["white"] == white_of(normal)
    assert "64" not in str(settings_of(tiny_preset(generator={"attention": {"kind": "none"}})))
    assert "attention" not in settings_of(tiny_preset(method="mean-colour"))
