"""Frechet distance at Inception's width against SciPy's matrix root; embedded features a second; memory of many tiles."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scipy.linalg

from benchmarks.common import Row, interleaved, peak_memory_mb, print_table, seconds_row
from rnasynth.evaluation.fidelity.distances import frechet_distance
from rnasynth.features import StainTexture, extract

WIDTH = 2048
STREAMED_PX = 128
FEW, MANY = 1_000, 10_000  # streamed tiles; more of them must not take more memory than their features do
ALLOWED_MB = 50.0  # on top of the features of `MANY` tiles, 2.4 MB, and an allocator's noise


def tiles(count: int) -> Iterator[np.ndarray]:
    """Yield random tiles one by one."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield rng.integers(0, 256, (STREAMED_PX, STREAMED_PX, 3), dtype=np.uint8)


def stream(count: int) -> None:
    """Extract features of so many tiles; print seconds and peak memory in MB."""
    start = time.perf_counter()
    features = extract(tiles(count), StainTexture(), mpp_um=0.5)
    assert features.shape == (count, StainTexture.dim)
    print(time.perf_counter() - start, peak_memory_mb())


def streamed() -> list[Row]:
    """Measure few and many tiles, each in a process of its own."""
    found = {}
    for count in (FEW, MANY):
        call = [sys.executable, "-m", "benchmarks.fidelity", str(count)]
        done = subprocess.run(call, check=True, capture_output=True, text=True, cwd=Path(__file__).resolve().parents[1])
        found[count] = [float(value) for value in done.stdout.split()]
    peak, floor = found[MANY][1], found[FEW][1]
    whole = MANY * STREAMED_PX**2 * 3 / 1e6
    return [
        Row(
            name=f"features of {MANY:,} tiles, peak memory",
            ours=peak,
            alternative=floor + ALLOWED_MB,
            ratio=(floor + ALLOWED_MB) / peak,
            unit="MB",
            target=1.0,
            note=f"{FEW:,} tiles ({floor:.0f} MB) and {ALLOWED_MB:.0f}; all tiles at once: {whole:.0f} more",
        ),
        Row(
            name=f"features of {MANY:,} tiles of {STREAMED_PX} px",
            ours=MANY / found[MANY][0],
            alternative=FEW / found[FEW][0],
            ratio=MANY / found[MANY][0] / (FEW / found[FEW][0]),
            unit="tiles/s",
            target=0.0,
            note=f"{FEW:,} tiles",
        ),
    ]


def run() -> list[Row]:
    """Compare; about two minutes."""
    rng = np.random.default_rng(0)
    mean, cov = [], []
    for scale in (1.0, 1.1):
        values = rng.standard_normal((2 * WIDTH, WIDTH)) * np.linspace(0.1, scale, WIDTH)
        mean.append(values.mean(axis=0))
        cov.append(np.cov(values, rowvar=False))
    distances: dict[str, float] = {}

    def ours() -> None:
        distances["ours"] = frechet_distance(mean[0], cov[0], mean[1], cov[1])

    def other() -> None:
        root = scipy.linalg.sqrtm(cov[0] @ cov[1])
        distances["other"] = float(((mean[0] - mean[1]) ** 2).sum() + np.trace(cov[0] + cov[1] - 2 * np.real(root)))

    seconds = interleaved(ours, other, repeats=1, warm_up=False)
    assert np.isclose(distances["ours"], distances["other"], rtol=1e-4), distances
    batch = rng.integers(0, 256, (256, STREAMED_PX, STREAMED_PX, 3), dtype=np.uint8)
    network = StainTexture()
    network(batch[:8], 0.5)
    start = time.perf_counter()
    network(batch, 0.5)
    rate = len(batch) / (time.perf_counter() - start)
    return [
        seconds_row(f"Frechet distance, {WIDTH} features", seconds, target=5.0, note="scipy.linalg.sqrtm of the product"),
        Row(
            name="StainTexture, 128-px tiles",
            ours=rate,
            alternative=rate,
            ratio=1.0,
            unit="tiles/s",
            target=0.0,
            note="no alternative",
        ),
        *streamed(),
    ]


if __name__ == "__main__":
    if len(sys.argv) == 2:
        stream(int(sys.argv[1]))
    else:
        print_table(run())
