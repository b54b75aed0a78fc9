"""How near generated tiles are to real ones: Frechet distance and kernel distance of their features.

Both compare two clouds of features; neither says whether a tile fits its own profile (see `conditioning`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from rnasynth.errors import InputError
from rnasynth.evaluation.stats import Interval
from rnasynth.features import FeatureStats


def frechet_distance(mu1: ArrayLike, cov1: ArrayLike, mu2: ArrayLike, cov2: ArrayLike) -> float:
    """Squared Frechet (2-Wasserstein) distance of two Gaussians: |mu1 - mu2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)).

    Parameters
    ----------
    mu1, mu2 : shape (d,).
    cov1, cov2 : shape (d, d), symmetric, positive semi-definite.

    Returns
    -------
    The distance, at least 0 (called FID where the features are Inception's).

    Raises
    ------
    InputError : shapes that do not fit, NaN, or a covariance that is not symmetric or not positive semi-definite.

    Notes
    -----
    C1 C2 has the eigenvalues of the symmetric L^T C2 L for any L with L L^T = C1, so the trace of the root is the sum of
    the roots of those eigenvalues, and no matrix root is formed. L is the Cholesky factor, or, where C1 is singular
    (fewer tiles than features), its eigenvectors scaled. Source: Dowson and Landau 1982; Heusel et al. 2017, eq. 6.

    Examples
    --------
    >>> round(frechet_distance([0.0], [[1.0]], [3.0], [[4.0]]), 6)  # (0 - 3)^2 + (1 - 2)^2
    10.0
    """
    mean1, mean2 = (np.asarray(mu, dtype=np.float64).ravel() for mu in (mu1, mu2))
    c1, c2 = (np.array(cov, dtype=np.float64) for cov in (cov1, cov2))
    d = len(mean1)
    if mean2.shape != (d,) or c1.shape != (d, d) or c2.shape != (d, d):
        shapes = f"{mean1.shape}, {c1.shape}, {mean2.shape}, {c2.shape}"
        raise InputError("frechet_distance", expected="(d,), (d, d), (d,), (d, d)", found=shapes)
    for name, values in (("mu1", mean1), ("cov1", c1), ("mu2", mean2), ("cov2", c2)):
        if not np.isfinite(values).all():
            raise InputError(f"frechet_distance, {name}", expected="finite numbers", found="NaN or infinity")
    for name, cov in (("cov1", c1), ("cov2", c2)):
        if not np.allclose(cov, cov.T, rtol=1e-6, atol=1e-8 * max(1.0, float(np.abs(cov).max()))):
            raise InputError(f"frechet_distance, {name}", expected="a symmetric matrix", found="another")
    factor = _factor(torch.from_numpy(c1))
    product = factor.T @ torch.from_numpy(c2) @ factor
    eigenvalues = torch.linalg.eigvalsh((product + product.T) / 2).numpy()
    if eigenvalues.size and eigenvalues[0] < -1e-6 * max(1e-12, eigenvalues[-1]):
        raise InputError(
            "frechet_distance", expected="positive semi-definite covariances", found=f"eigenvalue {eigenvalues[0]:.3g}"
        )
    root_trace = float(np.sqrt(np.clip(eigenvalues, 0.0, None)).sum())
    distance = float(((mean1 - mean2) ** 2).sum()) + float(np.trace(c1) + np.trace(c2)) - 2 * root_trace
    return max(0.0, distance)


def frechet(a: FeatureStats, b: FeatureStats) -> float:
    """Frechet distance of two feature sets.

    Of two sets of tiles, uint8 `(N, H, W, 3)` at 0.5 um/px, as many in each::

        network = StainTexture()  # or Inception, see rnasynth.features
        a, b = (FeatureStats.of(extract(tiles, network, mpp_um=0.5), network.name) for tiles in (real, generated))
        frechet(a, b)

    Of two matrices of features that you have already, (N, d) and (M, d), both of one network::

        frechet(FeatureStats.of(features_real, "my-network"), FeatureStats.of(features_generated, "my-network"))

    Of two folders with a folder of PNG or JPEG tiles for every sample, as `rnasynth generate` writes them; of a sample with
    more than `per_sample` tiles so many are drawn. A tile store is given to `extract` as it is::

        from rnasynth.data.patient_folders import inputs_from_folder

        read = (inputs_from_folder(folder, None, network, mpp_um=0.5, per_sample=256) for folder in ("real", "made"))
        a, b = (FeatureStats.of(np.concatenate(inputs.bags), network.name) for inputs in read)

    Parameters
    ----------
    a, b : statistics of the features of each set, see `rnasynth.features.FeatureStats.of`.

    Raises
    ------
    InputError : something else than statistics, or the two were measured with different feature networks.
    """
    for each in (a, b):
        if not isinstance(each, FeatureStats):
            shape = f" of shape {np.shape(each)}" if isinstance(each, np.ndarray | Tensor) else ""
            raise InputError(
                "frechet",
                expected="a FeatureStats of each set",
                found=f"{type(each).__name__}{shape}",
                fix='of features (N, d): FeatureStats.of(features, "name of their network"), from rnasynth.features',
            )
    if a.network != b.network:
        raise InputError("frechet", expected=f"features of {a.network}", found=f"features of {b.network}")
    return frechet_distance(a.mean, a.cov, b.mean, b.cov)


def kid(
    real: NDArray[Any],
    fake: NDArray[Any],
    *,
    subset_size: int = 1000,
    n_subsets: int = 100,
    groups_real: ArrayLike | None = None,
    groups_fake: ArrayLike | None = None,
    seed: int = 0,
) -> Interval:
    """Kernel Inception distance: unbiased squared MMD with k(x, y) = (x . y / d + 1)^3, over random subsets.

    Parameters
    ----------
    real, fake : features, shape (N, d) and (M, d).
    subset_size : rows of each set in a subset, at most the smaller set's size.
    n_subsets : number of subsets, drawn without replacement inside each.
    groups_real, groups_fake : patient of each row. Where given, each subset is made of patients drawn with
        replacement (all their rows), so that the interval counts patients; pairs of one drawn row with itself are left out.
    seed : of the draws.

    Returns
    -------
    Interval: the mean over subsets, and the 2.5 and 97.5 percentiles of the subsets. May be negative (unbiased).
    Without groups they describe one subset of this size, and are wider than the error of the mean.

    Raises
    ------
    InputError : different widths, or fewer than two rows.

    Source: Binkowski et al. 2018, section 4.
    """
    real, fake = (np.asarray(values, dtype=np.float64) for values in (real, fake))
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1] or min(len(real), len(fake)) < 2:
        raise InputError("kid", expected="(N, d) and (M, d), N, M >= 2", found=f"{real.shape} and {fake.shape}")
    generator = np.random.default_rng(seed)
    size = min(subset_size, len(real), len(fake))
    draws = []
    for _ in range(n_subsets):
        rows = _draw(generator, len(real), size, groups_real), _draw(generator, len(fake), size, groups_fake)
        draws.append(_mmd2(real, fake, *rows))
    values = np.array(draws)
    low, high = np.nanquantile(values, [0.025, 0.975])
    over = "patients" if groups_real is not None else f"{size} tiles"
    n = size if groups_real is None else len(np.unique(np.asarray(groups_real)))
    return Interval(float(np.nanmean(values)), float(low), float(high), n, f"{n_subsets} subsets of {over}, 95% of them")


def _factor(cov: Tensor) -> Tensor:
    """Return L with L L^T = cov, float64; torch's LAPACK is here many times as fast as SciPy's on few cores."""
    factor, failed = torch.linalg.cholesky_ex(cov)
    if not failed:
        return factor
    eigenvalues, vectors = torch.linalg.eigh(cov)
    if eigenvalues[0] < -1e-6 * max(1e-12, float(eigenvalues[-1])):
        found = f"eigenvalue {float(eigenvalues[0]):.3g}"
        raise InputError("frechet_distance, cov1", expected="positive semi-definite", found=found)
    return vectors * eigenvalues.clamp(min=0.0).sqrt()


def _draw(generator: np.random.Generator, n: int, size: int, groups: ArrayLike | None) -> NDArray[np.intp]:
    if groups is None:
        return generator.permutation(n)[:size]
    labels, number = np.unique(np.asarray(groups), return_inverse=True)
    members = np.split(np.argsort(number, kind="stable"), np.cumsum(np.bincount(number))[:-1])
    return np.concatenate([members[chosen] for chosen in generator.integers(len(labels), size=len(labels))])


def _mmd2(
    real: NDArray[np.float64], fake: NDArray[np.float64], real_rows: NDArray[np.intp], fake_rows: NDArray[np.intp]
) -> float:
    x, y, d = real[real_rows], fake[fake_rows], real.shape[1]

    def within(values: NDArray[np.float64], rows: NDArray[np.intp]) -> float:
        # A row drawn twice is one tile, not two independent ones: its kernel with itself would bias the estimate.
        other = rows[:, None] != rows[None]
        return float(((values @ values.T / d + 1.0) ** 3)[other].mean()) if other.any() else float("nan")

    return within(x, real_rows) + within(y, fake_rows) - 2 * float(((x @ y.T / d + 1.0) ** 3).mean())
