"""The shortcut audit: the network beside baselines, sources, and copies across the split.

A test set drawn like the training set rewards shortcuts as much as signs of disease. So the same
images are also given to models that cannot see the disease: if those do nearly as well, or if the
network does well without the organ, a good number says little of the next hospital.

DeGrave, Janizek, Lee. AI for radiographic COVID-19 detection selects shortcuts over signal. Nature
Machine Intelligence 2021.

Maguolo, Nanni. A critic evaluation of methods for COVID-19 automatic detection from X-ray images.
Information Fusion 2021.
"""

from __future__ import annotations

import numpy as np

from medglean.classify.parts import Judged, Part
from medglean.classify.shortcuts import page
from medglean.classify.shortcuts.baselines import (
    Answer,
    Ground,
    ground_of,
)
from medglean.classify.shortcuts.compare import area_of, compare
from medglean.classify.shortcuts.copies import copies_of
from medglean.classify.shortcuts.hiding import (
    hidden_regions,
)
from medglean.classify.shortcuts.origin import Origin, origin_of
from medglean.classify.shortcuts.result import Audit, CopyCheck
from medglean.classify.shortcuts.seers import components_of, each_family, pictured, written_down
from medglean.classify.shortcuts.written import families_of
from medglean.measure.resting import Measure, intervals_of


def shortcuts_part(judged: Judged) -> Part:
    """Measure what cannot see the disease beside the network, and say whether the network beats it.

    Every baseline learns from the training part where that is at hand; otherwise it is
    cross-validated over the patients that are judged, and the table says so.

    Parameters
    ----------
    judged
        The network on its images.

    Returns
    -------
    Part
        Empty where the preset asks for no audit. What cannot be measured, for want of patients or
        files, is NaN with a note.
    """
    if not judged.classifier.preset.measure.shortcuts or len(judged.scores.rows) == 0:
        return Part()
    return page.part_of(audited(judged), judged)


def audited(judged: Judged) -> Audit:
    """Return everything that the audit measures."""
    rows, settings = judged.scores.rows, judged.classifier.preset.measure
    learn = _apart(judged)
    used = rows if learn is None else np.concatenate([learn, rows])
    ground = ground_of(judged, learn)
    network = Answer(judged.found.probability, judged.found.called, tuple(ground.measured))
    hidden = hidden_regions(judged.images, np.unique(used), column=settings.mask)
    whole = components_of(judged, used, learn, levels=False)
    baselines = pictured(judged, ground, hidden, used, learn, whole)
    families = families_of(judged.images, used, further=settings.subgroups)
    written = [written_down(ground, families), *each_family(ground, families)]
    itself, beside = compare(
        ground.truth,
        network,
        [*baselines, *written],
        ground.groups,
        replicates=settings.replicates,
        seed=judged.seed,
    )
    main = len(baselines) + 1
    return Audit(
        network=itself,
        baselines=tuple(beside[:main]),
        families=tuple(beside[main:]),
        ground=ground,
        hidden=hidden,
        origin=_origin(judged, ground, used, whole),
        copies=_copies(judged, ground, network),
    )


def _apart(judged: Judged) -> np.ndarray | None:
    """Return the rows to learn from whose patients are not judged; None where there are none."""
    if judged.learn is None:
        return None
    images = judged.images
    usable = np.intersect1d(judged.learn, images.positions())
    free = usable[
        ~np.isin(images.groups[usable].astype(str), np.asarray(judged.groups).astype(str))
    ]
    return free if len(free) else None


def _origin(judged: Judged, ground: Ground, used: np.ndarray, whole: np.ndarray) -> Origin | None:
    tables = [ground.truth] if ground.learn_truth is None else [ground.learn_truth, ground.truth]
    return origin_of(
        judged.images.manifest.frame.iloc[used],
        np.concatenate(tables),
        ground.classes,
        judged.images.groups[used].astype(str),
        whole,
        exclusive=ground.kind == "single",
        seed=ground.seed,
    )


def _copies(judged: Judged, ground: Ground, network: Answer) -> CopyCheck | None:
    """Look for near duplicates across the split, and measure the network without them."""
    rows = judged.scores.rows
    if judged.learn is None:
        return None
    learn = np.setdiff1d(judged.learn, rows)
    if len(learn) == 0:
        return None
    copies = copies_of(judged.images, learn, rows)
    free = np.flatnonzero(~copies.seen(rows))
    measures = {"all": Measure(area_of(ground.truth, network), np.arange(len(rows)))}
    if 0 < len(free) < len(rows):
        rest = Answer(network.probability[free], network.called[free], _defined(ground.truth[free]))
        measures["without"] = Measure(area_of(ground.truth[free], rest), free)
    found = intervals_of(
        measures,
        ground.groups,
        replicates=judged.classifier.preset.measure.replicates,
        seed=judged.seed,
    )
    return CopyCheck(copies, len(rows) - len(free), found["all"], found.get("without"))


def _defined(truth: np.ndarray) -> tuple[int, ...]:
    count = truth.sum(axis=0)
    return tuple(int(j) for j in np.flatnonzero((count > 0) & (count < len(truth))))
