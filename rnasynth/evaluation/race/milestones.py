"""Steps to a given quality: when does a training reach what another reaches at its end, and keep it?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from rnasynth.errors import InputError
from rnasynth.evaluation.keys import key_of
from rnasynth.evaluation.race.arms import GAN, NARROW, RNA
from rnasynth.evaluation.stats import Interval, mean_and_range

METRICS = {"frechet": "Frechet distance", "kernel": "kernel distance"}


def kept_from(steps: ArrayLike, values: ArrayLike, target: float) -> float:
    """Return the step from which all later values, its own included, are at or below `target`.

    Distances swing early in a training, so a value that is reached once and lost again does not count.

    Parameters
    ----------
    steps : rising, shape (n,), positive.
    values : distances at these steps; smaller is better.

    Returns
    -------
    The step, by a straight line between the last point above the target and the next one; the first step where none is
    above; infinity where the last one is.

    Raises
    ------
    InputError : no points, steps that do not rise, or values that are not finite.

    Examples
    --------
    >>> kept_from([10, 20, 30], [9.0, 5.0, 3.0], 4.0)
    25.0
    >>> kept_from([10, 20, 30], [1.0, 5.0, 6.0], 4.0)
    inf
    """
    at, found = np.asarray(steps, dtype=float), np.asarray(values, dtype=float)
    if not len(at) or at.shape != found.shape or (np.diff(at) <= 0).any() or not np.isfinite(found).all():
        raise InputError("steps to a quality", expected="rising steps and a finite value each", found=f"{at}, {found}")
    above = np.flatnonzero(found > target)
    if not len(above):
        return float(at[0])
    last = int(above[-1])
    if last == len(at) - 1:
        return math.inf
    share = (found[last] - target) / (found[last] - found[last + 1])
    return float(at[last] + share * (at[last + 1] - at[last]))


@dataclass(frozen=True, eq=False)
class RaceReport:
    """What the curves say.

    Attributes
    ----------
    curves : rows arm, seed, step, frechet, kernel.
    numbers, labels : at the end "frechet_ARM", "kernel_ARM"; "steps_ARM" to the plain GAN's quality; "steps_ratio" of
        RNA-GAN over the plain GAN; "gap_ARM": its Frechet distance minus the plain GAN's, at the end. Mean and range over
        seeds.
    not_reached : arm -> seeds in which it did not reach the plain GAN's quality; these count with the whole length.
    floor : Frechet and kernel distance of real tiles of others.
    by_length : last step -> the ratio, had the race been stopped there; "steps_ratio_any_length" has the range of all.
    """

    curves: pd.DataFrame
    numbers: dict[str, Interval]
    labels: dict[str, str]
    not_reached: dict[str, list[int]]
    floor: tuple[Interval, Interval]
    by_length: dict[int, Interval]

    def lines(self, metric: str) -> pd.DataFrame:
        """Return arm, step, value, low, high (mean and range over seeds) of "frechet" or "kernel"."""
        table = self.curves.groupby(["arm", "step"], sort=False)[metric].agg(["mean", "min", "max"]).reset_index()
        return table.set_axis(["arm", "step", "value", "low", "high"], axis=1)

    def panels(self) -> dict[str, pd.DataFrame]:
        """Return the lines of both metrics by the name of their axis."""
        return {words: self.lines(metric) for metric, words in METRICS.items()}

    def floors(self) -> dict[str, float]:
        """Return where the floor lies, by the same names."""
        return {words: floor.value for words, floor in zip(METRICS.values(), self.floor, strict=True)}

    def ahead(self, arm: str = RNA) -> str:
        """Return "fewer", "more" or "undecided": the steps that an arm needs, by the range of the ratio over seeds.

        An arm that gets there in no seed needs more, whatever the ratio: it is at most the whole length's.
        """
        ratio = self.numbers["steps_ratio" if arm == RNA else f"steps_ratio_{key_of(arm)}"]
        never = len(self.not_reached[arm]) == ratio.n
        return "fewer" if ratio.high < 1 else "more" if never or ratio.low > 1 else "undecided"

    def summary(self) -> str:
        """Say who needed how many steps, and where each ended; the race must have an RNA-GAN."""
        n = self.numbers["steps_ratio"].n
        steps, ratio = {arm: self.numbers[f"steps_{key_of(arm)}"] for arm in (GAN, RNA)}, self.numbers["steps_ratio"]
        words = {
            "fewer": f"in all {n} seeds RNA-GAN needs fewer steps",
            "more": f"in all {n} seeds RNA-GAN needs more steps, or does not get there",
            "undecided": f"over {n} seeds it is undecided whether RNA-GAN needs fewer steps",
        }[self.ahead()]
        said = [
            f"For the quality at which the plain GAN ends, {words}: {steps[RNA].value:.0f} on average against"
            f" {steps[GAN].value:.0f}, ratio {ratio}."
        ]
        stops = ", ".join(f"{found.value:.2g} at {step}" for step, found in self.by_length.items())
        said.append(f"Had the race been stopped elsewhere, the ratio would be: {stops}.")
        for arm, seeds in self.not_reached.items():
            if seeds:
                said.append(f"{arm} did not reach and keep it in {len(seeds)} of {n} seeds (counted as the whole length).")
        for arm in (NARROW, RNA):
            if (key := f"gap_{key_of(arm)}") in self.numbers:
                gap = self.numbers[key]
                where = "better" if gap.high < 0 else "worse" if gap.low > 0 else "neither better nor worse in every seed"
                said.append(f"At the end {arm} is {where} than the plain GAN (Frechet distance minus its: {gap}).")
        floor = self.floor[0].value
        ends = min(self.numbers[f"frechet_{key_of(arm)}"].value for arm in self.curves["arm"].unique())
        said.append(f"The best arm ends at {ends / max(floor, 1e-12):.0f} times the distance of real tiles of others.")
        return " ".join(said)


def report(curves: pd.DataFrame, floor: tuple[Interval, Interval]) -> RaceReport:
    """Compare the arms, seed by seed: each with the plain GAN of its own seed.

    The target of a seed is the plain GAN's Frechet distance at its last step; the plain GAN's own steps are counted by the
    same rule, so a GAN that had long been there is not called slow. Whoever does not reach it counts with the whole length,
    which flatters it.

    Raises
    ------
    InputError : no plain GAN, or arms of other seeds or steps.
    """
    arms = list(dict.fromkeys(curves["arm"]))
    seeds, steps = sorted(set(curves["seed"])), sorted(set(curves["step"]))
    if GAN not in arms or len(curves) != len(arms) * len(seeds) * len(steps):
        raise InputError("race", expected=f"{GAN} and others, all at the same seeds and steps", found=f"{arms}")
    pages = {arm: _table(curves, arm) for arm in arms}
    needed, missed = _needed(pages)
    by_length = {}
    for count in range(2, len(steps) + 1) if RNA in arms else ():
        shorter, _ = _needed({arm: page.iloc[:, :count] for arm, page in pages.items()})
        by_length[int(steps[count - 1])] = over_seeds(np.array(shorter[RNA]) / np.array(shorter[GAN]))
    numbers, labels = {}, {}
    for arm in arms:
        key = key_of(arm)
        for metric, words in METRICS.items():
            last = curves[(curves["arm"] == arm) & (curves["step"] == steps[-1])]
            numbers[f"{metric}_{key}"] = over_seeds(last[metric])
            labels[f"{metric}_{key}"] = f"{words} to held-out tiles at the last step, {arm}"
        numbers[f"steps_{key}"] = over_seeds(needed[arm])
        labels[f"steps_{key}"] = f"steps to the plain GAN's last quality, {arm}"
        if arm != GAN:
            name = "steps_ratio" if arm == RNA else f"steps_ratio_{key}"
            numbers[name] = over_seeds(np.array(needed[arm]) / np.array(needed[GAN]))
            labels[name] = f"those steps of {arm} over those of the plain GAN, by seed"
            numbers[f"gap_{key}"] = over_seeds(pages[arm].iloc[:, -1] - pages[GAN].iloc[:, -1])
            labels[f"gap_{key}"] = f"Frechet distance of {arm} minus that of the plain GAN, by seed, at the last step"
    if by_length:
        ends = [end for interval in by_length.values() for end in (interval.low, interval.high)]
        words = f"range over {len(seeds)} seeds and {len(by_length)} lengths of the race"
        numbers["steps_ratio_any_length"] = Interval(numbers["steps_ratio"].value, min(ends), max(ends), len(seeds), words)
        labels["steps_ratio_any_length"] = f"steps of {RNA} over those of the plain GAN, wherever the race is stopped"
    return RaceReport(curves, numbers, labels, missed, floor, by_length)


def over_seeds(values: ArrayLike) -> Interval:
    """Return the mean and range of one value a seed."""
    return mean_and_range(values, f"{len(np.asarray(values))} seeds")


def _needed(pages: dict[str, pd.DataFrame]) -> tuple[dict[str, list[float]], dict[str, list[int]]]:
    """Steps of every arm to the plain GAN's last quality, by seed, and the seeds in which it is not kept."""
    needed: dict[str, list[float]] = {arm: [] for arm in pages}
    missed: dict[str, list[int]] = {arm: [] for arm in pages}
    steps = pages[GAN].columns.to_numpy(float)
    for row, seed in enumerate(pages[GAN].index.tolist()):
        target = pages[GAN].to_numpy(float)[row, -1]
        for arm, page in pages.items():
            found = kept_from(steps, page.to_numpy(float)[row], target)
            needed[arm].append(min(found, float(steps[-1])))
            missed[arm] += [int(seed)] if math.isinf(found) else []
    return needed, missed


def _table(curves: pd.DataFrame, arm: str) -> pd.DataFrame:
    """Frechet distances of an arm: rows seeds, columns steps."""
    return curves[curves["arm"] == arm].pivot(index="seed", columns="step", values="frechet").sort_index()
