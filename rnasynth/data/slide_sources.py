"""Where a slide's pixels come from: OpenSlide with the direct JPEG reader beside it, or a plain image in memory.

Headers are checked before anything is decoded, so that a file which claims an absurd size costs nothing.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import openslide
import simplejpeg
from PIL import Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin
from PIL.ImageFile import ImageFile

from rnasynth.data.jpeg_pyramid import MAX_TILE_SIDE_PX, BrokenTile, JpegPyramid, NotDirect, read_levels
from rnasynth.errors import SlideError

MAX_PLAIN_PIXELS = 500_000_000  # 1.5 GB decoded; a larger section belongs into a tiled format
MAX_SLIDE_SIDE_PX = 2_000_000  # ten times the largest scan
DIRECT_VENDORS = ("aperio", "generic-tiff")  # formats without overlaps, gaps or padding between tiles
MAX_SHRINK = 8  # libjpeg decodes at 1/8 from the mean of each block alone
SAME_ASPECT = 0.02  # an embedded thumbnail shows the whole of level 0 if its aspect is the same
WHITE = 255
_PLAIN: tuple[tuple[bytes, type[ImageFile]], ...] = (
    (b"\xff\xd8\xff", JpegImagePlugin.JpegImageFile),
    (b"\x89PNG\r\n\x1a\n", PngImagePlugin.PngImageFile),
    (b"II*\0", TiffImagePlugin.TiffImageFile),
    (b"MM\0*", TiffImagePlugin.TiffImageFile),
    (b"II+\0", TiffImagePlugin.TiffImageFile),
)
_BAD_IMAGE = (SyntaxError, OSError, ValueError)  # what Pillow's readers raise on a damaged file


@dataclass(frozen=True)
class Header:
    """What a file says about itself before any pixel is decoded."""

    kind: Literal["slide", "plain"]
    width_px: int
    height_px: int


@dataclass(frozen=True)
class Overview:
    """A whole slide, small: `image` (H, W, 3) uint8 RGB, and how many px of level 0 its pixels are wide and high."""

    image: np.ndarray
    px_x: float
    px_y: float


class Source(Protocol):
    """Where pixels come from; `sizes_px` (width, height) and `downsamples` of each level, `reader` in words."""

    sizes_px: tuple[tuple[int, int], ...]
    downsamples: tuple[float, ...]
    reader: str

    def window(self, level: int, x: int, y: int, width_px: int, height_px: int) -> np.ndarray: ...

    def overview(self, max_px: int) -> Overview | None: ...

    def close(self) -> None: ...


def check_header(path: str | Path) -> Header:
    """Read the size of a slide or plain image from its header, and refuse one that is no slide or too large to decode.

    Raises
    ------
    SlideError : no such file, not an image, sides of zero or beyond what a section can have (a decompression bomb).
    """
    path = Path(path)
    if not path.is_file():
        raise SlideError(str(path), expected="a slide file", found="none", fix="check the path")
    try:
        if openslide.OpenSlide.detect_format(path) is not None:
            with openslide.OpenSlide(path) as slide:
                return _slide_header(path, slide)
    except openslide.OpenSlideError as error:
        raise SlideError(str(path), expected="a whole slide file", found=str(error), fix="fetch it again") from error
    image = _open_plain(path)
    width, height = image.size
    image.close()
    if width < 1 or height < 1 or width * height > MAX_PLAIN_PIXELS:
        raise SlideError(
            str(path),
            expected=f"an image of at most {MAX_PLAIN_PIXELS:,} px",
            found=f"{width:,} x {height:,} px in its header",
            fix="convert a section this large to a tiled pyramid; it was not decoded",
        )
    return Header("plain", width, height)


def _slide_header(path: Path, slide: openslide.OpenSlide) -> Header:
    width, height = slide.dimensions
    tile_sides = [
        int(slide.properties.get(f"openslide.level[{level}].tile-{side}", 0))
        for level in range(slide.level_count)
        for side in ("width", "height")
    ]
    if not (0 < width <= MAX_SLIDE_SIDE_PX and 0 < height <= MAX_SLIDE_SIDE_PX) or max(tile_sides) > MAX_TILE_SIDE_PX:
        raise SlideError(
            str(path),
            expected=f"sides up to {MAX_SLIDE_SIDE_PX:,} px and tiles up to {MAX_TILE_SIDE_PX:,} px",
            found=f"{width:,} x {height:,} px, tile sides up to {max(tile_sides):,} px in its header",
            fix="do not trust this file; it was not decoded",
        )
    return Header("slide", width, height)


def _open_plain(path: Path) -> ImageFile:
    """Parse a plain image's header; Pillow's readers decode no pixel before `load`."""
    with open(path, "rb") as handle:
        start = handle.read(16)
    for signature, reader in _PLAIN:
        if start.startswith(signature):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)  # odd metadata; what matters raises
                    return reader(path)
            except _BAD_IMAGE as error:
                raise SlideError(str(path), expected="a whole image", found=str(error), fix="fetch it again") from error
    found = "another kind of file" if start else "an empty file"
    raise SlideError(str(path), expected="an OpenSlide format, JPEG, PNG or TIFF", found=found, fix="fetch it again")


def overview_level(sizes_px: tuple[tuple[int, int], ...], max_px: int) -> int:
    """Return the coarsest level whose longer side is at least `max_px`; 0 where none is."""
    enough = [level for level, size in enumerate(sizes_px) if max(size) >= max_px]
    return min(enough, key=lambda level: max(sizes_px[level])) if enough else 0


class SlideSource:
    """Pixels of a slide that OpenSlide opens, its JPEG tiles read directly where that gives the same."""

    def __init__(self, path: Path, slide: openslide.OpenSlide) -> None:
        self._slide = slide
        self.sizes_px = tuple(slide.level_dimensions)
        self.downsamples = tuple(slide.level_downsamples)
        self.reader = "direct"
        self._direct: JpegPyramid | None = None
        try:
            vendor = slide.properties.get(openslide.PROPERTY_NAME_VENDOR)
            if vendor not in DIRECT_VENDORS:
                raise NotDirect(f"format {vendor}")
            self._direct = JpegPyramid(path, read_levels(path, self.sizes_px))
            self._compare_probes()
        except (NotDirect, BrokenTile, openslide.OpenSlideError) as error:
            self._drop_direct(str(error))

    def close(self) -> None:
        """Close both readers."""
        self._slide.close()
        if self._direct is not None:
            self._direct.close()

    def window(self, level: int, x: int, y: int, width_px: int, height_px: int) -> np.ndarray:
        """Shape (height_px, width_px, 3), uint8 RGB, of a window inside the level; x and y in px of that level."""
        if self._direct is not None and self._direct.levels[level] is not None:
            try:
                return self._direct.window(level, x, y, width_px, height_px)
            except NotDirect:  # a tile that the file leaves out: OpenSlide knows what to show there
                pass
        return self._through_openslide(level, x, y, width_px, height_px)

    def overview(self, max_px: int) -> Overview | None:
        """Small picture of a slide whose coarsest fine-enough level is much too large to read in full, else None."""
        level = overview_level(self.sizes_px, max_px)
        factor = -(-max(self.sizes_px[level]) // max_px)
        if factor == 1:
            return None
        layout = None if self._direct is None else self._direct.levels[level]
        if layout is None:
            return self._embedded_thumbnail(max_px) if len(self.sizes_px) == 1 else None
        shrink = max(
            one
            for one in (1, 2, 4, MAX_SHRINK)
            if factor % one == 0 or one <= factor // 2  # with few px left to average over, the whole factor must be met
        )
        while layout.tile_width_px % shrink or layout.tile_height_px % shrink:
            shrink //= 2
        return self._shrunk(level, shrink, max_px) if shrink > 1 else None

    def _shrunk(self, level: int, shrink: int, max_px: int) -> Overview | None:
        assert self._direct is not None
        layout = self._direct.levels[level]
        assert layout is not None
        wide, high = layout.tile_width_px // shrink, layout.tile_height_px // shrink
        width, height = -(-layout.width_px // shrink), -(-layout.height_px // shrink)
        factor = -(-max(width, height) // max_px)
        canvas = np.empty((height, width, 3), np.uint8)
        for number in range(len(layout.offsets)):
            y, x = (number // layout.across) * high, (number % layout.across) * wide
            try:
                tile = self._direct.tile(level, number, shrink=shrink)
            except NotDirect:
                return None
            part = canvas[y : y + high, x : x + wide]
            part[:] = tile[: part.shape[0], : part.shape[1]]
        step = shrink * factor * self.downsamples[level]
        return Overview(np.asarray(Image.fromarray(canvas).reduce(factor)), step, step)

    def _embedded_thumbnail(self, max_px: int) -> Overview | None:
        """Return the thumbnail that the scanner stored, if it shows the whole slide at half of `max_px` or more."""
        image = self._slide.associated_images.get("thumbnail")
        if image is None or max(image.size) < max_px / 2:
            return None
        px_x, px_y = self.sizes_px[0][0] / image.width, self.sizes_px[0][1] / image.height
        if abs(px_x / px_y - 1) > SAME_ASPECT:
            return None
        factor = -(-max(image.size) // max_px)
        return Overview(np.asarray(_on_white(image).reduce(factor)), px_x * factor, px_y * factor)

    def _through_openslide(self, level: int, x: int, y: int, width_px: int, height_px: int) -> np.ndarray:
        """Read a window with OpenSlide. It wants px of level 0: exact to half of one where levels are no whole multiples."""
        at = (round(x * self.downsamples[level]), round(y * self.downsamples[level]))
        return np.array(_on_white(self._slide.read_region(at, level, (width_px, height_px))))

    def _compare_probes(self) -> None:
        """Refuse the direct reader unless it equals OpenSlide: on three tiles of level 0, one of each whole downsample."""
        assert self._direct is not None
        for level, layout in enumerate(self._direct.levels):
            if layout is None or not float(self.downsamples[level]).is_integer():
                continue
            last = len(layout.offsets) - 1
            for number in sorted({0, (last + layout.across) // 2, last}) if level == 0 else [last]:
                x = number % layout.across * layout.tile_width_px
                y = number // layout.across * layout.tile_height_px
                size = min(layout.tile_width_px, layout.width_px - x), min(layout.tile_height_px, layout.height_px - y)
                if layout.byte_counts[number] == 0:
                    continue
                ours = self._direct.window(level, x, y, *size)
                if not np.array_equal(ours, self._through_openslide(level, x, y, *size)):
                    raise NotDirect(f"probe at level {level}, x {x}, y {y} differs from OpenSlide's pixels")

    def _drop_direct(self, reason: str) -> None:
        if self._direct is not None:
            self._direct.close()
            self._direct = None
        self.reader = f"openslide: {reason}"


class PlainSource:
    """Pixels of a plain JPEG, PNG or TIFF, decoded into memory when first asked for."""

    downsamples: tuple[float, ...] = (1.0,)
    reader = "memory"

    def __init__(self, path: Path, header: Header) -> None:
        self._path = path
        self.sizes_px: tuple[tuple[int, int], ...] = ((header.width_px, header.height_px),)
        self._pixels: np.ndarray | None = None

    def close(self) -> None:
        """Drop the pixels."""
        self._pixels = None

    def window(self, level: int, x: int, y: int, width_px: int, height_px: int) -> np.ndarray:
        """Shape (height_px, width_px, 3), uint8 RGB, of a window inside the image; a copy."""
        return self._load()[y : y + height_px, x : x + width_px].copy()

    def overview(self, max_px: int) -> Overview | None:
        """None: the caller shrinks the pixels in memory."""
        return None

    def _load(self) -> np.ndarray:
        if self._pixels is None:
            content = self._path.read_bytes()
            try:
                if content[:3] == b"\xff\xd8\xff":
                    self._pixels = simplejpeg.decode_jpeg(content, "RGB")
                else:
                    with _open_plain(self._path) as image:
                        self._pixels = np.array(_on_white(_eight_bit(self._path, image)))
            except _BAD_IMAGE as error:
                raise SlideError(
                    str(self._path), expected="a whole image", found=str(error), fix="fetch it again"
                ) from error
            if self._pixels.shape[1::-1] != self.sizes_px[0]:
                raise SlideError(str(self._path), expected=f"{self.sizes_px[0]} px", found=f"{self._pixels.shape[1::-1]} px")
        return self._pixels


def _eight_bit(path: Path, image: ImageFile) -> Image.Image:
    if image.mode in ("RGB", "RGBA"):
        return image
    if image.mode in ("L", "LA", "P", "PA", "CMYK", "YCbCr"):
        return image.convert("RGBA" if image.mode in ("LA", "PA") or "transparency" in image.info else "RGB")
    raise SlideError(
        str(path), expected="8-bit grey or colour", found=f"pixels of kind {image.mode}", fix="convert it to RGB"
    )


def _on_white(image: Image.Image) -> Image.Image:
    """Return RGB, what is transparent (outside the scanned area) as white."""
    if image.mode != "RGBA":
        return image.convert("RGB")
    if image.getchannel("A").getextrema()[0] == WHITE:
        return image.convert("RGB")
    white = Image.new("RGBA", image.size, (WHITE, WHITE, WHITE, WHITE))
    return Image.alpha_composite(white, image).convert("RGB")
