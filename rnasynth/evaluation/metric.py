"""In which units features are compared: standardised, or weighed by how little of them the profile leaves unexplained.

A slide's stain differs between patients far more than its cells do, and no RNA knows it. Plainly standardised features
let the stain decide who resembles whom; the second metric, fitted on training patients only, whitens the features by what
the profiles of the training patients cannot predict of them, so that a nuisance counts little, whatever it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import anndata
import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold, cross_val_predict

from rnasynth.features import FeatureStats

MIN_GROUPS = 20  # training patients below which the second metric is not fitted
SHRINKAGE = 0.03  # share of the mean variance added to every direction
COMPONENTS = 24  # principal components of the profiles that predict
FOLDS = 10


@dataclass(frozen=True)
class FeatureMetric:
    """A linear map of features, after which distances are Euclidean.

    Parameters
    ----------
    network : name of the feature network.
    kind : "standardised" or "explained by the profile".
    mean, matrix : shape (d,) and (d, k): x -> (x - mean) @ matrix.
    """

    network: str
    kind: str
    mean: NDArray[np.float64]
    matrix: NDArray[np.float64]

    def __call__(self, features: NDArray[Any]) -> NDArray[np.float64]:
        """Shape (N, d) -> (N, k)."""
        return np.asarray((np.asarray(features, dtype=np.float64) - self.mean) @ self.matrix)

    @classmethod
    def standardised(cls, reference: FeatureStats) -> FeatureMetric:
        """Divide each feature by its spread over real training tiles; a constant one is dropped."""
        spread = np.sqrt(np.diag(reference.cov))
        matrix = np.diag(1.0 / np.where(spread > 1e-8, spread, 1.0))[:, spread > 1e-8]
        return cls(reference.network, "standardised", reference.mean, matrix)

    @classmethod
    def explained(
        cls, features: Sequence[NDArray[Any]], profiles: anndata.AnnData, groups: NDArray[Any], network: str
    ) -> FeatureMetric:
        """Fit on real training tiles; falls back to `standardised` below 20 training patients.

        Parameters
        ----------
        features : one array (tiles, d) a training sample.
        profiles : the same samples' raw profiles, in the same order.
        groups : patient of each sample; the predictions that are judged are for patients left out.
        network : name of the feature network.

        Returns
        -------
        Whitening by the covariance of a sample's mean features minus their prediction (ridge regression on the principal
        components of the standardised log profiles), shrunk towards a multiple of the identity.
        """
        plain = cls.standardised(FeatureStats.of(np.concatenate(list(features)), network))
        if len(np.unique(groups)) < MIN_GROUPS:
            return plain
        means = np.stack([plain(part).mean(axis=0) for part in features])
        logs = np.log1p(np.asarray(profiles.X, dtype=np.float64))
        logs = (logs - logs.mean(axis=0)) / np.maximum(logs.std(axis=0), 1e-3)
        components = PCA(min(COMPONENTS, len(means) // 3), random_state=0).fit_transform(logs)
        model = RidgeCV(np.logspace(-1, 6, 15))
        folds = GroupKFold(min(FOLDS, len(np.unique(groups))))
        residual = means - cross_val_predict(model, components, means, groups=groups, cv=folds)
        covariance = np.cov(residual, rowvar=False)
        covariance += SHRINKAGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
        eigenvalues, vectors = np.linalg.eigh(covariance)
        return cls(network, "explained by the profile", plain.mean, plain.matrix @ (vectors / np.sqrt(eigenvalues)))
