"""Cell fractions from bulk profiles: nu-support vector regression as CIBERSORT describes it, NNLS, and marker scores.

A signature is a table, genes x cell types, of mean expression in linear units. What a mixture gives are shares of RNA: a
type with three times the RNA of another counts three times in them. Images count cells. `Deconvolution.to_cells` turns one
into the other where the RNA content of each type is known; without it the two differ, however good the method.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy.optimize import nnls
from sklearn.svm import NuSVR

from rnasynth.data.checks import check_raw
from rnasynth.data.genes import align, check_matched, dense, few, locate
from rnasynth.errors import InputError
from rnasynth.evaluation.deconvolution.signatures import PER_MILLION, check_linear, check_signature, rescaled

NUS = (0.25, 0.5, 0.75)  # CIBERSORT's three values, the one of smallest RMSE is taken (Newman 2015, Methods)
MIN_SHARE = 0.5  # of a signature's genes: with fewer the types that lose their genes are guessed from the others'
MIN_GENES_PER_TYPE = 2  # as many shared genes a type at least, or the regression has hardly more rows than unknowns
MIN_MARKERS = 1  # markers of a type that must be there for a score

Method = Literal["nu-svr", "nnls"]


@dataclass(frozen=True, eq=False)
class Deconvolution:
    """Fractions of each sample, and how well they explain it.

    Attributes
    ----------
    method : how they were made, in words.
    fractions : samples x types, 0 to 1; a row adds up to 1, or, with `other`, to 1 together with it. NaN where every
        type's weight was zero.
    quality : samples x (correlation, rmse[, nu]): Pearson correlation of the sample's signature genes with the mixture that
        the fractions give, and the root mean square error in standard deviations of the sample's genes.
    genes : signature genes that were used.
    missing : signature genes that the profiles lack.
    condition : condition number of the z-scored signature; the larger, the more a small error moves the fractions.
    other : share of each sample that no type of the signature explains; None where fractions are relative.
    counts : "RNA" (shares of RNA) or "cells" (divided by the RNA content of a cell).
    """

    method: str
    fractions: pd.DataFrame
    quality: pd.DataFrame
    genes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    condition: float = math.nan
    other: pd.Series | None = None
    counts: Literal["RNA", "cells"] = "RNA"

    @property
    def failed(self) -> list[str]:
        """Samples without fractions: no type of the signature explains them."""
        return [str(name) for name in self.fractions.index[self.fractions.isna().any(axis=1)]]

    def to_cells(self, rna_content: Mapping[str, float] | pd.Series) -> Deconvolution:
        """Turn shares of RNA into shares of cells: divide by each type's RNA content, and restore the row's sum.

        Parameters
        ----------
        rna_content : type -> RNA of one of its cells, relative to any other; above 0.

        Raises
        ------
        InputError : a type without content, a content that is not positive, or fractions of cells already.

        Source: Racle et al. 2017 and Finotello et al. 2019, who scale by measured mRNA per cell.
        """
        return replace(self, fractions=rescaled(self.fractions, rna_content, self.counts, divide=True), counts="cells")


def deconvolve(
    profiles: AnnData,
    signature: pd.DataFrame,
    *,
    method: Method = "nu-svr",
    other: bool = False,
    symbols: Mapping[str, str] | None = None,
    min_share: float = MIN_SHARE,
    allow_small: bool = False,
) -> Deconvolution:
    """Estimate the fractions of a signature's cell types in bulk profiles.

    Parameters
    ----------
    profiles : raw AnnData in linear units (TPM, RSEM or counts), samples x genes, any ids (Ensembl, or symbols).
    signature : genes x types, linear units, 0 or more; the index holds symbols or Ensembl ids.
    method : "nu-svr": linear nu-SVR (C = 1) of the z-scored mixture on the z-scored signature for each nu of `NUS`, weights
        below zero set to zero, scaled to 1, the nu of smallest RMSE. "nnls": least squares with weights of zero or more.
    other : only with "nnls" and a signature in TPM: keep the weights' own sum (at most 1) and call the rest "other".
    symbols : symbol of each signature gene, tried where its id is not found.
    min_share : share of the signature's genes that the profiles must have.
    allow_small : accept a linear matrix without large values, see `check_raw`.

    Raises
    ------
    InputError : z-scored or log-scale profiles or signature; another species' ids; fewer shared genes than `min_share`, or
        than two a type; a type that is zero in, or a sum of others over, all shared genes; a sample without any of them.

    Source: Newman et al., Nature Methods 2015 (CIBERSORT), Methods; Lawson and Hanson 1974 (NNLS). CIBERSORT's optional
    quantile normalisation, which it advises against for RNA-Seq, and its empirical p value are left out.
    """
    if method not in ("nu-svr", "nnls"):
        raise InputError(f"method {method!r}", expected='"nu-svr" or "nnls"', found="another")
    if other and method != "nnls":
        raise InputError("other=True", expected='method="nnls"', found=method, fix="z-scores have no total")
    check_linear(profiles, allow_small=allow_small)
    table = check_signature(signature)
    mixture, basis, missing = _shared(profiles, table, symbols, min_share)
    z_basis = (basis - basis.mean()) / basis.std()
    fit = _fit_nnls if method == "nnls" else _fit_nu_svr
    rows, quality = [], []
    for name, y in zip(profiles.obs_names, mixture, strict=True):
        if not y.std() > 0:
            raise InputError(
                f"sample {name}", expected="signature genes that differ", found="one value in all", fix="drop it"
            )
        weights, facts = fit(basis, z_basis, y)
        rows.append(weights)
        quality.append(facts)
    weights = np.array(rows)
    totals = weights.sum(axis=1, keepdims=True)
    index = pd.Index([str(name) for name in profiles.obs_names])
    if other:
        scale = PER_MILLION / dense(profiles).astype(np.float64).sum(axis=1, keepdims=True)
        weights = weights * scale
        totals = np.maximum(weights.sum(axis=1, keepdims=True), 1.0)
    with np.errstate(invalid="ignore"):
        fractions = pd.DataFrame(weights / totals, index=index, columns=table.columns)
    used = [gene for gene in table.index if gene not in set(missing)]
    return Deconvolution(
        method={"nu-svr": "nu-SVR", "nnls": "NNLS"}[method],
        fractions=fractions,
        quality=pd.DataFrame(quality, index=index),
        genes=tuple(used),
        missing=tuple(missing),
        condition=float(np.linalg.cond(z_basis)),
        other=(1 - fractions.sum(axis=1)).clip(lower=0.0) if other else None,
    )


@dataclass(frozen=True, eq=False)
class MarkerScores:
    """Scores by marker genes: comparable between samples of one type, never between types, and no fractions.

    Attributes
    ----------
    scores : samples x types: mean of log2(value + 1) over the type's markers (of z-scores as they are).
    genes : type -> markers that were found.
    absent : types of which too few markers are there; they have no column.
    """

    scores: pd.DataFrame
    genes: dict[str, tuple[str, ...]]
    absent: tuple[str, ...] = ()


def marker_scores(
    profiles: AnnData, markers: Mapping[str, Sequence[str]], *, min_markers: int = MIN_MARKERS, allow_small: bool = False
) -> MarkerScores:
    """Score samples by the mean log2 expression of each type's markers.

    Parameters
    ----------
    profiles : raw AnnData, linear or z-scored (`uns["unit"] == "zscore"`: then the mean z-score).
    markers : type -> gene ids or symbols.
    min_markers : with fewer of them a type is left out and named in `absent`.

    Raises
    ------
    InputError : no type has its markers, another species' ids, or profiles in log scale.

    Source: Becht et al., Genome Biology 2016 (MCP-counter).
    """
    check_raw(profiles, allow_small=allow_small)
    if not markers or min_markers < 1:
        raise InputError("markers", expected="one type and one marker or more", found=f"{len(markers)} types")
    wanted = list(dict.fromkeys(gene for genes in markers.values() for gene in genes))
    place = dict(zip(wanted, locate(wanted, profiles, duplicates="first"), strict=True))
    found = {kind: tuple(dict.fromkeys(str(gene) for gene in genes if place[gene])) for kind, genes in markers.items()}
    kept = {kind: genes for kind, genes in found.items() if len(genes) >= min_markers}
    if not kept:
        check_matched(wanted, 0, list(profiles.var_names), subject="marker genes", min_share=0.01)
        raise InputError("marker genes", expected=f"{min_markers} of a type", found="fewer of each", fix="lower min_markers")
    x = dense(profiles).astype(np.float64)
    scored = x if profiles.uns.get("unit") == "zscore" else np.log2(x + 1)
    columns = {kind: scored[:, [place[gene][0] for gene in genes]].mean(axis=1) for kind, genes in kept.items()}
    index = pd.Index([str(name) for name in profiles.obs_names])
    return MarkerScores(pd.DataFrame(columns, index=index), kept, tuple(kind for kind in found if kind not in kept))


def _shared(
    profiles: AnnData, table: pd.DataFrame, symbols: Mapping[str, str] | None, min_share: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
    """Return the mixtures (samples, genes) and the signature (genes, types) of the shared genes, and the missing genes."""
    genes = list(table.index)
    known = [symbols.get(gene, "") for gene in genes] if symbols else []
    aligned = align(profiles, genes, missing="zero", symbols=known, duplicates="sum", min_share=min_share)
    present = aligned.var["present"].to_numpy(bool)
    basis = table.to_numpy()[present]
    least = MIN_GENES_PER_TYPE * table.shape[1]
    if len(basis) < least:
        raise InputError(
            "signature genes in the profiles",
            expected=f"{least} or more for {table.shape[1]} types",
            found=str(len(basis)),
            fix="use another signature, or join types",
        )
    if empty := [str(kind) for kind, column in zip(table.columns, basis.T, strict=True) if not column.std() > 0]:
        raise InputError(f"signature, type {few(empty)}", expected="genes that differ", found="none of them shared")
    if np.linalg.matrix_rank(basis / basis.std(axis=0)) < basis.shape[1]:
        raise InputError(
            "signature",
            expected="types that differ on the shared genes",
            found="one that is a sum of others",
            fix="join the types that cannot be told apart",
        )
    mixture = dense(aligned).astype(np.float64)[:, present]
    return mixture, basis, [gene for gene, here in zip(genes, present, strict=True) if not here]


def _fit_nu_svr(
    basis: NDArray[np.float64], z_basis: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], dict[str, float]]:
    target = (y - y.mean()) / y.std()
    best: tuple[NDArray[np.float64], dict[str, float]] | None = None
    for nu in NUS:
        weights = np.maximum(NuSVR(kernel="linear", nu=nu, C=1.0).fit(z_basis, target).coef_.ravel(), 0.0)
        share = weights / weights.sum() if weights.sum() > 0 else weights
        facts = _quality(z_basis @ share, target) | {"nu": nu}
        if best is None or facts["rmse"] < best[1]["rmse"]:
            best = share, facts
    assert best is not None
    return best


def _fit_nnls(
    basis: NDArray[np.float64], z_basis: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], dict[str, float]]:
    scale = basis.mean()
    weights = nnls(basis / scale, y / scale)[0]
    return weights, _quality(basis @ weights / y.std(), y / y.std())


def _quality(fitted: NDArray[np.float64], target: NDArray[np.float64]) -> dict[str, float]:
    varies = fitted.std() > 0 and target.std() > 0
    correlation = float(np.corrcoef(fitted, target)[0, 1]) if varies else math.nan
    return {"correlation": correlation, "rmse": float(np.sqrt(np.mean((fitted - target) ** 2)))}
