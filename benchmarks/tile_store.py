"""Tile store -> float training batch, beside a folder of PNG files read by PIL."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter

from benchmarks.common import Row, interleaved, print_table, throughput_row
from rnasynth.data.pixels import to_float
from rnasynth.data.tiles import TileStore, TileWriter, finish_store

TILES, TILE_PX, BATCH = 512, 256, 64


def tissue_like(n: int, px: int, seed: int = 0) -> np.ndarray:
    """Tiles with the colours, edges and grain of stained tissue (at 256 px 24 kB of JPEG; her2st: 17 to 24).

    Returns
    -------
    uint8 RGB, shape (n, px, px, 3).
    """
    rng = np.random.default_rng(seed)
    tiles = np.empty((n, px, px, 3), np.uint8)
    for tile in tiles:
        blobs = rng.random((px // 8, px // 8)) < 0.25
        nuclei = Image.fromarray(np.uint8(blobs * 255)).resize((px, px), Image.Resampling.BICUBIC)
        share = np.asarray(nuclei.filter(ImageFilter.GaussianBlur(1)), np.float32)[..., None] / 255
        grain = rng.normal(0, 3.5, (px, px, 1))
        tile[...] = np.clip((1 - share) * (222, 160, 192) + share * (95, 60, 140) + grain, 0, 255)
    return tiles


def read_folder(paths: list[Path], px: int | None = None) -> torch.Tensor:
    """Do what a folder of images and PIL do: open, resize, array, float, channels first."""
    tiles = []
    for path in paths:
        with Image.open(path) as image:
            rgb = image.convert("RGB")
        tiles.append(np.asarray(rgb if px is None else rgb.resize((px, px), Image.Resampling.BOX)))
    return torch.from_numpy(np.stack(tiles)).permute(0, 3, 1, 2).float().div(127.5).sub(1)


def epoch(read: Callable[[Any], torch.Tensor], batches: Iterable[Any]) -> None:
    """Read batch after batch, each let go of before the next one, as training does."""
    for batch in batches:
        read(batch)


def run(repeats: int = 5) -> list[Row]:
    """Read 512 tiles in shuffled batches of 64, from files in the page cache; both ways may use all cores."""
    with tempfile.TemporaryDirectory() as name:
        return _run(Path(name), repeats)


def _run(folder: Path, repeats: int) -> list[Row]:
    paths: list[Path] = []
    for slide, tiles in enumerate(np.split(tissue_like(TILES, TILE_PX), 4)):
        with TileWriter(folder / "store", f"s{slide}", patient_id=f"p{slide}") as writer:
            for tile in tiles:
                writer.add(tile, {"x_px": 0, "y_px": 0, "mpp_um": 0.5})
                paths.append(folder / f"{len(paths):05}.png")
                Image.fromarray(tile).save(paths[-1])
            writer.finish()
    store: TileStore = finish_store(folder / "store")
    order = np.random.default_rng(0).permutation(TILES).reshape(-1, BATCH)
    files = [[paths[tile_id] for tile_id in batch] for batch in order]
    note = "a folder of PNG files read by PIL"
    rows = []
    for px, target in ((None, 4.0), (64, 0.0)):
        seconds = interleaved(
            lambda px=px: epoch(lambda batch: store.read_float(batch, px), order),  # type: ignore[misc]
            lambda px=px: epoch(lambda batch: read_folder(batch, px), files),  # type: ignore[misc]
            repeats,
        )
        size = f"{TILE_PX} px" if px is None else f"{TILE_PX} px tiles at {px} px"
        rows.append(throughput_row(f"store -> float batch, {size}", TILES, seconds, target=target, note=note))
    seconds = interleaved(
        lambda: epoch(lambda batch: to_float(store.read_batch(batch)), order),
        lambda: epoch(read_folder, files),
        max(1, repeats // 2),
    )
    rows.append(throughput_row("store -> uint8 batch -> to_float", TILES, seconds, target=0.0, note=note))
    return rows


if __name__ == "__main__":
    print_table(run())
