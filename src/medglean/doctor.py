"""What works on this machine: versions, devices, codecs, optional parts."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

_PACKAGES = (
    "torch",
    "torchvision",
    "lightning-fabric",
    "numpy",
    "pandas",
    "pyarrow",
    "scikit-learn",
    "pydicom",
    "pylibjpeg",
    "python-gdcm",
    "nibabel",
    "pillow",
    "opencv-python-headless",
    "tifffile",
)
_OPTIONAL = {
    "tensorboard": ("tensorboard", "training curves in TensorBoard"),
    "mlflow": ("mlflow", "runs in an MLflow server"),
}
_FREE_BYTES_WANTED = 2 << 30


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's list.

    Attributes
    ----------
    part
        What was looked at.
    state
        ``"ok"``, ``"absent"`` (an optional part) or ``"fault"`` (something that will hinder).
    detail
        What was found, and for a fault what to do.
    """

    part: str
    state: str
    detail: str


def _versions() -> list[Finding]:
    found = [Finding("Python", "ok", f"{platform.python_version()} on {platform.system()}")]
    for name in _PACKAGES:
        try:
            found.append(Finding(name, "ok", importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            found.append(Finding(name, "fault", "not installed: pip install medglean again."))
    return found


def _devices() -> list[Finding]:
    try:
        import torch
        import torchvision

        torchvision.ops.nms  # noqa: B018 - fails where torch and torchvision are not a pair
    except (ImportError, RuntimeError, AttributeError, OSError) as error:
        return [
            Finding(
                "torch with torchvision",
                "fault",
                f"they do not work together ({type(error).__name__}). Install the pair that "
                "constraints.txt names.",
            )
        ]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = [Finding("CPU", "ok", f"{cores} cores, {torch.get_num_threads()} torch threads")]
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(number)
            memory = f"{properties.total_memory / 2**30:.0f} GiB"
            found.append(Finding(f"GPU {number}", "ok", f"{properties.name}, {memory}"))
    else:
        found.append(
            Finding("GPU", "absent", "none that torch can use: everything runs on the CPU")
        )
    return found


def _codecs() -> list[Finding]:
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import AllTransferSyntaxes

    found = []
    for syntax in AllTransferSyntaxes:
        try:
            decoder = get_decoder(syntax)
        except NotImplementedError:
            continue  # video and the like: refused by the reader with a reason
        if not decoder.is_encapsulated:
            continue
        if decoder.is_available:
            plugins = ", ".join(decoder.available_plugins)
            found.append(Finding(f"DICOM {syntax.name}", "ok", plugins))
        else:
            found.append(Finding(f"DICOM {syntax.name}", "fault", "no decoder is installed"))
    return found


def _optional() -> list[Finding]:
    found = []
    for extra, (module, purpose) in _OPTIONAL.items():
        if importlib.util.find_spec(module) is None:
            detail = f"{purpose}: pip install 'medglean[{extra}]'"
            found.append(Finding(extra, "absent", detail))
        else:
            found.append(Finding(extra, "ok", purpose))
    return found


def _disk() -> list[Finding]:
    found = []
    for part, folder in (
        ("this folder", Path.cwd()),
        ("temporary folder", Path(tempfile.gettempdir())),
    ):
        free = shutil.disk_usage(folder).free
        size = f"{free / 2**30:.1f} GiB free"
        if not os.access(folder, os.W_OK):
            found.append(Finding(part, "fault", f"cannot be written; {size}. Work elsewhere."))
        elif free < _FREE_BYTES_WANTED:
            found.append(Finding(part, "fault", f"{size}; caches and runs need more."))
        else:
            found.append(Finding(part, "ok", size))
    return found


def examine() -> list[Finding]:
    """Look at everything that medglean leans on.

    Returns
    -------
    list of Finding
        In the order in which a reader would want them: versions, devices, codecs, optional parts,
        disk.
    """
    return [*_versions(), *_devices(), *_codecs(), *_optional(), *_disk()]
