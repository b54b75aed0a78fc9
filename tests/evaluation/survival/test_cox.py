"""The fast Cox model, its tests and concordance are held against lifelines; intervals cover."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter
from lifelines.statistics import logrank_test
from lifelines.utils import concordance_index

from rnasynth.errors import InputError
from rnasynth.evaluation.survival import cox


def patients(n: int = 200, p: int = 5, *, ties: bool = False, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Covariates of unit SD, months, events, strata; the first covariate has a log hazard ratio of 0.7."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p))
    died, seen = 20 * rng.exponential(np.exp(-0.7 * x[:, 0])), rng.exponential(30, size=n)
    months = np.minimum(died, seen)
    x = (x - x.mean(axis=0)) / x.std(axis=0, ddof=1)
    return (
        x,
        np.ceil(months) if ties else months,
        (died < seen).astype(float),
        np.array(list("abc"))[rng.integers(3, size=n)],
    )


def lifelines_fit(x: np.ndarray, months: np.ndarray, event: np.ndarray, strata: np.ndarray, penalty: object) -> CoxPHFitter:
    table = pd.DataFrame(x, columns=[f"x{i}" for i in range(x.shape[1])]).assign(m=months, e=event, s=strata)
    return CoxPHFitter(penalizer=penalty).fit(table, "m", "e", strata=["s"])


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("penalty", [1e-6, 0.3, np.array([0.01, 0.01, 1.0, 1.0, 5.0])])
def test_coefficients_are_those_of_lifelines(ties: bool, penalty: float | np.ndarray) -> None:
    x, months, event, strata = patients(ties=ties)
    beta = cox.fit(x, cox.RiskSets(months, event, strata), penalty)
    np.testing.assert_allclose(beta, lifelines_fit(x, months, event, strata, penalty).params_, atol=2e-4)


@pytest.mark.parametrize("ties", [False, True])
def test_likelihood_and_score_test_are_those_of_lifelines(ties: bool) -> None:
    x, months, event, strata = patients(n=1500, ties=ties)
    sets = cox.RiskSets(months, event, strata)
    found = lifelines_fit(x, months, event, strata, 0.0)
    assert cox.log_likelihood(x @ found.params_.to_numpy(), sets) == pytest.approx(found.log_likelihood_, rel=1e-6)
    alone = lifelines_fit(x[:, 2:3], months, event, strata, 0.0)
    assert cox.score_tests(x, sets)[2] == pytest.approx(alone.summary["z"].iloc[0] ** 2, rel=0.05)  # Wald's, near null


def test_order_of_the_patients_changes_nothing() -> None:
    x, months, event, strata = patients(ties=True)
    order = np.random.default_rng(1).permutation(len(x))
    sets, shuffled = cox.RiskSets(months, event, strata), cox.RiskSets(months[order], event[order], strata[order])
    np.testing.assert_allclose(cox.fit(x, sets, 0.1), cox.fit(x[order], shuffled, 0.1), atol=1e-6)
    np.testing.assert_allclose(cox.score_tests(x, sets), cox.score_tests(x[order], shuffled))


def test_a_shift_of_a_stratum_says_nothing_within_it() -> None:
    x, months, event, strata = patients()
    moved = x + 5.0 * (strata == "a")[:, None]
    sets = cox.RiskSets(months, event, strata)
    np.testing.assert_allclose(cox.score_tests(x, sets), cox.score_tests(moved, sets))
    constant = np.hstack([x, (strata == "a")[:, None].astype(float)])
    assert cox.score_tests(constant, sets)[-1] == 0
    assert cox.fit(constant, sets, 0.1)[-1] == pytest.approx(0, abs=1e-8)


def test_concordance_is_that_of_lifelines_with_ties_of_time_and_risk() -> None:
    x, months, event, _ = patients(ties=True)
    for risk in (x[:, 0], np.round(x[:, 0]), np.zeros(len(x))):
        mine = cox.Pairs(months, event, np.full(len(x), "all")).concordance(risk)
        assert mine == pytest.approx(concordance_index(months, -risk, event))


def test_concordance_never_compares_cells() -> None:
    x, months, event, strata = patients()
    cells = cox.Pairs(months, event, strata)
    wanted = [
        (concordance_index(months[here], -x[here, 0], event[here]), cox.Pairs(months[here], event[here], strata[here]).count)
        for here in (strata == name for name in "abc")
    ]
    values, counts = np.array(wanted).T
    assert cells.concordance(x[:, 0]) == pytest.approx((values * counts).sum() / counts.sum())
    moved = x[:, 0] + 100.0 * (strata == "b")  # a gain between tissues gains nothing
    assert cells.concordance(moved) == cells.concordance(x[:, 0])


def test_resamples_equal_the_slow_way_and_their_interval_covers() -> None:
    x, months, event, strata = patients(n=60)
    pairs = cox.Pairs(months, event, strata)
    fast = pairs.resampled({"a": x[:, 0], "b": x[:, 1]}, n_boot=3, seed=4)
    generator = np.random.default_rng(4)
    times = np.zeros((3, 60), dtype=int)
    for name in "abc":
        rows = np.flatnonzero(strata == name)
        times[:, rows] = generator.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=3)
    for draw in range(3):
        chosen = np.repeat(np.arange(60), times[draw])
        slow = cox.Pairs(months[chosen], event[chosen], strata[chosen]).concordance(x[chosen, 0])
        assert fast["a"][draw] == pytest.approx(slow)
    inside = 0
    for seed in range(60):  # noise: the truth is 0.5
        x, months, event, strata = patients(n=90, seed=seed + 10)
        pairs, risk = cox.Pairs(months, event, strata), x[:, 1]
        draws = pairs.resampled({"r": risk}, n_boot=200, seed=0)["r"]
        interval = cox.percentile_interval(pairs.concordance(risk), draws, 90, "")
        inside += interval.low <= 0.5 <= interval.high
    assert 51 <= inside <= 60


@pytest.mark.parametrize("ties", [False, True])
def test_log_rank_of_one_stratum_is_that_of_lifelines(ties: bool) -> None:
    x, months, event, _ = patients(ties=ties)
    high = x[:, 1] > 0
    wanted = logrank_test(months[high], months[~high], event[high], event[~high]).p_value
    assert cox.log_rank(high, months, event, np.full(len(x), "all")) == pytest.approx(wanted)


def test_stratified_log_rank_is_not_fooled_by_tissue() -> None:
    rng = np.random.default_rng(0)
    tissue = np.repeat(["fast", "slow"], 150)
    months = rng.exponential(np.where(tissue == "fast", 5.0, 50.0))
    high = rng.random(300) < np.where(tissue == "fast", 0.8, 0.2)  # the group follows the tissue, nothing else
    event = np.ones(300)
    assert cox.log_rank(high, months, event, tissue) > 0.01
    assert cox.log_rank(high, months, event, np.full(300, "all")) < 1e-6


def test_a_fit_takes_less_than_a_tenth_of_lifelines_time() -> None:
    x, months, event, strata = patients(n=400)
    sets = cox.RiskSets(months, event, strata)
    mine, theirs = [], []
    for _ in range(3):
        start = time.perf_counter()
        cox.fit(x, sets, 0.1)
        middle = time.perf_counter()
        lifelines_fit(x, months, event, strata, 0.1)
        mine.append(middle - start)
        theirs.append(time.perf_counter() - middle)
    assert min(mine) < 0.1 * min(theirs)


def test_bad_survival_is_refused() -> None:
    x, months, event, strata = patients(n=30)
    with pytest.raises(InputError, match="all patients censored"):
        cox.fit(x, cox.RiskSets(months, np.zeros(30), strata), 0.1)
    with pytest.raises(InputError, match="finite months"):
        cox.RiskSets(np.full(30, np.nan), event, strata)
    with pytest.raises(InputError):
        cox.RiskSets(months, event[:10], strata)
