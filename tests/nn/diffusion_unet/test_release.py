import pytest
import torch
from tests.nn.diffusion_unet.conftest import SMALL_UNET
from torch.nn import functional as F

from medglean.errors import CheckpointError
from medglean.nn.diffusion_unet import DiffusionUNet, NoiseClassifier, load_release


@pytest.mark.parametrize(
    ("name", "channels", "parameters"),
    [("unet_brats_256", 4, 113_681_160), ("unet_chexpert_256", 1, 113_670_786)],
)
def test_full_unet_has_the_names_and_shapes_of_the_release(shapes, name, channels, parameters):
    with torch.device("meta"):
        network = DiffusionUNet(
            side_px=256,
            in_channels=channels,
            out_channels=2 * channels,
            width=128,
            multipliers=(1, 1, 2, 2, 4, 4),
            blocks=2,
            attention_px=(16,),
        )

    found = {key: list(value.shape) for key, value in network.state_dict().items()}
    assert found == shapes[name]["state_dict"]
    assert sum(weight.numel() for weight in network.parameters()) == parameters


@pytest.mark.parametrize(
    ("name", "channels", "parameters"),
    [("classifier_brats_256", 4, 5_452_962), ("classifier_chexpert_256", 1, 5_452_098)],
)
def test_full_classifier_has_the_names_and_shapes_of_the_release(
    shapes, name, channels, parameters
):
    with torch.device("meta"):
        network = NoiseClassifier(
            side_px=256,
            in_channels=channels,
            width=32,
            multipliers=(1, 1, 2, 2, 4, 4),
            blocks=4,
            attention_px=(32, 16, 8),
            head_width=64,
        )

    found = {key: list(value.shape) for key, value in network.state_dict().items()}
    assert found == shapes[name]["state_dict"]
    assert sum(weight.numel() for weight in network.parameters()) == parameters


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_unet_gives_what_the_release_gives(unet, arrays, layout):
    unet.to(memory_format=layout)
    with torch.no_grad():
        out = unet(arrays["x"].to(memory_format=layout), arrays["t"], arrays["y"])

    torch.testing.assert_close(out, arrays["unet_out"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_classifier_and_its_gradient_are_those_of_the_release(classifier, arrays, layout):
    classifier.to(memory_format=layout)
    x = arrays["x"].clone(memory_format=layout).requires_grad_()

    logits = classifier(x, arrays["t"])
    (gradient,) = torch.autograd.grad(F.log_softmax(logits, dim=1)[:, 0].sum(), x)

    torch.testing.assert_close(logits, arrays["classifier_logits"], atol=1e-5, rtol=0)
    torch.testing.assert_close(gradient, arrays["classifier_grad_x_logp0"], atol=1e-5, rtol=0)


def small():
    return DiffusionUNet(**{**SMALL_UNET, "multipliers": (1,), "attention_px": ()}, seed=1)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_saved_by_torch_load(tmp_path, prefix):
    saved, network = small(), DiffusionUNet(**{**SMALL_UNET, "multipliers": (1,)}, seed=2)
    torch.save({f"{prefix}{k}": v for k, v in saved.state_dict().items()}, tmp_path / "a.pt")

    load_release(network, tmp_path / "a.pt")

    for name, value in saved.state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name


def test_every_kind_of_wrong_weight_is_listed_and_nothing_is_changed(tmp_path):
    network = small()
    state = {key: value + 1 for key, value in network.state_dict().items()}
    del state["out.0.bias"]
    state["more.weight"] = torch.zeros(1)
    state["label_emb.weight"] = torch.zeros(3, 128)
    torch.save(state, tmp_path / "a.pt")
    before = network.out[0].weight.clone()

    with pytest.raises(CheckpointError) as caught:
        load_release(network, tmp_path / "a.pt")

    message = str(caught.value)
    assert "missing out.0.bias; unknown more.weight" in message
    assert "label_emb.weight is (3, 128), expected (2, 128)" in message
    assert torch.equal(network.out[0].weight, before)


def test_after_twelve_the_rest_is_counted(tmp_path):
    torch.save({f"other.{i}": torch.zeros(1) for i in range(5)}, tmp_path / "a.pt")
    network = small()

    with pytest.raises(CheckpointError, match=r"; and (\d+) more\.") as caught:
        load_release(network, tmp_path / "a.pt")

    wrong = len(network.state_dict()) + 5
    assert f"; and {wrong - 12} more" in str(caught.value)
    assert str(caught.value).count("missing") == 12


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(CheckpointError, match="no such weights file"):
        load_release(small(), tmp_path / "none.pt")
