"""The external test as one report: every source of tiles named by one classifier, beside ceiling and chance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnasynth.data.cohort import Cohort
from rnasynth.errors import InputError
from rnasynth.evaluation.conditioning.experiment import first_in_turn
from rnasynth.evaluation.keys import key_of
from rnasynth.evaluation.stats import Interval, resampling_units
from rnasynth.evaluation.utility.cohorts import ExternalCohort
from rnasynth.evaluation.utility.external import (
    LATENT_WAYS,
    PUBLISHED,
    WAYS,
    LatentNamer,
    Named,
    as_shown,
    named_held_out,
    named_made,
    named_mean,
    named_real,
    told,
    ways_of,
)
from rnasynth.evaluation.utility.scores import LABELS, Scores
from rnasynth.systems.classifier import TileClassifier

OWN, ELSEWHERE, DYED = "own cohort, held out", "external, real", "external, real, other dyes"
EXCHANGED, MEAN = "profiles exchanged", "mean profile for all"
LATENT = "{}, latent only"
REAL = {True: "real, one stain", False: "real, as scanned"}  # how the classifier's real tiles are stained
ALPHA = 0.05
MEAN_TILES = 32  # of the one mean profile


@dataclass(frozen=True, eq=False)
class ExternalReport:
    """What the classifier made of tiles from outside.

    Attributes
    ----------
    numbers, labels : name -> interval, and what it is. "CEILING_STAT", "external_CEILING_STAT", "dyed_CEILING_STAT"
        (real tiles, by the classifier of `ceilings`), "SYSTEM_WAY_STAT", "SYSTEM_exchanged_STAT",
        "SYSTEM_mean_profile_STAT", "SYSTEM_latent_WAY_STAT", "SYSTEM_latent_own_STAT"; STAT one of `scores.LABELS`, SYSTEM
        with underscores.
    accuracy : rows for a chart: label (what was shown), group (who made it), value, low, high, n.
    table : all statistics as text, index (group, label).
    confusions : title -> counts, index the true class, columns the named one.
    shown : rows of tiles to look at, uint8 (n, px, px, 3): the first samples in turn from the classes.
    p : system -> probability of its accuracy if samples were exchanged.
    ceilings : system -> "real" or "real_SYSTEM": the name of its ceiling, as each stain has a classifier of its own.
    way : which of `external.WAYS` was exchanged, pictured and counted as the system's own.
    chance : share of the commonest class among the external samples.
    unit : what intervals over external samples resample.
    n_samples : external samples of a known class.
    """

    numbers: dict[str, Interval]
    labels: dict[str, str]
    accuracy: pd.DataFrame
    table: pd.DataFrame
    confusions: dict[str, pd.DataFrame]
    shown: dict[str, NDArray[np.uint8]]
    p: dict[str, float]
    ceilings: dict[str, str]
    way: str
    chance: float
    unit: str
    n_samples: int

    def of(self, system: str, way: str = "", statistic: str = "accuracy", *, percent: bool = False) -> Interval:
        """Return one number: of `self.way`, another of `external.WAYS`, "exchanged", "mean_profile" or "latent_WAY".

        Raises
        ------
        KeyError : there is none of that name.
        """
        found = self.numbers[f"{key_of(system)}_{way or self.way}_{statistic}"]
        if not percent:
            return found
        return replace(found, value=100 * found.value, low=100 * found.low, high=100 * found.high)

    def reads(self, system: str) -> bool:
        """Whether this system's classifier names held-out real tiles better than chance (area under the curve)."""
        return self.numbers[f"{self.ceilings[system]}_auc"].low > 0.5

    def holds(self, system: str) -> bool:
        """Whether the classifier names this system's tiles better than exchanged ones (p of at most 0.05)."""
        return self.p[system] <= ALPHA

    def note(self) -> str:
        """Say in one paragraph what was named, what the ceiling is, and where the rest was lost."""
        told_of = [f"Shares named rightly; the commonest class alone is {self.chance:.0%}."]
        for system, p in self.p.items():
            ceiling = self.ceilings[system]
            text = f"{system}: {self.of(system).value:.0%} of its tiles"
            text += f" ({self.of(system, 'exchanged').value:.0%} with profiles exchanged, p = {p:.3f}), "
            text += f"{self.numbers[f'{ceiling}_accuracy'].value:.0%} of held-out real tiles of the own cohort"
            if f"external_{ceiling}_accuracy" in self.numbers:
                text += f", {self.numbers[f'external_{ceiling}_accuracy'].value:.0%} of the external cohort's real tiles"
            if f"dyed_{ceiling}_accuracy" in self.numbers:
                text += f" ({self.numbers[f'dyed_{ceiling}_accuracy'].value:.0%} in other dyes)"
            if not self.reads(system):
                text += " (its classifier does not tell real tiles apart, so that nothing can be judged)"
            parts = [
                f"{words.words}: {self.of(system, way).value:.0%} of tiles, "
                f"{self.of(system, f'latent_{way}').value:.0%} of latents"
                for way, words in WAYS.items()
                if f"{key_of(system)}_{way}_accuracy" in self.numbers
            ]
            told_of.append(f"{text}. {'; '.join(parts)}.")
        return " ".join(told_of)


def external_test(
    generators: Mapping[str, Any],
    classifiers: Mapping[str, TileClassifier],
    cohort: Cohort,
    external: ExternalCohort,
    *,
    tiles: int = 4,
    way: str = PUBLISHED,
    seed: int = 0,
    n_boot: int = 500,
    n_shuffles: int = 400,
    n_shown: int = 8,
) -> ExternalReport:
    """Generate tiles from external profiles by every generator and way, and let the classifier of real tiles name them.

    Parameters
    ----------
    generators : system -> `TileGenerator` that is told RNA; none of them may have seen the external samples.
    classifiers : system -> the classifier at that generator's pixel size and stain.
    cohort : that both were trained on.
    external : where the profiles come from.
    tiles : generated for each external profile and way.
    way : which of `external.WAYS` counts as the systems' own; all are made.
    seed : of the generators' noise, the bootstrap and the exchanges.
    n_boot, n_shuffles : of the intervals and of the control.
    n_shown : tiles a row of `shown`.

    Raises
    ------
    InputError : no generator, an unknown way, a classifier that is missing or of other pixels, field, stain or classes, or
        no external sample of a class that it knows.
    """
    if not generators or way not in ways_of(external, WAYS):
        expected = f"a generator, and one of {', '.join(ways_of(external, WAYS))}"
        raise InputError("external test", expected=expected, found=f"{len(generators)} generators, way {way!r}")
    for name, generator in generators.items():
        check_fit(name, generator, classifiers.get(name))
    first = classifiers[next(iter(generators))]
    if other := [name for name in generators if classifiers[name].classes != first.classes]:
        raise InputError(f"classifier of {other[0]}", expected=", ".join(first.classes), found="other classes")
    train = cohort.only("train").profiles
    truth = first.labels(external.profiles.obs)
    if not (truth != "").any():
        raise InputError(external.label, expected=f"samples of {', '.join(first.classes)}", found="none")
    known = external.profiles[np.flatnonzero(truth != "")].copy()
    known.obs["tissue"] = truth[truth != ""]
    chosen = [str(name) for name in first_in_turn(known, n_shown).obs_names]
    rows = _Rows(first.classes, n_boot, seed)
    shown = {} if external.tiles is None else {REAL[first.restained]: _real_shown(external, chosen, first)}
    p: dict[str, float] = {}
    ceilings: dict[str, str] = {}
    judged: dict[str, str] = {}  # classifier -> its ceiling
    for name, generator in generators.items():
        classifier = classifiers[name]
        if classifier.name not in judged:
            judged[classifier.name] = f"real_{key_of(name)}" if judged else "real"
            rows.add(OWN, REAL[classifier.restained], judged[classifier.name], named_held_out(classifier, cohort))
            for label, key, pictures in ((ELSEWHERE, "external", external.tiles), (DYED, "dyed", external.dyed)):
                real = named_real(classifier, external.profiles, pictures)
                if real is not None:
                    title = f"real tiles, {external.label}" if classifier is first and label == ELSEWHERE else ""
                    key = f"{key}_{judged[classifier.name]}"
                    rows.add(label, REAL[classifier.restained], key, real, confusion=title)
        ceilings[name] = judged[classifier.name]
        latent = LatentNamer(generator, cohort, classifier)
        rows.add(OWN, LATENT.format(name), f"{key_of(name)}_latent_own", latent(cohort.only("test").profiles))
        for which, words in ways_of(external, LATENT_WAYS).items():
            z = told(generator, words, external, train)
            key = f"{key_of(name)}_latent_{which}"
            rows.add(words.words, LATENT.format(name), key, latent(z), chart=which in WAYS)
            if which not in WAYS:
                continue
            named, made = named_made(generator, classifier, z, tiles=tiles, seed=seed)
            own = which == way
            rows.add(words.words, name, f"{key_of(name)}_{which}", named, confusion=f"{name}, {words.words}" if own else "")
            if own:
                mixed = named.exchanged(first.classes, n_shuffles=n_shuffles, seed=seed)
                rows.put(EXCHANGED, name, f"{key_of(name)}_exchanged", mixed.numbers)
                p[name] = mixed.p
                order = {str(sample): row for row, sample in enumerate(known.obs_names)}
                shown[name] = made[[order[sample] for sample in chosen], 0]
        mean = named_mean(generator, classifier, external.profiles, train, tiles=MEAN_TILES, seed=seed)
        rows.add(MEAN, name, f"{key_of(name)}_mean_profile", mean)
    counts = pd.Series(truth[truth != ""]).value_counts()
    return ExternalReport(
        numbers=rows.numbers,
        labels=rows.labels,
        accuracy=rows.in_order(),
        table=pd.DataFrame(rows.lines).set_index(["tiles or latents", "shown"]),
        confusions=rows.confusions,
        shown=shown,
        p=p,
        ceilings=ceilings,
        way=way,
        chance=float(counts.max() / counts.sum()),
        unit=resampling_units(known.obs["split_group"])[1],
        n_samples=int(counts.sum()),
    )


def check_fit(name: str, generator: Any, classifier: TileClassifier | None) -> None:
    """Raise InputError unless a classifier was trained on tiles as this generator makes them: pixels, field and stain."""
    if classifier is None:
        raise InputError(f"generator {name}", expected="a classifier of its own pixel size and stain", found="none")
    mine = (generator.px, round(generator.px * generator.mpp_um, 3), bool(generator.system.settings.same_stain))
    theirs = (classifier.px, round(classifier.tile_um, 3), classifier.restained)
    if mine != theirs:
        words = "{} px, {} um, one stain {}"
        raise InputError(
            f"classifier of {name}",
            expected=words.format(*mine),
            found=words.format(*theirs),
            fix="train tile-classifier with that tile_px and same_stain, else the size or the stain is what is named",
        )


class _Rows:
    """Collects what was named: numbers, chart, table and confusions."""

    def __init__(self, classes: tuple[str, ...], n_boot: int, seed: int) -> None:
        self.classes, self.n_boot, self.seed = classes, n_boot, seed
        self.numbers: dict[str, Interval] = {}
        self.labels: dict[str, str] = {}
        self.chart: list[dict[str, Any]] = []
        self.lines: list[dict[str, str]] = []
        self.confusions: dict[str, pd.DataFrame] = {}

    def add(self, label: str, group: str, key: str, named: Named, *, confusion: str = "", chart: bool = True) -> None:
        """Score and keep one source."""
        scores: Scores = named.scores(self.classes, n_boot=self.n_boot, seed=self.seed)
        if confusion:
            self.confusions[confusion] = scores.confusion
        self.put(label, group, key, scores.numbers, chart=chart)

    def put(self, label: str, group: str, key: str, numbers: Mapping[str, Interval], *, chart: bool = True) -> None:
        """Keep scores."""
        for statistic, interval in numbers.items():
            self.numbers[f"{key}_{statistic}"] = interval
            self.labels[f"{key}_{statistic}"] = f"{group}, {label}: {LABELS[statistic]}"
        if chart:
            self.chart.append({"label": label, "group": group, **numbers["accuracy"].to_dict()})
        self.lines.append({"tiles or latents": group, "shown": label} | {LABELS[k]: str(v) for k, v in numbers.items()})

    def in_order(self) -> pd.DataFrame:
        """Return the chart's rows: ceilings first, then the ways, then the controls."""
        labels = [OWN, ELSEWHERE, DYED, *(words.words for words in WAYS.values()), EXCHANGED, MEAN]
        ordered = sorted(self.chart, key=lambda line: labels.index(line["label"]))
        return pd.DataFrame(ordered)


def _real_shown(external: ExternalCohort, samples: list[str], classifier: TileClassifier) -> NDArray[np.uint8]:
    """First real tile of each sample, as the classifier is shown it."""
    assert external.tiles is not None
    return np.stack([as_shown(classifier, external.tiles[name])[0] for name in samples])
