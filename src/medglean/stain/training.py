"""Fit the networks of a stain to training pairs, one after the other."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import nn

from medglean.errors import DataError
from medglean.files import sha256_of_json
from medglean.fitting import FitResult, Loader, fit, load_last, load_weights, make_optimizer
from medglean.fitting.devices import resolved
from medglean.fitting.progress import FitProgress
from medglean.nn.backbones import parameter_count
from medglean.runs.rundir import RunFolder
from medglean.stain.fits import Planned, Rows, classifier_fit, gan_fit, settings_of
from medglean.stain.levels import JUDGE, LEVEL
from medglean.stain.networks import GENERATOR, SECTIONS, networks_of
from medglean.stain.pairs import Chosen, Pairs
from medglean.stain.settings import StainPreset

FOLDERS = {GENERATOR: "gan"}
"""Where a network is trained, if not in a folder of its own name."""

log = logging.getLogger("medglean")


def check_parts(pairs: Pairs, chosen: Chosen) -> None:
    """Refuse a training part from which nothing can be learnt.

    Raises
    ------
    DataError
        If no pair of it could be read, or none of those that were kept aside to measure on.
    """
    if len(pairs.positions("train")) == 0:
        asked = int((chosen.manifest.frame["split"] == "train").sum())
        first = f" {pairs.failures[0]}" if pairs.failures else ""
        raise DataError(
            f"none of the {asked} pairs of the training part can be used. Check the column "
            f"'split', and problems.csv.{first}"
        )
    aside = int(chosen.manifest.frame["split"].isin(("val", "test")).sum())
    if aside and not any(len(pairs.positions(part)) for part in ("val", "test")):
        raise DataError(
            f"none of the {aside} pairs that were kept aside to measure on can be used. Check "
            "problems.csv, or set split.test and split.val to 0 to measure on the training pairs."
        )


def fit_networks(
    run: RunFolder,
    pairs: Pairs,
    chosen: Chosen,
    preset: StainPreset,
    *,
    rows: Rows | None = None,
    progress: Callable[[], FitProgress] | None = None,
) -> tuple[dict[str, nn.Module], dict[str, FitResult]]:
    """Train what the preset needs, going on from what the run folder has.

    The classifier of the level comes first and is frozen then, the judge second, generator and
    discriminator last. Each training has its own folder with log and checkpoints: ``level``,
    ``judge``, ``gan``. One that is done is read, so a run that was stopped in the last goes on
    there.

    Parameters
    ----------
    run
        Open for writing.
    pairs
        Opened from ``chosen.manifest``.
    chosen
        The levels and parts.
    preset
        What to train, and how.
    rows
        Learn from these rows alone, and judge no network on the way; by default from the training
        part, judged on the validation part.
    progress
        Makes who tells how far a training is; by default a bar or lines on standard error.

    Returns
    -------
    tuple
        The networks that a run keeps (see `medglean.stain.networks.networks_of`), on the CPU, in
        evaluation mode: with the averaged weights where there is an average, of the last step, or
        with ``patience`` of the best validation. And what each training came to. Both are empty
        where nothing is learnt.

    Raises
    ------
    DataError
        If a classifier would see fewer than two levels.
    Interrupted
        After Ctrl-C or SIGTERM; a later call goes on.
    """
    networks: dict[str, nn.Module] = {}
    results: dict[str, FitResult] = {}
    for name in networks_of(preset):
        networks[name], results[name] = fit_network(
            name,
            run,
            pairs,
            chosen,
            preset,
            level=networks.get(LEVEL),
            rows=rows,
            progress=progress,
        )
    return networks, results


def fit_network(
    name: str,
    run: RunFolder,
    pairs: Pairs,
    chosen: Chosen,
    preset: StainPreset,
    *,
    level: nn.Module | None = None,
    folder: Path | None = None,
    rows: Rows | None = None,
    progress: Callable[[], FitProgress] | None = None,
) -> tuple[nn.Module, FitResult]:
    """Train one network of a preset, going on from what its folder has.

    Parameters
    ----------
    name
        One of `medglean.stain.networks.networks_of`.
    run, pairs, chosen, preset, rows, progress
        As for `fit_networks`.
    level
        The trained classifier of the level, where the generator is given its features. It stays
        as it is.
    folder
        For log and checkpoints; by default in the run, of the network's name.
    """
    place = run.path / FOLDERS.get(name, name) if folder is None else folder
    place.mkdir(parents=True, exist_ok=True)
    if rows is None:
        learn, kept = pairs.positions("train"), pairs.positions("val")
    else:
        learn, kept = np.asarray(rows, dtype=np.int64), np.zeros(0, np.int64)
    if name in (LEVEL, JUDGE):
        plan = classifier_fit(name, pairs, chosen, preset, learn, kept)
    else:
        plan = gan_fit(pairs, preset, learn, kept, level=level, folder=place)
    result = _fit(run, pairs, preset, plan, place, progress)
    return plan.networks[plan.main].cpu().eval(), result


def trained_by(name: str, preset: StainPreset) -> str:
    """Return a hash of all settings that a network's training depends on.

    Presets with the same one share the network. Which rows it learnt from is not in it.
    """
    tables: dict[str, object] = preset.model_dump(
        mode="json", include={"images", "augment", "white", "split", *SECTIONS[name]}
    )
    fit = settings_of(name, preset)
    tables["level"] = preset.level.model_dump(mode="json", exclude={"fit"})
    above = LEVEL if name == GENERATOR and preset.generator.level_features else None
    return sha256_of_json(
        {
            **tables,
            "white": preset.white.model_dump(mode="json", exclude={"reapply"}),
            "role": JUDGE if name == JUDGE else "",
            "fit": fit.fixed(),
            "steps": [fit.epochs, fit.max_steps, fit.patience],
            "above": "" if above is None else trained_by(above, preset),
        }
    )


def _fit(
    run: RunFolder,
    pairs: Pairs,
    preset: StainPreset,
    plan: Planned,
    folder: Path,
    progress: Callable[[], FitProgress] | None,
) -> FitResult:
    """Train the networks of a plan in their folder; they have the weights that are kept after."""
    settings = resolved(plan.settings)
    if plan.validate is None:
        settings = settings.model_copy(update={"patience": None})
    loader = Loader(
        plan.fetch,
        plan.positions,
        batch_size=settings.batch_size,
        seed=settings.seed,
        workers=settings.workers,
        drop_last=len(plan.positions) > settings.batch_size,  # batches of one shape: faster
        ids=plan.ids,
    )
    weights = parameter_count(plan.networks[plan.main])
    log.info("%s with %d parameters, %d images", folder.name, weights, len(plan.positions))
    result = fit(
        plan.step,
        networks=plan.networks,
        optimizers={
            name: make_optimizer(
                list(network.parameters()), settings.optimizer, precision=settings.precision
            )
            for name, network in plan.networks.items()
        },
        loader=loader,
        settings=settings,
        folder=folder,
        validate=plan.validate,
        resume=True,  # the run folder has decided that already
        identity=_identity(run, pairs, preset, plan),
        progress=None if progress is None else progress(),
    )
    for warning in result.warnings:
        log.warning("%s", warning)
    if settings.patience is not None and result.best is not None:
        load_weights(result.best, plan.networks)
    else:
        load_last(result.last, plan.networks)
    return result


def _identity(
    run: RunFolder, pairs: Pairs, preset: StainPreset, plan: Planned
) -> dict[str, str | int | float | bool]:
    """Return what a resumed training must share besides the settings of the loop."""
    name = GENERATOR if plan.main == GENERATOR else LEVEL
    tables = preset.model_dump(mode="json", include={*SECTIONS[name], "augment", "white"})
    tables.get("level", {}).pop("fit", None)
    tables["white"].pop("reapply")
    return {
        "split": str(run.record["split_hash"]),
        "cache": pairs.cache_hash,
        "network": sha256_of_json(tables),
        "above": plan.above,
    }
