"""The compressed tiles of a JPEG pyramid (TIFF, SVS), read from the file and decoded without a slide library between.

OpenSlide decodes a tile into a premultiplied ARGB surface, composes surfaces and hands them over as RGBA. Where the wanted
window is a few JPEG tiles side by side, reading their bytes and decoding them once gives the same pixels in less than
half the time (measured in `benchmarks/slides.py`). "The same" is checked, not assumed: `slides.open_slide` compares
probes with OpenSlide before it uses this reader, and keeps OpenSlide where anything differs.
"""

from __future__ import annotations

import os
import struct
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simplejpeg
import tifffile

JPEG = 7  # TIFF tag 259 (Compression), TIFF technical note 2
RGB, YCBCR = 2, 6  # TIFF tag 262 (PhotometricInterpretation)
CACHE_BYTES = 256_000_000  # decoded tiles kept; two rows of a slide 160,000 px wide
MAX_TILE_SIDE_PX = 4096  # a tile of 4096 x 4096 decodes to 50 MB; no scanner writes larger ones


class NotDirect(Exception):
    """This file or window is not for the direct reader; the reason is its text."""


class BrokenTile(Exception):
    """A compressed tile cannot be read or decoded; the reason is its text."""


@dataclass(frozen=True)
class JpegLevel:
    """Where the compressed tiles of one level lie, row by row; sizes in px of that level."""

    width_px: int
    height_px: int
    tile_width_px: int
    tile_height_px: int
    offsets: Sequence[int]
    byte_counts: Sequence[int]
    head: bytes  # what replaces a tile's own start-of-image marker: colour space and shared tables

    @property
    def across(self) -> int:
        """Tiles in a row."""
        return -(-self.width_px // self.tile_width_px)


def read_levels(path: Path, sizes_px: Sequence[tuple[int, int]]) -> tuple[JpegLevel | None, ...]:
    """Find the compressed tiles of each level in a TIFF file; None where a level's tiles are of another kind.

    Parameters
    ----------
    path : TIFF or SVS file.
    sizes_px : (width, height) of each level, as OpenSlide gives them.

    Raises
    ------
    NotDirect : not a TIFF, or level 0 is not in JPEG tiles of 8-bit RGB or YCbCr.
    """
    try:
        with tifffile.TiffFile(path) as tiff:
            pages = [page for page in tiff.pages if isinstance(page, tifffile.TiffPage)]
            by_size = {(page.imagewidth, page.imagelength): _level(page) for page in reversed(pages) if page.is_tiled}
    except (tifffile.TiffFileError, ValueError, OSError, IndexError, KeyError, TypeError, struct.error) as error:
        raise NotDirect(f"no TIFF that can be read: {error}") from error
    levels = tuple(by_size.get((width, height)) for width, height in sizes_px)
    if levels[0] is None:
        raise NotDirect("level 0 is not in JPEG tiles of 8-bit RGB or YCbCr")
    return levels


def _level(page: tifffile.TiffPage) -> JpegLevel | None:
    plain = page.planarconfig == 1 and page.samplesperpixel == 3 and page.bitspersample == 8 and page.imagedepth == 1
    small = 0 < page.tilewidth <= MAX_TILE_SIDE_PX and 0 < page.tilelength <= MAX_TILE_SIDE_PX
    if page.compression != JPEG or page.photometric not in (RGB, YCBCR) or not plain or not small:
        return None
    tables = page.jpegtables or b""
    if tables and (tables[:2] != b"\xff\xd8" or tables[-2:] != b"\xff\xd9"):
        return None
    level = JpegLevel(
        width_px=page.imagewidth,
        height_px=page.imagelength,
        tile_width_px=page.tilewidth,
        tile_height_px=page.tilelength,
        offsets=page.dataoffsets,
        byte_counts=page.databytecounts,
        head=b"\xff\xd8" + _adobe_marker(page.photometric == YCBCR) + tables[2:-2],
    )
    wanted = level.across * -(-level.height_px // level.tile_height_px)
    return level if len(level.offsets) == len(level.byte_counts) == wanted else None


def _adobe_marker(ycbcr: bool) -> bytes:
    """APP14 segment that tells a decoder the colour space, which the tiles of an SVS leave to the TIFF tag."""
    return b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([int(ycbcr)])


class JpegPyramid:
    """Reader of a pyramid's JPEG tiles with a small cache, so that each is decoded once in reading order.

    Not for sharing between threads or processes: each opens its own.

    Attributes
    ----------
    decoded : number of tiles decoded so far.
    """

    def __init__(self, path: Path, levels: tuple[JpegLevel | None, ...], *, cache_bytes: int = CACHE_BYTES) -> None:
        self.levels = levels
        self.decoded = 0
        self._room = cache_bytes
        self._held = 0
        self._cache: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()
        self._file: int | None = os.open(path, os.O_RDONLY)

    def close(self) -> None:
        """Close the file and drop the cache."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        self._cache.clear()

    def window(self, level: int, x: int, y: int, width_px: int, height_px: int) -> np.ndarray:
        """Read a window that lies inside a level.

        Parameters
        ----------
        level : level number.
        x, y : upper left corner, px of that level.
        width_px, height_px : size, px of that level.

        Returns
        -------
        Shape (height_px, width_px, 3), uint8 RGB; the caller's own.

        Raises
        ------
        NotDirect : a level of another kind, or a tile that the file leaves out.
        BrokenTile : bytes are missing or do not decode.
        """
        layout = self._layout(level)
        wide, high = layout.tile_width_px, layout.tile_height_px
        if x % wide == 0 and y % high == 0 and (width_px, height_px) == (wide, high):
            return self.tile(level, y // high * layout.across + x // wide)  # no other window needs it: not cached
        out = np.empty((height_px, width_px, 3), np.uint8)
        for row in range(y // high, (y + height_px - 1) // high + 1):
            top, bottom = max(y, row * high), min(y + height_px, (row + 1) * high)
            for column in range(x // wide, (x + width_px - 1) // wide + 1):
                left, right = max(x, column * wide), min(x + width_px, (column + 1) * wide)
                tile = self._cached(level, row * layout.across + column)
                out[top - y : bottom - y, left - x : right - x] = tile[
                    top - row * high : bottom - row * high, left - column * wide : right - column * wide
                ]
        return out

    def tile(self, level: int, number: int, *, shrink: int = 1) -> np.ndarray:
        """Decode one tile.

        Parameters
        ----------
        level, number : which tile, numbered row by row.
        shrink : 1, 2, 4 or 8: decode at this fraction of the size, which at 8 is the mean of each 8 x 8 block and
            costs a fraction of the time. For overviews only: not the pixels that OpenSlide gives.

        Returns
        -------
        Shape (tile_height_px / shrink, tile_width_px / shrink, 3), uint8 RGB.

        Raises
        ------
        NotDirect, BrokenTile : as `window`.
        """
        layout = self._layout(level)
        count = layout.byte_counts[number]
        if count == 0:
            raise NotDirect("a tile that the file leaves out")
        assert self._file is not None, "closed"
        content = os.pread(self._file, count, layout.offsets[number])
        if len(content) < count or content[:2] != b"\xff\xd8":
            raise BrokenTile(f"{count:,} bytes of JPEG expected at byte {layout.offsets[number]:,}, the file has others")
        content = layout.head + content[2:]
        wide, high = layout.tile_width_px, layout.tile_height_px
        try:
            size = simplejpeg.decode_jpeg_header(content)[:2]
            if size != (high, wide):  # before decoding: the tile's own header decides how much memory it takes
                raise BrokenTile(f"a tile of {wide} x {high} px expected, its header says {size[1]} x {size[0]}")
            if shrink == 1:
                pixels = simplejpeg.decode_jpeg(content, "RGB")
            else:
                small = {"min_width": wide // shrink, "min_height": high // shrink}
                pixels = simplejpeg.decode_jpeg(content, "RGB", fastdct=True, fastupsample=True, **small)
        except ValueError as error:
            raise BrokenTile(f"JPEG does not decode: {error}") from error
        self.decoded += 1
        return pixels

    def _layout(self, level: int) -> JpegLevel:
        layout = self.levels[level]
        if layout is None:
            raise NotDirect(f"level {level} is not in JPEG tiles of 8-bit RGB or YCbCr")
        return layout

    def _cached(self, level: int, number: int) -> np.ndarray:
        key = (level, number)
        if (tile := self._cache.get(key)) is not None:
            self._cache.move_to_end(key)
            return tile
        tile = self._cache[key] = self.tile(level, number)
        self._held += tile.nbytes
        while self._held > self._room:
            self._held -= self._cache.popitem(last=False)[1].nbytes
        return tile
