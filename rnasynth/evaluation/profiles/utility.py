"""What made profiles are good for: a classifier is trained on them and tested on real profiles of other patients.

Three controls stand beside every accuracy. The same classifier trained on the real profiles: the ceiling. A classifier of
the text alone, as a clinical text may hold the label (that of the released code did), and one of the tile features alone:
what the inputs tell without any profile. And draws by the label alone: whoever is told the label while generating makes
profiles that a classifier of the label learns from, however poor they are as profiles of a patient.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rnasynth.errors import InputError, SplitError
from rnasynth.evaluation.keys import key_of
from rnasynth.evaluation.profiles.baselines import hashed_words, mean_features
from rnasynth.evaluation.profiles.pairs import Pairs, check_disjoint
from rnasynth.evaluation.stats import Interval, bootstrap, resampling_units

REAL = "real profiles (ceiling)"
TEXT = "text alone (control)"
FEATURES = "tile features alone (control)"
CLASSIFIERS = ("linear", "forest")
COMPONENTS = 50  # of what a logistic regression is trained on


@dataclass(frozen=True, eq=False)
class UtilityReport:
    """Accuracy on real test profiles, by what the classifier was trained on.

    Attributes
    ----------
    numbers : "accuracy_SET" (logistic regression: share of test samples named rightly), "balanced_SET" (mean over labels),
        "forest_SET" (accuracy of random trees), "gain_MODEL" (accuracy over the best other generative model, on the same
        resamples), "below_real_MODEL" (accuracy less that of the ceiling).
    labels : the same keys -> words.
    rows : for `plots.intervals`: label (trained on), group (classifier), value, low, high, n.
    table : a row a training set, as text.
    chance : the largest share of one label among the test samples.
    rival : the model -> the other one that its gain is over.
    unit : what intervals resample.
    """

    numbers: dict[str, Interval]
    labels: dict[str, str]
    rows: pd.DataFrame
    table: pd.DataFrame
    chance: float
    rival: dict[str, str]
    unit: str


def utility_report(
    train: Pairs,
    test: Pairs,
    made: Mapping[str, NDArray[Any]],
    *,
    controls: tuple[str, ...] = (),
    n_boot: int = 1000,
    seed: int = 0,
) -> UtilityReport:
    """Train on made profiles of the training patients, test on real profiles of test patients.

    Parameters
    ----------
    train, test : real profiles and inputs; the label is `tissues`. The classifiers of text and features read `inputs`.
    made : model -> draws for the training samples, shape (N, n, genes) or (N, genes); a draw has its sample's label.
    controls : names in `made` that are no rival, such as drawn training profiles.
    n_boot, seed : of the intervals (over test groups) and the forest.

    Raises
    ------
    SplitError : a split group is in both, or `test` is the training split.
    InputError : fewer than two labels, a test label never trained on, or shapes that do not fit.
    """
    if test.split == "train":
        raise SplitError("train on made, test on real", expected="held-out test profiles", found="the training split")
    check_disjoint(train, test)
    known, wanted = train.tissues, test.tissues
    if len(set(known)) < 2 or set(wanted) - set(known):
        raise InputError(
            "labels", expected="two or more, the test samples' among them", found=", ".join(sorted(set(known) | set(wanted)))
        )
    sets: dict[str, tuple[NDArray[Any], NDArray[Any], NDArray[Any]]] = {REAL: (train.z, known, test.z)}
    for name, draws in made.items():
        values = np.asarray(draws)
        values = values[:, None] if values.ndim == 2 else values
        if values.shape[::2] != train.z.shape or not np.isfinite(values).all():
            expected = f"finite, ({len(train)}, n, {len(train.genes)})"
            raise InputError(f"profiles of {name}", expected=expected, found=f"{np.shape(draws)}")
        sets[name] = (values.reshape(-1, values.shape[2]), np.repeat(known, values.shape[1]), test.z)
    if any(train.inputs.texts) and any(test.inputs.texts):
        sets[TEXT] = (hashed_words(train.inputs), known, hashed_words(test.inputs))
    if all(any(bag is not None for bag in part.inputs.bags) for part in (train, test)):
        left, right = mean_features(train.inputs), mean_features(test.inputs)
        centre = np.nanmean(left, axis=0)
        left, right = (np.where(np.isfinite(each), each, centre) for each in (left, right))
        sets[FEATURES] = (left, known, right)
    units, unit = resampling_units(test.groups)
    common: dict[str, Any] = {"groups": units, "n_boot": n_boot, "seed": seed}
    numbers: dict[str, Interval] = {}
    labels: dict[str, str] = {}
    rows, table, hits = [], {}, {}
    for name, (x, y, x_test) in sets.items():
        key = "real" if name == REAL else "text" if name == TEXT else "features" if name == FEATURES else key_of(name)
        said = {kind: _answers(kind, x, y, x_test, seed=seed, words=name == TEXT) for kind in CLASSIFIERS}
        hits[name] = (said["linear"] == wanted).astype(float)
        found = {
            "accuracy": bootstrap(np.mean, hits[name], **common),
            "balanced": bootstrap(_balanced, wanted, said["linear"], **common),
            "forest": bootstrap(np.mean, (said["forest"] == wanted).astype(float), **common),
        }
        numbers |= {f"{kind}_{key}": interval for kind, interval in found.items()}
        labels |= {
            f"accuracy_{key}": f"accuracy on real test samples, trained on: {name}",
            f"balanced_{key}": f"the same, mean over labels: {name}",
            f"forest_{key}": f"accuracy of a forest of random trees, trained on: {name}",
        }
        for kind, words in (("accuracy", "logistic regression"), ("forest", "forest of random trees")):
            rows.append({"label": name, "group": words, **found[kind].to_dict()})
        table[name] = {"accuracy": str(found["accuracy"]), "mean over labels": str(found["balanced"])}
        table[name]["forest of random trees"] = str(found["forest"])
    rival: dict[str, str] = {}
    for name in made:
        others = [other for other in made if other != name and other not in controls]
        key = key_of(name)
        numbers[f"below_real_{key}"] = bootstrap(_less, hits[name], hits[REAL], **common)
        labels[f"below_real_{key}"] = f"accuracy less that of training on real profiles: {name}"
        if others and name not in controls:
            rival[name] = max(others, key=lambda other: float(hits[other].mean()))
            numbers[f"gain_{key}"] = bootstrap(_less, hits[name], hits[rival[name]], **common)
            labels[f"gain_{key}"] = f"accuracy over the best other model ({rival[name]}): {name}"
    chance = float(max(np.mean(wanted == label) for label in set(wanted)))
    frame = pd.DataFrame.from_dict(table, orient="index").rename_axis("trained on")
    return UtilityReport(numbers, labels, pd.DataFrame(rows), frame, chance, rival, unit)


def _answers(
    kind: str, x: NDArray[Any], y: NDArray[Any], x_test: NDArray[Any], *, seed: int, words: bool
) -> NDArray[np.str_]:
    """Name each test sample; hashed words are not standardised, as a rare word would outweigh all others."""
    model: Any
    if kind == "linear":
        penalised = LogisticRegression(C=10.0 if words else 0.1, class_weight="balanced", max_iter=2000)
        reduction = PCA(min(COMPONENTS, len(x) - 1, x.shape[1]), random_state=seed, svd_solver="randomized")
        model = penalised if words else make_pipeline(StandardScaler(), reduction, penalised)
    else:
        model = ExtraTreesClassifier(100, class_weight="balanced", random_state=seed, n_jobs=1)
    if len(set(y.tolist())) < 2:
        return np.repeat(y[:1], len(x_test))
    return np.asarray(model.fit(x, y).predict(x_test))


def _balanced(truth: NDArray[Any], said: NDArray[Any]) -> float:
    return float(np.mean([np.mean(said[truth == label] == label) for label in np.unique(truth)]))


def _less(one: NDArray[Any], other: NDArray[Any]) -> float:
    return float(one.mean() - other.mean())
