"""Do raters agree? Intraclass correlation, Krippendorff's alpha and Kendall's W of a table of targets x raters."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import scipy.stats
from numpy.typing import ArrayLike, NDArray

from rnasynth.errors import InputError
from rnasynth.evaluation.stats import Interval, bootstrap


def _complete(table: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(table, float)
    if values.ndim != 2 or min(values.shape) < 2 or not np.isfinite(values).all():
        raise InputError("ratings", expected="at least 2 targets x 2 raters, none missing", found=f"shape {values.shape}")
    return values


def intraclass(table: ArrayLike, *, level: float = 0.95) -> tuple[Interval, Interval]:
    """Intraclass correlation, two-way random effects, absolute agreement: of one rater, and of the mean of all raters.

    Parameters
    ----------
    table : shape (targets, raters), points, complete.
    level : coverage of the intervals.

    Returns
    -------
    ICC(2,1) and ICC(2,k), at most 1; `n` is the number of targets. Where all scores are equal, NaN.

    Raises
    ------
    InputError : fewer than two targets or raters, or a missing score.

    Source: Shrout and Fleiss, Psychol Bull 1979, equations for case 2; interval: McGraw and Wong, Psychol Methods 1996,
    table 7, case 2.
    """
    values = _complete(table)
    n, k = values.shape
    method = f"two-way random effects, absolute agreement, F interval, {level:.0%}"
    if np.ptp(values) < 1e-12:
        nothing = Interval(math.nan, math.nan, math.nan, n, method)
        return nothing, nothing
    mean = values.mean()
    between = k * float(((values.mean(axis=1) - mean) ** 2).sum()) / (n - 1)
    raters = n * float(((values.mean(axis=0) - mean) ** 2).sum()) / (k - 1)
    total = float(((values - mean) ** 2).sum())
    error = max(0.0, (total - between * (n - 1) - raters * (k - 1)) / ((n - 1) * (k - 1)))
    single = (between - error) / (between + (k - 1) * error + k * (raters - error) / n)
    average = (between - error) / (between + (raters - error) / n)
    if error < 1e-12:
        ends = (math.nan, math.nan)
    else:
        a, b = k * single / (n * (1 - single)), 1 + k * single * (n - 1) / (n * (1 - single))
        df = (a * raters + b * error) ** 2 / ((a * raters) ** 2 / (k - 1) + (b * error) ** 2 / ((n - 1) * (k - 1)))
        tail = (1 + level) / 2
        f_low, f_high = scipy.stats.f.ppf(tail, n - 1, df), scipy.stats.f.ppf(tail, df, n - 1)
        pooled = k * raters + (k * n - k - n) * error
        low = n * (between - f_low * error) / (f_low * pooled + n * between)
        high = n * (f_high * between - error) / (pooled + n * f_high * between)
        ends = (float(low), float(high))
    stepped = [math.nan if math.isnan(end) else k * end / (1 + (k - 1) * end) for end in ends]
    return Interval(single, *ends, n, method), Interval(average, stepped[0], stepped[1], n, method)


def krippendorff_alpha(table: ArrayLike) -> float:
    """Krippendorff's alpha with the interval metric: 1 is agreement, 0 is chance, below 0 is worse than chance.

    Parameters
    ----------
    table : shape (targets, raters), points; NaN where a rater gave none. Targets with fewer than two are left out.

    Returns
    -------
    alpha, or NaN where all scores are equal.

    Raises
    ------
    InputError : no target with two scores.

    Source: Krippendorff, Content Analysis, 2004, chapter 11; the equal mean of squared differences within and overall.
    """
    values = np.asarray(table, float)
    units = [row[np.isfinite(row)] for row in np.atleast_2d(values)]
    units = [unit for unit in units if len(unit) > 1]
    if not units:
        raise InputError("ratings", expected="a target with at least two scores", found="none")
    everything = np.concatenate(units)
    n = len(everything)
    # sum over ordered pairs of (x - y)^2 within m values is 2 m times their sum of squares
    within = sum(2 * len(unit) * float(((unit - unit.mean()) ** 2).sum()) / (len(unit) - 1) for unit in units) / n
    overall = 2 * n * float(((everything - everything.mean()) ** 2).sum()) / (n * (n - 1))
    return math.nan if overall < 1e-12 else 1 - within / overall


def kendall_w(table: ArrayLike) -> tuple[float, float]:
    """Kendall's coefficient of concordance with correction for ties, and its p by Friedman's chi-square.

    Parameters
    ----------
    table : shape (targets, raters), complete.

    Returns
    -------
    W in [0, 1] (NaN where a rater's ranks are all tied for every rater) and p.

    Raises
    ------
    InputError : fewer than two targets or raters, or a missing score.

    Source: Kendall and Babington Smith, Ann Math Stat 1939; ties: Siegel and Castellan 1988, equation 9.16.
    """
    values = np.round(_complete(table), 9)
    n, m = values.shape
    ranks = scipy.stats.rankdata(values, axis=0)
    spread = float(((ranks.sum(axis=1) - m * (n + 1) / 2) ** 2).sum())
    tied = sum(int((count**3 - count).sum()) for count in (np.unique(column, return_counts=True)[1] for column in values.T))
    possible = m**2 * (n**3 - n) - m * tied
    if possible <= 0:
        return math.nan, math.nan
    w = 12 * spread / possible
    return w, float(scipy.stats.chi2.sf(m * (n - 1) * w, n - 1))


def targets_by_raters(scores: pd.DataFrame) -> pd.DataFrame:
    """Return scores (columns tissue, group, rater, score) as a table of tissue and group x rater."""
    return scores.pivot(index=["tissue", "group"], columns="rater", values="score")


def agreement(scores: pd.DataFrame, *, n_boot: int = 1000, seed: int = 0) -> dict[str, Interval]:
    """Agreement of the raters on which tissue and group is better, by three coefficients.

    Parameters
    ----------
    scores : columns tissue, group, rater, score; each rater scored each tissue and group.
    n_boot, seed : of alpha's interval, which resamples targets (few: wide and rough).

    Returns
    -------
    By name: icc_single (ICC(2,1)), icc_mean (ICC(2,k)), alpha (Krippendorff's, interval metric), kendall_w (without
    interval: its ends equal its value).
    """
    table = targets_by_raters(scores).to_numpy(float)
    single, average = intraclass(table)
    alpha = bootstrap(krippendorff_alpha, table, n_boot=n_boot, seed=seed)
    w, p = kendall_w(table)
    return {
        "icc_single": single,
        "icc_mean": average,
        "alpha": alpha,
        "kendall_w": Interval(w, w, w, len(table), f"no interval; p = {p:.2g} against no concordance"),
    }
