"""Does the amount of haematoxylin in a tile follow the profile that the tile was made from?

One number a tile, which needs no network and no segmentation: the share of its field that nuclei darken. It is what a
linear model reads best from spots' RNA, so there is a ceiling to hold a generator against: ridge regression from the genes,
and from the latent that the generator is given. Where the second lies well below the first, the encoder is the bottleneck.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_squared_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rnasynth.data.cohort import Cohort
from rnasynth.data.genes import dense
from rnasynth.data.pixels import resize
from rnasynth.errors import InputError, SplitError
from rnasynth.evaluation.conditioning.area_report import AreaReport, area_report
from rnasynth.evaluation.conditioning.experiment import with_tiles

RED_ABOVE, BLUE_ABOVE = 0.6, 0.15  # optical density, natural logarithm: stained by haematoxylin, and not by eosin alone
N_GENES = 1000  # of largest variance among the training samples, for ridge regression from the profile
PENALTIES = np.logspace(-3, 6, 37)  # of ridge regression on standardised inputs, chosen by the validation samples' error
CHUNK = 16  # profiles whose generated tiles are held at a time
_RED_LEVEL, _BLUE_LEVEL = (256.0 * math.exp(-density) - 1.0 for density in (RED_ABOVE, BLUE_ABOVE))


def haematoxylin_area(tiles: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the share of each tile's pixels with red optical density above 0.6 and blue above 0.15.

    Parameters
    ----------
    tiles : uint8 RGB, shape (B, H, W, 3).

    Returns
    -------
    Shape (B,), in [0, 1]. The optical density of a level v is -ln((v + 1) / 256), as in `features` and `nets.stain`:
    0 for white, 5.55 for black. So a pixel counts whose red is at most 139 and whose blue is at most 219. The share
    rises a little as pixels get coarser (her2st: 0.40 at 0.5 um/px, 0.42 at 4): compare at one um/px, see `at_mpp`.

    Raises
    ------
    InputError : not uint8 RGB tiles.
    """
    if tiles.ndim != 4 or tiles.shape[-1] != 3 or tiles.dtype != np.uint8:
        raise InputError("tiles", expected="uint8 of shape (B, H, W, 3)", found=f"{tiles.dtype} of shape {tiles.shape}")
    stained = (tiles[..., 0] < _RED_LEVEL) & (tiles[..., 2] < _BLUE_LEVEL)
    return np.asarray(stained.mean(axis=(1, 2)), dtype=np.float64)


def at_mpp(tiles: NDArray[np.uint8], mpp_um: float, wanted_um: float) -> NDArray[np.uint8]:
    """Bring square tiles (B, px, px, 3) of `mpp_um` um a pixel to `wanted_um`, to the nearest whole px; the field stays.

    Raises
    ------
    InputError : less than 4 px a side would be left.
    """
    px = round(tiles.shape[1] * mpp_um / wanted_um)
    if px < 4:
        raise InputError("um a pixel", expected=f"at most {tiles.shape[1] * mpp_um / 4:.3g}", found=f"{wanted_um:.3g}")
    return tiles if px == tiles.shape[1] else np.stack([resize(tile, px) for tile in tiles])


def follow_area(
    generator: Any,
    cohort: Cohort,
    *,
    tiles_per_profile: int = 8,
    seed: int = 0,
    split: str = "test",
    mpp_um: float | None = None,
    max_samples: int | None = None,
    real_per_sample: int = 24,
    n_boot: int = 1000,
    n_permutations: int = 999,
) -> AreaReport:
    """Measure on held-out samples whether the haematoxylin area of generated tiles follows that of the real ones.

    Parameters
    ----------
    generator : a `TileGenerator`: `px`, `mpp_um`, `generate`, and `encoder` where it has one.
    cohort : with tiles; ridge regressions are fitted on the training samples, their penalty is chosen on the validation's.
    tiles_per_profile : generated tiles of each profile, whose areas are averaged.
    seed : of the generator's noise, the bootstrap and the permutations.
    split : the held-out split.
    mpp_um : um/px at which areas are measured; None: the coarser of the store's and the generator's. A real tile keeps
        its whole field, also where a generated tile shows less.
    max_samples : so many held-out samples at most, evenly spaced in the cohort's order; None: all.
    real_per_sample : at most so many real tiles of a sample, the first ones.
    n_boot, n_permutations : of the intervals and the p value.

    Raises
    ------
    InputError : no tiles in a split, or fewer than three held-out samples. SplitError : asked for the training split.

    Notes
    -----
    A generator sees one profile at a time, so tiles "from a shuffled profile" are the tiles of another sample. Profiles
    are shuffled within a section where the cohort is split by section, else within a tissue, so that the tissue alone is
    no success.

    The thresholds are those of slides as scanned. Of a generator trained on tiles that were brought to one stain only the
    correlation can be read: its mean area says how that stain lies to the thresholds.
    """
    if split == "train":
        raise SplitError(f"cohort {cohort.name}", expected="a held-out split", found="train", fix="use val or test")
    held_out, tile_ids = with_tiles(cohort, split)
    if max_samples is not None and held_out.n_obs > max_samples:
        held_out = held_out[np.linspace(0, held_out.n_obs - 1, max_samples).round().astype(int)].copy()
    if held_out.n_obs < 3:
        raise InputError(f"cohort {cohort.name}, split {split}", expected="three samples with tiles", found="fewer")
    assert cohort.tiles is not None
    store_um = float(cohort.tiles.index["mpp_um"].median())
    wanted_um = max(store_um, float(generator.mpp_um)) if mpp_um is None else float(mpp_um)

    def measured(tiles: NDArray[np.uint8], of_um: float) -> NDArray[np.float64]:
        return haematoxylin_area(at_mpp(tiles, of_um, wanted_um))

    def real_of(profiles: AnnData) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean area of each sample's real tiles, and of two halves of them (N, 2)."""
        assert cohort.tiles is not None
        means, halves = [], []
        for name in profiles.obs_names:
            tiles = at_mpp(cohort.tiles.read_batch(tile_ids[str(name)][:real_per_sample]), store_um, wanted_um)
            areas = haematoxylin_area(tiles)
            middle = tiles.shape[2] // 2
            pair = (areas[::2], areas[1::2]) if len(areas) > 1 else map(haematoxylin_area, np.split(tiles, [middle], axis=2))
            means.append(areas.mean())
            halves.append([half.mean() for half in pair])
        return np.array(means), np.array(halves)

    made = []
    for start in range(0, held_out.n_obs, CHUNK):
        for tiles in generator.generate(held_out[start : start + CHUNK].copy(), tiles_per_profile, seed=seed):
            made.append(measured(tiles, float(generator.mpp_um)).mean())
    real, halves = real_of(held_out)
    train, val = with_tiles(cohort, "train")[0], with_tiles(cohort, "val")[0]
    targets = real_of(train)[0], real_of(val)[0]
    inputs = {"ridge_genes": [log_genes(part, train) for part in (train, val, held_out)]}
    encoder = getattr(generator, "encoder", None)
    if encoder is not None:
        inputs["ridge_latent"] = [np.asarray(encoder.encode(part), np.float64) for part in (train, val, held_out)]
    obs = held_out.obs
    by_section = cohort.split_by == "section"
    table = pd.DataFrame({"sample_id": obs["sample_id"].astype(str), "tissue": obs["tissue"].astype(str)})
    table["group"], table["real"], table["generated"] = obs["split_group"].astype(str), real, made
    for name, (x_train, x_val, x_test) in inputs.items():
        table[name] = ridge(x_train, targets[0], x_val, targets[1]).predict(x_test)
    return area_report(
        table.reset_index(drop=True),
        halves,
        strata="section" if by_section else "tissue",
        mpp_um=wanted_um,
        tiles_per_profile=tiles_per_profile,
        seed=seed,
        n_boot=n_boot,
        n_permutations=n_permutations,
    )


def log_genes(profiles: AnnData, train: AnnData, n_genes: int = N_GENES) -> NDArray[np.float64]:
    """Return log1p of values per 10,000 of the genes of largest variance among training samples, shape (n, n_genes).

    z-scores are taken as they are. `profiles` and `train` hold the same genes in the same order.
    """

    def logs(part: AnnData) -> NDArray[np.float64]:
        x = dense(part).astype(np.float64)
        if part.uns.get("unit") == "zscore":
            return x
        return np.log1p(1e4 * x / np.maximum(x.sum(axis=1, keepdims=True), 1e-12))

    chosen = np.sort(np.argsort(-logs(train).var(axis=0), kind="stable")[:n_genes])
    return logs(profiles)[:, chosen]


def ridge(x_train: NDArray[Any], y_train: NDArray[Any], x_val: NDArray[Any], y_val: NDArray[Any]) -> Any:
    """Return ridge regression on standardised inputs, fitted on training samples, of the penalty best in validation."""
    fits = [make_pipeline(StandardScaler(), Ridge(alpha=float(penalty))).fit(x_train, y_train) for penalty in PENALTIES]
    return min(fits, key=lambda fit: mean_squared_error(y_val, fit.predict(x_val)))
