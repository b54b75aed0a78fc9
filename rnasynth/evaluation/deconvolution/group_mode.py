"""The mean profile of each cell type, from bulk profiles whose fractions are known: made here, or imported.

A bulk profile is the sum of its types' profiles by their shares of RNA. Over many samples that is a regression, gene by
gene, of bulk values on fractions ("group mode"): its coefficients are the types' profiles, its residuals say how sure they
are. A profile of one type so found can be given to a generator, as RNA-CDM's authors did with CIBERSORTx's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy.optimize import nnls

from rnasynth.data.genes import dense, few, gene_ids, locate, only_training, repeated
from rnasynth.errors import InputError
from rnasynth.evaluation.deconvolution.inputs import read_table
from rnasynth.evaluation.deconvolution.signatures import PER_MILLION, check_linear, rescaled, signature_genes

FLOOR = 1.0  # parts of a million, added before a logarithm, so that a gene of no type weighs nothing


@dataclass(frozen=True, eq=False)
class CellTypeProfiles:
    """Mean profiles of cell types.

    Attributes
    ----------
    means : genes x types, in parts of a million of the type's RNA; a column need not add up to a million exactly. NaN
        where an imported table says that a gene could not be told.
    errors : the same shape: standard errors, robust against spread that grows with the mean (HC1); of a coefficient at
        zero, those of least squares without that bound. NaN where none are known.
    shares : type -> mean share of the samples' RNA; the weights of `joined`. NaN where imported.
    n : samples behind them; 0 where imported.
    method : how they were made, in words.
    """

    means: pd.DataFrame
    errors: pd.DataFrame
    shares: pd.Series
    n: int
    method: str

    def joined(self, classes: Mapping[str, Sequence[str]]) -> CellTypeProfiles:
        """Join types to classes by their mean shares of RNA; errors are joined as if independent.

        A class without any of its types is left out; a type of no class too.
        """
        means, errors, shares = {}, {}, {}
        for name, kinds in classes.items():
            own = [kind for kind in kinds if kind in self.means]
            if not own:
                continue
            weight = self.shares[own].fillna(1.0)
            weight = weight / weight.sum() if weight.sum() > 0 else weight * 0 + 1 / len(own)
            means[name] = (self.means[own] * weight).sum(axis=1, skipna=False)
            errors[name] = (self.errors[own] * weight).pow(2).sum(axis=1, skipna=False).pow(0.5)
            shares[name] = float(self.shares[own].sum(skipna=False))
        return replace(self, means=pd.DataFrame(means), errors=pd.DataFrame(errors), shares=pd.Series(shares))

    def given_to(self, profiles: AnnData, kind: str) -> AnnData:
        """Return the profiles with every sample's values replaced by those of one type, of the sample's own total.

        Sample ids and `obs` stay, so that a generator draws the same noise for them. A gene of the profiles that the type's
        profile lacks (or has NaN for) gets 0 in all: nothing says that the type expresses it.

        Raises
        ------
        InputError : no such type, or none of the genes.
        """
        if kind not in self.means:
            raise InputError(f"type {kind!r}", expected=f"one of {', '.join(map(str, self.means))}", found="unknown")
        values = self.means[kind].fillna(0.0)
        wanted = [str(gene) for gene in values.index]
        row = np.zeros(profiles.n_vars)
        for column, value in zip(locate(wanted, profiles, duplicates="first"), values, strict=True):
            if column:
                row[column[0]] = value
        if not row.sum() > 0:
            raise InputError(f"profile of {kind}", expected="genes of the profiles", found="none of them expressed")
        totals = dense(profiles).astype(np.float64).sum(axis=1, keepdims=True)
        given = profiles.copy()
        given.X = (totals * row / row.sum()).astype(np.float32)
        return given


def cell_type_profiles(
    profiles: AnnData, fractions: pd.DataFrame, *, rna_content: Mapping[str, float] | pd.Series | None = None
) -> CellTypeProfiles:
    """Estimate the mean profile of each cell type from bulk profiles whose fractions are known (group mode).

    Each gene's values over the samples, scaled to a million a sample, are regressed on the fractions with coefficients of
    zero or more; one factorisation of the fractions serves all genes.

    Parameters
    ----------
    profiles : raw AnnData in linear units; where `obs["split"]` exists, training samples only.
    fractions : samples x types, 0 to 1, rows that add up to 1 (to 1 %); every sample of `profiles`.
    rna_content : type -> RNA of one of its cells, where `fractions` count cells; None: they are shares of RNA.

    Raises
    ------
    SplitError : a sample that is not for training.
    InputError : a sample without fractions, rows that do not add up, fewer samples than types, types whose fractions
        cannot be told apart (a type that no sample has, for example).

    Source: Newman et al., Nature Biotechnology 2019 (CIBERSORTx), Methods, group-mode expression purification, without its
    noise filter. Errors: White, Econometrica 1980, with the factor n / (n - types); samples count as independent.
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
    x *= PER_MILLION / totals
    q, r = np.linalg.qr(f)  # |F p - y| and |R p - Q'y| differ by what no p can change
    solved = np.array([nnls(r, target)[0] for target in (q.T @ x).T])
    genes = pd.Index([str(gene) for gene in profiles.var_names])
    return CellTypeProfiles(
        means=pd.DataFrame(solved, index=genes, columns=table.columns),
        errors=pd.DataFrame(_errors(f, q, r, x), index=genes, columns=table.columns),
        shares=table.mean(),
        n=len(f),
        method="least squares with coefficients of zero or more, on training samples",
    )


def _errors(
    f: NDArray[np.float64], q: NDArray[np.float64], r: NDArray[np.float64], x: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Standard errors (genes, types) of least squares, HC1; NaN where there are no degrees of freedom."""
    n, k = f.shape
    if n <= k:
        return np.full((x.shape[1], k), np.nan)
    solve = np.linalg.solve(r, q.T)  # (types, samples): what each sample adds to each coefficient
    residual = x - f @ (solve @ x)
    return np.asarray(np.sqrt((np.square(solve) @ np.square(residual)).T * n / (n - k)))


def read_group_mode(path: str | Path, *, errors: str | Path | None = None) -> CellTypeProfiles:
    """Read the profiles that CIBERSORTx wrote in group mode: a column of genes, then one a type.

    Parameters
    ----------
    path : "..._GEPs.txt" or "..._GEPs_Filtered.txt", separated by tabs (or commas, named .csv); an empty cell or "NA" is a
        gene that could not be told.
    errors : "..._GEPs_StdErrs.txt" of the same job.

    Raises
    ------
    InputError : no such file, a gene twice, text or negative values, or errors of other genes or types.
    """
    means = _genes_by_types(Path(path))
    spread = means * np.nan if errors is None else _genes_by_types(Path(errors))
    if list(spread.index) != list(means.index) or list(spread.columns) != list(means.columns):
        raise InputError(str(errors), expected="the genes and types of the profiles", found="others")
    shares = pd.Series(np.nan, index=means.columns)
    return CellTypeProfiles(means, spread, shares, 0, "CIBERSORTx, group mode (imported)")


def _genes_by_types(path: Path) -> pd.DataFrame:
    table = read_table(path)
    if table.shape[1] < 2:
        fix = "is it separated by tabs, or by commas and named .csv?"
        raise InputError(str(path), expected="a column of genes, then one a type", found="one column", fix=fix)
    table = table.set_index(str(table.columns[0])).rename(columns=str)
    table.index = pd.Index(gene_ids(map(str, table.index)))
    if twice := repeated(table.index):
        raise InputError(f"{path}, gene {few(twice)}", expected="once", found="several times")
    values = table.apply(pd.to_numeric, errors="coerce")
    wrong = ((values.isna() & table.notna()) | (values < 0)).any(axis=1)
    if wrong.any():
        raise InputError(f"{path}, gene {few(table.index[wrong])}", expected="0 or more, or empty", found="text or negative")
    return values


def signature_from_profiles(
    profiles: AnnData,
    fractions: pd.DataFrame,
    *,
    per_type: int = 30,
    rna_content: Mapping[str, float] | pd.Series | None = None,
) -> pd.DataFrame:
    """Learn a signature from training profiles of known fractions: `cell_type_profiles`, then `signature_genes`."""
    reference = cell_type_profiles(profiles, fractions, rna_content=rna_content).means
    return signature_genes(reference, per_type=per_type, min_value=float(reference.to_numpy().mean()) / 10)


def truth_table(
    profiles: AnnData,
    fractions: pd.DataFrame,
    truth: pd.DataFrame,
    *,
    rna_content: Mapping[str, float] | pd.Series | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare estimated profiles of types with the true ones, and the same after the fractions were shuffled.

    Genes that are high in every type make any two profiles alike. So what is correlated over genes is the part of a type:
    the logarithm of its profile less the mean of that over all types.

    Parameters
    ----------
    profiles, fractions, rna_content : as in `cell_type_profiles`.
    truth : genes x types, parts of a million.
    seed : of the one shuffle of the samples' fractions.

    Returns
    -------
    A row a type: type, r, r (fractions shuffled), error (median standard error over the mean, genes of 1 or more).
    """
    found = cell_type_profiles(profiles, fractions, rna_content=rna_content)
    order = np.random.default_rng(seed).permutation(len(fractions))
    mixed = fractions.iloc[order].set_axis(fractions.index)
    shuffled = cell_type_profiles(profiles, mixed, rna_content=rna_content)
    genes = [gene for gene in found.means.index if gene in set(truth.index)]
    kinds = [kind for kind in found.means if kind in truth]
    parts = [_own_part(table.loc[genes, kinds]) for table in (truth, found.means, shuffled.means)]
    rows = []
    for kind in kinds:
        there, own, control = (part[kind].to_numpy() for part in parts)
        mean = found.means[kind].loc[genes]
        relative = (found.errors[kind].loc[genes] / mean)[mean >= FLOOR]
        rows.append(
            {
                "type": kind,
                "r": float(np.corrcoef(there, own)[0, 1]),
                "r (fractions shuffled)": float(np.corrcoef(there, control)[0, 1]),
                "error": float(relative.median()),
            }
        )
    return pd.DataFrame(rows)


def _own_part(means: pd.DataFrame) -> pd.DataFrame:
    logs = pd.DataFrame(np.log2(means.to_numpy() + FLOOR), means.index, means.columns)
    return logs.sub(logs.mean(axis=1), axis=0)
