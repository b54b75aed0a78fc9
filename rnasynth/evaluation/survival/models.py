"""One Cox model of one fold: factors, their number and the penalty chosen among the patients it is fitted on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rnasynth.evaluation.survival import cox
from rnasynth.evaluation.survival.data import Floats, SurvivalFold

FACTORS = (4, 8, 16)  # how many of the best-ranked factors a model may take
PENALTIES = (3.0, 0.3, 0.03)  # of the factors, a patient; the clinical covariates have the last one
INNER_FOLDS = 3
MODELS: dict[str, tuple[bool, str | None]] = {  # name -> (with the clinical covariates?, factors chosen from)
    "clinical": (True, None),
    "latent": (False, "latent"),
    "PCA": (False, "PCA"),
    "latent + clinical": (True, "latent"),
    "PCA + clinical": (True, "PCA"),
}


@dataclass(frozen=True, eq=False)
class FittedModel:
    """One model of one fold.

    Attributes
    ----------
    columns : the covariates taken, best factor first, after the clinical ones.
    coefficients : log hazard ratio a standard deviation of the fitting patients.
    penalties : of each coefficient.
    x : shape (n, columns), standardised, all patients of the fold.
    risk : shape (n,), log hazard against the tissue's baseline, all patients of the fold.
    """

    columns: list[str]
    coefficients: Floats
    penalties: Floats
    x: Floats
    risk: Floats


def fit_model(
    fold: SurvivalFold, model: str, *, seed: int = 0, ranked_on: NDArray[np.bool_] | None = None, factors: str | None = None
) -> FittedModel:
    """Fit one model on the patients of a fold that are not held out.

    Parameters
    ----------
    model : a key of `MODELS`.
    seed : of the inner folds.
    ranked_on : shape (n,), patients on whom factors are ranked. None: those of each inner or outer fit, as is right.
        All patients is the mistake that `controls` shows.
    factors : another block to choose from, such as "genes".

    Returns
    -------
    Number of factors and penalty maximise the cross-validated partial likelihood of inner folds (Verweij and van
    Houwelingen, Stat Med 1993). Factors are ranked by the score test of each alone, within tissue.
    """
    clinical, block = MODELS[model]
    block = factors if factors is not None else block
    fit = ~fold.test
    fixed, fixed_names = _standardised(fold, "clinical" if clinical else None, fit)
    pool, pool_names = _standardised(fold, block, fit)
    outer = cox.RiskSets(fold.months[fit], fold.event[fit], fold.tissue[fit])
    options = sorted({min(k, pool.shape[1]) for k in FACTORS}) if block is not None else [0]
    scores = np.zeros((len(options), len(PENALTIES)))
    given = None if ranked_on is None else _ranking(fold, pool, ranked_on)
    if block is not None and scores.size > 1:
        for held in _inner_folds(fold, fit, seed):
            inner = fit & ~held
            sets = cox.RiskSets(fold.months[inner], fold.event[inner], fold.tissue[inner])
            ranking = _ranking(fold, pool, inner) if given is None else given
            for row, k in enumerate(options):
                x = np.hstack([fixed, pool[:, ranking[:k]]])
                beta = None
                for column, penalty in enumerate(PENALTIES):
                    beta = cox.fit(x[inner], sets, _penalties(fixed, k, penalty), start=beta)
                    risk = x @ beta
                    scores[row, column] += cox.log_likelihood(risk[fit], outer) - cox.log_likelihood(risk[inner], sets)
    row, column = divmod(int(np.argmax(scores)), len(PENALTIES))
    k, penalty = options[row], PENALTIES[column]
    ranking = (_ranking(fold, pool, fit) if given is None else given)[:k]
    x = np.hstack([fixed, pool[:, ranking]])
    penalties = _penalties(fixed, k, penalty)
    beta = cox.fit(x[fit], outer, penalties)
    return FittedModel([*fixed_names, *(pool_names[i] for i in ranking)], beta, penalties, x, x @ beta)


def _standardised(fold: SurvivalFold, block: str | None, fit: NDArray[np.bool_]) -> tuple[Floats, list[str]]:
    """A block by mean and SD of the fitting patients, without columns that do not vary among them."""
    if block is None:
        return np.empty((len(fold.patients), 0)), []
    x = fold.blocks[block]
    mean, sd = x[fit].mean(axis=0), x[fit].std(axis=0)
    varies = sd > 1e-8
    return (x[:, varies] - mean[varies]) / sd[varies], [fold.columns[block][i] for i in np.flatnonzero(varies)]


def _ranking(fold: SurvivalFold, pool: Floats, rows: NDArray[np.bool_]) -> NDArray[np.intp]:
    if not pool.shape[1]:
        return np.empty(0, dtype=np.intp)
    tests = cox.score_tests(pool[rows], cox.RiskSets(fold.months[rows], fold.event[rows], fold.tissue[rows]))
    return np.argsort(-tests, kind="stable")


def _penalties(fixed: Floats, k: int, penalty: float) -> Floats:
    return np.r_[np.full(fixed.shape[1], PENALTIES[-1]), np.full(k, penalty)]


def _inner_folds(fold: SurvivalFold, fit: NDArray[np.bool_], seed: int) -> list[NDArray[np.bool_]]:
    """Thirds of the fitting patients, alike in tissue and deaths."""
    generator = np.random.default_rng([seed, 16])
    place = np.full(len(fit), -1)
    rows = np.flatnonzero(fit)
    rows = generator.permutation(rows)
    rows = rows[np.lexsort((fold.event[rows], fold.tissue[rows]))]
    place[rows] = np.arange(len(rows)) % INNER_FOLDS
    return [place == number for number in range(INNER_FOLDS)]
