"""Signatures: tables of genes x cell types, their checks, and the choice of their genes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from anndata import AnnData

from rnasynth.data.checks import check_raw, check_values
from rnasynth.data.genes import few, gene_ids, repeated
from rnasynth.errors import InputError

PER_MILLION = 1e6


def signature_genes(reference: pd.DataFrame, *, per_type: int = 30, min_value: float = 1.0) -> pd.DataFrame:
    """Keep the genes that tell the types apart: for each type those of largest ratio to the next type.

    Parameters
    ----------
    reference : genes x types, linear, such as `group_mode.cell_type_profiles` gives.
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
