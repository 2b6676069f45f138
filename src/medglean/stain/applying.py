"""Apply a trained stain to the rows of a manifest: patches and whole slides, file by file."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import UInt8
from PIL import Image, PngImagePlugin

import medglean
from medglean.data.manifest import Manifest
from medglean.data.prepare import prepare
from medglean.data.readers import probe, read
from medglean.data.reference import ImageReference
from medglean.errors import DataError, Problem, ReadError, UsageError
from medglean.runs.preset import changed
from medglean.runs.report import RESEARCH_ONLY
from medglean.runs.rundir import RunFolder
from medglean.stain.model import Stainer
from medglean.stain.optics import dab_density, normalise_white, white_point
from medglean.stain.slide.legend import NOTICE, patch_with_legend
from medglean.stain.slide.result import SlideResult
from medglean.stain.slide.task import stain_slide_file

log = logging.getLogger("medglean")

FOLDER = "stained"
LARGEST_PATCH_PX = 4096**2
"""Pixels beyond which a picture is stained as a slide: tile by tile."""
CHANGEABLE = ("predict.", "slide.", "white.reapply")
"""Settings that may be changed while a run is applied, or tables of such."""


def changed_for_use(stainer: Stainer, overrides: Sequence[str]) -> Stainer:
    """Return a stainer that uses the same networks with other settings.

    Raises
    ------
    UsageError
        If a setting is one that the networks were trained with.
    PresetError
        If a setting is not known, or its value does not suit.
    """
    for text in overrides:
        if not text.startswith(CHANGEABLE):
            raise UsageError(
                f"{text!r}: while a stain is applied the settings of predict and slide can be "
                "changed, and white.reapply. For others, train again."
            )
    return stainer.with_preset(changed(stainer.preset, overrides)) if overrides else stainer


class StainWriter:
    """Stain the images of rows and write each to its file.

    What a row gives depends on that row alone, so that a prediction can be killed at any moment
    and taken up.

    Parameters
    ----------
    run
        To write into.
    stainer
        On its device.
    names
        File name of each id, without its end.
    command
        The command line, for the slides' record.
    resume
        Whether slides that were begun are gone on with.
    """

    def __init__(
        self,
        run: RunFolder,
        stainer: Stainer,
        names: Mapping[str, str],
        *,
        command: Sequence[str],
        resume: bool,
    ) -> None:
        self.run, self.stainer, self.names = run, stainer, names
        self.command, self.resume = command, resume

    def write(self, part: Manifest) -> tuple[pd.DataFrame, list[Problem]]:
        """Stain some rows; return a table of those that have a file, and what was wrong.

        The table has ``id``, ``image``, ``file``, ``kind`` (patch or slide), ``height_px``,
        ``width_px``; ``dab.mean`` and ``dab.p90``, optical density of DAB over the tissue (over a
        patch: over all of it); ``dab.positive``, the share of it at or above
        ``measure.positive_od``; ``level`` as told from the H&E, where the run has a classifier, and
        ``warnings``.
        """
        rows, problems = [], []
        if "image" not in part.frame:
            raise ReadError(
                str(part.path or "the manifest"),
                "no column 'image'; a stain takes one picture in colour per row.",
                "Name the H&E image of each row in the column 'image'.",
            )
        for place, (one, reference) in enumerate(
            zip(part.ids, part.frame["image"].astype(str), strict=True)
        ):
            try:
                rows.append(self._stained(one, reference, part.root))
            except DataError as error:
                log.warning("%s: %s", one, error)
                problems.append(
                    Problem(reference, str(error), "", row=place + 2, column="image", kind="stain")
                )
        return pd.DataFrame(rows), problems

    def _stained(self, id: str, reference: str, root: Path) -> dict[str, object]:
        parsed = ImageReference.parse(reference)
        if not parsed.fragment and is_slide(root / parsed.path):
            file = f"{FOLDER}/{self.names[id]}.ome.tif"
            (self.run.path / FOLDER).mkdir(exist_ok=True)
            result = stain_slide_file(
                self.stainer,
                root / parsed.path,
                self.run.path / file,
                resume=self.resume,
                command=self.command,
            )
            return slide_row(result, id=id, image=reference) | {"file": file}
        return self._patch(id, reference, root)

    def _patch(self, id: str, reference: str, root: Path) -> dict[str, object]:
        """Stain a picture at its own size, in one piece."""
        preset = self.stainer.preset
        picture = read(reference, root=root)
        size_px = (int(picture.values.shape[-2]), int(picture.values.shape[-1]))
        recipe = preset.images.model_copy(update={"size_px": size_px, "resize": "centre"})
        if len(picture.channels) != 3:
            raise ReadError(
                reference,
                f"a picture with the channels {', '.join(picture.channels)}, expected H&E in red, "
                "green, blue.",
                "Export it in colour.",
            )
        image = prepare(picture, recipe)
        own_white = None
        if preset.white.inputs or preset.white.reapply == "input":
            own_white = white_point([image], percentile=preset.white.percentile)
        if preset.white.inputs and own_white is not None:
            image = normalise_white(image, own_white)
        made = self.stainer.stain(image[np.newaxis], white_image=own_white)[0]
        pixels = np.rint(made * 255).astype(np.uint8).transpose(1, 2, 0)
        file = f"{FOLDER}/{self.names[id]}.png"
        shown = patch_with_legend(pixels) if preset.predict.legend else pixels
        self.run.write(file, png_bytes(shown, self.stainer, id=id))
        white = self.stainer.reapplied(image=own_white)
        density = dab_density(made, np.ones(3) if white is None else white)
        return {
            "id": id,
            "image": reference,
            "file": file,
            "kind": "patch",
            "height_px": size_px[0],
            "width_px": size_px[1],
            "dab.mean": float(density.mean()),
            "dab.p90": float(np.quantile(density, 0.9)),
            "dab.positive": float((density >= preset.measure.positive_od).mean()),
            "level": self._level(image),
            "warnings": " ".join(picture.warnings),
        }

    def _level(self, image: np.ndarray) -> str | None:
        if not self.stainer.preset.generator.level_features or self.stainer.method != "gan":
            return None
        best = int(self.stainer.level_of(image[np.newaxis])[0].argmax())
        return self.stainer.preset.level.names[best]


def is_slide(path: Path) -> bool:
    """Say whether a file is stained tile by tile: a whole slide, or a picture of many pixels.

    Raises
    ------
    ReadError
        If its header cannot be read.
    """
    header = probe(path)
    return bool(header.extra.get("slide")) or header.height * header.width > LARGEST_PATCH_PX


def slide_row(result: SlideResult, *, id: str, image: str) -> dict[str, object]:
    """Return what the table says of a slide."""
    return {
        "id": id,
        "image": image,
        "file": str(result.paths[0]),
        "kind": "slide",
        "height_px": result.size_px[0],
        "width_px": result.size_px[1],
        "dab.mean": result.dab_mean,
        "dab.p90": result.dab_p90,
        "dab.positive": result.dab_positive,
        "level": result.level,
        "warnings": " ".join(result.warnings),
    }


def png_bytes(pixels: UInt8[np.ndarray, "h w 3"], stainer: Stainer, *, id: str) -> bytes:
    """Return a stained patch as a PNG whose metadata say what it is."""
    text = PngImagePlugin.PngInfo()
    text.add_itxt("Title", f"Virtual stain of {id}")
    text.add_text("Description", f"{NOTICE}. Generated from H&E.")
    text.add_text("Disclaimer", RESEARCH_ONLY)
    made = f"medglean {medglean.__version__}, preset {stainer.preset.name}"
    text.add_itxt("Software", f"{made}, weights {stainer.weights_sha256[:12]}")
    into = io.BytesIO()
    Image.fromarray(pixels).save(into, format="PNG", pnginfo=text)
    return into.getvalue()
