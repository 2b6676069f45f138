import copy

import pytest
import torch
from tests.nn.stain_gan.networks import image, trained

from medglean.errors import UsageError
from medglean.nn.stain_gan import for_inference, inference

VARIANTS = [
    {},
    {"attention": "elu"},
    {"attention": "softmax", "skips": (1,)},
    {"attention": "none"},
    {"halvings": 2, "skips": (1,)},
    {"patch_px": 2, "halvings": 3, "skips": (2,)},
    {"width": 3, "heads": 1, "head_width": 5},
]


@pytest.mark.parametrize("settings", VARIANTS)
def test_images_are_those_of_the_generator(settings):
    network = trained(**settings)
    x = image(32, 48, batch=2)
    found = for_inference(network, precision="32-true")(x)
    assert found.dtype == torch.float32
    assert found.is_contiguous()
    with torch.no_grad():
        torch.testing.assert_close(found, network(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("settings", VARIANTS)
def test_bfloat16_is_within_a_few_grey_levels(settings):
    network = trained(**settings)
    x = image(32, 48, batch=2)
    found = for_inference(network, precision="bf16-mixed")(x)
    assert found.dtype == torch.float32
    with torch.no_grad():
        off = (found - network(x)).abs() * 127.5
    assert off.mean() < 1
    assert off.max() < 8


def test_level_features_and_sums_are_taken():
    network = trained(level_channels=3)
    network.set_level_statistics(torch.tensor([1.0, 0.0, 2.0]), torch.tensor([1.0, 2.0, 3.0]))
    fast = for_inference(network, precision="32-true")
    x, level = image(32, 32), torch.tensor([[1.0, -2.0, 3.0]])
    inside = (slice(0, 24), slice(8, 32))
    with torch.no_grad():
        sums = network.key_sums(x, inside=inside)
        expected = network(x, level, sums=sums)
    found = fast.key_sums(x, inside=inside)
    assert set(found) == set(sums) == {2, 3}
    for n, each in sums.items():
        torch.testing.assert_close(found[n].kv, each.kv, rtol=1e-4, atol=1e-4)
        assert torch.equal(found[n].tokens, each.tokens)
    torch.testing.assert_close(fast(x, level, sums=found), expected, rtol=0, atol=1e-5)
    assert (fast(x, level) - expected).abs().max() > 1e-4


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_neither_image_nor_generator_is_touched(precision):
    network = trained().train()
    before, x = copy.deepcopy(network.state_dict()), image(32, 32)
    given = x.clone()
    fast = for_inference(network, precision=precision)
    first = fast(given)
    fast.key_sums(given)
    assert torch.equal(given, x)
    assert network.training
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    with torch.no_grad():
        for value in network.state_dict().values():
            value.zero_()
    assert torch.equal(fast(x), first)  # no weight is shared


def test_calls_do_not_disturb_one_another():
    fast = for_inference(trained(), precision="32-true")
    first = fast(image(32, 32))
    kept = first.clone()
    fast(image(48, 64, seed=1))
    assert torch.equal(first, kept)
    assert torch.equal(fast(image(32, 32)), kept)


def test_an_image_is_the_same_alone_and_in_a_batch():
    fast = for_inference(trained(), precision="32-true")
    x = image(32, 32, batch=3)
    torch.testing.assert_close(fast(x)[1:2], fast(x[1:2]), rtol=0, atol=1e-5)


def test_attributes_are_those_of_the_generator():
    network = trained(level_channels=2)
    fast = for_inference(network)
    for name in ("stride_px", "reach_px", "skips", "level_channels", "halvings", "patch_px"):
        assert getattr(fast, name) == getattr(network, name)
    assert not fast.training
    assert not any(weight.requires_grad for weight in fast.parameters())


@pytest.mark.parametrize(("has", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_takes_bfloat16_where_the_processor_has_it(has, dtype, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has, raising=False)
    assert for_inference(trained(), precision="auto").dtype == dtype


def test_processors_that_torch_cannot_ask_get_float32(monkeypatch):
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert not inference._has_bf16(torch.device("cpu"))
    assert not inference._has_bf16(torch.device("mps"))


def test_input_that_does_not_fit_is_refused():
    fast = for_inference(trained(attention="softmax"))
    with pytest.raises(UsageError, match="multiples of 16"):
        fast(image(16, 24))
    with pytest.raises(UsageError, match="multiples of 16"):
        fast.key_sums(image(16, 24))
    with pytest.raises(UsageError, match="softmax attention has no sums"):
        fast.key_sums(image(16, 16))
    assert for_inference(trained(attention="none")).key_sums(image(16, 16)) == {}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu():
    network = trained(level_channels=2).cuda()
    x, level = image(32, 48, batch=2).cuda(), torch.zeros(2, 2).cuda()
    with torch.no_grad(), torch.backends.cudnn.flags(allow_tf32=False):
        expected = network(x, level)
        exact = for_inference(network, precision="32-true")
        torch.testing.assert_close(exact(x, level), expected, rtol=0, atol=1e-4)
        torch.testing.assert_close(
            exact(x, level, sums=exact.key_sums(x)), expected, rtol=0, atol=1e-4
        )
    fast = for_inference(network)
    assert fast.dtype == torch.bfloat16
    assert ((fast(x, level) - expected).abs() * 127.5).mean() < 1
