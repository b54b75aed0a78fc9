"""What a generator could reach: how much of real tiles' features a linear model reads from the same latent.

A control for the proof of conditioning. Where ridge regression finds the right patient and the generator does not, the
measurement works and the generator is the weak part; where ridge does not either, nothing was there to be heard.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV

from rnasynth.data.cohort import Cohort
from rnasynth.errors import InputError
from rnasynth.evaluation.conditioning.retrieval import rank_matrix
from rnasynth.evaluation.stats import Interval, bootstrap, resampling_units
from rnasynth.features import FeatureNetwork, StainTexture, extract, same_stain

ALPHAS = np.logspace(-2, 4, 25)  # ridge penalties, chosen by leave-one-out on the training samples


def ridge_retrieval(
    generator: Any,
    cohort: Cohort,
    *,
    network: FeatureNetwork | None = None,
    split: str = "test",
    tiles_per_sample: int = 24,
    seed: int = 0,
    n_boot: int = 1000,
) -> Interval:
    """Retrieval within tissue by features that ridge regression predicts from what the generator is told; no image is made.

    Parameters
    ----------
    generator : a `TileGenerator`; its `conditions` and pixel size are used.
    cohort : with tiles.
    network : of the features, the embedded `StainTexture` by default.
    split : the held-out split; the regression is fitted on the training samples.
    tiles_per_sample : at most this many real tiles of a sample.
    seed, n_boot : of the bootstrap.

    Returns
    -------
    Mean rank of the right sample among the held-out ones of its tissue: 1 perfect, 0.5 chance; as `ConditioningProof`'s.

    Raises
    ------
    InputError : no tiles, or no tissue with two held-out samples.
    """
    train, held_out = _paired(cohort, "train"), _paired(cohort, split)
    network = StainTexture() if network is None else network
    x_train, x_test = (np.asarray(generator.conditions(part)[0], np.float64) for part in (train, held_out))
    y_train, y_test = (_features(part, cohort, network, generator.px, tiles_per_sample) for part in (train, held_out))
    mean, sd = y_train.mean(axis=0), np.maximum(y_train.std(axis=0), 1e-6)
    predicted = RidgeCV(ALPHAS).fit(x_train, (y_train - mean) / sd).predict(x_test)
    tissues = held_out.obs["tissue"].astype(str).to_numpy()
    ranks = np.diag(rank_matrix(predicted, (y_test - mean) / sd, tissues))
    known = np.isfinite(ranks)
    if not known.any():
        raise InputError(f"cohort {cohort.name}, split {split}", expected="two samples in one tissue", found="none")
    units, _ = resampling_units(held_out.obs["split_group"].astype(str).to_numpy()[known])
    return bootstrap(np.mean, ranks[known], groups=units, n_boot=n_boot, seed=seed)


def _paired(cohort: Cohort, split: str) -> AnnData:
    """Profiles of a split that have tiles."""
    there = cohort.tile_ids()
    profiles = cohort.only(split).profiles
    return profiles[[str(name) in there for name in profiles.obs["sample_id"]]].copy()


def _features(profiles: AnnData, cohort: Cohort, network: FeatureNetwork, px: int, limit: int) -> NDArray[np.float64]:
    """Mean features of each sample's real tiles at the generator's pixel size, brought to one stain, shape (N, dim)."""
    store, mpp_um, of = cohort.tile_store(), cohort.tile_mpp(px), cohort.tile_ids()
    rows = []
    for name in profiles.obs["sample_id"].astype(str):
        tiles = same_stain(store.read_batch(of[name][:limit], px=px))
        rows.append(extract(tiles, network, mpp_um=mpp_um).mean(axis=0))
    return np.asarray(rows, np.float64)
