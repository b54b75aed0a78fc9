"""Opening and reading slides: um/px, headers, and pixels equal to OpenSlide's."""

from __future__ import annotations

import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openslide
import pytest
import simplejpeg
import tifffile
from PIL import Image

from rnasynth.data import jpeg_pyramid, slide_sources
from rnasynth.data.jpeg_pyramid import write_pyramid
from rnasynth.data.slides import Slide, check_header, open_slide
from rnasynth.errors import SlideError
from tests.data.painted import section

MPP = 0.5


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return section(1100, 900)


@pytest.fixture
def pyramid(tmp_path: Path, image: np.ndarray) -> Path:
    path = tmp_path / "slide.tiff"
    write_pyramid(path, image, MPP, subsampling="420")
    return path


def openslide_pixels(path: Path, x: int, y: int, side_px: int, level: int = 0) -> np.ndarray:
    with openslide.OpenSlide(path) as slide:
        return np.asarray(slide.read_region((x, y), level, (side_px, side_px)).convert("RGB"))


def scattered(slide: Slide, side_px: int, n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, (slide.width_px - side_px, slide.height_px - side_px), (n, 2))


# ---- the file says its size and um/px


def test_pyramid_opens_in_openslide_with_its_resolution(pyramid: Path) -> None:
    with openslide.OpenSlide(pyramid) as slide:
        assert slide.properties["openslide.vendor"] == "generic-tiff"
        assert slide.level_dimensions == ((1100, 900), (550, 450), (275, 225), (138, 113))
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(MPP)
    assert check_header(pyramid) == slide_sources.Header("slide", 1100, 900)


def test_written_pyramid_is_a_tiff_for_another_reader(pyramid: Path) -> None:
    with tifffile.TiffFile(pyramid) as tiff:
        assert [page.shape for page in tiff.pages] == [(900, 1100, 3), (450, 550, 3), (225, 275, 3), (113, 138, 3)]
        assert tiff.pages[0].subsampling == (2, 2)


def test_slide_mpp_replaces_what_the_file_says(pyramid: Path) -> None:
    with open_slide(pyramid) as own, open_slide(pyramid, slide_mpp=0.25) as given:
        assert own.mpp_um == pytest.approx(MPP) and given.mpp_um == 0.25
        assert own.slide_id == "slide"


@pytest.mark.parametrize("mpp_um", [264.58, 0.01])
def test_absurd_mpp_names_the_slide_and_the_flag(tmp_path: Path, image: np.ndarray, mpp_um: float) -> None:
    path = tmp_path / "odd.tiff"
    write_pyramid(path, image[:300, :300], mpp_um)
    with pytest.raises(SlideError, match=r"slide odd .*--slide-mpp"):
        open_slide(path)
    with open_slide(path, slide_mpp=0.5) as slide:
        assert slide.mpp_um == 0.5
    with pytest.raises(SlideError, match="--slide-mpp"):
        open_slide(path, slide_mpp=mpp_um)


def test_mpp_that_differs_in_x_and_y_is_refused(pyramid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = {"openslide.mpp-x": "0.5", "openslide.mpp-y": "0.6", "openslide.vendor": "generic-tiff"}
    monkeypatch.setattr(openslide.OpenSlide, "properties", property(lambda self: fake))
    with pytest.raises(SlideError, match=r"0\.5 x 0\.6.*--slide-mpp"):
        open_slide(pyramid)


@pytest.mark.parametrize(
    "words", [{}, {"openslide.mpp-x": "nan", "openslide.mpp-y": "nan"}, {"openslide.mpp-x": "a", "openslide.mpp-y": "b"}]
)
def test_missing_or_unreadable_mpp_is_refused(pyramid: Path, monkeypatch: pytest.MonkeyPatch, words: dict[str, str]) -> None:
    monkeypatch.setattr(
        openslide.OpenSlide, "properties", property(lambda self: {"openslide.objective-power": "40", **words})
    )
    with pytest.raises(SlideError, match="--slide-mpp"):
        open_slide(pyramid)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_plain_image_needs_slide_mpp_and_gives_its_pixels(tmp_path: Path, image: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"section.{suffix}"
    Image.fromarray(image).save(path)
    with pytest.raises(SlideError, match=r"section.*--slide-mpp"):
        open_slide(path)
    with open_slide(path, slide_mpp=MPP) as slide, Image.open(path) as other:
        assert (slide.width_px, slide.height_px, slide.reader) == (1100, 900, "memory")
        assert np.array_equal(slide.read_tile(101, 77, 256, MPP), np.asarray(other.convert("RGB"))[77:333, 101:357])


def test_transparent_png_is_white_there(tmp_path: Path) -> None:
    rgba = np.zeros((300, 300, 4), np.uint8)
    Image.fromarray(rgba).save(tmp_path / "clear.png")
    with open_slide(tmp_path / "clear.png", slide_mpp=MPP) as slide:
        assert (slide.read_tile(0, 0, 256, MPP) == 255).all()


def test_sixteen_bit_image_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((300, 300), np.uint16)).save(tmp_path / "deep.png")
    with open_slide(tmp_path / "deep.png", slide_mpp=MPP) as slide, pytest.raises(SlideError, match="8-bit"):
        slide.read_tile(0, 0, 256, MPP)


def claim_png_size(path: Path, width: int, height: int) -> None:
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(bytes(content))


def claim_jpeg_size(path: Path, width: int, height: int) -> None:
    content = bytearray(path.read_bytes())
    at = content.index(b"\xff\xc0")
    content[at + 5 : at + 9] = struct.pack(">HH", height, width)
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(("suffix", "claim"), [("png", claim_png_size), ("jpg", claim_jpeg_size)])
def test_decompression_bomb_is_refused_by_its_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, claim: Callable[[Path, int, int], None]
) -> None:
    path = tmp_path / f"bomb.{suffix}"
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(path)
    claim(path, 60_000, 60_000)
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *_, **__: pytest.fail("decoded"))
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("decoded"))
    with pytest.raises(SlideError, match=r"bomb.*60,000 x 60,000"):
        open_slide(path, slide_mpp=MPP)


def test_slide_with_absurd_sides_is_refused_by_its_header(pyramid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slide_sources, "MAX_SLIDE_SIDE_PX", 1000)
    with pytest.raises(SlideError, match=r"slide\.tiff.*not decoded"):
        open_slide(pyramid)


def test_stored_tile_whose_own_header_claims_more_is_refused(pyramid: Path) -> None:
    layout = jpeg_pyramid.read_levels(pyramid, [(1100, 900)])[0]
    assert layout is not None
    content = bytearray(pyramid.read_bytes())
    start = layout.offsets[7]
    at = content.index(b"\xff\xc0", start)
    content[at + 5 : at + 9] = struct.pack(">HH", 65500, 65500)
    pyramid.write_bytes(bytes(content))
    with open_slide(pyramid) as slide, pytest.raises(SlideError, match=r"65500"):
        slide.read_tile(7 % 5 * 256, 7 // 5 * 256, 256, MPP)


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0\x08\0\0\0"])
def test_file_that_is_no_image_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.bin"
    path.write_bytes(content)
    with pytest.raises(SlideError, match="other"):
        open_slide(path, slide_mpp=MPP)
    with pytest.raises(SlideError, match="absent"):
        open_slide(tmp_path / "absent.svs")


def test_truncated_plain_image_is_refused(tmp_path: Path, image: np.ndarray) -> None:
    for suffix in ("jpg", "png"):
        path = tmp_path / f"cut.{suffix}"
        Image.fromarray(image).save(path)
        path.write_bytes(path.read_bytes()[:-20_000])
        with open_slide(path, slide_mpp=MPP) as slide, pytest.raises(SlideError, match="cut"):
            slide.read_tile(0, 0, 256, MPP)


# ---- pixels equal OpenSlide's


@pytest.mark.parametrize("subsampling", ["444", "420"])
@pytest.mark.parametrize("tile_px", [256, 240])
def test_direct_pixels_equal_openslide(tmp_path: Path, image: np.ndarray, subsampling: str, tile_px: int) -> None:
    path = tmp_path / "slide.tiff"
    write_pyramid(path, image, MPP, subsampling=subsampling, tile_px=tile_px)  # type: ignore[arg-type]
    with open_slide(path) as slide:
        assert slide.reader == "direct"
        places = np.concatenate([scattered(slide, 256, 30), [[0, 0], [844, 644], [256, 256]]])
        for (x, y), tile in zip(places.tolist(), slide.read_tiles(places, 256, MPP), strict=True):
            assert np.array_equal(tile, openslide_pixels(path, x, y, 256)), (x, y)


def test_level_one_is_read_for_twice_the_mpp(pyramid: Path) -> None:
    with open_slide(pyramid) as slide:
        assert slide.geometry(1.0) == (1, 1.0) and slide.span_px(128, 1.0) == 256
        assert np.array_equal(slide.read_tile(100, 200, 128, 1.0), openslide_pixels(pyramid, 100, 200, 128, level=1))


def test_probe_that_differs_falls_back_to_openslide_and_says_so(pyramid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deliberately broken reader: chroma upsampled in another way."""
    true_decode = simplejpeg.decode_jpeg
    monkeypatch.setattr(
        simplejpeg, "decode_jpeg", lambda data, *a, **k: true_decode(data, *a, **{**k, "fastupsample": True})
    )
    with open_slide(pyramid) as slide:
        assert slide.reader.startswith("openslide: probe at level 0")
        assert np.array_equal(slide.read_tile(10, 20, 256, MPP), openslide_pixels(pyramid, 10, 20, 256))


def test_colour_space_follows_the_tag_or_falls_back(tmp_path: Path, image: np.ndarray) -> None:
    """The tiles say JFIF (YCbCr), the tag RGB: whatever OpenSlide makes of that is what is read."""
    path = tmp_path / "slide.tiff"
    write_pyramid(path, image, MPP, levels=1)
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        at = tiff.pages[0].tags["PhotometricInterpretation"].valueoffset
    content[at : at + 2] = struct.pack("<H", jpeg_pyramid.RGB)
    path.write_bytes(bytes(content))
    with open_slide(path) as slide:
        assert np.array_equal(slide.read_tile(30, 40, 256, MPP), openslide_pixels(path, 30, 40, 256))


def test_tile_that_the_file_leaves_out_is_openslides_business(tmp_path: Path, image: np.ndarray) -> None:
    path = tmp_path / "slide.tiff"
    write_pyramid(path, image, MPP, levels=1)
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        for name in ("TileByteCounts", "TileOffsets"):
            at = tiff.pages[0].tags[name].valueoffset + 8 * 6
            content[at : at + 8] = bytes(8)
    path.write_bytes(bytes(content))
    with openslide.OpenSlide(path) as slide:
        theirs = slide.read_region((256, 256), 0, (256, 256))
    with open_slide(path) as ours:
        tile = ours.read_tile(256, 256, 256, MPP)
        expected = np.asarray(theirs.convert("RGB")) if theirs.getextrema()[3][0] == 255 else np.full((256, 256, 3), 255)
        assert np.array_equal(tile, expected)
        assert np.array_equal(ours.read_tile(512, 256, 256, MPP), openslide_pixels(path, 512, 256, 256))


@pytest.mark.parametrize(("cache_bytes", "once"), [(jpeg_pyramid.CACHE_BYTES, True), (1, False)])
def test_each_stored_tile_is_decoded_once_in_reading_order(
    tmp_path: Path, image: np.ndarray, cache_bytes: int, once: bool
) -> None:
    """Holds with the cache, and fails without it (the deliberately broken variant)."""
    path = tmp_path / "slide.tiff"
    write_pyramid(path, image, MPP, tile_px=240, levels=1)
    reader = jpeg_pyramid.JpegPyramid(path, jpeg_pyramid.read_levels(path, [(1100, 900)]), cache_bytes=cache_bytes)
    for y in range(0, 900 - 256, 256):
        for x in range(0, 1100 - 256, 256):
            reader.window(0, x, y, 256, 256)
    reader.close()
    across, down = -(-1024 // 240), -(-768 // 240)
    assert (reader.decoded == across * down) is once


def test_small_cache_gives_the_same_pixels(tmp_path: Path, image: np.ndarray) -> None:
    path = tmp_path / "slide.tiff"
    write_pyramid(path, image, MPP, levels=1)
    levels = jpeg_pyramid.read_levels(path, [(1100, 900)])
    reader = jpeg_pyramid.JpegPyramid(path, levels, cache_bytes=1)
    assert np.array_equal(reader.window(0, 100, 100, 500, 500), openslide_pixels(path, 100, 100, 500))
    reader.close()


def test_tile_given_to_the_caller_is_not_the_cache(pyramid: Path) -> None:
    with open_slide(pyramid) as slide:
        for place in ((0, 0), (100, 100)):
            first = slide.read_tile(*place, 256, MPP)
            kept = first.copy()
            first[:] = 0
            assert np.array_equal(slide.read_tile(*place, 256, MPP), kept)


# ---- scale


def test_nearly_equal_mpp_is_read_as_it_is(pyramid: Path) -> None:
    with open_slide(pyramid, slide_mpp=0.4955) as slide:
        assert slide.geometry(0.5) == (0, 1.0) and slide.span_px(256, 0.5) == 256


def test_whole_scale_is_the_mean_of_blocks(tmp_path: Path, image: np.ndarray) -> None:
    Image.fromarray(image).save(tmp_path / "section.png")
    with open_slide(tmp_path / "section.png", slide_mpp=0.25) as slide:
        tile = slide.read_tile(31, 17, 128, 0.5)
    mean = image[17 : 17 + 256, 31 : 31 + 256].reshape(128, 2, 128, 2, 3).mean((1, 3))
    assert np.abs(tile - mean).max() <= 0.5


@pytest.mark.parametrize("slide_mpp", [0.69, 0.335, 0.19448])
def test_tiles_are_what_resampling_the_whole_slide_gives(tmp_path: Path, image: np.ndarray, slide_mpp: float) -> None:
    """Position and edge: a tile equals the cut of Pillow's resampling of the whole picture, to rounding."""
    Image.fromarray(image).save(tmp_path / "section.png")
    scale = 0.5 / slide_mpp
    with open_slide(tmp_path / "section.png", slide_mpp=slide_mpp) as slide:
        x, y = 100, 100
        tile = slide.read_tile(x, y, 64, 0.5)
    far = int((min(image.shape[:2]) - 100) / scale)
    kernel = Image.Resampling.BILINEAR if scale > 1 else Image.Resampling.BICUBIC
    box = (x, y, x + far * scale, y + far * scale)
    whole = np.asarray(Image.fromarray(image).resize((far, far), kernel, box=box))[:64, :64]
    assert np.abs(tile.astype(int) - whole).max() <= 1


@pytest.mark.parametrize("slide_mpp", [0.69, 0.2512, 0.31])
def test_positions_do_not_drift_over_the_slide(tmp_path: Path, slide_mpp: float) -> None:
    """A ramp of one grey level per 40 px stays that ramp at the far end of the slide."""
    ramp = np.repeat((np.arange(8000) / 40)[None, :, None], 700, 0).repeat(3, 2)
    Image.fromarray(np.rint(ramp).astype(np.uint8)).save(tmp_path / "ramp.png")
    with open_slide(tmp_path / "ramp.png", slide_mpp=slide_mpp) as slide:
        span = slide.span_px(256, 0.5)
        for column in (0, int(8000 / span) - 1):
            x = round(column * span)
            tile = slide.read_tile(x, 0, 256, 0.5)[100].mean(-1)
            centres = x + (np.arange(256) + 0.5) * span / 256 - 0.5
            assert abs((tile - centres / 40).mean()) < 0.02  # 0.02 levels are 0.8 px


def test_tile_outside_the_slide_is_refused(pyramid: Path) -> None:
    with open_slide(pyramid) as slide:
        for place in ((-1, 0), (0, -1), (1100 - 254, 0), (0, 900)):
            with pytest.raises(SlideError, match="inside the slide"):
                slide.read_tile(*place, 256, MPP)


# ---- overview


@pytest.mark.parametrize("levels", [1, None])
def test_overview_is_the_small_picture_of_the_slide(tmp_path: Path, image: np.ndarray, levels: int | None) -> None:
    path = tmp_path / "slide.tiff"
    write_pyramid(path, image, MPP, levels=levels)
    with open_slide(path) as slide:
        for max_px in (1100, 600, 130):
            overview = slide.overview(max_px)
            assert max(overview.image.shape) <= max_px
            assert overview.image.shape[1] == pytest.approx(1100 / overview.px_x, abs=1.01)
            small = Image.fromarray(image).resize(overview.image.shape[1::-1], Image.Resampling.BOX)
            assert np.abs(overview.image.astype(int) - np.asarray(small)).mean() < 6
        assert np.array_equal(slide.thumbnail(130), slide.overview(130).image)


def test_strips_are_the_slide(pyramid: Path) -> None:
    with open_slide(pyramid) as slide:
        assert np.array_equal(np.concatenate(list(slide.strips(250)))[:900, :900], openslide_pixels(pyramid, 0, 0, 900))


# ---- a slide that breaks


@pytest.mark.parametrize("fault", ["truncated", "zeroed", "cut short"])
@pytest.mark.parametrize("direct", [True, False])
def test_broken_tile_names_slide_level_and_place(
    tmp_path: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch, fault: str, direct: bool
) -> None:
    path = tmp_path / "slide.tiff"
    write_pyramid(path, image, MPP, levels=1)
    layout = jpeg_pyramid.read_levels(path, [(1100, 900)])[0]
    assert layout is not None
    start, count = layout.offsets[8], layout.byte_counts[8]
    if not direct:
        monkeypatch.setattr(slide_sources, "DIRECT_VENDORS", ())
    with open_slide(path) as slide:
        content = bytearray(path.read_bytes())
        if fault == "zeroed":
            content[start : start + count] = bytes(count)
        elif fault == "cut short":
            content[start + count // 2 : start + count] = bytes(count - count // 2)
        with open(path, "rb+") as handle:  # the same file, damaged while it is open
            handle.write(content)
            if fault == "truncated":
                handle.truncate(start + 100)
        assert slide.read_tile(0, 0, 256, MPP).shape == (256, 256, 3)
        if fault == "cut short" and not direct:
            return  # OpenSlide accepts a tile that ends early; the direct reader does not
        with pytest.raises(SlideError, match=r"slide slide, level 0, x 768, y 256") as caught:
            slide.read_tile(768, 256, 256, MPP)
        assert str(path) in caught.value.fix


def test_open_slide_stays_in_its_process(pyramid: Path) -> None:
    with open_slide(pyramid) as slide, pytest.raises(TypeError, match="hand over its path"):
        pickle.dumps(slide)


# ---- real slides


@pytest.mark.real
def test_cmu_is_read_directly_and_equals_openslide(mirror: Path) -> None:
    """RGB (not YCbCr) JPEG in 240-px tiles with shared tables."""
    path = mirror / "slides/CMU-1-Small-Region.svs"
    with open_slide(path) as slide:
        assert (slide.reader, slide.mpp_um) == ("direct", 0.499)
        whole = np.concatenate(list(slide.strips()))
        with openslide.OpenSlide(path) as other:
            assert np.array_equal(whole, np.asarray(other.read_region((0, 0), 0, other.dimensions).convert("RGB")))
        for x, y in scattered(slide, 256, 50).tolist():
            assert np.array_equal(slide.read_tile(x, y, 256, 0.5), whole[y : y + 256, x : x + 256])


@pytest.mark.real
def test_her2st_pyramid_equals_openslide(mirror: Path, tmp_path: Path) -> None:
    pixels = simplejpeg.decode_jpeg((mirror / "her2st/images/C2.jpg").read_bytes(), "RGB")[4000:6000, 3500:6500]
    path = tmp_path / "C2.tiff"
    write_pyramid(path, pixels, 0.5, subsampling="420", quality=80)
    with open_slide(path) as slide:
        assert slide.reader == "direct"
        whole = np.concatenate(list(slide.strips()))
    with openslide.OpenSlide(path) as other:
        assert np.array_equal(whole, np.asarray(other.read_region((0, 0), 0, other.dimensions).convert("RGB")))


@pytest.mark.real
@pytest.mark.parametrize("name", ["CropBreastSlide.tiff", "TCGA-CR-7395-01A-01-TS1.svs"])
def test_real_slides_with_wrong_or_no_mpp_are_refused(mirror: Path, name: str) -> None:
    with pytest.raises(SlideError, match=f"slide {name.rsplit('.', 1)[0]}.*--slide-mpp"):
        open_slide(mirror / "slides" / name)
    with open_slide(mirror / "slides" / name, slide_mpp=0.5) as slide:
        assert np.array_equal(slide.read_tile(300, 310, 256, 0.5), openslide_pixels(mirror / "slides" / name, 300, 310, 256))


@pytest.mark.real
def test_jpeg_2000_slide_is_read_through_openslide(mirror: Path) -> None:
    with open_slide(mirror / "slides/TCGA-5P-A9K0_1.svs") as slide:
        assert slide.reader.startswith("openslide: level 0") and slide.mpp_um == pytest.approx(0.19448)
        assert slide.read_tile(100, 100, 256, 0.5).shape == (256, 256, 3)


@pytest.mark.real
def test_truncated_real_slide_breaks_with_a_slide_error(mirror: Path, tmp_path: Path) -> None:
    content = (mirror / "slides/CropBreastSlide.tiff").read_bytes()
    path = tmp_path / "cut.tiff"
    path.write_bytes(content[: len(content) // 3])
    with pytest.raises(SlideError, match="cut"), open_slide(path, slide_mpp=0.5) as slide:
        list(slide.strips())
