import pytest
import torch

from medglean.errors import UsageError
from medglean.nn.kernel_attention import elu_attention, exact_attention, favor_attention
from medglean.nn.stain_gan import SkipAttention


def attention(kind="favor", channels=6, **settings):
    settings = {"heads": 2, "head_width": 3, "features": 8} | settings
    torch_generator = torch.Generator().manual_seed(0)
    return SkipAttention(channels, kind=kind, generator=torch_generator, **settings)


def a_map(*size, batch=2, channels=6):
    return torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", ["favor", "elu", "softmax"])
def test_gain_zero_is_the_identity(kind):
    x = a_map(3, 5)
    assert torch.equal(attention(kind)(x), x)


@pytest.mark.parametrize("kind", ["favor", "elu", "softmax"])
def test_what_is_added_is_gain_times_projected_attention_of_the_tokens(kind):
    network, x = attention(kind), a_map(3, 5)
    torch.nn.init.constant_(network.gain, 0.7)
    tokens = x.flatten(2).transpose(1, 2)  # C x H x W to HW rows of C
    q, k, v = (
        (tokens @ weight.t()).view(2, 15, 2, 3).transpose(1, 2)
        for weight in network.to_qkv.weight.chunk(3)
    )
    found = {
        "favor": lambda: favor_attention(q, k, v, network.projection),
        "elu": lambda: elu_attention(q, k, v),
        "softmax": lambda: exact_attention(q, k, v),
    }[kind]()
    joined = found.transpose(1, 2).reshape(2, 15, 6)
    added = (joined @ network.to_out.weight.t() + network.to_out.bias).transpose(1, 2)
    torch.testing.assert_close(network(x), x + 0.7 * added.view(2, 6, 3, 5))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_layout_changes_nothing_and_the_map_is_left_alone(layout):
    network, x = attention(), a_map(4, 4)
    torch.nn.init.ones_(network.gain)
    given = x.contiguous(memory_format=layout)
    with torch.no_grad():
        torch.testing.assert_close(network(given), network(x))
    assert torch.equal(given, x)


@pytest.mark.parametrize("kind", ["favor", "elu"])
def test_own_sums_change_nothing_and_other_sums_do(kind):
    network, x = attention(kind), a_map(4, 4)
    torch.nn.init.ones_(network.gain)
    torch.testing.assert_close(network(x, network.key_sums(x)), network(x))
    other = network(x, network.key_sums(x.flip(0)))
    assert (other - network(x)).abs().max() > 1e-4
    keep = torch.zeros(2, 4, 4, dtype=torch.bool)
    keep[:, 1:3, 2:] = True
    torch.testing.assert_close(network.key_sums(x, keep).kv, network.key_sums(x[:, :, 1:3, 2:]).kv)


def test_random_features_are_stored_and_take_no_gradient():
    network = attention()
    assert network.state_dict()["projection"].shape == (8, 3)
    assert "projection" not in dict(network.named_parameters())
    assert attention("elu").projection is None


def test_softmax_has_no_sums():
    network, x = attention("softmax"), a_map(4, 4)
    with pytest.raises(UsageError, match=r"generator\.attention\.kind=favor or elu"):
        network.key_sums(x)
    with pytest.raises(UsageError, match="softmax attention has no sums"):
        network(x, attention().key_sums(x))
