"""What both studies of usefulness stand on: folds that nothing leaks into, real tiles in one order, tiles made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnasynth.data.cohort import Cohort
from rnasynth.evaluation.stats import Interval, bootstrap, resampling_units
from rnasynth.evaluation.utility.external import Named
from rnasynth.evaluation.utility.folds import Fold, check_unseen, seen_groups, test_folds
from rnasynth.evaluation.utility.piles import Maker, Pile, made_pile, real_pile, task_of
from rnasynth.evaluation.utility.protocols import Protocol


@dataclass(frozen=True, eq=False)
class Bench:
    """Folds and tiles of one task.

    Attributes
    ----------
    cohort, task, folds, protocol : see `prepare`.
    maker : the generator.
    real : all real tiles of a known class.
    order : all rows of `real`, the classes in turn and chance within a class: any first part of it has the classes as
        evenly as they go.
    seed : of the order, the generator's noise and the trainings.
    """

    cohort: Cohort
    task: dict[str, Any]
    folds: Sequence[Fold]
    protocol: Protocol
    maker: Maker
    real: Pile
    order: NDArray[np.int64]
    seed: int

    def tested(self, fold: Fold) -> NDArray[np.int64]:
        """Return the rows of `real` that a fold names."""
        return self.real.of(fold.test)

    def learned(self, fold: Fold, most: int) -> NDArray[np.int64]:
        """Return at most so many rows of `real` that a fold may train on; fewer are a part of more."""
        return self._first(fold.train, most)

    def pretrained(self, most: int) -> NDArray[np.int64]:
        """Return at most so many rows of the generator's own training patients, whom no fold tests."""
        obs = self.cohort.profiles.obs
        return self._first(sorted(set(obs["split_group"][obs["split"] == "train"].astype(str))), most)

    def _first(self, groups: Sequence[str], most: int) -> NDArray[np.int64]:
        allowed = np.isin(self.real.groups[self.order], list(groups))
        return self.order[allowed][:most]

    def made(self, rows: NDArray[np.int64]) -> Pile:
        """Make a tile for each of these real ones, from the same sample's profile, in the same order."""
        return made_pile(self.maker, self.cohort, self.real.rows(rows), seed=self.seed)

    def training_seed(self, fold: Fold) -> int:
        """Return the seed that all trainings of a fold share: they differ in what is asked, not by chance."""
        return 1000 * self.seed + fold.number

    def named(self, probabilities: Mapping[int, NDArray[np.float32]]) -> Named:
        """Join what the folds named (fold number -> probabilities of its tested tiles)."""
        parts = [self.real.rows(self.tested(fold)) for fold in self.folds]
        numbers, samples, groups = (
            np.concatenate([getattr(part, name) for part in parts]) for name in ("numbers", "samples", "groups")
        )
        truth = np.asarray(self.task["classes"], dtype=str)[numbers]
        p = np.concatenate([probabilities[fold.number] for fold in self.folds])
        return Named(truth, groups, samples.astype(str), p)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the probabilities."""
        return tuple(map(str, self.task["classes"]))

    @property
    def unit(self) -> str:
        """What intervals resample, in words: patients, or the samples of the one group that is tested."""
        groups = np.concatenate([np.asarray(fold.test) for fold in self.folds])
        return "patients" if resampling_units(groups)[1] == "split groups" else "samples of one split group"

    @property
    def chance(self) -> float:
        """Share of the commonest class among the tested tiles."""
        counts = np.bincount(self.real.numbers[np.concatenate([self.tested(fold) for fold in self.folds])])
        return float(counts.max() / counts.sum())


def prepare(
    run: Any,
    cohort: Cohort,
    protocol: Protocol,
    *,
    label: str = "tissue",
    classes: Sequence[str] = (),
    maker: Maker | None = None,
    seed: int = 0,
) -> Bench:
    """Assert that nothing leaks, and read the tiles.

    Parameters
    ----------
    run : finished run of the generator, trained on this cohort with these splits.
    cohort : with tiles.
    protocol : see `protocols`.
    label, classes : what is named, see `piles.task_of`; any column of `obs`, such as a user's microsatellite status.
    maker : the generator; None: `run.load()`.
    seed : of folds, order, noise and trainings.

    Raises
    ------
    SplitError : the generator saw a tested patient, or whom it saw cannot be told. InputError : no task, or no tiles.
    """
    folds = test_folds(cohort, protocol.folds, seed=seed)
    check_unseen(folds, seen_groups(run, cohort))
    made_by: Any = run.load() if maker is None else maker
    task = task_of(cohort, label, classes=classes)
    stain = bool(made_by.system.settings.same_stain)
    real = real_pile(cohort, task, made_by.px, same_stain=stain, per_sample=protocol.per_sample, seed=seed)
    shuffled = np.random.default_rng(seed).permutation(len(real))
    turn = pd.Series(real.numbers[shuffled]).groupby(real.numbers[shuffled]).cumcount().to_numpy()
    order = shuffled[np.lexsort((real.numbers[shuffled], turn))]
    return Bench(cohort, task, folds, protocol, made_by, real, order, seed)


def per_unit(named: Named, classes: tuple[str, ...]) -> NDArray[np.float64]:
    """Return the share named rightly of each independent unit (patient; where there is one, sample), units sorted."""
    units, unit = resampling_units(named.groups)
    if unit != "split groups":
        units = named.samples
    right = np.asarray(classes)[named.probabilities.argmax(axis=1)] == named.truth
    return pd.Series(right.astype(float)).groupby(units).mean().to_numpy()


def gain(first: NDArray[np.float64], second: NDArray[np.float64], *, seed: int = 0, n_boot: int = 1000) -> Interval:
    """Mean of `second - first` over units, with a 95 % interval that resamples them."""
    return bootstrap(np.mean, second - first, n_boot=n_boot, seed=seed)
