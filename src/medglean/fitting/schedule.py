"""The learning rate as a pure function of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math

from medglean.fitting.settings import ScheduleSettings


def factor(
    step: int, *, schedule: ScheduleSettings, total_steps: int, steps_per_epoch: int
) -> float:
    r"""Return what the base learning rate is multiplied by at a step.

    Parameters
    ----------
    step
        Optimiser steps done before this one, from 0 to ``total_steps - 1``.
    schedule
        Which curve, and its numbers.
    total_steps
        Steps of the whole fit.
    steps_per_epoch
        Steps of one epoch, to turn ``decay_after_epochs`` into steps.

    Returns
    -------
    float
        In [0, 1].

    Notes
    -----
    With :math:`w` warm-up steps the first :math:`w` factors are :math:`(s + 1) / w`, so that the
    first step moves already and step :math:`w - 1` has the full rate. Afterwards, with
    :math:`p = (s - w) / (T - w)` and the final factor :math:`f`:

    * ``cosine``: :math:`f + (1 - f) (1 + \cos \pi p) / 2` (Loshchilov and Hutter, SGDR, 2017);
    * ``linear-decay``: 1 until step :math:`d`, then :math:`1 - (1 - f)(s - d) / (T - d)`;
    * ``one-cycle``: half a cosine up from ``start_factor`` to 1 and half a cosine down to
      :math:`f` at the last step (Smith and Topin, Super-Convergence, 2019).

    Examples
    --------
    >>> halved = ScheduleSettings(name="cosine")
    >>> round(factor(50, schedule=halved, total_steps=100, steps_per_epoch=10), 6)
    0.5
    """
    if schedule.name == "one-cycle":
        return _one_cycle(step, schedule=schedule, total_steps=total_steps)
    warmup = schedule.warmup_steps
    if step < warmup:
        return (step + 1) / warmup
    if schedule.name == "cosine":
        progress = (step - warmup) / max(1, total_steps - warmup)
        return _between(1.0, schedule.final_factor, progress)
    if schedule.name == "linear-decay":
        start = max(warmup, round(schedule.decay_after_epochs * steps_per_epoch))
        progress = max(0, step - start) / max(1, total_steps - start)
        return 1.0 - (1.0 - schedule.final_factor) * min(1.0, progress)
    return 1.0


def _between(first: float, last: float, progress: float) -> float:
    """Go from ``first`` (progress 0) to ``last`` (progress 1) along half a cosine."""
    progress = min(1.0, max(0.0, progress))
    return last + (first - last) * (1.0 + math.cos(math.pi * progress)) / 2.0


def _one_cycle(step: int, *, schedule: ScheduleSettings, total_steps: int) -> float:
    peak = schedule.peak_at * total_steps - 1.0
    if peak > 0.0 and step <= peak:
        return _between(schedule.start_factor, 1.0, step / peak)
    return _between(1.0, schedule.final_factor, (step - peak) / max(1.0, total_steps - 1.0 - peak))
