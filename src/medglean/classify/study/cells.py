"""What the study trains: the cells of its tables, and which of them are one and the same training.

A training that stands in several tables, such as the report's learning rate, batch size and
optimiser, is made once: its cells share their name, which is that of its folder.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from medglean.classify.prepare import Chosen, choose
from medglean.classify.settings import ClassifyPreset
from medglean.classify.study.rows import Cell, Theme
from medglean.classify.study.settings import MAY_CHANGE, CxrStudyPreset
from medglean.classify.study.subsets import most_frequent, with_share
from medglean.data.division import SplitSettings
from medglean.data.manifest import Manifest
from medglean.errors import CheckpointError, PresetError, Problem
from medglean.files import sha256_of_json
from medglean.nn.backbones import build_backbone
from medglean.runs.preset import changed

NAMES = {
    "alexnet": "AlexNet",
    "vgg11": "VGG11",
    "resnet18": "ResNet18",
    "resnet34": "ResNet34",
    "resnet50": "ResNet50",
}
"""Networks as the tables name them."""


def cells_of_study(preset: CxrStudyPreset, chosen: Chosen) -> list[Cell]:
    """Return the cells of all tables that the preset asks for, in the tables' order.

    Parameters
    ----------
    preset
        Of the study.
    chosen
        Its images, divided.

    Raises
    ------
    PresetError
        If a row of ``study.optimizers`` changes more than the training, or two different
        trainings would share a name.
    """
    found: list[Cell] = []
    named: dict[str, str] = {}
    for cell in _asked_for(preset, chosen):
        key = training_key(cell)
        if key not in named and cell.name in named.values():
            raise PresetError(
                f"study: two different trainings would be called {cell.name!r}. Rename one of the "
                "rows of study.optimizers, or leave out one of two nearly equal numbers."
            )
        name = named.setdefault(key, cell.name)
        own = cell.preset.model_copy(update={"name": f"{preset.name}: {name}"})
        found.append(replace(cell, name=name, preset=own))
    return found


def trainings_of(cells: Sequence[Cell]) -> list[Cell]:
    """Return one cell of each name: what has to be trained, in order."""
    first: dict[str, Cell] = {}
    for cell in cells:
        first.setdefault(cell.name, cell)
    return list(first.values())


def training_key(cell: Cell) -> str:
    """Return a hash of all settings that decide what a cell's training computes."""
    settings = cell.preset.model_dump(mode="json")
    for key in ("name", "summary", "source", "expected"):
        del settings[key]
    for key in MAY_CHANGE:
        table, _, name = key.partition(".")
        if name:
            settings[table].pop(name, None)
    return sha256_of_json({"preset": settings, "images": cell.images})


def manifest_of(cell: Cell, chosen: Chosen, *, group: str, seed: int) -> Manifest:
    """Return the images that a cell is given: of the training part only its share."""
    if cell.images >= 1.0:
        return chosen.manifest
    return chosen.manifest.select(with_share(chosen, cell.images, group=group, seed=seed))


def chosen_of(cell: Cell, chosen: Chosen, *, group: str, seed: int) -> Chosen:
    """Return the rows and classes that a cell trains and tests on."""
    return choose(manifest_of(cell, chosen, group=group, seed=seed), cell.preset)


def check_pretrained(preset: CxrStudyPreset, classes: int) -> None:
    """Look for the weights of the pretrained row before hours are spent on the others.

    Raises
    ------
    CheckpointError
        If they cannot be had, or are of another network.
    """
    study = preset.study
    if study.pretrained == "none":
        return
    try:
        build_backbone(
            study.pretrained_network,
            classes=classes,
            in_channels=preset.images.channel_count,
            weights=study.pretrained,
        )
    except CheckpointError as error:
        raise CheckpointError(
            f"the row {_network_name(study.pretrained_network)}, pretrained, cannot be trained, "
            f"and so nothing was: {error} In a study give the file as study.pretrained=FILE, or "
            "leave the row out with study.pretrained=none."
        ) from error


def left_out(preset: CxrStudyPreset, chosen: Chosen) -> list[Problem]:
    """Tell which rows of the table of classes the set has too few classes for."""
    if "classes" not in preset.study.ablations:
        return []
    beyond = [count for count in preset.study.classes if count > len(chosen.classes)]
    if not beyond:
        return []
    told = (
        f"the set has {len(chosen.classes)} classes: the rows of {', '.join(map(str, beyond))} "
        "classes are left out."
    )
    return [Problem("study.classes", told, "", kind="few-classes", fatal=False)]


def _asked_for(preset: CxrStudyPreset, chosen: Chosen) -> Iterator[Cell]:
    study = preset.study
    for network in study.networks:
        own = kept_split(preset.network(network))
        yield Cell(network, "networks", _network_name(network), math.nan, own)
    if study.pretrained != "none":
        network = study.pretrained_network
        own = kept_split(preset.network(network, study.pretrained))
        label = f"{_network_name(network)}, pretrained"
        yield Cell(f"{network}-pretrained", "networks", label, math.nan, own)
    base = kept_split(preset.network(study.ablate))
    for theme in study.ablations:
        yield from _OF_THEME[theme](preset, base, chosen)


def _rates(preset: CxrStudyPreset, base: ClassifyPreset, chosen: Chosen) -> Iterator[Cell]:
    for rate in preset.study.rates:
        own = _changed(base, f"fit.optimizer.learning_rate={rate!r}")
        yield _ablation(preset, "learning-rate", f"{rate:g}", rate, own)


def _batches(preset: CxrStudyPreset, base: ClassifyPreset, chosen: Chosen) -> Iterator[Cell]:
    for size in preset.study.batches:
        own = _changed(base, f"fit.batch_size={size}")
        yield _ablation(preset, "batch-size", str(size), size, own)


def _optimizers(preset: CxrStudyPreset, base: ClassifyPreset, chosen: Chosen) -> Iterator[Cell]:
    for name, overrides in preset.study.optimizers.items():
        own = _changed(base, *overrides)
        if own.model_copy(update={"fit": base.fit, "expected": base.expected}) != base:
            raise PresetError(
                f"study.optimizers, {name!r}: changes more than the table fit, and the rows of a "
                "table are to differ in one thing. Make it a study of its own."
            )
        yield _ablation(preset, "optimizer", name, math.nan, own)


def _classes(preset: CxrStudyPreset, base: ClassifyPreset, chosen: Chosen) -> Iterator[Cell]:
    for count in preset.study.classes:
        if count > len(chosen.classes):
            continue
        own = base
        if count < len(chosen.classes):
            names = most_frequent(chosen, count)
            labels = base.labels.model_copy(update={"classes": names})
            own = base.model_copy(update={"labels": labels})
        yield _ablation(preset, "classes", f"{count} classes", count, own)


def _images(preset: CxrStudyPreset, base: ClassifyPreset, chosen: Chosen) -> Iterator[Cell]:
    parts = chosen.manifest.frame["split"].to_numpy(dtype=object)
    others = int((parts != "train").sum())
    for share in sorted(preset.study.shares):
        rows = with_share(chosen, share, group=preset.split.group, seed=preset.fit.seed)
        count = len(rows) - others
        cell = _ablation(preset, "images", f"{count:,} images", count, base, at_name=f"{share:g}")
        yield replace(cell, images=share)


_OF_THEME = {
    "learning-rate": _rates,
    "batch-size": _batches,
    "optimizer": _optimizers,
    "classes": _classes,
    "images": _images,
}


def _ablation(
    preset: CxrStudyPreset,
    theme: Theme,
    label: str,
    at: float,
    own: ClassifyPreset,
    *,
    at_name: str = "",
) -> Cell:
    ending = "".join(c if c.isalnum() or c in ".-" else "-" for c in (at_name or label).casefold())
    network = preset.study.ablate
    return Cell(f"{network}-{theme}-{ending}", theme, label, float(at), own)


def _changed(base: ClassifyPreset, *overrides: str) -> ClassifyPreset:
    """Lay overrides over a preset; what was expected of it is no part of a cell."""
    return changed(base, list(overrides)).model_copy(update={"expected": base.expected})


def kept_split(preset: ClassifyPreset) -> ClassifyPreset:
    """Return the preset for images that are divided already: the study's split is every cell's.

    Where the study lets patients stand on both sides, a cell must not refuse them, so it keeps
    nothing but images together; intervals are over patients all the same.
    """
    split = preset.split
    kept = SplitSettings(
        train=split.train,
        val=split.val,
        test=split.test,
        group="id" if split.across_groups else split.group,
        stratify=split.stratify,
        seed=split.seed,
    )
    return preset.model_copy(update={"split": kept})


def _network_name(architecture: str) -> str:
    return NAMES.get(architecture, architecture)
