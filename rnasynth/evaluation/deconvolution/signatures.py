"""Signatures: tables of genes x cell types, their checks, and how one is learnt from bulk profiles of known fractions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.optimize import nnls

from rnasynth.data.checks import check_raw, check_values
from rnasynth.data.genes import dense, few, gene_ids, only_training, repeated
from rnasynth.errors import InputError

PER_MILLION = 1e6


def cell_type_profiles(
    profiles: AnnData, fractions: pd.DataFrame, *, rna_content: Mapping[str, float] | pd.Series | None = None
) -> pd.DataFrame:
    """Estimate the mean profile of each cell type from bulk profiles whose fractions are known (group mode).

    Each gene's values over the samples, scaled to a million a sample, are regressed on the fractions with coefficients of
    zero or more; one factorisation of the fractions serves all genes.

    Parameters
    ----------
    profiles : raw AnnData in linear units; where `obs["split"]` exists, training samples only.
    fractions : samples x types, 0 to 1, rows that add up to 1 (to 1 %); every sample of `profiles`.
    rna_content : type -> RNA of one of its cells, where `fractions` count cells; None: they are shares of RNA.

    Returns
    -------
    Genes x types, in parts of a million of the type's RNA; its columns need not add up to a million exactly.

    Raises
    ------
    SplitError : a sample that is not for training.
    InputError : a sample without fractions, rows that do not add up, fewer samples than types, types whose fractions
        cannot be told apart (a type that no sample has, for example).

    Source: Newman et al., Nature Biotechnology 2019 (CIBERSORTx), Methods, group-mode expression purification, without its
    noise filter.
    """
    only_training(profiles)
    check_linear(profiles, allow_small=False)
    names = [str(name) for name in profiles.obs_names]
    table = fractions.rename(index=str)
    if absent := [name for name in names if name not in set(table.index)]:
        raise InputError(f"sample {few(absent)}", expected="fractions", found="none")
    table = table.loc[names].astype(float)
    if bad := [str(n) for n, row in table.iterrows() if not (row.min() >= 0 and abs(row.sum() - 1) <= 0.01)]:
        raise InputError(f"fractions of {few(bad)}", expected="0 or more, adding up to 1", found="others")
    if rna_content is not None:
        table = rescaled(table, rna_content, "RNA", divide=False)
    f = table.to_numpy()
    if len(f) < f.shape[1] or np.linalg.matrix_rank(f, tol=1e-6 * len(f)) < f.shape[1]:
        raise InputError(
            "fractions",
            expected=f"{f.shape[1]} types that vary on their own over as many samples or more",
            found=f"{len(f)} samples, rank {np.linalg.matrix_rank(f, tol=1e-6 * len(f))}",
            fix="join or drop types that are rare or always go together",
        )
    x = dense(profiles).astype(np.float64)
    totals = x.sum(axis=1, keepdims=True)
    if not (totals > 0).all():
        raise InputError(f"sample {names[int(np.argmin(totals))]}", expected="expression", found="zeros only")
    q, r = np.linalg.qr(f)  # |F p - y| and |R p - Q'y| differ by what no p can change
    targets = q.T @ (x * (PER_MILLION / totals))
    solved = np.array([nnls(r, target)[0] for target in targets.T])
    return pd.DataFrame(solved, index=pd.Index([str(gene) for gene in profiles.var_names]), columns=table.columns)


def signature_genes(reference: pd.DataFrame, *, per_type: int = 30, min_value: float = 1.0) -> pd.DataFrame:
    """Keep the genes that tell the types apart: for each type those of largest ratio to the next type.

    Parameters
    ----------
    reference : genes x types, linear, such as `cell_type_profiles` gives.
    per_type : genes a type; fewer where fewer are above all other types.
    min_value : added to both sides of the ratio, in the table's unit, so that a trace is not a marker.

    Returns
    -------
    The chosen rows, in the table's order.
    """
    table = check_signature(reference, allow_small=True)
    values = table.to_numpy()
    ordered = np.sort(values, axis=1)
    ratio = (ordered[:, -1] + min_value) / (ordered[:, -2] + min_value)
    owner = values.argmax(axis=1)
    chosen: set[int] = set()
    for kind in range(values.shape[1]):
        mine = np.flatnonzero((owner == kind) & (ratio > 1))
        chosen |= {int(row) for row in mine[np.argsort(-ratio[mine], kind="stable")][:per_type]}
    return table.iloc[sorted(chosen)]


def signature_from_profiles(
    profiles: AnnData,
    fractions: pd.DataFrame,
    *,
    per_type: int = 30,
    rna_content: Mapping[str, float] | pd.Series | None = None,
) -> pd.DataFrame:
    """Learn a signature from training profiles of known fractions: `cell_type_profiles`, then `signature_genes`."""
    reference = cell_type_profiles(profiles, fractions, rna_content=rna_content)
    return signature_genes(reference, per_type=per_type, min_value=float(reference.to_numpy().mean()) / 10)


def check_signature(signature: pd.DataFrame, *, allow_small: bool = False) -> pd.DataFrame:
    """Return the signature as float64 with one form of ids, or say what is wrong with it.

    Raises
    ------
    InputError : fewer than two types, a gene or type twice, text, NaN, negative or log-scale values, or a transposed table.
    """
    if signature.shape[1] < 2 or signature.shape[0] < 2:
        shape = f"{signature.shape[0]} x {signature.shape[1]}"
        raise InputError("signature", expected="genes x two types or more", found=shape)
    if text := [str(c) for c in signature.columns if not pd.api.types.is_numeric_dtype(signature[c])]:
        raise InputError(f"signature, column {few(text)}", expected="numbers", found="text", fix="set the genes as index")
    table = signature.astype(np.float64)
    table.index, table.columns = pd.Index(gene_ids(map(str, table.index))), table.columns.astype(str)
    if table.shape[1] > table.shape[0]:
        raise InputError(
            "signature", expected="more genes (rows) than types (columns)", found=f"{table.shape}", fix="transpose it"
        )
    for what, labels in (("gene", table.index), ("type", table.columns)):
        if twice := repeated(labels):
            raise InputError(f"signature, {what} {few(twice)}", expected="once", found="several times")
    values = table.to_numpy(dtype=np.float32)
    check_values(values.T, lambda kind, gene: f"signature, {table.index[gene]}, {table.columns[kind]}", "tpm", allow_small)
    return table


def check_linear(profiles: AnnData, *, allow_small: bool) -> None:
    """Raise InputError unless the profiles are raw and linear, as only those of a mixture add up."""
    if profiles.uns.get("unit") == "zscore":
        raise InputError(
            "profiles",
            expected="linear values (TPM, RSEM or counts)",
            found="z-scores",
            fix="a mixture is a sum of linear values, which z-scores are not: use marker_scores, or the raw profiles",
        )
    check_raw(profiles, allow_small=allow_small)


def rescaled(
    fractions: pd.DataFrame, rna_content: Mapping[str, float] | pd.Series, counts: str, *, divide: bool
) -> pd.DataFrame:
    """Divide (or multiply) each type by its RNA content and restore each row's sum.

    Raises
    ------
    InputError : `counts` is "cells" already, a type without content, or a content that is not positive and finite.
    """
    if counts == "cells":
        raise InputError("fractions", expected="shares of RNA", found="shares of cells already")
    content = {str(kind): float(value) for kind, value in dict(rna_content).items()}
    if absent := [kind for kind in fractions.columns if kind not in content]:
        raise InputError(f"RNA content of {few(absent)}", expected="a number for each type", found="none")
    factor = np.array([content[kind] for kind in fractions.columns])
    if not (np.isfinite(factor).all() and (factor > 0).all()):
        raise InputError("RNA content", expected="finite numbers above 0", found=str(factor.tolist()))
    scaled = fractions.div(factor, axis=1) if divide else fractions.mul(factor, axis=1)
    totals = fractions.sum(axis=1) / scaled.sum(axis=1)
    return scaled.mul(totals, axis=0)
