"""What a baseline is allowed to see: the border alone, or everything but the organ.

What is hidden is filled with the mean of what is left of the same image. Black would say something:
in a radiograph it is air, so a blackened lung would be a clear one, or a pneumothorax. The mean is
what a network is least surprised by, and tells of the inside nothing that the outside does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Num

from medglean.data.imageset import ImageSet
from medglean.data.masks import prepared_mask
from medglean.data.readers import Volumes
from medglean.errors import DataError
from medglean.nn.floor import SIZE_PX, thumbnails
from medglean.runs.style import percent

FRAME_PX = 5
"""Width of the border in a thumbnail of 48 px: about a tenth of each side."""
ELLIPSE = 0.9
"""Height and width of the ellipse that is hidden where there are no masks, as share of the
picture's: lungs fill most of a chest X-ray, and to hide too much errs on the safe side."""
MARGIN = 0.03
"""How far masks are widened, as share of the shorter side: they end inside the organ's edge."""
BATCH = 256

Pictures = Num[np.ndarray, "b c h w"]
Where = Bool[np.ndarray, "b h w"]


def interior(height: int, width: int) -> Bool[np.ndarray, "h w"]:
    """Return which pixels the border alone does not show."""
    inside = np.zeros((height, width), dtype=bool)
    top, left = (max(1, round(side * FRAME_PX / SIZE_PX)) for side in (height, width))
    inside[top : height - top, left : width - left] = True
    return inside


def ellipse(height: int, width: int) -> Bool[np.ndarray, "h w"]:
    """Return the pixels whose centres lie in the middle ellipse."""
    y = ((np.arange(height) + 0.5) / height - 0.5)[:, None]
    x = ((np.arange(width) + 0.5) / width - 0.5)[None, :]
    inside: np.ndarray = y**2 + x**2 <= (ELLIPSE / 2) ** 2
    return inside


def filled(pictures: Pictures, hidden: Where) -> Pictures:
    """Return images whose hidden pixels hold the mean of their others, channel by channel.

    Parameters
    ----------
    pictures
        Of any type; the result is of the same.
    hidden
        One region per image.

    Returns
    -------
    ndarray
        A copy. An image that is hidden altogether becomes 0.
    """
    shown = ~hidden[:, None]
    count = shown.sum(axis=(2, 3), keepdims=True)
    total = np.where(shown, pictures, 0).sum(axis=(2, 3), keepdims=True, dtype=np.float64)
    mean = total / np.maximum(count, 1)
    if pictures.dtype.kind in "ui":
        mean = np.rint(mean)
    changed: np.ndarray = np.where(shown, pictures, mean.astype(pictures.dtype))
    return changed


@dataclass(frozen=True)
class Hidden:
    """What is hidden of some rows of an image set.

    Attributes
    ----------
    rows
        Rising.
    name
        Such as ``"organ"``.
    told
        How the regions were made.
    share
        Share of the picture that is hidden, mean over the rows.
    """

    rows: np.ndarray
    name: str
    told: str
    share: float
    _masks: np.ndarray | None
    _middle: np.ndarray

    def of(self, rows: np.ndarray) -> Where:
        """Return the regions of some of the rows, shape (m, h, w)."""
        if self._masks is None:
            return np.broadcast_to(self._middle, (len(rows), *self._middle.shape))
        packed = self._masks[np.searchsorted(self.rows, rows)]
        return np.unpackbits(packed, axis=-1, count=self._middle.shape[1]).astype(bool)


def hidden_regions(images: ImageSet, rows: np.ndarray, *, column: str) -> Hidden:
    """Find what to hide: the organ where every image has a mask of it, else the middle.

    Parameters
    ----------
    images
        Prepared images; masks are brought to their grid.
    rows
        Rising; all that the baseline learns from and is measured on. Were the masks of some used
        and the middle of the others, what was hidden could itself tell the class.
    column
        Of references to masks.
    """
    height, width = images.stored.shape[2:]
    middle = ellipse(height, width)
    reason = f"no column {column!r} of masks"
    if column in images.manifest.frame:
        packed, lacking = _masks(images, rows, column)
        if lacking == 0:
            bits = np.bitwise_count(packed).sum(dtype=np.int64)
            share = float(bits) / (len(rows) * height * width)
            told = (
                f"the masks of column {column!r}, widened by {percent(MARGIN)} of the shorter "
                f"side, hide {percent(share)} of the picture; their outline stays visible"
            )
            return Hidden(rows, "organ", told, share, packed, middle)
        reason = f"{lacking:,} of {len(rows):,} images have no usable mask in column {column!r}"
    share = float(middle.mean())
    told = (
        f"{reason}, so an ellipse of {percent(ELLIPSE)} of height and width is hidden, "
        f"{percent(share)} of the picture"
    )
    return Hidden(rows, "middle", told, share, None, middle)


def _masks(images: ImageSet, rows: np.ndarray, column: str) -> tuple[np.ndarray, int]:
    """Return widened masks, eight pixels a byte, and how many images have none that shows much."""
    height, width = images.stored.shape[2:]
    packed = np.zeros((len(rows), height, -(-width // 8)), np.uint8)
    reach = max(1, round(MARGIN * min(height, width)))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    references = images.manifest.frame[column].iloc[rows].tolist()
    volumes, lacking = Volumes(), 0
    for place, reference in enumerate(references):
        if not isinstance(reference, str):
            lacking += 1
            continue
        try:
            mask = prepared_mask(
                reference, images.manifest.root, images.recipe, volumes=volumes
            ).any(axis=0)
        except (DataError, OSError):
            lacking += 1
            continue
        lacking += not mask.any()
        wide = cv2.dilate(np.asarray(mask, dtype=np.uint8), kernel)
        packed[place] = np.packbits(np.asarray(wide) > 0, axis=-1)
    return packed, lacking


def batches(rows: np.ndarray) -> Iterator[np.ndarray]:
    """Yield rows in parts, so that changed copies of images stay few."""
    for start in range(0, len(rows), BATCH):
        yield rows[start : start + BATCH]


def flat_thumbnails(
    images: ImageSet,
    rows: np.ndarray,
    change: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> Num[np.ndarray, "m p"]:
    """Return thumbnails of some rows, flat, after a change of the images.

    Parameters
    ----------
    images, rows
        Which.
    change
        From images (b, c, h, w) and their rows to the images that are to be seen.
    """
    parts = []
    for part in batches(rows):
        pictures = np.asarray(images.stored[part])
        parts.append(thumbnails(pictures if change is None else change(pictures, part)))
    return np.concatenate(parts) if parts else np.zeros((0, SIZE_PX * SIZE_PX), np.float32)


def border_of(flat: Num[np.ndarray, "m p"]) -> Num[np.ndarray, "m q"]:
    """Return the outermost pixels of flat thumbnails."""
    return flat[:, ~interior(SIZE_PX, SIZE_PX).reshape(-1)]
