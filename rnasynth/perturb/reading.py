"""What is read from changed tiles beside fractions: haematoxylin's area, and nuclei where these can be counted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from rnasynth.data.cohort import Cohort
from rnasynth.evaluation.cells.nuclei import NucleiModel, find_nuclei, resampled
from rnasynth.evaluation.conditioning.area import haematoxylin_area
from rnasynth.evaluation.deconvolution.readers import TileReader
from rnasynth.evaluation.stats import Interval, bootstrap, resampling_units

COUNTABLE = (0.5, 2.0)  # page 12's rule: the whole interval of coarse over full nuclei lies between


class HaematoxylinArea:
    """A `TileReader` of one quantity, "haematoxylin area": see `conditioning.area.haematoxylin_area`."""

    def __call__(self, tiles: NDArray[np.uint8], mpp_um: float) -> pd.DataFrame:
        """Shape (B, H, W, 3) uint8 -> B rows."""
        return pd.DataFrame({"haematoxylin area": haematoxylin_area(tiles)})


class NucleiDensity:
    """A `TileReader` of nuclei a mm2: "nuclei", all of them, and "NAME nuclei" for each class of the model.

    Parameters
    ----------
    model : what finds them; tiles are brought to its magnification.
    """

    def __init__(self, model: NucleiModel) -> None:
        self.model = model

    def __call__(self, tiles: NDArray[np.uint8], mpp_um: float) -> pd.DataFrame:
        """Shape (B, H, W, 3) uint8 at `mpp_um` -> B rows."""
        field_mm2 = tiles.shape[1] * tiles.shape[2] * (mpp_um / 1000) ** 2
        rows = []
        for tile in tiles:
            found = find_nuclei(tile, self.model, mpp_um=mpp_um)
            classes = {f"{name} nuclei": count / field_mm2 for name, count in found.counts(self.model.classes).items()}
            rows.append({"nuclei": len(found) / field_mm2, **classes})
        return pd.DataFrame(rows)


def nuclei_countable(
    cohort: Cohort, profiles: AnnData, model: NucleiModel, *, px: int, limit: int = 20, n_boot: int = 500, seed: int = 0
) -> tuple[bool, Interval]:
    """Ask as page 12 does whether nuclei can be counted at a pixel size: real tiles brought there and back.

    Parameters
    ----------
    profiles : held-out samples with tiles; the first tile of the first `limit` is used.
    px : side of a generated tile in pixels, of the same field.

    Returns
    -------
    Whether they can, and the ratio of nuclei found in the coarse tiles to those in the full ones.
    """
    ids, store, mpp_um = cohort.tile_ids(), cohort.tile_store(), cohort.tile_mpp()
    names = [str(name) for name in profiles.obs_names][:limit]
    full, coarse = [], []
    for tile in store.read_batch([int(ids[name][0]) for name in names]):
        full.append(len(find_nuclei(tile, model, mpp_um=mpp_um)))
        coarse.append(len(find_nuclei(resampled(tile, (px, px)), model, mpp_um=cohort.tile_mpp(px))))
    units, _ = resampling_units(profiles.obs["split_group"].astype(str).to_numpy()[: len(names)])
    ratio = bootstrap(_ratio, np.array(coarse, float), np.array(full, float), groups=units, n_boot=n_boot, seed=seed)
    return bool(ratio.low > COUNTABLE[0] and ratio.high < COUNTABLE[1]), ratio


def read_all(tiles: NDArray[np.uint8], readers: Sequence[TileReader], mpp_um: float) -> pd.DataFrame:
    """Read one sample's tiles by several readers: a row a tile, all their quantities beside each other."""
    return pd.concat([reader(tiles, mpp_um).reset_index(drop=True) for reader in readers], axis=1)


def _ratio(found: NDArray[np.float64], there: NDArray[np.float64]) -> float:
    return float(found.sum() / there.sum()) if there.sum() > 0 else float("nan")
