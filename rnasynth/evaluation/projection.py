"""A map of profiles: UMAP fitted on training samples, everything else placed on it. A picture, never evidence."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from rnasynth.data.genes import few, only_training
from rnasynth.errors import InputError

MIN_SAMPLES = 10


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
    _umap: Any

    def place(self, profiles: AnnData | NDArray[Any]) -> NDArray[np.float32]:
        """Return the places of profiles on the map, shape (n, 2), float32.

        Parameters
        ----------
        profiles : z-scores, as AnnData (transformed) or array (n, genes) in the order of `genes`.

        UMAP moves the points of one call a little by a shared random stream: equal calls give equal places, but a sample's
        place may differ by a fraction of a cluster's width where it is placed in other company.

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
        with _quiet():
            placed = self._umap.transform(_reduced(self._components, z))
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
    A map that is the same for the same samples and seed.

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
    with _quiet():
        import umap  # takes seconds to load

        model = umap.UMAP(n_neighbors=min(n_neighbors, len(z) - 1), min_dist=min_dist, random_state=seed, n_jobs=1)
        fitted = model.fit_transform(_reduced(reduction, z))
    return Projection(tuple(map(str, train.var_names)), np.asarray(fitted, dtype=np.float32), reduction, model)


def _quiet() -> Any:
    """Hold back the warnings of UMAP: about TensorFlow, which is not used, and about graphs in several parts."""
    return warnings.catch_warnings(action="ignore")


def _reduced(reduction: PCA | None, z: NDArray[np.float32]) -> NDArray[np.float32]:
    return z if reduction is None else np.asarray(reduction.transform(z), dtype=np.float32)


def _finite(values: Any, width: int) -> NDArray[np.float32]:
    z = np.ascontiguousarray(values, dtype=np.float32)
    if z.ndim != 2 or z.shape[1] != width or not len(z) or not np.isfinite(z).all():
        raise InputError("z-scores", expected=f"finite, shape (n, {width}), n at least 1", found=str(z.shape))
    return z
