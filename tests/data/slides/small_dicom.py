"""Writing a DICOM whole slide image of one level, in tiles without compression."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

TILE = 64


def write_dicom_slide(path, pixels, *, mpp=0.5):
    height, width = pixels.shape[:2]
    rows, columns = -(-height // TILE), -(-width // TILE)
    padded = np.full((rows * TILE, columns * TILE, 3), 255, np.uint8)
    padded[:height, :width] = pixels
    tiles = padded.reshape(rows, TILE, columns, TILE, 3).transpose(0, 2, 1, 3, 4)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.6"
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["instance"])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    slide = FileDataset(path, {}, file_meta=meta, preamble=bytes(128))
    slide.SOPClassUID = meta.MediaStorageSOPClassUID
    slide.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    for name in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"):
        setattr(slide, name, generate_uid(entropy_srcs=[name]))
    slide.ImageType, slide.Modality = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], "SM"
    slide.PatientName = slide.PatientID = ""
    slide.Rows = slide.Columns = TILE
    slide.NumberOfFrames, slide.SamplesPerPixel = rows * columns, 3
    slide.BitsAllocated = slide.BitsStored = 8
    slide.HighBit, slide.PixelRepresentation, slide.PlanarConfiguration = 7, 0, 0
    slide.PhotometricInterpretation = "RGB"
    slide.TotalPixelMatrixRows, slide.TotalPixelMatrixColumns = height, width
    slide.DimensionOrganizationType = "TILED_FULL"
    slide.TotalPixelMatrixFocalPlanes = slide.NumberOfOpticalPaths = 1
    measures, shared, light = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [mpp / 1000, mpp / 1000]
    shared.PixelMeasuresSequence = Sequence([measures])
    light.OpticalPathIdentifier, light.ICCProfile = "1", b""
    slide.SharedFunctionalGroupsSequence = Sequence([shared])
    slide.OpticalPathSequence = Sequence([light])
    slide.PixelData = tiles.tobytes()
    slide.save_as(path, enforce_file_format=True)
    return path
