import importlib.util
import warnings

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file

from medglean.errors import CheckpointError, UsageError
from medglean.nn import perceptual
from medglean.nn.perceptual import (
    FID,
    INCEPTION_SCORE,
    LPIPS,
    Lpips,
    available,
    load_inception,
    load_lpips,
)

CHANNELS = (64, 192, 384, 256, 256)


def linear_weights(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        f"lin{place}.model.1.weight": torch.rand(1, channels, 1, 1, generator=generator)
        for place, channels in enumerate(CHANNELS)
    }


@pytest.fixture(scope="module")
def alexnet():
    with torch.device("meta"):
        features = torchvision.models.alexnet(weights=None).features
    generator = torch.Generator().manual_seed(0)
    drawn = {
        name: 0.03 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in features.state_dict().items()
    }
    features.load_state_dict(drawn, assign=True)
    return features


@pytest.fixture
def folder(tmp_path, alexnet):
    """A folder with made-up weights: the right names and shapes, trained on nothing."""
    state = {f"features.{name}": tensor for name, tensor in alexnet.state_dict().items()}
    torch.save(
        {**state, "classifier.1.bias": torch.zeros(4096)}, tmp_path / "alexnet-owt-7be5be79.pth"
    )
    save_file(linear_weights(), tmp_path / "alex.safetensors")
    return tmp_path


@pytest.fixture
def without_packages(monkeypatch):
    find = importlib.util.find_spec
    absent = {"lpips", "torch_fidelity"}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in absent else find(name)
    )


def image_pair(size_px=(64, 80)):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, 2, 3, *size_px, generator=generator) * 2 - 1


def test_lpips_by_hand_from_stand_in_layers():
    # identity layers: the compared features are the scaled colours at five places
    features = torch.nn.Sequential(*[torch.nn.Identity() for _ in range(12)])
    weights = [torch.tensor([1.0, 2.0, 3.0])] + [torch.zeros(3)] * 4
    network = Lpips(features, weights)
    shift, scale = np.array([-0.030, -0.088, -0.188]), np.array([0.458, 0.448, 0.450])
    first, second = np.array([0.5, -0.2, 0.1]), np.array([-0.4, 0.3, 0.9])

    found = network(*(torch.tensor(c).float()[None, :, None, None] for c in (first, second)))

    left, right = ((colour - shift) / scale for colour in (first, second))
    gap = left / np.linalg.norm(left) - right / np.linalg.norm(right)
    assert found.tolist() == pytest.approx([(np.array([1, 2, 3]) * gap**2).sum()], rel=1e-5)


def test_lpips_is_0_for_equal_images_and_grows_with_noise(folder):
    network = load_lpips(folder)
    image, noise = image_pair()

    none, little, much = (network(image, image + share * noise) for share in (0.0, 0.1, 0.5))

    assert none.tolist() == [0, 0]
    assert (little > 0).all()
    assert (much > little).all()
    torch.testing.assert_close(network(image + 0.5 * noise, image), much)


def test_lpips_equals_that_of_its_authors(folder, alexnet):
    lpips = pytest.importorskip("lpips")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torchvision's, of an old argument's name
        theirs = lpips.LPIPS(pretrained=False, pnet_rand=True, net="alex", verbose=False)
    for slice_ in (getattr(theirs.net, f"slice{place}") for place in range(1, 6)):
        for name, layer in slice_.named_children():
            layer.load_state_dict(alexnet[int(name)].state_dict())
    theirs.load_state_dict(linear_weights(), strict=False)
    first, second = image_pair()

    with torch.no_grad():
        expected = theirs.eval()(first, second).flatten()

    torch.testing.assert_close(load_lpips(folder)(first, second), expected, rtol=1e-5, atol=1e-7)


def test_lpips_takes_its_linear_weights_from_the_installed_package(folder):
    pytest.importorskip("lpips")
    (folder / "alex.safetensors").unlink()

    assert available(folder)[LPIPS] is None
    assert load_lpips(folder)(*image_pair()).isfinite().all()


@pytest.mark.usefixtures("without_packages")
def test_what_is_not_there_is_told_by_name(tmp_path):
    reasons = available(tmp_path)

    assert list(reasons) == [LPIPS, FID, INCEPTION_SCORE]
    assert "has no alexnet-owt-7be5be79.pth" in reasons[LPIPS]
    assert "torch-fidelity is not installed" in reasons[FID]
    with pytest.raises(UsageError, match=r"alexnet-owt-7be5be79\.pth.*Nothing is downloaded"):
        load_lpips(tmp_path)
    with pytest.raises(UsageError, match="FID cannot be measured"):
        load_inception(tmp_path)
    (tmp_path / "alexnet-owt-7be5be79.pth").touch()
    assert "has no alex.pth" in available(tmp_path)[LPIPS]


def test_without_a_folder_nothing_can_be_measured():
    assert set(available(None).values()) == {"no folder with their weights was given"}


def test_weights_of_another_network_are_refused(folder):
    torch.save(torchvision.models.squeezenet1_1().state_dict(), folder / "alexnet-owt-7be5be79.pth")
    with pytest.raises(CheckpointError, match=r"alexnet-owt.*of another network: .*Missing key"):
        load_lpips(folder)


def test_linear_weights_of_another_network_are_refused(folder):
    other = {"lin2.model.1.weight": torch.ones(1, 256, 1, 1)}
    save_file(linear_weights() | other, folder / "alex.safetensors")

    with pytest.raises(CheckpointError, match=r"lin2\.model\.1\.weight of shape \(1, 384, 1, 1\)"):
        load_lpips(folder)


class _Trap:
    """Runs something when it is unpickled."""

    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return self.witness.touch, ()


@pytest.mark.parametrize(
    ("load", "name"),
    [
        (load_lpips, "alexnet-owt-7be5be79.pth"),
        (load_inception, "weights-inception-2015-12-05-6726825d.pth"),
    ],
)
def test_code_in_a_file_is_not_run(folder, load, name):
    if load is load_inception:
        pytest.importorskip("torch_fidelity")
    torch.save({"weight": _Trap(folder / "was-run")}, folder / name)

    with pytest.raises(CheckpointError, match="not a readable weights file"):
        load(folder)

    assert not (folder / "was-run").exists()


def test_inception_gives_features_and_logits_from_a_file(tmp_path, monkeypatch):
    fidelity = pytest.importorskip("torch_fidelity")
    kind = fidelity.FeatureExtractorInceptionV3
    empty = tmp_path / "empty.pth"
    torch.save({}, empty)
    with monkeypatch.context() as patched, torch.random.fork_rng():
        torch.manual_seed(0)
        patched.setattr(kind, "load_state_dict", lambda *_: None)
        network = kind("", ["2048"], feature_extractor_weights_path=str(empty))
    state = network.half().state_dict()
    save_file(state, tmp_path / "pt_inception-2015-12-05-6726825d.safetensors")

    network = load_inception(tmp_path)
    images = torch.randint(0, 256, (2, 3, 40, 50), generator=torch.Generator().manual_seed(0))
    found = network(images.to(torch.uint8))

    assert available(tmp_path)[FID] is available(tmp_path)[INCEPTION_SCORE] is None
    assert found.pooled.shape == (2, 2048)
    assert found.logits.shape == (2, 1008)
    weight = state["fc.weight"].float()
    torch.testing.assert_close(found.logits, found.pooled @ weight.T, rtol=1e-3, atol=1e-3)


def test_inception_of_another_network_is_refused(tmp_path):
    pytest.importorskip("torch_fidelity")
    save_file({"weight": torch.ones(2)}, tmp_path / f"{perceptual.INCEPTION_FILES[0]}.safetensors")

    with pytest.raises(CheckpointError, match=r"6726825d\.safetensors: the weights are of another"):
        load_inception(tmp_path)
