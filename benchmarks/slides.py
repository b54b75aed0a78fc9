"""Slide -> stored tiles against a plain loop of OpenSlide's `read_region` + simplejpeg + LMDB.

The plain loop gets the coordinates for nothing and writes the same JPEG (quality 90, 4:4:4); ours opens the slide, finds the
tissue, chooses, reads, judges (contrast, pen), stores and indexes. Slides are pyramids of 256-px JPEG tiles (quality 90,
4:2:0, as scanners write) made from real sections, mirrored up to a whole slide's size, at 0.5 um/px. Needs the real data
mirror; without it there are no rows.
"""

from __future__ import annotations

import importlib
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import openslide
import simplejpeg

from benchmarks.common import Row, interleaved, throughput_row
from rnasynth.config import mirror_folder
from rnasynth.data.jpeg_pyramid import write_pyramid
from rnasynth.data.slides import open_slide
from rnasynth.data.tiling import tile_slides
from rnasynth.data.tissue import TileConfig, tile_grid, tissue_mask

TILE_PX, MPP_UM = 256, 0.5
SIDE_TILES = 56  # 3,136 tiles
# Every tile is judged, but none dropped: both sides store the same tiles.
CONFIG = TileConfig(tile_px=TILE_PX, mpp_um=MPP_UM, max_background=1.0, min_contrast=0.0, max_pen=1.0)
PLAIN = "read_region + simplejpeg + LMDB"
Coordinates = list[tuple[int, int]]


def run() -> list[Row]:
    """All rows; about three minutes on an idle machine."""
    return list(rows())


def rows() -> Iterator[Row]:
    """Yield each row as soon as it is measured."""
    mirror = mirror_folder() or Path(__file__).resolve().parents[1].parent / "shared" / "data"
    if not (mirror / "MANIFEST.tsv").exists():
        print("slides: no mirror of the real data ($RNASYNTH_MIRROR), nothing measured")
        return
    with tempfile.TemporaryDirectory() as folder:
        made = make_slides(mirror, Path(folder))
        yield _end_to_end(made["her2st"], "her2st pyramid", 2.0)
        yield _end_to_end(made["cmu"], "CMU-1 pyramid", 2.0)
        yield _end_to_end(made["one_level"], "her2st, one level", 1.0)
        yield _end_to_end(made["unaligned"], "her2st pyramid of 240-px tiles", 0.0)
        yield from _reading(made["her2st"])
        yield _two_workers(made["her2st"], Path(folder))


def make_slides(mirror: Path, folder: Path, side_tiles: int = SIDE_TILES) -> dict[str, Path]:
    """Write the benchmark's slides; returns path by name."""
    section = simplejpeg.decode_jpeg((mirror / "her2st/images/C2.jpg").read_bytes(), "RGB")[5000:6900, 4500:6900]
    with open_slide(mirror / "slides/CMU-1-Small-Region.svs") as slide:
        cmu = np.concatenate(list(slide.strips()))
    her2st, side = mirrored(section, side_tiles * TILE_PX), side_tiles * TILE_PX
    made = {name: folder / f"{name}.tiff" for name in ("her2st", "cmu", "one_level", "unaligned")}
    write_pyramid(made["her2st"], her2st, MPP_UM, subsampling="420")
    write_pyramid(made["one_level"], her2st[: side // 4], MPP_UM, subsampling="420", levels=1)
    write_pyramid(made["unaligned"], her2st[: side // 4], MPP_UM, subsampling="420", tile_px=240)
    del her2st
    write_pyramid(made["cmu"], mirrored(cmu, side), MPP_UM, subsampling="420")
    return made


def mirrored(image: np.ndarray, side_px: int) -> np.ndarray:
    """Square of `side_px` from an image and its mirror images, without seams."""
    short = [(0, max(0, side_px - size)) for size in image.shape[:2]]
    return np.pad(image, [*short, (0, 0)], mode="symmetric")[:side_px, :side_px]


def _end_to_end(path: Path, name: str, target: float) -> Row:
    places = coordinates(path)
    stored = {_fresh(ours, path)(), _fresh(plain, path, places)()}  # also the warm-up
    assert stored == {len(places)}, stored
    seconds = interleaved(_fresh(ours, path), _fresh(plain, path, places), repeats=3, warm_up=False)
    return throughput_row(f"slide -> store, {name}", len(places), seconds, target=target, note=PLAIN)


def coordinates(path: Path) -> Coordinates:
    """Upper left corners of all tiles of a slide."""
    with open_slide(path) as slide:
        grid = tile_grid(slide, tissue_mask(slide, CONFIG), CONFIG)
    return [(int(x), int(y)) for x, y in grid[["x_px", "y_px"]].to_numpy()]


def ours(path: Path, store: Path) -> int:
    """Tile one slide with the library, in this process; returns the tiles stored."""
    return tile_slides([path], store, CONFIG, progress=False).kept


def plain(path: Path, store: Path, places: Coordinates) -> int:
    """What a user would write: one call a tile, 256 tiles a transaction; returns the tiles stored."""
    store.mkdir(parents=True)
    slide = openslide.OpenSlide(path)
    environment = lmdb.open(str(store), map_size=1 << 32)
    for start in range(0, len(places), 256):
        with environment.begin(write=True) as transaction:
            for number, place in enumerate(places[start : start + 256], start):
                tile = np.asarray(slide.read_region(place, 0, (TILE_PX, TILE_PX)).convert("RGB"))
                transaction.put(str(number).encode(), simplejpeg.encode_jpeg(tile, 90, "RGB", "444"))
    environment.close()
    slide.close()
    return len(places)


def _fresh(call: Callable[..., int], path: Path, *arguments: Any) -> Callable[[], int]:
    """Call with a store that does not exist yet, removed afterwards."""

    def once() -> int:
        store = path.with_suffix(".store")
        try:
            return call(path, store, *arguments)
        finally:
            shutil.rmtree(store, ignore_errors=True)

    return once


def _reading(path: Path) -> Iterator[Row]:
    """Reading alone, and against the other reader that is said to be fast."""
    places = coordinates(path)[:1000]

    def read_ours() -> None:
        with open_slide(path) as slide:
            for _ in slide.read_tiles(np.array(places), TILE_PX, MPP_UM):
                pass

    def read_openslide() -> None:
        with openslide.OpenSlide(path) as slide:
            for place in places:
                np.asarray(slide.read_region(place, 0, (TILE_PX, TILE_PX)).convert("RGB"))

    seconds = interleaved(read_ours, read_openslide, repeats=3)
    yield throughput_row("read tiles, her2st pyramid", len(places), seconds, target=0.0, note="OpenSlide read_region")
    try:
        pyvips = importlib.import_module("pyvips")
    except (ImportError, OSError):
        return

    def read_vips() -> None:
        region = pyvips.Region.new(pyvips.Image.new_from_file(str(path), access="random"))
        for x, y in places:
            np.frombuffer(region.fetch(x, y, TILE_PX, TILE_PX), np.uint8).reshape(TILE_PX, TILE_PX, 3)

    seconds = interleaved(read_ours, read_vips, repeats=3)
    yield throughput_row("read tiles, her2st pyramid", len(places), seconds, target=0.0, note="pyvips region.fetch")


def _two_workers(path: Path, folder: Path) -> Row:
    """Two slides in two processes that are up already, against one of them alone doing both."""
    copies = [folder / "a.tiff", folder / "b.tiff"]
    for copy in copies:
        os.link(path, copy)
    n = 2 * len(coordinates(path))
    seconds: dict[int, list[float]] = {1: [], 2: []}
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        list(pool.map(_warm, range(4)))
        for turn in range(3):
            for workers in (1, 2) if turn % 2 else (2, 1):
                start = time.perf_counter()
                if workers == 2:
                    list(pool.map(_once, copies))
                else:
                    pool.submit(_both, copies).result()
                seconds[workers].append(time.perf_counter() - start)
    medians = statistics.median(seconds[2]), statistics.median(seconds[1])
    return throughput_row("two workers, start-up excluded", n, medians, target=1.4, note="one worker")


def _warm(_: int) -> int:
    time.sleep(0.2)  # long enough for both processes to take a share, so that both have imported all there is
    return os.getpid()


def _once(path: Path) -> None:
    _fresh(ours, path)()


def _both(paths: list[Path]) -> None:
    for path in paths:
        _once(path)


if __name__ == "__main__":
    from benchmarks.common import print_table

    for row in rows():
        print_table([row])
