"""Whether the nuclei found are the nuclei there: one-to-one matching of centroids, F1, aggregated Jaccard index.

All functions compare one field; `mean_over_patients` puts fields together, with the patient as the unit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from rnasynth.errors import InputError
from rnasynth.evaluation.stats import Interval, bootstrap

RADIUS_UM = 2.0  # 8 px at 40x (0.25 um/px)


@dataclass(frozen=True)
class Detection:
    """How many nuclei of a field were found.

    Attributes
    ----------
    hits : truth and prediction matched one to one.
    found, there : nuclei predicted, and nuclei in the truth.
    """

    hits: int
    found: int
    there: int

    @property
    def precision(self) -> float:
        """Share of the predicted nuclei that are there; NaN where none was predicted."""
        return self.hits / self.found if self.found else math.nan

    @property
    def recall(self) -> float:
        """Share of the true nuclei that were found; NaN where there are none."""
        return self.hits / self.there if self.there else math.nan

    @property
    def f1(self) -> float:
        """2 hits / (found + there); NaN where there is none and none was predicted."""
        return 2 * self.hits / (self.found + self.there) if self.found + self.there else math.nan


def match_centroids(truth: ArrayLike, found: ArrayLike, radius: float) -> NDArray[np.intp]:
    """Pair points one to one, as many as can be within a radius, and of those pairings the one with the least distance.

    Parameters
    ----------
    truth, found : shape (n, 2) and (m, 2), finite, in one unit of length and one order of axes.
    radius : largest distance of a pair (inclusive), same unit, above 0.

    Returns
    -------
    Shape (k, 2): row of `truth`, row of `found`, sorted by the first. Optimal assignment (Hungarian method,
    `scipy.optimize.linear_sum_assignment`) in each group of points that are linked by distances within the radius.

    Raises
    ------
    InputError : other shapes, NaN, or a radius that is not positive.

    Examples
    --------
    >>> match_centroids([[0, 0], [0, 3]], [[0, 2], [9, 9]], radius=2.5)
    array([[1, 0]])
    """
    points = [np.asarray(each, dtype=np.float64).reshape(-1, 2) if np.size(each) == 0 else np.asarray(each, dtype=np.float64)
              for each in (truth, found)]  # fmt: skip
    if any(each.ndim != 2 or each.shape[1] != 2 or not np.isfinite(each).all() for each in points):
        raise InputError("centroids", expected="finite, shape (n, 2)", found=f"shapes {points[0].shape}, {points[1].shape}")
    if not radius > 0:
        raise InputError("centroids, radius", expected="above 0", found=repr(radius))
    a, b = points
    if not len(a) or not len(b):
        return np.zeros((0, 2), dtype=np.intp)
    near = cKDTree(a).query_ball_point(b, radius)
    columns = np.repeat(np.arange(len(b)), [len(each) for each in near])
    rows = np.array([row for each in near for row in each], dtype=np.intp)
    if not len(rows):
        return np.zeros((0, 2), dtype=np.intp)
    links = np.column_stack([rows, columns])
    matched = np.concatenate([_assigned(a, b, part) for part in _linked(links, len(a), len(b))])
    return matched[np.argsort(matched[:, 0], kind="stable")]


def _linked(links: NDArray[np.intp], n: int, m: int) -> list[NDArray[np.intp]]:
    """Split links into groups that share no point."""
    graph = coo_matrix((np.ones(len(links)), (links[:, 0], n + links[:, 1])), shape=(n + m, n + m))
    _, member = connected_components(graph, directed=False)
    group = member[links[:, 0]]
    order = np.argsort(group, kind="stable")
    return np.split(links[order], np.flatnonzero(np.diff(group[order])) + 1)


def _assigned(a: NDArray[np.float64], b: NDArray[np.float64], links: NDArray[np.intp]) -> NDArray[np.intp]:
    """Solve one group: a pair that is too far costs more than all others together, so it never displaces one."""
    rows, row_of = np.unique(links[:, 0], return_inverse=True)
    columns, column_of = np.unique(links[:, 1], return_inverse=True)
    distance = np.linalg.norm(a[links[:, 0]] - b[links[:, 1]], axis=1)
    far = 1.0 + 2.0 * distance.max() * (min(len(rows), len(columns)) + 1)
    cost = np.full((len(rows), len(columns)), far)
    cost[row_of, column_of] = distance
    chosen = np.column_stack(linear_sum_assignment(cost))
    chosen = chosen[cost[chosen[:, 0], chosen[:, 1]] < far]
    return np.column_stack([rows[chosen[:, 0]], columns[chosen[:, 1]]])


def detection(truth: ArrayLike, found: ArrayLike, radius: float) -> Detection:
    """Count hits of one field; arguments as in `match_centroids`."""
    return Detection(len(match_centroids(truth, found, radius)), len(np.asarray(found)), len(np.asarray(truth)))


def aggregated_jaccard(truth: NDArray[np.integer], found: NDArray[np.integer]) -> float:
    """Aggregated Jaccard index of two instance maps.

    Each true nucleus takes the prediction with which its Jaccard index is largest; intersections and unions are added up,
    then the area of the true nuclei that nothing overlaps and of the predictions that no nucleus took.

    Parameters
    ----------
    truth, found : shape (H, W), integers, 0 for none; the numbers need not follow each other.

    Returns
    -------
    0 to 1; NaN where both are empty.

    Raises
    ------
    InputError : maps of two shapes, not integers, or negative numbers.

    Source: Kumar et al., IEEE TMI 36, 1550 (2017), algorithm 1 (a prediction may be taken twice, as there).
    """
    if truth.shape != found.shape or truth.ndim != 2:
        raise InputError("instance maps", expected="two of one shape (H, W)", found=f"{truth.shape} and {found.shape}")
    for each in (truth, found):
        if not np.issubdtype(each.dtype, np.integer) or (each.size and each.min() < 0):
            raise InputError("instance map", expected="integers of 0 or more", found=f"{each.dtype}")
    (names_t, t), (names_f, f) = (np.unique(each, return_inverse=True) for each in (truth, found))
    table = np.zeros((len(names_t), len(names_f)), dtype=np.int64)
    np.add.at(table, (t.ravel(), f.ravel()), 1)
    area_t, area_f = table.sum(1)[names_t > 0], table.sum(0)[names_f > 0]
    both = table[np.ix_(names_t > 0, names_f > 0)]
    if not both.size:
        total = int(area_t.sum() + area_f.sum())
        return 0.0 if total else math.nan
    union = area_t[:, None] + area_f[None] - both
    best = np.argmax(both / union, axis=1)
    row = np.arange(len(area_t))
    hit = both[row, best] > 0
    shared = int(both[row, best][hit].sum())
    whole = int(union[row, best][hit].sum() + area_t[~hit].sum())
    taken = np.zeros(len(area_f), dtype=bool)
    taken[best[hit]] = True
    return shared / (whole + int(area_f[~taken].sum()))


def mean_over_patients(values: Sequence[float], patients: Sequence[str], *, n_boot: int = 1000, seed: int = 0) -> Interval:
    """Mean of one number a field, first within each patient and then over patients; the interval resamples patients.

    Fields where the number is not defined (NaN) are left out.

    Raises
    ------
    InputError : no field with a defined number.
    """
    numbers, names = np.asarray(values, dtype=np.float64), np.asarray(patients, dtype=str)
    known = np.isfinite(numbers)
    if not known.any():
        raise InputError("fields", expected="at least one with nuclei", found="none")
    own = [float(numbers[known & (names == name)].mean()) for name in sorted(set(names[known]))]
    return bootstrap(np.mean, own, n_boot=n_boot, seed=seed)
