"""Deep Zoom: a picture as a folder of tiles, for viewers in a browser.

Each tile is a JPEG of its own. Tiles do not overlap, so that they are those of the TIFF, bytes and
all, but for those at the border, which are cut there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO

from medglean.stain.slide.bigtiff import TiffLevel
from medglean.stain.slide.legend import NOTICE


def descriptor(size_px: tuple[int, int], tile_px: int) -> str:
    """Return the text of the ``.dzi`` file.

    Examples
    --------
    >>> 'Overlap="0"' in descriptor((600, 500), 256)
    True
    """
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<!-- {NOTICE} -->\n"
        '<Image xmlns="http://schemas.microsoft.com/deepzoom/2008" Format="jpeg" Overlap="0" '
        f'TileSize="{tile_px}"><Size Width="{size_px[1]}" Height="{size_px[0]}"/></Image>\n'
    )


def write_tiles(
    folder: Path,
    *,
    shared: IO[bytes],
    shared_levels: Sequence[TiffLevel],
    own: IO[bytes],
    own_levels: Sequence[TiffLevel],
    tile_px: int,
) -> int:
    """Write all tiles of all levels; return how many.

    Parameters
    ----------
    folder
        Is made, with a folder for each level: the largest number is the largest level.
    shared, shared_levels
        The tiles of the TIFF, and where they lie.
    own, own_levels
        The file of the other tiles, with length 0 for those that are shared.
    tile_px
        Side of tiles.
    """
    count, last = 0, len(own_levels) - 1
    for number, level in enumerate(own_levels):
        into = folder / str(last - number)
        into.mkdir(parents=True, exist_ok=True)
        columns = -(-level.size_px[1] // tile_px)
        for place, length in enumerate(level.lengths.tolist()):
            if length:
                file, offset = own, int(level.offsets[place])
            else:
                file, offset = shared, int(shared_levels[number].offsets[place])
                length = int(shared_levels[number].lengths[place])
            file.seek(offset)
            (into / f"{place % columns}_{place // columns}.jpeg").write_bytes(file.read(length))
            count += 1
    return count
