"""Sets of tiles whose features are drawn from known normals: tissues, patients and tiles with planted spreads."""

from __future__ import annotations

import numpy as np

from rnasynth.evaluation.fidelity.sets import TileSet
from rnasynth.features import FeatureStats

DIM = 4
SCALE = FeatureStats("toy", np.zeros(DIM), np.eye(DIM), 100, "0" * 12)
TISSUES = ("brain", "liver", "lung")


def tile_set(
    name: str,
    *,
    between: float,
    within: float = 1.0,
    tissues: tuple[str, ...] = TISSUES,
    patients: int = 20,
    tiles: int = 15,
    seed: int = 0,
    prefix: str = "p",
) -> TileSet:
    """Normal features: tissues 12 apart, patients with spread `between` around them, tiles with `within` around these."""
    rng = np.random.default_rng(seed)
    points, owners, kinds = [], [], []
    for tissue in tissues:
        centre = np.zeros(DIM)
        centre[TISSUES.index(tissue)] = 12.0
        for patient in range(patients):
            mine = centre + between * rng.standard_normal(DIM)
            points.append(mine + within * rng.standard_normal((tiles, DIM)))
            owners += [f"{prefix}-{tissue}-{patient}"] * tiles
            kinds += [tissue] * tiles
    features = np.concatenate(points).astype(np.float32)
    owned = np.array(owners)
    small = np.zeros((len(features), 1), np.float32)
    return TileSet(name, {"toy": features}, small, np.array(kinds), owned, owned, np.arange(len(features)))
