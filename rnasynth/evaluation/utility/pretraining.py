"""Does pretraining on synthetic tiles help where real ones are few? Against random weights, and against real tiles.

Sources: RNA-GAN (SimCLR on synthetic tiles, then two tissues), RNA-CDM (synthetic tiles with their classes, Fig. 4B; SimCLR,
then microsatellite instability, 200 to 4,000 real tiles, Supplementary Fig. 5). What is added, because without it a gain
has other explanations: random weights for as many pictures as pretraining and training together (compute); one learning
rate in all arms (RNA-CDM's differ a hundredfold); and pretraining on as many *real* tiles of the same patients.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnasynth.errors import InputError
from rnasynth.evaluation.stats import Interval
from rnasynth.evaluation.utility.bench import Bench, gain, per_unit
from rnasynth.evaluation.utility.external import Named
from rnasynth.evaluation.utility.folds import Fold
from rnasynth.evaluation.utility.learning import Weights, contrast, learn, named_by, weights_of
from rnasynth.evaluation.utility.scores import LABELS
from rnasynth.systems.classifier_config import ClassifierConfig

#: Arm -> words. The first is what all others are compared with.
ARMS = {
    "scratch": "random weights",
    "scratch_long": "random weights, equal compute",
    "simclr_made": "SimCLR on synthetic tiles",
    "simclr_real": "SimCLR on real tiles",
    "classes_made": "classes of synthetic tiles",
    "simclr_made_low": "SimCLR on synthetic tiles, published rate",
}
ALONE = "synthetic tiles alone"
STATISTICS = ("accuracy", "f1")


@dataclass(frozen=True, eq=False)
class Way:
    """How a network is trained on real tiles: configuration, and the weights it starts from (see `learning.learn`)."""

    config: ClassifierConfig
    encoder: Weights | None = None
    whole: Weights | None = None


@dataclass(frozen=True, eq=False)
class PretrainingReport:
    """What pretraining brought.

    Attributes
    ----------
    numbers, labels : "ARM_SIZE_STATISTIC" (ARM a key of `ARMS`, SIZE real tiles, STATISTIC accuracy or f1),
        "ARM_SIZE_gain" (paired difference of accuracy to random weights, 95 %), "made_over_real_SIZE" (SimCLR on synthetic
        less SimCLR on real tiles) and "classes_PERCENT_accuracy", "classes_PERCENT_gain": pretraining with classes on a
        share of the synthetic tiles, then the published rate on all real tiles.
    curve : rows for a chart: group (arm), x (real tiles), value, low, high of the accuracy.
    table : all of it as text, a row an arm and size.
    shares : pretraining with classes, a row a share: alone, and after the real tiles.
    confusions : title -> counts at the fewest real tiles.
    sizes : numbers of real tiles.
    pretrained_on : tiles of the pretraining.
    chance : share of the commonest class.
    unit : what the intervals resample.
    answering : the arm of SimCLR on synthetic tiles that answers what was published with a rate of its own: that rate's
        arm, but where the trainings are too short for it (`Protocol.short`) or the rates are one.
    """

    numbers: dict[str, Interval]
    labels: dict[str, str]
    curve: pd.DataFrame
    table: pd.DataFrame
    shares: pd.DataFrame
    confusions: dict[str, pd.DataFrame]
    sizes: tuple[int, ...]
    pretrained_on: int
    chance: float
    unit: str
    answering: str

    def best_gain(self, arm: str) -> tuple[int, Interval]:
        """Return the size at which an arm gains most over random weights, and the gain."""
        found = {size: self.numbers[f"{arm}_{size}_gain"] for size in self.sizes}
        size = max(found, key=lambda each: found[each].value)
        return size, found[size]

    def worst_gain(self, arm: str) -> tuple[int, Interval]:
        """Return the size at which an arm gains least, and the gain: what "at every size" must be judged by."""
        found = {size: self.numbers[f"{arm}_{size}_gain"] for size in self.sizes}
        size = min(found, key=lambda each: found[each].value)
        return size, found[size]

    def beside_scratch(self, arm: str, size: int) -> Interval:
        """Return an arm's accuracy with the interval of its paired gain, added to what random weights reach: percent."""
        base, found = self.numbers[f"scratch_{size}_accuracy"].value, self.numbers[f"{arm}_{size}_gain"]
        value, low, high = (100 * (base + end) for end in (found.value, found.low, found.high))
        return Interval(value, low, high, found.n, f"that of random weights and the paired gain: {found.method}")

    def gains(self) -> bool:
        """Whether pretraining on the real tiles of the same patients helps anywhere: then the measurement can see a gain."""
        return any(self.numbers[f"simclr_real_{size}_gain"].low > 0 for size in self.sizes)

    def answers(self) -> dict[str, dict[str, Any]]:
        """Return what answers the published rows, and the ledger of deviations: name -> arguments of `Page.number`."""
        fewest, most = self.sizes[0], self.sizes[-1]
        found: dict[str, dict[str, Any]] = {}
        for name, arm in (("gain_equal_rates", "simclr_made"), ("gain_published_rates", "simclr_made_low")):
            if (key := f"{arm}_{fewest}_gain") in self.numbers:
                found[name] = {"value": self.numbers[key], "label": self.labels[key]}
        base = 100 * self.numbers[f"scratch_{most}_accuracy"].value
        for paper, arm in (("rna_gan", "simclr_made"), ("msi", self.answering)):
            words = f"{ARMS[arm]}, {most} real tiles: accuracy, with the interval of its paired gain"
            given = {"value": self.beside_scratch(arm, most), "unit": "%", "against": base, "label": words}
            found[f"{paper}_ssl_here"] = {**given, "paper": f"{paper}_ssl_accuracy"}
            words = f"random weights, {most} real tiles: accuracy"
            found[f"{paper}_scratch_here"] = {
                "value": base,
                "unit": "%",
                "label": words,
                "paper": f"{paper}_scratch_accuracy",
            }
        for name, (size, gained), paper, words in (
            ("best_gain", self.best_gain(self.answering), "msi_largest_gain", f"{ARMS[self.answering]}: largest gain"),
            ("least_gain", self.worst_gain("classes_made"), "pretraining_helps", f"{ARMS['classes_made']}: least gain"),
        ):
            points = Interval(100 * gained.value, 100 * gained.low, 100 * gained.high, gained.n, gained.method)
            label = f"{words}, at {size} real tiles: accuracy"
            found[name] = {"value": points, "unit": "points", "label": label, "paper": paper}
        return found

    def note(self) -> str:
        """Say in one paragraph who gained, and whether the controls explain it."""
        text = []
        for arm, words in ARMS.items():
            if arm == "scratch" or f"{arm}_{self.sizes[0]}_gain" not in self.numbers:
                continue
            parts = []
            for size in self.sizes:
                found = self.numbers[f"{arm}_{size}_gain"]
                sign = "" if found.low > 0 or found.high < 0 else " (0 is inside its interval)"
                parts.append(f"{100 * found.value:+.1f} at {size}{sign}")
            text.append(f"{words}: {', '.join(parts)}.")
        first = self.sizes[0]
        over = self.numbers[f"made_over_real_{first}"]
        words = "more" if over.low > 0 else "less" if over.high < 0 else "no other (0 is inside the interval)"
        beside = self.numbers[f"scratch_long_{first}_gain"]
        return (
            f"Points of accuracy over random weights, by the number of real tiles. {' '.join(text)} At {first} real tiles "
            f"SimCLR on synthetic tiles brings {words} than SimCLR on as many real tiles of the same patients "
            f"({100 * over.value:+.1f} points), and the same compute without any pretraining brings "
            f"{100 * beside.value:+.1f} points."
            + ("" if self.gains() else " Not even real tiles of these patients help as pretraining: no gain can be judged.")
        )


def pretraining_study(bench: Bench, *, folder: Path | None = None, n_boot: int = 500) -> PretrainingReport:
    """Pretrain once on the generator's own training patients, then train and test in every fold.

    No fold tests those patients, so that one pretraining serves all folds. Within a fold all arms share the real tiles and,
    where they start from random weights, those.

    Parameters
    ----------
    bench : folds, tiles and protocol, see `bench.prepare`; sizes above a fold's real tiles are left out.
    folder : where trainings can be resumed; None: in memory.
    n_boot : of the intervals.

    Raises
    ------
    InputError : fewer real tiles than the smallest size. Others: see `engine.train`.
    """
    protocol, task, seed = bench.protocol, bench.task, 1000 * bench.seed
    rows = bench.pretrained(protocol.pretraining_tiles)
    there = min(len(bench.learned(fold, protocol.sizes[-1])) for fold in bench.folds)
    sizes = tuple(size for size in protocol.sizes if size <= there)
    if not sizes or not len(rows):
        expected = f"{protocol.sizes[0]} real training tiles in each fold"
        raise InputError("pretraining", expected=expected, found=f"{there}, {len(rows)} to pretrain on")
    real, made = bench.real.rows(rows), bench.made(rows)

    def place(name: str) -> Path | None:
        return None if folder is None else folder / name

    um = float(task["tile_um"])
    on_made = contrast(made, protocol.simclr, tile_um=um, seed=seed, folder=place("simclr-made"))
    on_real = contrast(real, protocol.simclr, tile_um=um, seed=seed, folder=place("simclr-real"))
    with_classes: dict[int, Weights] = {}
    alone: dict[int, dict[int, NDArray[np.float32]]] = {}
    for share in protocol.pretraining_shares:
        percent = round(100 * share)
        part = made.rows(np.arange(max(2, round(share * len(made)))))
        system = learn(part, protocol.supervised, task, seed=seed, folder=place(f"classes-{percent}"))
        alone[percent] = {fold.number: named_by(system, bench.real.rows(bench.tested(fold))) for fold in bench.folds}
        with_classes[percent] = weights_of(system.networks["classifier"])
    most = round(100 * protocol.pretraining_shares[-1])

    def long(size: int) -> ClassifierConfig:
        steps = protocol.steps_of_equal_compute(size, len(rows))
        return replace(protocol.scratch, train=replace(protocol.scratch.train, steps=steps, epochs=None))

    low = replace(protocol.scratch, learning_rate=protocol.tuned_rate)
    after = low
    if protocol.tuned_epochs is not None:
        after = replace(low, train=replace(low.train, steps=None, epochs=protocol.tuned_epochs))
    arms: dict[tuple[str, int], dict[int, NDArray[np.float32]]] = {}
    tuned: dict[int, dict[int, NDArray[np.float32]]] = {percent: {} for percent in with_classes}

    def train_and_name(fold: Fold, size: int, name: str, way: Way) -> NDArray[np.float32]:
        folder_of = place(f"{name}-{size}-fold-{fold.number}")
        pile, by = bench.real.rows(bench.learned(fold, size)), bench.training_seed(fold)
        system = learn(pile, way.config, task, seed=by, encoder=way.encoder, whole=way.whole, folder=folder_of)
        return named_by(system, bench.real.rows(bench.tested(fold)))

    for fold in bench.folds:
        for size in sizes:
            ways = {
                "scratch": Way(protocol.scratch),
                "scratch_long": Way(long(size)),
                "simclr_made": Way(protocol.scratch, encoder=on_made),
                "simclr_real": Way(protocol.scratch, encoder=on_real),
                "classes_made": Way(protocol.scratch, whole=with_classes[most]),
            }
            if low.learning_rate != protocol.scratch.learning_rate:
                ways["simclr_made_low"] = Way(low, encoder=on_made)
            for arm, way in ways.items():
                arms.setdefault((arm, size), {})[fold.number] = train_and_name(fold, size, arm, way)
        for percent, weights in with_classes.items():
            tuned[percent][fold.number] = train_and_name(fold, sizes[-1], f"tuned-{percent}", Way(after, whole=weights))
    named = {key: bench.named(found) for key, found in arms.items()}
    by_share = {percent: (bench.named(alone[percent]), bench.named(tuned[percent])) for percent in with_classes}
    return _report(bench, named, by_share, sizes, len(rows), n_boot)


def _report(
    bench: Bench,
    named: dict[tuple[str, int], Named],
    by_share: dict[int, tuple[Named, Named]],
    sizes: tuple[int, ...],
    pretrained_on: int,
    n_boot: int,
) -> PretrainingReport:
    classes = bench.classes
    numbers: dict[str, Interval] = {}
    labels: dict[str, str] = {}
    curve: list[dict[str, Any]] = []
    lines: list[dict[str, Any]] = []
    confusions: dict[str, pd.DataFrame] = {}
    rights = {key: per_unit(found, classes) for key, found in named.items()}
    for (arm, size), found in named.items():
        scores = found.scores(classes, n_boot=n_boot, seed=bench.seed)
        key, words = f"{arm}_{size}", f"{ARMS[arm]}, {size} real tiles"
        for statistic in STATISTICS:
            numbers[f"{key}_{statistic}"] = scores.numbers[statistic]
            labels[f"{key}_{statistic}"] = f"{words}: {LABELS[statistic]}"
        line = {"network starts from": ARMS[arm], "real tiles": size}
        line |= {LABELS[name]: str(scores.numbers[name]) for name in STATISTICS}
        if arm != "scratch":
            numbers[f"{key}_gain"] = gain(rights[("scratch", size)], rights[(arm, size)], seed=bench.seed)
            labels[f"{key}_gain"] = f"{words}: accuracy, paired difference to random weights"
            line["gain (95 %)"] = str(numbers[f"{key}_gain"])
        lines.append(line)
        curve.append({"group": ARMS[arm], "x": size, **scores.numbers["accuracy"].to_dict()})
        if size == sizes[0] and arm in ("scratch", "simclr_made", "simclr_real"):
            confusions[ARMS[arm]] = scores.confusion
    for size in sizes:
        found_gain = gain(rights[("simclr_real", size)], rights[("simclr_made", size)], seed=bench.seed)
        numbers[f"made_over_real_{size}"] = found_gain
        labels[f"made_over_real_{size}"] = f"SimCLR on synthetic less SimCLR on real tiles, {size} real tiles: accuracy"
    shares: list[dict[str, Any]] = []
    base = rights[("scratch", sizes[-1])]
    for percent, (alone, tuned) in by_share.items():
        scored = [part.scores(classes, n_boot=n_boot, seed=bench.seed).numbers for part in (alone, tuned)]
        key, words = f"classes_{percent}", f"classes of {percent} % of the synthetic tiles, then {sizes[-1]} real"
        numbers[f"{key}_alone_accuracy"], numbers[f"{key}_accuracy"] = (each["accuracy"] for each in scored)
        numbers[f"{key}_gain"] = gain(base, per_unit(tuned, classes), seed=bench.seed)
        labels[f"{key}_alone_accuracy"] = f"classes of {percent} % of the synthetic tiles, {ALONE}: accuracy"
        labels[f"{key}_accuracy"] = f"{words}, published rate: accuracy"
        labels[f"{key}_gain"] = f"{words}, published rate: accuracy, paired difference to random weights"
        shares.append(
            {
                "share of the synthetic tiles": f"{percent} %",
                ALONE: str(scored[0]["accuracy"]),
                f"then {sizes[-1]} real tiles, published rate": str(scored[1]["accuracy"]),
                "gain over random weights (95 %)": str(numbers[f"{key}_gain"]),
            }
        )
    return PretrainingReport(
        numbers=numbers,
        labels=labels,
        curve=pd.DataFrame(curve),
        table=pd.DataFrame(lines)
        .fillna("")
        .set_index(["network starts from", "real tiles"])
        .sort_index(level=1, sort_remaining=False),
        shares=pd.DataFrame(shares).set_index("share of the synthetic tiles"),
        confusions=confusions,
        sizes=sizes,
        pretrained_on=pretrained_on,
        chance=bench.chance,
        unit=bench.unit,
        answering="simclr_made" if bench.protocol.short or ("simclr_made_low", sizes[0]) not in named else "simclr_made_low",
    )
