import pytest
import torch
from tests.nn.diffusion_unet.conftest import images, stirred

from medglean.errors import UsageError
from medglean.nn.diffusion_unet import DiffusionUNet

TINY = {
    "side_px": 16,
    "in_channels": 2,
    "out_channels": 4,
    "width": 32,
    "multipliers": (1, 2),
    "blocks": 1,
    "attention_px": (8,),
}
VARIANTS = {
    "as in the paper": {},
    "heads": {"heads": 2},
    "scale and shift": {"scale_shift": True, "head_width": 32},
    "blocks change the side": {"block_resampling": True},
    "two blocks, attention everywhere": {"blocks": 2, "attention_px": (16, 8)},
}


def tiny(**changes):
    return DiffusionUNet(**{**TINY, **changes})


def test_fresh_network_says_nothing_and_depends_on_its_seed_alone():
    state = torch.random.get_rng_state()
    one, same, other = tiny(seed=1), tiny(seed=1), tiny(seed=2)
    assert torch.equal(torch.random.get_rng_state(), state)
    x, t = images(1, 2, 16, 16), torch.tensor([5])

    assert one(x, t, torch.tensor([1])).abs().max() == 0
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, same.state_dict()[name])
    first = "input_blocks.0.0.weight"
    assert not torch.equal(one.state_dict()[first], other.state_dict()[first])


def test_ends_of_residual_branches_are_zero_at_first():
    state = tiny().state_dict()
    ends = [key for key in state if "out_layers.3" in key or "proj_out" in key or "out.2" in key]
    # weight and bias of: residual blocks 2 + 2 + 4 (encoder, middle, decoder), attention 1 + 1 + 2,
    # and the last convolution
    assert len(ends) == 2 * (8 + 4 + 1)
    for key in ends:
        assert state[key].abs().max() == 0, key


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_an_image_does_not_depend_on_its_batch(changes):
    network = stirred(tiny(**changes).double())
    x, t, y = images(3, 2, 16, 16, dtype=torch.float64), torch.tensor([0, 400, 999]), [0, 1, -1]
    with torch.no_grad():
        together = network(x, t, torch.tensor(y))
        for i in range(3):
            alone = network(x[i : i + 1], t[i : i + 1], torch.tensor(y[i : i + 1]))
            torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-10)

    assert together.shape == (3, 4, 16, 16)


def test_a_class_withheld_is_as_no_class():
    network = stirred(tiny())
    x, t = images(3, 2, 16, 16), torch.tensor([1, 2, 3])
    with torch.no_grad():
        without = network(x, t)
        withheld = network(x, t, torch.tensor([-1, -1, -1]))
        mixed = network(x, t, torch.tensor([-1, 0, 1]))

    assert torch.equal(withheld, without)
    torch.testing.assert_close(mixed[0], without[0], rtol=0, atol=1e-5)
    assert (mixed[1:] - without[1:]).abs().amax(dim=(1, 2, 3)).min() > 1e-3


def test_a_class_withheld_teaches_the_embedding_nothing():
    network = stirred(tiny())
    network(images(2, 2, 16, 16), torch.tensor([1, 2]), torch.tensor([-1, 1])).sum().backward()

    gradient = network.label_emb.weight.grad
    assert gradient[0].abs().max() == 0
    assert gradient[1].abs().max() > 0


def test_timestep_and_class_change_the_answer():
    network = stirred(tiny())
    x = images(1, 2, 16, 16)
    with torch.no_grad():
        told = {
            (t, y): network(x, torch.tensor([t]), torch.tensor([y]))
            for t, y in [(0, 0), (1, 0), (999, 0), (0, 1)]
        }
    first = told.pop((0, 0))
    for key, other in told.items():
        assert (other - first).abs().max() > 1e-4, key


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_checkpointing_gives_the_same_gradients(changes):
    x, t, y = images(2, 2, 16, 16), torch.tensor([3, 700]), torch.tensor([0, -1])
    found = []
    for checkpointing in (False, True):
        network = stirred(tiny(checkpointing=checkpointing, dropout=0.3, **changes)).train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            loss = network(x, t, y).square().mean()
            loss.backward()
        found.append([loss.detach(), *(weight.grad for weight in network.parameters())])
    for plain, checkpointed in zip(*found, strict=True):
        assert plain.abs().max() > 0
        assert torch.equal(plain, checkpointed)


def test_gradient_agrees_with_finite_differences():
    network = stirred(tiny(heads=2, width=32, multipliers=(1, 1)).double())
    x, t = images(1, 2, 16, 16, dtype=torch.float64).requires_grad_(), torch.tensor([10])
    direction = images(1, 2, 16, 16, seed=1, dtype=torch.float64)

    (gradient,) = torch.autograd.grad(network(x, t).square().sum(), x)
    with torch.no_grad():
        h = 1e-5
        up, down = (network(x + s * h * direction, t).square().sum() for s in (1, -1))

    slope = (gradient * direction).sum()
    torch.testing.assert_close(slope, (up - down) / (2 * h), rtol=1e-6, atol=1e-6)


def test_other_sides_that_can_be_halved_are_taken():
    out = tiny()(torch.zeros(1, 2, 24, 10), torch.tensor([0]))
    assert out.shape == (1, 4, 24, 10)


def test_what_does_not_go_together_is_refused():
    with pytest.raises(UsageError, match=r"15 x 16 pixels cannot be halved 1 times: .* of 2"):
        tiny()(torch.zeros(1, 2, 15, 16), torch.tensor([0]))
    with pytest.raises(UsageError, match=r"30 x 30 pixels cannot be halved 2 times: .* of 4"):
        tiny(side_px=30, multipliers=(1, 1, 1))
    with pytest.raises(UsageError, match="width 40 times multiplier 1 is not a multiple of 32"):
        tiny(width=40)
    with pytest.raises(UsageError, match="at 64 channels cannot have 3 heads"):
        tiny(heads=3)
    with pytest.raises(UsageError, match="at 64 channels cannot have heads of 48 channels"):
        tiny(head_width=48)
    with pytest.raises(UsageError, match="at least one level"):
        tiny(multipliers=())
    with pytest.raises(UsageError, match="takes no class"):
        tiny(classes=None)(torch.zeros(1, 2, 16, 16), torch.tensor([0]), torch.tensor([0]))


def test_bfloat16_is_near_float32():
    network = stirred(tiny())
    x, t, y = images(2, 2, 16, 16), torch.tensor([3, 700]), torch.tensor([0, 1])
    with torch.no_grad():
        exact = network(x, t, y)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = network(x, t, y).float()

    error = (rough - exact).square().mean().sqrt() / exact.square().mean().sqrt()
    assert error < 0.03
