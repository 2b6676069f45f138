"""What came of a slide, and the record that says so beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import medglean
from medglean.errors import RunFolderError
from medglean.runs.report import RESEARCH_ONLY
from medglean.stain.model import Stainer
from medglean.stain.slide.legend import NOTICE
from medglean.stain.slide.outputs import Outputs
from medglean.stain.slide.painter import WholeSlide
from medglean.stain.slide.pyramid import level_sizes
from medglean.stain.slide.scene import Scene
from medglean.stain.slide.tally import Tally


@dataclass(frozen=True)
class SlideResult:
    """What came of one slide; its record file holds the same.

    Attributes
    ----------
    paths
        The files, the one that was asked for first; the tiles of a ``.dzi`` are beside it.
    size_px
        Height and width of what was written.
    slide_px
        Height and width of what was stained: less high, where the legend lies below the slide.
    mpp
        Micrometres per pixel along y and x.
    level_sizes_px
        Height and width of each level of the pyramid.
    tissue_share
        Share of the slide's pixels that are tissue, and were stained.
    dab_mean, dab_p90
        Mean and 90th percentile of the optical density of DAB over the tissue; None without any.
    dab_positive
        Share of the tissue at or above ``measure.positive_od``.
    dab_positive_mm2
        The same as an area.
    regions
        How many regions were outlined; None where this was not asked for.
    level
        The expression level that the classifier tells from the H&E; None where there is none.
    level_probabilities
        Of all levels, by name.
    tile_px, overlap_px, feather_px
        As used; the overlap before and after a tile.
    attention
        ``slide`` or ``tile``; ``none`` where the network has none.
    legend_px
        Upper left corner y, x, height and width of the legend; None without one.
    seconds
        What was waited for: the reader (``reading``), the networks in the first and the second pass
        (``looking``, ``generating``), the thread that blends, counts and writes (``waiting``), the
        disk (``committing``); and what that thread did meanwhile (``blending``, ``writing``).
        Attempts before a ``resume`` are included.
    generated_megapixels
        What the generator was given, overlaps included.
    warnings
        What a careful user should know.
    """

    paths: tuple[Path, ...]
    size_px: tuple[int, int]
    slide_px: tuple[int, int]
    mpp: tuple[float, float]
    level_sizes_px: tuple[tuple[int, int], ...]
    tissue_share: float
    dab_mean: float | None
    dab_p90: float | None
    dab_positive: float | None
    dab_positive_mm2: float
    regions: int | None
    level: str | None
    level_probabilities: dict[str, float]
    tile_px: int
    overlap_px: tuple[int, int]
    feather_px: int
    attention: str
    legend_px: tuple[int, int, int, int] | None
    seconds: dict[str, float]
    generated_megapixels: float
    warnings: tuple[str, ...] = ()


def result_of(
    scene: Scene,
    stainer: Stainer,
    outputs: Outputs,
    whole: WholeSlide,
    tally: Tally,
    regions: int | None,
    warnings: Sequence[str],
) -> SlideResult:
    """Return what was counted, with the names that files will have."""
    plan, mpp = scene.plan, scene.level.mpp
    pixel_mm2 = mpp[0] * mpp[1] * 1e-6
    names = stainer.preset.level.names
    found = {}
    if whole.levels is not None and whole.weight > 0:
        found = dict(zip(names, (whole.levels / whole.weight).tolist(), strict=True))
    attention = "none"
    if scene.painter.has_attention:
        attention = "slide" if scene.gathers_sums else "tile"
    legend = scene.legend
    paths = [*outputs.files.values(), *([] if outputs.regions is None else [outputs.regions])]
    return SlideResult(
        paths=(*paths, outputs.record),
        size_px=plan.canvas_px,
        slide_px=plan.slide_px,
        mpp=mpp,
        level_sizes_px=tuple(level_sizes(plan.canvas_px, plan.file_tile_px)),
        tissue_share=tally.tissue_px / (plan.slide_px[0] * plan.slide_px[1]),
        dab_mean=tally.mean_density(),
        dab_p90=tally.density_above(0.9),
        dab_positive=tally.positive_px / tally.tissue_px if tally.tissue_px else None,
        dab_positive_mm2=tally.positive_px * pixel_mm2,
        regions=regions,
        level=max(found, key=lambda name: found[name]) if found else None,
        level_probabilities=found,
        tile_px=plan.tile_px,
        overlap_px=plan.overlap_px,
        feather_px=plan.feather_px,
        attention=attention,
        legend_px=None if legend is None else (legend.y, legend.x, *legend.grey.shape),
        seconds={name: round(each, 3) for name, each in tally.seconds.items()},
        generated_megapixels=round(tally.generated_px / 1e6, 3),
        warnings=tuple(warnings),
    )


def facts_of(stainer: Stainer, scene: Scene, result: SlideResult) -> dict[str, str]:
    """Return where a virtual slide comes from, for its metadata; nothing of the time it took."""
    return {
        "Disclaimer": RESEARCH_ONLY,
        "Software": f"medglean {medglean.__version__}",
        "Preset": stainer.preset.name,
        "Weights": stainer.weights_sha256,
        "Slide": scene.level.slide.path.name,
        "SlideLevel": str(scene.level.number),
        "Attention": result.attention,
        "TilePx": str(result.tile_px),
        "OverlapPx": " ".join(map(str, result.overlap_px)),
    }


def record_of(
    result: SlideResult,
    stainer: Stainer,
    scene: Scene,
    command: Sequence[str],
    identity: dict[str, Any],
) -> dict[str, Any]:
    """Return what the record file says: the result, where it comes from, what it belongs to."""
    said = asdict(result) | {"paths": [path.name for path in result.paths]}
    return {
        "notice": NOTICE,
        "disclaimer": RESEARCH_ONLY,
        "provenance": facts_of(stainer, scene, result),
        "command": list(command),
        "result": said,
        "identity": identity,
    }


def stored_result(outputs: Outputs, identity: dict[str, Any]) -> SlideResult:
    """Return the result of a finished rendering from its record.

    Raises
    ------
    RunFolderError
        If it is of another slide, run or settings.
    """
    record = json.loads(outputs.record.read_text(encoding="utf-8"))
    different = [key for key, value in identity.items() if record["identity"].get(key) != value]
    if different:
        raise RunFolderError(
            f"{outputs.record}: is there already, and differs in {', '.join(different)}. Choose "
            "another name with --out, or remove it."
        )
    said = record["result"]
    folder = outputs.record.parent
    values = {each.name: said[each.name] for each in fields(SlideResult)}
    for name in ("size_px", "slide_px", "mpp", "overlap_px", "warnings"):
        values[name] = tuple(values[name])
    values["level_sizes_px"] = tuple(tuple(size) for size in values["level_sizes_px"])
    if values["legend_px"] is not None:
        values["legend_px"] = tuple(values["legend_px"])
    values["paths"] = tuple(folder / name for name in values["paths"])
    return SlideResult(**values)
