"""Whole slides: memory by size, the time of each stage, and what tiles do to the picture.

    python bench/stain_slide.py
    python bench/stain_slide.py memory [--sides 2000 20000]
    python bench/stain_slide.py stages
    python bench/stain_slide.py seams [--run RUN] [--slide SLIDE.svs]

``memory`` writes synthetic slides and stains each in a process of its own, with a small network and
the settings of a slide as they are by default. It prints the peak of the process's memory, less
that of the same process after it had given one window to the network: what reading, blending and
writing take. The aim is 400 MB, the same for every size. Besides, seconds per megapixel of the
slide for each stage.

``stages`` prints CPU seconds per megapixel of tissue, over all threads, of reading, of generating
with the network of the paper, of blending and counting, and of writing with all levels, JPEG and
fsync: so whether writing can ever be what is waited for.

``seams`` compares a part of a slide, generated tile by tile, with the network applied to all of it
at once: grey levels (0 to 255) that differ, within 32 pixels of a border between tiles and
elsewhere, for attention over slide and tile and for several overlaps; and the step that this
difference makes from one column to the next, at borders and elsewhere. Without ``--run`` the
network is a random one in which every layer and attention matter more than in a trained one.

Without a part, all three are done, and the last line holds records for docs/results.md.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medglean.data.phantom.slide import write_slide
from medglean.data.slides import open_slide, slide_of
from medglean.nn.stain_gan import StainUNet
from medglean.stain.model import Stainer, load_stainer
from medglean.stain.networks import GENERATOR, LEVEL, build_network
from medglean.stain.settings import StainPreset
from medglean.stain.slide import stain_slide_file
from medglean.stain.slide.blend import Blender
from medglean.stain.slide.folder import opened
from medglean.stain.slide.painter import OfSlide, Painter, WholeSlide
from medglean.stain.slide.plan import Box, plan_tiles
from medglean.stain.slide.pyramid import PyramidWriter
from medglean.stain.slide.regions import cells_of
from medglean.stain.slide.render import finished
from medglean.stain.slide.scene import make_scene
from medglean.stain.slide.source import all_tissue, open_level
from medglean.stain.slide.tally import Tally

AIM_MB = 400
SEAM_PX = 32


def preset_of(*, level_px: int = 256, **generator: Any) -> StainPreset:  # noqa: ANN401 - settings
    """Return a preset with the settings of a slide as they are by default."""
    return StainPreset.model_validate(
        {
            "name": "bench",
            "images": {"size_px": [1024, 1024], "channels": "rgb", "resize": "centre"},
            "generator": generator,
            "level": {"size_px": level_px},
            "measure": {"judge": False},
            "predict": {"precision": "32-true"},
        }
    )


def random_stainer(preset: StainPreset, *, gain: float = 1.0) -> Stainer:
    """Return networks whose BatchNorm has seen tissue, so that every layer has a say."""
    torch.manual_seed(0)
    networks = {GENERATOR: build_network(GENERATOR, preset), LEVEL: build_network(LEVEL, preset)}
    generator = networks[GENERATOR]
    assert isinstance(generator, StainUNet)
    for each in generator.attention.values():
        each.gain.data.fill_(gain)
    if generator.film is not None:
        torch.nn.init.normal_(generator.film.to_scale_and_shift.weight, 0, 0.02)
    seen = torch.from_numpy(tissue((512, 512))).permute(2, 0, 1)[None] / 127.5 - 1
    features = torch.zeros(1, generator.level_channels) if generator.level_channels else None
    with torch.no_grad():
        for _ in range(30):
            generator.train()(seen, features)
        spread = generator.eval()(seen, features).std()
        generator.up[0].weight.mul_(0.5 / spread)
    for network in networks.values():
        network.eval().requires_grad_(requires_grad=False)
    return Stainer(preset, networks, np.ones(3), np.full(3, 0.8), "bench")


def tissue(size_px: tuple[int, int]) -> np.ndarray:
    """Return a field of synthetic tissue, from the middle of a slide."""
    with tempfile.TemporaryDirectory() as folder:
        side = 4 * max(size_px)
        path = write_slide(Path(folder) / "a.svs", (side, side), downsamples=(1,))
        with open_slide(path) as slide:
            return slide.read(0, int(0.22 * side), int(0.4 * side), size_px[1], size_px[0])


def peak_mb() -> float:
    """Return the most memory this process has had at once."""
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) / 1024


def one_size(side: int, folder: Path) -> dict[str, Any]:
    """Stain a slide of one size and say what it took; run in a process of its own."""
    torch.set_num_threads(1)
    preset = preset_of(
        level_px=64, width=4, halvings=4, attention={"skips": (2, 3), "features": 32}
    )
    stainer = random_stainer(preset)
    path = folder / f"{side}.svs"
    began = time.perf_counter()
    write_slide(path, (side, side))
    wrote = time.perf_counter() - began
    with open_slide(path) as slide:
        level = open_level(slide, 0, mpp=None)
        scene, _ = make_scene(stainer, level, all_tissue(level))
        height = scene.plan.tile_px + sum(scene.plan.overlap_px)
        window = np.zeros((height, height, 3), np.uint8)
        features = torch.zeros(1, 512)
        inside = slice(0, 1024), slice(0, 1024)
        sums = scene.painter.sums_of(window, inside)
        for _ in range(2):
            scene.painter.paint(window, inside, OfSlide(sums, features))
            scene.painter.seen_in(window[:1024, :1024])
        del window
    before, cpu, began = peak_mb(), time.process_time(), time.perf_counter()
    result = stain_slide_file(stainer, path, folder / f"{side}.ome.tif")
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    megapixels = side**2 / 1e6
    return {
        "side_px": side,
        "above_mb": round(peak_mb() - before),
        "network_and_tile_mb": round(before),
        "output_mb": round(result.paths[0].stat().st_size / 1e6, 1),
        "input_mb": round(path.stat().st_size / 1e6, 1),
        "tissue_share": round(result.tissue_share, 3),
        "generated_megapixels": result.generated_megapixels,
        "seconds": {"writing the slide itself": round(wrote, 1), "all": round(wall, 1)},
        "cpu_seconds": round(cpu, 1),
        "ms_per_megapixel": {k: round(1e3 * v / megapixels, 2) for k, v in result.seconds.items()},
        "regions": result.regions,
    }


def memory(sides: list[int]) -> dict[str, Any]:
    """Measure each size in a process of its own."""
    found = []
    for side in sides:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, "one", str(side), folder]
            environment = dict(os.environ, OMP_NUM_THREADS="1")
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, env=environment
            )
            if done.returncode:
                raise RuntimeError(done.stderr)
            found.append(json.loads(done.stdout.splitlines()[-1]))
        one = found[-1]
        print(
            f"{side} x {side}: {one['above_mb']} MB above the {one['network_and_tile_mb']} MB of "
            f"network and tile (aim {AIM_MB}); ms per megapixel {one['ms_per_megapixel']}",
            flush=True,
        )
    return {"aim_mb": AIM_MB, "sizes": found}


def at_once(painter: Painter, pixels: np.ndarray, features: torch.Tensor | None) -> np.ndarray:
    """Return what the network makes of all of it, whose sides fit the stride."""
    inside = slice(0, pixels.shape[0]), slice(0, pixels.shape[1])
    return painter.paint(pixels, inside, OfSlide(None, features))


def in_tiles(
    painter: Painter, pixels: np.ndarray, *, tile_px: int, overlap_px: int | None,
    feather_px: int, whole: WholeSlide, over_slide: bool,
) -> tuple[np.ndarray, float]:  # fmt: skip
    """Return the same made of tiles, and how many times the pixels were generated."""
    plan = plan_tiles(
        pixels.shape[:2],
        tile_px=tile_px,
        stride_px=painter.stride_px,
        reach_px=painter.reach_px,
        overlap_px=overlap_px,
        feather_px=feather_px,
    )
    blender, made, pixels_in = Blender(plan), np.zeros(pixels.shape, np.float32), 0
    tiles = [(row, column) for row in range(plan.rows) for column in range(plan.columns)]
    whole.sums.clear()
    if over_slide and painter.has_sums:
        for tile in tiles:
            window = plan.window(*tile)
            part = pixels[window.y0 : window.y1, window.x0 : window.x1]
            whole.add_sums(painter.sums_of(part, plan.core_of_tokens(*tile).within(window)))
    of_slide = painter.of_slide(whole, over_slide=over_slide)
    for row, column in tiles:
        window, core = plan.window(row, column), plan.core(row, column)
        part = pixels[window.y0 : window.y1, window.x0 : window.x1]
        pixels_in += part.shape[0] * part.shape[1]
        image = painter.paint(part, plan.extent(row, column).within(window), of_slide)
        made[core.y0 : core.y1, core.x0 : core.x1] = blender.add(row, column, image)
        if column + 1 == plan.columns:
            blender.end_row()
    return made, pixels_in / (pixels.shape[0] * pixels.shape[1])


def seams(
    run: Path | None, slide: Path | None, *, side: int, tile_px: int, precision: str | None
) -> dict[str, Any]:
    """Compare tiles with the whole for several settings."""
    if run is None:
        stainer = random_stainer(preset_of(width=16, halvings=6))
    else:
        stainer = load_stainer(run).on_device("auto")
    if precision is not None:
        use = stainer.preset.predict.model_copy(update={"precision": precision})
        stainer = stainer.with_preset(stainer.preset.model_copy(update={"predict": use}))
    painter = Painter(stainer)
    side = math.ceil(side / painter.stride_px) * painter.stride_px
    pixels = tissue((side, side))
    if slide is not None:
        with open_slide(slide) as source:
            height, width = source.size_px
            x, y = max(0, (width - side) // 2), max(0, (height - side) // 2)
            level = open_level(slide_of(source.read(0, x, y, min(side, width), min(side, height))),
                               0, mpp=1.0)  # fmt: skip
            pixels = level.read(Box(0, side, 0, side))
    whole = WholeSlide()
    features = None
    if painter.has_features:
        whole.add_features(*painter.seen_in(pixels), 1.0)
        features = painter.of_slide(whole, over_slide=True).features
    exact = at_once(painter, pixels, features)
    wanted = np.rint(exact)
    near = np.zeros(pixels.shape[:2], bool)
    for at in range(tile_px, side, tile_px):
        near[at - SEAM_PX : at + SEAM_PX] = near[:, at - SEAM_PX : at + SEAM_PX] = True
    rows = []
    stride = painter.stride_px
    for attention, overlap, feather in (
        ("slide", None, 32), ("tile", None, 32), ("tile", None, 0),
        ("slide", 2 * stride, 32), ("slide", stride, 32), ("slide", stride, 0), ("slide", 0, 0),
    ):  # fmt: skip
        made, times = in_tiles(
            painter, pixels, tile_px=tile_px, overlap_px=overlap, feather_px=feather,
            whole=whole, over_slide=attention == "slide",
        )  # fmt: skip
        signed = made - exact
        steps = np.abs(np.diff(signed, axis=1)).mean(axis=(0, 2))
        at = np.arange(tile_px, side, tile_px) - 1
        off = np.abs(np.rint(made) - wanted).max(axis=2)
        rows.append(
            {
                "attention": attention,
                "overlap_px": overlap,
                "feather_px": feather,
                "times_generated": round(times, 2),
                "step_at_seams": round(float(steps[at].mean()), 4),
                "step_elsewhere": round(float(np.delete(steps, at).mean()), 4),
                "seam_max": float(off[near].max()),
                "seam_mean": round(float(off[near].mean()), 4),
                "elsewhere_max": float(off[~near].max()),
                "elsewhere_mean": round(float(off[~near].mean()), 4),
            }
        )
        print(rows[-1], flush=True)
    gains = {}
    if painter.network is not None:
        gains = {n: round(float(a.gain), 4) for n, a in painter.network.attention.items()}
    return {
        "side_px": side,
        "tile_px": tile_px,
        "reach_px": painter.reach_px,
        "stride_px": stride,
        "attention_gains": gains,
        "contrast": float(np.ptp(wanted)),
        "rows": rows,
    }


def stages() -> dict[str, Any]:
    """Measure CPU seconds per megapixel of what happens to a tile."""
    torch.set_num_threads(1)
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = write_slide(folder / "a.svs", (8192, 8192), downsamples=(1,))
        with open_slide(path) as slide:
            level = open_level(slide, 0, mpp=None)
            boxes = [Box(3072 + y, 4096 + y, 1500, 2524) for y in (0, 512, 1024, 1536)]
            start = time.process_time()
            blocks = [level.read(box) for box in boxes]
            found["reading"] = (time.process_time() - start) / 4.19
            scene, _ = make_scene(random_stainer(preset_of(width=4)), level, all_tissue(level))
        core, tally = Box(0, 1024, 0, 1024), Tally()
        start = time.process_time()
        blender = Blender(scene.plan)
        for column, block in enumerate(blocks):
            extent = np.pad(block, ((0, 32), (0, 32), (0, 0))).astype(np.float32)
            values = blender.add(0, column, extent)
            _, positive = finished(scene, values, core, tally)
            cells_of(positive, 2)
        found["blending"] = (time.process_time() - start) / 4.19
        start = time.process_time()
        with (
            opened(folder / "part", {}, resume=False) as part,
            PyramidWriter(part, size_px=(4096, 4096), tile_px=256) as writer,
        ):
            for row in range(4):
                for column, block in enumerate(blocks):
                    writer.add(row * 1024, column * 1024, block)
                writer.drain()
                part.commit({"row": row}, writer.arrays())
        found["writing"] = (time.process_time() - start) / 16.78
    for kind, generator in (("generating", {}), ("generating, small", {"width": 16})):
        painter = Painter(random_stainer(preset_of(**generator)))
        sums = painter.sums_of(blocks[0], (slice(0, 1024), slice(0, 1024)))
        of_slide = OfSlide(sums, torch.zeros(1, 512))
        for _ in range(2):
            start = time.process_time()
            painter.paint(blocks[1], (slice(0, 1024), slice(0, 1024)), of_slide)
            found[kind] = (time.process_time() - start) / 1.05
    found = {stage: round(seconds, 4) for stage, seconds in found.items()}
    print(f"CPU seconds per megapixel: {found}")
    return found


def all_records() -> list[dict[str, Any]]:
    """Do all three parts and return what the page of results shows of them."""
    records: list[dict[str, Any]] = []
    for one in memory([2000, 20_000])["sizes"]:
        side = one["side_px"]
        records.append(
            {
                "name": f"slide of {side:,} x {side:,}: memory above network and tile",
                "value": one["above_mb"],
                "unit": "MB",
                "asked": f"at most {AIM_MB}, the same for both",
                "n": 1,
                "note": f"small network; {one['cpu_seconds']} CPU s; {one['regions']} regions",
            }
        )
    found = stages()
    records.append(
        {
            "name": "slide: writing all levels, against generating with the report's network",
            "value": found["writing"] / found["generating"],
            "unit": "of its CPU time",
            "asked": "never the bottleneck",
            "n": 4,
            "note": ", ".join(f"{stage} {each:.3f}" for stage, each in found.items())
            + " CPU s per megapixel",
        }
    )
    torch.set_num_threads(1)
    for row in seams(None, None, side=1024, tile_px=256, precision=None)["rows"]:
        if row["feather_px"] == 0:
            continue
        overlap = "as far as it sees" if row["overlap_px"] is None else f"{row['overlap_px']} px"
        default = row["overlap_px"] is None and row["attention"] == "slide"
        records.append(
            {
                "name": f"tiled against untiled, attention over {row['attention']}, overlap "
                f"{overlap}",
                "value": max(row["seam_max"], row["elsewhere_max"]),
                "unit": "grey levels at most",
                "asked": "at most 1" if default else "",
                "n": 1,
                "note": f"mean at seams {row['seam_mean']}; each pixel generated "
                f"{row['times_generated']} times; random network of 6 halvings",
            }
        )
    return records


def main() -> None:
    """Run the part that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parts = parser.add_subparsers(dest="part")
    of_memory = parts.add_parser("memory")
    of_memory.add_argument("--sides", type=int, nargs="+", default=[2000, 20_000])
    of_stages = parts.add_parser("stages")
    of_seams = parts.add_parser("seams")
    of_seams.add_argument("--run", type=Path)
    of_seams.add_argument("--slide", type=Path)
    of_seams.add_argument("--side", type=int, default=1024)
    of_seams.add_argument("--tile", type=int, default=512)
    of_seams.add_argument("--precision")
    one = parts.add_parser("one")
    one.add_argument("side", type=int)
    one.add_argument("folder", type=Path)
    for each in (of_memory, of_stages, of_seams):
        each.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.part is None:
        print(json.dumps({"records": all_records()}))
        return
    if given.part == "one":
        print(json.dumps(one_size(given.side, given.folder)))
        return
    if given.part == "memory":
        found = memory(given.sides)
    elif given.part == "stages":
        found = stages()
    else:
        torch.set_num_threads(1)
        found = seams(
            given.run, given.slide, side=given.side, tile_px=given.tile, precision=given.precision
        )
    print(json.dumps(found))
    if given.out is not None:
        given.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
