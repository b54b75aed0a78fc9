"""Do synthetic tiles stand in for real ones? A share of the training tiles is replaced, and real patients are named.

Source: RNA-CDM, Results and Fig. 4A (25, 50 and 75 % of 5,000 tiles, ResNet-18, five folds: "no difference"). What is
added: 100 %; a test of equivalence with its margin, because "not significant" is what a small study always finds; the same
real tiles alone, without anything in place of those left out; and tiles of exchanged profiles, which must not do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnasynth.evaluation.cells.composition import Equivalence, equivalence
from rnasynth.evaluation.stats import Interval
from rnasynth.evaluation.utility.bench import Bench, per_unit
from rnasynth.evaluation.utility.external import Named
from rnasynth.evaluation.utility.learning import learn, named_by
from rnasynth.evaluation.utility.piles import Pile
from rnasynth.evaluation.utility.scores import LABELS, Scores

REPLACED, LEFT_OUT, EXCHANGED = "replaced by synthetic", "left out, nothing instead", "replaced, profiles exchanged"
KEYS = {REPLACED: "replaced", LEFT_OUT: "left_out", EXCHANGED: "exchanged"}
SAID = {"replaced": "replaced", "left_out": "only left out", "exchanged": "replaced, profiles exchanged"}
ENOUGH_LOST = 0.0  # a control that loses nothing shows nothing: its 90 % interval must lie below this


@dataclass(frozen=True, eq=False)
class ReplacementReport:
    """What happened to the real patients as real training tiles gave way to synthetic ones.

    Attributes
    ----------
    numbers, labels : "ARM_PERCENT_STATISTIC" (ARM: replaced, left_out, exchanged; STATISTIC of `scores.LABELS`) and
        "ARM_PERCENT_difference" (of accuracy, paired, to no replacement; 90 % interval), with what they are.
    tests : "ARM_PERCENT" -> the test of equivalence to no replacement.
    curve : rows for a chart: group (arm), x (percent), value, low, high of the accuracy.
    table : all of it as text.
    confusions : title -> counts, index the true class, columns the named one.
    chance : share of the commonest class.
    margin : of the tests, difference of accuracy.
    unit, n_units : what the intervals resample, and how many.
    n_tiles : training tiles of a fold.
    units : a row a unit, a column an arm "ARM_PERCENT": share of its tiles that was named rightly.
    """

    numbers: dict[str, Interval]
    labels: dict[str, str]
    tests: dict[str, Equivalence]
    curve: pd.DataFrame
    table: pd.DataFrame
    confusions: dict[str, pd.DataFrame]
    chance: float
    margin: float
    unit: str
    n_units: int
    n_tiles: int
    units: pd.DataFrame

    def difference(self, percent: int, arm: str = REPLACED) -> Interval:
        """Return the paired difference of accuracy to no replacement, with its 90 % interval."""
        return self.tests[f"{KEYS[arm]}_{percent}"].difference

    def widest(self) -> str:
        """Return the key of the replaced share, below all, whose 90 % interval reaches furthest from no difference."""
        found = {
            key: test.difference for key, test in self.tests.items() if key.startswith("replaced") and key != "replaced_100"
        }
        return max(found, key=lambda key: max(abs(found[key].low), abs(found[key].high)))

    def answers(self) -> dict[str, dict[str, Any]]:
        """Return what answers the published row, and the ledger of deviations: name -> arguments of `Page.number`."""
        widest = self.widest()
        percent = widest.rsplit("_", 1)[1]
        words = f"accuracy, {percent} % replaced less all real: of the shares below all the one that may differ most, 90 %"
        found: dict[str, dict[str, Any]] = {
            "substitution": {"value": self.tests[widest].difference, "label": words, "paper": "substitution_no_loss"}
        }
        if "replaced_75" in self.tests:
            test = self.tests["replaced_75"]
            found["substitution_p_difference"] = {"value": test.p_difference, "label": "75 % replaced: p of a difference"}
            found["substitution_p_equivalence"] = {"value": test.p, "label": "75 % replaced: p of equivalence"}
        return found

    def sees(self) -> bool:
        """Whether tiles of exchanged profiles are seen to do worse: then the measurement can see a loss."""
        return self.tests["exchanged_100"].difference.high < ENOUGH_LOST

    def note(self) -> str:
        """Say in one paragraph what gave way to what, and whether the test could have seen it."""
        whole = self.numbers["replaced_0_accuracy"]
        text = [
            f"Named rightly with real tiles alone: {whole.value:.0%} of the tiles (the commonest class: {self.chance:.0%})."
        ]
        for key, test in self.tests.items():
            text.append(f"{arm_in_words(key)}: {in_points(test.difference)}, {test.verdict}.")
        text.append(
            f"Equivalent means: within {100 * self.margin:.0f} points, both one-sided tests at 5 %, over {self.unit}."
        )
        if not self.sees():
            text.append("Not even tiles of exchanged profiles are seen to do worse: this comparison cannot see a loss.")
        kept = [test for key, test in self.tests.items() if key.startswith("left_out")]
        if self.sees() and kept and all(test.equivalent for test in kept):
            text.append(
                "The real tiles that stayed do as well alone, so that the synthetic ones beside them are not put to a test."
            )
        elif self.sees() and kept and not any(test.differs for test in kept):
            text.append("Whether the real tiles that were left out are missed stays undecided.")
        return " ".join(text)


def arm_in_words(key: str) -> str:
    """Return what was done to the training tiles.

    Examples
    --------
    >>> arm_in_words("left_out_75")
    '75 % only left out'
    """
    arm, percent = key.rsplit("_", 1)
    return f"{percent} % {SAID[arm]}"


def in_points(difference: Interval) -> str:
    """Return a difference of accuracy with its 90 % interval in words."""
    value, low, high = (100 * end for end in (difference.value, difference.low, difference.high))
    return f"{value:+.1f} points (90 % interval {low:+.1f} to {high:+.1f})"


def replacement_study(bench: Bench, *, folder: Path | None = None, n_boot: int = 500) -> ReplacementReport:
    """Train on more and more synthetic tiles, and name the held-out patients' real ones.

    Parameters
    ----------
    bench : folds, tiles and protocol, see `bench.prepare`. A fold's trainings share first weights and the order of tiles.
    folder : where trainings can be resumed; None: in memory.
    n_boot : of the intervals.

    Raises
    ------
    InputError : too few tiles or classes. Others: see `engine.train`.
    """
    protocol = bench.protocol
    rows_of = {fold.number: bench.learned(fold, protocol.tiles) for fold in bench.folds}
    every = np.unique(np.concatenate(list(rows_of.values())))
    made_every = bench.made(every)
    arms: dict[tuple[str, int], dict[int, NDArray[np.float32]]] = {}
    for fold in bench.folds:
        rows = rows_of[fold.number]
        real, made = bench.real.rows(rows), made_every.rows(np.searchsorted(every, rows))
        tested = bench.real.rows(bench.tested(fold))
        for key, pile in _piles(bench, real, made, np.random.default_rng([bench.seed, fold.number])):
            place = None if folder is None else folder / f"{KEYS[key[0]]}-{key[1]}-fold-{fold.number}"
            system = learn(pile, protocol.replacing, bench.task, seed=bench.training_seed(fold), folder=place)
            arms.setdefault(key, {})[fold.number] = named_by(system, tested)
    named = {key: bench.named(found) for key, found in arms.items()}
    return _report(bench, named, n_tiles=max(map(len, rows_of.values())), n_boot=n_boot)


def _piles(bench: Bench, real: Pile, made: Pile, random: np.random.Generator) -> Iterator[tuple[tuple[str, int], Pile]]:
    """Yield what each arm of a fold trains on; a smaller share is a part of a larger one."""
    order, mixed = random.permutation(len(real)), random.permutation(len(real))
    for share in bench.protocol.shares:
        yield (REPLACED, round(100 * share)), real.with_made(made, order[: round(share * len(real))])
    for share in bench.protocol.left_out:
        yield (LEFT_OUT, round(100 * share)), real.rows(np.sort(order[round(share * len(real)) :]))
    yield (EXCHANGED, 100), replace(made, tiles=made.tiles[mixed])


def _report(bench: Bench, named: dict[tuple[str, int], Named], *, n_tiles: int, n_boot: int) -> ReplacementReport:
    classes, margin = bench.classes, bench.protocol.margin
    units = pd.DataFrame({f"{KEYS[arm]}_{percent}": per_unit(found, classes) for (arm, percent), found in named.items()})
    base = units[f"{KEYS[REPLACED]}_0"]
    numbers: dict[str, Interval] = {}
    labels: dict[str, str] = {}
    tests: dict[str, Equivalence] = {}
    curve: list[dict[str, Any]] = []
    lines: list[dict[str, Any]] = []
    confusions: dict[str, pd.DataFrame] = {}
    for (arm, percent), found in named.items():
        key = f"{KEYS[arm]}_{percent}"
        scores: Scores = found.scores(classes, n_boot=n_boot, seed=bench.seed)
        for statistic, interval in scores.numbers.items():
            numbers[f"{key}_{statistic}"] = interval
            labels[f"{key}_{statistic}"] = f"{percent} % {arm}: {LABELS[statistic]}"
        curve.append({"group": arm, "x": percent, **scores.numbers["accuracy"].to_dict()})
        line = {"training tiles": f"{percent} % {arm}" if percent else "all real"}
        line |= {LABELS[name]: str(scores.numbers[name]) for name in ("accuracy", "f1", "auc")}
        if (arm, percent) != (REPLACED, 0):
            test = tests[key] = equivalence(base, units[key], margin=margin)
            if math.isfinite(test.difference.low):  # fewer than three units have no interval
                numbers[f"{key}_difference"] = test.difference
                labels[f"{key}_difference"] = f"{percent} % {arm}: accuracy, paired difference to all real, 90 %"
            line |= {"difference (90 %)": str(test.difference), "p, equivalence": f"{test.p:.3g}"}
            line |= {"p, difference": f"{test.p_difference:.3g}", "verdict": test.verdict}
        lines.append(line)
        if arm == REPLACED and percent in (0, 75, 100):
            confusions[line["training tiles"]] = scores.confusion
    return ReplacementReport(
        numbers=numbers,
        labels=labels,
        tests=tests,
        curve=pd.DataFrame(curve),
        table=pd.DataFrame(lines).fillna("").set_index("training tiles"),
        confusions=confusions,
        chance=bench.chance,
        margin=margin,
        unit=bench.unit,
        n_units=len(base),
        n_tiles=n_tiles,
        units=units,
    )
