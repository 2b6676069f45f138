"""What dividing a selection over shards costs in coverage: patient shards beside random ones.

    python bench/shards.py [--images 20000] [--clips 200] [--shards 8] [--seeds 3] [--page FILE]

Ranks clip-like embeddings (d = 128, near-duplicates within a clip, five clips a patient) farthest
first: on one machine, over shards of whole patients, and over random shards, from the same random
start. The covering radius is the largest angle from any image to the nearest selected one. With
MEDGLEAN_DATA, or the data beside the repository, the same on principal components of the frames of
us_pocus_clips. Prints a table and, last, a line of JSON; --page also writes the table of that page.
It measures quality, not speed: nothing here is timed.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medglean.curate.shards import covering, select
from medglean.curate.shards.plan import at_random, by_unit
from medglean.randomness import numpy_generator
from medglean.runs.tables import results_table, update_block

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"
OVERSAMPLES = (1.0, 2.0, 4.0, None)


@dataclass(frozen=True)
class Case:
    """Embeddings, the patient of each, and how many to select."""

    name: str
    values: np.ndarray
    patients: np.ndarray
    start: int
    budget: int


def clip_like(images: int, clips: int, *, seed: int, width: int = 128) -> Case:
    """Return clips of different length whose frames are near-duplicates, five clips a patient."""
    generator = numpy_generator(seed, "bench shards")
    centres = generator.standard_normal((clips, width))
    weights = generator.gamma(2.0, size=clips)
    clip = np.sort(generator.choice(clips, size=images, p=weights / weights.sum()))
    # each clip drifts along a direction of its own, and each frame has its own noise
    drift = generator.standard_normal((clips, width))
    along = generator.uniform(-1, 1, size=(images, 1))
    noise = generator.standard_normal((images, width))
    values = centres[clip] + 0.5 * along * drift[clip] + 0.2 * noise
    name = f"{images:,} images of {clips} clips"
    return Case(name, values.astype(np.float32), clip // 5, images // 100, images // 10)


def pocus(*, width: int = 64) -> Case | None:
    """Return principal components of the ultrasound frames, None where they are not here."""
    import pandas as pd
    from PIL import Image

    folder = Path(os.environ.get("MEDGLEAN_DATA", DATA)) / "us_pocus_clips"
    if not folder.is_dir():
        return None
    labels = pd.read_csv(folder / "labels.csv", dtype=str)
    pixels = np.array(
        [
            np.asarray(Image.open(folder / name).convert("L").resize((64, 64)), dtype=np.float64)
            for name in labels["path"]
        ]
    ).reshape(len(labels), -1)
    pixels -= pixels.mean(axis=0)
    directions = np.linalg.svd(pixels, full_matrices=False)[2][:width]
    values = (pixels @ directions.T).astype(np.float32)
    return Case("us_pocus_clips", values, labels["patient_id"].to_numpy(), 18, 182)


def coverage(case: Case, order: np.ndarray) -> tuple[float, float]:
    """Return the covering radius in radians and the mean similarity to the selection."""
    similarity, _ = covering.nearest_selected(case.values, case.values[order])
    return covering.angle(float(similarity.min())), float(similarity.mean())


def compare(case: Case, *, shards: int, seed: int) -> list[dict[str, object]]:
    """Select in every way, and return radius, factor and mean similarity of each."""
    generator = numpy_generator(seed, "bench shards", "start")
    start = generator.choice(len(case.values), size=case.start, replace=False)
    plans = {
        "one machine": by_unit(case.patients, shards=1),
        "patient shards": by_unit(case.patients, shards=shards),
        "random shards": at_random(len(case.values), shards=shards, seed=seed),
    }
    rows: list[dict[str, object]] = []
    alone = 0.0
    for name, plan in plans.items():
        for oversample in OVERSAMPLES if plan.shards > 1 else (None,):
            ranking = select.rank_sharded(
                case.values, plan, start=start, count=case.budget, oversample=oversample
            )
            radius, mean = coverage(case, ranking.order)
            alone = alone or radius
            proof = covering.certify(
                ranking, picks=case.budget - case.start, lowest_similarity=float(np.cos(radius))
            )
            rows.append(
                {
                    "case": case.name,
                    "seed": seed,
                    "shards": name,
                    "oversample": oversample,
                    "radius": radius,
                    "factor": radius / alone,
                    "certified": proof.factor,
                    "mean_similarity": mean,
                }
            )
    return rows


def records(rows: list[dict[str, object]], *, shards: int, images: int) -> list[dict[str, object]]:
    """Return one record for the page per kind of shard and oversample: the worst of the seeds."""
    found = []
    kinds = dict.fromkeys((row["shards"], row["oversample"]) for row in rows)
    for kind, oversample in kinds:
        same = [row for row in rows if (row["shards"], row["oversample"]) == (kind, oversample)]
        worst = max(float(str(row["factor"])) for row in same)
        radius = float(np.mean([float(str(row["radius"])) for row in same]))
        mean = float(np.mean([float(str(row["mean_similarity"])) for row in same]))
        named = "the whole budget" if oversample is None else f"{oversample:g} times its share"
        each = "" if kind == "one machine" else f", each with {named}"
        found.append(
            {
                "name": f"covering radius, {kind}{each} ({same[0]['case']})",
                "value": worst,
                "unit": "times one machine's",
                "asked": "<= 4" if kind == "patient shards" and oversample is None else "",
                "n": images,
                "note": f"{shards} shards, worst of {len(same)} seeds; mean radius {radius:.3f} "
                f"rad, mean similarity to the selection {mean:.4f}",
            }
        )
    return found


def table(kept: list[dict[str, object]]) -> str:
    """Return the records as Markdown."""
    made_by = {"command": "python bench/shards.py", "machine": f"{os.cpu_count()} CPU cores"}
    return results_table({**record, **made_by} for record in kept)


def main() -> int:
    """Run the comparison; the exit status says whether the proven factor held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--page", type=Path, help="such as docs/explanation/many-images.md")
    arguments = parser.parse_args()
    rows: list[dict[str, object]] = []
    kept: list[dict[str, object]] = []
    for kind in ("clips", "pocus"):
        mine: list[dict[str, object]] = []
        images = 0
        for seed in range(arguments.seeds):
            made = clip_like(arguments.images, arguments.clips, seed=seed)
            case = made if kind == "clips" else pocus()
            if case is None:
                print("us_pocus_clips is not here; set MEDGLEAN_DATA to its folder.")
                break
            images = len(case.values)
            mine += compare(case, shards=arguments.shards, seed=seed)
        for row in mine:
            print("  ".join(f"{name}={value:.4f}" if isinstance(value, float) else f"{name}={value}"
                            for name, value in row.items()))  # fmt: skip
        rows += mine
        kept += records(mine, shards=arguments.shards, images=images)
    if arguments.page:
        update_block(arguments.page, "shards", table(kept))
    proven = [
        float(str(row["factor"]))
        for row in rows
        if row["shards"] == "patient shards" and row["oversample"] is None
    ]
    print(json.dumps({"rows": rows, "records": kept}))
    return 0 if max(proven) <= select.PROVEN_FACTOR else 4


if __name__ == "__main__":
    raise SystemExit(main())
