"""A tile store whose tiles of one size are kept in memory once read: for several trainings on the same tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from rnasynth.data.cohort import Cohort
from rnasynth.data.pixels import to_float
from rnasynth.data.tiles import TileStore

LIMIT_BYTES = 1 << 29  # half a gibibyte: 170,000 tiles of 32 px


class HeldTiles(TileStore):
    """The same tiles as the store's, bit by bit; those of side `px` are decoded once.

    Parameters
    ----------
    store : the store.
    px : side that is kept; other sizes are read anew each time.
    """

    def __init__(self, store: TileStore, px: int) -> None:
        super().__init__(store.folder)
        self.held_px = px
        self._pixels = np.zeros((len(self), px, px, 3), np.uint8)
        self._there = np.zeros(len(self), bool)

    def read_batch(self, tile_ids: Sequence[int] | np.ndarray | torch.Tensor, px: int | None = None) -> np.ndarray:
        """Read tiles, in the order asked for: uint8 RGB, shape (B, px, px, 3)."""
        ids = np.asarray(tile_ids, dtype=np.int64).reshape(-1)
        if (px or self.tile_px) != self.held_px or (ids.size and (ids.min() < 0 or ids.max() >= len(self))):
            return super().read_batch(tile_ids, px)
        if len(missing := np.unique(ids[~self._there[ids]])):
            self._pixels[missing] = super().read_batch(missing, self.held_px)
            self._there[missing] = True
        return self._pixels[ids]

    def read_float(self, tile_ids: Sequence[int] | np.ndarray | torch.Tensor, px: int | None = None) -> torch.Tensor:
        """Return `to_float(read_batch(tile_ids, px))`: float32, shape (B, 3, px, px), in [-1, 1]."""
        if (px or self.tile_px) != self.held_px:
            return super().read_float(tile_ids, px)
        return to_float(self.read_batch(tile_ids, px))


def hold_tiles(cohort: Cohort, px: int, *, limit_bytes: int = LIMIT_BYTES) -> Cohort:
    """Return the cohort with its tiles of side `px` kept in memory, or as it is where that needs more than `limit_bytes`.

    Its fingerprint, and so the runs made on it, are those of the cohort itself.

    Raises
    ------
    InputError : the cohort has no tiles.
    """
    store = cohort.tile_store()
    return cohort if len(store) * px * px * 3 > limit_bytes else replace(cohort, tiles=HeldTiles(store, px))
