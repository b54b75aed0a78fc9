"""A spot and the tissue around it: features of the neighbours' tiles beside the own ones, and a kernel regression on both.

A spot's RNA follows its neighbourhood too: what a tile of 128 um shows of a duct or an infiltrate goes on next door. The
neighbours are spots of the same section, so they are of the same split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.kernel_ridge import KernelRidge

from rnasynth.data.patients import PatientInputs
from rnasynth.errors import InputError, SplitError
from rnasynth.evaluation.profiles.baselines import Baseline, mean_features
from rnasynth.evaluation.profiles.pairs import Inputs, Pairs, check_disjoint

KERNEL = "kernel, tile and surroundings"
WIDTHS = (1.0, 3.0)  # of the Gaussian weights of neighbours, in pitches of the array
NEXT = 1.5  # pitches: the eight spots around one
GAMMAS = (0.1, 0.3)  # of the Gaussian kernel on columns whose variances add up to 1
PATTERNS = (3, 10)  # principal components of the training profiles that are predicted
PENALTIES = np.logspace(-1, 2.5, 10)
PLACE = ("section", "array_x", "array_y")


def has_places(obs: pd.DataFrame) -> bool:
    """Whether samples are spots with a place on an array."""
    return set(PLACE) <= set(obs)


def with_surroundings(inputs: PatientInputs, obs: pd.DataFrame, *, widths: Sequence[float] = WIDTHS) -> PatientInputs:
    """Return spots with one row each: features of the own tile, then of the section's spots, near ones weighing most.

    Parameters
    ----------
    inputs : whole sections; a spot's neighbours are looked for among these.
    obs : of at least these samples: sample_id, section, array_x and array_y in pitches.
    widths : of the Gaussian weights, in pitches; each adds as many columns as the own tile has.

    Raises
    ------
    InputError : no places, a sample that is not in `obs`, or one without tiles.
    """
    place = _places(inputs, obs)
    own = mean_features(inputs)
    if not np.isfinite(own).all():
        row = int(np.flatnonzero(~np.isfinite(own).all(axis=1))[0])
        raise InputError(f"sample {inputs.sample_ids[row]}", expected="a tile for every spot", found="none")
    apart = _distances(place)
    parts = [own]
    for width in widths:
        weight = np.exp(-0.5 * np.square(apart / width))
        parts.append(weight / weight.sum(axis=1, keepdims=True) @ own)
    wide = np.hstack(parts).astype(np.float32)
    return replace(inputs, bags=tuple(row[None] for row in wide), features=f"{inputs.features} with surroundings")


def next_spots(values: NDArray[np.floating], inputs: Inputs, obs: pd.DataFrame) -> NDArray[np.float64]:
    """Return the mean of the adjacent spots' rows, shape of `values`; the mean of all where a spot has no neighbour.

    Of real profiles this is a control: what RNA next door tells, which no model of this room may read.
    """
    near = (_distances(_places(inputs, obs)) <= NEXT).astype(np.float64)
    np.fill_diagonal(near, 0.0)
    number = near.sum(axis=1, keepdims=True)
    mean = near @ values / np.maximum(number, 1.0)
    return np.asarray(np.where(number > 0, mean, np.mean(values, axis=0, dtype=np.float64)))


def kernel_regression(train: Pairs, val: Pairs, *, name: str = KERNEL) -> Baseline:
    """Return kernel ridge regression (Gaussian kernel) from mean features to a few patterns of all genes.

    Width, penalty and number of patterns are chosen by the squared error on validation samples. Genes share patterns
    (principal components of the training profiles), so that a gene with few counts borrows from those that move with it.

    Raises
    ------
    SplitError : not training and validation samples, or a split group in both. InputError : a sample without tiles.
    """
    if train.split != "train" or val.split == "test":
        raise SplitError(name, expected="training and validation samples", found=f"{train.split}, {val.split}")
    check_disjoint(train, val)
    known = mean_features(train.inputs)
    centre, size = known.mean(axis=0), np.maximum(known.std(axis=0), 1e-9) * np.sqrt(known.shape[1])

    def columns(inputs: Inputs) -> NDArray[np.float64]:
        found = (mean_features(inputs) - centre) / size
        if not np.isfinite(found).all():
            raise InputError(name, expected="tiles of every sample", found="a sample without")
        return found

    offset = train.z.mean(axis=0, dtype=np.float64)
    patterns = np.linalg.svd(train.z - offset, full_matrices=False)[2][: max(PATTERNS)]
    goal, x, seen = (train.z - offset) @ patterns.T, columns(train.inputs), columns(val.inputs)
    best = (np.inf, KernelRidge(), 0)
    for gamma in GAMMAS:
        for penalty in PENALTIES:
            fitted = KernelRidge(alpha=penalty, kernel="rbf", gamma=gamma).fit(x, goal)
            found = fitted.predict(seen)
            for rank in PATTERNS:
                error = float(np.square(found[:, :rank] @ patterns[:rank] + offset - val.z).mean())
                if error < best[0]:
                    best = (error, fitted, rank)
    _, model, kept = best

    def predict(inputs: Inputs) -> NDArray[np.float32]:
        return (model.predict(columns(inputs))[:, :kept] @ patterns[:kept] + offset).astype(np.float32)

    return Baseline(name, train.genes, predict, {"": val.z - predict(val.inputs)})


def _places(inputs: Inputs, obs: pd.DataFrame) -> pd.DataFrame:
    if not has_places(obs):
        raise InputError("spots", expected=f"columns {', '.join(PLACE)}", found="samples without a place on an array")
    table = obs.set_index(obs["sample_id"].astype(str))[list(PLACE)]
    if missing := [name for name in inputs.sample_ids if name not in table.index]:
        raise InputError(f"sample {missing[0]}", expected="a place on an array", found="no such sample in the table")
    return table.loc[list(inputs.sample_ids)]


def _distances(place: pd.DataFrame) -> NDArray[np.float64]:
    """Pitches between spots, shape (N, N); infinite between sections."""
    xy = place[["array_x", "array_y"]].to_numpy(float)
    apart = np.sqrt(np.square(xy[:, None] - xy[None]).sum(axis=-1))
    section = place["section"].astype(str).to_numpy()
    apart[section[:, None] != section[None]] = np.inf
    return apart
