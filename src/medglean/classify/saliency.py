"""The section on saliency: where in an image the answers come from, and how much of that is organ.

A map shows where a network looks, not whether it is right to; and some maps look the same whatever
the network has learnt [1]_. So each method is measured: against the masks of the organ where there
are some, beside what a map without any knowledge would have, and against an untrained network.

References
----------
.. [1] Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim. Sanity Checks for Saliency Maps. NeurIPS
   2018.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int
from scipy.stats import spearmanr

from medglean.classify.parts import Judged, Part, joined
from medglean.classify.saliency_figure import Explained, saliency_grid
from medglean.classify.saliency_maps import SaliencyMaps, saliency_maps, untrained
from medglean.classify.saliency_mass import CAM, INTEGRATED, masks_of, mass_part
from medglean.classify.scores import called_names
from medglean.data.augment import to_float
from medglean.randomness import numpy_generator
from medglean.runs.report import Figure, Table

ALIKE = 0.5
"""Rank correlation with the map of an untrained network from which a reader is warned."""


@dataclass(frozen=True)
class Answers:
    """What is explained of each judged image.

    Attributes
    ----------
    explained
        Number of the class that is called; of several findings, and where none is called, of the
        most probable one.
    missed
        Number of the true class that is not called, of several the most probable; -1: none.
    right
        Whether what is called is what is true.
    """

    explained: Int[np.ndarray, " n"]
    missed: Int[np.ndarray, " n"]
    right: Bool[np.ndarray, " n"]


def answers_of(judged: Judged) -> Answers:
    """Return what to explain of each judged image."""
    truth, called = judged.found.truth, judged.found.called
    probability = np.asarray(judged.scores.probability)
    overlooked = truth & ~called
    missed = np.where(overlooked, probability, -1.0).argmax(axis=1)
    return Answers(
        probability.argmax(axis=1),
        np.where(overlooked.any(axis=1), missed, -1),
        (truth == called).all(axis=1),
    )


def chosen_examples(
    answers: Answers, truth: Bool[np.ndarray, "n k"], *, count: int, seed: int
) -> Int[np.ndarray, " m"]:
    """Choose images to show: classes take turns, and within a class wrong and right calls.

    Parameters
    ----------
    answers
        Of n images.
    truth
        Whether each image has each class; one without any takes its turn with what was called.
    count
        How many at most.
    seed
        Within a class and a verdict the order is random.

    Returns
    -------
    ndarray
        Positions among the n images, in the order to be shown.
    """
    kinds = np.where(truth.any(axis=1), truth.argmax(axis=1), answers.explained)
    order = numpy_generator(seed, "saliency").permutation(len(kinds))
    waiting = {
        kind: [
            [place for place in order if kinds[place] == kind and answers.right[place] == verdict]
            for verdict in (False, True)
        ]
        for kind in sorted(set(kinds.tolist()))
    }
    chosen: list[int] = []
    turn = 0
    while len(chosen) < count and any(rows for both in waiting.values() for rows in both):
        for both in waiting.values():
            rows = both[turn % 2] or both[(turn + 1) % 2]
            if rows and len(chosen) < count:
                chosen.append(int(rows.pop(0)))
        turn += 1
    return np.array(chosen, dtype=np.int64)


def saliency_part(judged: Judged) -> Part:
    """Draw what the answers on a few images come from, and measure it on those with a mask."""
    count = judged.classifier.preset.measure.saliency
    if count == 0 or len(judged.scores.rows) == 0:
        return Part()
    answers = answers_of(judged)
    return joined([_shown(judged, answers, count), mass_part(judged, answers.explained)])


def _shown(judged: Judged, answers: Answers, count: int) -> Part:
    places = chosen_examples(answers, judged.found.truth, count=count, seed=judged.seed)
    rows = judged.scores.rows[places]
    asked = {
        "explained": answers.explained[places],
        "missed": np.where(answers.missed < 0, answers.explained, answers.missed)[places],
    }
    maps = saliency_maps(judged.classifier, judged.images, rows, **asked)
    blank = saliency_maps(untrained(judged.classifier), judged.images, rows, **asked)
    masks, _ = masks_of(judged, rows)
    alike = {
        CAM: [_alike(*both) for both in zip(maps.cam, blank.cam, strict=True)],
        INTEGRATED: [_alike(*both) for both in zip(maps.integrated, blank.integrated, strict=True)],
    }
    cases = _cases(judged, answers, places, maps, masks)
    outlined = any(case.mask is not None for case in cases)
    return Part(
        figures=(
            Figure(
                "Where the answers come from",
                f"{len(cases)} images, the classes taking turns, wrong and right calls in turn. "
                "Bright places raise the score of the class named above: Grad-CAM on the coarse "
                f"grid of the last feature map, integrated gradients (steps: "
                f"{judged.classifier.preset.measure.integrated_steps}, from an even grey; smoothed "
                "for the eye) pixel by pixel. Each map has its own scale."
                + (" The blue line is the outline of the mask." if outlined else "")
                + " This shows where the network looks. It does not show why, nor that a finding "
                "is there; a plausible map is no proof of a right answer.",
                saliency_grid(cases),
                "png",
                section="examples",
            ),
        ),
        tables=(_alike_table(alike, maps, len(cases)),),
        warnings=tuple(
            f"{name} looks much the same for a network that has learnt nothing (mean rank "
            f"correlation {mean:.2f} on {len(cases)} images): its maps show the image rather than "
            "what was learnt."
            for name, values in alike.items()
            if (mean := _mean(values)) >= ALIKE
        ),
    )


def _alike(values: np.ndarray, other: np.ndarray) -> float:
    """Return the rank correlation of two maps; NaN where one is even."""
    if np.ptp(values) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(spearmanr(values.reshape(-1), other.reshape(-1)).statistic)


def _mean(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _alike_table(alike: dict[str, list[float]], maps: SaliencyMaps, count: int) -> Table:
    known = maps.gap[np.isfinite(maps.gap)]
    gap = float(np.median(known)) if len(known) else float("nan")
    return Table(
        "Do the maps depend on what was learnt?",
        ["Method", "Images", "Like the map of an untrained network", "Left unexplained"],
        [
            [name, int(np.isfinite(values).sum()), _mean(values), share]
            for name, values, share in (
                (CAM, alike[CAM], float("nan")),
                (INTEGRATED, alike[INTEGRATED], gap),
            )
        ],
        note="Mean rank correlation of each map with that of the same network with weights drawn "
        "anew (Adebayo et al. 2018): near 0 the map is about what was learnt, near 1 it is about "
        "the image alone. Left unexplained: by how much integrated gradients do not add up to the "
        "score less that of the even grey, as a share of it (median); above 0.05 set more "
        f"measure.integrated_steps. Of {count} images shown; those without a value have a map "
        "that is zero everywhere.",
        section="examples",
    )


def _cases(
    judged: Judged,
    answers: Answers,
    places: np.ndarray,
    maps: SaliencyMaps,
    masks: dict[int, np.ndarray],
) -> list[Explained]:
    classifier, images, found = judged.classifier, judged.images, judged.found
    names = called_names(
        judged.scores.probability[places],
        classifier.classes,
        kind=classifier.kind,
        threshold=classifier.preset.labels.threshold,
    )
    cases = []
    for k, place in enumerate(places.tolist()):
        row = int(judged.scores.rows[place])
        image = to_float(np.ascontiguousarray(images.stored[row]))
        true = [
            name for name, is_so in zip(found.classes, found.truth[place], strict=True) if is_so
        ]
        missed = int(answers.missed[place])
        cases.append(
            Explained(
                image=image if len(image) == 3 else image[:1],
                id=images.ids[row],
                truth=";".join(true),
                called=names[k],
                explained=classifier.classes[int(answers.explained[place])],
                missed=classifier.classes[missed] if missed >= 0 else "",
                cam=maps.cam[k],
                integrated=maps.integrated[k],
                cam_of_missed=maps.cam_of_missed[k],
                mask=masks.get(row),
            )
        )
    return cases
