"""What is to be generated of a slide, settled before the first tile."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from medglean.data.slides import slide_white
from medglean.stain.model import Stainer
from medglean.stain.settings import StainPreset
from medglean.stain.slide.legend import Legend, legend_below, place_legend
from medglean.stain.slide.painter import Painter
from medglean.stain.slide.plan import Box, TilePlan, plan_tiles
from medglean.stain.slide.regions import DabTables
from medglean.stain.slide.source import SlideLevel, Tissue

MOST_OFF = 1.2
"""How many times the resolution may differ from that of training before it is told."""


@dataclass(frozen=True)
class Scene:
    """What is to be generated.

    Attributes
    ----------
    level
        The slide, at the level that is stained.
    plan
        Where tiles lie.
    tissue
        What is stained; the rest becomes white.
    painter
        The networks.
    patch_px
        Height and width of the training images, in which the level's classifier looks.
    over_slide
        Whether attention and level features are those of the whole slide.
    legend
        Words to draw; None: none.
    density
        Optical density of DAB.
    positive_od
        From which density on a pixel is positive.
    """

    level: SlideLevel
    plan: TilePlan
    tissue: Tissue
    painter: Painter
    patch_px: tuple[int, int]
    over_slide: bool
    legend: Legend | None
    density: DabTables
    positive_od: float

    @property
    def gathers_sums(self) -> bool:
        """Whether the first pass sums up keys and values."""
        return self.over_slide and self.painter.has_sums

    @cached_property
    def all_tiles(self) -> tuple[tuple[int, int], ...]:
        """Row and column of the tiles whose extent holds tissue, in order."""
        plan = self.plan
        return tuple(
            (row, column)
            for row in range(plan.rows)
            for column in range(plan.columns)
            if plan.on_slide(row, column) and self.tissue.any_in(plan.extent(row, column))
        )

    @cached_property
    def all_token_tiles(self) -> tuple[tuple[int, int], ...]:
        """Those whose own core holds tissue: their tokens take part in attention."""
        return tuple(tile for tile in self.all_tiles if self.tissue.any_in(self.plan.core(*tile)))

    def tiles(self, first_row: int = 0) -> list[tuple[int, int]]:
        """Return the tiles that are generated, from a row on."""
        return [tile for tile in self.all_tiles if tile[0] >= first_row]

    def token_tiles(self, first_row: int = 0) -> list[tuple[int, int]]:
        """Return the tiles whose tokens are summed up, from a row on."""
        return [tile for tile in self.all_token_tiles if tile[0] >= first_row]

    def patches(self, first_row: int = 0) -> list[tuple[int, Box]]:
        """Return the row, and the place, of patches that hold tissue."""
        height, width = self.patch_px
        found = []
        for row in range(first_row, -(-self.plan.slide_px[0] // height)):
            for column in range(-(-self.plan.slide_px[1] // width)):
                y, x = row * height, column * width
                box = Box(y, y + height, x, x + width)
                if self.tissue.any_in(box):
                    found.append((row, box))
        return found


def make_scene(stainer: Stainer, level: SlideLevel, tissue: Tissue) -> tuple[Scene, list[str]]:
    """Return what is to be generated, and what a user should know of it beforehand."""
    preset, settings = stainer.preset, stainer.preset.slide
    white_in = None
    if preset.white.inputs or "input" in (settings.white, preset.white.reapply):
        white_in = slide_white(level.slide, percentile=preset.white.percentile)
    white_out, glass = output_white(stainer, white_in)
    painter = Painter(
        stainer, white_in=white_in if preset.white.inputs else None, white_out=white_out
    )
    warnings = []
    if (told := resolution_warning(preset, level)) is not None:
        warnings.append(told)
    over_slide = settings.attention == "slide"
    if over_slide and painter.has_attention and not painter.can_sum:
        warnings.append(
            f"{level.slide.path}: generator.attention.kind is 'softmax', which has no sums over a "
            "slide: attention is over each tile with its overlap, so tiles may differ. Train with "
            "'favor' or 'elu' for attention over the slide."
        )
    legend = None
    if preset.predict.legend:
        legend = place_legend(tissue.mask >= 0.5, level.size_px)
        if legend is None:
            legend = legend_below(level.size_px)
            warnings.append(
                f"{level.slide.path}: has no room for the legend beside its tissue: the image is "
                f"{len(legend.grey)} pixels higher than the slide, and the legend lies there."
            )
    plan = plan_tiles(
        level.size_px,
        tile_px=settings.tile_px,
        stride_px=painter.stride_px,
        reach_px=painter.reach_px,
        overlap_px=settings.overlap_px,
        feather_px=settings.feather_px,
        below_px=_below(legend, level.size_px),
    )
    scene = Scene(
        level=level,
        plan=plan,
        tissue=tissue,
        painter=painter,
        patch_px=preset.images.size_px,
        over_slide=over_slide,
        legend=legend,
        density=DabTables(glass),
        positive_od=preset.measure.positive_od,
    )
    return scene, warnings


def _below(legend: Legend | None, size_px: tuple[int, int]) -> int:
    if legend is None:
        return 0
    return max(0, legend.y + int(legend.grey.shape[0]) - size_px[0])


def output_white(
    stainer: Stainer, slide: Float[np.ndarray, " 3"] | None
) -> tuple[Float[np.ndarray, " 3"] | None, Float[np.ndarray, " 3"]]:
    """Return what generated pixels are multiplied by, and how white glass is in the result.

    Parameters
    ----------
    stainer
        Its preset decides.
    slide
        White point of the H&E slide, for ``slide.white=input``.
    """
    preset = stainer.preset
    kind = preset.slide.white
    if kind == "preset":  # the own white of a target is not known for a slide
        kind = preset.white.reapply if preset.white.reapply in ("none", "input") else "training"
    factor = {"none": None, "training": stainer.white, "input": slide}[kind]
    # where targets were not normalised, the network gives their white itself
    before = np.ones(3) if preset.white.normalise else np.asarray(stainer.white)
    return factor, before * (1.0 if factor is None else factor)


def resolution_warning(preset: StainPreset, level: SlideLevel) -> str | None:
    """Return what to say of a slide whose resolution is not that of training."""
    trained = preset.slide.train_mpp
    if trained is None:
        return None
    ratio = max(max(each / trained, trained / each) for each in level.mpp)
    if ratio <= MOST_OFF:
        return None
    shown = " x ".join(f"{each:.3g}" for each in level.mpp)
    better = [
        number
        for number, one in enumerate(level.slide.levels)
        if 1 / MOST_OFF
        <= one.downsample * level.mpp[0] / level.slide.levels[level.number].downsample / trained
        <= MOST_OFF
    ]
    remedy = f"slide.level={better[0]} fits better" if better else "no level of the slide fits"
    return (
        f"{level.slide.path}: level {level.number} has {shown} micrometres per pixel, and the "
        f"network was trained at {trained:.3g}: what it makes of cells of another size is not "
        f"known ({remedy})."
    )
