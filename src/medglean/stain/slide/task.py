"""From a trained stainer and a slide's file to a virtual slide's files."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import medglean
from medglean.data.slides import open_slide
from medglean.errors import RunFolderError
from medglean.stain.model import Stainer
from medglean.stain.slide.folder import PartFolder, check_room, opened, stage_of
from medglean.stain.slide.outputs import LINES, Outputs, assemble, needed_bytes, outputs_of
from medglean.stain.slide.pyramid import PyramidWriter
from medglean.stain.slide.regions import RegionFinder, cell_px
from medglean.stain.slide.render import Progress, look, paint
from medglean.stain.slide.result import (
    SlideResult,
    facts_of,
    record_of,
    result_of,
    stored_result,
)
from medglean.stain.slide.scene import Scene, make_scene
from medglean.stain.slide.source import all_tissue, find_tissue, open_level
from medglean.stain.slide.tally import tally_of

log = logging.getLogger("medglean")

READY = "ready"
"""The stage at which all files are made."""
_SAMPLE_BYTES = 1 << 20


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
        tissue = None
        if stage_of(outputs.part) != READY:  # else all is made, and only lacks its names
            tissue = find_tissue(level) if preset.slide.tissue else all_tissue(level)
            needed = needed_bytes(
                level.size_px,
                tissue_share=tissue.share,
                formats=tuple(outputs.files),
                compression=preset.slide.compression,
                quality=preset.slide.quality,
            )
            check_room(out, needed_bytes=needed, there=outputs.part)
        with opened(outputs.part, identity, resume=resume) as folder:
            if tissue is not None:
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
    result = result_of(scene, stainer, outputs, whole, tally, count, warnings)
    moves = assemble(
        folder,
        outputs,
        size_px=plan.canvas_px,
        tile_px=plan.file_tile_px,
        compression=settings.compression,
        mpp=scene.level.mpp,
        software=f"medglean {medglean.__version__}",
        facts=facts_of(stainer, scene, result),
        record=record_of(result, stainer, scene, command, folder.identity),
    )
    folder.commit(
        {"stage": READY, "moves": {name: path.name for name, path in moves.items()}}, whole=True
    )


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
