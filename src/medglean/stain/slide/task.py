"""From a trained stainer and a slide's file to a virtual slide's files."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

import medglean
from medglean.data.slides import open_slide, slide_white
from medglean.errors import RunFolderError
from medglean.runs.report import RESEARCH_ONLY
from medglean.stain.model import Stainer
from medglean.stain.settings import StainPreset
from medglean.stain.slide.folder import PartFolder, check_room, opened
from medglean.stain.slide.legend import NOTICE, Legend, legend_below, place_legend
from medglean.stain.slide.outputs import LINES, Outputs, assemble, needed_bytes, outputs_of
from medglean.stain.slide.painter import Painter, WholeSlide
from medglean.stain.slide.plan import plan_tiles
from medglean.stain.slide.pyramid import PyramidWriter, level_sizes
from medglean.stain.slide.regions import DabTables, RegionFinder, cell_px
from medglean.stain.slide.render import Progress, Scene, Tally, look, paint
from medglean.stain.slide.source import SlideLevel, Tissue, all_tissue, find_tissue, open_level

log = logging.getLogger("medglean")

MOST_OFF = 1.2
"""How many times the resolution may differ from that of training before it is told."""
_SAMPLE_BYTES = 1 << 20


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
        Waiting for the reader (``reading``), in the first pass (``looking``), in the generator,
        blending and counting, and in the writer, attempts before a ``resume`` included.
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


def stain_slide_file(
    stainer: Stainer,
    slide_path: Path,
    out: Path,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    command: Sequence[str] = (),
) -> SlideResult:
    """Stain a whole slide, as the settings ``slide`` and ``predict`` of the stainer's preset say.

    While it is worked on, everything lies in the folder ``OUT.part`` beside the output. A process
    that is killed there leaves whole rows of tiles, from which ``resume`` goes on: the files that
    come out are the same, byte by byte, on the same device.

    Parameters
    ----------
    stainer
        On its device.
    slide_path
        Any file that `medglean.data.slides.open_slide` opens.
    out
        A name that ends in ``.ome.tif``, ``.tif`` or ``.dzi``. Other formats, the regions
        (``.geojson``) and a record (``.json``) get the same name with their own ending.
    resume
        Go on where an earlier call stopped. What is finished already is returned as it is.
    progress
        Called as ``progress(done, total)`` with tiles of both passes.
    command
        The command line, for the record.

    Returns
    -------
    SlideResult
        Where the files are, and what was counted.

    Raises
    ------
    UsageError
        If the output's name tells no format, or tile, overlap and feather do not go together.
    DataError
        If the slide cannot be read (`ReadError`), has no such level, tissue or resolution, or if
        the disk has not the room for the whole of it.
    RunFolderError
        If the output is there already, another rendering lies in ``OUT.part``, or the disk becomes
        full; what was written then stays, for ``resume``.
    """
    preset = stainer.preset
    outputs = outputs_of(out, preset.slide.formats, regions=preset.slide.regions)
    identity = identity_of(stainer, slide_path)
    if resume and outputs.record.is_file() and not outputs.part.is_dir():
        return stored_result(outputs, identity)
    if not (resume and outputs.part.is_dir()):
        _check_free(outputs)
    with open_slide(slide_path) as slide:
        level = open_level(slide, preset.slide.level, mpp=preset.slide.mpp)
        tissue = find_tissue(level) if preset.slide.tissue else all_tissue(level)
        check_room(
            out,
            needed_bytes=needed_bytes(
                level.size_px,
                tissue_share=tissue.share,
                formats=tuple(outputs.files),
                compression=preset.slide.compression,
                quality=preset.slide.quality,
            ),
            there=outputs.part,
        )
        with opened(outputs.part, identity, resume=resume) as folder:
            if folder.state.get("stage") != "ready":
                scene, warnings = make_scene(stainer, level, tissue)
                _render(scene, stainer, folder, outputs, progress, command, warnings)
            folder.publish({name: out.parent / to for name, to in folder.state["moves"].items()})
            result = stored_result(outputs, identity)
            folder.remove()
    return result


def _render(
    scene: Scene,
    stainer: Stainer,
    folder: PartFolder,
    outputs: Outputs,
    progress: Progress | None,
    command: Sequence[str],
    warnings: Sequence[str],
) -> None:
    """Do both passes, assemble the files, and commit that they are ready."""
    settings, plan = stainer.preset.slide, scene.plan
    tally = tally_of(folder)
    advance = _Advance(scene, folder, progress)
    with PyramidWriter(
        folder,
        size_px=plan.canvas_px,
        tile_px=plan.file_tile_px,
        compression=settings.compression,
        quality=settings.quality,
        deep_zoom="dzi" in outputs.files,
        threads=max(1, min(4, os.cpu_count() or 1)),
    ) as writer:
        regions = None
        if outputs.regions is not None:
            regions = RegionFinder(
                folder.append_to(LINES),
                size_px=plan.slide_px,
                side_px=cell_px(min(scene.level.mpp), plan.tile_px, plan.slide_px),
                mpp=scene.level.mpp,
                smallest_um2=settings.smallest_region_um2,
            )
        whole = look(scene, folder, tally, advance)
        of_slide = scene.painter.of_slide(whole, over_slide=scene.over_slide)
        paint(scene, folder, writer, regions, of_slide, whole, tally, advance)
    count = None if regions is None else regions.count
    result = _result(scene, stainer, outputs, whole, tally, count, warnings)
    moves = assemble(
        folder,
        outputs,
        size_px=plan.canvas_px,
        tile_px=plan.file_tile_px,
        compression=settings.compression,
        mpp=scene.level.mpp,
        software=f"medglean {medglean.__version__}",
        facts=facts_of(stainer, scene, result),
        record=_record(result, stainer, scene, command, folder.identity),
    )
    folder.commit(
        {"stage": "ready", "moves": {name: path.name for name, path in moves.items()}}, whole=True
    )


def make_scene(stainer: Stainer, level: SlideLevel, tissue: Tissue) -> tuple[Scene, list[str]]:
    """Return what is to be generated, and what a user should know of it beforehand."""
    preset, settings = stainer.preset, stainer.preset.slide
    white_in = None
    if preset.white.inputs or settings.white == "input":
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
        kind = "none" if preset.white.reapply == "none" else "training"
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


def tally_of(folder: PartFolder) -> Tally:
    """Return the counts of an earlier attempt, or none."""
    tally = Tally()
    tally.seconds |= folder.state.get("seconds", {})
    for name in ("tissue_px", "positive_px", "generated_px"):
        setattr(tally, name, int(folder.state.get(name, 0)))
    return tally


def identity_of(stainer: Stainer, slide_path: Path) -> dict[str, Any]:
    """Return what must be the same for a rendering to go on; fast also for large slides."""
    preset, found = stainer.preset, Path(slide_path)
    sample = hashlib.sha256()
    if found.is_file():
        with found.open("rb") as file:
            sample.update(file.read(_SAMPLE_BYTES))
            file.seek(max(0, found.stat().st_size - _SAMPLE_BYTES))
            sample.update(file.read(_SAMPLE_BYTES))
    return {
        "the slide": [found.stat().st_size if found.is_file() else -1, sample.hexdigest()],
        "the weights": stainer.weights_sha256,
        "the device": stainer.device.type,
        "the settings of slide": preset.slide.model_dump(mode="json"),
        "the settings of predict": preset.predict.model_dump(mode="json"),
        "the settings of white": preset.white.model_dump(mode="json"),
        "measure.positive_od": preset.measure.positive_od,
    }


def _check_free(outputs: Outputs) -> None:
    if not outputs.record.parent.is_dir():
        raise RunFolderError(
            f"{outputs.record.parent}: no such folder. Make it, or choose another one with --out."
        )
    for path in outputs.all:
        if path.exists():
            raise RunFolderError(
                f"{path}: is there already. Choose another name with --out, or remove it."
            )


class _Advance:
    """Counts tiles for the progress, those of an earlier attempt included."""

    def __init__(self, scene: Scene, folder: PartFolder, progress: Progress | None) -> None:
        patches = len(scene.patches()) if scene.painter.has_classifier else 0
        tokens = len(scene.token_tiles()) if scene.gathers_sums else 0
        self.total = patches + tokens + len(scene.tiles())
        stage, row = folder.state.get("stage", "patches"), int(folder.state.get("row", 0))
        left = len(scene.tiles(row if stage == "tiles" else 0))
        if stage != "tiles" and tokens:
            left += len(scene.token_tiles(row if stage == "tokens" else 0))
        if stage == "patches" and patches:
            left += len(scene.patches(row))
        self.done, self.progress = self.total - left, progress

    def __call__(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)


def _result(
    scene: Scene,
    stainer: Stainer,
    outputs: Outputs,
    whole: WholeSlide,
    tally: Tally,
    regions: int | None,
    warnings: Sequence[str],
) -> SlideResult:
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


def _record(
    result: SlideResult,
    stainer: Stainer,
    scene: Scene,
    command: Sequence[str],
    identity: dict[str, Any],
) -> dict[str, Any]:
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
