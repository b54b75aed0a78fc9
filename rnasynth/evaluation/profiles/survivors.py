"""What of a profile survives a way there and back: genes, cell types, and the place in the shared latent.

Everything is measured within tissues, against pairs shuffled there, and beside the ceiling that the way back has on a
patient's real tiles: where the ceiling does not follow a gene, nothing can be said of the tiles on the way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from rnasynth.errors import InputError
from rnasynth.evaluation.conditioning.area import ridge
from rnasynth.evaluation.conditioning.retrieval import rank_matrix
from rnasynth.evaluation.keys import key_of
from rnasynth.evaluation.profiles.genes import (
    found,
    gene_correlation,
    gene_p_values,
    interval_of,
    resample_counts,
    weighted_correlation,
    within,
)
from rnasynth.evaluation.stats import Interval, bootstrap, resampling_units

MADE = "through made tiles"
CEILING = "from real tiles (ceiling)"
FOLLOWS, FOLLOWS_NOT = "follows through made tiles", "does not follow through made tiles"
ALPHA = 0.05


@dataclass(frozen=True, eq=False)
class SurvivalReport:
    """What is the same before and after, on held-out samples.

    Attributes
    ----------
    numbers : "correlation_WHAT_ROUTE" (mean over quantities, within tissues); "shuffled_WHAT_ROUTE" (the same for pairs
        shuffled within tissues: its mean and the 95 % that chance gives); "share_WHAT_ROUTE" (of quantities that follow:
        one-sided permutation within tissues, false discovery rate 5 %); "retrieval_WHAT_ROUTE" (rank of the right sample
        within its tissue by all quantities together; 1 perfect, 0.5 chance). WHAT is `what` of `survivors`.
    labels : the same keys -> words.
    table : a row a quantity (gene, cell type, latent dimension): r and "follows" of each route.
    rows : for `plots.intervals`: label (route), group (own or shuffled pairs), value, low, high.
    unit : what intervals resample.
    """

    numbers: dict[str, Any]
    labels: dict[str, str]
    table: pd.DataFrame
    rows: pd.DataFrame
    unit: str

    def points(self, x: str = CEILING, y: str = MADE) -> pd.DataFrame:
        """Return r of each quantity by two routes, for `plots.scatter_against`: x, y, group (whether it survives)."""
        return followed(self.table, self.table[x], route=y)

    def summary(self, x: str = CEILING, y: str = MADE) -> str:
        """Say in one sentence how much survives, of what could."""
        could, does = self.table[f"{x}, follows"].to_numpy(bool), self.table[f"{y}, follows"].to_numpy(bool)
        return (
            f"{x}: {could.sum()} of {len(could)} follow within tissues; {y}: {does.sum()}, of which {(could & does).sum()} "
            "are among those."
        )


def followed(table: pd.DataFrame, x: pd.Series, *, route: str = MADE) -> pd.DataFrame:
    """Return r of each quantity by another route (`x`) and by `route` of `table`, with whether it follows by the latter."""
    group = np.where(table[f"{route}, follows"].to_numpy(bool), FOLLOWS, FOLLOWS_NOT)
    return pd.DataFrame({"x": x, "y": table[route], "group": group}).dropna()


def survivors(
    original: NDArray[Any],
    routes: Mapping[str, NDArray[Any]],
    *,
    names: Sequence[str],
    tissues: ArrayLike,
    groups: ArrayLike,
    what: str = "genes",
    n_boot: int = 500,
    n_permutations: int = 499,
    seed: int = 0,
) -> SurvivalReport:
    """Compare quantities of held-out samples before and after a way there and back.

    Parameters
    ----------
    original : shape (N, k): z-scores of genes, fractions of cell types, latents, or features of tiles.
    routes : name -> what came back, the same shape.
    names : of the k quantities.
    tissues, groups : tissue (samples are exchanged inside one only) and split group of each sample.
    what : the quantities in words, such as "genes"; part of the numbers' names.

    Raises
    ------
    InputError : shapes that do not fit, or no route.
    """
    x = np.asarray(original, dtype=np.float64)
    if not routes or x.ndim != 2 or x.shape[1] != len(names):
        raise InputError(f"way back of {what}", expected=f"(N, {len(names)}) and a route", found=f"{x.shape}, {len(routes)}")
    strata, (units, unit) = np.asarray(tissues).astype(str), resampling_units(groups)
    weights, n_groups = resample_counts(units, n_boot, seed)
    numbers: dict[str, Any] = {}
    labels: dict[str, str] = {}
    columns: dict[str, NDArray[Any]] = {}
    rows = []
    for route, back in routes.items():
        y = np.asarray(back, dtype=np.float64)
        r = gene_correlation(within(x, strata), within(y, strata))
        p = gene_p_values(x, y, tissues=strata, n_permutations=n_permutations, seed=seed)
        follows = found(p, alpha=ALPHA) & np.isfinite(r)
        columns |= {route: r, f"{route}, p": p, f"{route}, follows": follows}
        drawn = np.nanmean(weighted_correlation(within(x, strata), within(y, strata), weights), axis=1)
        method = f"percentile bootstrap over {unit}, {n_boot} resamples, 95%"
        own = interval_of(float(np.nanmean(r)), drawn, n_groups, method)
        chance = _shuffled(x, y, strata, n_permutations, seed)
        key = f"{key_of(what)}_{key_of(route)}"
        ranks = np.diag(rank_matrix(_scaled(y), _scaled(x), strata))
        known = np.isfinite(ranks)
        numbers |= {
            f"correlation_{key}": own,
            f"shuffled_{key}": chance,
            f"share_{key}": float(follows.mean()),
        }
        labels |= {
            f"correlation_{key}": f"mean correlation of {what} within tissues, {route}",
            f"shuffled_{key}": f"the same for pairs shuffled within tissues, {route}",
            f"share_{key}": f"share of {what} that follow within tissues (false discovery rate 5 %), {route}",
        }
        if known.any():
            numbers[f"retrieval_{key}"] = bootstrap(np.mean, ranks[known], groups=units[known], n_boot=n_boot, seed=seed)
            labels[f"retrieval_{key}"] = f"rank of the right sample in its tissue by {what} (chance 0.5), {route}"
        rows.append({"label": route, "group": "own pairs", **own.to_dict()})
        rows.append({"label": route, "group": "shuffled pairs", **chance.to_dict()})
    table = pd.DataFrame(columns, index=pd.Index(list(names), name=what))
    return SurvivalReport(numbers, labels, table, pd.DataFrame(rows).astype({"low": float, "high": float}), unit)


@dataclass(frozen=True, eq=False)
class CellReader:
    """Ridge regression from a profile to the fractions of its cell types; fitted on real training profiles.

    Attributes
    ----------
    kinds : names of the cell types.
    """

    kinds: tuple[str, ...]
    _model: Any

    def __call__(self, z: NDArray[Any]) -> NDArray[np.float64]:
        """Return fractions, shape (N, kinds), from z-scores (N, genes); not forced to be shares."""
        return np.asarray(self._model.predict(np.asarray(z, dtype=np.float64)), dtype=np.float64)


def cell_reader(
    z_train: NDArray[Any], fractions_train: pd.DataFrame, z_val: NDArray[Any], fractions_val: pd.DataFrame
) -> CellReader:
    """Fit a reader of cell types on training profiles; its penalty is chosen on validation profiles.

    Parameters
    ----------
    z_train, z_val : z-scores, shape (n, genes).
    fractions_train, fractions_val : samples x cell types; samples with an unknown fraction are left out.

    Raises
    ------
    InputError : fewer than ten training or two validation samples with known fractions.
    """
    known = [part.notna().all(axis=1).to_numpy() for part in (fractions_train, fractions_val)]
    if known[0].sum() < 10 or known[1].sum() < 2:
        raise InputError(
            "cell types", expected="10 training and 2 validation samples with fractions", found=f"{[k.sum() for k in known]}"
        )
    y = [part.to_numpy(float)[rows] for part, rows in zip((fractions_train, fractions_val), known, strict=True)]
    x = [np.asarray(z, dtype=np.float64)[rows] for z, rows in zip((z_train, z_val), known, strict=True)]
    model = ridge(x[0], y[0], x[1], y[1])
    return CellReader(tuple(map(str, fractions_train.columns)), model)


def cosine_agreement(
    original: NDArray[Any],
    back: NDArray[Any],
    *,
    centre: NDArray[Any],
    tissues: ArrayLike,
    groups: ArrayLike,
    n_boot: int = 1000,
    n_permutations: int = 199,
    seed: int = 0,
) -> dict[str, Interval]:
    """Agreement of latents before and after: mean cosine of what differs from the training centre.

    Parameters
    ----------
    original, back : latents, shape (N, latent).
    centre : mean of the training samples' latents, shape (latent,).

    Returns
    -------
    "cosine" (own pairs), "cosine_shuffled" (pairs shuffled within tissues: mean, and what 95 % of the shuffles give) and
    "cosine_gain" (own less the mean over all other samples of the tissue, paired by sample; above 0: more than the tissue
    comes back).
    """
    x, y = (np.asarray(part, dtype=np.float64) - centre for part in (original, back))
    if x.shape != y.shape or x.ndim != 2:
        raise InputError("latents", expected="two matrices of one shape", found=f"{x.shape}, {y.shape}")
    x, y = _unit(x), _unit(y)
    strata, (units, _) = np.asarray(tissues).astype(str), resampling_units(groups)
    every = x @ y.T
    same = (strata[:, None] == strata[None]) & ~np.eye(len(x), dtype=bool)
    others = np.divide((every * same).sum(axis=1), same.sum(axis=1), out=np.full(len(x), np.nan), where=same.any(axis=1))
    own, known = np.diag(every).copy(), same.any(axis=1)
    generator = np.random.default_rng(seed)
    shuffled = []
    for _ in range(n_permutations):
        order = _order(strata, generator)
        shuffled.append(float(every[np.arange(len(x)), order].mean()))
    low, high = np.quantile(shuffled, [0.025, 0.975])
    found_ = {
        "cosine": bootstrap(np.mean, own, groups=units, n_boot=n_boot, seed=seed),
        "cosine_shuffled": Interval(float(np.mean(shuffled)), float(low), float(high), len(x), "shuffled within tissues"),
    }
    if known.any():
        gain = own[known] - others[known]
        found_["cosine_gain"] = bootstrap(np.mean, gain, groups=units[known], n_boot=n_boot, seed=seed)
    return found_


def _shuffled(
    x: NDArray[np.float64], y: NDArray[np.float64], strata: NDArray[np.str_], n_permutations: int, seed: int
) -> Interval:
    """Mean correlation within tissues of shuffled pairs, and the middle 95 % of it."""
    x, y = within(x, strata), within(y, strata)
    generator = np.random.default_rng(seed)
    drawn = [float(np.nanmean(gene_correlation(x, y[_order(strata, generator)]))) for _ in range(min(n_permutations, 199))]
    low, high = np.quantile(drawn, [0.025, 0.975]) if drawn else (math.nan, math.nan)
    return Interval(float(np.mean(drawn)), float(low), float(high), len(x), "pairs shuffled within tissues, middle 95%")


def _order(strata: NDArray[np.str_], generator: np.random.Generator) -> NDArray[np.intp]:
    order = np.arange(len(strata))
    for tissue in np.unique(strata):
        rows = np.flatnonzero(strata == tissue)
        order[rows] = generator.permutation(rows)
    return order


def _scaled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    sd = values.std(axis=0)
    return (values - values.mean(axis=0)) / np.where(sd > 1e-12, sd, 1.0)


def _unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return np.divide(values, length, out=np.zeros_like(values), where=length > 1e-12)
