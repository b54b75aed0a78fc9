"""Distances of two sets of tiles, and the rank of the right patient among others: the mathematics under `conditioning`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def energy_distance(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Twice the mean distance between two sets of features minus the mean distance within each; (n, d) and (m, d).

    0 on average for two draws of one distribution (it can come out below), larger the more they differ. Other than the
    mean distance alone it does not reward a generator for making one average tile. Source: Szekely and Rizzo, J Stat Plan
    Inference 2013, eq. 5, unbiased.
    """
    return 2 * between_distance(a, b) - within_distance(a) - within_distance(b)


def between_distance(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Mean Euclidean distance of all pairs, one from each set; shapes (n, d) and (m, d)."""
    return float(_pairwise(a, b).mean())


def within_distance(a: NDArray[Any]) -> float:
    """Mean Euclidean distance of all pairs of different rows, shape (n, d); 0 for one row."""
    n = len(a)
    return float(_pairwise(a, a).sum() / (n * (n - 1))) if n > 1 else 0.0


def rank_matrix(made: NDArray[Any], real: NDArray[Any], tissues: NDArray[Any]) -> NDArray[np.float64]:
    """Rank every real patient as an answer to every profile, within the tissue.

    Parameters
    ----------
    made, real : mean features of the tiles made from profile i, and of the real tiles of patient i; shape (N, d).
    tissues : shape (N,).

    Returns
    -------
    Shape (N, N): [i, j] is the share of the tissue's other patients that lie farther from made[i] than real[j] does (ties
    count half); NaN across tissues and for a tissue of one. The diagonal holds the right answers. Made and real features
    are each centred on their tissue first, so that an error that all tiles of a tissue share does not count; a generator
    that is deaf within the tissue stays at exactly 0.5 on average.
    """
    ranks = np.full((len(made), len(made)), np.nan)
    for tissue in np.unique(tissues):
        rows = np.flatnonzero(tissues == tissue)
        if len(rows) < 2:
            continue
        distance = _pairwise(made[rows] - made[rows].mean(axis=0), real[rows] - real[rows].mean(axis=0))
        farther = (distance[:, None, :] > distance[:, :, None]).sum(axis=2)
        level = (distance[:, None, :] == distance[:, :, None]).sum(axis=2) - 1  # without itself
        ranks[np.ix_(rows, rows)] = (farther + 0.5 * level) / (len(rows) - 1)
    return ranks


def tissue_right(made: NDArray[Any], real: NDArray[Any], tissues: NDArray[Any]) -> NDArray[np.float64]:
    """1 where the tiles made from profile i lie nearest to its tissue's real centre (without patient i), else 0; (N,)."""
    known = np.unique(tissues)
    right = np.empty(len(made))
    for i in range(len(made)):
        others = np.arange(len(made)) != i
        centres = {t: real[others & (tissues == t)].mean(axis=0) for t in known if (others & (tissues == t)).any()}
        nearest = min(centres, key=lambda t: float(np.linalg.norm(made[i] - centres[t])))
        right[i] = float(nearest == tissues[i])
    return right


def _pairwise(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2 * a @ b.T
    return np.asarray(np.sqrt(np.maximum(squares, 0.0)), dtype=np.float64)
