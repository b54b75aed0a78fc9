"""Frechet distance at Inception's width against SciPy's matrix root, and the embedded features a second."""

from __future__ import annotations

import time

import numpy as np
import scipy.linalg

from benchmarks.common import Row, interleaved, print_table, seconds_row
from rnasynth.evaluation.fidelity import frechet_distance
from rnasynth.features import StainTexture

WIDTH = 2048


def run() -> list[Row]:
    """Compare; about a minute."""
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
    tiles = rng.integers(0, 256, (256, 128, 128, 3), dtype=np.uint8)
    network = StainTexture()
    network(tiles[:8], 0.5)
    start = time.perf_counter()
    network(tiles, 0.5)
    rate = len(tiles) / (time.perf_counter() - start)
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
    ]


if __name__ == "__main__":
    print_table(run())
