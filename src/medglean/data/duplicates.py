"""Duplicates: the same file, the same pixels, or nearly the same picture.

Near duplicates are looked for in three steps, each cheaper per pair than the next. (1) A 64-bit
perceptual hash of every image, of its mirror image and of slightly cropped versions, all pairs.
(2) A 256-bit hash of the pairs that step 1 left. (3) The correlation of the two thumbnails' fine
structure, after allowing for a small shift and change of scale.

Step 3 is what decides, for the hash alone does not: chest X-rays all look alike to it. Of 1,600
paediatric chest X-rays of 1,337 patients, 342 pairs of different images lie within 6 of 64 bits and
7,667 within 10, but no pair has a similarity above 0.90. Copies that were re-compressed, halved in
size, changed in gamma (1.6) or contrast (CLAHE), mirrored, or cropped by up to 6 % per side have
0.93 and more in 99 of 100. An image that is mostly empty, such as a slice through the top of a
head, shows little that could differ, and must fit better still: without this rule 24 of 3.2 million
pairs of different brain slices passed, with it none. ``tests/data/test_duplicates.py`` measures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int, UInt8, UInt64
from scipy import ndimage, sparse
from scipy.fft import dctn
from scipy.sparse import csgraph

MAX_DISTANCE_BITS = 10
MAX_FINE_DISTANCE_BITS = 60
MIN_SIMILARITY = 0.93
CROPS = (0.0, 0.03, 0.06)
"""Share cut from each side in the versions that are compared."""
EMPTY_MARGIN = 0.05
"""What an image that is mostly empty needs in addition to ``MIN_SIMILARITY``."""
_FULL, _EMPTY = 0.6, 0.3  # shares of the image with structure: from here on the margin grows to all
_GREY_LEVELS = 2.0  # contrast of noise and compression, which must not be magnified
_STRUCTURE = 3.0  # contrast in grey levels above which a place is not empty
FLAT = 2.0
"""Standard deviation in grey levels below which a thumbnail shows nothing."""
_ROWS = 256  # hashes compared with all others at a time: 256 x 50,000 words are 100 MB
_PAIRS = 256

Thumbnails = UInt8[np.ndarray, "n 64 64"]


@dataclass(frozen=True)
class Pairs:
    """Pairs of near duplicates.

    Attributes
    ----------
    first, second
        Positions of the two images, ``first < second``.
    distance
        Differing bits of 64 between the hashes of the best fitting versions.
    similarity
        Correlation of the fine structure after alignment, 0..1.
    mirrored
        Whether one is the mirror image of the other.
    """

    first: Int[np.ndarray, " p"]
    second: Int[np.ndarray, " p"]
    distance: Int[np.ndarray, " p"]
    similarity: Float[np.ndarray, " p"]
    mirrored: Bool[np.ndarray, " p"]

    def __len__(self) -> int:
        return len(self.first)


def perceptual_hash(thumbnails: Thumbnails, *, side: int = 8) -> UInt64[np.ndarray, "n words"]:
    """Return which of the ``side`` squared lowest cosine coefficients exceed their median.

    The constant term is hashed, too, but takes no part in the median, so that brightness and
    contrast change nothing.

    Parameters
    ----------
    thumbnails
        Grey images.
    side
        8 gives 64 bits (one word), 16 gives 256.

    References
    ----------
    Zauner. Implementation and benchmarking of perceptual image hash functions. 2010.
    """
    words = side * side // 64
    hashes = np.empty((len(thumbnails), words), np.uint64)
    for part in _parts(len(thumbnails)):
        values = thumbnails[part].astype(np.float32)
        low = dctn(values, axes=(1, 2))[:, :side, :side].reshape(len(values), -1)
        bits = low > np.median(low[:, 1:], axis=1, keepdims=True)
        hashes[part] = np.packbits(bits, axis=1).view(np.uint64)
    return hashes


def near_duplicates(
    thumbnails: Thumbnails,
    *,
    max_distance_bits: int = MAX_DISTANCE_BITS,
    min_similarity: float = MIN_SIMILARITY,
) -> Pairs:
    """Find pairs of images that show the same picture.

    Copies that were mirrored left to right, re-compressed, resized, cropped by up to some 6 % per
    side, or changed in brightness, contrast or gamma are found. Images that show nothing (nearly
    constant) are left out.

    Parameters
    ----------
    thumbnails
        Grey images whose aspect ratio was not kept.
    max_distance_bits
        Of 64 bits of the hash, to be compared more closely.
    min_similarity
        To be a pair, in 0..1; up to ``EMPTY_MARGIN`` more where an image is mostly empty.
    """
    shown = np.flatnonzero(thumbnails.std(axis=(1, 2)) > FLAT)
    images = thumbnails[shown]
    hashes, fine = perceptual_hash(images)[:, 0], perceptual_hash(images, side=16)
    details, needed = _details(images), min_similarity + _margin(images)
    best: dict[tuple[int, int], tuple[int, float, bool]] = {}
    for crop in CROPS:
        for mirrored in (False, True):
            version = _version(images, crop, mirrored)
            version_hashes = perceptual_hash(version)[:, 0]
            version_fine = perceptual_hash(version, side=16)
            blocks = []
            for i, j, distance in _close_pairs(
                version_hashes, hashes, max_distance_bits, ordered=crop == 0.0
            ):
                apart = np.bitwise_count(version_fine[i] ^ fine[j]).sum(axis=1)
                kept = apart <= MAX_FINE_DISTANCE_BITS
                blocks.append(np.stack([i[kept], j[kept], distance[kept]]))
            if not blocks:
                continue
            i, j, distance = np.concatenate(blocks, axis=1)
            similarity = _similarity_of_pairs(version, details, i, j)
            fits = similarity >= np.maximum(needed[i], needed[j])
            chosen = (array[fits].tolist() for array in (i, j, distance, similarity))
            for a, b, bits, value in zip(*chosen, strict=True):
                key = (min(a, b), max(a, b))
                if value > best.get(key, (0, 0.0, False))[1]:
                    best[key] = (bits, value, mirrored)
    return _collect(best, shown)


def _collect(
    best: dict[tuple[int, int], tuple[int, float, bool]], shown: Int[np.ndarray, " m"]
) -> Pairs:
    keys = sorted(best)
    positions = shown[np.array(keys, dtype=np.int64).reshape(-1, 2)]
    return Pairs(
        first=positions[:, 0],
        second=positions[:, 1],
        distance=np.array([best[key][0] for key in keys], dtype=np.int64),
        similarity=np.array([best[key][1] for key in keys], dtype=np.float64),
        mirrored=np.array([best[key][2] for key in keys], dtype=bool),
    )


def _close_pairs(
    left: UInt64[np.ndarray, " n"],
    right: UInt64[np.ndarray, " n"],
    max_distance_bits: int,
    *,
    ordered: bool,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield positions (i, j), i != j, and distances of hashes that differ in few bits.

    With ``ordered`` only i < j: the other half would say the same again.
    """
    for start in range(0, len(left), _ROWS):
        first = start if ordered else 0
        differing = np.bitwise_count(left[start : start + _ROWS, None] ^ right[None, first:])
        i, j = np.nonzero(differing <= max_distance_bits)
        distance = differing[i, j].astype(np.int64)
        i, j = i + start, j + first
        kept = i < j if ordered else i != j
        yield i[kept], j[kept], distance[kept]


def _version(images: Thumbnails, crop: float, mirrored: bool) -> Thumbnails:
    """Return the images with a share cut from each side, stretched to their size again."""
    if crop:
        side = images.shape[1]
        at = (np.arange(side) + 0.5) * (1 - 2 * crop) + crop * side - 0.5
        cut = np.empty_like(images)
        for part in _parts(len(images)):
            rows = _interpolated(images[part].astype(np.float32), at, axis=1)
            cut[part] = np.rint(_interpolated(rows, at, axis=2))
        images = cut
    return images[:, :, ::-1] if mirrored else images


def _parts(count: int) -> Iterator[slice]:
    """Yield slices of up to 1,024 images, so that their copies in floating point stay small."""
    for start in range(0, count, 1024):
        yield slice(start, start + 1024)


def _interpolated(values: np.ndarray, at: Float[np.ndarray, " m"], *, axis: int) -> np.ndarray:
    low = np.clip(np.floor(at).astype(np.int64), 0, values.shape[axis] - 2)
    shape = [1, 1, 1]
    shape[axis] = len(at)
    share = (at - low).astype(np.float32).reshape(shape)
    mixed: np.ndarray = values.take(low, axis) * (1 - share) + values.take(low + 1, axis) * share
    return mixed


def _band(images: Thumbnails) -> tuple[Float[np.ndarray, "n 64 64"], Float[np.ndarray, "n 64 64"]]:
    """Return structure between 1 and 4 pixels and its contrast around each place, in grey levels.

    Coarser structure is what all chest X-rays share; finer is noise and compression.
    """
    values = images.astype(np.float32)
    fine = ndimage.gaussian_filter(values, (0, 1.0, 1.0))
    band = fine - ndimage.gaussian_filter(values, (0, 4.0, 4.0))
    contrast = np.sqrt(ndimage.gaussian_filter(band * band, (0, 4.0, 4.0)))
    return band, contrast


def fine_structure(images: Thumbnails) -> Float[np.ndarray, "n 64 64"]:
    """Return structure between 1 and 4 pixels over its own contrast in the neighbourhood.

    So that a strong outline that all images share, or a letter burnt into one of them, does not
    outweigh all the rest.
    """
    even = np.empty(images.shape, np.float32)
    for part in _parts(len(images)):
        band, contrast = _band(images[part])
        even[part] = band / (contrast + _GREY_LEVELS)
    return even


def finest_structure(images: Thumbnails) -> Float[np.ndarray, "n 64 64"]:
    """Return structure around one pixel over its own contrast in the neighbourhood.

    What two chests do not share even where their ribs lie on one another.
    """
    even = np.empty(images.shape, np.float32)
    for part in _parts(len(images)):
        values = images[part].astype(np.float32)
        band = ndimage.gaussian_filter(values, (0, 0.7, 0.7))
        band -= ndimage.gaussian_filter(values, (0, 1.5, 1.5))
        contrast = np.sqrt(ndimage.gaussian_filter(band * band, (0, 4.0, 4.0)))
        even[part] = band / (contrast + _GREY_LEVELS / 2)
    return even


def _details(images: Thumbnails) -> Float[np.ndarray, "n 58 58"]:
    """Return fine structure, mean 0 and norm 1, without the outermost pixels."""
    side = images.shape[1] - 6
    unit = np.empty((len(images), side, side), np.float32)
    for part in _parts(len(images)):
        even = fine_structure(images[part])[:, 3:-3, 3:-3]
        even -= even.mean(axis=(1, 2), keepdims=True)
        norm = np.sqrt((even * even).sum(axis=(1, 2), keepdims=True))
        unit[part] = even / np.maximum(norm, 1e-6)
    return unit


def _margin(images: Thumbnails) -> Float[np.ndarray, " n"]:
    """Return how much better than others each image must fit because it is mostly empty."""
    share = np.empty(len(images))
    for part in _parts(len(images)):
        share[part] = (_band(images[part])[1] > _STRUCTURE).mean(axis=(1, 2))
    margin: np.ndarray = EMPTY_MARGIN * np.clip((_FULL - share) / (_FULL - _EMPTY), 0.0, 1.0)
    return margin


def _similarity_of_pairs(
    version: Thumbnails,
    details: Float[np.ndarray, "n 58 58"],
    i: Int[np.ndarray, " p"],
    j: Int[np.ndarray, " p"],
) -> Float[np.ndarray, " p"]:
    """Return the similarity of version ``i`` to image ``j`` for each pair; ``i`` ascends."""
    similarity = np.zeros(len(i))
    for start in range(0, len(i), _PAIRS):
        part = np.s_[start : start + _PAIRS]
        # ascending, so that an image with many candidates is filtered once or twice in all
        images, which = np.unique(i[part], return_inverse=True)
        left = _details(version[images])[which]
        similarity[part] = similarities(left, details[j[part]])
    return similarity


def similarities(
    left: Float[np.ndarray, "p h w"], right: Float[np.ndarray, "p h w"]
) -> Float[np.ndarray, " p"]:
    """Return how well each left image explains the right one when moved a little.

    The multiple correlation of the right image with the left one, its derivatives along both axes,
    and these derivatives times the distance from the centre: to first order a shift and a change
    of scale along either axis, of up to about a pixel and a half.

    Parameters
    ----------
    left, right
        Images of mean 0 and norm 1.

    Returns
    -------
    ndarray
        0..1; 0 where the left image is the negative of the right.
    """
    along_y, along_x = np.gradient(left, axis=1), np.gradient(left, axis=2)
    height, width = left.shape[1:]
    y = np.linspace(-1, 1, height)[:, None]
    x = np.linspace(-1, 1, width)[None, :]
    terms = np.stack([left, along_y, along_x, along_y * y, along_x * x], axis=1)
    terms = terms.reshape(len(left), 5, -1)
    terms = terms - terms.mean(axis=2, keepdims=True)
    target = right.reshape(len(right), -1, 1)
    products = terms @ terms.transpose(0, 2, 1)
    # a little ridge: the derivatives of an image without structure are all zero
    products += 1e-9 * np.eye(5)
    inner = terms @ target
    weights = np.linalg.solve(products, inner)
    explained = np.sqrt(np.clip((weights * inner).sum(axis=(1, 2)), 0.0, 1.0))
    return np.where(weights[:, 0, 0] > 0, explained, 0.0)


def same_keys(keys: Sequence[object]) -> list[list[int]]:
    """Return the positions that share a key, such as a SHA-256; missing keys share nothing.

    Examples
    --------
    >>> same_keys(["a", "b", None, "a", None])
    [[0, 3]]
    """
    series = pd.Series(list(keys), dtype=object)
    series = series[series.notna()]
    groups = series.groupby(series).indices.values()
    index = series.index.to_numpy()
    return sorted(sorted(int(p) for p in index[group]) for group in groups if len(group) > 1)


def components(
    count: int, first: Sequence[int] | np.ndarray, second: Sequence[int] | np.ndarray
) -> Int[np.ndarray, " n"]:
    """Return for each of ``count`` images the lowest position that it is connected to by pairs.

    Examples
    --------
    >>> components(5, [0, 3], [1, 1]).tolist()
    [0, 0, 2, 0, 4]
    """
    links = (np.ones(len(first), bool), (np.asarray(first, int), np.asarray(second, int)))
    graph = sparse.coo_matrix(links, shape=(count, count))
    _, labels = csgraph.connected_components(graph, directed=False)
    lowest = np.full(count, count)
    np.minimum.at(lowest, labels, np.arange(count))
    named: Int[np.ndarray, " n"] = lowest[labels]
    return named
