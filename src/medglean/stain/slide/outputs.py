"""What files a virtual slide has, and how they come from what was written on the way."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medglean.errors import UsageError
from medglean.files import write_json, write_text
from medglean.runs.disk import told
from medglean.stain.slide import deep_zoom
from medglean.stain.slide.bigtiff import (
    Compression,
    Pyramid,
    append_directories,
    point_header,
)
from medglean.stain.slide.encode import bytes_per_pixel
from medglean.stain.slide.folder import PartFolder
from medglean.stain.slide.legend import NOTICE
from medglean.stain.slide.ome import ome_xml, plain_description
from medglean.stain.slide.pyramid import DEEP, TILES, level_sizes, levels_of, read_index
from medglean.stain.slide.regions import write_collection

LINES = "regions.jsonl"
ENDINGS = {
    ".ome.tiff": "ome",
    ".ome.tif": "ome",
    ".tiff": "tiff",
    ".tif": "tiff",
    ".dzi": "dzi",
}
"""What the name of an output may end in, the longest first."""
USUAL = {"ome": ".ome.tif", "tiff": ".tif", "dzi": ".dzi"}
_GLASS_BYTES = 0.04
_LEVELS = 4 / 3
"""All levels together, over the largest one."""
_MARGIN_BYTES = 16_000_000


@dataclass(frozen=True)
class Outputs:
    """The files of one virtual slide.

    Attributes
    ----------
    files
        By format, in the order of writing; the first is the one that was asked for by name.
    regions
        The GeoJSON; None: none.
    record
        A JSON file with all facts and numbers.
    part
        The folder while it is worked on.
    """

    files: Mapping[str, Path]
    regions: Path | None
    record: Path
    part: Path

    @property
    def all(self) -> tuple[Path, ...]:
        """Every file and folder that is made beside the first."""
        found = [*self.files.values()]
        if "dzi" in self.files:
            found.append(tiles_folder(self.files["dzi"]))
        return (*found, *([] if self.regions is None else [self.regions]), self.record)


def tiles_folder(descriptor: Path) -> Path:
    """Return the folder of tiles that belongs to a ``.dzi`` file."""
    return descriptor.with_name(descriptor.name.removesuffix(".dzi") + "_files")


def outputs_of(out: Path, formats: Sequence[str], *, regions: bool) -> Outputs:
    """Return the files for an output's name.

    Raises
    ------
    UsageError
        If the name does not tell the format.

    Examples
    --------
    >>> found = outputs_of(Path("a/b.tif"), ("ome",), regions=True)
    >>> [path.name for path in found.all]
    ['b.tif', 'b.ome.tif', 'b.geojson', 'b.json']
    """
    ending = next((one for one in ENDINGS if out.name.lower().endswith(one)), None)
    if ending is None or len(out.name) == len(ending):
        raise UsageError(
            f"{out}: the name of a stained slide ends in .ome.tif, .tif or .dzi. Choose such a "
            "name, as in `-o stained.ome.tif`."
        )
    stem = out.name[: -len(ending)]
    files = {ENDINGS[ending]: out}
    for kind in formats:
        files.setdefault(kind, out.with_name(stem + USUAL[kind]))
    return Outputs(
        files,
        out.with_name(f"{stem}.geojson") if regions else None,
        out.with_name(f"{stem}.json"),
        out.with_name(f"{out.name}.part"),
    )


def needed_bytes(
    size_px: tuple[int, int],
    *,
    tissue_share: float,
    formats: Sequence[str],
    compression: Compression,
    quality: int,
) -> int:
    """Return about how much disk a slide takes at most while it is worked on.

    Examples
    --------
    >>> needed_bytes(
    ...     (100_000, 80_000), tissue_share=0.3, formats=("ome",), compression="jpeg", quality=90
    ... ) // 10**8
    38
    """
    each = bytes_per_pixel(compression, quality)
    glass = _GLASS_BYTES if compression != "none" else each
    pixels = size_px[0] * size_px[1] * _LEVELS
    once = pixels * (tissue_share * each + (1 - tissue_share) * glass)
    jpeg = pixels * (tissue_share * bytes_per_pixel("jpeg", quality) + _GLASS_BYTES)
    copies = max(1, sum(kind != "dzi" for kind in formats))
    deep = 0.0
    if "dzi" in formats:  # its own tiles, and before that those that the TIFF does not share
        deep = jpeg if compression == "jpeg" else 2 * jpeg
    return round(once * copies + deep) + _MARGIN_BYTES


def assemble(
    folder: PartFolder,
    outputs: Outputs,
    *,
    size_px: tuple[int, int],
    tile_px: int,
    compression: Compression,
    mpp: tuple[float, float],
    software: str,
    facts: Mapping[str, str],
    record: Mapping[str, Any],
) -> dict[str, Path]:
    """Make all files in the part folder; return which is to have which name.

    What was appended there must be committed. The call may be repeated after a kill.
    """
    folder.close_files()
    with told(folder.path):
        folder.cut()
        moves = _tiffs(
            folder, outputs, size_px=size_px, tile_px=tile_px, compression=compression, mpp=mpp,
            software=software, facts=facts,
        )  # fmt: skip
        if "dzi" in outputs.files:
            _deep_zoom(folder, size_px, tile_px)
            moves["deep-zoom"] = tiles_folder(outputs.files["dzi"])
            write_text(folder.path / "deep-zoom.dzi", deep_zoom.descriptor(size_px, tile_px))
            moves["deep-zoom.dzi"] = outputs.files["dzi"]
        if outputs.regions is not None:
            write_collection(folder.path / LINES, folder.path / "regions.geojson", notice=NOTICE)
            _synced(folder.path / "regions.geojson")
            moves["regions.geojson"] = outputs.regions
        write_json(folder.path / "record.json", dict(record))
    # the record is last: where it lies, everything does
    return moves | {"record.json": outputs.record}


def _tiffs(
    folder: PartFolder,
    outputs: Outputs,
    *,
    size_px: tuple[int, int],
    tile_px: int,
    compression: Compression,
    mpp: tuple[float, float],
    software: str,
    facts: Mapping[str, str],
) -> dict[str, Path]:
    """Append directories to the tiles, and to a copy of them for each further format."""
    name = next(iter(outputs.files.values())).name
    descriptions: dict[str, tuple[Pyramid, str]] = {
        "ome": (
            "subifds",
            ome_xml(name=name, size_px=size_px, mpp=mpp, software=software, facts=facts),
        ),
        "tiff": ("pages", plain_description(facts)),
    }
    wanted = [kind for kind in outputs.files if kind != "dzi"]
    levels = levels_of(read_index(folder.path), level_sizes(size_px, tile_px), tile_px)
    moves: dict[str, Path] = {}
    # copies first: the tiles themselves become the last one
    for number, kind in enumerate(reversed(wanted)):
        own = number + 1 == len(wanted)
        file = folder.path / (TILES if own else f"copy-{kind}.tif")
        if not own:
            shutil.copyfile(folder.path / TILES, file)
        pyramid, description = descriptions[kind]
        with file.open("r+b") as opened:
            start = opened.seek(0, os.SEEK_END)
            append_directories(
                opened, levels, tile_px=tile_px, compression=compression,
                description=description, software=software, mpp=mpp, pyramid=pyramid,
            )  # fmt: skip
            opened.flush()
            os.fsync(opened.fileno())
            point_header(opened, start)
        _synced(file)
        moves[file.name] = outputs.files[kind]
    return moves


def _deep_zoom(folder: PartFolder, size_px: tuple[int, int], tile_px: int) -> None:
    index, into = read_index(folder.path), folder.path / "deep-zoom"
    shutil.rmtree(into, ignore_errors=True)
    with (folder.path / TILES).open("rb") as shared, (folder.path / DEEP).open("rb") as own:
        deep_zoom.write_tiles(
            into,
            shared=shared,
            shared_levels=levels_of(index, level_sizes(size_px, tile_px), tile_px),
            own=own,
            own_levels=levels_of(index, level_sizes(size_px, 1), tile_px, deep=True),
            tile_px=tile_px,
        )


def _synced(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
