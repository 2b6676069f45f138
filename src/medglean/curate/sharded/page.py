"""What the page of a curation over shards says beside that of one machine."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from medglean.curate.figures import similarity_histogram
from medglean.curate.map import embedding_map, lay_out
from medglean.curate.sharded.look import Sharded
from medglean.curate.shards.engine import ShardedRun
from medglean.curate.shards.select import PROVEN_FACTOR
from medglean.runs.report import Figure, Metric, Report, Table

RADIUS = "Covering radius"


def charts_of_sample(found: Sharded, *, seed: int) -> list[Figure]:
    """Draw how alike the images of the sample are, and where the selected ones lie among them."""
    curation = found.curation
    alike = curation.redundancy
    place = np.union1d(found.sample, curation.selection.chosen)
    names, column = None, curation.label
    if column is not None:
        shown = curation.manifest.frame[column].iloc[place]
        names = ["" if gone else str(value) for value, gone in
                 zip(shown.tolist(), shown.isna().tolist(), strict=True)]  # fmt: skip
    whose = _whose(found)
    return [
        Figure(
            "How similar the images are to one another",
            f"Pairs of {whose}. Dotted lines: share of all pairs above a similarity. Pairs at 1 "
            "are copies or neighbouring frames.",
            similarity_histogram(
                alike.edges,
                alike.counts,
                shares=alike.shares["all"],
                group_name=curation.grouped_by or "group",
            ),
            "svg",
        ),
        Figure(
            "Where the selected images lie",
            f"One point per image, of {whose} and all selected ones; images that look alike lie "
            "together. Axes have no unit.",
            embedding_map(
                lay_out(found.rows(place), seed=seed),
                np.searchsorted(place, curation.selection.chosen),
                names=names,
                names_are=column or "label",
                seed=seed,
            ),
            "png",
        ),
    ]


def over_shards(
    report: Report,
    found: Sharded,
    run: ShardedRun,
    *,
    oversample: float | None,
    bounded: bool,
) -> Report:
    """Add to a page what the shards cost and what was left out.

    Parameters
    ----------
    report
        The page of the curation.
    found, run
        What was found, and what the engine gave.
    oversample
        How many candidates each shard put forward; None: the whole budget.
    bounded
        Whether the proofs hold: farthest first without limits or a stop similarity.
    """
    proof = run.certificate
    radius = Metric(RADIUS, proof.radius, "rad", note=_bound(run))
    data = {**report.data, "shards": run.plan.shards}
    if found.set_aside:
        data["set aside: no embedding that can be compared"] = f"{found.set_aside:,}"
    tables = [_shards_table(found, run, oversample, bounded=bounded), _left_out_table(found, run)]
    return replace(
        report,
        metrics=[*report.metrics, radius],
        tables=[*report.tables, *tables],
        warnings=[*_warnings(found), *report.warnings],
        data=data,
    )


def _bound(run: ShardedRun) -> str:
    """Say in a sentence what the selection can have lost."""
    proof, exact = run.certificate, run.plan.shards == 1
    told = "angle from the worst represented image to its nearest labelled one"
    if math.isfinite(proof.factor):
        told += f"; at most {_up(proof.factor)} times the best possible for this budget (proven)"
    else:
        told += "; no bound is proven for this run"
    return told + ("; one shard: exactly one machine's order" if exact else "")


def _shards_table(
    found: Sharded, run: ShardedRun, oversample: float | None, *, bounded: bool
) -> Table:
    proof, plan = run.certificate, run.plan
    share = "as many as are picked in all"
    if oversample is not None:
        share = f"{oversample:g} times its share of the picks"
    rows: list[list[object]] = [
        ["Shards", plan.shards],
        ["Never divided between shards", "images" if plan.by == "id" else plan.by],
        ["Images in the largest shard", int(plan.sizes.max())],
        ["Images set aside (problems.csv)", found.set_aside],
        ["Candidates of each shard", share],
        ["Covering radius, over all images (rad)", proof.radius],
        ["Similarity of the average image to its nearest labelled one, over all images",
         run.mean_similarity],
    ]  # fmt: skip
    if bounded:
        rows += [
            ["No selection of as many images has a radius below (rad)", proof.at_least],
            ["So this one's is at most so many times the best", _up(proof.factor)],
        ]
        if oversample is None:
            rows.append(["Proven before the run: at most so many times", f"{PROVEN_FACTOR:g}"])
    else:
        rows.append(
            ["At most so many times the best radius",
             "not proven: holds for enrich without limits and stop similarity"]
        )  # fmt: skip
    return Table(
        "What the shards cost",
        ["What", "Value"],
        rows,
        note="The covering radius is the largest angle from an image to the nearest labelled one. "
        "One machine's order is itself proven to at most 2 times the best radius. The bounds take "
        "the random start, and what was taken beforehand, as given.",
    )


def _left_out_table(found: Sharded, run: ShardedRun) -> Table:
    rows = [
        ["Order beyond the budget", "order.csv ends at the budget; shards rank no further."],
        ["Coverage at other budgets", "Needs all images again for each budget."],
        ["Outlier gate", "Off: it compares each image with all others. outliers.csv is empty."],
        ["Pictures, structural similarity", "Images are read where they are embedded, only there."],
        ["embedding.npz", "shards/embeddings has a Parquet file for each shard."],
    ]
    if run.plan.shards > 1:
        rows.append(
            ["Near-duplicates in different shards",
             "Not looked for; those within a shard are all found."]
        )  # fmt: skip
    if found.counted is not None:
        rows.append(
            ["Redundancy and map of all images", f"Those of {_whose(found)}, and no others."]
        )
    if "split" in found.curation.manifest.frame:
        rows.append(
            ["Near-duplicates across the split",
             "Images of a validation or test part were not embedded."]
        )  # fmt: skip
    return Table("What was left out over shards", ["What", "Why, or what instead"], rows)


def _warnings(found: Sharded) -> list[str]:
    if not found.set_aside:
        return []
    return [
        "Images that could not be read or embedded and are in no list: "
        f"{found.set_aside:,}. The problems below say why."
    ]


def _whose(found: Sharded) -> str:
    total = len(found.curation.manifest)
    if found.counted is None:
        return f"all {total:,} images"
    return f"{found.counted:,} images drawn at random from {total:,}"


def _up(factor: float) -> str:
    """Write a bound, rounded up: a rounded-down one would not be proven."""
    return f"{math.ceil(100 * factor - 1e-9) / 100:.2f}" if math.isfinite(factor) else "n/a"
