"""Slides: whole-slide formats and plain images, opened with their size and um/px checked, read as tiles at a given um/px.

A `Slide` gives windows of pixels from one of three sources: the JPEG tiles of a TIFF or SVS read directly (fast; only where
probes equal OpenSlide's pixels), OpenSlide (everything else it opens), or a plain JPEG, PNG or TIFF of a section in memory.
Which tiles are worth reading is decided in `tissue.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np
import openslide
from PIL import Image

from rnasynth.data.jpeg_pyramid import BrokenTile
from rnasynth.data.slide_sources import Overview, PlainSource, SlideSource, Source, check_header, overview_level
from rnasynth.errors import SlideError

MPP_RANGE_UM = (0.05, 5.0)  # from 200x to 2x: outside lie resolutions of screens (96 dpi = 264 um/px) and other mistakes
MAX_MPP_RATIO = 1.05  # x and y differ by a few per mille on real scanners
SAME_SCALE = 0.02  # 0.499 or 0.5035 um/px is the scanner's "0.5": read as it is rather than blurred by 0.7 %
STRIP_ROWS = 1024  # rows read at once where a whole level is streamed


def open_slide(path: str | Path, *, slide_mpp: float | None = None) -> Slide:
    """Open a slide of any OpenSlide format, or a plain JPEG, PNG or TIFF of a section.

    Parameters
    ----------
    path : slide file; its name without the last suffix becomes `slide_id`.
    slide_mpp : um/px of level 0. Must be given for a plain image; elsewhere it replaces what the file says.
        An objective power is never turned into um/px: "40x" is 0.19 to 0.26 um/px, by scanner.

    Raises
    ------
    SlideError : not a slide, too large (see `check_header`), or um/px missing or absurd.
    """
    path = Path(path)
    header = check_header(path)
    source: Source
    if header.kind == "plain":
        if slide_mpp is None:
            _refuse_mpp(path, "none: a plain image does not carry it")
        mpp_um = slide_mpp
        _check_mpp(path, mpp_um, mpp_um)
        source = PlainSource(path, header)
    else:
        try:
            slide = openslide.OpenSlide(path)
        except openslide.OpenSlideError as error:
            raise SlideError(str(path), expected="a whole slide file", found=str(error)) from error
        mpp_um = _slide_mpp(path, slide) if slide_mpp is None else slide_mpp
        _check_mpp(path, mpp_um, mpp_um)
        source = SlideSource(path, slide)
    return Slide(path, mpp_um, source)


def _slide_mpp(path: Path, slide: openslide.OpenSlide) -> float:
    """Um/px from the file's own words (Aperio's MPP, the TIFF resolution, ...; OpenSlide gathers them), mean of x and y."""
    texts = [slide.properties.get(name) for name in (openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y)]
    if texts[0] is None or texts[1] is None:
        power = slide.properties.get(openslide.PROPERTY_NAME_OBJECTIVE_POWER)
        _refuse_mpp(path, "none" + (f" (objective power {power}, which is not um/px)" if power else ""))
    try:
        x_um, y_um = float(texts[0]), float(texts[1])
    except ValueError:
        _refuse_mpp(path, f"{texts[0]!r} and {texts[1]!r}")
    _check_mpp(path, x_um, y_um)
    return (x_um + y_um) / 2


def _check_mpp(path: Path, x_um: float, y_um: float) -> None:
    low, high = MPP_RANGE_UM
    if not (low <= x_um <= high and low <= y_um <= high and max(x_um, y_um) <= MAX_MPP_RATIO * min(x_um, y_um)):
        _refuse_mpp(path, f"{x_um:g} x {y_um:g}")


def _refuse_mpp(path: Path, found: str) -> NoReturn:
    low, high = MPP_RANGE_UM
    raise SlideError(
        f"slide {path.stem} ({path})",
        expected=f"um/px between {low:g} and {high:g}, equal in x and y",
        found=found,
        fix="give it with --slide-mpp (0.25 for a typical 40x scan, 0.5 for 20x)",
    )


class Slide:
    """An open slide. It belongs to the process that opened it and cannot be pickled: hand the path over instead.

    Attributes
    ----------
    slide_id : file name without its last suffix.
    path : the file.
    mpp_um : um/px of level 0.
    width_px, height_px : size of level 0.
    level_downsamples : px of level 0 per px of each level; the first is 1.
    reader : "direct" (JPEG tiles of the file), "openslide: REASON" or "memory".
    """

    def __init__(self, path: Path, mpp_um: float, source: Source) -> None:
        self.path, self.slide_id, self.mpp_um = path, path.stem, mpp_um
        self.width_px, self.height_px = source.sizes_px[0]
        self.level_downsamples = source.downsamples
        self._source = source
        self._geometry: dict[float, tuple[int, float]] = {}
        self._closed = False

    @property
    def reader(self) -> str:
        """How pixels are read now; falls from "direct" to OpenSlide where a probe or a tile asks for it."""
        return self._source.reader

    def close(self) -> None:
        """Close the file, if it is open; reading afterwards is an error of the caller."""
        if not self._closed:
            self._closed = True
            self._source.close()

    def __enter__(self) -> Slide:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"slide {self.slide_id}: an open slide stays in its process; hand over its path")

    def geometry(self, mpp_um: float) -> tuple[int, float]:
        """Return the level to read for `mpp_um`, and how many of its px become one px of the tile.

        The coarsest level that is at least as fine as asked for. Within 2 % of a whole number the scale is that number
        (`SAME_SCALE`); below 1 the tile is upsampled, because the slide has nothing finer.
        """
        if mpp_um in self._geometry:
            return self._geometry[mpp_um]
        fine = [
            level for level, down in enumerate(self.level_downsamples) if self.mpp_um * down <= mpp_um * (1 + SAME_SCALE)
        ]
        level = max(fine, key=lambda one: self.level_downsamples[one]) if fine else 0
        scale = mpp_um / (self.mpp_um * self.level_downsamples[level])
        whole = max(1, round(scale))
        self._geometry[mpp_um] = level, float(whole) if abs(scale / whole - 1) <= SAME_SCALE else scale
        return self._geometry[mpp_um]

    def span_px(self, tile_px: int, mpp_um: float) -> float:
        """Side of a tile in px of level 0: the step of a grid without gaps or overlaps, not rounded."""
        level, scale = self.geometry(mpp_um)
        return tile_px * scale * self.level_downsamples[level]

    def read_tile(self, x: int, y: int, tile_px: int, mpp_um: float) -> np.ndarray:
        """Read one tile.

        Parameters
        ----------
        x, y : upper left corner, px of level 0.
        tile_px : side of the tile, px.
        mpp_um : um/px of the tile.

        Returns
        -------
        Shape (tile_px, tile_px, 3), uint8 RGB. At scale 1 the level's own pixels; at a whole scale their mean; else
        resampled (triangle over the area when shrinking, bicubic when enlarging) with the neighbours beyond the tile's
        edge, so that tiles side by side are what resampling the whole slide would give.

        Raises
        ------
        SlideError : the tile leaves the slide, or the file breaks there (slide, level, x and y are named).
        """
        level, scale = self.geometry(mpp_um)
        down = self.level_downsamples[level]
        width, height = self._source.sizes_px[level]
        left, top, span = x / down, y / down, tile_px * scale
        if x < 0 or y < 0 or left + span > width + 1 or top + span > height + 1:
            where = f"x {x}, y {y} and {span * down:.1f} px of {self.width_px} x {self.height_px}"
            raise SlideError(f"slide {self.slide_id}", expected="tiles inside the slide", found=where)
        try:
            if scale.is_integer():
                side = round(span)
                at_x, at_y = min(round(left), width - side), min(round(top), height - side)
                window = self._source.window(level, at_x, at_y, side, side)
                return window if scale == 1 else _block_mean(window, round(scale))
            margin = math.ceil(2 * max(1.0, scale)) + 1
            x0, y0 = max(0, math.floor(left) - margin), max(0, math.floor(top) - margin)
            x1, y1 = min(width, math.ceil(left + span) + margin), min(height, math.ceil(top + span) + margin)
            window = self._source.window(level, x0, y0, x1 - x0, y1 - y0)
        except (openslide.OpenSlideError, BrokenTile) as error:
            raise SlideError(
                f"slide {self.slide_id}, level {level}, x {x}, y {y}",
                expected="pixels",
                found=str(error),
                fix=f"fetch {self.path} again, or leave the slide out",
            ) from error
        right, bottom = min(left + span - x0, x1 - x0), min(top + span - y0, y1 - y0)
        kernel = Image.Resampling.BILINEAR if scale > 1 else Image.Resampling.BICUBIC
        box = (left - x0, top - y0, right, bottom)
        return np.array(Image.fromarray(window).resize((tile_px, tile_px), kernel, box=box))

    def read_tiles(self, xy: np.ndarray, tile_px: int, mpp_um: float) -> Iterator[np.ndarray]:
        """Yield the tiles at `xy`, shape (N, 2), int px of level 0, one by one in that order; each as `read_tile`.

        In reading order (by y, then x) each stored tile of the slide is decoded once.
        """
        for x, y in np.asarray(xy).reshape(-1, 2).tolist():
            yield self.read_tile(x, y, tile_px, mpp_um)

    def strips(self, rows: int = STRIP_ROWS) -> Iterator[np.ndarray]:
        """Yield level 0 from top to bottom, `rows` rows at a time: (rows, width_px, 3) uint8, the last one lower.

        Raises
        ------
        SlideError : the file breaks there.
        """
        for y in range(0, self.height_px, rows):
            yield self._strip(0, y, min(rows, self.height_px - y))

    def thumbnail(self, max_px: int) -> np.ndarray:
        """Whole slide, its longer side at most `max_px`, as (H, W, 3) uint8 RGB."""
        return self.overview(max_px).image

    def overview(self, max_px: int) -> Overview:
        """Whole slide, its longer side at most `max_px`, from the coarsest level that is fine enough.

        A slide of one level gives its JPEG tiles decoded at a fraction of their size, or the thumbnail stored in it, or
        is read once in full where it has neither.

        Raises
        ------
        SlideError : the file breaks on the way.
        """
        try:
            if (ready := self._source.overview(max_px)) is not None:
                return ready
        except (openslide.OpenSlideError, BrokenTile) as error:
            raise SlideError(f"slide {self.slide_id}", expected="an overview", found=str(error)) from error
        level = overview_level(self._source.sizes_px, max_px)
        width, height = self._source.sizes_px[level]
        factor = -(-max(width, height) // max_px)
        rows = max(factor, STRIP_ROWS // factor * factor)
        parts = [
            np.asarray(Image.fromarray(self._strip(level, y, min(rows, height - y))).reduce(factor))
            for y in range(0, height, rows)
        ]
        step = factor * self.level_downsamples[level]
        return Overview(np.concatenate(parts), step, step)

    def _strip(self, level: int, y: int, rows: int) -> np.ndarray:
        try:
            return self._source.window(level, 0, y, self._source.sizes_px[level][0], rows)
        except (openslide.OpenSlideError, BrokenTile) as error:
            raise SlideError(
                f"slide {self.slide_id}, level {level}, x 0, y {y}", expected="pixels", found=str(error)
            ) from error


def _block_mean(window: np.ndarray, factor: int) -> np.ndarray:
    return np.array(Image.fromarray(window).reduce(factor))
