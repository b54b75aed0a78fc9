"""A tile store in memory, and real tiles that are handed over as if a generator had made them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anndata
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnasynth.data.cohort import Cohort
from rnasynth.data.pixels import resize

MPP_UM = 2.0


class Store:
    """What evaluation needs of a tile store; tiles of shape (samples, tiles, px, px, 3)."""

    def __init__(self, tiles: NDArray[np.uint8], samples: list[str]) -> None:
        self.tile_px = int(tiles.shape[2])
        self.tiles = tiles.reshape(-1, *tiles.shape[2:])
        repeated = np.repeat(samples, tiles.shape[1])
        self.index = pd.DataFrame({"tile_id": np.arange(len(repeated)), "sample_id": repeated, "mpp_um": MPP_UM})

    def __len__(self) -> int:
        return len(self.tiles)

    def read_batch(self, tile_ids: NDArray[Any] | Sequence[int], px: int | None = None) -> NDArray[np.uint8]:
        chosen = self.tiles[np.asarray(tile_ids)]
        return chosen if px in (None, self.tile_px) else np.stack([resize(tile, int(px or 0)) for tile in chosen])


def real_tiles_of(cohort: Cohort, profiles: anndata.AnnData, n: int) -> NDArray[np.uint8]:
    """The first `n` real tiles of each sample, shape (samples, n, px, px, 3)."""
    store = cohort.tiles
    assert store is not None
    ids = store.index.groupby("sample_id")["tile_id"].apply(list)
    return np.stack([store.read_batch(ids[name])[:n] for name in profiles.obs_names])
