"""Which kind of cell a nucleus is of, by its size, shape and darkness.

Logistic regression on what `nuclei.measure` measures, fitted on nuclei that the model found in simulated tiles, where the
kind is known. It names three classes that can be told apart by such features at all; a macrophage or a neutrophil has no
class of its own here, and page 12 shows where they go.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression

from rnasynth.errors import InputError

CLASSES = ("epithelial", "lymphocyte", "connective")  # the first: large, also tumour, glia, neurons, macrophages
#: Simulated kinds -> classes.
OF_KIND = {
    "epithelial": "epithelial",
    "macrophage": "epithelial",
    "neuron": "epithelial",
    "glia": "epithelial",
    "lymphocyte": "lymphocyte",
    "fibroblast": "connective",
    "endothelial": "connective",
}
FEATURES = ("log_area", "log_ratio", "log_short", "haematoxylin", "texture", "eosin", "roundness")


def features(table: pd.DataFrame) -> NDArray[np.float64]:
    """Return what the classifier reads of each nucleus, shape (n, 7), in the order of `FEATURES`.

    Logarithms of area, of the ratio of the half axes and of the short one; mean haematoxylin, its spread over that mean,
    eosin; and the area over that of the ellipse of the same moments.
    """
    area, long_um, short_um = (table[name].to_numpy(np.float64) for name in ("area_um2", "long_um", "short_um"))
    haematoxylin = table["haematoxylin"].to_numpy(np.float64)
    texture = table["haematoxylin_sd"].to_numpy(np.float64) / np.maximum(haematoxylin, 0.05)
    return np.column_stack(
        [
            np.log(area),
            np.log(long_um / short_um),
            np.log(short_um),
            haematoxylin,
            np.minimum(texture, 2.0),
            table["eosin"].to_numpy(np.float64),
            area / (np.pi * long_um * short_um),
        ]
    )


@dataclass(frozen=True, eq=False)
class NucleusClasses:
    """A fitted classifier.

    Attributes
    ----------
    mean, spread : of the features in training, shape (7,).
    weights, bias : shape (3, 7) and (3,), of the classes in the order of `CLASSES`.
    """

    mean: NDArray[np.float64]
    spread: NDArray[np.float64]
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]

    @classmethod
    def fit(cls, table: pd.DataFrame, names: ArrayLike) -> NucleusClasses:
        """Fit on nuclei of known class, each weighing the same: a common class is named more readily than a rare one.

        Raises
        ------
        InputError : not all three classes are there.
        """
        known = np.asarray(names, dtype=str)
        if set(known) != set(CLASSES):
            raise InputError("classes of nuclei", expected=", ".join(CLASSES), found=", ".join(sorted(set(known))) or "none")
        x = features(table)
        mean, spread = x.mean(0), np.maximum(x.std(0), 1e-6)
        number = np.array([CLASSES.index(name) for name in known])
        model = LogisticRegression(max_iter=2000).fit((x - mean) / spread, number)
        return cls(mean, spread, np.asarray(model.coef_), np.asarray(model.intercept_))

    def name(self, table: pd.DataFrame) -> tuple[NDArray[np.str_], NDArray[np.float64]]:
        """Return the likeliest class of each nucleus and its probability."""
        score = (features(table) - self.mean) / self.spread @ self.weights.T + self.bias
        score = np.exp(score - score.max(axis=1, keepdims=True))
        probability = score / score.sum(axis=1, keepdims=True)
        best = probability.argmax(axis=1)
        return np.array(CLASSES)[best], probability[np.arange(len(best)), best]

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, with the names of classes and features."""
        parts = {key: getattr(self, key).round(6).tolist() for key in ("mean", "spread", "weights", "bias")}
        return {"classes": list(CLASSES), "features": list(FEATURES), **parts}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> NucleusClasses:
        """Read what `to_dict` wrote.

        Raises
        ------
        InputError : other classes or features.
        """
        if tuple(values.get("classes", ())) != CLASSES or tuple(values.get("features", ())) != FEATURES:
            raise InputError("classes of nuclei", expected=f"{CLASSES} of {FEATURES}", found=str(values.get("classes")))
        return cls(*(np.array(values[key], dtype=np.float64) for key in ("mean", "spread", "weights", "bias")))
