"""From one row of measures per pair to every number of a report, with intervals over patients.

What is measured of one pair stands in a `PairTable`; here it becomes means, correlations and shares
with their intervals. PSNR misleads for stains: one flat colour often beats trained networks, so
that of the training images' mean colour is measured on the same pairs and stands beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from medglean.measure.intervals import Interval
from medglean.measure.map_values import mean_of_defined
from medglean.measure.resting import Measure, difference, intervals_of
from medglean.measure.weighted import Statistic

PSNR = "PSNR"
FLAT_PSNR = "PSNR of the mean colour"
GAIN = "PSNR over the mean colour"
SSIM = "SSIM"
FLAT_SSIM = "SSIM of the mean colour"
NORMALISED = ", white-normalised"
"""What is added to the names of PSNR and SSIM between images whose glass is white."""
LPIPS = "LPIPS"
FID = "FID"
INCEPTION = "inception score"
DAB_ERROR = "DAB mean OD error"
DAB_ABSOLUTE = "DAB mean OD error, absolute"
DAB_R = "Pearson r of mean DAB OD"
DAB_R90 = "Pearson r of 90th percentile of DAB OD"
DICE = "Dice of DAB-positive pixels"
BACKGROUND = "background DAB bias"
BACKGROUND_ABSOLUTE = "background DAB bias, absolute"
B_SHIFT = "background b* shift"
AGREEMENT = "level agreement"
AGREES_WITH_LABEL = "level agreement with the label"
JUDGE = "judge's accuracy on real IHC"

MEANS = {
    PSNR: "psnr",
    FLAT_PSNR: "flat.psnr",
    SSIM: "ssim",
    FLAT_SSIM: "flat.ssim",
    PSNR + NORMALISED: "psnr.normalised",
    FLAT_PSNR + NORMALISED: "flat.psnr.normalised",
    SSIM + NORMALISED: "ssim.normalised",
    LPIPS: "lpips",
    DAB_ERROR: "dab.error",
    DICE: "dice",
    BACKGROUND: "background.bias",
    B_SHIFT: "background.b",
}
"""Measures that are means over pairs, and the column that each is of."""
COMPARED = (
    PSNR,
    SSIM,
    LPIPS,
    DAB_ABSOLUTE,
    DICE,
    BACKGROUND_ABSOLUTE,
    DAB_R,
    AGREEMENT,
)
"""Measures of which `difference_of` tells differences."""
LESS_IS_BETTER = frozenset({LPIPS, DAB_ABSOLUTE, BACKGROUND_ABSOLUTE, FID})
BY_LEVEL = (PSNR, SSIM, DAB_ERROR, DICE, BACKGROUND)
UNITS = {
    PSNR: "dB",
    FLAT_PSNR: "dB",
    GAIN: "dB",
    PSNR + NORMALISED: "dB",
    FLAT_PSNR + NORMALISED: "dB",
}

PairTable = Mapping[str, np.ndarray]
"""A number per pair and column, NaN where it is undefined; see `medglean.stain.measured`."""


@dataclass(frozen=True)
class StainAssessment:
    """What the generated images of one method are worth.

    Attributes
    ----------
    metrics
        By the names above; those that need what is not there are absent. Undefined ones are NaN,
        and their note says why.
    by_level
        Some of them for the pairs of each level, by its name.
    n, identical
        Pairs, and those whose generated image equals the real one in every bit: their PSNR is
        infinite and not in its mean.
    measures, groups
        What `difference_of` needs: statistics with their pairs, and the patient of each.
    """

    metrics: dict[str, Interval]
    by_level: dict[str, dict[str, Interval]]
    n: int
    identical: int
    measures: dict[str, Measure] = field(repr=False)
    groups: np.ndarray = field(repr=False)

    @property
    def primary(self) -> tuple[str, Interval]:
        """Name and interval of the measure to quote."""
        name = next(iter(self.metrics))
        return name, self.metrics[name]


def assess_pairs(
    table: PairTable,
    groups: Sequence[object] | np.ndarray,
    *,
    levels: Sequence[str] = (),
    whole: Mapping[str, tuple[float, str]] | None = None,
    replicates: int = 2000,
    seed: int = 0,
) -> StainAssessment:
    """Measure one method over pairs.

    Parameters
    ----------
    table
        Columns of shape (n,): ``psnr`` and ``ssim`` at least.
    groups
        The patient or slide of each pair: whole groups are resampled.
    levels
        Names of the levels that the column ``level`` counts, for the parts by level.
    whole
        Measures of all images together, such as FID, each with its value and a sentence; they
        have no interval, as their bias depends on the number of images.
    replicates, seed
        Of the bootstrap.
    """
    groups = np.asarray(groups)
    measures = measures_of(table)
    found = intervals_of(measures, groups, replicates=replicates, seed=seed)
    identical = int(np.isposinf(table["psnr"]).sum())
    if identical:
        told = f"{identical} pairs equal in every bit are left out: their PSNR is infinite"
        found[PSNR] = _noted(found[PSNR], told)
    for name, (value, note) in (whole or {}).items():
        nan = float("nan")
        count = len(np.unique(groups))
        found[name] = Interval(value, nan, nan, 0.95, len(groups), count, 0, 0, note)
    by_level: dict[str, dict[str, Interval]] = {}
    for number, name in enumerate(levels):
        own = np.flatnonzero(np.asarray(table.get("level", np.full(len(groups), -1))) == number)
        if len(own):
            part = measures_of({column: values[own] for column, values in table.items()})
            wanted = {key: part[key] for key in BY_LEVEL if key in part}
            by_level[name] = intervals_of(wanted, groups[own], replicates=replicates, seed=seed)
    return StainAssessment(found, by_level, len(groups), identical, measures, groups)


def measures_of(table: PairTable) -> dict[str, Measure]:
    """Return every measure that the columns of a table allow, in the order of a report."""
    rows = np.arange(len(table["psnr"]))
    measures: dict[str, Measure] = {}
    for name, column in MEANS.items():
        if column not in table:
            continue
        values = _defined(table[column])
        measures[name] = Measure(mean_of_defined(values), rows)
        if name == FLAT_PSNR:
            gain = _defined(table["psnr"]) - values
            measures[GAIN] = Measure(mean_of_defined(gain), rows)
        if name == DAB_ERROR:
            measures[DAB_ABSOLUTE] = Measure(mean_of_defined(np.abs(values)), rows)
            for told, of in ((DAB_R, "mean"), (DAB_R90, "p90")):
                both = table[f"dab.{of}.generated"], table[f"dab.{of}.real"]
                measures[told] = Measure(pearson(*both), rows)
        if name == BACKGROUND:
            measures[BACKGROUND_ABSOLUTE] = Measure(mean_of_defined(np.abs(values)), rows)
    return measures | _judged(table)


def difference_of(
    first: StainAssessment, second: StainAssessment, *, replicates: int = 2000, seed: int = 0
) -> dict[str, Interval]:
    """Return the first method's measures less the second's, on the same resampled patients.

    Parameters
    ----------
    first, second
        Of the same pairs in the same order.

    Returns
    -------
    dict
        For the measures of `COMPARED` that both have, and PSNR and SSIM between white-normalised
        images; an interval that holds 0 shows no difference.

    Raises
    ------
    ValueError
        If they are not of the same pairs.
    """
    if not np.array_equal(first.groups, second.groups):
        raise ValueError(
            f"expected two methods on the same pairs, found {len(first.groups)} and "
            f"{len(second.groups)} pairs, or other patients. Assess both on one list."
        )
    names = (*COMPARED, PSNR + NORMALISED, SSIM + NORMALISED)
    gaps = {
        name: difference(first.measures[name], second.measures[name])
        for name in names
        if name in first.measures and name in second.measures
    }
    return intervals_of(gaps, first.groups, replicates=replicates, seed=seed)


def pearson(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> Statistic:
    """Pearson's correlation; undefined with fewer than 3 different pairs or without spread.

    Examples
    --------
    >>> x = np.array([0.1, 0.2, 0.4])
    >>> pearson(x, 2 * x)(np.array([[1, 1], [1, 1], [1, 0]])).round(6).tolist()
    [1.0, nan]
    """
    there = np.isfinite(x) & np.isfinite(y)
    middle = (x[there].mean(), y[there].mean()) if there.any() else (0.0, 0.0)
    u = np.where(there, np.nan_to_num(x) - middle[0], 0.0)
    v = np.where(there, np.nan_to_num(y) - middle[1], 0.0)
    parts = np.stack([there, u, v, u * v, u * u, v * v]).astype(np.float64)

    def statistic(weights: np.ndarray) -> np.ndarray:
        total, *sums = parts @ weights
        mean_u, mean_v, uv, uu, vv = (one / np.maximum(total, 1) for one in sums)
        spread_u, spread_v = uu - mean_u**2, vv - mean_v**2
        different = (weights[there] > 0).sum(axis=0)
        # densities to a ten-millionth are equal: what differs there is rounding
        fit = (different >= 3) & (spread_u > 1e-14) & (spread_v > 1e-14)
        scale = np.sqrt(np.where(fit, spread_u * spread_v, 1.0))
        return np.where(fit, np.clip((uv - mean_u * mean_v) / scale, -1, 1), np.nan)

    return statistic


def _judged(table: PairTable) -> dict[str, Measure]:
    """Return what the judge of the level says, on the pairs that it can be asked about."""
    if "judged.generated" not in table or "judged.real" not in table:
        return {}
    generated, real = table["judged.generated"], table["judged.real"]
    level = table.get("level", np.full(len(real), -1))
    asked = np.flatnonzero(real >= 0)
    labelled = np.flatnonzero((real >= 0) & (level >= 0))
    found = {AGREEMENT: (generated, real, asked)}
    if len(labelled):
        found[AGREES_WITH_LABEL] = (generated, level, labelled)
        found[JUDGE] = (real, level, labelled)
    return {
        name: Measure(mean_of_defined((one[rows] == other[rows]).astype(np.float64)), rows)
        for name, (one, other, rows) in found.items()
        if len(rows)
    }


def _defined(values: np.ndarray) -> np.ndarray:
    """Return values as float64, NaN where they are infinite."""
    numbers = np.asarray(values, dtype=np.float64)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _noted(interval: Interval, note: str) -> Interval:
    told = "; ".join(part for part in (note, interval.note) if part)
    return Interval(**{**vars(interval), "note": told})
