"""Does the amount of haematoxylin in a tile follow the profile that the tile was made from?

One number a tile, which needs no network and no segmentation: the share of its field that nuclei darken. It is what a
linear model reads best from spots' RNA, so there is a ceiling to hold a generator against: ridge regression from the genes,
and from the latent that the generator is given. Where the second lies well below the first, the encoder is the bottleneck.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_squared_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rnasynth.data.cohort import Cohort
from rnasynth.data.genes import dense
from rnasynth.data.pixels import resize
from rnasynth.data.splits import evenly_spaced
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
    split : the held-out split ("val" would choose the ridge's penalty by the samples that it is judged on).
    mpp_um : um/px at which areas are measured; None: the coarser of the store's and the generator's. A real tile keeps
        its whole field, also where a generated tile shows less.
    max_samples : tiles are made of so many held-out samples at most, evenly spaced in the cohort's order; None: of all.
        Ridge regressions are judged on all of them.
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
    parts = [with_tiles(cohort, name)[0] for name in ("train", "val", split)]
    held_out = parts[-1]
    chosen = evenly_spaced(held_out.n_obs, held_out.n_obs if max_samples is None else max_samples)
    if len(chosen) < 3:
        raise InputError(f"cohort {cohort.name}, split {split}", expected="three samples with tiles", found="fewer")
    store_um, made_um = cohort.tile_mpp(), float(generator.mpp_um)
    wanted_um = max(store_um, made_um) if mpp_um is None else float(mpp_um)
    made = np.full(held_out.n_obs, math.nan)
    for start in range(0, len(chosen), CHUNK):
        rows = chosen[start : start + CHUNK]
        for row, tiles in zip(rows, generator.generate(held_out[rows].copy(), tiles_per_profile, seed=seed), strict=True):
            made[row] = haematoxylin_area(at_mpp(tiles, made_um, wanted_um)).mean()
    (y_train, _), (y_val, _), (real, halves) = (_real_areas(cohort, part, wanted_um, real_per_sample) for part in parts)
    table = held_out.obs[["sample_id", "tissue", "split_group"]].astype(str).reset_index(drop=True)
    table = table.rename(columns={"split_group": "group"}).assign(real=real, generated=made)
    inputs = {"ridge_genes": log_genes(parts, parts[0])}
    if (encoder := getattr(generator, "encoder", None)) is not None:
        inputs["ridge_latent"] = [np.asarray(encoder.encode(part), np.float64) for part in parts]
    for name, (x_train, x_val, x_test) in inputs.items():
        table[name] = ridge(x_train, y_train, x_val, y_val).predict(x_test)
    return area_report(
        table,
        halves,
        strata="section" if cohort.split_by == "section" else "tissue",
        mpp_um=wanted_um,
        tiles_per_profile=tiles_per_profile,
        seed=seed,
        n_boot=n_boot,
        n_permutations=n_permutations,
    )


def log_genes(parts: Sequence[AnnData], train: AnnData, n_genes: int = N_GENES) -> list[NDArray[np.float64]]:
    """Return log1p of values per 10,000 of the genes of largest variance among training samples, (n, n_genes) each.

    z-scores are taken as they are. All hold the same genes in the same order.
    """

    def logs(part: AnnData) -> NDArray[np.float64]:
        x = dense(part).astype(np.float64)
        if part.uns.get("unit") == "zscore":
            return x
        return np.log1p(1e4 * x / np.maximum(x.sum(axis=1, keepdims=True), 1e-12))

    chosen = np.sort(np.argsort(-logs(train).var(axis=0), kind="stable")[:n_genes])
    return [logs(part)[:, chosen] for part in parts]


def _real_areas(
    cohort: Cohort, profiles: AnnData, mpp_um: float, limit: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean area of each sample's real tiles (N,), and of two halves of them (N, 2): of its tiles, or of its one tile."""
    store, tile_ids = cohort.tile_store(), cohort.tile_ids()
    px = max(4, round(cohort.tile_um() / mpp_um))
    means, halves = [], []
    for name in profiles.obs_names:
        tiles = store.read_batch(tile_ids[str(name)][:limit], px=px)
        areas = haematoxylin_area(tiles)
        pair = (areas[::2], areas[1::2]) if len(areas) > 1 else map(haematoxylin_area, np.split(tiles, [px // 2], axis=2))
        means.append(areas.mean())
        halves.append([half.mean() for half in pair])
    return np.array(means), np.array(halves)


def ridge(x_train: NDArray[Any], y_train: NDArray[Any], x_val: NDArray[Any], y_val: NDArray[Any]) -> Any:
    """Return ridge regression on standardised inputs, fitted on training samples, of the penalty best in validation."""
    fits = [make_pipeline(StandardScaler(), Ridge(alpha=float(penalty))).fit(x_train, y_train) for penalty in PENALTIES]
    return min(fits, key=lambda fit: mean_squared_error(y_val, fit.predict(x_val)))
