"""Which tiles of a slide are worth reading: tissue mask, grid, spots, and the rules that drop a tile once it is read.

RNA-GAN (Methods, "Data preprocessing") and RNA-CDM cut 256 x 256 px tiles at 20x (0.5 um/px) without overlap, find tissue by
Otsu's threshold, drop tiles with more than 60 % background or low contrast, keep at most 4,000 a slide; RNA-CDM also filters
pen marks. They give no more: the other thresholds here are ours, measured on the real slides of the tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from PIL import Image
from skimage.filters import threshold_otsu

from rnasynth.config import Config, check
from rnasynth.data.slides import STRIP_ROWS, Slide
from rnasynth.errors import InputError, SlideError

LEVELS = 256
GLASS_MIN_GREY = 200  # glass is bright: 222 to 244 in the real slides of the tests
GLASS_MAX_CHROMA = 35  # and nearly colourless: max - min of R, G, B is 0 to 18 there, in pale stroma 40 and more
MIN_CLASS_GAP = 12  # grey levels between the means of tissue and glass; an empty slide's noise gives 1 to 5
MIN_GLASS_SHARE = 0.002  # a bright class smaller than this is highlights in tissue: no glass in the picture
PAD_MAX = 8  # all channels at or below: black padding of scanners, no tissue
MIN_OVERVIEW_PX, MASK_PX_PER_TILE = 512, 16  # mask px across a slide and across a tile, as far as `mask_px` allows
SAMPLES_PER_SIDE = 32  # px a side that the rules for a read tile look at: a share of 0.1 is met within 0.01
_GREY_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R 601, as Pillow's
PEN_BLACK_MAX = 35  # ink; at most 4 % of a real tile (folds, dense nuclei) is darker
PEN_RED_MAX_BLUE = 92  # follows from the rule for red ink: blue <= value - 4/5 chroma < 0.36 value


@dataclass(frozen=True, kw_only=True)
class TileConfig(Config):
    """How a slide becomes tiles; the defaults are the papers' where they say (RNA-GAN and RNA-CDM, Methods)."""

    tile_px: int = 256
    """Side of a tile, px."""
    mpp_um: float = 0.5
    """Um/px of a tile; 0.5 is "20x"."""
    max_background: float = 0.6
    """Largest share of a tile's area outside the tissue mask."""
    min_contrast: float = 0.05
    """Smallest range of grey (1st to 99th percentile, as a share of 255); scikit-image's definition of low contrast."""
    max_tiles: int = 4000
    """Tiles kept at most, drawn without replacement with `seed`."""
    drop_pen: bool = True
    """Take pen marks out of the mask and drop tiles that hold them."""
    max_pen: float = 0.1
    """Largest share of pen-coloured px in a tile."""
    mask_source: Literal["thumbnail", "full"] = "thumbnail"
    """Where Otsu's threshold looks: a small overview, or every px of level 0 (the papers; reads the slide twice)."""
    mask_px: int = 4096
    """Longest side of the overview, px; smaller slides use 16 px a tile."""
    seed: int = 0
    """Seed of the draw."""

    def __post_init__(self) -> None:
        check(self, "tile_px", 16 <= self.tile_px <= 4096, "16..4096")
        check(self, "mpp_um", 0.05 <= self.mpp_um <= 10, "0.05..10")
        check(self, "max_background", 0 <= self.max_background <= 1, "0..1")
        check(self, "min_contrast", 0 <= self.min_contrast <= 1, "0..1")
        check(self, "max_tiles", self.max_tiles >= 1, "at least 1")
        check(self, "max_pen", 0 <= self.max_pen <= 1, "0..1")
        check(self, "mask_source", self.mask_source in ("thumbnail", "full"), "'thumbnail' or 'full'")
        check(self, "mask_px", 64 <= self.mask_px <= 16384, "64..16384")
        check(self, "seed", self.seed >= 0, "at least 0")


@dataclass(frozen=True)
class Mask:
    """Tissue mask of a slide.

    Attributes
    ----------
    share : (H, W) float32 in [0, 1], share of tissue in each mask px (0 or 1 where it comes from an overview).
    px_x, px_y : width and height of a mask px in px of level 0.
    threshold : grey (0..255) below which a px is tissue; 256 where the picture holds no glass.
    pen_share : share of the slide's px that look like pen ink and were taken out.
    source : "thumbnail" or "full".
    """

    share: np.ndarray
    px_x: float
    px_y: float
    threshold: float
    pen_share: float
    source: str

    def fraction(self, x_px: np.ndarray, y_px: np.ndarray, span_px: float) -> np.ndarray:
        """Share of tissue in squares of side `span_px` at the upper left corners `x_px`, `y_px` (N,), level 0: (N,)."""
        table = np.zeros((self.share.shape[0] + 1, self.share.shape[1] + 1))
        table[1:, 1:] = self.share.cumsum(0, dtype=np.float64).cumsum(1)
        left, right = np.asarray(x_px) / self.px_x, (np.asarray(x_px) + span_px) / self.px_x
        top, bottom = np.asarray(y_px) / self.px_y, (np.asarray(y_px) + span_px) / self.px_y
        area = (span_px / self.px_x) * (span_px / self.px_y)
        total = _at(table, bottom, right) - _at(table, top, right) - _at(table, bottom, left) + _at(table, top, left)
        return np.clip(total / area, 0, 1)


def _at(table: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Summed-area table at fractional positions: bilinear, which is exact for a sum over px of constant value."""
    y, x = np.clip(y, 0, table.shape[0] - 1), np.clip(x, 0, table.shape[1] - 1)
    y0, x0 = np.minimum(y.astype(int), table.shape[0] - 2), np.minimum(x.astype(int), table.shape[1] - 2)
    fy, fx = y - y0, x - x0
    upper = table[y0, x0] * (1 - fx) + table[y0, x0 + 1] * fx
    lower = table[y0 + 1, x0] * (1 - fx) + table[y0 + 1, x0 + 1] * fx
    return upper * (1 - fy) + lower * fy


def tissue_threshold(joint: np.ndarray) -> float | None:
    """Grey below which a px is tissue, by Otsu's rule repeated until the bright class is glass.

    Otsu's threshold splits any picture in two, also one that is all tissue (nuclei and stroma) or all glass. The bright
    class is therefore asked whether it looks like glass, bright and colourless; if not, it is split again. Grey and not
    saturation is split, because eosin that ran out beside a section (her2st C3 to C5) is as saturated as pale stroma.

    Parameters
    ----------
    joint : (256, 256) counts of px by grey (rows) and chroma, max - min of R, G, B (columns).

    Returns
    -------
    Threshold in 0..256 (256: no glass in the picture, all is tissue), or None: all is glass.

    Source: Otsu, IEEE Trans. Syst. Man Cybern. 9, 62 (1979); the repetition is ours.
    """
    total = joint.sum()
    grey = joint.sum(1)
    low = 0
    if total == 0:
        return None
    while True:
        occupied = np.flatnonzero(grey[low:]) + low
        if occupied.size < 2:
            break
        cut = int(threshold_otsu(hist=(grey[low:], np.arange(low, LEVELS)))) + 1  # tissue: grey < cut
        bright, dark = joint[cut:], joint[:cut]
        if bright.sum() < MIN_GLASS_SHARE * total:  # highlights in tissue
            break
        if _is_glass(bright, cut):
            gap = _mean_grey(bright, cut) - _mean_grey(dark, 0)
            return None if gap < MIN_CLASS_GAP else float(cut)
        low = cut
    return None if _is_glass(joint, 0) else float(LEVELS)


def _mean_grey(part: np.ndarray, first: int) -> float:
    rows = part.sum(1)
    return float((rows * (first + np.arange(len(rows)))).sum() / max(rows.sum(), 1))


def _is_glass(part: np.ndarray, first: int) -> bool:
    """Whether the medians of a class (rows of the joint counts from grey `first` on) are bright and colourless."""
    rows, columns = part.sum(1).cumsum(), part.sum(0).cumsum()
    half = rows[-1] / 2
    return (
        first + int(np.searchsorted(rows, half)) >= GLASS_MIN_GREY
        and int(np.searchsorted(columns, half)) <= GLASS_MAX_CHROMA
    )


def _grey(rgb: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(rgb).convert("L"))  # ITU-R 601: 0.299 R + 0.587 G + 0.114 B


def _joint_counts(rgb: np.ndarray, grey: np.ndarray, use: np.ndarray) -> np.ndarray:
    chroma = rgb.max(2) - rgb.min(2)
    codes = grey[use].astype(np.uint16) * np.uint16(LEVELS) + chroma[use]
    return np.bincount(codes, minlength=LEVELS * LEVELS).reshape(LEVELS, LEVELS)


def pen_pixels(rgb: np.ndarray) -> np.ndarray:
    """Mark px that have the colour of pen ink: green, blue, red or black.

    Rules in HSV, written with differences of channels. Green: hue 60 to 180 degrees, saturation above 0.25 (no H&E stain
    comes near). Blue: hue 180 to 222, saturation above 0.55, or hue to 234 where saturation is above 0.7 and value above
    0.5 (haematoxylin lies at 225 to 270 and is darker). Red: hue within 12 degrees of 0, saturation above 0.8, value above
    0.6 (eosin lies at 310 to 345; fresh blood comes near). Black: value below 0.14.

    On 2,000 tiles of the real slides of the tests at most 9 % of a tile is marked, so `max_pen` = 0.1 drops none of them; a
    tile filled with fresh blood, which has the red of a pen, would be dropped.

    Parameters
    ----------
    rgb : (..., 3), uint8.

    Returns
    -------
    Shape (...), bool.
    """
    red, green, blue = (np.ascontiguousarray(rgb[..., channel]).astype(np.int16) for channel in range(3))
    value = np.maximum(np.maximum(red, green), blue)
    chroma = value - np.minimum(np.minimum(red, green), blue)
    is_green = (green >= red) & (green >= blue) & (4 * chroma > value) & (value > PEN_BLACK_MAX)
    light_blue = (10 * (green - red) >= 3 * chroma) & (20 * chroma > 11 * value)
    deep_blue = (10 * (green - red) >= chroma) & (10 * chroma > 7 * value) & (value > 128)
    is_blue = (blue > green) & (light_blue | deep_blue) & (value > PEN_BLACK_MAX)
    is_red = (red == value) & (5 * np.abs(green - blue) <= chroma) & (5 * chroma > 4 * value) & (value > 153)
    return np.asarray(is_green | is_blue | is_red | (value <= PEN_BLACK_MAX))


def _may_be_pen(rgb: np.ndarray, max_share: float) -> bool:
    """Whether more than `max_share` of the px meet two conditions that any ink of `pen_pixels` meets; few tiles do.

    Green and blue ink are at least as green as red; red and black ink have little blue.
    """
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    return int(np.count_nonzero((green >= red) | (blue <= PEN_RED_MAX_BLUE))) > max_share * red.size


def tissue_mask(slide: Slide, config: TileConfig | None = None) -> Mask:
    """Find the tissue of a slide.

    Raises
    ------
    SlideError : no tissue (an empty or all-white slide), or the slide cannot be read.
    """
    config = config or TileConfig()
    longest = max(slide.width_px, slide.height_px)
    wanted = MASK_PX_PER_TILE * longest / slide.span_px(config.tile_px, config.mpp_um)
    max_px = min(config.mask_px, longest, max(MIN_OVERVIEW_PX, round(wanted)))
    full = config.mask_source == "full"
    overview = None if full else slide.overview(max_px)
    joint = np.zeros((LEVELS, LEVELS), np.int64)
    inked = seen = 0
    grey, use = np.empty(0, np.uint8), np.empty(0, bool)
    block = -(-longest // max_px) if full else 1
    rows = max(1, STRIP_ROWS // block) * block
    for strip in slide.strips(rows) if overview is None else [overview.image]:
        grey, use, ink = _classes(strip, config.drop_pen, block)
        joint += _joint_counts(strip, grey, use)
        inked, seen = inked + ink, seen + grey.size
    threshold = tissue_threshold(joint)
    if threshold is None:
        raise SlideError(
            f"slide {slide.slide_id}",
            expected="tissue darker than the glass",
            found=f"none in {seen:,} px: all glass, padding or pen",
            fix=f"look at {slide.path}; leave it out if it is empty",
        )
    if overview is not None:
        share, px_x, px_y = ((grey < threshold) & use).astype(np.float32), overview.px_x, overview.px_y
    else:
        share, px_x, px_y = _full_share(slide, threshold, config.drop_pen, block), float(block), float(block)
    if not share.any():
        raise SlideError(f"slide {slide.slide_id}", expected="tissue", found="an empty mask", fix="leave it out")
    return Mask(share, px_x, px_y, threshold, inked / seen, config.mask_source)


def _classes(rgb: np.ndarray, drop_pen: bool, block: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Grey, which px count (no padding, no ink), and how many are ink.

    Ink is looked for in the means of `block` x `block` px: strokes are wide, single dark px of nuclei are not ink.
    """
    grey = _grey(rgb)
    use = rgb.max(2) > PAD_MAX
    if not drop_pen:
        return grey, use, 0
    ink = pen_pixels(np.asarray(Image.fromarray(rgb).reduce(block)))
    ink = ink.repeat(block, 0).repeat(block, 1)[: grey.shape[0], : grey.shape[1]] & use
    return grey, use & ~ink, int(ink.sum())


def _full_share(slide: Slide, threshold: float, drop_pen: bool, block: int) -> np.ndarray:
    parts = []
    for strip in slide.strips(max(1, STRIP_ROWS // block) * block):
        grey, use, _ = _classes(strip, drop_pen, block)
        tissue = Image.fromarray(((grey < threshold) & use).astype(np.uint8) * 255)
        parts.append(np.asarray(tissue.reduce(block), np.float32) / 255)
    return np.concatenate(parts)


def tile_grid(slide: Slide, mask: Mask, config: TileConfig | None = None) -> pd.DataFrame:
    """Choose non-overlapping tiles with enough tissue, at most `max_tiles`.

    Tile (i, j) starts at round(j * span), round(i * span) px of level 0, `span` the tile's unrounded side: positions are
    exact to half a px anywhere on the slide. Only tiles that lie inside the slide count.

    Returns
    -------
    Columns x_px, y_px (int64, upper left corner, level 0), tissue_fraction (float64); in reading order (by y, then x).

    Raises
    ------
    SlideError : the slide is smaller than a tile, or no tile has enough tissue.
    """
    config = config or TileConfig()
    span = slide.span_px(config.tile_px, config.mpp_um)
    columns, rows = int(slide.width_px / span + 1e-9), int(slide.height_px / span + 1e-9)
    x_px, y_px = (
        np.rint(axis.ravel() * span).astype(np.int64)
        for axis in np.meshgrid(np.arange(columns), np.arange(rows), indexing="xy")
    )
    fraction = mask.fraction(x_px, y_px, span)
    enough = np.flatnonzero(fraction >= 1 - config.max_background)
    if enough.size == 0:
        raise SlideError(
            f"slide {slide.slide_id}",
            expected=f"a tile of {span:.0f} px with at least {1 - config.max_background:.0%} tissue",
            found=f"{slide.width_px} x {slide.height_px} px, {mask.share.mean():.1%} of it tissue",
            fix="check the slide and its um/px (--slide-mpp)",
        )
    if enough.size > config.max_tiles:
        drawn = np.random.default_rng(config.seed).choice(enough, size=config.max_tiles, replace=False)
        enough = np.sort(drawn)  # rows of the grid are in reading order already
    return pd.DataFrame({"x_px": x_px[enough], "y_px": y_px[enough], "tissue_fraction": fraction[enough]})


def centred_grid(xy_centres: np.ndarray, tile_px: int, mpp_um: float, slide: Slide) -> pd.DataFrame:
    """Tiles centred on given points, for instance the spots of a spatial array (her2st: a 128-um field about 100-um spots).

    Parameters
    ----------
    xy_centres : (N, 2), px of level 0.
    tile_px, mpp_um : side and resolution of the tiles.
    slide : the slide.

    Returns
    -------
    Columns x_px, y_px (int64, upper left corner, level 0) and inside (bool: the tile lies in the slide and can be read);
    N rows in the order given.

    Raises
    ------
    InputError : another shape, or points that are not numbers.
    """
    centres = np.asarray(xy_centres, np.float64)
    if centres.ndim != 2 or centres.shape[1] != 2 or not np.isfinite(centres).all():
        raise InputError(f"slide {slide.slide_id}", expected="centres (N, 2), finite", found=f"shape {centres.shape}")
    span = slide.span_px(tile_px, mpp_um)
    corner = np.rint(centres - span / 2).astype(np.int64)
    inside = ((corner >= 0) & (corner + span <= np.array([slide.width_px, slide.height_px]))).all(1)
    return pd.DataFrame({"x_px": corner[:, 0], "y_px": corner[:, 1], "inside": inside})


def keep_tile(tile: np.ndarray, config: TileConfig | None = None) -> tuple[bool, str]:
    """Decide on a tile once it is read; a sample of 32 x 32 of its px is looked at.

    Parameters
    ----------
    tile : (tile_px, tile_px, 3), uint8 RGB.

    Returns
    -------
    (True, "") or (False, reason), reason "low contrast" or "pen".
    """
    config = config or TileConfig()
    step = max(1, min(tile.shape[:2]) // SAMPLES_PER_SIDE)
    sample = tile[step // 2 :: step, step // 2 :: step]
    ranked = np.sort((sample @ _GREY_WEIGHTS).ravel())  # NumPy sorts a thousand floats faster than it partitions them
    low, high = int(0.01 * ranked.size), int(0.99 * ranked.size)
    if ranked[high] - ranked[low] < config.min_contrast * (LEVELS - 1):
        return False, "low contrast"
    if config.drop_pen and _may_be_pen(sample, config.max_pen) and pen_pixels(sample).mean() > config.max_pen:
        return False, "pen"
    return True, ""
