import pytest
import torch
from tests.nn.stain_gan.networks import image
from torch import nn

from medglean.errors import UsageError
from medglean.nn.stain_gan import PatchDiscriminator


def count(module):
    return sum(weight.numel() for weight in module.parameters())


def test_parameters_of_the_70_px_patchgan_worked_out_by_hand():
    # Isola et al.: C64 (with bias, no norm), C128, C256, C512 with norm, one logit with bias
    trunk = 16 * 6 * 64 + 64
    for inner, outer in ((64, 128), (128, 256), (256, 512)):
        trunk += 16 * inner * outer + 2 * outer
    assert count(PatchDiscriminator()) == trunk + 16 * 512 + 1 == 2_768_705
    assert count(PatchDiscriminator(levels=4)) == 2_768_705 + 4 * (512 + 1)


def test_first_layer_has_no_norm_and_channels_stop_at_eight_widths():
    network = PatchDiscriminator(width=2, layers=5)
    kinds = [type(module) for module in network.trunk]
    assert kinds[:3] == [nn.Conv2d, nn.LeakyReLU, nn.Conv2d]
    assert kinds.count(nn.BatchNorm2d) == 5
    convolutions = [module for module in network.trunk if isinstance(module, nn.Conv2d)]
    assert [each.out_channels for each in convolutions] == [2, 4, 8, 16, 16, 16]
    assert [each.stride[0] for each in convolutions] == [2, 2, 2, 2, 2, 1]


@pytest.mark.parametrize(("layers", "patch_px"), [(1, 16), (2, 34), (3, 70)])
def test_a_logit_sees_a_patch(layers, patch_px):
    network = PatchDiscriminator(width=1, layers=layers).double().eval()
    with torch.no_grad():  # positive everywhere, so that nothing cancels
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.fill_(0.1)
    x = torch.ones(1, 3, 160, 160, dtype=torch.float64, requires_grad=True)
    patches = network(x, x).patches
    middle = patches.shape[-1] // 2
    patches[0, 0, middle, middle].backward()
    rows = x.grad[0].sum(dim=(0, 2)).nonzero()
    assert rows.max() - rows.min() + 1 == patch_px == network.patch_px


def test_smallest_image_has_one_patch_and_one_less_is_refused():
    network = PatchDiscriminator(width=2)
    x = image(24, 24)
    assert network.smallest_px == 24
    assert network.eval()(x, x).patches.shape == (1, 1, 1, 1)
    with pytest.raises(UsageError, match="from 24 pixels on"):
        network(image(23, 24), image(23, 24))


def test_both_heads_judge_the_pair_on_one_trunk():
    network = PatchDiscriminator(width=4, levels=3).eval()
    he, ihc = image(32, 40, batch=2), image(32, 40, batch=2, seed=1)
    calls = []
    network.trunk.register_forward_hook(lambda *_: calls.append(1))
    judged = network(he, ihc)
    assert len(calls) == 1
    assert judged.patches.shape == (2, 1, 2, 3)
    assert judged.levels.shape == (2, 3)
    for other in (network(he, he), network(ihc, ihc)):  # either image of a pair matters
        assert not torch.equal(other.patches, judged.patches)
    judged.levels.sum().backward()
    assert network.trunk[0].weight.grad.abs().max() > 0


def test_levels_are_of_the_whole_image_and_none_without_the_head():
    network = PatchDiscriminator(width=4, levels=3).eval()
    he = image(64, 64)
    maps = network.trunk(torch.cat([he, he], dim=1))
    expected = network.to_levels(maps.flatten(2).mean(dim=2))
    torch.testing.assert_close(network(he, he).levels, expected)
    assert PatchDiscriminator(width=4).eval()(he, he).levels is None


def test_weights_start_as_in_pix2pix_and_are_a_function_of_the_seed():
    before = torch.random.get_rng_state()
    first, again, other = (PatchDiscriminator(width=32, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    weight = first.trunk[5].weight
    assert torch.equal(weight, again.trunk[5].weight)
    assert not torch.equal(weight, other.trunk[5].weight)
    assert weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert first.trunk[6].weight.mean().item() == pytest.approx(1, abs=0.01)


def test_misuse_is_told():
    network = PatchDiscriminator(width=2)
    with pytest.raises(UsageError, match="two RGB images of the same size"):
        network(image(32, 32), image(32, 40))
    for wrong in ({"width": 0}, {"layers": 0}, {"levels": 0}):
        with pytest.raises(UsageError, match=f"{next(iter(wrong))} is 0, expected at least 1"):
            PatchDiscriminator(**wrong)
