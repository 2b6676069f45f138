"""The samples of a DICOM file as they were stored: decoded, cleaned of other bits, colours as RGB.

pydicom and its plugins decode; what they return is checked here against the header, because a
decoder may fill up with grey or deliver another size without raising. Frames have the shape
(frame, y, x, sample) throughout.
"""

from __future__ import annotations

import re
import warnings
import zlib
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medglean.data.readers.codestream import check_frame
from medglean.data.readers.dicom_header import UNCOMPRESSED, transfer_syntax
from medglean.data.readers.noise import Noise, captured_stderr
from medglean.data.readers.request import Request
from medglean.errors import ReadError

if TYPE_CHECKING:
    from pydicom import Dataset

_RLE = "1.2.840.10008.1.2.5"
_JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
_DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"
_FILMS = re.compile(r"1\.2\.840\.10008\.1\.2\.4\.10[0-9]")
_DAMAGE = re.compile(r"premature end|Corrupt JPEG|inconsistent|[Tt]runcated|not enough", re.ASCII)
_TOLD = re.compile(
    r"Photometric Interpretation|Bits Stored|Bits Allocated|Pixel Representation|Number of Frames"
    r"|[Pp]ixel data|[Pp]ixel Data|JPEG|[Ff]rame|offset table|Offset Table|padding"
)


@dataclass(frozen=True)
class Decoded:
    """Stored samples and what they mean.

    Attributes
    ----------
    samples
        Shape (frame, y, x, sample); integers, or floats from FloatPixelData.
    raw
        The same before bits beyond Bits Stored were removed (a padding value may lie there).
    photometric
        ``"MONOCHROME1"``, ``"MONOCHROME2"``, ``"PALETTE COLOR"`` or ``"RGB"``.
    bits
        Bits that a sample may use; 0 for floats.
    """

    samples: np.ndarray
    raw: np.ndarray
    photometric: str
    bits: int
    warnings: tuple[str, ...]

    @property
    def signed(self) -> bool:
        """Whether samples may be negative integers."""
        return self.samples.dtype.kind == "i"

    @property
    def limits(self) -> tuple[int, int] | None:
        """The lowest and highest sample that the encoding can hold; None for floats."""
        if self.bits == 0:
            return None
        if self.signed:
            return -(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1
        return 0, (1 << self.bits) - 1


def decode(request: Request, dataset: Dataset, frames: int, index: int | None) -> Decoded:
    """Decode all frames, or one, and check the result against the header."""
    syntax = transfer_syntax(dataset)
    expected = _expected_shape(dataset, 1 if index is not None else frames)
    listening = nullcontext(Noise()) if syntax in UNCOMPRESSED else captured_stderr()
    with warnings.catch_warnings(record=True) as caught, listening as noise:
        warnings.simplefilter("always")
        try:
            pixels, photometric = _decoded(request, dataset, syntax, index, frames)
        except (ReadError, ImportError, MemoryError):
            raise
        except BaseException as error:  # plugins raise errors of every type, Rust's panics included
            if not isinstance(error, Exception) and type(error).__module__ != "pyo3_runtime":
                raise
            detail = " ".join((str(error) or type(error).__name__).split())[:300]
            raise request.truncated("pixel data", detail) from error
    _check_noise(request, noise.text)
    told = tuple(dict.fromkeys(_sentence(str(w.message)) for w in caught))
    samples = _shaped(request, pixels, expected)
    cleaned, bits, more = _cleaned(dataset, samples, syntax)
    if photometric.startswith("YBR"):
        cleaned, photometric = _rgb_of_ybr(request, cleaned, photometric, bits), "RGB"
    if samples.shape[-1] == 1 and photometric == "RGB":
        raise request.truncated("pixel data", "RGB is stated, but there is one sample per pixel")
    return Decoded(cleaned, samples, photometric, bits, told + more)


def _decoded(
    request: Request, dataset: Dataset, syntax: str, index: int | None, frames: int
) -> tuple[np.ndarray, str]:
    """Return what the decoder makes of the pixel data, and its photometric interpretation."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    photometric = str(dataset.get("PhotometricInterpretation") or "MONOCHROME2").strip().upper()
    if syntax not in UNCOMPRESSED:
        _check_frames(request, dataset, index, frames)
        if syntax == _DEFLATED_FRAMES:
            return _inflated(request, dataset, index, frames), photometric
        if syntax == _JPEG_EXTENDED and int(dataset.get("BitsStored") or 8) > 8:
            return _extended(dataset, index, frames), photometric
    elif "PixelData" in dataset and dataset["PixelData"].is_undefined_length:
        raise request.error(
            "the header says uncompressed, the pixels are encapsulated as compressed ones are.",
            "Correct the Transfer Syntax UID (0002,0010), or export the image again.",
        )
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise request.error(
            f"the transfer syntax {_name_of(syntax)}, for which there is no decoder.",
            "Film is cut into frames by a video tool first."
            if _FILMS.match(syntax)
            else "Convert it to an uncompressed or JPEG 2000 syntax.",
        ) from error
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = UID(syntax)
    allocated = int(dataset.BitsAllocated)
    whole = allocated == 1 and syntax in UNCOMPRESSED  # frames may begin inside a byte
    options: Any = {"correct_unused_bits": False}  # done here, with overlays and High Bit in mind
    pixels, meta = decoder.as_array(
        dataset,
        index=None if whole else index,
        raw=allocated > 8,  # pydicom turns only 8 bits of YBR into RGB
        **options,
    )
    if whole and index is not None:
        pixels = pixels.reshape(frames, -1)[index]
    return pixels, str(meta.get("photometric_interpretation", photometric))


def _frames_of(dataset: Dataset, index: int | None, frames: int) -> list[bytes]:
    from pydicom.encaps import generate_frames, get_frame

    offsets: Any = None
    if "ExtendedOffsetTable" in dataset and "ExtendedOffsetTableLengths" in dataset:
        offsets = (dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths)
    options: Any = {"number_of_frames": frames, "extended_offsets": offsets}
    if index is not None:
        return [get_frame(dataset.PixelData, index, **options)]
    return list(generate_frames(dataset.PixelData, **options))


def _check_frames(request: Request, dataset: Dataset, index: int | None, frames: int) -> None:
    """Check the codestream of every frame asked for against the header."""
    found = _frames_of(dataset, index, frames)
    if index is None and len(found) < frames:
        raise request.truncated("pixel data", f"{len(found)} of {frames} frames")
    for frame in found:
        check_frame(request, frame, int(dataset.Rows), int(dataset.Columns))


def _inflated(request: Request, dataset: Dataset, index: int | None, frames: int) -> np.ndarray:
    """Inflate frames of the Deflated Image Frame Compression syntax."""
    allocated = int(dataset.BitsAllocated)
    rows, columns, samples = int(dataset.Rows), int(dataset.Columns), int(dataset.SamplesPerPixel)
    count = rows * columns * samples
    length = (count * allocated + 7) // 8
    parts = []
    for frame in _frames_of(dataset, index, frames):
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(frame, length + 2)
        if not length <= len(data) <= length + 1:
            raise request.truncated("pixel data", f"{len(data):,} of {length:,} bytes in a frame")
        parts.append(data[:length])
    if allocated == 1:
        bits = [np.unpackbits(np.frombuffer(p, np.uint8), bitorder="little") for p in parts]
        return np.concatenate([part[:count] for part in bits])
    signed = "i" if int(dataset.PixelRepresentation) else "u"
    pixels = np.frombuffer(b"".join(parts), f"<{signed}{allocated // 8}")
    if samples == 1 or not int(dataset.get("PlanarConfiguration") or 0):
        return pixels
    return pixels.reshape(-1, samples, rows, columns).transpose(0, 2, 3, 1)


def _extended(dataset: Dataset, index: int | None, frames: int) -> np.ndarray:
    """Decode JPEG Extended of 12 bits, which pydicom's plugins refuse."""
    import imagecodecs

    pixels = [imagecodecs.jpeg8_decode(frame) for frame in _frames_of(dataset, index, frames)]
    return np.stack(pixels[:frames])


def _expected_shape(dataset: Dataset, frames: int) -> tuple[int, int, int, int]:
    return (
        frames,
        int(dataset.Rows),
        int(dataset.Columns),
        int(dataset.get("SamplesPerPixel") or 1),
    )


def _shaped(
    request: Request, pixels: np.ndarray, expected: tuple[int, int, int, int]
) -> np.ndarray:
    count = int(np.prod(expected[1:]))
    if pixels.size > expected[0] * count and pixels.size % count == 0:
        pixels = pixels[: expected[0]]  # more frames than the header says: pydicom has warned
    if pixels.size != expected[0] * count:
        raise request.truncated("pixel data", f"decoded to {pixels.shape}, expected {expected}")
    return pixels.reshape(expected)


def _cleaned(
    dataset: Dataset, samples: np.ndarray, syntax: str
) -> tuple[np.ndarray, int, tuple[str, ...]]:
    """Keep the bits that belong to the sample: overlays may lie in the others."""
    if samples.dtype.kind == "f":
        return samples, 0, ()
    width = samples.dtype.itemsize * 8
    stored = int(dataset.get("BitsStored") or width)
    if not 1 <= stored <= width:
        stored = width
    high = int(dataset.get("HighBit") or stored - 1)
    if not stored - 1 <= high < width:
        high = stored - 1
    kept = _bits_of(samples, stored, high)
    if kept is samples or np.array_equal(kept, samples):
        return samples, stored, ()
    unsigned = samples.view(f"u{samples.dtype.itemsize}")
    lacks_sign = samples.dtype.kind == "i" and not (unsigned >> stored).any()
    plain = syntax in UNCOMPRESSED or syntax == _RLE or high != stored - 1
    if plain or lacks_sign or _has_bit_overlays(dataset):
        return kept, stored, ()
    return (
        samples,
        width,
        (f"decoded values need more than the header's {stored} bits; they were kept.",),
    )


def _bits_of(samples: np.ndarray, stored: int, high: int) -> np.ndarray:
    """Return ``stored`` bits up to bit ``high`` of each sample, with their sign."""
    width = samples.dtype.itemsize * 8
    if stored == width:
        return samples
    unsigned = samples.view(f"u{samples.dtype.itemsize}")
    up = np.left_shift(unsigned, width - 1 - high, dtype=unsigned.dtype)
    kept: np.ndarray = np.right_shift(up.view(samples.dtype), width - stored, dtype=samples.dtype)
    return kept


def _has_bit_overlays(dataset: Dataset) -> bool:
    return any(
        int(dataset.get((group, 0x0102)).value or 0) > 0
        for group in range(0x6000, 0x6020, 2)
        if (group, 0x0102) in dataset
    )


def _rgb_of_ybr(request: Request, samples: np.ndarray, photometric: str, bits: int) -> np.ndarray:
    """Turn YBR_FULL of other than 8 bits, which pydicom leaves, into RGB (PS3.3 C.7.6.3.1.2)."""
    if photometric not in ("YBR_FULL", "YBR_FULL_422") or samples.dtype.kind != "u":
        raise request.error(
            f"the photometric interpretation {photometric}, which no decoder turns into RGB.",
            "Convert the image to RGB.",
        )
    y, cb, cr = (samples[..., k].astype(np.float64) for k in range(3))
    half = float(1 << (bits - 1))
    cb, cr = cb - half, cr - half
    red, blue = y + 1.402 * cr, y + 1.772 * cb
    green = y - (0.114 * 1.772 / 0.587) * cb - (0.299 * 1.402 / 0.587) * cr
    rgb = np.rint(np.stack([red, green, blue], axis=-1)).clip(0, (1 << bits) - 1)
    return rgb.astype(samples.dtype)


def _check_noise(request: Request, text: str) -> None:
    """Refuse pixels of which the decoder said on stderr that it had to invent some."""
    for line in text.splitlines():
        if _DAMAGE.search(line):
            raise request.truncated("pixel data", line.strip()[:200])


def _sentence(message: str) -> str:
    """Return a warning of pydicom, unless it may quote an element that identifies a patient."""
    if "Number of Frames" in message and "larger" in message:
        return "there are more pixels than the header's Number of Frames needs: the rest was left."
    if _TOLD.search(message):
        return " ".join(message.split())
    return "pydicom remarked on an element of the header that is not quite standard."


def _name_of(syntax: str) -> str:
    from pydicom.uid import UID

    uid = UID(syntax)
    return f"{uid.name} ({syntax})" if uid.name != syntax else syntax
