"""Are generated tiles like real ones, and as varied? Precision, recall, density and coverage by nearest neighbours.

A Frechet distance mixes two faults: tiles that look wrong, and kinds of tiles that are never made. Here they are apart.
Around every tile of a set lies a ball that reaches to its k-th neighbour in the set; the balls together stand for what the
set covers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnasynth.errors import InputError
from rnasynth.evaluation.stats import Interval, bootstrap

NEIGHBOURS = 5  # k of Naeem et al. 2020 (their section 4); Kynkaanniemi et al. 2019 take 3
BLOCK_BYTES = 1 << 26  # of one block of distances


@dataclass(frozen=True)
class ManifoldReport:
    """How two sets of tiles cover each other.

    Attributes
    ----------
    precision : share of generated tiles inside the ball of a real one (Kynkaanniemi et al. 2019, eq. 2).
    recall : share of real tiles inside the ball of a generated one (ibid.); a few far-flung generated tiles raise it.
    density : mean number of real balls that a generated tile lies in, over k; may exceed 1 (Naeem et al. 2020, eq. 4).
    coverage : share of real balls that hold a generated tile (ibid., eq. 5).
    k : neighbours that a ball reaches to.
    n_real, n_fake : tiles.
    """

    precision: Interval
    recall: Interval
    density: Interval
    coverage: Interval
    k: int
    n_real: int
    n_fake: int

    def numbers(self) -> dict[str, Interval]:
        """Return the four by name."""
        return {name: getattr(self, name) for name in ("precision", "recall", "density", "coverage")}


def manifold(
    real: NDArray[Any],
    fake: NDArray[Any],
    *,
    k: int = NEIGHBOURS,
    groups_real: ArrayLike | None = None,
    groups_fake: ArrayLike | None = None,
    n_boot: int = 200,
    seed: int = 0,
) -> ManifoldReport:
    """Measure precision, recall, density and coverage, exactly (no approximate neighbours), in blocks.

    Parameters
    ----------
    real, fake : features, shape (N, d) and (M, d), standardised where their units differ. Recall depends on the number of
        generated tiles, so that sets should be equally large.
    k : neighbours, 1 or more and less than N and M. The tile itself does not count.
    groups_real, groups_fake : patient of each tile; intervals resample them (the balls stay), else the tiles.
    n_boot, seed : of the intervals.

    Raises
    ------
    InputError : another shape, numbers that are not finite, or too few tiles for k.
    """
    points_real, points_fake = _points("real", real), _points("fake", fake)
    if points_real.shape[1] != points_fake.shape[1]:
        raise InputError(
            "manifold", expected="features of one width", found=f"{points_real.shape[1]} and {points_fake.shape[1]}"
        )
    if not 1 <= k < min(len(points_real), len(points_fake)):
        found = f"k = {k}, {len(points_real)} real and {len(points_fake)} generated tiles"
        raise InputError("manifold", expected="k of at least 1, and more tiles than k in both sets", found=found)
    radius_real, radius_fake = _radii(points_real, k), _radii(points_fake, k)
    inside_real = np.zeros(len(points_fake))  # real balls that a generated tile lies in
    covered, recalled = np.zeros(len(points_real)), np.zeros(len(points_real))
    for rows, squared in _blocks(points_real, points_fake):
        inside = squared <= radius_real[rows, None]
        inside_real += inside.sum(axis=0)
        covered[rows] = inside.any(axis=1)
        recalled[rows] = (squared <= radius_fake[None]).any(axis=1)

    def interval(values: NDArray[np.float64], groups: ArrayLike | None) -> Interval:
        return bootstrap(np.mean, values, groups=groups, n_boot=n_boot, seed=seed)

    return ManifoldReport(
        precision=interval((inside_real > 0).astype(float), groups_fake),
        recall=interval(recalled, groups_real),
        density=interval(inside_real / k, groups_fake),
        coverage=interval(covered, groups_real),
        k=k,
        n_real=len(points_real),
        n_fake=len(points_fake),
    )


def recalled(real: NDArray[Any], fake: NDArray[Any], *, k: int = NEIGHBOURS) -> NDArray[np.bool_]:
    """Return which real tiles lie inside the ball of a generated one, shape (N,), bool: recall, tile by tile.

    Parameters
    ----------
    real, fake, k : as in `manifold`.

    Raises
    ------
    InputError : another shape, numbers that are not finite, or no more generated tiles than k.
    """
    points_real, points_fake = _points("real", real), _points("fake", fake)
    if points_real.shape[1] != points_fake.shape[1] or not 1 <= k < len(points_fake):
        found = f"{points_real.shape} and {points_fake.shape}, k = {k}"
        raise InputError("recalled", expected="features of one width, and more generated tiles than k", found=found)
    radius = _radii(points_fake, k)
    inside = np.zeros(len(points_real), dtype=bool)
    for rows, squared in _blocks(points_real, points_fake):
        inside[rows] = (squared <= radius[None]).any(axis=1)
    return inside


def inception_score(
    probabilities: NDArray[Any],
    *,
    groups: ArrayLike | None = None,
    n_boot: int = 200,
    seed: int = 0,
) -> Interval:
    """Score of a classifier's answers: exp of the mean KL divergence of each tile's answer from the mean answer.

    Parameters
    ----------
    probabilities : shape (N, classes), rows add up to 1, of any classifier; named after the network of ImageNet, whose
        classes mean little in tissue.
    groups : patient of each tile, for the interval. (The published intervals are over ten tenths of the tiles.)

    Returns
    -------
    1 (all answers equal) to the number of classes (each answer sure, all classes equally often).

    Raises
    ------
    InputError : not probabilities.

    Source: Salimans et al. 2016, section 4.
    """
    shares = np.asarray(probabilities, dtype=np.float64)
    if shares.ndim != 2 or not len(shares) or not np.isfinite(shares).all() or shares.min() < 0:
        raise InputError("probabilities", expected="shape (N, classes), 0 or more", found=f"shape {shares.shape}")
    if not np.allclose(shares.sum(axis=1), 1, atol=1e-4):
        raise InputError("probabilities", expected="rows that add up to 1", found=f"{shares.sum(axis=1).max():.3g}")

    def score(rows: NDArray[np.float64]) -> float:
        mean = rows.mean(axis=0)
        logs = np.log(np.where(rows > 0, rows, 1.0)) - np.log(np.where(mean > 0, mean, 1.0))
        return float(np.exp((rows * logs).sum(axis=1).mean()))

    return bootstrap(score, shares, groups=groups, n_boot=n_boot, seed=seed)


def squared_distances(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return squared Euclidean distances, shape (n, m), never negative, from points (n, d) and (m, d)."""
    squared = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None] - 2 * (left @ right.T)
    return np.maximum(squared, 0.0, out=squared)


def _points(name: str, values: NDArray[Any]) -> NDArray[np.float64]:
    points = np.asarray(values, dtype=np.float64)
    if points.ndim != 2 or not np.isfinite(points).all():
        raise InputError(f"manifold, {name}", expected="finite features (N, d)", found=f"shape {points.shape}")
    return points


def _blocks(left: NDArray[np.float64], right: NDArray[np.float64]) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
    """Yield row numbers of `left` and their squared distances to all of `right`; memory holds one block."""
    size = max(1, BLOCK_BYTES // (8 * len(right)))
    centre = right.mean(axis=0)  # nearer to 0, the squares lose fewer digits
    for start in range(0, len(left), size):
        rows = np.arange(start, min(start + size, len(left)))
        yield rows, squared_distances(left[rows] - centre, right - centre)


def _radii(points: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Squared distance of each point to its k-th neighbour, itself not counted."""
    radii = np.empty(len(points))
    for rows, squared in _blocks(points, points):
        squared[np.arange(len(rows)), rows] = np.inf
        radii[rows] = np.partition(squared, k - 1, axis=1)[:, k - 1]
    return radii
