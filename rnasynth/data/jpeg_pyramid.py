"""The compressed tiles of a JPEG pyramid (TIFF, SVS): read and decoded with no slide library between, and written.

OpenSlide decodes a tile into a premultiplied ARGB surface, composes surfaces and hands them over as RGBA. Where the wanted
window is a few JPEG tiles side by side, reading their bytes and decoding them once gives the same pixels in less than
half the time (measured in `benchmarks/slides.py`). "The same" is checked, not assumed: `slides.open_slide` compares
probes with OpenSlide before it uses this reader, and keeps OpenSlide where anything differs.
"""

from __future__ import annotations

import math
import os
import struct
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import simplejpeg
import tifffile
from PIL import Image

from rnasynth.files import atomic_path

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


def write_pyramid(
    path: str | Path,
    image: np.ndarray,
    mpp_um: float,
    *,
    tile_px: int = 256,
    quality: int = 90,
    subsampling: Literal["444", "420"] = "444",
    levels: int | None = None,
) -> None:
    """Write a section as a tiled JPEG pyramid that OpenSlide opens ("generic-tiff"), each level half of the one before.

    Parameters
    ----------
    path : TIFF file, written whole or not at all.
    image : (H, W, 3), uint8 RGB.
    mpp_um : um/px, stored as the TIFF resolution.
    tile_px : side of the stored tiles, a multiple of 16.
    quality : JPEG quality, 1 to 100.
    subsampling : chroma at full ("444") or half ("420", as most scanners) resolution.
    levels : number of levels; None for as many as it takes until one tile holds the slide.
    """
    if levels is None:
        levels = 1 + max(0, math.ceil(math.log2(max(image.shape[:2]) / tile_px)))
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0))  # BigTIFF: 8-byte offsets; the last 8 bytes are the link
        link = file.tell() - 8
        for level in range(levels):
            if level:
                image = np.asarray(Image.fromarray(image).reduce(2))
            offsets, counts = [], []
            for content in _encoded_tiles(image, tile_px, quality, subsampling):
                offsets.append(file.tell())
                counts.append(file.write(content))
            per_cm = 1e4 / (mpp_um * 2**level)
            link = _write_directory(file, link, image.shape, tile_px, subsampling, per_cm, level > 0, offsets, counts)


def _write_directory(
    file: BinaryIO,
    link: int,
    shape: tuple[int, ...],
    tile_px: int,
    subsampling: str,
    per_cm: float,
    reduced: bool,
    offsets: list[int],
    counts: list[int],
) -> int:
    """Append a level's BigTIFF directory, point `link` at it, and return the position of its own link to the next."""
    chroma = 1 if subsampling == "444" else 2
    resolution = (round(per_cm * 1e3), 1_000)
    tags: list[tuple[int, str, tuple[int, ...]]] = [  # number, struct code of its values, values; TIFF 6.0 and BigTIFF
        (254, "I", (int(reduced),)),  # NewSubfileType
        (256, "I", (shape[1],)),
        (257, "I", (shape[0],)),
        (258, "H", (8, 8, 8)),  # BitsPerSample
        (259, "H", (JPEG,)),
        (262, "H", (YCBCR,)),
        (277, "H", (3,)),  # SamplesPerPixel
        (282, "R", resolution),
        (283, "R", resolution),
        (284, "H", (1,)),  # PlanarConfiguration: interleaved
        (296, "H", (3,)),  # ResolutionUnit: cm
        (322, "I", (tile_px,)),
        (323, "I", (tile_px,)),
        (324, "Q", tuple(offsets)),
        (325, "Q", tuple(counts)),
        (530, "H", (chroma, chroma)),  # YCbCrSubSampling
    ]
    kinds = {"H": 3, "I": 4, "R": 5, "Q": 16}
    entries = b""
    for number, code, values in tags:
        packed = struct.pack(f"<{len(values)}{'I' if code == 'R' else code}", *values)
        if len(packed) > 8:
            position = file.tell()
            file.write(packed)
            packed = struct.pack("<Q", position)
        count = len(values) // 2 if code == "R" else len(values)
        entries += struct.pack("<HHQ", number, kinds[code], count) + packed.ljust(8, b"\0")
    start = file.tell()
    file.write(struct.pack("<Q", len(tags)) + entries + struct.pack("<Q", 0))
    end = file.tell()
    file.seek(link)
    file.write(struct.pack("<Q", start))
    file.seek(end)
    return end - 8


def _encoded_tiles(image: np.ndarray, tile_px: int, quality: int, subsampling: str) -> Iterator[bytes]:
    for y in range(0, image.shape[0], tile_px):
        for x in range(0, image.shape[1], tile_px):
            tile = image[y : y + tile_px, x : x + tile_px]
            short = ((0, tile_px - tile.shape[0]), (0, tile_px - tile.shape[1]), (0, 0))
            yield simplejpeg.encode_jpeg(np.pad(tile, short, mode="edge"), quality, "RGB", subsampling)
