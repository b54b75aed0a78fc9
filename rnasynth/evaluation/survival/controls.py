"""What the survival pipeline gives where there is nothing to find: outcomes shuffled between patients of a tissue."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import scipy.stats
from numpy.typing import NDArray

from rnasynth.errors import InputError
from rnasynth.evaluation.stats import Interval
from rnasynth.evaluation.survival.data import SurvivalFold
from rnasynth.evaluation.survival.models import fit_model
from rnasynth.evaluation.survival.study import SurvivalStudy, held_out_pairs


@dataclass(frozen=True, eq=False)
class PermutedControl:
    """Concordance on held-out patients for shuffled outcomes.

    Attributes
    ----------
    interval : mean over the shuffles, factors chosen inside the folds; it must include 0.5.
    leaky : the same shuffles, factors chosen on all patients, the held-out ones included.
    draws : shape (n_permutations, 2): the two concordances of each shuffle.
    table : both as text.
    """

    interval: Interval
    leaky: Interval
    draws: NDArray[np.float64]
    table: pd.DataFrame


def permuted_control(
    study: SurvivalStudy, *, model: str = "latent", factors: str | None = None, n_permutations: int = 20, seed: int = 0
) -> PermutedControl:
    """Run the whole pipeline after the latent again on shuffled outcomes.

    Parameters
    ----------
    study : its folds are used; neither latents nor folds ever saw an outcome.
    model : a key of `models.MODELS`.
    factors : another block to choose factors from: "genes" shows what leaks where there are many to choose from.
    n_permutations : shuffles; (time, event) move together, between patients of a tissue, all folds alike.

    Returns
    -------
    Means over shuffles with their 95 % interval (Student's t). Given what a fold was fitted on, every order of the held-out
    outcomes is equally likely, so that the honest pipeline's expectation is 0.5 exactly.

    Raises
    ------
    InputError : fewer than two permutations.
    """
    if n_permutations < 2:
        raise InputError("n_permutations", expected="2 or more", found=str(n_permutations))
    generator = np.random.default_rng([seed, 17])
    draws = np.empty((n_permutations, 2))
    for number in range(n_permutations):
        order = shuffled_within(study.folds[0].tissue, generator)
        folds = [replace(fold, months=fold.months[order], event=fold.event[order]) for fold in study.folds]
        draws[number] = [_concordance(folds, model, factors, seed, leak=leak) for leak in (False, True)]
    honest, leaky = (_mean_interval(column) for column in draws.T)
    rows = {"inside the folds": honest, "on all patients (wrong)": leaky}
    table = pd.DataFrame(
        [
            {
                "factors chosen": name,
                "mean concordance": str(found),
                "smallest": f"{c.min():.3f}",
                "largest": f"{c.max():.3f}",
            }
            for (name, found), c in zip(rows.items(), draws.T, strict=True)
        ]
    ).set_index("factors chosen")
    return PermutedControl(honest, leaky, draws, table)


def shuffled_within(labels: NDArray[np.str_], generator: np.random.Generator) -> NDArray[np.intp]:
    """Return an order of the rows, shape (n,), in which rows change places only within their label."""
    order = np.arange(len(labels))
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        order[rows] = generator.permutation(rows)
    return order


def _concordance(folds: list[SurvivalFold], model: str, factors: str | None, seed: int, *, leak: bool) -> float:
    tables = []
    for number, fold in enumerate(folds):
        everyone = np.ones(len(fold.patients), dtype=bool) if leak else None
        risk = fit_model(fold, model, seed=seed, ranked_on=everyone, factors=factors).risk
        columns = {"fold": number, "tissue": fold.tissue, "months": fold.months, "event": fold.event, "risk": risk}
        tables.append(pd.DataFrame(columns)[fold.test])
    risks = pd.concat(tables, ignore_index=True)
    return held_out_pairs(risks).concordance(risks["risk"].to_numpy())


def _mean_interval(draws: NDArray[np.float64]) -> Interval:
    n = len(draws)
    half = float(scipy.stats.t.ppf(0.975, n - 1) * draws.std(ddof=1) / math.sqrt(n))
    mean = float(draws.mean())
    return Interval(mean, mean - half, mean + half, n, f"mean of {n} shuffles, Student's t, 95%")
