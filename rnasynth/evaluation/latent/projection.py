"""A map of profiles: UMAP fitted on training samples, everything else placed on it. A picture, never evidence."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from rnasynth.data.genes import few, only_training
from rnasynth.errors import InputError

MIN_SAMPLES = 10
PLACED_BY = 5  # nearest training samples


@dataclass(frozen=True, eq=False)
class Projection:
    """A fitted map.

    Attributes
    ----------
    genes : in the order that `place` expects.
    fitted : shape (n, 2): where the training samples lie, in their order.
    """

    genes: tuple[str, ...]
    fitted: NDArray[np.float32]
    _components: PCA | None
    _neighbours: NearestNeighbors

    def place(self, profiles: AnnData | NDArray[Any]) -> NDArray[np.float32]:
        """Return the places of profiles on the map, shape (n, 2), float32.

        Parameters
        ----------
        profiles : z-scores, as AnnData (transformed) or array (n, genes) in the order of `genes`.

        A sample lies at the mean place of its five nearest training samples, weighted by inverse distance: where UMAP's own
        transform begins, too. That then lets the new samples push each other about at random, so that a place depends on
        the company; here it does not, and a training sample lies where it was fitted. A sample between two clusters shows
        between them.

        Raises
        ------
        InputError : raw profiles, other genes, another width, or no samples.
        """
        if isinstance(profiles, AnnData):
            if "transform" not in profiles.uns:
                raise InputError(
                    "profiles to place", expected="z-scores", found="a raw matrix", fix="apply the system's transform first"
                )
            if missing := sorted(set(self.genes) - set(map(str, profiles.var_names))):
                raise InputError("profiles to place", expected="the map's genes", found=f"no {few(missing)}")
            profiles = np.asarray(profiles[:, list(self.genes)].X)
        z = _finite(profiles, len(self.genes))
        distance, rows = self._neighbours.kneighbors(_reduced(self._components, z))
        weight = 1 / np.maximum(distance, 1e-6 * np.maximum(distance[:, -1:], 1e-6))
        placed = (weight[:, :, None] * self.fitted[rows]).sum(axis=1) / weight.sum(axis=1, keepdims=True)
        return np.asarray(placed, dtype=np.float32)


def fit_umap(train: AnnData, *, seed: int, n_neighbors: int = 15, min_dist: float = 0.1, components: int = 50) -> Projection:
    """Fit a map on training samples.

    Parameters
    ----------
    train : transformed training profiles, at least 10.
    seed : of UMAP and of the components.
    n_neighbors, min_dist : as UMAP has them; fewer neighbours where there are fewer samples.
    components : wider profiles go through so many principal components of the training samples first.

    Returns
    -------
    A map that is the same for the same samples and seed (on one machine).

    Raises
    ------
    SplitError : a sample is not for training.
    InputError : raw profiles, too few, or values that are not finite.

    Source: McInnes, Healy and Melville, arXiv:1802.03426; RNA-GAN, Fig. 2, does not say what its UMAPs were fitted on.
    """
    only_training(train)
    if "transform" not in train.uns:
        raise InputError("profiles of a map", expected="z-scores", found="a raw matrix", fix="apply a transform first")
    if train.n_obs < MIN_SAMPLES:
        raise InputError("profiles of a map", expected=f"at least {MIN_SAMPLES} samples", found=str(train.n_obs))
    z = _finite(train.X, train.n_vars)
    size = min(components, len(z) - 1)
    reduction = PCA(size, svd_solver="randomized", random_state=seed).fit(z) if z.shape[1] > size else None
    reduced = _reduced(reduction, z)
    with warnings.catch_warnings(action="ignore"):  # about TensorFlow, which is not used, and graphs in several parts
        import umap  # takes seconds to load

        model = umap.UMAP(
            n_neighbors=min(n_neighbors, len(z) - 1), min_dist=min_dist, init="pca", random_state=seed, n_jobs=1
        )
        fitted = np.asarray(model.fit_transform(reduced), dtype=np.float32)
    return Projection(
        tuple(map(str, train.var_names)), fitted, reduction, NearestNeighbors(n_neighbors=PLACED_BY).fit(reduced)
    )


def _reduced(reduction: PCA | None, z: NDArray[np.float32]) -> NDArray[np.float32]:
    return z if reduction is None else np.asarray(reduction.transform(z), dtype=np.float32)


def _finite(values: Any, width: int) -> NDArray[np.float32]:
    z = np.ascontiguousarray(values, dtype=np.float32)
    if z.ndim != 2 or z.shape[1] != width or not len(z) or not np.isfinite(z).all():
        raise InputError("z-scores", expected=f"finite, shape (n, {width}), n at least 1", found=str(z.shape))
    return z
