"""The baseline without learning: lesions are bright, so the image is its own map."""

from __future__ import annotations

import numpy as np
from skimage.exposure import equalize_hist

from medglean.anomaly.inside import Maps
from medglean.anomaly.maps import median_filtered
from medglean.arrays import UnitBatch
from medglean.data.foreground import eroded, foreground_mask

BINS = 256
"""Of the histogram that is equalised, as in [1]_."""


def threshold_map(
    images: UnitBatch,
    *,
    equalise: bool = True,
    channel: int | None = None,
    erode: float = 0.06,
    median_px: int = 9,
) -> Maps:
    """Return the brightness inside the foreground as an anomaly map, after [1]_.

    Made for FLAIR, where lesions are bright. The histogram is equalised inside the foreground, so
    that a value says how large a part of the tissue is at most as bright; it then means the same in
    scans of unlike brightness. Then comes a median filter that sees only the inside.

    [1]_ equalises whole skull-stripped volumes, filters nothing before the threshold, and drops
    components of 20 voxels or less after it. Here every image is equalised by itself, since a data
    set need not be of volumes, and the skull goes by eroding the head: see
    :func:`~medglean.data.foreground.foreground_mask`. Some tissue is the brightest in every
    image, healthy ones included; the map says where to look, not whether.

    Parameters
    ----------
    images
        Values in [0, 1].
    equalise
        Whether the histogram is equalised, in 256 bins; otherwise the brightness as it is.
    channel
        The channel that is looked at; by default the mean of all. The foreground always comes from
        all channels.
    erode
        How deep inside the foreground a pixel must lie, as a share of the longer side.
    median_px
        Side of the median filter, odd; 0: none.

    Returns
    -------
    ndarray
        float32 of shape (n, h, w) in [0, 1]; 0 outside of the eroded foreground, so an image
        without foreground has a map of zeros.

    Raises
    ------
    ValueError
        If a value is NaN or infinite, the channel does not exist, or the filter's side is even.

    References
    ----------
    .. [1] Meissen, Kaissis, Rueckert. Challenging Current Semi-Supervised Anomaly Segmentation
       Methods for Brain MRI. BrainLes 2021, LNCS 12962, 2022.
    """
    if channel is not None and not 0 <= channel < images.shape[1]:
        raise ValueError(
            f"channel is {channel}: expected 0 to {images.shape[1] - 1}, a position among the "
            "channels, or None for their mean."
        )
    inside = eroded(foreground_mask(images), share=erode)
    grey = images.mean(axis=1, dtype=np.float32) if channel is None else images[:, channel]
    maps = np.zeros(inside.shape, dtype=np.float32)
    for place, where in enumerate(inside):
        if not where.any():
            continue
        values = grey[place][where]
        if equalise:
            values = equalize_hist(values, nbins=BINS)  # type: ignore[no-untyped-call]
        maps[place][where] = values
    return median_filtered(maps, side_px=median_px, inside=inside)
