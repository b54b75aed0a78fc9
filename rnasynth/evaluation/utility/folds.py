"""Who is tested, who is trained on, and whom a generator saw: three sets that must not be mixed.

A classifier that is trained on synthetic tiles is tested on real tiles of patients. If the generator had been trained on
tiles of those patients, they would reach the classifier through it, and the test would not be one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnasynth.data.cohort import Cohort
from rnasynth.errors import InputError, SplitError
from rnasynth.runs.run import groups_seen

TESTED = "test"  # split of the cohort whose groups are divided into folds


@dataclass(frozen=True)
class Fold:
    """One part of the cross-validation.

    Attributes
    ----------
    number : from 0.
    test : split groups whose real tiles are named.
    train : split groups that classifiers learn from: real tiles, or tiles made from their profiles.
    """

    number: int
    test: tuple[str, ...]
    train: tuple[str, ...]


def seen_groups(run: Any, cohort: Cohort) -> frozenset[str]:
    """Return the split groups that a generator's run, or a run that it builds on, learned from or was stopped by.

    Parameters
    ----------
    run : finished run of the generator.
    cohort : that it was trained on, with the same splits.

    Raises
    ------
    SplitError : it, or an encoder below it, was trained on other data or splits: whom it saw cannot be told.
    """
    groups = groups_seen(run, cohort)
    if groups is None:
        found = run.description["cohort"]["fingerprint"]
        raise SplitError(
            f"run {run.id}",
            expected=f"one trained on cohort {cohort.name} with the splits that are tested ({cohort.fingerprint()})",
            found=f"one of {run.description['cohort'].get('name', 'another cohort')} ({found}): whom it saw is not known",
            fix="train the generator on this cohort, or load the cohort as it was then",
        )
    return groups.union(*(seen_groups(below, cohort) for below in run.upstream()))


def test_folds(cohort: Cohort, n: int, *, seed: int = 0, stratify: str = "tissue") -> list[Fold]:
    """Divide the cohort's test groups that have tiles into folds; all other groups with tiles are trained on.

    In fold k the k-th part of the groups of split "test" is named. Its classifiers learn from all others: the groups that
    the generator was trained on, those that stopped it, and the other parts of the test groups, which it never saw. With
    fewer test groups than `n` there are as many folds as groups; one (her2st: one section) gives one fold.

    Parameters
    ----------
    cohort : with the splits that the generator was trained with.
    n : folds wanted, at least 1.
    seed : of the order of the groups.
    stratify : column whose commonest value in a group is spread over the folds.

    Raises
    ------
    InputError : fewer than one fold. SplitError : no test group, or no other group, has tiles.
    """
    if n < 1:
        raise InputError("folds", expected="1 or more", found=str(n))
    obs = cohort.profiles.obs
    obs = obs[obs["sample_id"].astype(str).isin(list(cohort.tile_ids())).to_numpy()]
    groups = obs["split_group"].astype(str)
    tested = sorted(set(groups[obs["split"] == TESTED]))
    if not tested or len(tested) == groups.nunique():
        raise SplitError(
            f"cohort {cohort.name}", expected="test groups and others with tiles", found=f"{len(tested)} to test"
        )
    commonest = obs[stratify].astype(str).groupby(groups).agg(lambda values: values.mode().iloc[0])
    shuffled = [tested[row] for row in np.random.default_rng(seed).permutation(len(tested))]
    ordered = sorted(shuffled, key=lambda name: commonest[name])  # stable: shuffled within a stratum
    parts = [tuple(sorted(ordered[number::n])) for number in range(min(n, len(tested)))]
    return [Fold(number, part, tuple(sorted(set(groups) - set(part)))) for number, part in enumerate(parts)]


def check_unseen(folds: Sequence[Fold], seen: Iterable[str]) -> None:
    """Raise SplitError where a fold tests a group that the generator saw, or that the fold itself trains on."""
    known = frozenset(seen)
    for fold in folds:
        for others, words in ((known, "the generator saw it"), (set(fold.train), "the fold trains on it")):
            if leaked := sorted(set(fold.test) & others):
                raise SplitError(
                    f"fold {fold.number}, split group {leaked[0]}",
                    expected="test groups that nothing was trained on",
                    found=f"{words} ({len(leaked)} such groups)",
                    fix="test only groups that the generator's run held out",
                )
