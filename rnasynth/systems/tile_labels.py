"""Labels of tiles: a column of `obs` as classes, by a rule of the training samples; and the patients kept out of training.

A column of texts has its texts as classes. A column of numbers is cut in two at the training samples' median, so that
half of what is trained on lies on each side.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from rnasynth.errors import InputError
from rnasynth.systems.tile_data import ConditionedTiles

UNKNOWN = ("", "unknown")  # texts of a label column that are no class
STOP_SHARE = 0.2  # of the training patients, on which early stopping looks: "20% of data" (RNA-GAN, STAR Methods)
FEWEST_GROUPS = 5  # training groups below which a fifth is none: the cohort's validation split is looked at instead


class LabelledTiles:
    """Chosen rows of a set of tiles, each with the number of its class in "condition", shape (B, 1).

    Parameters
    ----------
    tiles : the whole set.
    rows : which of it, shape (N,).
    """

    def __init__(self, tiles: ConditionedTiles, rows: NDArray[np.int64]) -> None:
        if not len(rows):
            raise InputError("tiles", expected="some whose class is known", found="none")
        self.tiles, self.rows = tiles, rows
        self.samples = tiles.samples[rows]

    def __len__(self) -> int:
        return len(self.rows)

    def labels(self) -> NDArray[np.int64]:
        """Return the number of each tile's class, shape (N,)."""
        return self.tiles.conditions[self.samples, 0].astype(np.int64)

    def fetch(self, indices: NDArray[Any]) -> dict[str, Tensor]:
        """Return tile (B, 3, px, px) float32 in [-1, 1] and condition (B, 1)."""
        return self.tiles.fetch(self.rows[np.asarray(indices)])


def label_rule(obs: pd.DataFrame, label: str, cut: float | None = None) -> dict[str, Any]:
    """Return classes and cut of a label column, from training samples alone.

    Returns
    -------
    {"classes": names in the order of their numbers, "cut": number or None}.

    Raises
    ------
    InputError : no such column, or fewer than two classes.
    """
    column = _column(obs, label)
    if pd.api.types.is_numeric_dtype(column):
        known = column[np.isfinite(column.to_numpy(float))].to_numpy(float)
        at = float(np.median(known)) if cut is None and len(known) else cut
        words = label.removeprefix("fraction_").replace("_", " ").strip()
        if at is None or not ((known > at).any() and (known <= at).any()):
            raise InputError(f"label {label!r}", expected="numbers on both sides of the cut", found=f"{len(known)} at {at}")
        return {"classes": [f"{words} low", f"{words} high"], "cut": at}
    classes = sorted(set(column.astype(str)) - set(UNKNOWN))
    if len(classes) < 2:
        raise InputError(f"label {label!r}", expected="two or more classes", found=", ".join(classes) or "none")
    return {"classes": classes, "cut": None}


def class_numbers(obs: pd.DataFrame, facts: dict[str, Any]) -> NDArray[np.int64]:
    """Return the number of each sample's class, -1 where it is not known or was no class of the training samples.

    Raises
    ------
    InputError : no such column.
    """
    column = _column(obs, facts["label"])
    if facts["cut"] is not None:
        values = column.to_numpy(float)
        return np.where(np.isfinite(values), (values > facts["cut"]).astype(np.int64), -1)
    number = {name: place for place, name in enumerate(facts["classes"])}
    return np.array([number.get(str(name), -1) for name in column], dtype=np.int64)


def stop_groups(obs: pd.DataFrame, facts: dict[str, Any], *, seed: int) -> list[str]:
    """Return a fifth of the split groups, drawn in turn from the groups' commonest classes, sorted.

    Parameters
    ----------
    obs : of the training samples.
    facts : label, classes and cut.
    seed : of the draw.
    """
    groups = obs["split_group"].astype(str).to_numpy()
    numbers = class_numbers(obs, facts)
    names = sorted(set(groups))
    commonest = [int(np.bincount(numbers[groups == name] + 1).argmax()) for name in names]
    shuffled = [int(row) for row in np.random.default_rng(seed).permutation(len(names))]
    turn: dict[int, int] = {}
    places = []
    for row in shuffled:  # the first group of every class, then the second of every class, and so on
        turn[commonest[row]] = turn.get(commonest[row], 0) + 1
        places.append((turn[commonest[row]], commonest[row], row))
    count = max(1, round(STOP_SHARE * len(names)))
    return sorted(names[row] for _, _, row in sorted(places)[:count])


def _column(obs: pd.DataFrame, label: str) -> pd.Series:
    if label not in obs:
        raise InputError(f"label {label!r}", expected="a column of obs", found=f"only {', '.join(map(str, obs.columns))}")
    return obs[label]
