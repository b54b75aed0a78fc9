"""Are made profiles, as a set, like real ones? Gene correlations, coverage, a classifier, nearness to training.

A model may predict each gene well and still make profiles that no patient has; and one that copies training patients looks
perfect by every number but the last. So every measure stands beside two controls: real profiles of other (training)
patients, which are as like as profiles can be, and what the caller adds (drawn training profiles, say, which must be
called copies).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata
from sklearn.decomposition import PCA
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rnasynth.data.splits import evenly_spaced
from rnasynth.errors import InputError, SplitError
from rnasynth.evaluation.fidelity.manifold import manifold, squared_distances
from rnasynth.evaluation.fidelity.memorisation import COPY_PERCENTILE, REAL, memorisation
from rnasynth.evaluation.keys import key_of
from rnasynth.evaluation.latent.checks import share_interval
from rnasynth.evaluation.profiles.genes import within
from rnasynth.evaluation.stats import Interval, bootstrap, resampling_units

N_GENES = 500  # for gene-gene correlations
COMPONENTS = 50  # of the training samples, for distances
CONTROL = "other real profiles (control)"
DUPLICATE_PERCENTILE = 1.0  # of distances between held-out real profiles
FOLDS = 5
DIFFERENT = 0.6  # area under the curve above which real training and held-out profiles are called different
BLOCKS = 40  # of groups, at most, that a jackknife leaves out in turn


def correlation_agreement(real: NDArray[Any], made: NDArray[Any]) -> float:
    """Return how alike two sets' gene-gene correlations are: Pearson's r over all pairs of genes.

    Parameters
    ----------
    real, made : shape (n, genes) and (m, genes). A gene that does not vary in a set correlates 0 with all others there.

    Returns
    -------
    1 for the same structure; NaN where one of the sets has none at all (fewer than three genes, or no variation).
    """
    left, right = (_correlations(np.asarray(values, dtype=np.float32)) for values in (real, made))
    size = len(left)
    pairs = size * (size - 1)
    if pairs < 6:
        return math.nan
    for matrix in (left, right):  # all entries are used, not a triangle: the diagonal is 0 before and after
        matrix -= matrix.sum(dtype=np.float64) / pairs
        np.fill_diagonal(matrix, 0.0)
    length = math.sqrt(float(np.vdot(left, left)) * float(np.vdot(right, right)))
    return float(np.vdot(left, right)) / length if length > 1e-6 else math.nan


def jackknife(statistic: Callable[..., float], *arrays: NDArray[Any], groups: ArrayLike, limit: int = BLOCKS) -> Interval:
    """Return a statistic +- 1.96 standard errors, by leaving out one group at a time, or one block of groups.

    For statistics that repeated rows distort: a bootstrap of a correlation matrix is noisier than the matrix, so that its
    interval may not hold the value. Source: Efron and Tibshirani 1993, equation 11.5.

    Parameters
    ----------
    statistic : called with the same rows of all arrays.
    groups : one id a row.
    limit : where there are more groups, they are left out in at most so many blocks, in turn.
    """
    every, number = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    value, n = float(statistic(*arrays)), math.ceil(len(every) / math.ceil(len(every) / limit))  # blocks as equal as can be
    if n < 3:
        return Interval(value, math.nan, math.nan, len(every), "jackknife (fewer than three groups: no interval)")
    block = number % n
    left_out = np.array([float(statistic(*(array[block != out] for array in arrays))) for out in range(n)])
    error = math.sqrt((n - 1) / n * float(np.square(left_out - left_out.mean()).sum()))
    return Interval(value, value - 1.96 * error, value + 1.96 * error, len(every), "jackknife over groups, 95%")


def detectability(
    real: NDArray[Any],
    made: NDArray[Any],
    *,
    groups_real: ArrayLike,
    groups_made: ArrayLike,
    seed: int = 0,
    n_boot: int = 500,
) -> dict[str, Interval]:
    """Ask classifiers to tell made from real profiles: area under the ROC curve of answers on held-out groups.

    Parameters
    ----------
    real, made : z-scores, shape (n, genes) and (m, genes).
    groups_real, groups_made : patient of each; a patient's real and made profiles are always in one fold, so that a
        classifier cannot know one by the other.

    Returns
    -------
    "linear" (logistic regression on standardised genes) and "forest" (extremely random trees, which also see spread); 0.5:
    cannot be told apart, 1: always. Answers are ranked inside their fold. Intervals resample the patients, the answers stay.

    Raises
    ------
    InputError : fewer groups than folds.
    """
    x = np.concatenate([real, made]).astype(np.float64)
    truth = np.repeat([0, 1], [len(real), len(made)])
    groups = np.concatenate([np.asarray(groups_real).astype(str), np.asarray(groups_made).astype(str)])
    if (n_groups := len(set(groups.tolist()))) < FOLDS:
        raise InputError("detectability", expected=f"{FOLDS} patients or more", found=str(n_groups))
    models = {
        "linear": lambda: make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000)),
        "forest": lambda: ExtraTreesClassifier(60, min_samples_leaf=2, random_state=seed, n_jobs=1),
    }
    folds = list(StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(x, truth, groups))
    answers = {}
    for name, build in models.items():
        said = np.zeros(len(x))
        for train, test in folds:
            if len(set(truth[train])) == 2:
                said[test] = build().fit(x[train], truth[train]).predict_proba(x[test])[:, 1]
            said[test] = rankdata(said[test]) / len(test)
        answers[name] = bootstrap(area_under_curve, truth, said, groups=groups, n_boot=n_boot, seed=seed)
    return answers


def duplicates(real: NDArray[Any], made: NDArray[Any]) -> NDArray[np.float64]:
    """Return which made profiles are nearer to another made one than all but 1 % of the real ones are to each other.

    Points of shape (n, d) and (m, d) -> shape (m,), 0 or 1. A model that makes few kinds of profiles has many.
    """
    threshold = np.percentile(_nearest_other(np.asarray(real, dtype=np.float64)), DUPLICATE_PERCENTILE)
    return (_nearest_other(np.asarray(made, dtype=np.float64)) < threshold).astype(np.float64)


@dataclass(frozen=True, eq=False)
class StructureReport:
    """How like real ones several sets of made profiles are.

    Attributes
    ----------
    numbers : for each set ("real" for the control): structure_SET, structure_within_SET, precision_SET, recall_SET,
        density_SET, coverage_SET, detected_linear_SET, detected_forest_SET, copies_SET, distance_SET, duplicates_SET.
    labels : the same keys -> words.
    structure_rows, manifold_rows, detected_rows : for `plots.intervals`: label, group, value, low, high, n.
    distances : set -> distance of each profile to the nearest training one, shape (n,); "real (test)" among them.
    table : a row a set, numbers as text.
    unit : what intervals resample.
    """

    numbers: dict[str, Interval]
    labels: dict[str, str]
    structure_rows: pd.DataFrame
    manifold_rows: pd.DataFrame
    detected_rows: pd.DataFrame
    distances: dict[str, NDArray[np.float64]]
    table: pd.DataFrame
    unit: str

    def copying(self, names: Sequence[str], *, control: str) -> str:
        """Say which sets copy training profiles, and whether the control, drawn training profiles, is found to.

        A set copies where the interval of its share of copies lies above the 1 % that held-out real profiles may have.
        """
        parts = []
        for name in (*names, control):
            share, near = (self.numbers[f"{kind}_{key_of(name)}"] for kind in ("copies", "distance"))
            word = "copies training profiles" if share.low > COPY_PERCENTILE / 100 else "is not found to copy"
            parts.append(
                f"{name} {word} (share of copies {share.value:.1%} [{share.low:.1%}, {share.high:.1%}], distance to the "
                f"nearest is {near.value:.2f} [{near.low:.2f}, {near.high:.2f}] times that of held-out real profiles)"
            )
        seen = self.numbers[f"copies_{key_of(control)}"].low > COPY_PERCENTILE / 100
        parts[-1] += (
            ", as it must, being training profiles" if seen else ", though these are: the measurement does not work here"
        )
        return "; ".join(parts) + "."

    def apart(self) -> str:
        """Say whether real training profiles can be told from the held-out ones; what was learnt from them then can too."""
        told = max((self.numbers[f"detected_{kind}_real"] for kind in ("linear", "forest")), key=lambda found: found.value)
        area = f"area under the curve {told.value:.2f} [{told.low:.2f}, {told.high:.2f}]"
        if told.low > DIFFERENT:
            return (
                f"Real training profiles are themselves told from the held-out ones ({area}): compare with the row of that "
                "control, not with the dashed line."
            )
        return f"Real training profiles are hardly told from the held-out ones ({area}): the dashed line can be reached."


WORDS = {
    "structure": "agreement of gene-gene correlations with the real ones",
    "structure_within": "the same within tissues",
    "precision": "precision: share that lie among real ones",
    "recall": "recall: share of real ones that lie among them",
    "density": "density (1 for real ones)",
    "coverage": "coverage: share of real ones with one nearby",
    "detected_linear": "told from real ones by logistic regression (AUC)",
    "detected_forest": "told from real ones by a forest of random trees (AUC)",
    "copies": "share that are copies of a training profile",
    "distance": "median distance to the nearest training profile, over that of real ones",
    "duplicates": "share that repeat another of the set",
}


SHORT = {
    "structure": "all samples",
    "structure_within": "within tissues",
    "density": "density (1 for real)",
    "detected_linear": "logistic regression",
    "detected_forest": "forest",
}


def structure_report(
    train: NDArray[Any],
    real: NDArray[Any],
    made: Mapping[str, NDArray[Any]],
    *,
    groups_train: ArrayLike,
    groups: ArrayLike,
    tissues_train: ArrayLike,
    tissues: ArrayLike,
    columns: NDArray[np.intp] | None = None,
    n_boot: int = 200,
    seed: int = 0,
) -> StructureReport:
    """Compare sets of made profiles with the real ones of the same held-out samples.

    Parameters
    ----------
    train : z-scores of the training samples, shape (N, genes).
    real : of held-out samples, shape (n, genes).
    made : name -> one made profile for each held-out sample, shape (n, genes); draws, not means, where a model has both. Not
        on samples that a model's own noise or residues were measured on: its draws would be theirs.
    groups_train, groups : split group of each.
    tissues_train, tissues : tissue of each; where several are mixed, their difference is most of the gene-gene correlations,
        which are therefore also compared within tissues (each tissue's mean taken off, in every set by itself).
    columns : genes for the gene-gene correlations, by training samples; None: the first 500 columns.
    n_boot, seed : of the intervals, the folds and the forest.

    Raises
    ------
    SplitError : a split group is in training and held out. InputError : shapes that do not fit, or too few samples.
    """
    owners, names = np.asarray(groups_train).astype(str), np.asarray(groups).astype(str)
    if both := sorted(set(owners) & set(names)):
        raise SplitError(f"split group {both[0]}", expected="training or held out", found="both")
    for name, values in made.items():
        if np.shape(values) != np.shape(real) or not np.isfinite(values).all():
            raise InputError(f"profiles of {name}", expected=f"finite, shape {np.shape(real)}", found=f"{np.shape(values)}")
    units, unit = resampling_units(names)
    rows = evenly_spaced(len(train), len(real))
    control = np.asarray(train)[rows]
    one_each = len(set(owners)) > len(rows) // 2  # patients with one sample each, not the spots of few sections
    control_units = owners[rows] if one_each else np.array([f"training {row}" for row in rows])
    chosen = np.arange(min(N_GENES, np.shape(real)[1])) if columns is None else np.asarray(columns)[:N_GENES]
    fitted = PCA(min(COMPONENTS, len(train) - 1, np.shape(train)[1]), random_state=seed, svd_solver="randomized").fit(train)
    sets = {CONTROL: control, **made}
    points = {name: fitted.transform(values) for name, values in {**sets, REAL: real}.items()}
    nearest = memorisation(
        [(fitted.transform(train), list(owners))],
        {REAL: (points[REAL], names), **{name: (points[name], names) for name in made}},
        n_boot=n_boot,
        seed=seed,
    )
    numbers: dict[str, Interval] = {}
    labels: dict[str, str] = {}
    charts: dict[str, list[dict[str, Any]]] = {"structure": [], "manifold": [], "detected": []}
    table: dict[str, dict[str, str]] = {}
    for name, values in sets.items():
        mine = control_units if name == CONTROL else units
        own = (np.asarray(tissues_train) if name == CONTROL else np.asarray(tissues)).astype(str)
        own = own[rows] if name == CONTROL else own
        pairs = (np.asarray(real)[:, chosen], np.asarray(values)[:, chosen])
        inside = (within(pairs[0], tissues), within(pairs[1], own))
        structure, structure_within = (_agreement(a, b, units, paired=name != CONTROL) for a, b in (pairs, inside))
        k = min(5, len(real) - 1)
        cover = manifold(points[REAL], points[name], k=k, groups_real=units, groups_fake=mine, n_boot=n_boot, seed=seed)
        told = detectability(real, values, groups_real=units, groups_made=mine, seed=seed, n_boot=n_boot)
        repeated = share_interval(duplicates(points[REAL], points[name]), mine, n_boot=n_boot, seed=seed)
        found = {"structure": structure, "structure_within": structure_within, **cover.numbers()}
        found |= {"detected_linear": told["linear"], "detected_forest": told["forest"], "duplicates": repeated}
        if name != CONTROL:
            found |= {kind: nearest.numbers[f"{kind}_{key_of(name)}"] for kind in ("copies", "distance")}
        key = "real" if name == CONTROL else key_of(name)
        numbers |= {f"{kind}_{key}": interval for kind, interval in found.items()}
        labels |= {f"{kind}_{key}": f"{WORDS[kind]}: {name}" for kind in found}
        table[name] = {WORDS[kind].split(":")[0]: str(interval) for kind, interval in found.items()}
        for kind, interval in found.items():
            chart = kind.split("_")[0] if kind.split("_")[0] in charts else "manifold" if kind in cover.numbers() else ""
            if chart:
                row = {"label": name, "group": SHORT.get(kind, kind), **interval.to_dict()}
                charts[chart].append(row)
    frame = pd.DataFrame.from_dict(table, orient="index").fillna("-").rename_axis("profiles")
    frames = [pd.DataFrame(rows).astype({"value": float, "low": float, "high": float}) for rows in charts.values()]
    return StructureReport(numbers, labels, frames[0], frames[1], frames[2], dict(nearest.distances), frame, unit)


def _agreement(real: NDArray[Any], made: NDArray[Any], units: NDArray[np.str_], *, paired: bool) -> Interval:
    """Agreement with its interval over held-out groups; a control's profiles are of other patients, and stay."""
    if paired:
        return jackknife(correlation_agreement, real, made, groups=units)
    return jackknife(lambda part: correlation_agreement(part, made), real, groups=units)


def area_under_curve(truth: NDArray[Any], said: NDArray[Any]) -> float:
    """Return the area under the ROC curve by ranks (Mann and Whitney): scikit-learn's, at a tenth of its time.

    Parameters
    ----------
    truth : 0 or 1, shape (n,). said : the larger the likelier 1; ties count half.

    Returns
    -------
    0 to 1; NaN where one of the two is missing.
    """
    ones, n = int(truth.sum()), len(truth)
    if not 0 < ones < n:
        return math.nan
    return (float(rankdata(said)[truth == 1].sum()) - ones * (ones + 1) / 2) / (ones * (n - ones))


def _correlations(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Correlations of all pairs of genes, shape (genes, genes), 0 on the diagonal."""
    centred = values - values.mean(axis=0)
    length = np.sqrt(np.square(centred).sum(axis=0))
    unit = np.divide(centred, length, out=np.zeros_like(centred), where=length > 1e-5)
    matrix = unit.T @ unit
    np.fill_diagonal(matrix, 0.0)
    return np.asarray(matrix)


def _nearest_other(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of each point to the nearest other one, shape (n,)."""
    centred = points - points.mean(axis=0)
    squared = squared_distances(centred, centred)
    np.fill_diagonal(squared, np.inf)
    return np.asarray(np.sqrt(squared.min(axis=1)))
