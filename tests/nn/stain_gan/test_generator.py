import itertools

import pytest
import torch
from tests.nn.stain_gan.networks import image, monotone, trained

from medglean.errors import UsageError
from medglean.nn.stain_gan import StainUNet
from medglean.nn.stain_gan.extent import seen_by


def count(module):
    return sum(weight.numel() for weight in module.parameters())


def test_parameters_of_unet_256_worked_out_by_hand():
    # Isola et al.: 64-128-256-512-512-512-512-512; transposed ones read a skip too but for the
    # deepest; BatchNorm after all but both ends of the encoder and the last of the decoder; one
    # bias, of the last
    widths = [3, 64, 128, 256, 512, 512, 512, 512, 512]
    pairs = list(itertools.pairwise(widths))
    down = sum(16 * outer * inner for outer, inner in pairs) + 2 * sum(widths[2:8])
    up = sum(16 * outer * 2 * inner for outer, inner in pairs[:-1]) + 16 * 512 * 512
    norms = 2 * sum(widths[1:8])
    with torch.device("meta"):
        assert count(StainUNet(attention="none")) == down + up + norms + 3 == 54_413_955


def test_parameters_of_attention_and_level_features_by_hand():
    plain = count(StainUNet(width=4, halvings=4, attention="none"))
    network = StainUNet(
        width=4, halvings=4, skips=(2, 3), heads=2, head_width=5, level_channels=6, seed=1
    )
    added = sum(3 * 10 * c + 10 * c + c + 1 for c in (8, 16))  # q, k, v; out with bias; gain
    film = (6 + 1) * 2 * 32
    assert count(network) == plain + added + film


def test_all_variants_start_as_the_same_image():
    x = image(32, 48, batch=2)
    plain = StainUNet(width=4, halvings=4, attention="none", seed=5).eval()(x)
    for kind in ("favor", "elu", "softmax"):
        network = StainUNet(
            width=4, halvings=4, skips=(1, 3), attention=kind, level_channels=2, seed=5
        ).eval()
        assert torch.equal(network(x, torch.randn(2, 2)), plain)
    assert not torch.equal(StainUNet(width=4, halvings=4, skips=(1,), seed=6).eval()(x), plain)


@pytest.mark.parametrize("kind", ["favor", "elu", "softmax"])
def test_attention_changes_the_image_once_its_gain_is_not_zero(kind):
    x = image(32, 32)
    network = trained(attention=kind)
    changed = network(x)
    for attention in network.attention.values():
        torch.nn.init.zeros_(attention.gain)
    assert (network(x) - changed).abs().max() > 1e-2


def test_building_changes_no_global_random_state():
    before = torch.random.get_rng_state()
    StainUNet(width=2, halvings=2, skips=(1,))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("size", [(16, 16), (16, 48), (64, 32)])
@pytest.mark.parametrize("patch_px", [1, 2])
def test_shape_and_range_of_any_multiple_of_the_stride(size, patch_px):
    network = trained(halvings=3, skips=(1, 2), patch_px=patch_px)
    assert network.stride_px == 8 * patch_px
    made = network(image(*size, batch=2))
    assert made.shape == (2, 3, *size)
    assert made.abs().max() <= 1
    assert made.std() > 0.05


@pytest.mark.parametrize("patch_px", [1, 2])
def test_an_output_pixel_sees_what_the_bound_says_and_no_more(patch_px):
    network = monotone(StainUNet(width=1, halvings=3, patch_px=patch_px, attention="none"))
    stride, side = network.stride_px, 11 * network.stride_px
    farthest = 0
    for pixel in range(5 * stride, 6 * stride):
        x = torch.full((1, 3, stride, side), 0.5, dtype=torch.float64, requires_grad=True)
        network(x)[0, 0, stride // 2, pixel].backward()
        seen = x.grad[0].abs().sum(dim=(0, 1)).nonzero().flatten()
        assert (seen.min(), seen.max()) == seen_by(pixel, halvings=3, patch_px=patch_px)
        farthest = max(farthest, pixel - seen.min(), seen.max() - pixel)
    assert farthest == network.reach_px


def test_a_changed_pixel_changes_nothing_beyond_the_reach_and_something_at_it():
    network = monotone(StainUNet(width=1, halvings=3, skips=(1, 2)))
    for attention in network.attention.values():
        torch.nn.init.ones_(attention.gain)
    x = torch.full((1, 3, 8, 96), 0.5, dtype=torch.float64)
    farthest = 0
    with torch.no_grad():
        sums = network.key_sums(x)
        before = network(x, sums=sums)
        for pixel in range(40, 48):
            changed = x.clone()
            changed[..., pixel] += 0.25
            moved = (network(changed, sums=sums) - before).abs().amax(dim=(0, 1, 2)).nonzero()
            farthest = max(farthest, pixel - moved.min(), moved.max() - pixel)
    assert farthest == network.reach_px == 21


@pytest.mark.parametrize("kind", ["favor", "elu"])
def test_tiles_with_the_sums_of_the_whole_give_the_whole(kind):
    network = trained(halvings=3, skips=(1, 2), attention=kind)
    x, cut = image(48, 128), 64
    over = -(-network.reach_px // network.stride_px) * network.stride_px
    with torch.no_grad():
        whole = network(x)
        first = network.key_sums(x[..., : cut + over], inside=(slice(0, 48), slice(0, cut)))
        second = network.key_sums(x[..., cut - over :], inside=(slice(None), slice(over, None)))
        sums = {n: first[n] + second[n] for n in network.skips}
        left = network(x[..., : cut + over], sums=sums)[..., :cut]
        alone = network(x[..., : cut + over])[..., :cut]
    assert (left - whole[..., :cut]).abs().max() < 1e-5
    assert (alone - whole[..., :cut]).abs().max() > 1e-4  # the sums are what makes them agree
    for n, found in network.key_sums(x).items():
        torch.testing.assert_close(sums[n].kv, found.kv, rtol=1e-5, atol=1e-4)
        assert sums[n].tokens.unique().item() == 48 * 128 / 4**n


def test_sums_are_of_tokens_whose_middle_is_inside():
    network = trained(halvings=3, skips=(2,))
    found = network.key_sums(image(16, 16, batch=2), inside=(slice(0, 16), slice(3, 7)))
    assert found[2].tokens.unique().tolist() == [4.0]  # 4 rows of the one with the middle at 6
    assert found[2].k.shape == (2, 4, 24)


def test_no_attention_has_no_sums_and_softmax_says_so():
    assert trained(attention="none").key_sums(image(16, 16)) == {}
    network = trained(attention="softmax")
    with pytest.raises(UsageError, match=r"softmax attention has no sums.*slide\.attention=tile"):
        network.key_sums(image(16, 16))
    sums = trained(skips=(2, 3)).key_sums(image(16, 16))
    with pytest.raises(UsageError, match="softmax attention has no sums"):
        network(image(16, 16), sums=sums)


def test_level_features_are_standardised_and_modulate_the_bottom():
    network = trained(halvings=2, skips=(), attention="none", level_channels=2)
    x, level = image(8, 8), torch.tensor([[3.0, 4.0]])
    network.set_level_statistics(torch.tensor([1.0, 4.0]), torch.tensor([2.0, 0.0]))
    film = network.film
    maps = torch.randn(1, 16, 2, 2)
    scale, shift = film.to_scale_and_shift(torch.tensor([[1.0, 0.0]]))[0, :, None, None].chunk(2)
    torch.testing.assert_close(film(maps, level), (1 + scale) * maps + shift)
    assert (network(x, level) - network(x, level + 1)).abs().max() > 1e-3
    assert "film.mean" in network.state_dict()


def test_a_map_of_one_pixel_at_the_bottom_trains_with_one_image():
    network = StainUNet(width=2, halvings=4, skips=(3,))
    network(image(16, 16)).sum().backward()
    assert network.down[-1].weight.grad.abs().max() > 0


def test_dropout_is_where_pix2pix_has_it_and_only_in_training():
    for halvings, drops in ((5, False), (6, True)):
        network = StainUNet(width=2, halvings=halvings, attention="none")
        x = image(2**halvings, 2**halvings, batch=2)
        assert torch.equal(network(x), network(x)) is not drops
        network.eval()
        assert torch.equal(network(x), network(x))


def test_gradients_reach_every_weight():
    network = trained(level_channels=3).train()
    network(image(32, 32, batch=2), torch.randn(2, 3)).square().sum().backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().max() > 0, name


def test_stored_features_make_a_loaded_network_the_same():
    network = trained()
    other = trained(seed=9)
    assert not torch.equal(other.attention["2"].projection, network.attention["2"].projection)
    other.load_state_dict(network.state_dict())
    x = image(16, 32)
    assert torch.equal(other(x), network(x))
    assert {f"attention.{n}.projection" for n in (2, 3)} <= set(network.state_dict())


def test_attention_is_finite_under_autocast():
    x = image(32, 32)
    network = trained()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made = network(x)
    assert (made.float() - network(x)).abs().mean() < 0.02


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"halvings": 1}, "halvings is 1, expected at least 2"),
        ({"skips": (4,)}, r"skip connection 4: with 4 halvings there are 1 to 3"),
        ({"skips": (0,)}, "skip connection 0"),
        ({"width": 0}, "width is 0, expected at least 1"),
    ],
)
def test_a_network_that_cannot_be_is_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        trained(**settings)


def test_input_that_does_not_fit_is_refused():
    network = trained(level_channels=3)
    with pytest.raises(UsageError, match=r"\(3, 16, 20\), expected RGB .* multiples of 16"):
        network(image(16, 20), torch.zeros(1, 3))
    with pytest.raises(UsageError, match="got no level features, expected 3"):
        network(image(16, 16))
    with pytest.raises(UsageError, match="got 2 level features, expected 3"):
        network(image(16, 16), torch.zeros(1, 2))
    with pytest.raises(UsageError, match="got 3 level features, expected none"):
        trained()(image(16, 16), torch.zeros(1, 3))
    with pytest.raises(UsageError, match="no sums were given for the skip connection 2"):
        trained()(image(16, 16), sums={})
    with pytest.raises(UsageError, match=r"shapes \(4,\) and \(4,\), the generator takes 3"):
        network.set_level_statistics(torch.zeros(4), torch.ones(4))
