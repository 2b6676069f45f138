"""What exact inversion and the contrast of the classes save, on the networks of a finished study.

    python bench/identity.py runs/lgg lgg.parquet [--images 8] [--full 500]

Takes the U-Net and the classifier that `medglean study wolleb2022` has trained, and test images of
different patients. Tells, with the network's own CPU seconds per image:

- the round trip without guidance, as root mean square error of |x - x0| over all pixels: by every
  level to L and back, encoded plainly as in the paper, and by 50 + 50 steps with one fixed-point
  iteration of each encoding step;
- the maps of diseased images by the authors' released sampler at L (every level there and back,
  guided on the way back), and by the study's first row: best Dice, and how many times fewer CPU
  seconds it takes.

Prints a line each and one of JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medglean.anomaly.mapping import map_images, rebuild
from medglean.anomaly.measured import Rows, rows_of
from medglean.anomaly.model import Mapper, make_mapper
from medglean.anomaly.networks import build_network
from medglean.anomaly.prepare import choose, column_of, open_images
from medglean.anomaly.settings import AnomalyPreset
from medglean.anomaly.study.curves import few, part_of
from medglean.anomaly.study.rows import network_key
from medglean.anomaly.task import calibrated
from medglean.data.manifest import Manifest
from medglean.fitting import load_last
from medglean.measure.maps import best_dice, tally
from medglean.runs.preset import load_preset

STEPS = 50


def trained(study: Path, preset: AnomalyPreset, names: Sequence[str]) -> dict[str, Any]:
    """Return networks with the weights that the study left."""
    networks = {}
    for name in names:
        network = {name: build_network(name, preset)}
        folder = study / "networks" / network_key(name, preset) / "checkpoints"
        load_last(sorted(folder.glob("last-*"))[-1], network)
        networks[name] = network[name]
    return networks


def translating(mapper: Mapper, **how: object) -> Mapper:
    """Return the mapper with other settings of its translation."""
    translate = mapper.preset.translate.model_copy(update=how)
    plain = type(mapper.preset.map)(difference="positive")
    preset = mapper.preset.model_copy(update={"translate": translate, "map": plain})
    return replace(mapper, preset=preset)


def round_trips(mapper: Mapper, images: np.ndarray, full: int) -> list[dict[str, Any]]:
    """Return the error of there and back, without guidance."""
    records = []
    shared = {"sampler": "ddim", "guidance": "none", "noise_level": full}
    for name, how in (
        (f"{full} + {full} steps, plain", {"steps": None, "inversion_iterations": 0}),
        (
            f"{STEPS} + {STEPS} steps, one iteration, even levels",
            {"steps": STEPS, "inversion_iterations": 1, "spacing": "even"},
        ),
        (
            f"{STEPS} + {STEPS} steps, one iteration, quadratic levels",
            {"steps": STEPS, "inversion_iterations": 1, "spacing": "quadratic"},
        ),
    ):
        before = time.process_time()
        rebuilt = rebuild(translating(mapper, **shared, **how), images)
        spent = (time.process_time() - before) / len(images)
        error = float(np.sqrt(np.mean((images - rebuilt) ** 2)))
        told = f"round trip at L = {full}, {name}"
        records.append(_record(told, 1000 * error, "thousandths (RMSE)", len(images)))
        records.append(_record(f"CPU time per image, {name}", spent, "s", len(images)))
    return records


def against_released(
    mapper: Mapper, first: Mapper, of: Rows, full: int, scale: float
) -> list[dict[str, Any]]:
    """Return Dice and CPU seconds of the released sampler and of the study's first row."""
    sick = part_of(of, np.flatnonzero(of.targets == 1))
    records, spent = [], []
    released = translating(mapper, sampler="released", noise_level=full, steps=None, scale=scale)
    for name, one in ((f"released, L = {full}, s = {scale:g}", released), ("first row", first)):
        before = time.process_time()
        maps = map_images(one, sick.images, ids=sick.ids).maps
        spent.append((time.process_time() - before) / len(sick.rows))
        counted = tally(maps, sick.truth.masks)
        dice = float(best_dice(counted)(np.ones((len(maps), 1)))[0])
        records.append(_record(f"best Dice, {name}", dice, "", len(maps)))
        records.append(_record(f"CPU time per image, {name}", spent[-1], "s", len(maps)))
    return [*records, _record("times fewer CPU seconds", spent[0] / spent[1], "x", len(sick.rows))]


def _record(name: str, value: float, unit: str, n: int) -> dict[str, Any]:
    print(f"{name}: {value:.4g} {unit} ({n} images)", flush=True)
    return {"name": name, "value": value, "unit": unit, "n": n}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--full", type=int, default=500)
    parser.add_argument("--scale", type=float, default=100.0)
    asked = parser.parse_args()
    preset = load_preset(asked.study / "preset.toml", AnomalyPreset)
    manifest = Manifest.read(asked.manifest)
    chosen = choose(manifest, preset)
    images = open_images(chosen.manifest, preset, cache=None, workers=2)
    networks = trained(asked.study, preset, ("unet", "classifier"))
    both = make_mapper(networks, preset, healthy=chosen.healthy, diseased=chosen.diseased)
    first = calibrated(replace(both, networks={"unet": networks["unet"]}), images, chosen.targets)
    test = images.positions("test", labelled=False)
    of = rows_of(images, test, chosen.targets, both, column_of(chosen.manifest))
    of = part_of(of, few(of, count=asked.images))
    records = round_trips(both, of.images, asked.full)
    records += against_released(both, first, of, asked.full, asked.scale)
    print(json.dumps({"records": records}))


if __name__ == "__main__":
    main()
