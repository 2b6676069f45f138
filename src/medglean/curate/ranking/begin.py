"""How an order begins: what was taken beforehand, and the random start."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from medglean.curate.order import Limits
from medglean.curate.ranking import kernels as kernels
from medglean.curate.ranking.state import Room, State
from medglean.curate.similarity import check_positions, inverse_norms, raise_to_set, spans
from medglean.errors import UsageError
from medglean.randomness import numpy_generator

_TOGETHER = 256  # starting images compared with one another without a matrix product


def check_limits(limits: Limits, *, n: int) -> None:
    """Check that limits belong to ``n`` images.

    Raises
    ------
    UsageError
        If there is not one number for each image, or a number has no limit.
    """
    most = None if limits.stratum_max is None else len(limits.stratum_max)
    for what, codes, count in (("groups", limits.groups, None), ("strata", limits.strata, most)):
        if codes is None:
            continue
        if len(codes) != n:
            raise UsageError(f"{what}: {len(codes)} numbers for {n} images; expected one for each.")
        if n and codes.min() < 0:
            raise UsageError(f"{what}: number {codes.min()} found; expected 0 or more.")
        if count is not None and n and codes.max() >= count:
            raise UsageError(
                f"{what}: number {codes.max()} found, and limits for {count} strata. Give a limit "
                "for every stratum."
            )


def uniform_start(
    images: int | Int[np.ndarray, " c"],
    *,
    count: int,
    seed: int,
    limits: Limits | None = None,
    taken: Sequence[int] | Int[np.ndarray, " t"] = (),
) -> Int[np.ndarray, " s"]:
    """Draw the images that an order starts from, uniformly, without any twice.

    Parameters
    ----------
    images
        Number of images, or the positions to draw from.
    count
        How many to draw.
    seed
        The draw is a function of it and of ``images``; a smaller count gives the first of a larger.
    limits
        Images of a full group or stratum are passed over.
    taken
        Positions taken beforehand: not drawn, and counted by the limits.

    Returns
    -------
    array
        Positions in the order drawn.

    Raises
    ------
    UsageError
        If fewer than ``count`` images can be drawn.

    Examples
    --------
    >>> uniform_start(5, count=2, seed=0).tolist() == uniform_start(5, count=3, seed=0)[:2].tolist()
    True
    """
    positions = np.arange(images) if isinstance(images, int) else np.asarray(images)
    room = Room.of(limits or Limits())
    for position in taken:
        room.take(int(position))
    drawn: list[int] = []
    left_out = {int(position) for position in taken}
    for position in numpy_generator(seed, "start").permutation(positions):
        if len(drawn) == count:
            break
        if int(position) not in left_out and len(room.remaining(np.array([position]))):
            room.take(int(position))
            drawn.append(int(position))
    if len(drawn) < count:
        raise UsageError(
            f"{count} images to start from were asked for and {len(drawn)} of {len(positions)} can "
            "be drawn. Ask for fewer, or loosen the limits."
        )
    return np.array(drawn, dtype=np.int64)


def check_beginning(
    n: int,
    *,
    start: Sequence[int] | Int[np.ndarray, " s"],
    taken: Sequence[int] | Int[np.ndarray, " t"],
    count: int | None,
    limits: Limits,
) -> tuple[Int[np.ndarray, " s"], Int[np.ndarray, " t"], int]:
    """Return start, taken and count after checking that an order can begin so.

    Raises
    ------
    UsageError
        If a position does not exist or comes twice, nothing is there to start from, the count is
        below the start or above what there is, or the start breaks the limits.
    """
    first = check_positions(start, count=n, what="start")
    before = check_positions(taken, count=n, what="taken")
    check_limits(limits, n=n)
    both = np.concatenate([before, first])
    values, times = np.unique(both, return_counts=True)
    if (times > 1).any():
        raise UsageError(
            f"position {values[times > 1][0]} comes twice in start and taken; expected each image "
            "at most once."
        )
    if not len(both):
        raise UsageError(
            "An order needs images to start from: give start (uniform_start draws one) or taken."
        )
    left = n - len(before)
    total = left if count is None else count
    if not len(first) <= total <= left:
        raise UsageError(
            f"count is {total}; expected at least the {len(first)} images of the start and at most "
            f"the {left} that are not taken beforehand."
        )
    room = Room.of(limits)
    for position in before:
        room.take(int(position))
    for position in first:
        if not len(room.remaining(np.array([position]))):
            raise UsageError(
                f"start: position {position} breaks the limits (its group or stratum is full). "
                "Draw the start with uniform_start(..., limits=limits, taken=taken)."
            )
        room.take(int(position))
    return first, before, total


def begin(
    values: Float[np.ndarray, "n d"],
    *,
    start: Int[np.ndarray, " s"],
    taken: Int[np.ndarray, " t"],
    count: int,
    limits: Limits,
    stop_similarity: float,
) -> State:
    """Return an order that holds the start, with every other image compared with all of it."""
    n = len(values)
    state = State(
        values=values,
        inverse_norm=inverse_norms(values),
        room=Room.of(limits),
        largest=np.full(n, -np.inf),
        nearest=np.full(n, -1, dtype=np.int64),
        sources=np.empty(len(taken) + count, dtype=np.int64),
        seen=np.zeros(n, dtype=np.int32),
        order=np.empty(count, dtype=np.int64),
        similarity=np.empty(count),
        neighbour=np.empty(count, dtype=np.int64),
        stop_similarity=stop_similarity,
        started=len(start),
    )
    for position in (*taken, *start):
        state.room.take(int(position))
    state.add_sources(taken)
    for part in spans(len(start), _TOGETHER):
        some = start[part]
        _compare(state, some)
        kernels.compare_in_turn(values, state.inverse_norm, some, state.largest, state.nearest)
        state.exact += len(some) * (len(some) - 1) // 2
        state.record(some)
    if not state.done:
        _compare(state, np.flatnonzero(state.largest < np.inf))
    state.seen[:] = state.source_count
    return state


def _compare(state: State, rows: Int[np.ndarray, " r"]) -> None:
    """Compare rows with all sources there are."""
    sources = state.sources[: state.source_count]
    if not len(sources):
        return
    state.exact += raise_to_set(
        state.values,
        state.inverse_norm,
        rows,
        sources,
        largest=state.largest,
        nearest=state.nearest,
    )
    state.filtered += len(rows) * len(sources)
