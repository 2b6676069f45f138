"""Encoders that were trained elsewhere: torchvision's networks, TorchScript and ONNX files.

Nothing is downloaded and nothing is unpickled by Python. A network file is a programme all the
same: load only files from people you trust.
"""

from __future__ import annotations

import contextlib
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from jaxtyping import Int
from torch import nn

from medglean.arrays import UnitBatch
from medglean.curate.embed.encoder import Apply, Encoder
from medglean.curate.embed.settings import EmbeddingSettings, InputSettings
from medglean.errors import EmbeddingError, UsageError
from medglean.files import sha256_of_file
from medglean.nn.backbones import ARCHITECTURES, build_backbone

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_SD = (0.229, 0.224, 0.225)
TORCHSCRIPT_SUFFIXES = (".pt", ".ts", ".torchscript")
ONNX_SUFFIX = ".onnx"


def weights_file(settings: EmbeddingSettings) -> Path | None:
    """Return the file that a given encoder is read from; None for encoders that are trained here.

    Raises
    ------
    EmbeddingError
        If there is none.
    UsageError
        If the architecture is unknown.
    """
    if settings.encoder == "file":
        path = Path(settings.file.path)
    elif settings.encoder == "backbone" and settings.backbone.weights == "imagenet":
        path = _torchvision_file(settings.backbone.architecture)
    elif settings.encoder == "backbone":
        path = Path(settings.backbone.weights)
    else:
        return None
    if not path.is_file():
        raise EmbeddingError(
            f"{path}: no such file of a network, and nothing is downloaded unasked. Put the file "
            f"there, or give another in embedding.{settings.encoder}."
        )
    return path


def _torchvision_file(architecture: str) -> Path:
    """Return where torchvision keeps its weights of an architecture once they were downloaded."""
    if architecture not in ARCHITECTURES:
        raise UsageError(
            f"embedding.backbone.architecture is {architecture!r}, expected one of "
            f"{', '.join(ARCHITECTURES)}."
        )
    url = str(torchvision.models.get_model_weights(architecture).DEFAULT.url)
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]


def given_encoder(settings: EmbeddingSettings, path: Path) -> Encoder:
    """Make an encoder of a weights or network file.

    Raises
    ------
    EmbeddingError
        If the file is not what its suffix says, or a pickle.
    UsageError
        If the architecture is unknown or an extra is not installed.
    CheckpointError
        If weights do not fit the architecture.
    """
    record: dict[str, Any] = {
        "name": settings.encoder,
        "file": path.name,
        "sha256": sha256_of_file(path),
    }
    if settings.encoder == "backbone":
        architecture = settings.backbone.architecture
        inputs = _inputs(settings, fallback=True)
        apply = _torch_apply(_headless(architecture, settings, path), inputs, path)
        record |= {"architecture": architecture}
    else:
        inputs = _inputs(settings, fallback=False)
        suffix = path.suffix.lower()
        if suffix == ONNX_SUFFIX:
            apply = _onnx_apply(path, inputs)
        elif suffix in TORCHSCRIPT_SUFFIXES:
            apply = _torch_apply(_torchscript(path), inputs, path)
        else:
            raise EmbeddingError(
                f"{path}: networks are read from {', '.join(TORCHSCRIPT_SUFFIXES)} (TorchScript) "
                f"and {ONNX_SUFFIX}, not from {path.suffix or 'a file without suffix'!r}. Export "
                "the network, or give its weights to encoder = 'backbone'."
            )
    record["inputs"] = {"mean": list(inputs.mean), "sd": list(inputs.sd)}
    return Encoder(apply, record)


def _inputs(settings: EmbeddingSettings, *, fallback: bool) -> InputSettings:
    """Return the normalisation: as set, or torchvision's, averaged over colours for grey images."""
    if settings.inputs.mean or not fallback:
        return settings.inputs
    if settings.images.channel_count == 3:
        return InputSettings(mean=IMAGENET_MEAN, sd=IMAGENET_SD)
    count = settings.images.channel_count
    mean, sd = sum(IMAGENET_MEAN) / 3, sum(IMAGENET_SD) / 3
    return InputSettings(mean=(mean,) * count, sd=(sd,) * count)


def _normalised(images: UnitBatch, inputs: InputSettings) -> UnitBatch:
    if not inputs.mean:
        return images
    mean = np.array(inputs.mean, dtype=np.float32)[:, None, None]
    sd = np.array(inputs.sd, dtype=np.float32)[:, None, None]
    scaled: np.ndarray = (images - mean) / sd
    return scaled


def _headless(architecture: str, settings: EmbeddingSettings, path: Path) -> nn.Module:
    """Return a torchvision network whose output is what its last layer was given."""
    found = ARCHITECTURES.get(architecture)
    side = min(settings.images.size_px)
    if found is not None and side < found.smallest_px:
        raise UsageError(
            f"{architecture} takes images of at least {found.smallest_px} px a side, got {side}. "
            "Set embedding.images.size_px."
        )
    network = build_backbone(
        architecture, classes=1, in_channels=settings.images.channel_count, weights=str(path)
    )
    parent, _, leaf = ARCHITECTURES[architecture].head.rpartition(".")
    setattr(network.get_submodule(parent), leaf, nn.Identity())
    return network.eval()


def _torchscript(path: Path) -> nn.Module:
    """Load a TorchScript archive; anything that Python would have to unpickle is refused."""
    if not zipfile.is_zipfile(path):
        raise EmbeddingError(
            f"{path}: not a TorchScript archive. {_HOW_TO_EXPORT} A file that would have to be "
            "unpickled is never loaded, for it may run any code."
        )
    with zipfile.ZipFile(path) as archive:
        inside = {name.partition("/")[2] for name in archive.namelist()}
    if "constants.pkl" not in inside or not any(name.startswith("code/") for name in inside):
        raise EmbeddingError(
            f"{path}: a pickle saved with torch.save, not a TorchScript archive; it is not loaded, "
            f"for it may run any code. {_HOW_TO_EXPORT}"
        )
    try:
        with _without_deprecations():
            loaded: nn.Module = torch.jit.load(  # type: ignore[no-untyped-call]
                str(path), map_location="cpu"
            )
    except (RuntimeError, ValueError) as error:
        raise EmbeddingError(
            f"{path}: not a readable TorchScript archive ({_first_line(error)}). {_HOW_TO_EXPORT}"
        ) from error
    return loaded.eval()


_HOW_TO_EXPORT = (
    "Export the network with torch.jit.trace(...).save(path) or as ONNX, or give its weights to "
    "encoder = 'backbone'."
)


def _torch_apply(network: nn.Module, inputs: InputSettings, path: Path) -> Apply:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = network.to(device)

    @torch.no_grad()
    def apply(images: UnitBatch, _: Int[np.ndarray, " b"]) -> np.ndarray:
        batch = torch.from_numpy(_normalised(images, inputs)).to(device)
        try:
            with _without_deprecations():
                found: object = network(batch)
        except RuntimeError as error:
            raise _refused(path, images, error) from error
        if not isinstance(found, torch.Tensor):
            raise EmbeddingError(
                f"{path}: gave a {type(found).__name__}, expected one tensor of shape (n, d). "
                "Export the network so that it returns its features alone."
            )
        values: np.ndarray = found.cpu().numpy()
        return values

    return apply


def _onnx_apply(path: Path, inputs: InputSettings) -> Apply:
    try:
        import onnxruntime
    except ImportError as error:
        raise UsageError(
            f"{path}: ONNX files need onnxruntime, which is not installed. Install "
            "medglean[onnx], or give a TorchScript file."
        ) from error
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common base
        raise EmbeddingError(
            f"{path}: not a readable ONNX network ({_first_line(error)}). Export it again."
        ) from error
    names = [one.name for one in session.get_inputs()]
    outputs = [one.name for one in session.get_outputs()]
    if len(names) != 1 or len(outputs) != 1:
        raise EmbeddingError(
            f"{path}: inputs {names} and outputs {outputs}, expected one image input and one "
            "output of features. Export the network with these alone."
        )

    def apply(images: UnitBatch, _: Int[np.ndarray, " b"]) -> np.ndarray:
        try:
            found = session.run(None, {names[0]: _normalised(images, inputs)})
        except Exception as error:  # as above
            raise _refused(path, images, error) from error
        values: np.ndarray = np.asarray(found[0])
        return values

    return apply


def _refused(path: Path, images: UnitBatch, error: Exception) -> EmbeddingError:
    return EmbeddingError(
        f"{path}: the network does not take float32 images of shape {images.shape} "
        f"({_first_line(error)}). Expected (n, c, h, w): set embedding.images.size_px and channels "
        "to what it was exported for, and export it with a free number of images, or set "
        "embedding.batch_size to its own."
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # TorchScript puts the cause last, under a traceback of the exported code
    told = lines[-1] if lines and lines[0].startswith("The following operation failed") else None
    return (told or (lines[0] if lines else type(error).__name__))[:300]


@contextlib.contextmanager
def _without_deprecations() -> Iterator[None]:
    """Keep torch from warning that TorchScript is old: files in that format stay in use."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit", category=FutureWarning)
        warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
        yield
