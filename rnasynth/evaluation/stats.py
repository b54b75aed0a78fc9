"""Intervals and tests for every number that a page reports: the patient is the unit, not the tile or the spot.

Tiles of one patient resemble each other, so intervals over tiles are far too narrow. Every function here takes
`groups` (one patient id a row) and resamples or counts patients.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike, NDArray
from statsmodels.stats.proportion import proportion_confint

from rnasynth.errors import InputError

Statistic = Callable[..., float]
FEWEST_GROUPS = 3  # below which an interval over groups says next to nothing


@dataclass(frozen=True)
class Interval:
    """A number with its interval.

    Parameters
    ----------
    value : the number on all the data.
    low, high : the interval's ends; NaN where it cannot be had (fewer than two patients, for example).
    n : how many independent units (patients, or rows where no groups were given) stand behind it.
    method : how the interval was made, in words fit for a caption.
    """

    value: float
    low: float
    high: float
    n: int
    method: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; a number that is not finite becomes None (JSON has no NaN)."""
        ends = {name: _finite_or_none(getattr(self, name)) for name in ("value", "low", "high")}
        return {**ends, "n": self.n, "method": self.method}

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


def bootstrap(
    statistic: Statistic,
    *arrays: ArrayLike,
    groups: ArrayLike | None = None,
    n_boot: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    method: Literal["percentile", "bca"] = "percentile",
) -> Interval:
    """Interval of any statistic by resampling patients with replacement.

    Parameters
    ----------
    statistic : called as `statistic(*arrays)` with the same rows of every array; returns one number.
    arrays : one or more arrays with the same first dimension (rows: tiles, spots, samples).
    groups : one id a row; all rows of a group are drawn together. None: each row is its own group.
    n_boot : number of resamples.
    seed : of the generator used here.
    level : coverage wanted, between 0 and 1.
    method : "percentile", or "bca" (bias-corrected and accelerated, through `scipy.stats.bootstrap`; it needs one more
        evaluation a group, and falls back to "percentile", and says so, where the resamples are degenerate).

    Returns
    -------
    Interval whose `n` is the number of groups. Resamples where the statistic is not finite (a correlation of a constant)
    are left out; where they are more than half, or there are fewer than two groups, the ends are NaN.

    Raises
    ------
    InputError : no rows, arrays or groups of different lengths, or a level outside (0, 1).

    Examples
    --------
    >>> bootstrap(np.mean, [1.0, 2.0, 3.0, 4.0], n_boot=200).value
    2.5
    """
    columns, members = _grouped(arrays, groups)
    if not 0 < level < 1:
        raise InputError("bootstrap", expected="a level between 0 and 1", found=repr(level))
    n_groups = len(members)
    value = float(statistic(*columns))
    name = f"{method} bootstrap over {'rows' if groups is None else 'groups'}, {n_boot} resamples, {level:.0%}"
    if n_groups < 2:
        return Interval(value, math.nan, math.nan, n_groups, name + " (fewer than two groups: no interval)")

    def on_groups(chosen: NDArray[np.intp]) -> float:
        rows = chosen if groups is None else np.concatenate([members[number] for number in chosen])
        return float(statistic(*(column[rows] for column in columns)))

    if method == "bca":
        ends = _bca(on_groups, n_groups, n_boot, seed, level)
        if ends is not None:
            return Interval(value, *ends, n_groups, name)
        name = name.replace("bca", "percentile (bca was degenerate)")
    generator = np.random.default_rng(seed)
    draws = np.array([on_groups(generator.integers(n_groups, size=n_groups)) for _ in range(n_boot)])
    draws = draws[np.isfinite(draws)]
    if len(draws) < n_boot / 2:
        return Interval(value, math.nan, math.nan, n_groups, name + " (not finite in most resamples)")
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), n_groups, name)


def resampling_units(groups: ArrayLike) -> tuple[NDArray[np.str_], str]:
    """Choose what a bootstrap resamples: the groups, or, where all samples are of one group, the samples.

    An interval over the samples of one group (her2st: the spots of one section) speaks for that group alone, and is too
    narrow where its samples resemble each other; whatever uses it must show the second value.

    Returns
    -------
    One id a sample for `bootstrap(groups=)`, and the unit in words: "split groups", or "samples of one split group".
    """
    names = np.asarray(groups).astype(str)
    if len(np.unique(names)) > 1:
        return names, "split groups"
    return np.arange(len(names)).astype(str), "samples of one split group"


def groups_if_enough(groups: ArrayLike) -> NDArray[np.str_] | None:
    """Return one id a row for `bootstrap(groups=)` where there are three groups or more, else None: rows are resampled.

    An interval from two groups has three different resamples; one over rows is too narrow, and its `method` says so.
    """
    names = np.asarray(groups).astype(str)
    return names if len(np.unique(names)) >= FEWEST_GROUPS else None


def mean_and_range(values: ArrayLike, of: str) -> Interval:
    """Mean and, as its ends, the smallest and largest of values that are too few for a percentile.

    Parameters
    ----------
    values : shape (n,), one or more.
    of : what they are, for the caption: "3 seeds".

    Examples
    --------
    >>> print(mean_and_range([1.0, 2.0, 6.0], "3 seeds"))
    3 [1, 6]
    """
    found = np.asarray(values, dtype=float)
    return Interval(float(found.mean()), float(found.min()), float(found.max()), len(found), f"mean and range of {of}")


def mean_and_t(values: ArrayLike, of: str, *, level: float = 0.95) -> Interval:
    """Mean of a few independent values with its interval by Student's t; for so few a bootstrap is too narrow.

    Parameters
    ----------
    values : shape (n,); of fewer than two there is no interval.
    of : what they are, for the caption: "4 sections".
    level : coverage wanted, between 0 and 1.

    Examples
    --------
    >>> print(mean_and_t([1.0, 2.0, 6.0], "3 seeds"))
    3 [-3.57, 9.57]
    """
    found = np.asarray(values, dtype=float)
    n, mean = len(found), float(found.mean())
    method = f"mean of {of}, Student's t of {n - 1} degrees of freedom, {level:.0%}"
    if n < 2:
        return Interval(mean, math.nan, math.nan, n, method + " (one value: no interval)")
    half = float(scipy.stats.t.ppf((1 + level) / 2, n - 1) * found.std(ddof=1)) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n, method)


def mean_of_known(values: ArrayLike) -> float:
    """Mean of the finite values; NaN, silently, where there are none."""
    known = np.asarray(values, dtype=float)
    known = known[np.isfinite(known)]
    return float(known.mean()) if len(known) else math.nan


def permutation_p(
    statistic: Statistic,
    fixed: ArrayLike,
    permuted: ArrayLike,
    *,
    within: ArrayLike | None = None,
    n_permutations: int = 999,
    seed: int = 0,
    alternative: Literal["greater", "less", "two-sided"] = "greater",
) -> float:
    """Probability of a statistic at least as extreme if the rows of `permuted` had no order.

    Parameters
    ----------
    statistic : called as `statistic(fixed, permuted)`; returns one number.
    fixed, permuted : arrays with the same first dimension; the rows of the second are shuffled.
    within : one label a row; rows are exchanged only inside a label (the tissue, say). None: among all rows.
    n_permutations, seed : number of shuffles, and the seed of the generator used here.
    alternative : "greater", "less", or "two-sided" (twice the smaller of the two, at most 1).

    Returns
    -------
    (1 + as extreme) / (1 + n_permutations): never 0 (Phipson and Smyth, 2010, equation 2).

    Raises
    ------
    InputError : no rows, or different lengths.
    """
    (left, right), strata = _grouped((fixed, permuted), within)
    if within is None:
        strata = [np.arange(len(left))]
    observed = float(statistic(left, right))
    generator = np.random.default_rng(seed)
    tolerance = 1e-12 * max(1.0, abs(observed))  # equal permutations differ by rounding only
    as_high = as_low = 1
    for _ in range(n_permutations):
        order = np.arange(len(right))
        for rows in strata:
            order[rows] = rows[generator.permutation(len(rows))]
        value = float(statistic(left, right[order]))
        as_high += value >= observed - tolerance
        as_low += value <= observed + tolerance
    p_high, p_low = as_high / (1 + n_permutations), as_low / (1 + n_permutations)
    if alternative == "two-sided":
        return min(1.0, 2 * min(p_high, p_low))
    return p_high if alternative == "greater" else p_low


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Spearman's rank correlation of two vectors; NaN, silently, where one of them is constant."""
    ranks_x, ranks_y = scipy.stats.rankdata(x), scipy.stats.rankdata(y)
    if len(ranks_x) < 2 or ranks_x.std() == 0 or ranks_y.std() == 0:
        return math.nan
    return float(np.corrcoef(ranks_x, ranks_y)[0, 1])


def spearman_interval(
    x: ArrayLike,
    y: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    n_boot: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Spearman's rank correlation with its bootstrap interval over patients; arguments as in `bootstrap`."""
    return bootstrap(spearman, x, y, groups=groups, n_boot=n_boot, seed=seed, level=level)


def binomial_interval(successes: int, n: int, *, level: float = 0.95) -> Interval:
    """Wilson's interval of a share: right where `n` is small or the share near 0 or 1, unlike share +- 1.96 SE.

    Raises
    ------
    InputError : `successes` outside 0..n, or n = 0.

    Source: Wilson, J Am Stat Assoc 1927, through statsmodels. Rows must be independent (one a patient).
    """
    if n < 1 or not 0 <= successes <= n:
        raise InputError("binomial_interval", expected="0 <= successes <= n, n >= 1", found=f"{successes} of {n}")
    low, high = proportion_confint(successes, n, alpha=1 - level, method="wilson")
    return Interval(successes / n, float(low), float(high), int(n), f"Wilson, {level:.0%}")


def _grouped(arrays: Sequence[ArrayLike], groups: ArrayLike | None) -> tuple[list[NDArray[Any]], list[NDArray[np.intp]]]:
    """Return the arrays and, for every group, its row numbers (groups in order of first appearance)."""
    columns = [np.asarray(array) for array in arrays]
    lengths = [len(column) for column in columns] + ([] if groups is None else [len(np.asarray(groups))])
    if not columns or min(lengths) == 0 or len(set(lengths)) != 1:
        raise InputError("statistics", expected="arrays (and groups) of one length, at least one row", found=f"{lengths}")
    if groups is None:
        return columns, [np.array([row]) for row in range(lengths[0])]
    _, first, number = np.unique(np.asarray(groups), return_index=True, return_inverse=True)
    order = np.argsort(number, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(number))[:-1])
    return columns, [parts[position] for position in np.argsort(first)]


def _bca(
    on_groups: Callable[[NDArray[np.intp]], float], n_groups: int, n_boot: int, seed: int, level: float
) -> tuple[float, float] | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a degenerate distribution warns and gives NaN, which is handled here
        result = scipy.stats.bootstrap(
            (np.arange(n_groups),),
            lambda chosen: on_groups(np.asarray(chosen, dtype=np.intp)),
            n_resamples=n_boot,
            batch=64,
            vectorized=False,
            confidence_level=level,
            method="BCa",
            random_state=np.random.default_rng(seed),
        )
    low, high = map(float, result.confidence_interval)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None


def _finite_or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
