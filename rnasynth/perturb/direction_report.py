"""Movements along directions of the latent: from differences to slopes with intervals, their controls, and words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnasynth.evaluation.stats import Interval, bootstrap, resampling_units, spearman

Differences = dict[float, NDArray[np.float64]]  # step -> reading of each sample's tiles less that of its unmoved ones
FITTED, OTHERS, TRUTH = "along the direction", "other directions (range)", "simulator's own tiles"


@dataclass(frozen=True, eq=False)
class Controls:
    """Of held-out samples, each less its tissue's mean, shape (n,): the fraction and what is read of it.

    Attributes
    ----------
    fraction : as known.
    from_inputs : by the regression from what the generator is told.
    from_tiles : by the reader from real tiles.
    groups : split groups.
    """

    fraction: NDArray[np.float64]
    from_inputs: NDArray[np.float64]
    from_tiles: NDArray[np.float64]
    groups: NDArray[np.str_]


@dataclass(frozen=True, eq=False)
class Moved:
    """Readings of one direction's movements.

    Attributes
    ----------
    quantity : what is read.
    expected : rise a step that the regression expects.
    groups : split group of each moved sample.
    along : differences along the direction. others : of each movement along which nothing is expected.
    truth : rows of the samples that the simulator drew anew, and their differences; no rows where there is no simulator.
    controls : whether the fraction can be read at all.
    """

    quantity: str
    expected: float
    groups: NDArray[np.str_]
    along: Differences
    others: list[Differences]
    truth: tuple[NDArray[np.int64], Differences]
    controls: Controls


@dataclass(frozen=True, eq=False)
class DirectionReport:
    """What tiles show of movements along fitted directions.

    Attributes
    ----------
    numbers : "direction_QUANTITY" -> rise a step of the fraction read from tiles (mean over held-out samples of the slope
        through the unmoved tiles); with "_beyond" the same less that of the other directions, paired; with "_truth", on
        simulated data, the rise in the simulator's own tiles of some of the samples; with "_real" by how much
        the reading of real tiles differs between held-out samples whose fractions differ by what is expected of a step (an
        association); with "_inputs" and "_tiles" Spearman's correlation of a held-out sample's fraction with what is read
        from its input and its real tiles, within tissues.
    labels : the same keys -> words.
    doses : rows for `plots.dose_response`: source, change (the quantity), quantity, primary, dose, value, low, high. Of the
        other directions the ends are their lowest and highest mean.
    follows : quantity -> whether the rise and the rise beyond other directions lie above zero, whole intervals.
    expected : quantity -> rise a step that the regression expects.
    others : quantity -> lowest and highest mean rise a step among the other directions.
    unit : what intervals resample.
    n, n_tiles, n_others : samples of each quantity, tiles a sample and step, other directions.
    """

    numbers: dict[str, Interval]
    labels: dict[str, str]
    doses: pd.DataFrame
    follows: dict[str, bool]
    expected: dict[str, float]
    others: dict[str, tuple[float, float]]
    unit: str
    n: dict[str, int]
    n_tiles: int
    n_others: int

    def note(self) -> str:
        """Say in words which movements are seen, and what the controls allow to conclude."""
        told = []
        for kind, seen in self.follows.items():
            low, high = self.others[kind]
            words = (
                f"{kind}: a step along its direction raises what is read from tiles by {self.numbers[f'direction_{kind}']} "
                f"(the regression expects {self.expected[kind]:.3g} more of the cells, which real tiles of held-out samples "
                f"show as {self.numbers[f'direction_{kind}_real']}), other movements as long by {low:.3g} to {high:.3g}"
            )
            truth = self.numbers.get(f"direction_{kind}_truth")
            words += f"; the simulator's own tiles, with as many more cells, by {truth}" if truth is not None else ""
            blind = [
                place
                for place, key in (("their inputs", "inputs"), ("their real tiles", "tiles"))
                if not self.numbers[f"direction_{kind}_{key}"].low > 0
            ]
            if seen and max(-low, high) < self.numbers[f"direction_{kind}"].value:
                words += ". These tiles follow the direction."
            elif seen:
                words += (
                    ". These tiles follow the direction more than other movements on average; but a single one of these "
                    "moves the reading as far, so that the effect is not this direction's alone."
                )
            elif blind:
                words += (
                    ". It is not shown that these tiles follow the direction, nor that the fraction of held-out samples can "
                    f"be read from {' or '.join(blind)}: nothing can be said of the generator."
                )
            else:
                words += (
                    ". It is not shown that these tiles follow the direction, though the fraction of held-out samples can "
                    "be read from their inputs and real tiles: the generator is the weak part."
                )
            told.append(words[0].upper() + words[1:])
        return " ".join(told)


def slope(differences: Differences) -> NDArray[np.float64]:
    """Least-squares slope through step 0 of each sample, shape (n,)."""
    return np.asarray(
        sum(step * values for step, values in differences.items()) / sum(step**2 for step in differences), dtype=np.float64
    )


def report_of(parts: Sequence[Moved], *, n_tiles: int, n_boot: int = 1000, seed: int = 0) -> DirectionReport:
    """Report readings that are there already.

    Parameters
    ----------
    parts : one a quantity, each with one other direction or more.
    n_tiles : read of each sample and step, for the report.
    n_boot, seed : of the intervals, which resample split groups, or the samples of a single one.
    """
    numbers, labels, follows, others = {}, {}, {}, {}
    rows: list[dict[str, object]] = []
    unit = ""
    for part in parts:
        kind, (units, unit) = part.quantity, resampling_units(part.groups)
        rise, apart = slope(part.along), np.array([slope(each) for each in part.others])
        key = f"direction_{kind}"
        numbers[key] = bootstrap(np.mean, rise, groups=units, n_boot=n_boot, seed=seed)
        labels[key] = f"{kind} fraction read from tiles, rise a step along its direction"
        numbers[f"{key}_beyond"] = bootstrap(np.mean, rise - apart.mean(axis=0), groups=units, n_boot=n_boot, seed=seed)
        labels[f"{key}_beyond"] = f"the same beyond other directions of the same length, {kind}"
        follows[kind] = bool(numbers[key].low > 0 and numbers[f"{key}_beyond"].low > 0)
        means = apart.mean(axis=1)
        others[kind] = float(means.min()), float(means.max())
        chosen, truth = part.truth
        if len(chosen):
            numbers[f"{key}_truth"] = bootstrap(np.mean, slope(truth), groups=units[chosen], n_boot=n_boot, seed=seed)
            labels[f"{key}_truth"] = f"the rise in the simulator's own tiles with as many more cells, {kind}"
        own, _ = resampling_units(part.controls.groups)
        numbers[f"{key}_real"] = bootstrap(
            lambda known, read, expected=part.expected: expected * _gain(known, read),
            *(part.controls.fraction, part.controls.from_tiles),
            groups=own,
            n_boot=n_boot,
            seed=seed,
        )
        labels[f"{key}_real"] = f"the rise read from real tiles for as many more cells (an association), {kind}"
        for name, read, words in (
            ("inputs", part.controls.from_inputs, "what the generator is told"),
            ("tiles", part.controls.from_tiles, "real tiles"),
        ):
            numbers[f"{key}_{name}"] = bootstrap(
                spearman, part.controls.fraction, read, groups=own, n_boot=n_boot, seed=seed
            )
            labels[f"{key}_{name}"] = f"{kind} fraction of held-out samples, read from {words}: correlation within tissue"
        rows += _doses(part, units, n_boot=n_boot, seed=seed)
    return DirectionReport(
        numbers,
        labels,
        pd.DataFrame(rows),
        follows,
        {part.quantity: part.expected for part in parts},
        others,
        unit,
        {part.quantity: len(part.groups) for part in parts},
        n_tiles,
        max((len(part.others) for part in parts), default=0),
    )


def _doses(part: Moved, units: NDArray[np.str_], *, n_boot: int, seed: int) -> list[dict[str, object]]:
    """Return rows of a chart, the mean difference at each step: along the direction, in the truth, along others (range)."""
    kind, (chosen, truth), rows = part.quantity, part.truth, []
    for source, differences, who in ((FITTED, part.along, units), (TRUTH, truth, units[chosen])):
        for step in sorted({0.0, *differences}) if differences else ():
            values = differences.get(step, np.zeros(len(who)))
            found = bootstrap(np.mean, values, groups=who, n_boot=n_boot, seed=seed)
            rows.append(_row(source, kind, step, found.value, found.low, found.high))
    for step in sorted({0.0, *part.others[0]}):
        at = [float(each.get(step, np.zeros(1)).mean()) for each in part.others]
        rows.append(_row(OTHERS, kind, step, float(np.mean(at)), min(at), max(at)))
    return rows


def _row(source: str, kind: str, step: float, value: float, low: float, high: float) -> dict[str, object]:
    place = {"source": source, "change": kind, "quantity": kind, "primary": True, "dose": step}
    return {**place, "value": value, "low": low, "high": high}


def _gain(known: NDArray[np.float64], read: NDArray[np.float64]) -> float:
    """Least-squares slope of the reading on the known fraction, both centred already."""
    power = float(known @ known)
    return float(known @ read) / power if power > 0 else float("nan")
