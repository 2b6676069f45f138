"""The tables on a curation's page."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medglean.curate.comparison import Comparison
from medglean.curate.curation import Curation
from medglean.curate.duplicates import families
from medglean.curate.figures import share_text
from medglean.runs.report import Table
from medglean.runs.tables import format_value

LISTED_CONFLICTS = 10
_SIZES = {"h": 3600, "min": 60, "s": 1}


@dataclass(frozen=True)
class Cost:
    """What a label costs: by default 1 s for a class and 5 min for a mask, as ENRICH assumes."""

    seconds_per_image: float = 1.0
    minutes_per_mask: float = 5.0

    def kinds(self) -> dict[str, float]:
        """Return the seconds that each kind of label takes."""
        return {
            f"one class per image ({duration(self.seconds_per_image)})": self.seconds_per_image,
            f"one mask per image ({duration(60 * self.minutes_per_mask)})": 60
            * self.minutes_per_mask,
        }


def in_units(seconds: float) -> tuple[float, str]:
    """Return a time in whole units, the largest of which there are ten, or that measures it.

    Examples
    --------
    >>> in_units(182), in_units(5 * 60), in_units(1638), in_units(8190 * 60)
    ((182, 's'), (5, 'min'), (27, 'min'), (136, 'h'))
    """
    for name in ("h", "min"):
        size = _SIZES[name]
        if seconds >= 10 * size or (seconds >= size and seconds % size == 0):
            return round(seconds / size), name
    return (int(seconds) if seconds >= 10 or seconds == int(seconds) else seconds), "s"


def duration(seconds: float) -> str:
    """Write a time for people.

    Examples
    --------
    >>> duration(1), duration(0.5), duration(8190 * 600)
    ('1 s', '0.5 s', '1,365 h')
    """
    value, unit = in_units(seconds)
    return f"{value:,} {unit}"


_MEASURES = (
    ("Similarity of the average image to its nearest labelled one (high is good)", "coverage_mean"),
    ("The same for the 5 % that are represented worst (high is good)", "coverage_low"),
    ("The same for the worst image (high is good)", "coverage_worst"),
    ("Similarity of a selected image to the nearest other selected one (low is varied)",
     "nearest_mean"),
    ("Share of selected images that have another one above 0.9 (low is good)", "redundant_share"),
    ("Groups (clips, volumes) with a selected image", "groups"),
    ("Patients with a selected image", "patients"),
    ("Strata with a selected image", "strata"),
)  # fmt: skip


def beside_tables(comparison: Comparison | None) -> list[Table]:
    """Set the selection beside random ones and a fixed interval, where they were compared."""
    if comparison is None:
        return []
    rows: list[list[object]] = []
    for told, field in _MEASURES:
        mine, mean, sd, interval = (
            getattr(summary, field)
            for summary in (
                comparison.selection,
                comparison.random_mean,
                comparison.random_sd,
                comparison.interval,
            )
        )
        if np.isnan(mine):
            continue
        counted = field in ("groups", "patients", "strata")
        random = f"{mean:.1f}" if counted else format_value(mean)
        if not np.isnan(sd):
            random += f" (SD {sd:.1f})" if counted else f" (SD {sd:.3f})"
        rows.append(
            [
                told,
                int(mine) if counted else mine,
                random,
                int(interval) if counted else interval,
            ]
        )
    return [
        Table(
            "Beside a random choice and a fixed interval of the same size",
            [
                "Measure",
                "This selection",
                f"Random (mean of {comparison.draws})",
                "Every k-th image",
            ],
            rows,
            note="Similarity is the cosine of two embeddings: 1 is the same, 0 is unrelated. "
            "Images taken beforehand count as labelled everywhere. Good coverage is no proof of a "
            "better classifier; only a trained one shows that.",
        )
    ]


def redundancy_table(curation: Curation) -> Table:
    """Tell which share of pairs is alike: of all, within groups and between them."""
    found = curation.redundancy
    noun = curation.grouped_by or "group"
    names = {
        "all": "All pairs of images",
        "within": f"Two images of one {noun}",
        "between": f"Images of two {noun}s",
    }
    thresholds = list(found.shares["all"])
    return Table(
        "How much of the set repeats itself",
        ["Pairs", "Number", *(f"Above {threshold:g}" for threshold in thresholds)],
        [
            [
                names[which],
                found.pairs[which],
                *(share_text(found.shares[which][threshold]) for threshold in thresholds),
            ]
            for which in found.shares
            if found.pairs[which]
        ],
        note="Share of pairs whose similarity is above a threshold. Much above 0.9 within a group "
        "means that a few images of each say nearly all.",
    )


def time_table(cost: Cost, *, chosen: int, total: int) -> Table:
    """Tell what labelling costs with and without the selection."""
    rows: list[list[object]] = []
    for kind, seconds in cost.kinds().items():
        _, unit = in_units(total * seconds)
        numbers = [count * seconds / _SIZES[unit] for count in (total, chosen, total - chosen)]
        rows.append(
            [kind, *(f"{x:,.0f} {unit}" if x >= 10 else f"{x:.1f} {unit}" for x in numbers)]
        )
    return Table(
        "Labelling time",
        ["Kind of label", "All images", "The selection", "Saved"],
        rows,
        note="Assumed times for each label, to be replaced by your own; reading the images anew, "
        "pauses and second readers are not in it.",
    )


def trouble_table(curation: Curation) -> Table:
    """Count near-duplicates, and what is wrong about them."""
    pairs, manifest = curation.pairs, curation.manifest
    family = families(pairs, count=len(manifest))
    sizes = np.bincount(family[family >= 0])
    taken = np.zeros(len(manifest), dtype=bool)
    taken[curation.selection.chosen] = True
    rows: list[list[object]] = [
        [f"Pairs of near-duplicates (similarity at least {pairs.threshold:g})", pairs.total],
        ["Images in such a pair", int((family >= 0).sum())],
        ["Families of near-duplicates (connected by such pairs)", len(sizes)],
        ["Images in the largest family", int(sizes.max(initial=0))],
        ["Pairs of which both images were selected",
         int((taken[pairs.first] & taken[pairs.second]).sum())],
    ]  # fmt: skip
    if curation.leaks is not None:
        same = curation.leaks.same_patient
        for (one, other), count in curation.leaks.counts().items():
            rows.append([f"Pairs between {one} and {other}", count])
        if same is not None:
            rows.append(["Pairs across the split of one patient", int(same.sum())])
    if curation.conflicts is not None:
        rows.append(["Pairs with different labels", len(curation.conflicts.pairs)])
    if curation.set_aside:
        rows.append(["Images set aside (outliers.csv)", len(curation.set_aside)])
    note = "duplicates.csv lists the pairs."
    if pairs.left_out:
        note += f" Only the {len(pairs):,} most similar pairs are listed and counted below row 1."
    return Table("Near-duplicates and doubtful images", ["What", "Number"], rows, note=note)


def conflict_tables(curation: Curation) -> list[Table]:
    """List the most similar images that are labelled differently, where there are any."""
    found = curation.conflicts
    if found is None or len(found.pairs) == 0:
        return []
    ids = curation.manifest.ids
    rows: list[list[object]] = []
    for place in range(min(LISTED_CONFLICTS, len(found.pairs))):
        i, j = int(found.pairs.first[place]), int(found.pairs.second[place])
        (one, other), (votes, of) = found.labels[place], found.votes[place]
        majority = found.majority[place]
        rows.append(
            [
                f"{ids[i]} ({one or 'no class'})",
                f"{ids[j]} ({other or 'no class'})",
                float(found.pairs.similarity[place]),
                f"{majority} ({votes} of {of})" if majority else "no majority",
                {i: "first", j: "second"}.get(int(found.suspect[place]), "either"),
            ]
        )
    return [
        Table(
            "Suspected label errors: near-duplicates with different labels",
            ["First image", "Second image", "Similarity", "Near-duplicates say", "Check"],
            rows,
            note=f"{len(rows)} of {len(found.pairs):,}; duplicates.csv lists all. Two images that "
            "look the same to the embedding may differ in what was seen.",
            section="examples",
        )
    ]  # fmt: skip
