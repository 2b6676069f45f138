import copy

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

from medglean.errors import UsageError
from medglean.nn.attribution import (
    BASELINES,
    blurred_baseline,
    cam_layer,
    grad_cam,
    hires_cam,
    integrated_gradients,
    mean_baseline,
)
from medglean.nn.backbones import ARCHITECTURES, build_backbone

CAMS = [grad_cam, hires_cam]


def linear_network(weights):
    """Flatten and one linear layer without bias; weights (k, pixels)."""
    layer = nn.Linear(len(weights[0]), len(weights), bias=False)
    layer.weight.data = torch.tensor(weights)
    return nn.Sequential(nn.Identity(), nn.Flatten(), layer)


def averaging_network(weights):
    """The channels are the features: averaged, then one linear layer; weights (k, channels)."""
    layer = nn.Linear(len(weights[0]), len(weights))
    layer.weight.data = torch.tensor(weights)
    layer.bias.data = torch.arange(len(weights)) + 5.0
    return nn.Sequential(nn.Identity(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), layer)


def small_network(seed=0, **options):
    return build_backbone("resnet18", classes=3, in_channels=1, seed=seed, **options).eval()


def random_images(count=2, side=64, seed=0):
    return torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(seed))


def hooks_of(network):
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in network.modules() for kind in kinds)


@pytest.mark.parametrize("cam", CAMS)
def test_averaged_features_give_the_map_worked_out_by_hand(cam):
    network = averaging_network([[2.0, -1.0], [0.0, 4.0]])
    image = torch.tensor([[[[4.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 8.0]]]])

    # dy_c/dA_k = w_ck / 4 in every cell: 2/4 * 4 = 2 top left, -1/4 * 8 = -2 bottom right
    found = cam(network, image, [0, 1], layer="0", keep_negative=True)
    assert found.cells.tolist() == [[[[2.0, 0.0], [0.0, -2.0]], [[0.0, 0.0], [0.0, 8.0]]]]
    assert found.maps.tolist() == found.cells.tolist()  # the grid is the image's already
    assert found.logits.tolist() == [[5.0, 14.0]]
    # what the cells add up to is the logit without its bias
    assert found.cells.sum(dim=(2, 3)).tolist() == [[0.0, 8.0]]
    assert cam(network, image, [0], layer="0").cells.tolist() == [[[[2.0, 0.0], [0.0, 0.0]]]]


def test_only_grad_cam_lights_up_what_a_linear_layer_does_not_use():
    # one feature; the class uses its left cell alone, and both cells are lit
    network = linear_network([[1.0, 0.0]])
    image = torch.tensor([[[[3.0, 3.0]]]])

    assert grad_cam(network, image, [0], layer="0").cells.flatten().tolist() == [1.5, 1.5]
    assert hires_cam(network, image, [0], layer="0").cells.flatten().tolist() == [3.0, 0.0]


@pytest.mark.parametrize("cam", CAMS)
def test_the_opposite_class_has_the_opposite_sign(cam):
    network = averaging_network([[1.0, -2.0], [-1.0, 2.0]])
    images = torch.rand(3, 2, 8, 8, generator=torch.Generator().manual_seed(1))

    signed = cam(network, images, [0, 1], layer="0", keep_negative=True).maps
    positive = cam(network, images, [0, 1], layer="0").maps

    torch.testing.assert_close(signed[:, 0], -signed[:, 1])
    assert signed[:, 0].abs().max() > 0.001
    assert bool(((positive[:, 0] > 0) & (positive[:, 1] > 0)).logical_not().all())
    torch.testing.assert_close(positive, signed.relu())


class Corner(nn.Module):
    """Two convolutions, then a linear layer that sees the top left quarter of the map only."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.features = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(4, 6, 3, padding=1),
        )
        self.relu = nn.ReLU(inplace=True)  # works on the map itself
        self.head = nn.Linear(6 * 4 * 4, 2)

    def forward(self, x):
        return self.head(self.relu(self.features(x))[:, :, :4, :4].flatten(1))


def test_a_network_that_looks_at_one_corner_has_its_map_there():
    network = Corner().eval()
    images = random_images(side=16)

    exact = hires_cam(network, images, [0, 1], layer="features", keep_negative=True)
    assert exact.cells.shape == (2, 2, 8, 8)
    assert exact.maps.shape == (2, 2, 16, 16)
    outside = torch.ones(8, 8, dtype=torch.bool)
    outside[:4, :4] = False
    assert exact.cells[..., outside].abs().max() == 0.0
    assert exact.cells[..., :4, :4].abs().amax(dim=(2, 3)).min() > 0.0
    # the channel weights of Grad-CAM cover the whole map: why HiResCAM is there
    pooled = grad_cam(network, images, [0, 1], layer="features", keep_negative=True)
    assert pooled.cells[..., outside].abs().max() > 0.0

    found = integrated_gradients(network, images, [0, 1], baseline=torch.zeros_like(images))
    reached = found.values.abs().sum(dim=(0, 1, 2)) > 0  # 4 cells, stride 2, two 3 x 3 kernels
    assert reached[:10, :10].float().mean() > 0.8  # a few pixels feed only cells that ReLU shuts
    assert not bool(reached[10:].any())
    assert not bool(reached[:, 10:].any())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_backbone_has_maps_of_its_last_convolution(architecture):
    network = build_backbone(architecture, classes=3).eval()
    images = random_images(side=64)
    layer = cam_layer(network, architecture)

    found = grad_cam(network, images, [2, 0], layer=layer)

    cells = {"alexnet": (3, 3), "vgg11": (4, 4)}.get(architecture, (2, 2))
    assert found.cells.shape == (2, 2, *cells)
    assert found.maps.shape == (2, 2, 64, 64)
    assert bool(torch.isfinite(found.maps).all())
    assert found.classes.tolist() == [[2, 0], [2, 0]]
    torch.testing.assert_close(found.logits, network(images).detach())


def test_layer_of_an_unknown_backbone_is_refused():
    with pytest.raises(UsageError, match="'lenet', expected one of alexnet"):
        cam_layer(nn.Identity(), "lenet")


@pytest.mark.parametrize("cam", CAMS)
def test_resnet_cells_add_up_to_the_logit_without_its_bias(cam):
    network = small_network()
    images = random_images()

    found = cam(network, images, [0, 1, 2], layer="layer4", keep_negative=True)

    expected = found.logits - network.fc.bias.detach()
    torch.testing.assert_close(found.cells.sum(dim=(2, 3)), expected, rtol=1e-4, atol=1e-5)
    # enlarging 2 x 2 cells to 64 x 64 keeps their mean
    torch.testing.assert_close(found.maps.mean(dim=(2, 3)), found.cells.mean(dim=(2, 3)))


def test_a_linear_networks_integrated_gradients_are_weight_times_way():
    network = linear_network([[1.0, -2.0, 3.0, 0.5], [0.0, 1.0, 0.0, 0.0]])
    image = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    baseline = torch.ones(1, 1, 1, 1)

    for steps in (1, 7):
        found = integrated_gradients(network, image, [0, 1], baseline=baseline, steps=steps)
        torch.testing.assert_close(
            found.maps(),
            torch.tensor([[[[0.0, -2.0], [6.0, 1.5]], [[0.0, 1.0], [0.0, 0.0]]]]),
        )
        torch.testing.assert_close(found.difference, torch.tensor([[5.5, 1.0]]))
        torch.testing.assert_close(found.total, found.difference)


class Cubes(nn.Module):
    """The sum of cubes of all pixels, and its negative."""

    def forward(self, x):
        summed = x.pow(3).sum(dim=(1, 2, 3))
        return torch.stack([summed, -summed], dim=1)


@pytest.mark.parametrize(("steps", "share"), [(1, 3 / 4), (2, 15 / 16), (10, 399 / 400)])
def test_the_midpoint_rule_has_its_known_error(steps, share):
    # of x^3 from 0: x * mean of 3 (x (s + 1/2) / S)^2 = x^3 (1 - 1 / (4 S^2))
    image = torch.tensor([[[[1.0, -2.0]]]], dtype=torch.float64)

    found = integrated_gradients(
        Cubes(), image, [0, 1], baseline=torch.zeros_like(image), steps=steps
    )

    expected = share * torch.tensor([1.0, -8.0], dtype=torch.float64)
    torch.testing.assert_close(found.maps()[0, 0, 0], expected)
    torch.testing.assert_close(found.maps()[0, 1, 0], -expected)
    assert found.difference.tolist() == [[-7.0, 7.0]]
    torch.testing.assert_close(found.relative_gap(), torch.full((1, 2), 1 - share).double())


def test_the_gap_is_undefined_where_there_is_nothing_to_explain():
    image = torch.ones(1, 1, 2, 2)

    found = integrated_gradients(Cubes(), image, [0], baseline=image, steps=2)

    assert found.total.tolist() == [[0.0]]
    assert bool(found.relative_gap().isnan().all())


def test_completeness_comes_with_steps():
    network = Corner().double().eval()
    images = random_images(side=16).double()
    baseline = mean_baseline(images)

    few, many = (
        integrated_gradients(network, images, [0, 1], baseline=baseline, steps=steps)
        for steps in (1, 400)
    )

    expected = (network(images) - network(baseline)).detach()
    torch.testing.assert_close(many.difference, expected)
    torch.testing.assert_close(many.total, many.values.sum(dim=(2, 3, 4)))
    torch.testing.assert_close(many.total, expected, rtol=5e-3, atol=1e-6)
    assert few.relative_gap().max() > 5 * many.relative_gap().max()


def test_a_deep_network_is_nearly_complete_with_the_usual_steps():
    network, images = small_network(), random_images(side=32)

    found = integrated_gradients(network, images, [2], baseline=mean_baseline(images), steps=16)

    expected = (network(images) - network(mean_baseline(images))).detach()[:, [2]]
    torch.testing.assert_close(found.difference, expected, rtol=1e-4, atol=1e-5)
    assert found.relative_gap().max() < 0.15


@pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
def test_neither_batches_nor_neighbours_change_integrated_gradients(batch_size):
    network = Corner().double().eval()
    images = random_images(3, side=16).double()
    chosen = torch.tensor([[0], [1], [0]])
    baseline = blurred_baseline(images)

    found = integrated_gradients(
        network, images, chosen, baseline=baseline, steps=9, batch_size=batch_size
    )

    assert found.classes.tolist() == chosen.tolist()
    for row in range(3):
        one = slice(row, row + 1)
        alone = integrated_gradients(
            network, images[one], chosen[one], baseline=baseline[one], steps=9
        )
        torch.testing.assert_close(found.values[one], alone.values)
        torch.testing.assert_close(found.difference[one], alone.difference)


def test_no_more_than_a_batch_goes_through_the_network_at_once():
    network = Corner().eval()
    seen = []
    network.register_forward_pre_hook(lambda _module, given: seen.append(len(given[0])))
    images = random_images(5, side=16)

    integrated_gradients(network, images, [0], baseline=images * 0, steps=10, batch_size=4)

    # 4 images: both ends, then a step at a time; 1 image: both ends, then 4, 4 and 2 steps
    assert seen == [4] * 12 + [1, 1, 4, 4, 2]


@pytest.mark.parametrize("cam", CAMS)
def test_each_image_of_a_batch_has_its_own_classes_and_map(cam):
    network = small_network()
    images = random_images(3)
    chosen = torch.tensor([[0, 1], [2, 2], [1, 0]])

    together = cam(network, images, chosen, layer="layer4", keep_negative=True)

    assert together.classes.tolist() == chosen.tolist()
    for row in range(3):
        alone = cam(
            network,
            images[row : row + 1],
            chosen[row].tolist(),
            layer="layer4",
            keep_negative=True,
        )
        torch.testing.assert_close(together.maps[row], alone.maps[0], rtol=1e-4, atol=1e-5)


def explain(network, images):
    grad_cam(network, images, [0, 1], layer="layer4")
    hires_cam(network, images, [0, 1], layer="layer4")
    integrated_gradients(network, images, [0], baseline=images * 0, steps=2)


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_left_as_it_was(training):
    network = small_network().train(training)
    network.layer2.eval()
    network.fc.requires_grad_(False)
    network.fc.bias.grad = torch.ones(3)
    modes = [module.training for module in network.modules()]
    before = copy.deepcopy(network.state_dict())
    images = random_images()

    explain(network, images)

    assert [module.training for module in network.modules()] == modes
    assert hooks_of(network) == 0
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    wanting = {name for name, value in network.named_parameters() if not value.requires_grad}
    assert wanting == {"fc.weight", "fc.bias"}
    assert network.fc.bias.grad.tolist() == [1.0, 1.0, 1.0]
    assert all(p.grad is None for name, p in network.named_parameters() if name != "fc.bias")
    assert not images.requires_grad
    assert torch.is_grad_enabled()


def test_nothing_is_left_behind_by_a_failure_either():
    network = small_network().train()

    for bad in ([3], [-1], []):
        with pytest.raises(ValueError, match="class"):
            grad_cam(network, random_images(), bad, layer="layer4")
        with pytest.raises(ValueError, match="class"):
            integrated_gradients(network, random_images(), bad, baseline=torch.zeros(1, 1, 1, 1))

    assert hooks_of(network) == 0
    assert all(module.training for module in network.modules())
    assert torch.is_grad_enabled()


def test_dropout_and_batch_statistics_have_no_say():
    network = build_backbone("alexnet", classes=2)
    images = random_images()

    trained, judged = (
        grad_cam(network.train(mode), images, [1], layer="features.11") for mode in (True, False)
    )

    torch.testing.assert_close(trained.maps, judged.maps)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_maps_come_also_where_gradients_are_off(mode):
    network = small_network()
    expected = grad_cam(network, random_images(), [1], layer="layer4").maps
    wanted = integrated_gradients(
        network, random_images(), [1], baseline=random_images() * 0, steps=2
    )

    with mode():
        images = random_images()
        found = grad_cam(network, images, [1], layer="layer4").maps
        added = integrated_gradients(network, images, [1], baseline=images * 0, steps=2)
        assert not torch.is_grad_enabled()

    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(added.values, wanted.values)
    assert not found.requires_grad
    assert not added.values.requires_grad


@pytest.mark.parametrize("cam", CAMS)
def test_channels_last_changes_nothing(cam):
    network, images = small_network(), random_images(3)
    last = torch.channels_last
    expected = cam(network, images, [0, 1], layer="layer4", keep_negative=True)
    baseline = blurred_baseline(images)
    wanted = integrated_gradients(network, images, [0], baseline=baseline, steps=3)

    network, images = network.to(memory_format=last), images.contiguous(memory_format=last)
    found = cam(network, images, [0, 1], layer="layer4", keep_negative=True)
    added = integrated_gradients(network, images, [0], baseline=baseline, steps=3)

    torch.testing.assert_close(found.maps, expected.maps, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(added.values, wanted.values, rtol=1e-3, atol=1e-5)
    assert found.maps.is_contiguous()
    assert added.values.is_contiguous()


@pytest.mark.parametrize("automatic", [True, False])
@pytest.mark.parametrize("cam", CAMS)
def test_bfloat16_maps_are_float32_and_near_the_exact_ones(cam, automatic):
    network, images = small_network(), random_images()
    expected = cam(network, images, [0, 1], layer="layer4", keep_negative=True).maps
    wanted = integrated_gradients(network, images, [0], baseline=images * 0, steps=8)

    if not automatic:
        network, images = network.bfloat16(), images.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=automatic):
        found = cam(network, images, [0, 1], layer="layer4", keep_negative=True).maps
        added = integrated_gradients(network, images, [0], baseline=images * 0, steps=8)

    assert found.dtype == torch.float32
    assert added.values.dtype == added.total.dtype == torch.float32
    assert torch.corrcoef(torch.stack([found.flatten(), expected.flatten()]))[0, 1] > 0.99
    assert (found - expected).abs().max() < 0.05 * expected.abs().max()
    pixels = torch.stack([added.values.flatten(), wanted.values.flatten()])
    assert torch.corrcoef(pixels)[0, 1] > 0.8  # single pixels are noisy, even in one step


def test_a_training_step_under_the_same_autocast_still_has_all_gradients():
    network, images = small_network().train(), random_images()

    with torch.autocast("cpu", dtype=torch.bfloat16):
        explain(network, images)
        loss = network(images).float().square().mean()
    loss.backward()

    assert all(p.grad is not None for p in network.parameters())


def test_drawing_the_last_layer_anew_changes_the_maps():
    network, images = small_network(), random_images()
    other = copy.deepcopy(network)
    torch.manual_seed(7)
    other.fc.reset_parameters()

    def maps(of):
        cams = grad_cam(of, images, [0], layer="layer4", keep_negative=True).cells
        pixels = integrated_gradients(of, images, [0], baseline=images * 0, steps=4).maps()
        return [cams.flatten(), pixels.flatten()]

    for before, after, again in zip(maps(network), maps(other), maps(network), strict=True):
        assert torch.equal(before, again)
        assert torch.corrcoef(torch.stack([before, after]))[0, 1] < 0.9


def test_log_odds_ignore_what_raises_all_logits_alike():
    plain = averaging_network([[2.0, -1.0], [0.0, 4.0], [1.0, 1.0]])
    raised = averaging_network([[2.0 + 9, -1.0], [0.0 + 9, 4.0], [1.0 + 9, 1.0]])
    images = torch.rand(2, 2, 4, 4, generator=torch.Generator().manual_seed(2))
    options = {"layer": "0", "keep_negative": True}

    first, second = (
        grad_cam(network, images, [0, 2], log_odds=True, **options).maps
        for network in (plain, raised)
    )
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(
        grad_cam(plain, images, [0, 2], **options).maps,
        grad_cam(raised, images, [0, 2], **options).maps,
    )

    # what is explained is the logit of the softmax's probability
    baseline = torch.zeros_like(images)
    found = integrated_gradients(plain, images, [0, 2], baseline=baseline, log_odds=True)
    after, before = (plain(x).detach().softmax(dim=1).logit() for x in (images, baseline))
    torch.testing.assert_close(found.difference, (after - before)[:, [0, 2]])
    assert found.relative_gap().max() < 0.01
    with pytest.raises(ValueError, match="at least 2 classes, the network has 1"):
        grad_cam(averaging_network([[1.0, 1.0]]), images, [0], log_odds=True, layer="0")


def test_baselines():
    images = random_images(2, side=24) + torch.tensor([0.0, 3.0]).view(2, 1, 1, 1)

    zero, mean, blurred = (BASELINES[name](images) for name in ("zero", "mean", "blurred"))

    assert zero.abs().max() == 0.0
    np.testing.assert_allclose(mean[1, 0], float(images[1].mean()), rtol=1e-6)
    for row in range(2):
        wanted = gaussian_filter(
            images[row, 0].double().numpy(), 2.4, mode="nearest", radius=8
        )  # 0.1 * 24 pixels, cut at 3 sigma
        np.testing.assert_allclose(blurred[row, 0], wanted, rtol=1e-5)
    half = images.bfloat16()
    assert all(make(half).dtype == torch.bfloat16 for make in BASELINES.values())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(blurred_baseline(images), blurred)
    with pytest.raises(ValueError, match=r"above 0, got 0\.0"):
        blurred_baseline(images, sigma_px=0.0)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.same = nn.Conv2d(1, 1, 1)
        self.never = nn.Conv2d(1, 1, 1)

    def forward(self, x):
        return self.same(self.same(x)).mean(dim=(2, 3))


@pytest.mark.parametrize(
    ("network", "layer", "told"),
    [
        (Twice(), "same", "'same' was used 2 times, expected once"),
        (Twice(), "never", "'never' was used 0 times, expected once"),
        (Twice(), "layer4", "'layer4': the network has none of this name"),
        (averaging_network([[1.0]]), "2", r"'2' gives \(2, 1\), expected a map"),
    ],
)
def test_a_layer_without_one_map_is_refused(network, layer, told):
    with pytest.raises(ValueError, match=told):
        grad_cam(network, random_images(), [0], layer=layer)

    assert hooks_of(network) == 0


def test_arguments_that_do_not_fit_are_refused():
    network, images = averaging_network([[1.0], [2.0]]), random_images()
    zero = torch.zeros_like(images)

    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        integrated_gradients(network, images, [0], baseline=zero, steps=0)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        integrated_gradients(network, images, [0], baseline=zero, batch_size=0)
    with pytest.raises(ValueError, match=r"baseline has shape \(1, 1, 9, 9\), images \(2, 1, 64"):
        integrated_gradients(network, images, [0], baseline=torch.zeros(1, 1, 9, 9))
    with pytest.raises(ValueError, match="classes: expected 0 to 1, found 0 to 2"):
        grad_cam(network, images, [0, 2], layer="0")
    with pytest.raises(ValueError, match=r"classes has shape \(3, 1\), expected \(2, m\)"):
        grad_cam(network, images, torch.zeros(3, 1), layer="0")
    with pytest.raises(ValueError, match=r"gave \(2, 1, 64, 64\), expected logits"):
        grad_cam(nn.Sequential(nn.Identity()), images, [0], layer="0")
