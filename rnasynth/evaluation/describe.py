"""What a cohort holds, and what preprocessing does to its profiles: counts and shares, before any model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData
from sklearn.decomposition import PCA

from rnasynth.data.cohort import Cohort
from rnasynth.data.slides import Slide
from rnasynth.data.tissue import Mask, TileConfig, keep_tile, tile_grid, tissue_mask
from rnasynth.data.transform import Transform

SPLITS = ("train", "val", "test")


def composition(obs: pd.DataFrame) -> pd.DataFrame:
    """Count split groups (patients; in her2st sections) of each tissue in each split.

    Returns
    -------
    Index tissue; columns train, val, test; integers. A group with samples of two tissues counts in both.
    """
    groups = obs[["tissue", "split", "split_group"]].astype(str).drop_duplicates()
    counts = groups.groupby(["tissue", "split"]).size().unstack(fill_value=0)
    return counts.reindex(columns=list(SPLITS), fill_value=0)


def pairing(cohort: Cohort) -> pd.DataFrame:
    """Say per tissue and in total what is paired with what.

    Returns
    -------
    Index tissue and "all"; columns patients, profiles, with_tiles (profiles that have at least one tile), tiles and
    median_tiles (tiles of a profile that has any).
    """
    obs = cohort.profiles.obs
    tiles = cohort.tiles.index["sample_id"].value_counts() if cohort.tiles is not None else pd.Series(dtype=int)
    count = pd.Series(obs["sample_id"].astype(str).map(tiles).fillna(0).to_numpy(int), index=obs.index)
    rows = {}
    for tissue in [*sorted(obs["tissue"].astype(str).unique()), "all"]:
        chosen = np.ones(len(obs), bool) if tissue == "all" else (obs["tissue"].astype(str) == tissue).to_numpy()
        paired = count[chosen & (count > 0)]
        rows[tissue] = {
            "patients": obs.loc[chosen, "patient_id"].nunique(),
            "profiles": int(chosen.sum()),
            "with_tiles": len(paired),
            "tiles": int(paired.sum()),
            "median_tiles": float(paired.median()) if len(paired) else 0.0,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("tissue")


def split_overlap(obs: pd.DataFrame) -> pd.DataFrame:
    """Count split groups shared by each two splits: off the diagonal every entry must be zero."""
    members = {split: set(obs.loc[obs["split"] == split, "split_group"].astype(str)) for split in SPLITS}
    return pd.DataFrame({a: {b: len(members[a] & members[b]) for b in SPLITS} for a in SPLITS})


def zero_shares(values: np.ndarray) -> dict[str, float]:
    """Shares of a raw matrix (linear units, any shape) that a logarithm treats in a special way.

    Returns
    -------
    zero : share of exact zeros. below_one : share strictly between 0 and 1, which the published natural logarithm with
    log(0) := 0 puts *below* a true zero (RNA-GAN's released code), so that order is lost.
    """
    values = np.asarray(values)
    return {"zero": float(np.mean(values == 0)), "below_one": float(np.mean((values > 0) & (values < 1)))}


def order_broken(values: np.ndarray, transformed: np.ndarray) -> float:
    """Share of (zero, positive) pairs of one gene whose order the transform turns round; 0 for a monotone one.

    Parameters
    ----------
    values, transformed : samples x genes, before and after.
    """
    turned = pairs = 0
    for raw, z in zip(np.asarray(values).T, np.asarray(transformed).T, strict=True):
        zeros = raw == 0
        if not zeros.any() or zeros.all():
            continue
        turned += int(np.sum(z[~zeros] < z[zeros].min() - 1e-6)) * int(zeros.sum())
        pairs += int(zeros.sum()) * int((~zeros).sum())
    return turned / pairs if pairs else 0.0


def out_of_tanh_reach(z: np.ndarray) -> float:
    """Share of z-scores outside [-1, 1], which a decoder that ends in tanh cannot reach."""
    return float(np.mean(np.abs(np.asarray(z)) > 1.0))


def missing_gene_error(transform: Transform, test: AnnData, *, share: float = 0.3, seed: int = 0) -> float:
    """Root mean squared error of the z-scores of genes that a platform did not measure, as the transform fills them.

    A share of the transform's genes is taken out of the test samples; what is filled in is compared with what was
    measured. 1 is what the training mean (z = 0) reaches on samples like the training ones.

    Parameters
    ----------
    transform : fitted on training samples; its name's rule decides (zero before the log as published, or the mean).
    test : raw, with all of the transform's genes.
    share : of the genes, drawn with `seed`.
    """
    genes = np.asarray(transform.genes)
    gone = np.random.default_rng(seed).permutation(len(genes))[: max(1, round(share * len(genes)))]
    keep = np.setdiff1d(np.arange(len(genes)), gone)
    whole = np.asarray(transform.apply(test).X)
    filled = np.asarray(transform.apply(test[:, list(genes[keep])].copy()).X)
    return float(np.sqrt(np.mean(np.square(whole[:, gone] - filled[:, gone]))))


def variance_by_group(points: np.ndarray, groups: Sequence[str]) -> float:
    """Share of the total variance of `points` (n, d) that lies between groups (eta squared), in [0, 1]."""
    points, labels = np.asarray(points, float), np.asarray(groups)
    centre = points.mean(0)
    total = float(np.square(points - centre).sum())
    between = sum(
        float(np.sum(labels == group) * np.square(points[labels == group].mean(0) - centre).sum()) for group in set(labels)
    )
    return between / total if total > 0 else 0.0


def principal_components(train: AnnData, shown: AnnData, n: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Project `shown` on the principal components of `train` (training patients only).

    Returns
    -------
    Points of shape (samples shown, n), and the explained share of each component on `train`.
    """
    pca = PCA(n_components=n, random_state=seed).fit(np.asarray(train.X))
    return pca.transform(np.asarray(shown.X)), pca.explained_variance_ratio_


@dataclass(frozen=True)
class Survey:
    """What the tiling rules make of one slide.

    mask : the tissue mask. kept : x_px, y_px (level 0), tissue_fraction of the tiles kept. counts : grid positions by what
    happened to them: "kept", "background" (and ink), and the reasons of `keep_tile`.
    """

    mask: Mask
    kept: pd.DataFrame
    counts: dict[str, int]


def survey(slide: Slide, config: TileConfig) -> Survey:
    """Apply every tiling rule to a slide without storing a tile.

    `max_tiles` is not applied: each grid position is looked at, so that the counts add up to the grid.
    """
    whole = dataclasses.replace(config, max_tiles=2**31 - 1)
    mask = tissue_mask(slide, whole)
    grid = tile_grid(slide, mask, whole)
    span = slide.span_px(config.tile_px, config.mpp_um)
    positions = int(slide.width_px / span + 1e-9) * int(slide.height_px / span + 1e-9)
    counts = {"kept": 0, "background": positions - len(grid)}
    keep = np.zeros(len(grid), bool)
    for row, tile in enumerate(slide.read_tiles(grid[["x_px", "y_px"]].to_numpy(), config.tile_px, config.mpp_um)):
        keep[row], reason = keep_tile(tile, config)
        counts[reason or "kept"] = counts.get(reason or "kept", 0) + 1
    return Survey(mask, grid[keep].reset_index(drop=True), counts)


def tiles_of(cohort: Cohort) -> pd.DataFrame:
    """Return the index of the cohort's tiles with the tissue of each, in the order of the store."""
    tissue = cohort.profiles.obs.set_index("sample_id")["tissue"].astype(str)
    index = cohort.tile_store().index.copy()
    index["tissue"] = index["sample_id"].astype(str).map(tissue)
    return index[index["tissue"].notna()].reset_index(drop=True)


def agreement(mask: Mask, truth: np.ndarray) -> float:
    """Intersection over union of a tissue mask with the true one, at the mask's resolution.

    Parameters
    ----------
    mask : as `tissue_mask` found it.
    truth : bool (H, W) at level 0.
    """
    rows = np.minimum(((np.arange(mask.share.shape[0]) + 0.5) * mask.px_y).astype(int), truth.shape[0] - 1)
    columns = np.minimum(((np.arange(mask.share.shape[1]) + 0.5) * mask.px_x).astype(int), truth.shape[1] - 1)
    true, found = truth[np.ix_(rows, columns)], mask.share > 0.5
    return float((true & found).sum() / (true | found).sum())
