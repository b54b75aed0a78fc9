"""Tiles for the systems that make tiles: joined with what is known of their sample, capped, and of one stain."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rnasynth.data.cohort import TileDataset
from rnasynth.nets.stain import restain, strength


class ConditionedTiles:
    """Tiles of a split joined with their samples' conditions; held in memory where small.

    Parameters
    ----------
    tiles : of one split.
    conditions : a row for every profile of the cohort, shape (profiles, c).
    per_sample : at most this many tiles of a sample, chosen with `seed`.
    same_stain : bring all samples to one stain, measured on up to 32 of a sample's chosen tiles.
    """

    CACHE_BYTES = 1 << 29
    STAIN_TILES = 32

    def __init__(
        self, tiles: TileDataset, conditions: NDArray[np.float32], per_sample: int, seed: int, *, same_stain: bool = False
    ) -> None:
        self.tiles, self.conditions = tiles, conditions
        samples = np.asarray(tiles.samples)
        order = np.random.default_rng(seed).permutation(len(samples))
        rank = np.empty(len(samples), dtype=np.int64)
        for sample in np.unique(samples):
            mine = order[samples[order] == sample]
            rank[mine] = np.arange(len(mine))
        self.rows = np.flatnonzero(rank < per_sample)
        self.samples = samples[self.rows]
        self._strength: Tensor | None = None
        if same_stain:
            self._strength = torch.ones(len(conditions), 2)
            for sample in np.unique(self.samples):
                mine = self.rows[self.samples == sample][: self.STAIN_TILES]
                self._strength[sample] = strength(_pixels(self.tiles.fetch(mine)["tile"]))
        self._cache: Tensor | None = None
        if len(self.rows) * tiles.px * tiles.px * 3 <= self.CACHE_BYTES:
            starts = range(0, len(self.rows), 256)
            parts = [self._read(np.arange(start, min(start + 256, len(self.rows)))) for start in starts]
            self._cache = torch.cat([((part + 1) * 127.5).round().to(torch.uint8) for part in parts])

    def __len__(self) -> int:
        return len(self.rows)

    def fetch(self, indices: NDArray[Any]) -> dict[str, Tensor]:
        """Return tile (B, 3, px, px) float32 in [-1, 1] and condition (B, c)."""
        chosen = np.asarray(indices)
        tile = self._read(chosen) if self._cache is None else self._cache[torch.from_numpy(chosen)].float() / 127.5 - 1.0
        return {"tile": tile, "condition": torch.from_numpy(self.conditions[self.samples[chosen]])}

    def _read(self, chosen: NDArray[Any]) -> Tensor:
        tile = self.tiles.fetch(self.rows[chosen])["tile"]
        if self._strength is None:
            return tile
        light = restain(_pixels(tile), self._strength[self.samples[chosen]])
        return light.permute(0, 3, 1, 2).round() / 127.5 - 1.0


def _pixels(tiles: Tensor) -> Tensor:
    """Turn (B, 3, H, W) in [-1, 1] into (B, H, W, 3), 0 to 255."""
    return (tiles.permute(0, 2, 3, 1) + 1.0) * 127.5
