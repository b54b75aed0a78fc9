"""Steps to a quality: reached and kept, seed by seed against the plain GAN."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnasynth.errors import InputError
from rnasynth.evaluation.race.arms import GAN, NARROW, RNA
from rnasynth.evaluation.race.milestones import kept_from, over_seeds, report
from rnasynth.evaluation.stats import Interval

STEPS = [40, 80, 120, 160, 200, 240]
FLOOR = Interval(2.0, 1.9, 2.1, 3, "draws")


def exponential(half_life: float, *, start: float = 100.0, end: float = 4.0) -> list[float]:
    return [end + (start - end) * 0.5 ** (step / half_life) for step in STEPS]


def curves(values: dict[str, list[list[float]]]) -> pd.DataFrame:
    """Arm -> a list of distances a seed."""
    return pd.DataFrame(
        [
            {"arm": arm, "seed": seed, "step": step, "frechet": value, "kernel": value / 10}
            for arm, several in values.items()
            for seed, found in enumerate(several)
            for step, value in zip(STEPS, found, strict=True)
        ]
    )


def test_a_falling_line_is_crossed_where_it_should_be() -> None:
    values = [240.0 - step for step in STEPS]
    assert kept_from(STEPS, values, 100.0) == pytest.approx(140.0)
    assert kept_from(STEPS, values, 0.0) == 240.0
    assert kept_from(STEPS, values, 1000.0) == 40.0
    assert kept_from(STEPS, values, -1.0) == math.inf


def test_a_quality_that_is_lost_again_does_not_count() -> None:
    swings = [50.0, 5.0, 60.0, 40.0, 8.0, 6.0]
    found = kept_from(STEPS, swings, 10.0)
    assert 160 < found < 200
    first = next(step for step, value in zip(STEPS, swings, strict=True) if value <= 10.0)  # the broken variant
    assert first == 80


@given(st.lists(st.floats(0, 100), min_size=6, max_size=6), st.floats(0, 100), st.floats(0, 100))
def test_a_harder_target_never_needs_fewer_steps(values: list[float], one: float, other: float) -> None:
    low, high = min(one, other), max(one, other)
    assert kept_from(STEPS, values, low) >= kept_from(STEPS, values, high) - 1e-9


@pytest.mark.parametrize("values", [[], [1.0], [math.nan] * 6])
def test_missing_or_unknown_values_are_errors(values: list[float]) -> None:
    with pytest.raises(InputError):
        kept_from(STEPS[: len(values)] if len(values) != 1 else STEPS, values, 1.0)
    with pytest.raises(InputError):
        kept_from([2, 1], [1.0, 1.0], 1.0)


def test_twice_as_fast_is_half_the_steps_in_every_seed() -> None:
    slow = [exponential(100.0, start=start) for start in (90.0, 100.0, 130.0)]
    fast = [exponential(50.0, start=start) for start in (90.0, 100.0, 130.0)]
    found = report(curves({GAN: slow, RNA: fast}), (FLOOR, FLOOR))
    ratio = found.numbers["steps_ratio"]
    assert (ratio.low, ratio.high) == pytest.approx((0.5, 0.5), abs=0.02)
    assert found.ahead() == "fewer" and found.numbers["gap_rna_gan"].high < 0
    assert found.not_reached == {GAN: [], RNA: []}
    assert "in all 3 seeds RNA-GAN needs fewer steps" in found.summary()


def test_equal_arms_are_not_called_different() -> None:
    same = [exponential(80.0 + 10 * seed) for seed in range(3)]
    found = report(curves({GAN: same, NARROW: same, RNA: same}), (FLOOR, FLOOR))
    assert found.numbers["steps_ratio"].value == 1.0 and found.ahead() == "undecided"
    assert "neither better nor worse" in found.summary()


def test_an_arm_that_never_gets_there_is_named_and_counts_with_the_whole_length() -> None:
    found = report(curves({GAN: [exponential(60.0)] * 3, RNA: [exponential(300.0)] * 3}), (FLOOR, FLOOR))
    assert found.not_reached[RNA] == [0, 1, 2] and found.numbers["steps_rna_gan"].value == 240.0
    assert "did not reach and keep it in 3 of 3 seeds" in found.summary() and found.ahead() == "more"


def test_seeds_are_compared_with_their_own_gan() -> None:
    # RNA-GAN is faster in each seed, but a seed is much harder than the other: pooled targets would hide it
    slow, fast = [exponential(60.0), exponential(200.0, end=40.0)], [exponential(40.0), exponential(120.0, end=40.0)]
    found = report(curves({GAN: slow, RNA: fast}), (FLOOR, FLOOR))
    assert found.ahead() == "fewer"
    swapped = report(curves({GAN: slow, RNA: fast[::-1]}), (FLOOR, FLOOR))  # the broken variant: seeds mixed up
    assert swapped.ahead() != "fewer"


def test_the_gan_is_counted_by_the_same_rule() -> None:
    early = [[20.0, 4.0, 4.0, 4.0, 4.0, 4.0]] * 3  # there at step 80 already: not to be called slow
    found = report(curves({GAN: early, RNA: early}), (FLOOR, FLOOR))
    assert found.numbers["steps_gan"].value == 80.0


def test_lines_are_mean_and_range_of_seeds() -> None:
    table = curves({GAN: [[1.0] * 6, [3.0] * 6, [8.0] * 6], RNA: [[1.0] * 6] * 3})
    found = report(table, (FLOOR, FLOOR))
    row = found.lines("frechet").iloc[0]
    assert (row["value"], row["low"], row["high"]) == (4.0, 1.0, 8.0)
    assert over_seeds([1.0, 3.0, 8.0]).n == 3


def test_other_seeds_or_no_gan_are_errors() -> None:
    table = curves({GAN: [[1.0] * 6] * 3, RNA: [[1.0] * 6] * 3})
    for broken in (table[table["arm"] != GAN], table[~((table["arm"] == RNA) & (table["seed"] == 2))]):
        with pytest.raises(InputError):
            report(broken, (FLOOR, FLOOR))
    assert np.isfinite(report(table, (FLOOR, FLOOR)).numbers["steps_ratio"].value)


def test_an_answer_that_depends_on_where_the_race_stops_is_shown_to_do_so() -> None:
    slow_start = [[90.0, 80.0, 60.0, 10.0, 9.0, 8.0]] * 3
    steady = [[70.0, 60.0, 50.0, 40.0, 30.0, 20.0]] * 3
    found = report(curves({GAN: slow_start, RNA: steady}), (FLOOR, FLOOR))
    assert list(found.by_length) == STEPS[1:]
    assert found.by_length[120].high < 1 <= found.by_length[240].low  # not reached counts with the whole length: 1
    whole = found.numbers["steps_ratio_any_length"]
    assert whole.low < 1 <= whole.high and whole.value == found.numbers["steps_ratio"].value
    fair = report(curves({GAN: steady, RNA: [[v - 15 for v in values] for values in steady]}), (FLOOR, FLOOR))
    assert fair.numbers["steps_ratio_any_length"].high < 1
