"""DICOM files that tests make, element by element."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    SecondaryCaptureImageStorage,
)

DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"


def item(**elements: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.fixture
def sequence_item() -> Callable[..., Dataset]:
    return item


@pytest.fixture
def dicom(tmp_path) -> Callable[..., Path]:
    """Return a function that writes a DICOM file and returns its path.

    ``pixels`` is (y, x), (frame, y, x) or (frame, y, x, sample), or a list of compressed frames
    with ``shape`` given; further keywords are elements to add or replace, ``None`` removes.
    """

    def write(
        pixels: np.ndarray | list[bytes],
        *,
        name: str = "a.dcm",
        syntax: str = ExplicitVRLittleEndian,
        shape: tuple[int, int, int, int] | None = None,
        bits: int = 16,
        signed: bool = False,
        ct: bool = False,
        **elements: object,
    ) -> Path:
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        written = JPEG2000Lossless if syntax == DEFLATED_FRAMES else syntax
        dataset.file_meta.TransferSyntaxUID = written
        dataset.SOPClassUID = CTImageStorage if ct else SecondaryCaptureImageStorage
        dataset.SOPInstanceUID = "1.2.3.4"
        dataset.PatientName, dataset.PatientID = "Doe^Jane", "JD-1970"
        dataset.Modality = "CT" if ct else "OT"
        if isinstance(pixels, np.ndarray):
            while pixels.ndim < 4:
                pixels = pixels[np.newaxis] if pixels.ndim == 2 else pixels[..., np.newaxis]
            shape = pixels.shape
        frames, dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = shape
        if frames > 1:
            dataset.NumberOfFrames = frames
        colour = shape[3] > 1
        dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
        if colour:
            dataset.PlanarConfiguration = 0
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
        dataset.PixelRepresentation = int(signed)
        if isinstance(pixels, np.ndarray):
            dataset.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
            dataset["PixelData"].VR = "OB" if bits <= 8 else "OW"
        else:
            dataset.PixelData = encapsulate(pixels)
            dataset["PixelData"].VR = "OB"
            dataset["PixelData"].is_undefined_length = True
        for keyword, value in elements.items():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)
        path = tmp_path / name
        dataset.save_as(path, enforce_file_format=True)
        if written != syntax:  # pydicom 3.0 does not know it
            data = path.read_bytes().replace(written.encode(), syntax.encode() + b"\0", 1)
            path.write_bytes(data)
        return path

    return write
