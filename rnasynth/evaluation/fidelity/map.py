"""A map of tiles by their features: UMAP fitted on training tiles, all others placed on it. A picture, never evidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from rnasynth.evaluation.fidelity.sets import TileSet
from rnasynth.evaluation.fidelity.study import scaler
from rnasynth.evaluation.latent.projection import Projection, fit_umap
from rnasynth.features import FeatureStats


def feature_map(train: TileSet, network: str, *, limit: int = 1000, seed: int = 0) -> tuple[Projection, FeatureStats]:
    """Fit a UMAP on training tiles' standardised features; `placed` puts other sets on it. A picture, never evidence."""
    scale = scaler(train, network)
    rows = train.rows(n=limit, seed=seed)
    obs = pd.DataFrame({"split": "train"}, index=pd.Index([f"{row}" for row in rows], dtype=object))
    points = AnnData(scale.scaled(train.features[network][rows]).astype(np.float32), obs=obs)
    points.uns["transform"] = {"name": f"standardised {network}"}
    return fit_umap(points, seed=seed), scale


def placed(
    projection: Projection, scale: FeatureStats, tiles: TileSet, *, by: str = "tissue", groups: Sequence[str] = ()
) -> tuple[NDArray[np.float32], NDArray[np.str_]]:
    """Return where a set's tiles lie on a map, (n, 2), and the tissue or patient of each; of `groups` only, if any."""
    labels = tiles.tissues if by == "tissue" else tiles.patients
    rows = np.flatnonzero(np.isin(labels, list(groups))) if len(groups) else np.arange(len(tiles))
    return projection.place(scale.scaled(tiles.features[scale.network][rows])), labels[rows]


def first_patients(tiles: TileSet, count: int = 6) -> list[str]:
    """Return the first patients of a set, in its order, for a picture with one colour each."""
    return list(dict.fromkeys(tiles.patients.tolist()))[:count]


def maps(
    train: TileSet, sets: Mapping[str, TileSet], network: str, *, seed: int = 0
) -> Iterator[tuple[str, dict[str, tuple[NDArray[np.float32], NDArray[np.str_]]], NDArray[np.float32]]]:
    """Place sets on one map of the training tiles, coloured by tissue, then by patient.

    Parameters
    ----------
    sets : name -> tiles; the first set's first patients are those that the second map shows.

    Yields
    ------
    "tissue" or "patient", the sets as of `placed`, and where the training tiles lie, shape (n, 2): for `plots.map_of_sets`.
    """
    umap, scale = feature_map(train, network, seed=seed)
    for by in ("tissue", "patient"):
        chosen = first_patients(next(iter(sets.values()))) if by == "patient" else ()
        found = {name: placed(umap, scale, tiles, by=by, groups=chosen) for name, tiles in sets.items()}
        yield by, found, umap.fitted
