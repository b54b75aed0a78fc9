"""How well each gene is predicted over held-out samples, with intervals over patients.

Two habits of the field make such numbers look better than they are. Genes are called "the best 200" by the test samples
that they are reported on: here their order is fixed before (by validation samples, or by variance in training), and the
other number stands beside it as optimistic. And where tissues are mixed, whoever knows the tissue predicts most genes: so
every correlation is also given within tissues, where the label alone reaches 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import ArrayLike, NDArray
from statsmodels.stats.multitest import multipletests

from rnasynth.data.genes import dense, only_training
from rnasynth.errors import InputError
from rnasynth.evaluation.keys import key_of
from rnasynth.evaluation.stats import Interval, resampling_units

TOPS = (20, 200, 1000)  # genes, as the field reports them
TINY = 1e-12  # variance below which a gene does not vary
ALPHA = 0.05  # false discovery rate of "genes found"


def gene_correlation(real: NDArray[Any], made: NDArray[Any]) -> NDArray[np.float64]:
    """Return Pearson's r of each gene over samples.

    Parameters
    ----------
    real, made : shape (n, genes).

    Returns
    -------
    Shape (genes,). 0 where `made` is constant, as it then tells nothing of the samples (such a gene must not drop out of a
    mean); NaN where `real` does not vary, as nothing can be told there.

    Raises
    ------
    InputError : other shapes, fewer than two samples, or values that are not finite.
    """
    x, y = _checked(real, made)
    return np.asarray(weighted_correlation(x, y, np.ones((1, len(x))))[0])


def within(values: NDArray[Any], tissues: ArrayLike) -> NDArray[np.float64]:
    """Take each tissue's mean off its samples; values (n, genes), one tissue a sample. A tissue of one becomes 0."""
    labels = np.asarray(tissues).astype(str)
    out = np.array(values, dtype=np.float64)
    for tissue in np.unique(labels):
        out[labels == tissue] -= out[labels == tissue].mean(axis=0)
    return out


def order_by_validation(real: NDArray[Any], made: Mapping[str, NDArray[Any]]) -> NDArray[np.intp]:
    """Return the genes from the best predicted to the worst, by validation samples: mean over models of r.

    One order for all models, so that none is reported on its own favourites; shape (genes,).
    """
    every = [np.nan_to_num(gene_correlation(real, values), nan=-1.0) for values in made.values()]
    if not every:
        raise InputError("order of genes", expected="at least one model", found="none")
    return np.argsort(-np.mean(every, axis=0), kind="stable")


def order_by_variance(variance: ArrayLike) -> NDArray[np.intp]:
    """Return the genes from the most variable to the least: variance of log values over training samples, shape (genes,).

    z-scores all vary alike; take the square of the transform's `sd`.
    """
    return np.argsort(-np.asarray(variance, dtype=np.float64), kind="stable")


def well_measured(train: AnnData, n_top: int) -> list[str]:
    """Return the genes that most training samples have counts of; ties by mean, then by id; in the order of `train`.

    Of spots with few counts these are the genes that can be judged at all: of a gene with ten counts in a section, noise is
    most of the variance.

    Raises
    ------
    SplitError : a sample is not for training.
    """
    only_training(train)
    x = dense(train)
    there, mean = (x > 0).mean(axis=0), x.mean(axis=0, dtype=np.float64)
    ranked = sorted(range(train.n_vars), key=lambda gene: (-there[gene], -mean[gene], str(train.var_names[gene])))
    return [str(train.var_names[gene]) for gene in sorted(ranked[:n_top])]


def gene_p_values(
    real: NDArray[Any], made: NDArray[Any], *, tissues: ArrayLike, n_permutations: int = 499, seed: int = 0
) -> NDArray[np.float64]:
    """Return the one-sided p value of each gene's correlation within tissues: samples are exchanged inside a tissue.

    Shape (genes,), never 0 (Phipson and Smyth 2010); 1 where nothing varies. All genes are shuffled together.
    """
    labels = np.asarray(tissues).astype(str)
    x, y = (within(values, labels) for values in _checked(real, made))
    observed = _products(x, y)
    generator = np.random.default_rng(seed)
    strata = [np.flatnonzero(labels == tissue) for tissue in np.unique(labels)]
    as_high = np.ones(x.shape[1])
    for _ in range(n_permutations):
        order = np.arange(len(y))
        for rows in strata:
            order[rows] = generator.permutation(rows)
        as_high += _products(x, y[order]) >= observed - 1e-12 * np.maximum(1.0, np.abs(observed))
    return as_high / (1 + n_permutations)


def found(p: NDArray[Any], *, alpha: float = ALPHA) -> NDArray[np.bool_]:
    """Return which genes pass a false discovery rate (Benjamini and Hochberg 1995), shape of `p`."""
    return np.asarray(multipletests(p, alpha=alpha, method="fdr_bh")[0])


@dataclass(frozen=True, eq=False)
class GeneReport:
    """Gene-wise correlation of several models on the same held-out samples.

    Attributes
    ----------
    numbers : "correlation_MODEL_SET" and "within_MODEL_SET" (within tissues), SET one of top20, top200, top1000, all;
        "gain_MODEL_SET": within tissues, over `reference`, on the same resamples; "found_MODEL": share of genes that follow
        within tissues (permutation, false discovery rate 5 %); "optimistic_MODEL_SET": over the genes that are best on these
        very samples, as papers often report.
    labels : the same keys -> words.
    rows, within_rows, gain_rows : for `plots.intervals`: label (model), group (genes), value, low, high, n.
    table : index gene, in the order fixed beforehand; r of each model, and "MODEL, within tissues".
    reference : the model that gains are over; "" for none.
    unit : what intervals resample.
    """

    numbers: dict[str, Any]
    labels: dict[str, str]
    rows: pd.DataFrame
    within_rows: pd.DataFrame
    gain_rows: pd.DataFrame
    table: pd.DataFrame
    reference: str
    unit: str

    def curves(self, *, inside: bool = True) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
        """Return model -> (k, mean r of the first k genes) for a chart, within tissues or over all samples."""
        ending = ", within tissues"
        lines = {}
        for column in self.table:
            if str(column).endswith(ending) == inside:
                values = self.table[column].to_numpy(float)
                known = np.isfinite(values)
                k = np.arange(1, int(known.sum()) + 1)
                lines[str(column).removesuffix(ending)] = (k, np.cumsum(values[known]) / k)
        return lines

    def summary(self) -> pd.DataFrame:
        """Return the numbers as text: a row a model, a column a set of genes."""
        rows: dict[str, dict[str, str]] = {}
        for frame, ending in ((self.rows, ""), (self.within_rows, ", within tissues")):
            for row in frame.to_dict("records"):
                text = f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
                rows.setdefault(str(row["label"]), {})[f"{row['group']}{ending}"] = text
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")


def gene_report(
    real: NDArray[Any],
    made: Mapping[str, NDArray[Any]],
    *,
    genes: Sequence[str],
    order: NDArray[np.intp],
    groups: ArrayLike,
    tissues: ArrayLike,
    reference: str = "",
    tops: Sequence[int] = TOPS,
    n_boot: int = 1000,
    n_permutations: int = 499,
    seed: int = 0,
) -> GeneReport:
    """Correlate each gene of each model with the real one, over held-out samples.

    Parameters
    ----------
    real : z-scores of held-out samples, shape (n, genes).
    made : model -> what it predicts of them, the same shape.
    genes : names of the columns.
    order : genes from first to last, fixed without these samples (`order_by_validation`, `order_by_variance`).
    groups, tissues : split group and tissue (or other label) of each sample. Where all samples are of one group, intervals
        are over samples; `unit` says so.
    reference : the model that gains are over.
    tops : sizes of the gene sets; those that are not below the number of genes are left out, as "all" is always there.

    Raises
    ------
    InputError : shapes that do not fit, an order that is none, or an unknown reference.
    """
    if not made or (reference and reference not in made):
        raise InputError("models", expected=f"at least one, and {reference!r}", found=", ".join(made) or "none")
    if sorted(np.asarray(order).tolist()) != list(range(len(genes))) or np.shape(real)[1:] != (len(genes),):
        raise InputError("order of genes", expected=f"each of {len(genes)} columns once", found=f"{np.shape(order)}")
    units, unit = resampling_units(groups)
    weights, n_groups = resample_counts(units, n_boot, seed)
    sets = {f"top{top}": np.asarray(order)[:top] for top in tops if top < len(genes)} | {"all": np.asarray(order)}
    words = {
        name: f"first {len(rows):,} genes" if name != "all" else f"all {len(rows):,} genes" for name, rows in sets.items()
    }
    method = f"percentile bootstrap over {unit}, {n_boot} resamples, 95%"
    numbers: dict[str, Any] = {}
    labels: dict[str, str] = {}
    frames: dict[str, list[dict[str, Any]]] = {"correlation": [], "within": [], "gain": []}
    columns: dict[str, NDArray[np.float64]] = {}
    draws: dict[tuple[str, str], NDArray[np.float64]] = {}
    values: dict[tuple[str, str], float] = {}
    said = {"correlation": "mean correlation over samples", "within": "mean correlation within tissues"}
    for model, predicted in made.items():
        for kind in ("correlation", "within"):
            x, y = _checked(real, predicted)
            if kind == "within":
                x, y = within(x, tissues), within(y, tissues)
            r, resampled = weighted_correlation(x, y, np.ones((1, len(x))))[0], weighted_correlation(x, y, weights)
            columns[model if kind == "correlation" else f"{model}, within tissues"] = r
            for name, rows in sets.items():
                value, drawn = _mean(r[rows]), _mean(resampled[:, rows])
                if kind == "within":
                    values[model, name], draws[model, name] = value, drawn
                key = f"{kind}_{key_of(model)}_{name}"
                numbers[key] = interval_of(value, drawn, n_groups, method)
                labels[key] = f"{said[kind]}, {words[name]}: {model}"
                frames[kind].append({"label": model, "group": words[name], **numbers[key].to_dict()})
        best = np.sort(columns[model][np.isfinite(columns[model])])[::-1]
        for name, rows in sets.items():
            if name != "all":
                numbers[f"optimistic_{key_of(model)}_{name}"] = float(best[: len(rows)].mean())
                labels[f"optimistic_{key_of(model)}_{name}"] = (
                    f"mean correlation of the {len(rows):,} genes that are best on these samples (optimistic): {model}"
                )
        p = gene_p_values(real, predicted, tissues=tissues, n_permutations=n_permutations, seed=seed)
        numbers[f"found_{key_of(model)}"] = float(found(p).mean())
        labels[f"found_{key_of(model)}"] = f"share of genes that follow within tissues (false discovery rate 5 %): {model}"
    for model in made if reference else ():
        for name in sets if model != reference else ():
            key = f"gain_{key_of(model)}_{name}"
            gain = values[model, name] - values[reference, name]
            numbers[key] = interval_of(gain, draws[model, name] - draws[reference, name], n_groups, method)
            labels[key] = f"correlation within tissues over that of {reference}, {words[name]}: {model}"
            frames["gain"].append({"label": model, "group": words[name], **numbers[key].to_dict()})
    table = pd.DataFrame(columns, index=pd.Index(list(genes), name="gene")).iloc[np.asarray(order)]
    rows_of = {kind: pd.DataFrame(rows) for kind, rows in frames.items()}
    return GeneReport(numbers, labels, rows_of["correlation"], rows_of["within"], rows_of["gain"], table, reference, unit)


def resample_counts(units: ArrayLike, n_boot: int, seed: int) -> tuple[NDArray[np.float64], int]:
    """Return how often each sample is in each resample of groups, shape (n_boot, n), and the number of groups.

    The same resamples as those of `stats.bootstrap` by this seed.
    """
    names = np.asarray(units).astype(str)
    _, first, number = np.unique(names, return_index=True, return_inverse=True)
    place = np.argsort(np.argsort(first))[number]  # groups in order of first appearance
    n_groups = len(first)
    generator = np.random.default_rng(seed)
    counts = np.stack([np.bincount(generator.integers(n_groups, size=n_groups), minlength=n_groups) for _ in range(n_boot)])
    return counts[:, place].astype(np.float64), n_groups


def interval_of(value: float, draws: NDArray[np.float64], n: int, method: str) -> Interval:
    """Return a percentile interval from resampled values; without ends for one group, or where most are not finite."""
    known = draws[np.isfinite(draws)]
    if n < 2 or len(known) < len(draws) / 2:
        return Interval(value, math.nan, math.nan, n, f"{method} (no interval)")
    low, high = np.quantile(known, [0.025, 0.975])
    return Interval(value, float(low), float(high), n, method)


def weighted_correlation(
    x: NDArray[np.float64], y: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return Pearson's r of each gene for each row of weights: a bootstrap of all genes by five matrix products.

    Parameters
    ----------
    x, y : shape (n, genes).
    weights : how often each sample counts, shape (rows, n).

    Returns
    -------
    Shape (rows, genes); 0 and NaN as in `gene_correlation`.
    """
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    share = weights / weights.sum(axis=1, keepdims=True)
    mean_x, mean_y = share @ x, share @ y
    var_x, var_y = share @ x**2 - mean_x**2, share @ y**2 - mean_y**2
    moves_x = var_x > TINY + 1e-9 * (x**2).mean(axis=0)
    moves_y = var_y > TINY + 1e-9 * (y**2).mean(axis=0)
    both = moves_x & moves_y
    r = np.zeros(var_x.shape)
    np.divide(share @ (x * y) - mean_x * mean_y, np.sqrt(np.where(both, var_x * var_y, 1.0)), out=r, where=both)
    return np.where(moves_x, np.clip(r, -1.0, 1.0), np.nan)


def _products(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.einsum("ng,ng->g", x, y))


def _mean(values: NDArray[np.float64]) -> Any:
    """Mean over genes (the last axis) that vary; NaN where none does."""
    known = np.isfinite(values)
    count = known.sum(axis=-1)
    total = np.where(known, values, 0.0).sum(axis=-1)
    out = np.divide(total, count, out=np.full(np.shape(count), np.nan), where=count > 0)
    return out if out.ndim else float(out)


def _checked(real: NDArray[Any], made: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = np.asarray(real, dtype=np.float64), np.asarray(made, dtype=np.float64)
    if x.ndim != 2 or x.shape != y.shape or len(x) < 2:
        raise InputError(
            "profiles to compare", expected="two matrices of one shape, 2 samples", found=f"{x.shape}, {y.shape}"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError("profiles to compare", expected="finite values", found="NaN or infinite", fix="look at the model")
    return x, y
