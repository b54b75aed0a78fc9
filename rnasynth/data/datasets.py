"""What training reads from: tiles of a split, streamed from the store, and plain arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rnasynth.errors import InputError, SplitError

if TYPE_CHECKING:
    from rnasynth.data.cohort import Cohort


class TileDataset:
    """Tiles of one split with the row of their profile; nothing is held in memory but row numbers.

    Parameters
    ----------
    cohort : its splits are asserted first.
    split : "train", "val" or "test".
    px : side of the tiles returned; the store's tiles are averaged down to it.

    Attributes
    ----------
    tile_ids : rows of the store, shape (N,), int64.
    samples : row of each tile's profile in `cohort.profiles`, shape (N,), int64.

    Raises
    ------
    InputError : no tiles, or tiles of a sample without a profile only.
    SplitError : see `Cohort.check_splits`; an unknown split.
    """

    def __init__(self, cohort: Cohort, split: str, px: int | None = None) -> None:
        self.store = cohort.tile_store()
        cohort.check_splits()
        obs = cohort.profiles.obs
        if split not in set(obs["split"]):
            raise SplitError(
                f"cohort {cohort.name}, split {split!r}", expected=f"one of {sorted(set(obs['split']))}", found="none"
            )
        names, mine = obs["sample_id"].astype(str).to_numpy(), (obs["split"] == split).to_numpy()
        row_of = dict(zip(names[mine], np.flatnonzero(mine), strict=True))
        rows = self.store.index["sample_id"].astype(str).map(row_of)
        there = rows.notna().to_numpy()
        self.split = split
        self.px = px or self.store.tile_px
        self.tile_ids: NDArray[np.int64] = np.flatnonzero(there).astype(np.int64)
        self.samples: NDArray[np.int64] = rows[there].to_numpy(dtype=np.int64)
        if not len(self.tile_ids):
            raise InputError(f"cohort {cohort.name}, split {split}", expected="tiles of its samples", found="none")

    def __len__(self) -> int:
        return len(self.tile_ids)

    def fetch(self, indices: NDArray[Any] | Tensor) -> dict[str, Tensor]:
        """Read a batch.

        Returns
        -------
        tile : float32, shape (B, 3, px, px), in [-1, 1]; sample : int64, shape (B,), row in `cohort.profiles`.
        """
        chosen = np.asarray(indices, dtype=np.int64)
        return {
            "tile": self.store.read_float(self.tile_ids[chosen], self.px),
            "sample": torch.from_numpy(self.samples[chosen]),
        }


class ArrayDataset:
    """Tensors of equal length, read together.

    Examples
    --------
    >>> ArrayDataset(x=np.arange(6).reshape(3, 2), y=torch.ones(3)).fetch(np.array([2, 0]))["x"]
    tensor([[4, 5],
            [0, 1]])
    """

    def __init__(self, **tensors: Tensor | NDArray[Any]) -> None:
        self.tensors = {name: torch.as_tensor(value) for name, value in tensors.items()}
        lengths = {name: len(value) for name, value in self.tensors.items()}
        if not lengths or len(set(lengths.values())) != 1:
            raise InputError("dataset", expected="tensors of one length", found=str(lengths))

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def fetch(self, indices: NDArray[Any] | Tensor) -> dict[str, Tensor]:
        """Return the rows `indices`, shape (B,), of each tensor."""
        chosen = torch.as_tensor(np.asarray(indices, dtype=np.int64))
        return {name: value[chosen] for name, value in self.tensors.items()}
