"""Networks behind measures of likeness: LPIPS, and the Inception of FID and inception score.

LPIPS [1]_ compares two images by AlexNet's features; FID and the inception score compare sets of
images by Inception's (`medglean.measure.features`). Both networks know photographs, not stained
tissue: numbers compare methods on the same images and say nothing by themselves.

The weights come from a folder and are never downloaded. `available` says what is there:

===============  ==========================================================================
LPIPS            ``alexnet-owt-7be5be79`` (torchvision's AlexNet) and ``alex``, the small file
                 of linear weights, version 0.1, from the package lpips; where that package is
                 installed its own copy will do
FID, inception   ``weights-inception-2015-12-05-6726825d``, as torch-fidelity names it, or
score            ``pt_inception-2015-12-05-6726825d``; and the package torch-fidelity
===============  ==========================================================================

each as ``.pth``, read without running any code in it, or as ``.safetensors``.

References
----------
.. [1] Zhang, Isola, Efros, Shechtman, Wang. The Unreasonable Effectiveness of Deep Features as a
   Perceptual Metric. CVPR 2018. Equation 1.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torchvision
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from medglean.errors import CheckpointError, UsageError
from medglean.nn.weights import read_weights

LPIPS = "LPIPS"
FID = "FID"
INCEPTION_SCORE = "inception score"

ALEXNET_FILE = "alexnet-owt-7be5be79"
LINEAR_FILE = "alex"
INCEPTION_FILES = ("weights-inception-2015-12-05-6726825d", "pt_inception-2015-12-05-6726825d")
SUFFIXES = (".pth", ".safetensors")

_TAPS = (1, 4, 7, 9, 11)  # AlexNet's layers whose output is compared, each after a ReLU
_CHANNELS = (64, 192, 384, 256, 256)
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)


class InceptionFeatures(NamedTuple):
    """What Inception says of images.

    Attributes
    ----------
    pooled
        The last features, of which FID is, shape (b, 2048).
    logits
        Of 1008 classes and without bias, of which the inception score is.
    """

    pooled: Float[Tensor, "b 2048"]
    logits: Float[Tensor, "b 1008"]


class Lpips(nn.Module):
    """How different two images look to AlexNet: 0 for equal images.

    Parameters
    ----------
    features
        AlexNet's convolutions as torchvision orders them.
    weights
        How much each channel of each of the five compared layers counts.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, features: nn.Sequential, weights: Sequence[Float[Tensor, " c"]]) -> None:
        super().__init__()
        self.features = features
        for place, weight in enumerate(weights):
            self.register_buffer(f"weight{place}", weight[:, None, None].clone())
        self.register_buffer("shift", torch.tensor(_SHIFT)[:, None, None])
        self.register_buffer("scale", torch.tensor(_SCALE)[:, None, None])
        self.requires_grad_(False)
        self.eval()

    def forward(
        self, first: Float[Tensor, "b 3 h w"], second: Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, " b"]:
        """Compare images, red green blue in [-1, 1], of at least 32 pixels, one by one."""
        left, right = ((image - self.shift) / self.scale for image in (first, second))
        total = torch.zeros(len(first), dtype=left.dtype, device=left.device)
        for layer, module in enumerate(self.features):
            left, right = module(left), module(right)
            if layer in _TAPS:
                weight = self.get_buffer(f"weight{_TAPS.index(layer)}")
                gap = (_unit(left) - _unit(right)).square()
                total = total + (weight * gap).sum(dim=1).mean(dim=(1, 2))
            if layer == _TAPS[-1]:
                break
        return total


class Inception(nn.Module):
    """The Inception network of 2015 that FID is defined by, from torch-fidelity."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: UInt8[Tensor, "b 3 h w"]) -> InceptionFeatures:
        """Return features of images of any size, resized to 299 x 299 as TensorFlow did."""
        with torch.no_grad():
            return InceptionFeatures(*self.network(images))


def available(folder: Path | None) -> dict[str, str | None]:
    """Say which measures can be taken with the weights of a folder.

    Returns
    -------
    dict
        For `LPIPS`, `FID` and `INCEPTION_SCORE`: ``None`` where it can, otherwise why not.
    """
    if folder is None:
        why = "no folder with their weights was given"
        return {LPIPS: why, FID: why, INCEPTION_SCORE: why}
    lpips = _lacking(folder, (ALEXNET_FILE,))
    if _linear_file(folder) is None:
        lpips = lpips or _lacking(folder, (LINEAR_FILE,))
    inception = _lacking(folder, INCEPTION_FILES)
    if importlib.util.find_spec("torch_fidelity") is None:
        inception = "the package torch-fidelity is not installed; install it with pip"
    return {LPIPS: lpips, FID: inception, INCEPTION_SCORE: inception}


def load_lpips(folder: Path) -> Lpips:
    """Build LPIPS with AlexNet, version 0.1, from the files in a folder.

    Raises
    ------
    UsageError
        If a file is not there; its name is told.
    CheckpointError
        If a file is damaged or of another network.
    """
    _check(folder, LPIPS)
    file = _found(folder, (ALEXNET_FILE,))
    linear = _linear_file(folder)
    assert file is not None
    assert linear is not None
    with torch.device("meta"):  # no numbers are drawn for weights that are replaced
        features = torchvision.models.alexnet(weights=None).features
    convolutions = {
        name.removeprefix("features."): tensor.float()
        for name, tensor in read_weights(file).items()
        if name.startswith("features.")
    }
    try:
        features.load_state_dict(convolutions, assign=True)
    except RuntimeError as error:
        raise _of_another(file, error) from error
    small = read_weights(linear)
    weights = []
    for place, channels in enumerate(_CHANNELS):
        weight = small.get(f"lin{place}.model.1.weight")
        if weight is None or weight.shape != (1, channels, 1, 1):
            raise CheckpointError(
                f"{linear}: expected lin{place}.model.1.weight of shape (1, {channels}, 1, 1), "
                "LPIPS' linear weights for AlexNet. Take alex.pth, version 0.1, from the package "
                "lpips."
            )
        weights.append(weight.flatten().float())
    return Lpips(features, weights)


def load_inception(folder: Path) -> Inception:
    """Build the Inception network of FID from the file in a folder.

    Raises
    ------
    UsageError
        If the file or the package torch-fidelity is not there.
    CheckpointError
        If the file is damaged or of another network.
    """
    _check(folder, FID)
    file = _found(folder, INCEPTION_FILES)
    assert file is not None
    # the package unpickles whatever lies in a file: it is handed tensors that were read without
    safe = io.BytesIO()
    torch.save(read_weights(file), safe)
    safe.seek(0)
    package = importlib.import_module("torch_fidelity")
    try:
        with torch.random.fork_rng(devices=[]):  # it draws weights before it loads them
            network = package.FeatureExtractorInceptionV3(
                "inception-v3", ["2048", "logits_unbiased"], feature_extractor_weights_path=safe
            )
    except RuntimeError as error:
        raise _of_another(file, error) from error
    return Inception(network)


def _unit(features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Scale each pixel's features to length 1."""
    return features / (features.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)


def _found(folder: Path, stems: Sequence[str]) -> Path | None:
    files = (folder / f"{stem}{suffix}" for stem in stems for suffix in SUFFIXES)
    return next((file for file in files if file.is_file()), None)


def _linear_file(folder: Path) -> Path | None:
    """Return LPIPS' linear weights: those of the folder, or of the installed package."""
    found = _found(folder, (LINEAR_FILE,))
    if found is None:
        package = importlib.util.find_spec("lpips")  # nothing of it is run
        for place in (package and package.submodule_search_locations) or ():
            found = found or _found(Path(place) / "weights" / "v0.1", (LINEAR_FILE,))
    return found


def _lacking(folder: Path, stems: Sequence[str]) -> str | None:
    if _found(folder, stems) is not None:
        return None
    return f"{folder} has no {' or '.join(f'{stem}.pth' for stem in stems)} (or .safetensors)"


def _check(folder: Path, measure: str) -> None:
    why = available(folder)[measure]
    if why is not None:
        raise UsageError(
            f"{measure} cannot be measured: {why}. Nothing is downloaded: put the file there, or "
            "leave the measure out."
        )


def _of_another(file: Path, error: RuntimeError) -> CheckpointError:
    first = str(error).strip().splitlines()[:2]
    return CheckpointError(
        f"{file}: the weights are of another network: {' '.join(line.strip() for line in first)} "
        "Get the file again from where its package does."
    )
