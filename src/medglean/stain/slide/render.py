"""A slide generated tile by tile, in one pass or two.

The first pass gathers what every tile has to know of the whole slide: the sums of attention's keys
and values, and the features of the expression level. The second generates. Both go row by row, and
after each row what was done is committed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from jaxtyping import UInt8

from medglean.stain.slide.blend import Blender
from medglean.stain.slide.folder import PartFolder
from medglean.stain.slide.painter import OfSlide, WholeSlide
from medglean.stain.slide.plan import Box, rounded_up
from medglean.stain.slide.pyramid import WHITE, PyramidWriter
from medglean.stain.slide.regions import RegionFinder, cells_of
from medglean.stain.slide.scene import Scene
from medglean.stain.slide.source import SlideLevel
from medglean.stain.slide.tally import Tally

AHEAD = 2
"""Windows that are read while one is generated."""
BEHIND = 2
"""Tiles that may still have to be finished while one is generated."""

Progress = Callable[[int, int], None]
"""Called with the tiles that are done, and all."""


def read_ahead(
    level: SlideLevel, boxes: Iterable[Box], seconds: dict[str, float]
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Read windows in a thread, a few ahead of the one that is asked for.

    The time that the caller waits counts as ``reading``.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="read") as pool:
        waiting: deque[Future[np.ndarray]] = deque()
        rest = iter(boxes)
        try:
            while True:
                for box in rest:
                    waiting.append(pool.submit(level.read, box))
                    if len(waiting) >= AHEAD:
                        break
                if not waiting:
                    return
                start = time.perf_counter()
                pixels = waiting.popleft().result()
                seconds["reading"] += time.perf_counter() - start
                yield pixels
        finally:
            for future in waiting:
                future.cancel()


def look(
    scene: Scene,
    folder: PartFolder,
    tally: Tally,
    advance: Callable[[], None],
) -> WholeSlide:
    """Gather what tiles have to know of the whole slide, from where an earlier attempt stopped."""
    state = dict(folder.state)
    whole = WholeSlide.from_arrays(folder.arrays())
    for stage in ("patches", "tokens"):
        if state.get("stage", "patches") != stage:
            continue
        first = int(state.get("row", 0))
        work = _patch_work(scene, first) if stage == "patches" else _token_work(scene, first)
        windows = read_ahead(scene.level, [box for _, box, _ in work], tally.seconds)
        for place, ((row, box, inside), pixels) in enumerate(zip(work, windows, strict=True)):
            start = time.perf_counter()
            if inside is None:
                share = float(scene.tissue.inside(box).mean())
                if share:
                    features, levels = scene.painter.seen_in(pixels)
                    whole.add_features(features, levels, share)
            else:
                whole.add_sums(scene.painter.sums_of(pixels, inside))
            tally.seconds["looking"] += time.perf_counter() - start
            advance()
            if place + 1 == len(work) or work[place + 1][0] != row:
                kept = {"stage": stage, "row": row + 1, "seconds": tally.seconds}
                folder.commit(kept, whole.arrays())
        following = {"patches": "tokens", "tokens": "tiles"}[stage]
        state = {"stage": following, "row": 0, "seconds": tally.seconds}
        folder.commit(state, whole.arrays())
    return whole


Work = list[tuple[int, Box, "tuple[slice, slice] | None"]]


def _patch_work(scene: Scene, first_row: int) -> Work:
    if not scene.painter.has_classifier:
        return []
    return [(row, box, None) for row, box in scene.patches(first_row)]


def _token_work(scene: Scene, first_row: int) -> Work:
    if not scene.gathers_sums:
        return []
    plan = scene.plan
    # tokens see less far than pixels of the result: the decoder has no part in them
    reach = rounded_up(scene.painter.token_reach_px, plan.stride_px)
    work: Work = []
    for row, column in scene.token_tiles(first_row):
        window = plan.window(row, column, overlap_px=(reach, reach))
        work.append((row, window, plan.core_of_tokens(row, column).within(window)))
    return work


def paint(
    scene: Scene,
    folder: PartFolder,
    writer: PyramidWriter,
    regions: RegionFinder | None,
    of_slide: OfSlide,
    whole: WholeSlide,
    tally: Tally,
    advance: Callable[[], None],
) -> None:
    """Generate all tiles that are not yet written, and commit after each row.

    While the network is at one tile, a thread blends, counts and writes those before it.
    """
    plan, arrays = scene.plan, folder.arrays()
    first = int(folder.state["row"])
    finisher = Finisher(scene, writer, regions, tally)
    finisher.take_up(arrays)
    tiles = scene.tiles(first)
    windows = read_ahead(scene.level, (plan.window(*tile) for tile in tiles), tally.seconds)
    having = set(tiles)
    with ThreadPoolExecutor(1, thread_name_prefix="finish") as pool:
        behind: deque[Future[None]] = deque()
        for row in range(first, plan.rows):
            for column in range(plan.columns):
                made = None
                if (row, column) in having:
                    made = _generated(scene, row, column, next(windows), of_slide, tally)
                    advance()
                behind.append(pool.submit(finisher.add, row, column, made))
                _wait(behind, BEHIND, tally)
            behind.append(pool.submit(finisher.end_row, row))
            _wait(behind, 0, tally)
            start = time.perf_counter()
            folder.commit(_counted(tally, row + 1), whole.arrays() | finisher.arrays())
            tally.seconds["committing"] += time.perf_counter() - start


def _wait(behind: deque[Future[None]], most: int, tally: Tally) -> None:
    """Wait until no more than so many tiles are still to be finished."""
    start = time.perf_counter()
    while len(behind) > most:
        behind.popleft().result()
    tally.seconds["waiting"] += time.perf_counter() - start


class Finisher:
    """Blends what was generated, counts it and hands it to the writer, tile after tile.

    Parameters
    ----------
    scene
        What is generated.
    writer
        Takes finished blocks.
    regions
        Takes their DAB-positive cells; None: no regions.
    tally
        Takes the counts.
    """

    def __init__(
        self, scene: Scene, writer: PyramidWriter, regions: RegionFinder | None, tally: Tally
    ) -> None:
        self.scene, self.writer, self.regions, self.tally = scene, writer, regions, tally
        self.blender = Blender(scene.plan)
        self._cells: list[np.ndarray] = []

    def add(self, row: int, column: int, made: np.ndarray | None) -> None:
        """Take what was generated of a tile's extent, or None where it has no tissue."""
        core, seconds = self.scene.plan.core(row, column), self.tally.seconds
        start = time.perf_counter()
        values = self.blender.add(row, column, made)
        block, positive = finished(self.scene, values, core, self.tally)
        if self.regions is not None:
            self._cells.append(cells_of(positive, self.regions.side_px))
        blended = time.perf_counter()
        self.writer.add(core.y0, core.x0, block)
        seconds["blending"] += blended - start
        seconds["writing"] += time.perf_counter() - blended

    def end_row(self, row: int) -> None:
        """Finish a row, so that it can be committed."""
        start = time.perf_counter()
        self.blender.end_row()
        if self.regions is not None:
            self.regions.add(np.concatenate(self._cells, axis=1))
            self._cells.clear()
            if row + 1 == self.scene.plan.rows:
                self.regions.end()
        blended = time.perf_counter()
        self.writer.drain()
        self.tally.seconds["blending"] += blended - start
        self.tally.seconds["writing"] += time.perf_counter() - blended

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what is needed to go on later."""
        kept = self.writer.arrays()
        kept |= {"blend.below": self.blender.below, "tally.density": self.tally.density}
        return kept if self.regions is None else kept | self.regions.arrays()

    def take_up(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on with what `arrays` returned."""
        self.writer.take_up(arrays)
        self.blender.below = arrays.get("blend.below", self.blender.below)
        self.tally.density = arrays.get("tally.density", self.tally.density)
        if self.regions is not None:
            self.regions.take_up(arrays)


def _counted(tally: Tally, row: int) -> dict[str, object]:
    return {
        "stage": "tiles",
        "row": row,
        "seconds": tally.seconds,
        "tissue_px": tally.tissue_px,
        "positive_px": tally.positive_px,
        "generated_px": tally.generated_px,
    }


def _generated(
    scene: Scene, row: int, column: int, window: np.ndarray, of_slide: OfSlide, tally: Tally
) -> np.ndarray:
    """Return what the network makes of a tile's extent; beyond the slide it is 0."""
    start = time.perf_counter()
    plan = scene.plan
    extent, box = plan.extent(row, column), plan.window(row, column)
    on_slide = Box(
        extent.y0, min(extent.y1, plan.padded_px[0]), extent.x0, min(extent.x1, plan.padded_px[1])
    )
    made = scene.painter.paint(window, on_slide.within(box), of_slide)
    if on_slide != extent:
        below = extent.y1 - on_slide.y1
        made = np.pad(made, ((0, below), (0, 0), (0, 0)))
    tally.generated_px += window.shape[0] * window.shape[1]
    tally.seconds["generating"] += time.perf_counter() - start
    return made


def finished(
    scene: Scene, values: np.ndarray, core: Box, tally: Tally
) -> tuple[UInt8[np.ndarray, "h w 3"], np.ndarray]:
    """Return a core as it is written, and which of its pixels are DAB-positive."""
    tissue = scene.tissue.inside(core)
    if not tissue.any():
        block = np.full((*core.size_px, 3), WHITE, np.uint8)
        positive = np.zeros(core.size_px, bool)
    else:
        block = (values + 0.5).astype(np.uint8)
        block[~tissue] = WHITE
        density = scene.density(block)
        positive = (density >= scene.positive_od) & tissue
        tally.count(density, tissue, positive)
    if scene.legend is not None:
        scene.legend.draw_on(block, y=core.y0, x=core.x0)
    return block, positive
