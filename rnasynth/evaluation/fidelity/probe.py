"""What a feature network knows of tissue: a linear classifier on its features, against other networks' features.

The same classifier, the same tiles, the same choice of its penalty for every network, so that a difference is the
features'. Random weights are the control: what they reach, the architecture and the classifier do by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from rnasynth.errors import InputError
from rnasynth.evaluation.fidelity.sets import TileSet
from rnasynth.evaluation.stats import Interval, bootstrap, resampling_units

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # scikit-learn's C


@dataclass(frozen=True, eq=False)
class ProbeReport:
    """How well tissues are told apart.

    Attributes
    ----------
    accuracy : network -> balanced accuracy (mean of the tissues' shares found) on the test tiles.
    gain : network -> its accuracy minus that of `baseline`, both on the same resampled tiles.
    baseline : name of the network compared with.
    chance : 1 / number of tissues.
    unit : what intervals resample.
    """

    accuracy: dict[str, Interval]
    gain: dict[str, Interval]
    baseline: str
    chance: float
    unit: str

    def table(self) -> pd.DataFrame:
        """Return network, balanced accuracy and gain as text."""
        rows = {
            name: {"balanced accuracy": str(value), f"gain over {self.baseline}": str(self.gain.get(name, "-"))}
            for name, value in self.accuracy.items()
        }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("features")


def linear_probe(
    train: TileSet,
    val: TileSet,
    test: TileSet,
    networks: Sequence[str],
    *,
    tissues: Sequence[str] = (),
    n_boot: int = 1000,
    seed: int = 0,
) -> ProbeReport:
    """Fit on training tiles, choose the penalty on validation tiles, report on test tiles.

    Parameters
    ----------
    train, val, test : real tiles of disjoint split groups, with the features of all networks.
    networks : names, the baseline first.
    tissues : classes that count; all of the training tiles' where none are given.

    Raises
    ------
    InputError : a split group in two sets, fewer than two tissues, or one that is not in every set.
    """
    owners = [set(part.patients) for part in (train, val, test)]
    if owners[0] & owners[1] or (owners[0] | owners[1]) & owners[2]:
        raise InputError("linear probe", expected="disjoint split groups", found="one in two sets")
    known = sorted(tissues or set(train.tissues))
    if len(known) < 2 or any(tissue not in set(part.tissues) for part in (train, val, test) for tissue in known):
        raise InputError("linear probe", expected="two or more tissues, each in every set", found=", ".join(known))
    rows = [np.flatnonzero(np.isin(part.tissues, known)) for part in (train, val, test)]
    labels = [part.tissues[mine] for part, mine in zip((train, val, test), rows, strict=True)]
    answers = {}
    for network in networks:
        x = [part.features[network][mine] for part, mine in zip((train, val, test), rows, strict=True)]
        answers[network] = _answers(x, labels)
    units, unit = resampling_units(test.patients[rows[2]])

    def interval(statistic: Any, *columns: NDArray[Any]) -> Interval:
        return bootstrap(statistic, labels[2], *columns, groups=units, n_boot=n_boot, seed=seed)

    baseline = networks[0]
    gains = {
        name: interval(
            lambda truth, mine, other: _accuracy(truth, mine) - _accuracy(truth, other), answers[name], answers[baseline]
        )
        for name in networks[1:]
    }
    return ProbeReport(
        {name: interval(_accuracy, said) for name, said in answers.items()}, gains, baseline, 1 / len(known), unit
    )


def _answers(x: Sequence[NDArray[Any]], labels: Sequence[NDArray[np.str_]]) -> NDArray[np.str_]:
    """Tissue named of each test tile, by the penalty that is best on the validation tiles."""
    scale = StandardScaler().fit(x[0])
    scaled = [scale.transform(part) for part in x]
    models = [
        LogisticRegression(C=penalty, class_weight="balanced", max_iter=5000).fit(scaled[0], labels[0])
        for penalty in PENALTIES
    ]
    best = max(models, key=lambda model: _accuracy(labels[1], model.predict(scaled[1])))  # of equal ones the smallest C
    return np.asarray(best.predict(scaled[2]))


def _accuracy(truth: NDArray[Any], said: NDArray[Any]) -> float:
    """Mean share found of the tissues in `truth`; scikit-learn's warns where a resample lacks a tissue that was named."""
    return float(np.mean([np.mean(said[truth == tissue] == tissue) for tissue in np.unique(truth)]))
