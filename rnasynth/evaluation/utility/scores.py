"""How well a classifier names tiles: accuracy, F1, area under the curve, intervals over patients, and who is taken for whom.

The numbers of RNA-GAN's external test are of tiles. Tiles of a patient are not independent, so that every interval here
resamples patients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from rnasynth.errors import InputError
from rnasynth.evaluation.stats import Interval, bootstrap, resampling_units

LABELS = {
    "accuracy": "accuracy",
    "f1": "macro F1",
    "auc": "area under the curve",
    "pairwise": "told from another class",
}
SUM_TOLERANCE = 1e-3  # of a row of probabilities around 1


@dataclass(frozen=True, eq=False)
class Scores:
    """How well tiles were named.

    Attributes
    ----------
    numbers : by the keys of `LABELS`: accuracy (share of tiles whose likeliest class is theirs); f1 (macro: mean over
        classes); auc (each class against the rest, mean over classes); pairwise (share of the other classes that a tile's
        own one beats, mean over classes: 0.5 is chance however many classes there are).
    confusion : tiles, index the true class, columns the named one.
    n_tiles, n_patients : how many stand behind it.
    unit : what the intervals resample.
    """

    numbers: dict[str, Interval]
    confusion: pd.DataFrame
    n_tiles: int
    n_patients: int
    unit: str


def score(
    truth: ArrayLike,
    probabilities: NDArray[Any],
    classes: tuple[str, ...],
    *,
    groups: ArrayLike,
    samples: ArrayLike | None = None,
    n_boot: int = 1000,
    seed: int = 0,
) -> Scores:
    """Score named tiles.

    Parameters
    ----------
    truth : true class of each tile, shape (n,).
    probabilities : shape (n, classes), rows add up to 1.
    classes : in the order of the columns.
    groups : patient (or split group) of each tile, which intervals resample.
    samples : sample of each tile. Where all tiles are of one group, the samples are resampled instead, and `unit` says so:
        such an interval speaks for that group alone. None: each tile is its own sample.
    n_boot, seed : of the bootstrap.

    Raises
    ------
    InputError : no tile, an unknown class, other lengths, or rows that are no probabilities.
    """
    numbers = numbers_of(truth, classes)
    p = checked(probabilities, len(numbers), len(classes))
    units, unit = resampling_units(groups)
    if samples is not None and unit != "split groups":
        units = np.asarray(samples).astype(str)
    found = {
        name: bootstrap(statistic, numbers, p, groups=units, n_boot=n_boot, seed=seed)
        for name, statistic in STATISTICS.items()
    }
    counts = confusion_counts(numbers, p.argmax(axis=1), len(classes))
    table = pd.DataFrame(counts, index=pd.Index(classes, name="true"), columns=list(classes))
    return Scores(found, table, len(numbers), len(set(np.asarray(groups).astype(str))), unit)


def accuracy(numbers: NDArray[np.int64], p: NDArray[np.float64]) -> float:
    """Share of rows whose likeliest class is the true one."""
    return float(np.mean(p.argmax(axis=1) == numbers))


def macro_f1(numbers: NDArray[np.int64], p: NDArray[np.float64]) -> float:
    """Mean over the classes that are there of F1; a class that is never named rightly counts 0."""
    counts = confusion_counts(numbers, p.argmax(axis=1), p.shape[1])
    right, true, named = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    there = true > 0
    return float(np.mean(2 * right[there] / (true + named)[there]))


def macro_auc(numbers: NDArray[np.int64], p: NDArray[np.float64]) -> float:
    """Mean over classes of the area under the curve against the rest, by counting (ties one half); NaN for one class.

    The same as scikit-learn's `roc_auc_score(multi_class="ovr")`, many times as fast, which a bootstrap needs.
    """
    areas = []
    for number in range(p.shape[1]):
        mine = numbers == number
        own, others = p[mine, number], np.sort(p[~mine, number])
        if len(own) and len(others):
            beaten = np.searchsorted(others, own, "left") + np.searchsorted(others, own, "right")
            areas.append(beaten.sum() / (2 * len(own) * len(others)))
    return float(np.mean(areas)) if areas else math.nan


def pairwise(numbers: NDArray[np.int64], p: NDArray[np.float64]) -> float:
    """Share of the other classes that the true class beats (ties one half), the mean over classes of the mean over rows.

    With as many rows of each class this is the mean accuracy over all pairs of classes: what a test with two tissues, as
    the published one, would give on average.
    """
    own = np.take_along_axis(p, numbers[:, None], axis=1)
    beaten = ((own > p).sum(axis=1) + 0.5 * ((own == p).sum(axis=1) - 1)) / (p.shape[1] - 1)
    counts, sums = np.bincount(numbers), np.bincount(numbers, weights=beaten)
    return float(np.mean(sums[counts > 0] / counts[counts > 0]))


STATISTICS = {"accuracy": accuracy, "f1": macro_f1, "auc": macro_auc, "pairwise": pairwise}


def confusion_counts(numbers: NDArray[np.int64], named: NDArray[np.int64], n_classes: int) -> NDArray[np.int64]:
    """Count rows by true (rows) and named class (columns), shape (classes, classes)."""
    return np.bincount(numbers * n_classes + named, minlength=n_classes**2).reshape(n_classes, n_classes)


@dataclass(frozen=True, eq=False)
class Exchanged:
    """What is left of the scores where the tiles are exchanged among the samples.

    Attributes
    ----------
    numbers : by the keys of `LABELS`: mean over the shuffles, with 2.5 to 97.5 % of them.
    p : of accuracy: (1 + shuffles that reach the tiles' own) / (1 + shuffles), one-sided.
    """

    numbers: dict[str, Interval]
    p: float


def exchanged(
    truth: ArrayLike,
    probabilities: NDArray[Any],
    classes: tuple[str, ...],
    *,
    samples: ArrayLike,
    n_shuffles: int = 200,
    seed: int = 0,
) -> Exchanged:
    """Score the tiles as if each sample's had been made from the profile of another one, whatever its class.

    A generator sees one profile at a time, so the tiles "from a shuffled profile" are those of another sample: nothing has
    to be made anew, and all samples can be exchanged many times.

    Parameters
    ----------
    truth, probabilities, classes : as of `score`.
    samples : sample of each tile; all its tiles go together, and have one class.
    n_shuffles, seed : of the permutations of samples.

    Raises
    ------
    InputError : as `score`, or a sample of two classes.
    """
    numbers = numbers_of(truth, classes)
    p = checked(probabilities, len(numbers), len(classes))
    names, first, sample = np.unique(np.asarray(samples).astype(str), return_index=True, return_inverse=True)
    of_sample = numbers[first]
    if not np.array_equal(of_sample[sample], numbers):
        raise InputError("samples", expected="one class a sample", found="several")
    generator = np.random.default_rng(seed)
    draws: dict[str, list[float]] = {name: [] for name in STATISTICS}
    for _ in range(n_shuffles):
        mixed = of_sample[generator.permutation(len(names))][sample]
        for name, statistic in STATISTICS.items():
            draws[name].append(statistic(mixed, p))
    method = f"mean and 2.5 to 97.5 % over {n_shuffles} exchanges of samples"
    found = {}
    for name, values in draws.items():
        low, high = np.quantile(values, [0.025, 0.975])
        found[name] = Interval(float(np.mean(values)), float(low), float(high), len(names), method)
    reached = sum(value >= accuracy(numbers, p) - 1e-12 for value in draws["accuracy"])
    return Exchanged(found, (1 + reached) / (1 + n_shuffles))


def numbers_of(truth: ArrayLike, classes: tuple[str, ...]) -> NDArray[np.int64]:
    """Return the number of each class name, shape (n,).

    Raises
    ------
    InputError : none, or a name that is no class.
    """
    known = {name: number for number, name in enumerate(classes)}
    names = [str(name) for name in np.asarray(truth).tolist()]
    if not names or (unknown := sorted(set(names) - set(known))):
        raise InputError("true classes", expected=f"some of {', '.join(classes)}", found=unknown[0] if names else "none")
    return np.array([known[name] for name in names], dtype=np.int64)


def checked(probabilities: NDArray[Any], rows: int, columns: int) -> NDArray[np.float64]:
    """Return probabilities as float64.

    Raises
    ------
    InputError : another shape, fewer than two classes, or rows that do not add up to 1.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if p.shape != (rows, columns) or columns < 2:
        raise InputError("probabilities", expected=f"shape ({rows}, {max(2, columns)})", found=str(p.shape))
    if not (p.min() >= 0 and np.abs(p.sum(axis=1) - 1).max() <= SUM_TOLERANCE):
        raise InputError("probabilities", expected="rows of 0 to 1 that add up to 1", found="others")
    return p
