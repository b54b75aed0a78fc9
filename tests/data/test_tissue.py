"""Which tiles are worth reading: mask, grid, spots, contrast and pen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from skimage.exposure import is_low_contrast
from skimage.filters import threshold_otsu

from rnasynth.data.jpeg_pyramid import write_pyramid
from rnasynth.data.slides import Slide, open_slide
from rnasynth.data.tissue import (
    Mask,
    TileConfig,
    _may_be_pen,
    centred_grid,
    keep_tile,
    pen_pixels,
    tile_grid,
    tissue_mask,
    tissue_threshold,
)
from rnasynth.errors import InputError, SlideError
from tests.data.painted import GLASS, section

MPP = 0.5
SMALL = TileConfig(tile_px=64, mpp_um=MPP)
PENS = {"blue": (30, 70, 190), "green": (20, 130, 60), "black": (22, 20, 24), "red": (225, 28, 36)}


def opened(tmp_path: Path, image: np.ndarray, slide_mpp: float = MPP, name: str = "section") -> Slide:
    path = tmp_path / f"{name}.png"
    Image.fromarray(image).save(path)
    return open_slide(path, slide_mpp=slide_mpp)


def place_list(grid: pd.DataFrame) -> list[tuple[int, int]]:
    return [(int(x), int(y)) for x, y in grid[["x_px", "y_px"]].to_numpy()]


# ---- mask


@pytest.mark.parametrize("source", ["thumbnail", "full"])
def test_mask_finds_the_tissue_and_nothing_else(tmp_path: Path, source: str) -> None:
    slide = opened(tmp_path, section(1024, 768, tissue=(0.25, 0.25, 0.75, 0.75)))
    mask = tissue_mask(slide, TileConfig(tile_px=64, mask_source=source))  # type: ignore[arg-type]
    inside = mask.fraction(np.array([300]), np.array([250]), 256)
    outside = mask.fraction(np.array([0, 800]), np.array([0, 600]), 160)
    assert inside[0] > 0.95 and (outside < 0.02).all()
    assert mask.share.mean() == pytest.approx(0.25, abs=0.02)
    assert mask.source == source and 0 <= mask.pen_share < 0.01


@pytest.mark.parametrize("fill", [GLASS, (255, 255, 255), (0, 0, 0)])
@pytest.mark.parametrize("noise", [0, 2])
def test_slide_without_tissue_raises(tmp_path: Path, fill: tuple[int, int, int], noise: int) -> None:
    if fill == (0, 0, 0) and noise:
        pytest.skip("noise on padding is ink")
    rng = np.random.default_rng(0)
    image = np.clip(np.full((600, 800, 3), fill) + rng.normal(0, noise, (600, 800, 3)), 0, 255).astype(np.uint8)
    with pytest.raises(SlideError, match=r"slide section.*tissue"):
        tissue_mask(opened(tmp_path, image), SMALL)


def test_slide_that_is_all_tissue_is_all_tissue(tmp_path: Path) -> None:
    """One split of Otsu's would call the stroma glass (the deliberately broken variant)."""
    image = section(640, 640)
    mask = tissue_mask(opened(tmp_path, image), SMALL)
    assert mask.threshold == 256 and mask.share.mean() > 0.99
    grey = np.asarray(Image.fromarray(image).convert("L"))
    assert (grey < threshold_otsu(grey)).mean() < 0.5


def test_threshold_is_otsus_where_glass_is_seen() -> None:
    image = section(400, 400, tissue=(0, 0, 0.5, 1))
    grey, chroma = np.asarray(Image.fromarray(image).convert("L")), image.max(2) - image.min(2)
    joint = np.zeros((256, 256), np.int64)
    np.add.at(joint, (grey.ravel(), chroma.ravel()), 1)
    bright_side = np.median(grey[:, 220:])
    threshold = tissue_threshold(joint)
    assert threshold is not None and 180 < threshold < bright_side  # stroma has 175
    dull = joint.copy()
    dull[:, :] = 0
    assert tissue_threshold(dull) is None


def test_black_padding_is_no_tissue(tmp_path: Path) -> None:
    image = section(640, 640, tissue=(0.4, 0.4, 0.8, 0.8))
    image[:, :160] = 0
    mask = tissue_mask(opened(tmp_path, image), SMALL)
    assert mask.fraction(np.array([0]), np.array([0]), 150)[0] == 0
    assert mask.fraction(np.array([300]), np.array([300]), 150)[0] > 0.9


@given(x=st.floats(0, 30), y=st.floats(0, 20), span=st.floats(0.5, 9), px=st.sampled_from([1.0, 2.5, 7.25]))
@settings(max_examples=60, deadline=None)
def test_fraction_is_the_mean_over_the_square(x: float, y: float, span: float, px: float) -> None:
    """Against the overlap of the square with each mask px, one by one."""
    share = np.random.default_rng(1).random((30, 40)).astype(np.float32)
    mask = Mask(share, px, px, 200.0, 0.0, "thumbnail")
    across = np.clip(np.minimum(np.arange(40) + 1, x + span) - np.maximum(np.arange(40), x), 0, None)
    down = np.clip(np.minimum(np.arange(30) + 1, y + span) - np.maximum(np.arange(30), y), 0, None)
    expected = down @ share @ across / span**2
    assert mask.fraction(np.array([x * px]), np.array([y * px]), span * px)[0] == pytest.approx(expected, abs=1e-5)


# ---- grid


@pytest.mark.parametrize("slide_mpp", [0.5, 0.25, 0.345, 0.69])
def test_grid_has_no_gaps_no_overlaps_and_no_drift(tmp_path: Path, slide_mpp: float) -> None:
    slide = opened(tmp_path, section(1500, 1100), slide_mpp)
    grid = tile_grid(slide, tissue_mask(slide, SMALL), SMALL)
    span = slide.span_px(64, MPP)
    columns, rows = int(1500 / span), int(1100 / span)
    assert len(grid) == columns * rows
    assert place_list(grid) == [(round(j * span), round(i * span)) for i in range(rows) for j in range(columns)]
    assert sum(1 for _ in slide.read_tiles(grid[["x_px", "y_px"]].to_numpy(), 64, MPP)) == len(grid)


def test_background_above_the_limit_is_dropped(tmp_path: Path) -> None:
    """Tissue fills the left 35 and 45 % of two tiles: 60 % background is the limit."""
    image = np.full((128, 640, 3), GLASS, np.uint8)
    image[:64, 64 : 64 + 22] = image[64:, 64 : 64 + 29] = (150, 80, 130)
    image[:, 320:448] = (150, 80, 130)
    slide = opened(tmp_path, image)
    places = place_list(tile_grid(slide, tissue_mask(slide, SMALL), SMALL))
    assert (64, 64) in places and (64, 0) not in places and (0, 0) not in places and (320, 0) in places
    removed = Mask(np.ones((2, 10), np.float32), 64.0, 64.0, 256.0, 0.0, "thumbnail")  # the deliberately broken variant
    assert {(64, 0), (0, 0)} <= set(place_list(tile_grid(slide, removed, SMALL)))


def test_at_most_max_tiles_by_seed_in_reading_order(tmp_path: Path) -> None:
    slide = opened(tmp_path, section(1280, 960))
    mask = tissue_mask(slide, SMALL)

    def chosen(seed: int) -> list[tuple[int, int]]:
        return place_list(tile_grid(slide, mask, TileConfig(tile_px=64, max_tiles=40, seed=seed)))

    all_places = place_list(tile_grid(slide, mask, SMALL))
    assert len(all_places) == 300 and len(chosen(0)) == 40 == len(set(chosen(0)))
    assert chosen(0) == chosen(0) != chosen(1)
    assert set(chosen(0)) <= set(all_places) and chosen(0) == sorted(chosen(0), key=lambda place: place[::-1])


def test_slide_smaller_than_a_tile_raises(tmp_path: Path) -> None:
    slide = opened(tmp_path, section(200, 200))
    mask = tissue_mask(slide)
    with pytest.raises(SlideError, match=r"slide section.*256 px"):
        tile_grid(slide, mask)


def test_grid_and_tiles_are_the_same_for_pyramid_and_plain_image(tmp_path: Path) -> None:
    """Lossless in one, JPEG in the other: the same places but for the codec's noise at the limit."""
    image = section(1500, 1200, tissue=(0.1, 0.1, 0.72, 0.8))  # no border at 40 % of a tile
    write_pyramid(tmp_path / "pyramid.tiff", image, MPP)
    plain = opened(tmp_path, image)
    with open_slide(tmp_path / "pyramid.tiff") as pyramid:
        ours, theirs = (set(place_list(tile_grid(one, tissue_mask(one, SMALL), SMALL))) for one in (plain, pyramid))
    assert len(ours ^ theirs) <= 0.02 * len(ours)


# ---- spots


def test_tiles_are_centred_on_spots(tmp_path: Path) -> None:
    """128-um field of 256 px at 0.5 um/px from 0.69 um/px: 185.5 px of the slide, its centre at the spot."""
    image = np.full((600, 700, 3), 230, np.uint8)
    image[297:304, 397:404] = (120, 20, 90)
    slide = opened(tmp_path, image, 0.69)
    grid = centred_grid(np.array([[400.5, 300.5], [10.0, 300.0]]), 256, MPP, slide)
    assert grid["inside"].tolist() == [True, False]
    tile = slide.read_tile(*grid.loc[0, ["x_px", "y_px"]].astype(int), 256, MPP)
    rows, columns = np.nonzero(tile[..., 1] < 125)
    assert abs(rows.mean() - 127.5) < 1 and abs(columns.mean() - 127.5) < 1


@pytest.mark.parametrize("centres", [np.zeros((3, 3)), np.zeros(2), np.array([[np.nan, 1.0]])])
def test_centres_of_another_shape_are_refused(tmp_path: Path, centres: np.ndarray) -> None:
    with pytest.raises(InputError, match="slide section"):
        centred_grid(centres, 64, MPP, opened(tmp_path, section(100, 100)))


# ---- a tile once it is read


def test_low_contrast_is_scikit_images_rule() -> None:
    rng = np.random.default_rng(0)
    for spread in np.linspace(0, 40, 60):
        tile = np.clip(np.full((256, 256, 1), 205.0) + rng.uniform(-spread / 2, spread / 2, (256, 256, 1)), 0, 255)
        tile = np.rint(tile).astype(np.uint8).repeat(3, 2)
        if abs(spread * 0.98 - 0.05 * 255) > 2:  # at the limit itself a sample of the px may decide otherwise
            theirs = bool(is_low_contrast(tile[..., 0], fraction_threshold=0.05))  # grey: of RGB it takes a range of 2
            assert keep_tile(tile) == ((False, "low contrast") if theirs else (True, ""))


def painted_stroke(tile: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Felt-pen stroke over a tile: ink takes most of the light, tissue shines through a little."""
    stroke = Image.new("L", tile.shape[1::-1], 0)
    ImageDraw.Draw(stroke).line([(0, 40), (tile.shape[1], tile.shape[0] - 60)], fill=255, width=60)
    ink = 0.88 * np.array(colour) + 0.12 * tile * (np.array(colour) / 255)
    return np.where(np.asarray(stroke)[..., None] > 0, ink, tile).astype(np.uint8)


@pytest.mark.parametrize("pen", PENS)
def test_pen_on_a_tile_is_dropped_unless_wanted(pen: str) -> None:
    tile = section(256, 256)
    marked = painted_stroke(tile, PENS[pen])
    assert keep_tile(tile) == (True, "")
    assert keep_tile(marked) == (False, "pen")
    assert keep_tile(marked, TileConfig(drop_pen=False)) == (True, "")


def test_the_cheap_look_for_pen_passes_every_ink() -> None:
    rgb = np.stack(np.meshgrid(*[np.arange(0, 256, 3, dtype=np.uint8)] * 3), -1).reshape(-1, 3)
    ink = rgb[pen_pixels(rgb)]
    assert len(ink) > 1000 and all(_may_be_pen(part, 0.999) for part in ink[:, None])


def test_pen_is_taken_out_of_the_mask(tmp_path: Path) -> None:
    image = section(640, 640, tissue=(0, 0, 0.5, 1))
    image[100:300, 400:600] = PENS["blue"]
    slide = opened(tmp_path, image)
    with_pen = tissue_mask(slide, TileConfig(tile_px=64, drop_pen=False))
    without = tissue_mask(slide, SMALL)
    assert with_pen.fraction(np.array([420]), np.array([120]), 150)[0] > 0.9
    assert without.fraction(np.array([420]), np.array([120]), 150)[0] == 0
    assert without.pen_share == pytest.approx(200 * 200 / 640**2, rel=0.1)


@pytest.mark.parametrize("field", [{"tile_px": 4}, {"max_background": 1.5}, {"mask_source": "both"}, {"max_tiles": 0}])
def test_config_out_of_range_is_refused(field: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(field))):
        TileConfig(**field)  # type: ignore[arg-type]


# ---- real slides


REAL = {
    "slides/CMU-1-Small-Region.svs": None,
    "slides/CropBreastSlide.tiff": 0.5,
    "slides/TCGA-CR-7395-01A-01-TS1.svs": 0.5,
    "her2st/images/C2.jpg": 0.69,
    "her2st/images/C3.jpg": 0.69,
}


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_no_real_tile_is_called_pen_and_a_painted_one_is(mirror: Path, name: str) -> None:
    with open_slide(mirror / name, slide_mpp=REAL[name]) as slide:
        config = TileConfig(max_tiles=150)
        grid = tile_grid(slide, tissue_mask(slide, config), config)
        tiles = list(slide.read_tiles(grid[["x_px", "y_px"]].to_numpy(), 256, 0.5))
    assert sum(keep_tile(tile)[1] == "pen" for tile in tiles) <= 0.01 * len(tiles)
    for colour in PENS.values():
        marked = [painted_stroke(tile, colour) for tile in tiles[::10]]
        assert np.mean([keep_tile(tile)[1] == "pen" for tile in marked]) == 1


@pytest.mark.real
@pytest.mark.parametrize(("folder", "step"), [("tcga_tiles/monuseg", 1)])
def test_no_tile_of_23_other_patients_is_called_pen(mirror: Path, folder: str, step: int) -> None:
    paths = [path for path in sorted((mirror / folder).glob("*.png")) if not path.stem.endswith("_inst")]
    assert len(paths) >= 20
    shares = []
    for path in paths[::step]:
        with Image.open(path) as image:
            half = np.asarray(image.convert("RGB").reduce(2))  # 40x to 20x
        shares += [pen_pixels(half[y : y + 256, x : x + 256]).mean() for y in (0, 244) for x in (0, 244)]
    assert max(shares) < 0.05


@pytest.mark.real
def test_her2st_mask_holds_the_spots_the_authors_chose(mirror: Path) -> None:
    """The authors selected spots under tissue by hand; stain that ran out beside the section (C4) is not tissue."""
    spots = pd.read_csv(mirror / "her2st/spots/C4_selection.tsv", sep="\t")
    with open_slide(mirror / "her2st/images/C4.jpg", slide_mpp=0.69) as slide:
        mask = tissue_mask(slide)
        chosen = spots.loc[spots["selected"] == 1, ["pixel_x", "pixel_y"]].to_numpy()
        grid = centred_grid(chosen, 256, 0.5, slide)
        inside = mask.fraction(grid["x_px"].to_numpy(), grid["y_px"].to_numpy(), slide.span_px(256, 0.5))
    assert grid["inside"].all() and len(grid) > 150
    assert np.mean(inside > 0.4) > 0.95
    assert mask.share.mean() < 0.16  # spots cover 12 % of the picture; the halo would make it 20 %


@pytest.mark.real
def test_mask_from_the_full_resolution_keeps_nearly_the_same_tiles(mirror: Path, tmp_path: Path) -> None:
    """The papers mask the higher resolution: the difference in tiles kept is small, and is measured on page 03."""
    pixels = simplejpeg.decode_jpeg((mirror / "her2st/images/C3.jpg").read_bytes(), "RGB")[2000:5000, 3500:6500]
    write_pyramid(tmp_path / "C3.tiff", pixels, 0.69, levels=1)
    with open_slide(tmp_path / "C3.tiff") as slide:
        masks = [tissue_mask(slide, config) for config in (TileConfig(), TileConfig(mask_source="full"))]
        kept = [set(place_list(tile_grid(slide, mask))) for mask in masks]
    assert masks[0].share.mean() > 1.02 * masks[1].share.mean()  # lumina and gaps count only at full resolution
    assert len(kept[0] ^ kept[1]) <= 0.1 * len(kept[0])
