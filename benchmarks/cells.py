"""Nuclei of a 512-px field at 40x (128 um) on one core, by the embedded model: at most 100 ms.

StarDist is not among the dependencies, so the limit stands as the alternative.
"""

from __future__ import annotations

import statistics
import time

import torch

from benchmarks.common import Row, limit_row, print_table
from rnasynth.data.simulate import SimulationConfig, render_tile
from rnasynth.evaluation.cells.models import WatershedNuclei, default_nuclei
from rnasynth.evaluation.cells.nuclei import NucleiModel, find_nuclei

LIMIT_S = 0.100
PX, MPP_UM, REPEATS = 512, 0.25, 15


def seconds(model: NucleiModel) -> float:
    """Median seconds for one field, resampling, segmentation, measurement and naming included."""
    config = SimulationConfig(patients=5, tile_px=PX, mpp_um=MPP_UM)
    tile = render_tile(config, 3, 0).image  # squamous-like: some 150 nuclei
    find_nuclei(tile, model, mpp_um=MPP_UM)
    taken = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        found = find_nuclei(tile, model, mpp_um=MPP_UM)
        taken.append(time.perf_counter() - started)
    assert len(found) > 50
    return statistics.median(taken)


def run() -> list[Row]:
    """Measure both embedded models on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rows = []
    for name, model in (("network", default_nuclei()), ("watershed", WatershedNuclei())):
        ours = seconds(model)
        what = f"nuclei of a {PX}-px field at 40x, {name}"
        row = limit_row(what, ours, LIMIT_S, unit="s")
        rows.append(row)
    torch.set_num_threads(threads)
    return rows


if __name__ == "__main__":
    print_table(run())
