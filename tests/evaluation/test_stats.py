"""Intervals cover what they say, count patients and not rows, and tests keep their level."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from rnasynth.errors import InputError
from rnasynth.evaluation.stats import (
    Interval,
    binomial_interval,
    bootstrap,
    groups_if_enough,
    mean_of_known,
    permutation_p,
    resampling_units,
    spearman,
    spearman_interval,
)

CLUSTERED_PATIENTS, CLUSTERED_TILES = 30, 20


def clustered(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Tiles of a patient share the patient's mean: variance 1 between, 0.04 within."""
    generator = np.random.default_rng(seed)
    groups = np.repeat([f"P{number:02d}" for number in range(CLUSTERED_PATIENTS)], CLUSTERED_TILES)
    values = np.repeat(generator.normal(size=CLUSTERED_PATIENTS), CLUSTERED_TILES)
    return values + 0.2 * generator.normal(size=values.size), groups


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_interval_of_a_normal_mean_covers_at_its_level(method: str) -> None:
    generator = np.random.default_rng(10)
    covered = 0
    for seed in range(200):
        interval = bootstrap(np.mean, generator.normal(3.0, 2.0, size=60), n_boot=200, seed=seed, method=method)
        covered += interval.low <= 3.0 <= interval.high
    assert 0.89 <= covered / 200 <= 0.99


def test_bootstrap_agrees_with_the_normal_interval() -> None:
    values = np.random.default_rng(0).normal(size=500)
    interval = bootstrap(np.mean, values, n_boot=4000)
    low, high = scipy.stats.norm.interval(0.95, values.mean(), values.std() / math.sqrt(values.size))
    assert abs(interval.low - low) < 0.01 and abs(interval.high - high) < 0.01 and interval.n == 500


def test_patient_interval_covers_and_the_naive_one_does_not() -> None:
    by_patient = by_tile = 0
    for seed in range(60):
        values, groups = clustered(seed)
        grouped = bootstrap(np.mean, values, groups=groups, n_boot=200, seed=seed)
        naive = bootstrap(np.mean, values, n_boot=200, seed=seed)  # the broken variant: tiles as if independent
        assert grouped.high - grouped.low > 2.5 * (naive.high - naive.low)
        by_patient += grouped.low <= 0 <= grouped.high
        by_tile += naive.low <= 0 <= naive.high
    assert by_patient >= 51 and by_tile <= 36


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30), st.floats(-100, 100))
def test_interval_of_a_mean_moves_with_the_data(values: list[float], shift: float) -> None:
    one, two = (bootstrap(np.mean, np.array(values) + add, n_boot=50) for add in (0.0, shift))
    assert two.low == pytest.approx(one.low + shift, abs=1e-6) and two.high == pytest.approx(one.high + shift, abs=1e-6)
    assert one.low <= one.high


def test_groups_of_one_row_equal_no_groups() -> None:
    values = np.random.default_rng(1).normal(size=40)
    assert bootstrap(np.mean, values).low == bootstrap(np.mean, values, groups=[f"{row:03d}" for row in range(40)]).low


def test_order_and_names_of_the_rows_do_not_matter_to_the_value() -> None:
    values, groups = clustered(3)
    order = np.random.default_rng(0).permutation(values.size)
    one, two = bootstrap(np.mean, values, groups=groups), bootstrap(np.mean, values[order], groups=groups[order])
    assert one.value == pytest.approx(two.value) and one.n == two.n == CLUSTERED_PATIENTS


def test_one_patient_has_no_interval_and_json_has_no_nan() -> None:
    interval = bootstrap(np.mean, [1.0, 2.0, 3.0], groups=["a", "a", "a"])
    assert interval.n == 1 and math.isnan(interval.low)
    assert json.loads(json.dumps(interval.to_dict(), allow_nan=False))["low"] is None


def test_degenerate_bca_falls_back_and_says_so() -> None:
    interval = bootstrap(np.mean, np.ones(10), method="bca", n_boot=50)
    assert interval.low == interval.high == 1 and "degenerate" in interval.method


def test_permutation_p_is_uniform_without_and_small_with_a_relation() -> None:
    generator = np.random.default_rng(5)
    null = [
        permutation_p(spearman, generator.normal(size=15), generator.normal(size=15), n_permutations=99, seed=seed)
        for seed in range(100)
    ]
    assert np.mean(np.array(null) <= 0.1) < 0.2 and 0.4 < np.mean(null) < 0.6
    x = generator.normal(size=30)
    assert permutation_p(spearman, x, x + 0.1 * generator.normal(size=30), n_permutations=199) == 1 / 200


def test_permutation_within_tissue_does_not_credit_the_tissue() -> None:
    generator = np.random.default_rng(2)
    tissue = np.repeat(["lung", "brain"], 40)
    level = np.where(tissue == "lung", 5.0, 0.0)
    x, y = level + generator.normal(size=80), level + generator.normal(size=80)
    assert permutation_p(spearman, x, y, n_permutations=199) <= 0.01
    assert permutation_p(spearman, x, y, within=tissue, n_permutations=199) > 0.05


@pytest.mark.parametrize("ties", [False, True])
def test_spearman_equals_scipy(ties: bool) -> None:
    generator = np.random.default_rng(9)
    x, y = generator.normal(size=(2, 50))
    x = np.round(x) if ties else x
    assert spearman(x, y) == pytest.approx(scipy.stats.spearmanr(x, y).statistic)
    interval = spearman_interval(x, y, n_boot=200)
    assert interval.low < interval.value < interval.high
    assert math.isnan(spearman(np.ones(50), y))


def test_wilson_interval_closed_form_and_range() -> None:
    z = scipy.stats.norm.ppf(0.975)
    interval = binomial_interval(7, 20)
    centre = (7 + z**2 / 2) / (20 + z**2)
    assert (interval.low + interval.high) / 2 == pytest.approx(centre)
    assert binomial_interval(0, 10).low == 0 and binomial_interval(10, 10).high == pytest.approx(1)
    assert isinstance(interval, Interval) and interval.value == 0.35


@pytest.mark.parametrize("successes, n", [(3, 2), (-1, 5), (0, 0)])
def test_impossible_share_is_an_error(successes: int, n: int) -> None:
    with pytest.raises(InputError):
        binomial_interval(successes, n)


def test_lengths_that_differ_are_an_error() -> None:
    with pytest.raises(InputError, match="one length"):
        bootstrap(np.mean, [1.0, 2.0], groups=["a"])
    with pytest.raises(InputError):
        bootstrap(np.mean, [])


def test_one_held_out_group_is_resampled_by_its_samples_and_says_so() -> None:
    several, unit = resampling_units(["a", "a", "b"])
    assert list(several) == ["a", "a", "b"] and unit == "split groups"
    one, unit = resampling_units(["a", "a", "a"])
    assert len(set(one)) == 3 and unit == "samples of one split group"


def test_rows_are_resampled_where_groups_are_fewer_than_three() -> None:
    assert groups_if_enough(["a", "b", "b"]) is None
    assert np.asarray(groups_if_enough([1, 2, 3])).tolist() == ["1", "2", "3"]


def test_values_that_are_not_known_are_left_out_of_a_mean() -> None:
    assert mean_of_known([1.0, math.nan, 3.0]) == 2.0 and math.isnan(mean_of_known([math.nan]))
