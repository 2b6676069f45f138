"""Generate the IHC of pairs and measure it against the real one: from a stainer to numbers.

Two things decide what a density or a PSNR of a generated image means:

- *What it is compared with.* PSNR and SSIM are of the real image as it is in the file, in 8 bits,
  and of the generated image with the white put back as the run says. Where a run divides targets
  by their white point, both are also given between the images with white glass.
- *What white is in it.* A real image is measured against its slide's own white point. A generated
  one never is: a yellow background would become its white and be divided away. Its white is 1
  where the run normalises (or the white that was put back), and otherwise that of the real image,
  which it was trained to look like.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, UInt8

from medglean.arrays import UnitBatch
from medglean.data.augment import to_float
from medglean.data.cache import Progress
from medglean.errors import Problem
from medglean.measure.images import psnr, ssim
from medglean.stain import assess_notes as notes
from medglean.stain.assess import PairTable, StainAssessment, assess_pairs
from medglean.stain.levels import JUDGE
from medglean.stain.likeness import Features, of_all, open_likeness, together, why_not
from medglean.stain.measures import PairMeasures, pair_measures
from medglean.stain.model import Stainer
from medglean.stain.optics import apply_white
from medglean.stain.pairs import Pairs, image_of, target_of
from medglean.stain.registration import check_pairs
from medglean.stain.settings import StainPreset

SHOWN = 4
"""Pairs that are kept for pictures."""
AT_ONCE_PX = 1 << 20
"""Pixels that are generated at once: one image of 1024 x 1024."""

Rows = Int[np.ndarray, " m"]
Colours = UInt8[np.ndarray, "h w 3"]


class Kept(NamedTuple):
    """A generated image that is shown later, and what white is in it."""

    generated: Colours
    white: Float[np.ndarray, " 3"]


@dataclass(frozen=True)
class Made:
    """What one stainer generated of some rows, as numbers.

    Attributes
    ----------
    rows
        Positions in the manifest, shape (m,).
    table
        A number per row and column.
    kept
        Some of the images, by their row.
    cpu_seconds
        Of this process while generating, per image.
    features
        Of generated and real images, in the order of rows, where there are weights for them.
    """

    rows: Rows
    table: PairTable
    kept: Mapping[int, Kept]
    cpu_seconds: float
    features: Features | None = None


@dataclass(frozen=True)
class Measured:
    """Generated images of some rows, and what they are worth.

    Attributes
    ----------
    made
        Numbers of each pair, and some images.
    assessment
        Every measure, with intervals over patients or slides.
    ids, groups, labels
        Of the rows; an empty label is not known.
    notes
        What a careful reader should know about these numbers.
    problems
        Pairs whose images do not lie on one another.
    """

    made: Made
    assessment: StainAssessment
    ids: tuple[str, ...]
    groups: np.ndarray
    labels: tuple[str, ...]
    notes: tuple[str, ...]
    problems: list[Problem] = field(default_factory=list)

    @property
    def cpu_seconds(self) -> float:
        """Of the process while generating, per image."""
        return self.made.cpu_seconds


def measure(
    stainer: Stainer, pairs: Pairs, rows: Rows, *, progress: Progress | None = None
) -> Measured:
    """Generate rows and measure them.

    Parameters
    ----------
    stainer
        On its device.
    pairs
        Opened with targets.
    rows
        Positions with both images.
    progress
        Called as ``progress(done, total)``.
    """
    shown = shown_rows(pairs, rows, count=SHOWN)
    made = measure_rows(stainer, pairs, rows, keep=shown, progress=progress)
    return assessed(made, pairs, stainer.preset, problems=check_pairs(pairs, rows))


def measure_rows(
    stainer: Stainer,
    pairs: Pairs,
    rows: Rows,
    *,
    keep: Sequence[int] | Rows = (),
    progress: Progress | None = None,
) -> Made:
    """Generate rows, one after the other, and measure each pair.

    Parameters
    ----------
    keep
        Rows whose generated image is kept.
    """
    plain = _without_white(stainer)
    likeness = open_likeness(stainer.preset, stainer.device)
    features: list[Features] = []
    wanted = {int(row) for row in keep}
    found: list[dict[str, float]] = []
    kept: dict[int, Kept] = {}
    spent = 0.0
    height, width = pairs.images.stored.shape[-2:]
    step = max(1, AT_ONCE_PX // (height * width))
    for start in range(0, len(rows), step):
        some = np.asarray(rows[start : start + step], dtype=np.int64)
        given = image_of(pairs, some)
        before = time.process_time()
        generated = plain.stain(given)
        spent += time.process_time() - before
        judged = _judged(stainer, generated, target_of(pairs, some))
        for place, row in enumerate(map(int, some)):
            numbers, one = _measured(stainer, pairs, row, generated[place])
            real = as_colours(stored_of(pairs, row))
            numbers |= likeness.of_pair(one.generated, real)
            seen = likeness.features(one.generated, real)
            features += [] if seen is None else [seen]
            found.append(numbers | {name: one_of[place] for name, one_of in judged.items()})
            if row in wanted:
                kept[row] = one
        if progress is not None:
            progress(len(found), len(rows))
    columns = list(found[0]) if found else ["psnr", "ssim"]
    table = {name: np.array([one[name] for one in found], dtype=np.float64) for name in columns}
    return Made(
        np.asarray(rows, dtype=np.int64),
        table,
        kept,
        spent / max(1, len(rows)),
        together(features),
    )


def assessed(
    made: Made,
    pairs: Pairs,
    preset: StainPreset,
    *,
    problems: Sequence[Problem] = (),
) -> Measured:
    """Turn numbers of pairs into measures with intervals.

    Parameters
    ----------
    made
        Of rows of these pairs.
    preset
        Names the levels, and seeds the resamples.
    problems
        Pairs that correlate badly.
    """
    rows = made.rows
    names = preset.level.names
    groups = pairs.images.groups[rows]
    assessment = assess_pairs(
        made.table, groups, levels=names, whole=of_all(made.features), seed=preset.fit.seed
    )
    levels = made.table["level"]
    told = (
        *notes.on_flat(assessment.metrics),
        *notes.on_pairs(groups, grouped_by=pairs.images.manifest.grouped_by),
        *notes.on_levels(levels),
        *notes.on_judge(assessment.metrics, judge="judged.real" in made.table),
        *notes.on_registration(len(problems), len(rows)),
        *notes.on_perceptual(why_not(preset)),
    )
    return Measured(
        made,
        assessment,
        tuple(pairs.images.ids[row] for row in rows),
        groups,
        tuple(names[int(level)] if level >= 0 else "" for level in levels),
        told,
        list(problems),
    )


def result_frame(measured: Measured) -> pd.DataFrame:
    """Return the table that is written: one row per pair."""
    columns: dict[str, object] = {
        "id": measured.ids,
        "group": measured.groups,
        "label": measured.labels,
    }
    frame = pd.DataFrame(columns)
    for name, values in measured.made.table.items():
        if name in ("level", "judged.generated", "judged.real"):
            whole = pd.Series(values).round().astype("Int64")
            frame[name] = whole.where(whole >= 0)
        else:
            frame[name] = values
    return frame


def shown_rows(pairs: Pairs, rows: Rows, *, count: int) -> list[int]:
    """Choose what to show, before anything is generated: each level in turn, at even steps.

    Returns
    -------
    list
        At most ``count`` rows, from the lowest level to the highest and those without one last.
    """
    levels = pairs.levels[rows]
    order = [*sorted({int(level) for level in levels if level >= 0}, reverse=True)]
    order += [-1] * bool((levels < 0).any())
    of = {level: rows[levels == level] for level in order}
    quota = dict.fromkeys(order, 0)
    while sum(quota.values()) < min(count, len(rows)):
        for level in order:
            if quota[level] < len(of[level]) and sum(quota.values()) < count:
                quota[level] += 1
    taken = []
    for level in sorted(order, key=lambda one: (one < 0, one)):
        own, many = of[level], quota[level]
        # the middle of each of as many equal parts
        places = ((np.arange(many) + 0.5) * len(own) / max(1, many)).astype(np.int64)
        taken += own[places].tolist()
    return taken


def _without_white(stainer: Stainer) -> Stainer:
    """Return the stainer as it generates before any white is put back."""
    white = stainer.preset.white.model_copy(update={"reapply": "none"})
    return replace(stainer, preset=stainer.preset.model_copy(update={"white": white}))


def _measured(
    stainer: Stainer, pairs: Pairs, row: int, generated: Float[np.ndarray, "3 h w"]
) -> tuple[dict[str, float], Kept]:
    """Measure one pair; the mean colour is put through what the generated image is."""
    preset = stainer.preset
    own = pairs.white_targets[row]
    back = stainer.reapplied(own, image=pairs.white_images[row])
    again = np.ones(3) if back is None else np.asarray(back, dtype=np.float64)
    white = again if preset.white.normalise else own
    real = as_colours(stored_of(pairs, row))
    shown = as_colours(apply_white(generated, again))
    flat_plain = np.broadcast_to(
        np.asarray(stainer.colour, dtype=np.float32)[:, None, None], generated.shape
    )
    flat = as_colours(apply_white(flat_plain, again))
    measured = pair_measures(
        shown,
        real,
        white_fake=white,
        white_real=own,
        positive_od=preset.measure.positive_od,
        background_od=preset.measure.background_od,
    )
    numbers = {"level": float(pairs.levels[row]), **_columns(measured)}
    numbers |= {"flat.psnr": psnr(flat, real), "flat.ssim": ssim(flat, real)}
    if preset.white.normalise:
        one, other = as_colours(generated), as_colours(target_of(pairs, [row])[0])
        numbers |= {"psnr.normalised": psnr(one, other), "ssim.normalised": ssim(one, other)}
        numbers["flat.psnr.normalised"] = psnr(as_colours(flat_plain), other)
    return numbers, Kept(shown, white)


def _columns(found: PairMeasures) -> dict[str, float]:
    return {
        "psnr": found.psnr,
        "ssim": found.ssim,
        "dab.error": found.dab_error,
        "dab.mean.generated": found.dab_mean_fake,
        "dab.mean.real": found.dab_mean_real,
        "dab.p90.generated": found.dab_p90_fake,
        "dab.p90.real": found.dab_p90_real,
        "positive.generated": found.positive_fake,
        "positive.real": found.positive_real,
        "dice": found.dice_positive,
        "background.share": found.background_share,
        "background.bias": found.background_bias,
        "background.b": found.b_shift,
    }


def _judged(stainer: Stainer, generated: UnitBatch, real: UnitBatch) -> dict[str, np.ndarray]:
    """Return the level that the judge sees in generated and real images, if there is a judge."""
    if JUDGE not in stainer.networks:
        return {}
    return {
        "judged.generated": stainer.judged(generated).argmax(axis=1).astype(np.float64),
        "judged.real": stainer.judged(real).argmax(axis=1).astype(np.float64),
    }


def stored_of(pairs: Pairs, row: int) -> Float[np.ndarray, "3 h w"]:
    """Return a real image as it is in its file, in [0, 1], without any white divided out."""
    if pairs.targets is None:
        raise ValueError("the pairs were opened without targets (need_targets=False).")
    return to_float(pairs.targets.stored[row])


def as_colours(image: Float[np.ndarray, "3 h w"]) -> Colours:
    """Return an image in [0, 1] as 8 bits, channels last."""
    eight = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(np.moveaxis(eight, 0, -1))
