"""Orders that look at no image: random, random groups, fixed interval. What others must beat.

Each has a function for the positions alone, which the comparison with repeated draws calls, and
one that also tells what already taken image each resembles.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from medglean.curate.methods.along import ranked, take_in_order
from medglean.curate.order import Limits, Ranking
from medglean.randomness import numpy_generator

Positions = Sequence[int] | Int[np.ndarray, " t"]
NO_LIMITS = Limits()


def random_positions(
    n: int,
    *,
    count: int | None = None,
    seed: int = 0,
    limits: Limits = NO_LIMITS,
    taken: Positions = (),
) -> Int[np.ndarray, " m"]:
    """Return images drawn uniformly without replacement, as far as the limits let them."""
    shuffled = numpy_generator(seed, "curate", "random").permutation(n)
    return take_in_order(shuffled, n, count=count, limits=limits, taken=taken)


def random_group_positions(
    groups: Int[np.ndarray, " n"],
    *,
    count: int | None = None,
    seed: int = 0,
    limits: Limits = NO_LIMITS,
    taken: Positions = (),
) -> Int[np.ndarray, " m"]:
    """Return one random image of each group per round, groups in one random order.

    A group of which images were taken beforehand has had that many rounds.
    """
    n = len(groups)
    generator = numpy_generator(seed, "curate", "random-groups")
    turn = _turns(groups, generator)
    shuffled = generator.permutation(n)
    before = np.zeros(n, dtype=bool)
    before[np.asarray(taken, dtype=np.int64)] = True
    # taken ones first within their group, the others as shuffled: their place is their round
    sequence = shuffled[np.lexsort((~before[shuffled], groups[shuffled]))]
    starts = np.r_[0, np.flatnonzero(np.diff(groups[sequence])) + 1]
    sizes = np.diff(np.r_[starts, n])
    place = np.arange(n) - np.repeat(starts, sizes)
    rounds = sequence[np.lexsort((turn[groups[sequence]], place))]
    return take_in_order(rounds, n, count=count, limits=limits, taken=taken)


def whole_group_positions(
    groups: Int[np.ndarray, " n"],
    *,
    count: int | None = None,
    seed: int = 0,
    limits: Limits = NO_LIMITS,
    taken: Positions = (),
) -> Int[np.ndarray, " m"]:
    """Return random groups one after another, each with all of its images in their order."""
    turn = _turns(groups, numpy_generator(seed, "curate", "whole-groups"))
    sequence = np.argsort(turn[groups], kind="stable")
    return take_in_order(sequence, len(groups), count=count, limits=limits, taken=taken)


def interval_positions(
    n: int,
    *,
    count: int,
    length: int | None = None,
    within: Int[np.ndarray, " n"] | None = None,
    limits: Limits = NO_LIMITS,
    taken: Positions = (),
) -> Int[np.ndarray, " m"]:
    """Return every (n / count)-th image: the middles of ``count`` equal stretches.

    An interval belongs to one budget: the first ``count`` are exactly that interval among the
    images not taken beforehand. They come in bit-reversed order (van der Corput), so that a part
    of them is spread as well, evenly wherever it is a power of two. Beyond ``count`` the other
    images follow, in bit-reversed order of their place.

    Parameters
    ----------
    n
        Number of images.
    count
        The budget that the interval is for.
    length
        How long the order is to be; None: ``count``.
    within
        Groups: their images are first put side by side, so that the interval runs along each
        clip even where the manifest mixes them; None: the manifest's order.
    limits, taken
        As everywhere; an image that a limit forbids is left out, and the first that follows
        the interval takes its place.
    """
    line = np.arange(n) if within is None else np.argsort(within, kind="stable")
    line = take_in_order(line, n, count=None, limits=NO_LIMITS, taken=taken)
    count = min(count, len(line))
    picks = ((2 * np.arange(count) + 1) * len(line)) // (2 * max(count, 1))
    rest = np.setdiff1d(np.arange(len(line)), picks, assume_unique=True)
    sequence = np.concatenate([picks[_bit_reversed(count)], rest[_bit_reversed(len(rest))]])
    length = count if length is None else length
    return take_in_order(line[sequence], n, count=length, limits=limits, taken=taken)


def rank_random(
    values: Float[np.ndarray, "n d"],
    *,
    count: int,
    seed: int = 0,
    limits: Limits = NO_LIMITS,
    taken: Positions = (),
) -> Ranking:
    """Return images drawn uniformly without replacement.

    Parameters
    ----------
    values
        Embedding; used only to tell what each image resembles.
    count
        How many to take; fewer come back where the limits leave fewer.
    seed
        The order is a function of it, of n, of the limits and of what is taken.
    limits, taken
        What may be taken, and what was taken beforehand.
    """
    order = random_positions(len(values), count=count, seed=seed, limits=limits, taken=taken)
    return ranked(values, order, taken=taken, reason="random")


def rank_random_groups(
    values: Float[np.ndarray, "n d"],
    *,
    groups: Int[np.ndarray, " n"],
    count: int,
    seed: int = 0,
    limits: Limits = NO_LIMITS,
    taken: Positions = (),
) -> Ranking:
    """Return one random image of each group per round: many groups, few images of each.

    The first reading of "random clips"; `rank_whole_groups` is the other one. ``groups`` are
    numbers without gaps; the other parameters are those of `rank_random`.
    """
    order = random_group_positions(groups, count=count, seed=seed, limits=limits, taken=taken)
    return ranked(values, order, taken=taken, reason="random image of the next group")


def rank_whole_groups(
    values: Float[np.ndarray, "n d"],
    *,
    groups: Int[np.ndarray, " n"],
    count: int,
    seed: int = 0,
    limits: Limits = NO_LIMITS,
    taken: Positions = (),
) -> Ranking:
    """Return random groups with all of their images: few groups, many images of each.

    The second reading of "random clips". The last group may be cut by ``count``.
    """
    order = whole_group_positions(groups, count=count, seed=seed, limits=limits, taken=taken)
    return ranked(values, order, taken=taken, reason="all of a random group")


def rank_interval(
    values: Float[np.ndarray, "n d"],
    *,
    count: int,
    length: int | None = None,
    within: Int[np.ndarray, " n"] | None = None,
    limits: Limits = NO_LIMITS,
    taken: Positions = (),
) -> Ranking:
    """Return every (n / count)-th image of the manifest's order; see `interval_positions`."""
    order = interval_positions(
        len(values), count=count, length=length, within=within, limits=limits, taken=taken
    )
    return ranked(values, order, taken=taken, reason="fixed interval")


def _turns(groups: np.ndarray, generator: np.random.Generator) -> Int[np.ndarray, " g"]:
    """Return the turn of each group in a random order of the groups."""
    return generator.permutation(int(groups.max(initial=-1)) + 1)


def _bit_reversed(n: int) -> Int[np.ndarray, " n"]:
    """Return 0..n-1 sorted by their binary digits read backwards."""
    numbers = np.arange(n, dtype=np.int64)
    reversed_digits = np.zeros(n, dtype=np.int64)
    for digit in range(max(n - 1, 0).bit_length()):
        reversed_digits = (reversed_digits << 1) | ((numbers >> digit) & 1)
    return np.argsort(reversed_digits, kind="stable")
