import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from medglean.errors import CheckpointError, UsageError
from medglean.nn.backbones import ARCHITECTURES, build_backbone, parameter_count
from medglean.nn.weights import adapt_first_layer, load_into, read_weights


# torchvision's published counts for 1000 classes and 3 channels
@pytest.mark.parametrize(
    ("architecture", "count"),
    [("alexnet", 61_100_840), ("resnet18", 11_689_512), ("resnet50", 25_557_032)],
)
def test_parameter_counts_are_torchvisions(architecture, count):
    assert parameter_count(build_backbone(architecture, classes=1000, in_channels=3)) == count


@pytest.mark.parametrize("architecture", ["alexnet", "vgg11", "resnet18", "resnet50"])
def test_one_channel_and_a_new_head(architecture):
    network = build_backbone(architecture, classes=3, in_channels=1).eval()

    with torch.no_grad():
        logits = network(torch.rand(2, 1, 64, 64))

    assert logits.shape == (2, 3)
    assert bool(torch.isfinite(logits).all())
    head = network.get_submodule(ARCHITECTURES[architecture].head)
    assert isinstance(head, nn.Linear)
    assert head.out_features == 3


def test_smallest_size_of_alexnet_is_right():
    network = build_backbone("alexnet", classes=2).eval()
    smallest = ARCHITECTURES["alexnet"].smallest_px

    assert network(torch.zeros(1, 1, smallest, smallest)).shape == (1, 2)
    with pytest.raises(RuntimeError, match="too small"):
        network(torch.zeros(1, 1, smallest - 1, smallest - 1))


def test_initialisation_is_a_function_of_the_seed_and_leaves_the_global_state():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = build_backbone("resnet18", classes=2, seed=1)
    second = build_backbone("resnet18", classes=2, seed=1)
    other = build_backbone("resnet18", classes=2, seed=2)

    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first.fc.weight, second.fc.weight)
    assert not torch.equal(first.fc.weight, other.fc.weight)


def test_grey_image_answers_as_its_colour_copy_did(tmp_path):
    torch.manual_seed(0)
    colour = torchvision.models.resnet18(weights=None).eval()
    save_file(colour.state_dict(), tmp_path / "weights.safetensors")
    grey = build_backbone(
        "resnet18", classes=1000, in_channels=1, weights=str(tmp_path / "weights.safetensors")
    ).eval()
    image = torch.rand(1, 1, 64, 64)

    with torch.no_grad():
        torch.testing.assert_close(
            grey(image), colour(image.repeat(1, 3, 1, 1)), atol=1e-4, rtol=1e-4
        )


def test_weights_with_another_head_keep_the_rest(tmp_path):
    torch.manual_seed(0)
    given = torchvision.models.resnet18(weights=None)
    torch.save(given.state_dict(), tmp_path / "weights.pth")

    network = build_backbone(
        "resnet18", classes=2, in_channels=3, weights=str(tmp_path / "weights.pth")
    )

    assert torch.equal(network.layer4[1].conv2.weight, given.layer4[1].conv2.weight)
    assert network.fc.weight.shape == (2, 512)


def test_weights_of_another_network_list_the_keys_that_differ(tmp_path):
    save_file(
        torchvision.models.resnet18(weights=None).state_dict(), tmp_path / "resnet18.safetensors"
    )

    with pytest.raises(CheckpointError, match=r"resnet18\.safetensors.*another network.*layer1\.2"):
        build_backbone("resnet34", classes=2, weights=str(tmp_path / "resnet18.safetensors"))


def test_a_pickle_with_code_is_refused(tmp_path):
    path = tmp_path / "evil.pth"
    torch.save(nn.Linear(2, 2), path)  # a whole module: needs code to be read

    with pytest.raises(CheckpointError, match=r"evil\.pth.*tensors only"):
        read_weights(path)


@pytest.mark.parametrize("name", ["cut.safetensors", "cut.pth"])
def test_damaged_weights_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{not json")

    with pytest.raises(CheckpointError, match=name):
        read_weights(tmp_path / name)


def test_missing_weights_and_unknown_architecture(tmp_path):
    with pytest.raises(CheckpointError, match=r"no such weights file"):
        read_weights(tmp_path / "none.safetensors")
    with pytest.raises(UsageError, match=r"'resnet19', expected one of alexnet, vgg11"):
        build_backbone("resnet19", classes=2)


def test_first_layer_keeps_the_response_to_equal_channels():
    weight = torch.rand(4, 3, 3, 3)

    for channels in (1, 2, 4):
        adapted = adapt_first_layer(weight, in_channels=channels)
        torch.testing.assert_close(adapted.sum(dim=1), weight.sum(dim=1))


def test_load_into_names_a_wrong_shape():
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    state = {key: value.clone() for key, value in network.state_dict().items()}
    state["0.weight"] = torch.zeros(5, 2)

    with pytest.raises(CheckpointError, match=r"0\.weight is \(5, 2\), expected \(3, 2\)"):
        load_into(network, state, source="x", head="1", first="none")
