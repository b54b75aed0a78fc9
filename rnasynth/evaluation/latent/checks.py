"""Whether made profiles are of the wanted tissue, and copies of nobody: a classifier, ways between tissues, distances.

Every judge here (classifier, components, thresholds) is fitted on training samples; what it says of real test patients
stands beside what it says of made profiles. Sets of profiles are raw or transformed by the system.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import ArrayLike, NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors

from rnasynth.data.genes import few, only_training
from rnasynth.errors import InputError
from rnasynth.evaluation.latent.arithmetic import LatentSystem, labels_of, scores
from rnasynth.evaluation.stats import Interval, binomial_interval, bootstrap, resampling_units

COMPONENTS = 50  # of the training samples, in which the classifier works and distances are measured
COPY_PERCENTILE = 1.0
JUDGED = ("generated", "shifted")  # sets that the claim of a page rests on
NAMES = {
    "real": "real (test)",
    "reconstructed": "reconstructed",
    "generated": "generated",
    "prior": "generated, prior",
    "shifted": "shifted",
}


@dataclass(frozen=True, eq=False)
class Judge:
    """A classifier of tissues that saw training samples only.

    Attributes
    ----------
    tissues : in the order of the columns of `probabilities`.
    """

    tissues: tuple[str, ...]
    _components: PCA
    _scale: float
    _model: LogisticRegression

    @classmethod
    def fit(cls, z: NDArray[Any], tissues: ArrayLike, *, seed: int = 0) -> Judge:
        """Fit on z-scores (n, genes) and one tissue a sample: 50 principal components, then logistic regression.

        Tissues weigh the same, whatever their number of samples; the weights' penalty is scikit-learn's default.

        Raises
        ------
        InputError : fewer than two tissues.
        """
        names = np.asarray(tissues, dtype=str)
        if len(set(names)) < 2:
            raise InputError(
                "classifier of tissues", expected="two or more tissues", found=few(sorted(set(names))) or "none"
            )
        reduction = PCA(min(COMPONENTS, len(z) - 1, z.shape[1]), random_state=seed, svd_solver="randomized").fit(z)
        reduced = reduction.transform(z)
        scale = float(reduced.std()) or 1.0
        model = LogisticRegression(class_weight="balanced", max_iter=5000).fit(reduced / scale, names)
        return cls(tuple(map(str, model.classes_)), reduction, scale, model)

    def probabilities(self, z: NDArray[Any]) -> NDArray[np.float64]:
        """Return the probability of each tissue, shape (n, tissues)."""
        return np.asarray(self._model.predict_proba(self._components.transform(z) / self._scale))

    def names(self, z: NDArray[Any]) -> NDArray[np.str_]:
        """Return the likeliest tissue of each sample, shape (n,)."""
        return np.array(self.tissues)[self.probabilities(z).argmax(axis=1)]


def overview(sets: Mapping[str, AnnData], *, train: AnnData) -> pd.DataFrame:
    """Count the profiles of each set and wanted tissue; index the set in words, the training samples first."""
    counts = {"training": train, **{NAMES.get(name, name): profiles for name, profiles in sets.items()}}
    rows = {name: pd.Series(labels_of(profiles)).value_counts() for name, profiles in counts.items()}
    table = pd.DataFrame.from_dict(rows, orient="index").fillna(0).astype(int)
    return table[sorted(table, key=str)].rename_axis("profiles")


def number_table(numbers: Mapping[str, Interval], labels: Mapping[str, str]) -> pd.DataFrame:
    """Show a report's numbers: quantity (its label), value, low, high and n (patients or other independent units)."""
    rows = [(labels[name], each.value, each.low, each.high, each.n) for name, each in numbers.items()]
    return pd.DataFrame(rows, columns=["quantity", "value", "low", "high", "n"])


@dataclass(frozen=True, eq=False)
class TissueReport:
    """How often the wanted tissue is seen.

    Attributes
    ----------
    numbers : "tissue_named_SET" -> share of profiles that the classifier names as the wanted tissue.
    labels : the same keys -> words.
    by_tissue : rows for a chart: label (wanted tissue), group (set), value, low, high, n.
    confusion : index (set, wanted tissue), columns the tissue named; shares that add up to 1 in each row.
    chance : the largest share that one and the same answer would reach in any of the sets.
    holds : of the generated and the shifted the whole interval lies above `chance`.
    """

    numbers: dict[str, Interval]
    labels: dict[str, str]
    by_tissue: pd.DataFrame
    confusion: pd.DataFrame
    chance: float
    holds: bool


def tissue_accuracy(
    system: LatentSystem, train: AnnData, sets: Mapping[str, AnnData], *, seed: int = 0, n_boot: int = 1000
) -> TissueReport:
    """Ask a classifier of real training profiles which tissue each profile shows.

    Parameters
    ----------
    train : training profiles with `obs["tissue"]`.
    sets : name (see `NAMES`) -> profiles whose `obs["tissue"]` is the wanted one. Intervals resample the patients
        (`split_group`) where a set has them, also for shifted profiles, which are several a patient; else the profiles.

    Raises
    ------
    SplitError : a sample of `train` is not for training. InputError : one tissue only, an empty set, other genes.
    """
    only_training(train)
    judge = Judge.fit(scores(system, train), labels_of(train), seed=seed)
    numbers, labels, rows, confusion, largest = {}, {}, [], {}, []
    for name, profiles in sets.items():
        wanted, named = labels_of(profiles), judge.names(scores(system, profiles))
        hits, units = (wanted == named).astype(float), _units(profiles)
        numbers[f"tissue_named_{name}"] = share_interval(hits, units, n_boot=n_boot, seed=seed)
        labels[f"tissue_named_{name}"] = NAMES.get(name, name)
        largest.append(max(np.mean(wanted == tissue) for tissue in set(wanted)))
        for tissue in sorted(set(wanted)):
            here = wanted == tissue
            interval = share_interval(hits[here], units[here], n_boot=n_boot, seed=seed)
            rows.append({"label": tissue, "group": NAMES.get(name, name), **interval.to_dict()})
            confusion[(NAMES.get(name, name), tissue)] = [float(np.mean(named[here] == other)) for other in judge.tissues]
    table = pd.DataFrame.from_dict(confusion, orient="index", columns=list(judge.tissues))
    table.index = pd.MultiIndex.from_tuples(list(confusion), names=["set", "wanted"])
    chance = float(max(largest))
    holds = all(numbers[f"tissue_named_{name}"].low > chance for name in JUDGED if name in sets)
    return TissueReport(numbers, labels, pd.DataFrame(rows), table, chance, holds)


@dataclass(frozen=True, eq=False)
class WayReport:
    """What the classifier sees on the way between two patients.

    Attributes
    ----------
    lines : tissue -> (percent of the way, its probability), each of shape (steps,): of the shown way, its two tissues.
    start, end : the two tissues of the shown way.
    numbers : ways_pass: share of ways that begin in the first tissue, end in the second, and change once, straight from one
        to the other.
    labels : the same keys -> words.
    n : ways tried.
    """

    lines: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
    start: str
    end: str
    numbers: dict[str, Interval]
    labels: dict[str, str]
    n: int


def interpolation(
    system: LatentSystem, train: AnnData, test: AnnData, *, steps: int = 11, n_ways: int = 100, seed: int = 0
) -> WayReport:
    """Walk between test patients of two tissues and ask the classifier at each step.

    The shown way is that between the first test samples of the first two tissues (sorted); the number is over `n_ways`
    random pairs of test samples of two tissues. Its interval is over ways, some of which share a patient.

    Raises
    ------
    SplitError : a sample of `train` is not for training.
    InputError : fewer than two tissues, fewer than two steps or one way, or other genes.
    """
    only_training(train)
    if steps < 2 or n_ways < 1:
        raise InputError("ways between tissues", expected="2 steps, 1 way or more", found=f"{steps} and {n_ways}")
    judge = Judge.fit(scores(system, train), labels_of(train), seed=seed)
    own = labels_of(test)
    tissues = sorted(set(own) & set(judge.tissues))
    if len(tissues) < 2:
        raise InputError("ways between tissues", expected="test samples of two tissues", found=few(tissues) or "none")
    generator = np.random.default_rng(seed)
    ends = [tuple(generator.choice(len(tissues), 2, replace=False)) for _ in range(n_ways)]
    rows = [[int(generator.choice(np.flatnonzero(own == tissues[end]))) for end in pair] for pair in ends]
    rows.append([int(np.flatnonzero(own == tissue)[0]) for tissue in tissues[:2]])  # the shown way
    latents = np.asarray(system.encode(test), dtype=np.float64)[np.array(rows)]
    share = np.linspace(0, 1, steps)
    points = latents[:, :1] + share[:, None] * (latents[:, 1:] - latents[:, :1])
    z = system.decode(points.reshape(-1, latents.shape[-1]).astype(np.float32))
    probability = judge.probabilities(z).reshape(len(rows), steps, -1)
    lines = {tissue: (100 * share, probability[-1, :, judge.tissues.index(tissue)]) for tissue in tissues[:2]}
    named = np.array(judge.tissues)[probability.argmax(axis=2)]
    changes = [[seen[0], *seen[1:][seen[1:] != seen[:-1]]] for seen in named[:-1]]
    passed = sum(way == [tissues[a], tissues[b]] for way, (a, b) in zip(changes, ends, strict=True))
    labels = {"ways_pass": "share of ways that pass from the first tissue to the second and change once"}
    return WayReport(lines, tissues[0], tissues[1], {"ways_pass": binomial_interval(passed, n_ways)}, labels, n_ways)


@dataclass(frozen=True, eq=False)
class NearestReport:
    """How far each profile is from its nearest training patient.

    Attributes
    ----------
    numbers : "copies_SET" -> share of profiles that are copies (see `nearest_training`); "distance_SET" -> median distance
        as a share of the real test patients' median.
    labels : the same keys -> words.
    distances : set, in words -> distance of each profile, shape (n,); "training, to others" is the leave-one-out one.
    table : the same as text, a row a set.
    threshold : distance below which a profile is closer to a training patient than all but 1 % of training patients are
        to each other.
    """

    numbers: dict[str, Interval]
    labels: dict[str, str]
    distances: dict[str, NDArray[np.float64]]
    table: pd.DataFrame
    threshold: float


def nearest_training(
    system: LatentSystem, train: AnnData, sets: Mapping[str, AnnData], *, seed: int = 0, n_boot: int = 1000
) -> NearestReport:
    """Measure distances to the nearest training patient, in 50 principal components of the training samples.

    A copy is closer to one training patient than all but 1 % of the training patients are to each other, and much closer to
    that one than to the next (ratio of the two distances below the same 1 % of the training patients). The first alone
    would accuse whatever is smooth: what comes out of a decoder has less noise than a patient, and lies nearer to all.

    Parameters
    ----------
    train : training profiles; those of one split group do not count as each other's neighbours.
    sets : as in `tissue_accuracy`; "real" must be among them.

    Raises
    ------
    SplitError : a sample of `train` is not for training. InputError : no set "real", fewer than three split groups.
    """
    only_training(train)
    if "real" not in sets:
        raise InputError("sets of profiles", expected='one called "real"', found=few(sets))
    z = scores(system, train)
    groups = train.obs.get("split_group", train.obs_names).to_numpy(dtype=str)
    if len(set(groups)) < 3:
        raise InputError("training profiles", expected="three or more patients", found=str(len(set(groups))))
    reduction = PCA(min(COMPONENTS, len(z) - 1, z.shape[1]), random_state=seed, svd_solver="randomized").fit(z)
    reference = np.asarray(reduction.transform(z), dtype=np.float64)
    own, own_ratio = _nearest(reference, reference, groups, groups)
    threshold, ratio_threshold = np.percentile(own, COPY_PERCENTILE), np.percentile(own_ratio, COPY_PERCENTILE)
    numbers, labels, rows = {}, {}, {}
    distances = {"training, to others": own}
    real, _ = _nearest(reduction.transform(scores(system, sets["real"])), reference, None, groups)
    typical = float(np.median(real))
    for name, profiles in sets.items():
        found, ratio = _nearest(reduction.transform(scores(system, profiles)), reference, None, groups)
        units, words = _units(profiles), NAMES.get(name, name)
        copies = ((found < threshold) & (ratio < ratio_threshold)).astype(float)
        numbers[f"copies_{name}"] = share_interval(copies, units, n_boot=n_boot, seed=seed)
        numbers[f"distance_{name}"] = bootstrap(
            lambda part: float(np.median(part)) / typical, found, groups=units, n_boot=n_boot, seed=seed
        )
        labels[f"copies_{name}"] = f"share that are copies of a training patient: {words}"
        labels[f"distance_{name}"] = f"median distance to the nearest training patient, as a share of the real one: {words}"
        distances[words] = found
        rows[words] = {
            "median distance": float(np.median(found)),
            "closer than 1 % of training patients": float(np.mean(found < threshold)),
            "median ratio to the next": float(np.median(ratio)),
            "copies": str(numbers[f"copies_{name}"]),
        }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("profiles")
    return NearestReport(numbers, labels, distances, table, float(threshold))


def share_interval(hits: NDArray[np.float64], units: NDArray[Any], *, n_boot: int = 1000, seed: int = 0) -> Interval:
    """Return a share with its interval over units.

    Wilson's where each row is a unit, or where all rows hit or none (a bootstrap of equal values has no width); else by
    resampling units.

    Parameters
    ----------
    hits : shape (n,), 0 or 1.
    units : one id a row.
    """
    n_units = len(set(units.tolist()))
    if n_units == len(hits) or hits.min() == hits.max():
        found = binomial_interval(round(float(hits.mean()) * n_units), n_units)
        ends = (0.0 if found.value == 0 else found.low, 1.0 if found.value == 1 else found.high)  # not 4e-19
        return replace(found, low=ends[0], high=ends[1])
    return bootstrap(np.mean, hits, groups=units, n_boot=n_boot, seed=seed)


def _units(profiles: AnnData) -> NDArray[np.str_]:
    """What an interval resamples: split groups where known, else the profiles themselves."""
    if "split_group" not in profiles.obs:
        return profiles.obs_names.to_numpy(dtype=str)
    return resampling_units(profiles.obs["split_group"])[0]


def _nearest(
    points: NDArray[Any], reference: NDArray[np.float64], own: NDArray[np.str_] | None, groups: NDArray[np.str_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the distance to the nearest reference sample, and its ratio to that of the next group's, each (n,)."""
    distance, ratio = np.empty(len(points)), np.empty(len(points))
    counts = int(np.unique(groups, return_counts=True)[1].max())
    k = min(len(reference), 2 * counts + 1)
    found, rows = NearestNeighbors(n_neighbors=k).fit(reference).kneighbors(np.asarray(points, dtype=np.float64))
    for number in range(len(points)):
        names = groups[rows[number]]
        allowed = names != own[number] if own is not None else np.ones(k, dtype=bool)
        distance[number] = found[number][allowed][0]
        others = allowed & (names != names[allowed][0])
        ratio[number] = distance[number] / found[number][others][0] if found[number][others][0] > 0 else 1.0
    return distance, ratio
