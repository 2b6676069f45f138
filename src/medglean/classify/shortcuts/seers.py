"""The baselines themselves: each with what it sees and what it says."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from medglean.classify.parts import Judged
from medglean.classify.scores import score_rows
from medglean.classify.shortcuts.baselines import (
    Answer,
    Ground,
    answer,
    called_of,
    constant,
    names_of,
    regression,
)
from medglean.classify.shortcuts.compare import Baseline
from medglean.classify.shortcuts.hiding import (
    FRAME_PX,
    Hidden,
    batches,
    border_of,
    filled,
    flat_thumbnails,
    interior,
)
from medglean.data.shortcuts import boosted_trees
from medglean.nn.floor import SIZE_PX, component_features
from medglean.runs.style import percent


def components_of(
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


def pictured(
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
            answer(ground, components_of(judged, used, learn, levels=True, flat=border), learner),
        ),
        Baseline(
            "hidden",
            f"No network, {hidden.name} hidden",
            f"the picture with the {hidden.name} hidden",
            f"the other {percent(1 - hidden.share)} of the picture: principal components, "
            "logistic regression",
            answer(ground, components_of(judged, used, learn, levels=True, flat=rest), learner),
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


def written_down(ground: Ground, families: dict[str, np.ndarray]) -> Baseline:
    """Return the baseline that knows all that is written down, and no picture."""
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


def each_family(ground: Ground, families: dict[str, np.ndarray]) -> list[Baseline]:
    """Return a baseline for each kind of what is written down."""
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
