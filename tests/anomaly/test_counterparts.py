import pytest
import torch
from tests.anomaly.tiny import tiny_mapper, tiny_preset
from torch import nn

from medglean.anomaly.counterparts import counterpart
from medglean.anomaly.ddpm import standard_normal
from medglean.anomaly.model import Mapper
from medglean.anomaly.released import released_translate
from medglean.errors import UsageError
from medglean.randomness import torch_generator

X = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))


class Unet(nn.Module):
    """Predicts nothing, and keeps which classes and timesteps it was told."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1), requires_grad=False)
        self.told, self.asked, self.seen = [], [], []

    def forward(self, x, t, y):
        self.told.append(set(y.tolist()).pop())
        self.asked.append(set(t.tolist()).pop())
        self.seen.append(x)
        return torch.zeros(len(x), 2, *x.shape[2:])


class Bright(nn.Module):
    """Says "diseased" the more, the brighter an image is."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1), requires_grad=False)
        self.asked = []

    def forward(self, x, t):
        self.asked.append(set(t.tolist()).pop())
        return torch.stack([-x.sum((1, 2, 3)), x.sum((1, 2, 3))], dim=1)


def made(translate, **changes):
    """Return a mapper of the two networks above, and them."""
    preset = tiny_preset(translate={"steps": 2, **translate}, **changes)
    unet, classifier = Unet(), Bright()
    networks = {"unet": unet, "classifier": classifier}
    return Mapper(preset, networks, "healthy", ("lesion",)), unet, classifier


def translated(mapper, x=X, level=50):
    generators = [torch_generator(0, "t", row) for row in range(len(x))]
    with torch.no_grad():
        return counterpart(mapper, x, noise_level=level, generators=generators)


@pytest.mark.parametrize(
    ("translate", "dropout", "told"),
    [
        ({"guidance": "classifier"}, 0.2, [-1, -1, -1, -1]),
        ({"guidance": "none"}, 0.2, [-1, -1, -1, -1]),
        ({"guidance": "none"}, 0.0, [0, 0, 0, 0]),
        ({"guidance": "none", "encode_class": "own"}, 0.0, [1, 1, 1, 1]),
        ({"guidance": "class"}, 0.2, [-1, -1, 0, 0]),
        ({"guidance": "class", "encode_class": "own"}, 0.0, [1, 1, 0, 0]),
        ({"guidance": "class", "encode_class": "healthy"}, 0.2, [0, 0, 0, 0]),
        ({"guidance": "classifier-free", "scale": 3.0}, 0.2, [-1, -1, -1, 0, -1, 0]),
    ],
)
def test_the_class_that_the_network_is_told(translate, dropout, told):
    mapper, unet, _ = made(translate, diffusion={"label_dropout": dropout})

    _, evaluations = translated(mapper)

    assert unet.told == told
    classifier = 2 if translate["guidance"] == "classifier" else 0
    assert evaluations == len(told) + classifier


def test_unet_and_classifier_are_asked_at_the_same_timesteps():
    mapper, unet, classifier = made({"guidance": "classifier"})

    translated(mapper)

    # levels 0, 25, 50: timestep 0 for the clean image, else one less than the level
    assert unet.asked == [0, 24, 49, 24]
    assert classifier.asked == [49, 24]


def test_the_classifier_pulls_to_healthy_and_the_more_the_larger_the_scale():
    means = []
    for scale in (0.0, 0.001, 0.002):
        mapper, _, _ = made({"guidance": "classifier", "scale": scale})
        rebuilt, evaluations = translated(mapper, 0 * X + 0.01)
        means.append(rebuilt.mean().item())
        assert evaluations == (6 if scale else 4)

    assert means[0] == pytest.approx(0.01)  # predicted noise is 0, so there is no way
    assert means[2] < means[1] < means[0]


def test_the_healthy_class_pulls_to_healthy_and_the_more_the_larger_the_scale():
    class Told(Unet):
        def forward(self, x, t, y):
            # x is the mean of its class, at 0 if healthy, at 1 if diseased, and noise
            centre = torch.tensor([0.0, 1.0, 0.5])[y].view(-1, 1, 1, 1)
            return torch.cat([0.1 * (x - centre), 0 * x], dim=1)

    mapper, _, _ = made({"guidance": "classifier-free", "scale": 1.0})
    mapper.networks["unet"] = Told()
    stronger = mapper.with_preset(tiny_preset(translate={"guidance": "classifier-free",
                                                         "scale": 3.0, "steps": 2}))  # fmt: skip

    one, three = (translated(each)[0].mean().item() for each in (mapper, stronger))

    assert three < one < X.mean().item()


def test_networks_see_the_range_that_they_were_trained_on():
    mapper, unet, _ = made({"guidance": "none"}, diffusion={"value_range": "signed"})

    rebuilt, _ = translated(mapper)

    torch.testing.assert_close(unet.seen[0], 2 * X - 1)
    torch.testing.assert_close(rebuilt, X, atol=1e-6, rtol=0)  # no noise predicted: there and back


def test_iterations_make_the_way_up_the_inverse_of_the_way_down():
    def error(iterations):
        preset = tiny_preset(
            translate={"guidance": "none", "steps": 5, "inversion_iterations": iterations}
        )
        rebuilt, evaluations = translated(tiny_mapper(preset, size=0.02), level=20)
        return (rebuilt - X).abs().max().item(), evaluations

    plain, more = error(0), error(6)

    assert more[0] < 0.1 * plain[0]
    assert (plain[1], more[1]) == (10, 36)  # 5 + 5; and 1 + 5 x 6 up, 5 down


def test_the_released_sampler_is_that_of_its_module():
    preset = tiny_preset(translate={"sampler": "released", "scale": 2.0})
    mapper = tiny_mapper(preset)

    rebuilt, evaluations = translated(mapper, level=6)

    noise = standard_normal(X, [torch_generator(0, "t", row) for row in range(3)])
    with torch.no_grad():
        expected = released_translate(
            mapper.networks["unet"],
            mapper.networks["classifier"],
            X,
            mapper.schedule,
            noise_level=6,
            target=0,
            scale=2.0,
            noise=noise,
        )
    torch.testing.assert_close(rebuilt, expected)
    assert evaluations == 5 + 5 + 5  # up from 1 to 5, down from 4 to 0, and gradients there


@pytest.mark.parametrize(
    ("guidance", "calls"), [("classifier", 4), ("none", 2), ("class", 2), ("classifier-free", 4)]
)
def test_stochastic_sampling_under_each_guidance(guidance, calls):
    mapper, unet, _ = made({"sampler": "ddpm", "guidance": guidance})

    rebuilt, evaluations = translated(mapper)

    assert evaluations == calls
    assert torch.isfinite(rebuilt).all()
    assert not torch.allclose(rebuilt, X, atol=0.1)  # noise was added, and none was predicted
    told = {"classifier": [-1, -1], "none": [-1, -1], "class": [0, 0],
            "classifier-free": [0, -1, 0, -1]}  # fmt: skip
    assert unet.told == told[guidance]


def test_a_level_beyond_the_process_is_refused():
    mapper, _, _ = made({"guidance": "none"})

    with pytest.raises(UsageError, match=r"noise level L = 101 is outside 0\.\.100"):
        translated(mapper, level=101)


def test_contrast_takes_off_what_is_expected_of_diseased_images_alone():
    mapper, unet, _ = made(
        {"sampler": "contrast", "contrast_levels": [10, 30], "contrast_draws": 2}
    )

    rebuilt, evaluations = translated(mapper)

    assert evaluations == 2 * 2 * 2  # levels, draws, classes
    assert set(unet.told) == {0, 1}
    torch.testing.assert_close(rebuilt, X)  # the same is expected of both


def test_contrast_has_the_sign_of_the_disease():
    mapper = tiny_mapper(tiny_preset(translate={"sampler": "contrast", "contrast_levels": [20]}))

    def unet(x, t, y):  # told diseased, it sees less noise: a brighter image
        return torch.where((y == 1)[:, None, None, None], -0.5, 0.5).expand_as(x)

    mapper.networks["unet"].forward = unet

    rebuilt, _ = translated(mapper)

    abar = float(mapper.schedule.abar[20])
    torch.testing.assert_close(rebuilt, X - ((1 - abar) / abar) ** 0.5)


def test_contrast_levels_must_rise_within_the_process():
    for levels in ([30, 10], [0, 5], [50, 101]):
        with pytest.raises(ValueError, match=r"expected rising noise levels in 1\.\.100"):
            tiny_preset(translate={"sampler": "contrast", "contrast_levels": levels})
