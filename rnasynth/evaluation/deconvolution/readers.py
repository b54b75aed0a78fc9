"""What reads quantities of cells from tiles: any callable of one form, and two embedded ones that need no nuclei.

A tile of 32 px at 2 to 4 um/px gives a nucleus a few pixels at most, but it shows how dark, fibrous and open the tissue is.
`FractionReader` reads fractions from that, linearly, as it learnt on real tiles of training samples; a count of segmented
nuclei by class can take its place where tiles are fine enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV

from rnasynth.data.cohort import Cohort
from rnasynth.errors import InputError
from rnasynth.features import FeatureNetwork, StainTexture, extract, same_stain
from rnasynth.nets.stain import concentrations

ALPHAS = np.logspace(-1, 5, 25)  # ridge penalties, chosen by leave-one-out on the training samples
DARK = 0.7  # haematoxylin concentration above which a pixel counts as dark


class TileReader(Protocol):
    """What reads quantities from tiles: one row a tile, one column a quantity; NaN where a tile shows nothing of it."""

    def __call__(self, tiles: NDArray[np.uint8], mpp_um: float) -> pd.DataFrame:
        """Shape (B, H, W, 3) uint8 RGB, all of one sample, at `mpp_um` um a pixel -> B rows."""
        ...


class FractionReader:
    """A linear reading of cell fractions from the features of tiles, learnt on real tiles of training samples.

    Parameters
    ----------
    features : mean features of each training sample's real tiles, shape (n, dim).
    fractions : the samples' fractions, n x types; the columns become the quantities.
    network : what the features are of.
    px : side in pixels of the tiles that it learnt on; None where unknown.

    Raises
    ------
    InputError : another number of rows, or fewer than three samples.
    """

    def __init__(
        self, features: NDArray[Any], fractions: pd.DataFrame, network: FeatureNetwork, *, px: int | None = None
    ) -> None:
        x = np.asarray(features, dtype=np.float64)
        if x.ndim != 2 or len(x) != len(fractions) or len(x) < 3:
            raise InputError(
                "training samples", expected="three or more, each with fractions", found=f"{x.shape} and {len(fractions)}"
            )
        self.network, self.quantities, self.px = network, [str(kind) for kind in fractions.columns], px
        spread = x.std(axis=0)
        self._mean, self._spread = x.mean(axis=0), np.where(spread > 1e-8, spread, np.inf)
        y = fractions.to_numpy(dtype=np.float64)
        self._models = [RidgeCV(ALPHAS).fit((x - self._mean) / self._spread, column) for column in y.T]
        self._weights = np.stack([model.coef_ for model in self._models], axis=1)  # (dim, types): one product reads all
        self._bias = np.array([float(model.intercept_) for model in self._models])

    @classmethod
    def fit(
        cls,
        cohort: Cohort,
        fractions: pd.DataFrame,
        *,
        px: int,
        network: FeatureNetwork | None = None,
        tiles_per_sample: int = 24,
    ) -> FractionReader:
        """Learn on the real tiles of a cohort's training samples.

        Parameters
        ----------
        cohort : with tiles; only training samples are read.
        fractions : samples x types; training samples without fractions are left out, others are not read.
        px : side to which tiles are averaged: that of the tiles to be read later.
        network : the feature network; the embedded `StainTexture` by default.
        tiles_per_sample : at most this many of each.

        Raises
        ------
        InputError : no tiles, or fewer than three training samples with fractions.
        """
        network = StainTexture() if network is None else network
        train = with_tiles(cohort, "train")
        there = set(map(str, fractions.index))
        train = train[[str(name) in there for name in train.obs_names]].copy()
        names = [str(name) for name in train.obs_names]
        if len(names) < 3:
            raise InputError("training samples", expected="three or more with fractions and tiles", found=str(len(names)))
        tiles = real_tiles(cohort, train, px=px, limit=tiles_per_sample)
        mpp_um = cohort.tile_mpp(px)
        rows = [extract(same_stain(part), network, mpp_um=mpp_um).mean(axis=0) for part in tiles]
        return cls(np.stack(rows), fractions.loc[names], network, px=px)

    def __call__(self, tiles: NDArray[np.uint8], mpp_um: float) -> pd.DataFrame:
        """Read tiles of one sample, brought to the common stain together; values are not cut at 0 or 1."""
        z = (extract(same_stain(tiles), self.network, mpp_um=mpp_um) - self._mean) / self._spread
        return pd.DataFrame(z @ self._weights + self._bias, columns=self.quantities)


def dark_area(tiles: NDArray[np.uint8], mpp_um: float) -> pd.DataFrame:
    """Share of each tile's area that haematoxylin darkens, column "dark area": the least that a nucleus leaves behind."""
    given = torch.from_numpy(np.ascontiguousarray(same_stain(tiles)))
    return pd.DataFrame({"dark area": (concentrations(given)[..., 0] > DARK).float().mean(dim=(1, 2)).numpy()})


def seen_in(tiles: Iterable[NDArray[np.uint8]], names: Sequence[str], reader: TileReader, *, mpp_um: float) -> pd.DataFrame:
    """Read each sample's tiles: samples x quantities, the mean over a sample's tiles that show something of it.

    Parameters
    ----------
    tiles : one array (n, H, W, 3) a sample.
    names : sample of each.
    """
    rows = [reader(part, mpp_um).mean(axis=0, skipna=True) for part in tiles]
    return pd.DataFrame(rows, index=pd.Index([str(name) for name in names]))


def with_tiles(cohort: Cohort, split: str) -> AnnData:
    """Return the profiles of a split that have tiles.

    Raises
    ------
    InputError : the cohort or the split has none.
    """
    there = cohort.tile_ids()
    profiles = cohort.only(split).profiles
    kept = np.array([str(name) in there for name in profiles.obs_names])
    if not kept.any():
        raise InputError(f"cohort {cohort.name}, split {split}", expected="samples with tiles", found="none")
    return profiles[kept].copy()


def real_tiles(cohort: Cohort, profiles: AnnData, *, px: int, limit: int) -> Iterable[NDArray[np.uint8]]:
    """Yield the first `limit` real tiles of each profile, averaged to `px` a side."""
    store, of = cohort.tile_store(), cohort.tile_ids()
    for name in profiles.obs_names:
        yield store.read_batch(of[str(name)][:limit], px=px)
