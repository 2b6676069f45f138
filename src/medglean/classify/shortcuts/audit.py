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

import copy
from dataclasses import replace

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from medglean.classify.parts import Judged, Part
from medglean.classify.scores import score_rows
from medglean.classify.shortcuts import page
from medglean.classify.shortcuts.baselines import (
    Answer,
    Ground,
    answer,
    called_of,
    constant,
    ground_of,
    names_of,
    regression,
)
from medglean.classify.shortcuts.compare import Baseline, area_of, compare
from medglean.classify.shortcuts.copies import copies_of
from medglean.classify.shortcuts.hiding import (
    FRAME_PX,
    Hidden,
    batches,
    border_of,
    filled,
    flat_thumbnails,
    hidden_regions,
    interior,
)
from medglean.classify.shortcuts.origin import Origin, origin_of
from medglean.classify.shortcuts.result import Audit, CopyCheck
from medglean.classify.shortcuts.written import families_of
from medglean.data.shortcuts import boosted_trees
from medglean.measure.resting import Measure, intervals_of
from medglean.nn.floor import SIZE_PX, component_features
from medglean.runs.style import percent


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
    whole = _components(judged, used, learn, levels=False)
    baselines = _pictures(judged, ground, hidden, used, learn, whole)
    families = families_of(judged.images, used, further=settings.subgroups)
    written = [_metadata(ground, families), *_each_family(ground, families)]
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


def _components(
    judged: Judged,
    used: np.ndarray,
    learn: np.ndarray | None,
    *,
    levels: bool,
    flat: np.ndarray | None = None,
) -> np.ndarray:
    """Return components of thumbnails, by default of whole images.

    Where there is nothing to learn from, all give the components: no label is used for that.
    """
    flat = flat_thumbnails(judged.images, used) if flat is None else flat
    if len(used) < 2:
        return np.zeros((len(used), 0))
    count = len(used) if learn is None else len(learn)
    with threadpool_limits(1):  # on few images threads waiting for one another cost most
        return component_features(flat, np.arange(count), levels=levels)


def _pictures(
    judged: Judged,
    ground: Ground,
    hidden: Hidden,
    used: np.ndarray,
    learn: np.ndarray | None,
    whole: np.ndarray,
) -> list[Baseline]:
    """Return the baselines that see nothing, a part of the picture, or all of it."""
    images = judged.images
    frame = 1 - float(interior(SIZE_PX, SIZE_PX).mean())
    border = border_of(flat_thumbnails(images, used))
    rest = flat_thumbnails(images, used, lambda pictures, part: filled(pictures, hidden.of(part)))
    learner, always = regression(), constant(ground)
    said = names_of(always.called[0], ground.classes)
    return [
        Baseline(
            "constant",
            "Constant answer",
            f"the constant answer {said!r}",
            f"nothing: every image is called {said!r}",
            always,
            by="right",
        ),
        Baseline(
            "floor",
            "No network, whole image",
            "the floor without a network",
            f"the whole picture at {SIZE_PX} px: principal components, logistic regression",
            answer(ground, whole, learner),
            blind=False,
        ),
        Baseline(
            "border",
            "Border alone",
            "the border alone",
            f"the outermost {percent(FRAME_PX / SIZE_PX)} of each side, {percent(frame)} of the "
            "picture",
            answer(ground, _components(judged, used, learn, levels=True, flat=border), learner),
        ),
        Baseline(
            "hidden",
            f"No network, {hidden.name} hidden",
            f"the picture with the {hidden.name} hidden",
            f"the other {percent(1 - hidden.share)} of the picture: principal components, "
            "logistic regression",
            answer(ground, _components(judged, used, learn, levels=True, flat=rest), learner),
        ),
        Baseline(
            "network hidden",
            f"This network, {hidden.name} hidden",
            f"itself with the {hidden.name} hidden",
            f"the other {percent(1 - hidden.share)} of the picture, the rest filled with its mean",
            _blinded(judged, ground, hidden),
        ),
    ]


def _blinded(judged: Judged, ground: Ground, hidden: Hidden) -> Answer:
    """Return what the network itself says of its images without what is hidden."""
    images, rows = judged.images, judged.scores.rows
    changed = np.empty((len(rows), *images.stored.shape[1:]), images.stored.dtype)
    place = 0
    for part in batches(rows):
        pictures = np.asarray(images.stored[part])
        changed[place : place + len(part)] = filled(pictures, hidden.of(part))
        place += len(part)
    # the same set of images, but for its pictures: scored exactly as the others are
    shown = copy.copy(images)
    shown.cached = replace(images.cached, array=changed)
    found = score_rows(judged.classifier, shown, np.arange(len(rows)))
    called = called_of(found.probability, kind=ground.kind, threshold=ground.threshold)
    return Answer(found.probability, called, tuple(ground.measured))


def _metadata(ground: Ground, families: dict[str, np.ndarray]) -> Baseline:
    known = ", ".join(families) or "nothing that differs between images"
    rows = len(ground.truth) + (0 if ground.learn_truth is None else len(ground.learn_truth))
    features = np.concatenate([np.zeros((rows, 0)), *families.values()], axis=1)
    return Baseline(
        "metadata",
        "Metadata alone",
        "metadata alone",
        f"{known}: boosted trees",
        answer(ground, features, boosted_trees(ground.seed)),
    )


def _each_family(ground: Ground, families: dict[str, np.ndarray]) -> list[Baseline]:
    return [
        Baseline(
            f"family {name}",
            name,
            f"{name} alone",
            name,
            answer(ground, features, boosted_trees(ground.seed)),
        )
        for name, features in families.items()
    ]


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
