"""The checks that a matrix of profiles is what it claims: linear, whole, samples x genes, each once.

Most silent failures of published pipelines are a matrix that is not: in log scale already, transposed, or with genes twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from rnasynth.data.genes import ENSEMBL, dense, few, repeated
from rnasynth.errors import InputError

UNITS = ("tpm", "counts", "rsem", "zscore")
LOG_MAX = 25.0  # log2 of 3.4e7: linear profiles of a transcriptome have genes far above, none in log scale gets there
LOG_MIN_GENES = 50  # with fewer genes a linear matrix may truly have a small maximum, so nothing is said
_SAMPLE = re.compile(r"^(TCGA-|GTEX[-.]|GSM\d|SRR\d|[0-9a-f]{8}-[0-9a-f]{4}-)")
_COMMON_SYMBOLS = frozenset(
    (
        "ACTB",
        "GAPDH",
        "B2M",
        "TP53",
        "EGFR",
        "CD3E",
        "CD8A",
        "EPCAM",
        "VIM",
        "COL1A1",
        "MYC",
        "PTEN",
        "KRAS",
        "ERBB2",
        "CDH1",
    )
)


def check_raw(adata: AnnData, *, allow_small: bool = False) -> None:
    """Raise unless `adata` is a raw, linear, samples x genes matrix with each sample and gene once.

    The log-scale rule: at least 50 genes, values that are not whole numbers, and none above 25. A linear profile of
    many genes has genes far above that (real log2 TPM ends at 16.7, the same in TPM at 97,817), log2 of anything
    measured never gets there. Whole numbers are counts of a shallow spot and pass.

    Parameters
    ----------
    allow_small : switch the log-scale rule off, for a linear matrix of few or silent genes.

    Raises
    ------
    InputError : already transformed; no samples or genes; duplicate genes or samples; transposed; NaN or infinite;
        in log scale; negative. With unit "zscore" negative and small values are allowed.
    """
    if "transform" in adata.uns:
        name = adata.uns["transform"].get("name", "unknown")
        raise InputError(
            "profiles", expected="a raw matrix", found=f"transform {name!r} applied already", fix="use the raw file"
        )
    if not adata.n_obs or not adata.n_vars:
        raise InputError("profiles", expected="samples and genes", found=f"{adata.n_obs} x {adata.n_vars}")
    unit = str(adata.uns.get("unit", ""))
    if unit and unit not in UNITS:
        raise InputError("profiles", expected=f"uns['unit'] among {UNITS}", found=repr(unit))
    check_orientation(adata.obs_names, adata.var_names)
    for what, names in (("gene", adata.var_names), ("sample", adata.obs_names)):
        if twice := repeated(names):
            fix = 'read with duplicates="sum" or "first"' if what == "gene" else "keep one profile a sample"
            raise InputError(f"{what} {few(twice)}", expected="each once", found="several", fix=fix)
    x = dense(adata)
    check_values(x, lambda row, column: f"sample {adata.obs_names[row]}, gene {adata.var_names[column]}", unit, allow_small)


def check_values(x: NDArray[np.float32], name: Callable[[int, int], str], unit: str, allow_small: bool = False) -> None:
    """Raise if values are NaN, infinite, in log scale or negative; `name(row, column)` names a cell for the message."""
    low, high = float(x.min()), float(x.max())
    if not np.isfinite(low + high):
        bad = np.argwhere(~np.isfinite(x))
        raise InputError(
            name(*map(int, bad[0])),
            expected="a finite number",
            found=f"NaN, empty or infinite ({len(bad)} cells)",
            fix="drop the gene or the sample, or fetch the file again; nothing is imputed silently",
        )
    if unit == "zscore":
        return
    if not allow_small and x.shape[1] >= LOG_MIN_GENES and high <= LOG_MAX and not _whole(x):
        raise InputError(
            "profiles",
            expected="linear values (TPM, RSEM or counts)",
            found=f"values from {low:.4g} to {high:.4g} with fractions, which look like log scale",
            fix="write the table with 2^x - 1 in place of x (of log2(x + 1)), or in Python: read_expression(..., "
            'scale="log2p1") or scale="log2p0.001"; allow_small=True if it is linear',
        )
    if low < 0:
        row, column = map(int, np.unravel_index(int(x.argmin()), x.shape))
        raise InputError(
            name(row, column),
            expected="no negative value in a linear matrix",
            found=f"{low:.4g} ({int((x < 0).sum())} negative cells)",
            fix='log2(TPM + 0.001) is read with scale="log2p0.001"; z-scores with unit="zscore"',
        )


def check_orientation(rows: Iterable[str], columns: Iterable[str]) -> None:
    """Raise if the rows look like genes and the columns do not (a table of genes x samples, as most are published)."""
    row_names, column_names = list(rows), list(columns)
    if gene_likeness(row_names) > gene_likeness(column_names):
        raise InputError(
            "profiles",
            expected="samples in rows, genes in columns",
            found=f"rows {few(row_names)} and columns {few(column_names)}",
            fix='transpose it (adata.T), or read the table with genes_in="rows"',
        )


def gene_likeness(names: Sequence[str]) -> int:
    """How surely names are genes: 1 (Ensembl or `SYMBOL|entrez` ids, or at least two common symbols), -1 (samples), 0."""
    if not names:
        return 0
    genes = sum(bool(ENSEMBL.match(name)) or "|" in name for name in names)
    samples = sum(bool(_SAMPLE.match(name)) for name in names)
    if genes > 0.5 * len(names) or len(_COMMON_SYMBOLS.intersection(names)) >= 2:
        return 1
    return -1 if samples > 0.5 * len(names) else 0


def _whole(x: NDArray[np.float32]) -> bool:
    return all(bool((part == np.floor(part)).all()) for part in np.array_split(x, max(1, len(x) // 256)))
