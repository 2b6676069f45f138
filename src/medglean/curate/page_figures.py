"""The figures on a curation's page."""

from __future__ import annotations

import numpy as np

from medglean.curate import pictures
from medglean.curate.curation import Curation
from medglean.curate.figures import coverage_curves, similarity_histogram
from medglean.curate.map import embedding_map, lay_out
from medglean.curate.pictures import Picture
from medglean.runs.report import Figure


def charts(curation: Curation, *, map_names: str | None, seed: int) -> list[Figure]:
    """Draw what a budget covers, how alike the images are, and where the selected ones lie.

    Parameters
    ----------
    curation
        What was found.
    map_names
        Column whose values the map tells apart; None: the label.
    seed
        Of the map.
    """
    selection, alike = curation.selection, curation.redundancy
    noun = curation.grouped_by or "group"
    drawn = [
        Figure(
            "What a budget covers",
            "The higher, the better do the labelled images stand for the others. Where the curve "
            "flattens, further labels add little that is new.",
            coverage_curves(
                curation.curves,
                budget=len(selection.chosen),
                images=len(selection.eligible),
            ),
            "svg",
        ),
        Figure(
            "How similar the images are to one another",
            "Dotted lines: share of all pairs above a similarity. Pairs at 1 are copies or "
            "neighbouring frames.",
            similarity_histogram(
                alike.edges,
                alike.counts,
                shares=alike.shares["all"],
                group_name=noun,
            ),
            "svg",
        ),
    ]
    usable = np.flatnonzero(~np.isnan(curation.similarity))
    laid_out = lay_out(curation.values[usable], seed=seed)
    aside = np.intersect1d(np.array(list(curation.set_aside), dtype=np.int64), usable)
    column = map_names or curation.label
    names = None
    if column is not None and column in curation.manifest.frame:
        values = curation.manifest.frame[column].iloc[usable]
        names = ["" if gone else str(value) for value, gone in
                 zip(values.tolist(), values.isna().tolist(), strict=True)]  # fmt: skip
    drawn.append(
        Figure(
            "Where the selected images lie",
            "One point per image; images that look alike lie together. Pale places without a "
            "rimmed point are not represented. Axes have no unit.",
            embedding_map(
                laid_out,
                np.searchsorted(usable, selection.chosen),
                names=names,
                names_are=column or "label",
                set_aside=np.searchsorted(usable, aside),
                seed=seed,
            ),
            "png",
        )
    )
    return drawn


def examples(curation: Curation, picture: Picture) -> list[Figure]:
    """Show the first picks, pairs kept and left out, suspected label errors, and junk."""
    selection, ids = curation.selection, curation.manifest.ids
    chosen = selection.ranking.first(selection.budget)
    drawn = [
        Figure(
            "The first images to label",
            "With rank and reason; the similarity is to the most similar image taken before.",
            pictures.first_picks(chosen, picture, ids),
            "png",
            section="examples",
        )
    ]
    out = _left_out(curation)
    if len(out):
        drawn.append(
            Figure(
                "Left out, because of",
                "Left: a selected image. Right: one that was not selected and that it stands for. "
                "From the most similar pair to the least similar one.",
                pictures.left_out(
                    picture,
                    ids,
                    dropped=out,
                    kept=curation.nearest[out],
                    similarity=curation.similarity[out],
                ),
                "png",
                section="examples",
            )
        )
    found = curation.conflicts
    if found is not None and len(found.pairs):
        drawn.append(
            Figure(
                "Suspected label errors",
                "Near-duplicates with different labels, the most similar first. SSIM compares "
                "the two pictures themselves: 1 is the same.",
                pictures.doubtful_labels(picture, ids, found),
                "png",
                section="examples",
            )
        )
    junk = selection.outliers
    if junk is not None and len(junk):
        drawn.append(
            Figure(
                "Set aside as outliers",
                f"{min(pictures.PICKS, len(junk))} of {len(junk):,}, the most lonely first; the "
                f"similarity is to the {_nearest(junk.neighbour)}. A rare disease may be "
                "among them.",
                pictures.junk(
                    picture, ids, positions=junk.position, score=junk.score, reason=junk.reason
                ),
                "png",
                section="examples",
            )
        )
    return drawn


def _left_out(curation: Curation) -> np.ndarray:
    """Return the images that were neither selected, nor taken beforehand, nor set aside."""
    out = np.zeros(len(curation.manifest), dtype=bool)
    out[curation.selection.eligible] = True
    out[curation.selection.chosen] = False
    out[curation.selection.taken] = False
    return np.flatnonzero(out)


def _nearest(place: int) -> str:
    """Return which neighbour is meant."""
    return "nearest image" if place == 1 else f"image that is number {place} in nearness"
