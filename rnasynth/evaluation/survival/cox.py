"""Cox's model with a ridge penalty and a baseline hazard a stratum, and concordance: fast enough for nested grids.

A page fits thousands of small models (folds x factors x penalties x shuffled outcomes). Here a fit is a few cumulative
sums; the tests hold coefficients, score tests and concordance against lifelines, which the final checks of a page use.

Source: Cox, J R Stat Soc B 1972; ties after Efron, JASA 1977; penalty as `lifelines.CoxPHFitter(penalizer=...)`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike, NDArray

from rnasynth.errors import InputError
from rnasynth.evaluation.stats import Interval

Floats = NDArray[np.float64]
MAX_STEPS = 50
TOLERANCE = 1e-7  # of the objective a patient, between two Newton steps
COLUMNS_AT_A_TIME = 256


class RiskSets:
    """Who was at risk at each death, within each stratum; made once for the same patients, used by every fit on them.

    Parameters
    ----------
    months : shape (n,), time to death or last contact.
    event : shape (n,), 1 died, 0 censored.
    strata : shape (n,), each with a baseline hazard of its own.

    Attributes
    ----------
    order : shape (n,), by stratum, latest first; whatever follows is in this order.
    deaths : shape (d,), places of those who died.

    Raises
    ------
    InputError : no patients, other lengths, or months that are not finite.
    """

    def __init__(self, months: ArrayLike, event: ArrayLike, strata: ArrayLike) -> None:
        months, event, names = np.asarray(months, np.float64), np.asarray(event, np.float64), np.asarray(strata).astype(str)
        if not (len(months) == len(event) == len(names) > 0 and np.isfinite(months).all()):
            raise InputError(
                "survival", expected="finite months, events and strata of one length", found=f"{len(months)} rows"
            )
        codes = np.unique(names, return_inverse=True)[1]
        self.order = np.lexsort((-months, codes))
        months, event, codes = months[self.order], event[self.order], codes[self.order]
        new_stratum = np.r_[True, codes[1:] != codes[:-1]]
        new_time = new_stratum | np.r_[True, months[1:] != months[:-1]]
        self.deaths = np.flatnonzero(event == 1)
        self._tie_start, after_tie = _run_ends(new_time)
        stratum_start, self._after_stratum = _run_ends(new_stratum)
        self._from, self._to = stratum_start[self.deaths], after_tie[self.deaths]
        ties = self._tie_start[self.deaths]
        self._starts = np.flatnonzero(np.r_[True, ties[1:] != ties[:-1]][: len(ties)])
        sizes = np.diff(np.r_[self._starts, len(ties)])
        self._group = np.repeat(np.arange(len(sizes)), sizes)
        self._share = (np.arange(len(ties)) - self._starts[self._group]) / sizes[self._group]  # Efron's l / d

    @cached_property
    def has_ties(self) -> bool:
        """Whether two patients of a stratum died at the same time."""
        return bool((self._share > 0).any())

    def at_risk(self, values: Floats) -> Floats:
        """Sum of `values` (n, ...), in the order of `order`, over who is at risk at each death, Efron's share taken off."""
        total = np.concatenate([np.zeros((1, *values.shape[1:])), np.cumsum(values, axis=0)])
        sums = total[self._to] - total[self._from]
        if self.has_ties:
            tied = np.add.reduceat(values[self.deaths], self._starts, axis=0)[self._group]
            sums -= self._share.reshape(-1, *[1] * (values.ndim - 1)) * tied
        return sums

    def exposure(self, below: Floats) -> Floats:
        """Shape (n,): sum over the deaths that a patient was at risk for of 1 / `below`, Efron's share taken off."""
        at_death = np.zeros(len(self.order))
        at_death[self.deaths] = 1 / below
        total = np.r_[0.0, np.cumsum(at_death)]
        exposure = total[self._after_stratum] - total[self._tie_start]
        if self.has_ties:
            exposure[self.deaths] -= np.add.reduceat(self._share / below, self._starts)[self._group]
        return exposure


def _run_ends(new: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First place of each row's run, and the place after its last; `new` marks where a run begins."""
    begins = np.flatnonzero(new)
    run = np.cumsum(new) - 1
    return begins[run], np.r_[begins[1:], len(new)][run]


def log_likelihood(risk: ArrayLike, sets: RiskSets) -> float:
    """Log partial likelihood of log hazards, shape (n,), in the order in which the patients were given."""
    eta = np.asarray(risk, dtype=np.float64)[sets.order]
    eta = eta - eta.max()
    return float(eta[sets.deaths].sum() - np.log(sets.at_risk(np.exp(eta))).sum())


def fit(x: Floats, sets: RiskSets, penalty: float | Floats, *, start: Floats | None = None) -> Floats:
    """Coefficients that maximise log partial likelihood / n - sum(penalty * coefficient^2) / 2, by Newton's method.

    Parameters
    ----------
    x : shape (n, p), standardised.
    penalty : one number, or one a column; more than 0 where columns may be collinear.
    start : shape (p,), where to begin; zeros by default.

    Returns
    -------
    Shape (p,), log hazard ratio a unit of `x`.

    Raises
    ------
    InputError : nobody died.
    """
    if not len(sets.deaths):
        raise InputError("Cox model", expected="at least one death", found="all patients censored")
    n, p = x.shape
    x = x[sets.order]
    weight = np.broadcast_to(np.asarray(penalty, dtype=np.float64), (p,))
    beta = np.zeros(p) if start is None else start.copy()
    value, eta = _objective(x, sets, weight, beta)
    died = x[sets.deaths].sum(axis=0)
    for _ in range(MAX_STEPS):
        hazard = np.exp(eta)
        below = sets.at_risk(hazard)
        mean = sets.at_risk(hazard[:, None] * x) / below[:, None]
        gradient = (died - mean.sum(axis=0)) / n - weight * beta
        information = (x.T * (hazard * sets.exposure(below))) @ x - mean.T @ mean
        step = np.linalg.solve(information / n + np.diag(weight + 1e-10), gradient)
        for _ in range(30):
            trial, eta_trial = _objective(x, sets, weight, beta + step)
            if trial >= value:
                break
            step = step / 2
        else:
            return beta
        gained, value, eta, beta = trial - value, trial, eta_trial, beta + step
        if gained < TOLERANCE:
            return beta
    return beta


def _objective(x: Floats, sets: RiskSets, weight: Floats, beta: Floats) -> tuple[float, Floats]:
    eta = x @ beta
    eta -= eta.max()
    value = float(eta[sets.deaths].sum() - np.log(sets.at_risk(np.exp(eta))).sum())
    return value / len(x) - float(weight @ beta**2) / 2, eta


def score_tests(x: Floats, sets: RiskSets) -> Floats:
    """Chi-square (one degree of freedom) of the score test of each column alone, shape (p,); 0 for a constant column."""
    out = np.zeros(x.shape[1])
    below = sets.at_risk(np.ones(len(x)))
    exposure = sets.exposure(below)
    residual = -exposure
    residual[sets.deaths] += 1
    for begin in range(0, x.shape[1], COLUMNS_AT_A_TIME):
        part = x[sets.order, begin : begin + COLUMNS_AT_A_TIME]
        score = residual @ part
        variance = exposure @ part**2 - np.square(sets.at_risk(part) / below[:, None]).sum(axis=0)
        known = variance > 1e-9
        out[begin : begin + COLUMNS_AT_A_TIME][known] = score[known] ** 2 / variance[known]
    return out


def log_rank(high: NDArray[np.bool_], months: Floats, event: Floats, strata: ArrayLike) -> float:
    """P value of the log-rank test of two groups, stratified: deaths observed less expected are added up over strata.

    Parameters
    ----------
    high : shape (n,), in the first group.
    months, event, strata : shape (n,).

    Returns
    -------
    Two-sided p (chi-square, one degree of freedom; hypergeometric variance); NaN where no death could tell them apart.

    Source: Mantel, Cancer Chemother Rep 1966. With one stratum it is `lifelines.statistics.logrank_test`.
    """
    observed_less_expected = variance = 0.0
    names = np.asarray(strata).astype(str)
    for name in np.unique(names):
        here = names == name
        times = np.unique(months[here & (event == 1)])
        later = months[here][None, :] >= times[:, None]
        dying = (months[here][None, :] == times[:, None]) & (event[here] == 1)[None, :]
        n, n_high = later.sum(axis=1), (later & high[here]).sum(axis=1)
        d, d_high = dying.sum(axis=1), (dying & high[here]).sum(axis=1)
        observed_less_expected += float((d_high - d * n_high / n).sum())
        variance += float((d * (n_high / n) * (1 - n_high / n) * (n - d) / np.maximum(n - 1, 1)).sum())
    return float(scipy.stats.chi2.sf(observed_less_expected**2 / variance, 1)) if variance > 0 else math.nan


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of patients whose order of death is known, inside cells (fold and tissue) only.

    Parameters
    ----------
    months, event : shape (n,).
    cells : shape (n,); patients of different cells are never compared.
    """

    months: Floats
    event: Floats
    cells: NDArray[np.str_]

    @cached_property
    def blocks(self) -> list[tuple[NDArray[np.intp], NDArray[np.float64]]]:
        """Per cell: rows, and matrix [i, j] = 1 where i died first (a death comes before a last contact on the same day)."""
        found = []
        for cell in np.unique(self.cells):
            rows = np.flatnonzero(self.cells == cell)
            months, died = self.months[rows], self.event[rows] == 1
            first = months[:, None] < months[None, :]
            same = (months[:, None] == months[None, :]) & ~died[None, :]
            known = (died[:, None] & (first | same)).astype(np.float64)
            if known.any():
                found.append((rows, known))
        return found

    @cached_property
    def count(self) -> int:
        """Number of comparable pairs."""
        return int(sum(known.sum() for _, known in self.blocks))

    def concordant(self, risk: Floats) -> list[Floats]:
        """Per cell: 1 where the comparable pair is in order (who died first had the higher risk), 0.5 at equal risk."""
        return [
            known * ((risk[rows][:, None] > risk[rows][None, :]) + 0.5 * (risk[rows][:, None] == risk[rows][None, :]))
            for rows, known in self.blocks
        ]

    def concordance(self, risk: Floats) -> float:
        """Share of the comparable pairs that are in order, pooled over cells; NaN where there is no such pair.

        Source: Harrell et al., JAMA 1982; in one cell it equals `lifelines.utils.concordance_index`.
        """
        return float(sum(part.sum() for part in self.concordant(risk)) / self.count) if self.count else math.nan

    def resampled(
        self, risks: dict[str, Floats], *, n_boot: int, seed: int, within: ArrayLike | None = None
    ) -> dict[str, Floats]:
        """Concordance of several risks on the same resamples of the patients.

        Parameters
        ----------
        risks : name -> shape (n,).
        within : shape (n,); patients are drawn with replacement within these groups. None: within their cells.

        Returns
        -------
        Name -> shape (n_boot,).
        """
        generator = np.random.default_rng(seed)
        groups = np.asarray(self.cells if within is None else within).astype(str)
        drawn = np.zeros((n_boot, len(groups)))
        for group in np.unique(groups):
            rows = np.flatnonzero(groups == group)
            drawn[:, rows] = generator.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=n_boot)
        top = {name: np.zeros(n_boot) for name in risks}
        below = np.zeros(n_boot)
        in_order = {name: self.concordant(risk) for name, risk in risks.items()}
        for number, (rows, known) in enumerate(self.blocks):
            times = drawn[:, rows]
            below += np.einsum("bi,bi->b", times @ known, times)
            for name in risks:
                top[name] += np.einsum("bi,bi->b", times @ in_order[name][number], times)
        with np.errstate(invalid="ignore", divide="ignore"):
            return {name: values / below for name, values in top.items()}


def percentile_interval(value: float, draws: Floats, n: int, method: str, level: float = 0.95) -> Interval:
    """Interval from resampled values; the ends are NaN where most of them are not finite."""
    draws = draws[np.isfinite(draws)]
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2]) if len(draws) > 1 else (math.nan, math.nan)
    return Interval(float(value), float(low), float(high), n, method)
