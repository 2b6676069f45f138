"""Networks from files: small real ones, exported here."""

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from medglean.curate.embed.encoder import encode
from medglean.curate.embed.given import given_encoder, weights_file
from medglean.curate.embed.settings import EmbeddingSettings
from medglean.data.recipe import Recipe
from medglean.errors import CheckpointError, EmbeddingError, UsageError
from medglean.files import sha256_of_file
from medglean.nn.backbones import build_backbone

STORED = np.random.default_rng(0).integers(0, 256, (5, 1, 8, 8), dtype=np.uint8)
EXAMPLE = torch.zeros(2, 1, 8, 8)


class Features(nn.Module):
    """A convolution and the mean of each of its channels, in one of several shapes."""

    def __init__(self, shape: str = "flat") -> None:
        super().__init__()
        torch.manual_seed(3)
        self.convolution = nn.Conv2d(1, 3, 3)
        self.shape = shape

    def forward(self, images):
        maps = torch.tanh(self.convolution(images))
        if self.shape == "maps":
            return maps
        pooled = maps.mean(dim=(2, 3), keepdim=self.shape == "pooled")
        if self.shape == "scalar":
            return pooled.mean(dim=1)
        if self.shape == "counts":
            return (pooled * 100).long()
        return (pooled, pooled) if self.shape == "pair" else pooled


def script(path: Path, network: nn.Module) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(network, EXAMPLE).save(str(path))
    return path


def onnx(path: Path, network: nn.Module, *, batch: str | int = "n") -> Path:
    """Export by hand: the exporter of torch needs packages that are not wanted here."""
    import onnx as onnx_package
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(network.convolution.weight.detach().numpy(), "w")
    bias = numpy_helper.from_array(network.convolution.bias.detach().numpy(), "b")
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["m"], kernel_shape=[3, 3]),
        helper.make_node("Tanh", ["m"], ["t"]),
    ]
    outputs = ["t"]
    if network.shape != "maps":
        nodes.append(helper.make_node("GlobalAveragePool", ["t"], ["g"]))
        outputs = ["g"]
    if network.shape == "pair":
        outputs = ["g", "t"]
    shapes = {"g": [batch, 3, 1, 1], "t": [batch, 3, 6, 6]}
    graph = helper.make_graph(
        nodes,
        "features",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 1, 8, 8])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, shapes[n]) for n in outputs],
        [weight, bias],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx_package.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def export(path: Path, network: nn.Module) -> Path:
    return onnx(path, network) if path.suffix == ".onnx" else script(path, network)


def settings(path: Path, **changes: object) -> EmbeddingSettings:
    base = {"encoder": "file", "file": {"path": str(path)}, "images": Recipe(size_px=(8, 8))}
    return EmbeddingSettings.model_validate(base | changes)


def embedded(path: Path, *, batch_size: int = 2, **changes: object) -> np.ndarray:
    chosen = settings(path, **changes)
    encoder = given_encoder(chosen, weights_file(chosen))
    return encode(encoder, STORED, np.arange(5), batch_size=batch_size)


@pytest.mark.parametrize("name", ["net.pt", "net.ts", "net.onnx"])
def test_a_file_gives_what_its_network_gives(tmp_path, name):
    network = Features("pooled" if name == "net.onnx" else "flat")
    path = export(tmp_path / name, network)

    found = embedded(path)

    with torch.no_grad():
        expected = network(torch.from_numpy(STORED / np.float32(255))).flatten(1).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    record = given_encoder(settings(path), path).record
    assert record["sha256"] == sha256_of_file(path)
    assert record["file"] == name


def test_maps_of_one_pixel_are_rows(tmp_path):
    flat = embedded(script(tmp_path / "flat.pt", Features("flat")))
    pooled = embedded(script(tmp_path / "pooled.pt", Features("pooled")))

    np.testing.assert_array_equal(flat, pooled)


@pytest.mark.parametrize("name", ["net.pt", "net.onnx"])
def test_inputs_are_normalised_by_the_given_mean_and_deviation(tmp_path, name):
    network = Features("pooled")
    path = export(tmp_path / name, network)

    found = embedded(path, inputs={"mean": [0.5], "sd": [0.25]})

    with torch.no_grad():
        images = (torch.from_numpy(STORED / np.float32(255)) - 0.5) / 0.25
        expected = network(images).flatten(1).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["net.pt", "net.onnx"])
def test_a_network_without_pooling_is_refused(tmp_path, name):
    path = export(tmp_path / name, Features("maps"))

    with pytest.raises(
        EmbeddingError, match=rf"{name}: gave an array of shape \(2, 3, 6, 6\) for 2 images, exp"
    ):
        embedded(path)


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ("scalar", r"shape \(2,\) for 2 images, expected \(2, d\)"),
        ("counts", "values of type int64, expected floating point"),
        ("pair", "gave a tuple, expected one tensor"),
    ],
)
def test_outputs_that_are_no_embeddings_are_refused(tmp_path, shape, told):
    with pytest.raises(EmbeddingError, match=told):
        embedded(script(tmp_path / "net.pt", Features(shape)))


@pytest.mark.parametrize("name", ["net.pt", "net.onnx"])
def test_images_of_another_kind_than_the_network_takes_are_told(tmp_path, name):
    path = export(tmp_path / name, Features("pooled"))
    chosen = settings(path, images=Recipe(size_px=(8, 8), channels="rgb"))

    with pytest.raises(
        EmbeddingError, match=rf"{name}: the network does not take .* \(5, 3, 8, 8\) .*\(n, c, h, w"
    ):
        encode(given_encoder(chosen, path), np.repeat(STORED, 3, 1), np.arange(5), batch_size=9)


def test_a_fixed_number_of_images_is_told(tmp_path):
    path = onnx(tmp_path / "net.onnx", Features("pooled"), batch=1)

    with pytest.raises(EmbeddingError, match=r"net\.onnx: the network does not take .*batch_size"):
        embedded(path)
    assert embedded(path, batch_size=1).shape == (5, 3)


def test_two_outputs_of_an_onnx_file_are_refused(tmp_path):
    path = onnx(tmp_path / "net.onnx", Features("pair"))

    with pytest.raises(EmbeddingError, match=r"outputs \['g', 't'\], expected one image input and"):
        embedded(path)


def test_a_pickle_is_never_loaded(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    for name, options in (("zip.pt", {}), ("old.pt", {"_use_new_zipfile_serialization": False})):
        torch.save(Bomb(), tmp_path / name, **options)
        with pytest.raises(EmbeddingError, match=rf"{name}: .*not a TorchScript archive.*any code"):
            embedded(tmp_path / name)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("name", ["net.pt", "net.onnx"])
def test_a_damaged_file_is_named(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"not what its name says")

    with pytest.raises(EmbeddingError, match=rf"{name}: not a (TorchScript archive|readable ONNX)"):
        embedded(path)


def test_a_damaged_torchscript_archive_is_named(tmp_path):
    whole = script(tmp_path / "whole.pt", Features())
    import zipfile

    path = tmp_path / "net.pt"
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, b"?" if name.endswith(".py") else old.read(name))

    with pytest.raises(EmbeddingError, match=r"net\.pt: not a readable TorchScript archive"):
        embedded(path)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(EmbeddingError, match=r"none\.pt: no such file of a network.*nothing is do"):
        weights_file(settings(tmp_path / "none.pt"))
    path = tmp_path / "net.h5"
    path.write_bytes(b"x")
    with pytest.raises(EmbeddingError, match=r"\(TorchScript\) and \.onnx, not from '\.h5'"):
        embedded(path)


def test_onnx_without_its_extra_says_what_to_install(tmp_path, monkeypatch):
    path = onnx(tmp_path / "net.onnx", Features("pooled"))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    with pytest.raises(UsageError, match=r"medglean\[onnx\]"):
        embedded(path)


def _backbone(path: Path, **changes: object) -> EmbeddingSettings:
    base = {
        "encoder": "backbone",
        "backbone": {"architecture": "resnet18", "weights": str(path)},
        "images": Recipe(size_px=(32, 32)),
    }
    return EmbeddingSettings.model_validate(base | changes)


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    from safetensors.torch import save_file

    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    network = build_backbone("resnet18", classes=4, in_channels=1, seed=5).eval()
    save_file(network.state_dict(), path)
    return path, network


def test_a_backbone_gives_what_its_head_is_given(resnet):
    path, network = resnet
    stored = np.random.default_rng(1).integers(0, 256, (3, 1, 32, 32), dtype=np.uint8)
    chosen = _backbone(path)

    encoder = given_encoder(chosen, weights_file(chosen))
    found = encode(encoder, stored, np.arange(3), batch_size=8)

    assert found.shape == (3, 512)
    mean, sd = (0.485 + 0.456 + 0.406) / 3, (0.229 + 0.224 + 0.225) / 3
    with torch.no_grad():
        expected = network((torch.from_numpy(stored / np.float32(255)) - mean) / sd)
        ours = torch.from_numpy(found) @ network.fc.weight.T + network.fc.bias
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)
    assert encoder.record["architecture"] == "resnet18"
    assert encoder.record["sha256"] == sha256_of_file(path)


def test_weights_of_another_backbone_are_refused(resnet):
    path, _ = resnet
    chosen = _backbone(path, backbone={"architecture": "resnet34", "weights": str(path)})

    with pytest.raises(CheckpointError, match="weights are of another network"):
        given_encoder(chosen, path)


def test_imagenet_is_taken_from_this_machine_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    chosen = _backbone(tmp_path, backbone={"architecture": "resnet18", "weights": "imagenet"})

    with pytest.raises(EmbeddingError, match=r"resnet18-.*\.pth: no such file .*nothing is downl"):
        weights_file(chosen)


def test_an_unknown_architecture_and_images_that_are_too_small(resnet):
    path, _ = resnet
    unknown = _backbone(path, backbone={"architecture": "resnet5", "weights": "imagenet"})
    with pytest.raises(UsageError, match="architecture is 'resnet5', expected one of alexnet"):
        weights_file(unknown)
    with pytest.raises(UsageError, match="at least 32 px a side, got 16"):
        given_encoder(_backbone(path, images=Recipe(size_px=(16, 16))), path)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"encoder": "backbone"}, "random weights says nothing"),
        ({"encoder": "backbone", "backbone": {"weights": "none"}}, "random weights says nothing"),
        ({"encoder": "file"}, r"'file' needs file\.path"),
        ({"encoder": "arrays"}, r"'arrays' needs arrays\.path"),
        ({"images": {"size_px": (64, 32)}}, "square images, got"),
        ({"inputs": {"mean": (0.5,)}}, "one mean and one sd per channel, got 1 and 0"),
        ({"inputs": {"mean": (0.5,), "sd": (0.0,)}}, "must be above 0"),
        ({"inputs": {"mean": (0.5, 0.5), "sd": (1.0, 1.0)}}, "have 1 channel"),
        ({"mask": {"text": True}, "images": {"equalise": "clahe"}}, "cannot be used together"),
        ({"mask": {"text": True}, "images": {"channels": ("a", "b")}}, "one grey or three colour"),
        ({"latent": 5}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_contradict_one_another_are_refused(changes, told):
    from pydantic import ValidationError

    with pytest.raises(ValidationError, match=told):
        EmbeddingSettings.model_validate(changes)
