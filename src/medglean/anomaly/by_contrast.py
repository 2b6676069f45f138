r"""Maps by the contrast of the classes: how a diffusion network made one image look, told twice.

Noise of a few low levels is laid over the image, and the network predicts the clean image told
*diseased* and told *healthy*. Two measures come out of each level t (see
`medglean.anomaly.contrast`):

- what the network expects brighter of a diseased image, :math:`c_t = \hat x_0(d) - \hat x_0(h)`;
- how much closer the image is to what is expected of a diseased one,
  :math:`l_t = (x - \hat x_0(h))^2 - (x - \hat x_0(d))^2`.

Each is divided by its standard deviation over the foreground of healthy validation images, and the
mean over levels and measures is the map. Its unit is therefore that standard deviation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from jaxtyping import Bool, Float

from medglean.anomaly.contrast import noised_contrasts
from medglean.anomaly.counterparts import Generators
from medglean.anomaly.model import Mapper
from medglean.anomaly.objectives import UNET, to_network
from medglean.anomaly.prepare import DISEASED, HEALTHY
from medglean.anomaly.translate import eps_of
from medglean.errors import UsageError

MEASURES = ("difference", "likelihood ratio")


def scale_name(measure: str, level: int) -> str:
    """Return the name under which a mapper keeps the standard deviation of a measure."""
    return f"{measure} at {level}"


def contrasts_of(
    mapper: Mapper, x: Float[torch.Tensor, "b c h w"], generators: Generators
) -> Float[np.ndarray, "2 levels b c h w"]:
    """Return both measures at each level, for images in [0, 1] on the mapper's device."""
    settings = mapper.preset.translate
    network = mapper.networks[UNET]
    found = noised_contrasts(
        to_network(x, mapper.preset.diffusion),
        eps_of(network, label=DISEASED),
        eps_of(network, label=HEALTHY),
        mapper.schedule,
        levels=settings.contrast_levels,
        draws=settings.contrast_draws,
        generator=generators,
    )
    return torch.stack([found.difference, found.likelihood_ratio]).float().cpu().numpy()


def contrast_evaluations(mapper: Mapper) -> int:
    """Return how many times the network is asked for each image."""
    settings = mapper.preset.translate
    return 2 * settings.contrast_draws * len(settings.contrast_levels)


def contrast_scales(
    mapper: Mapper,
    batches: Iterator[tuple[Float[np.ndarray, "2 levels b c h w"], Bool[np.ndarray, "b h w"]]],
) -> dict[str, float]:
    """Return the standard deviation of each measure at each level, over pixels of the foreground.

    Parameters
    ----------
    batches
        `contrasts_of` healthy images, and the foreground of each. Images with a contrast that is
        not finite do not count.
    """
    levels = mapper.preset.translate.contrast_levels
    squares, count = np.zeros((len(MEASURES), len(levels))), 0
    sums = np.zeros_like(squares)
    for found, inside in batches:
        finite = np.isfinite(found).all(axis=(0, 1, 3, 4, 5))
        counted = inside & finite[:, None, None]
        values = np.moveaxis(found, 3, -1)[:, :, counted].astype(np.float64)
        sums += values.sum(axis=(2, 3))
        squares += (values**2).sum(axis=(2, 3))
        count += values[0, 0].size
    spread = np.sqrt(np.maximum(squares / max(count, 1) - (sums / max(count, 1)) ** 2, 0.0))
    spread[~(spread > 0)] = 1.0  # the classes do not differ, or there is no foreground
    return {
        scale_name(measure, level): float(spread[row, column])
        for row, measure in enumerate(MEASURES)
        for column, level in enumerate(levels)
    }


def signed_map(
    mapper: Mapper,
    found: Float[np.ndarray, "2 levels b c h w"],
) -> Float[np.ndarray, "b c h w"]:
    """Return the mean of both measures over levels, each over its standard deviation.

    Raises
    ------
    UsageError
        If the mapper's standard deviations were not measured.
    """
    scales = _scales(mapper.scales, mapper.preset.translate.contrast_levels)
    mean: np.ndarray = (found / scales[:, :, None, None, None, None]).mean(axis=(0, 1))
    return mean


def _scales(scales: Mapping[str, float], levels: tuple[int, ...]) -> np.ndarray:
    names = [[scale_name(measure, level) for level in levels] for measure in MEASURES]
    missing = [name for row in names for name in row if name not in scales]
    if missing:
        raise UsageError(
            f"the sampler 'contrast' needs the standard deviation of {missing[0]!r}, which was "
            "not measured. Measure it with measure_scales on healthy validation images."
        )
    return np.array([[scales[name] for name in row] for row in names], dtype=np.float32)
