"""Gene ids in one form, lining up two gene lists, and choosing genes on training samples."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from rnasynth.errors import InputError, SplitError

MIN_SHARE = 0.1  # of the wanted genes; fewer than this is another id kind or another species, not another cohort
ENSEMBL = re.compile(r"^(ENS[A-Z]*G)(R?)(\d+)(?:\.\d+)?(_PAR_Y)?$")
_SPECIES = {"ENSG": "human", "ENSMUSG": "mouse", "ENSRNOG": "rat", "ENSDARG": "zebrafish", "ENSCAFG": "dog"}

Duplicates = Literal["error", "sum", "first"]


def gene_id(text: str) -> str:
    """Return a gene id in the one form used here.

    Ensembl versions go (`ENSG00000141510.18`), the copy on the Y pseudo-autosomal region keeps its own id
    (`ENSG00000182378.13_PAR_Y`, in older releases `ENSGR0000182378.10`), `SYMBOL|entrez` becomes the symbol, and
    `?|entrez`, a gene without a symbol, stays as it is.

    Examples
    --------
    >>> [gene_id(text) for text in ("ENSG00000141510.18", "ENSG00000182378.13_PAR_Y", "TP53|7157", "?|100130426", "TP53")]
    ['ENSG00000141510', 'ENSG00000182378_PAR_Y', 'TP53', '?|100130426', 'TP53']
    """
    text = text.strip()
    if text.startswith("ENS"):
        if found := ENSEMBL.match(text):
            prefix, old_par, number, par = found.groups()
            return f"{prefix}{'0' if old_par else ''}{number}{'_PAR_Y' if par or old_par else ''}"
    elif "|" in text and not text.startswith("?|"):
        return text.split("|", 1)[0]
    return text


def gene_ids(texts: Iterable[str]) -> list[str]:
    """Return ids as `gene_id` does; symbols that several `SYMBOL|entrez` share keep their number and stay apart."""
    texts = [str(text).strip() for text in texts]
    ids = [gene_id(text) for text in texts]
    if any("|" in text for text in texts):
        twice = set(repeated(ids))
        ids = [text if identity in twice and "|" in text else identity for text, identity in zip(texts, ids, strict=True)]
    return ids


def repeated(names: Iterable[str]) -> list[str]:
    """Names that stand more than once, each named once, in order."""
    index = pd.Index(list(names))
    return list(dict.fromkeys(index[index.duplicated()]))


def few(names: Iterable[Any], count: int = 3) -> str:
    """Return the first names for a message: `a, b, c, ... (17)`."""
    names = [str(name) for name in names]
    return ", ".join(names[:count]) + (f", ... ({len(names)})" if len(names) > count else "")


def dense(adata: AnnData) -> NDArray[np.float32]:
    """Return `X` as a dense float32 array, samples x genes (no copy where it is one)."""
    x = adata.X.toarray() if hasattr(adata.X, "toarray") else adata.X
    return np.asarray(x, dtype=np.float32)


def symbols_of(adata: AnnData) -> list[str]:
    """Symbols of the genes ("" where unknown)."""
    if "symbol" not in adata.var:
        return [""] * adata.n_vars
    return ["" if symbol is None or symbol != symbol else str(symbol) for symbol in adata.var["symbol"]]


def locate(
    genes: Sequence[str], adata: AnnData, *, symbols: Sequence[str] = (), duplicates: Duplicates = "error"
) -> list[list[int]]:
    """Find each gene's columns in `adata`, first by id, then by symbol.

    Parameters
    ----------
    genes : ids or symbols wanted.
    symbols : symbols of `genes`, tried where the id is not found (the other cohort may have symbols only). Optional.
    duplicates : what to do when a gene has several columns: "error", "sum" (all of them are given), "first".

    Returns
    -------
    For each gene the columns it is made of: none where it is absent.

    Raises
    ------
    InputError : a gene has several columns and `duplicates` is "error".
    """
    by_id = _columns_of(gene_ids(adata.var_names))
    own_symbols = [
        "" if name.endswith("_PAR_Y") else gene_id(symbol)
        for name, symbol in zip(adata.var_names, symbols_of(adata), strict=True)
    ]
    by_symbol = _columns_of(own_symbols)
    wanted_symbols = list(symbols) or [""] * len(genes)
    found: list[list[int]] = []
    several: list[str] = []
    for name, symbol in zip(genes, wanted_symbols, strict=True):
        key = gene_id(name)
        columns = by_id.get(name) or by_id.get(key) or by_symbol.get(key) or []
        if not columns and symbol:
            columns = by_id.get(symbol) or by_symbol.get(symbol) or []
        if len(columns) > 1:
            several.append(name)
            columns = columns[:1] if duplicates == "first" else columns
        found.append(columns)
    if several and duplicates == "error":
        raise InputError(
            f"gene {few(several)}",
            expected="one column a gene",
            found="several",
            fix='pass duplicates="sum" (right for counts and TPM) or duplicates="first"',
        )
    return found


def check_matched(wanted: Sequence[str], present: int, available: Sequence[str], *, subject: str, min_share: float) -> None:
    """Raise if so few wanted genes were found that the two lists must speak of different things.

    Raises
    ------
    InputError : nothing matched (three ids of each side are shown), or less than `min_share`; where the ids' prefix or
        the letters' case points to another species, the message says which.
    """
    if not wanted or (present and present >= min_share * len(wanted)):
        return
    hint = "check that both are Ensembl ids, or symbols, or that the matrix carries a `symbol` column"
    ours, theirs = _species(wanted), _species(available)
    if ours and theirs and ours != theirs:
        hint = f"the wanted genes are {ours}, the matrix is {theirs}: map one to the other's orthologues first"
    else:
        capitals = {name.upper() for name in available}
        if sum(name.upper() in capitals for name in wanted) > max(2 * present, 0.3 * len(wanted)):
            hint = (
                "the symbols differ by case only, as between human (TP53) and mouse (Trp53, Actb): map to orthologues first"
            )
    if present:
        hint += f"; or pass min_share={present / len(wanted):.3f} if so few is meant"
    raise InputError(
        subject,
        expected=f"gene ids such as {few(wanted)}",
        found=f"{present} of {len(wanted)} present; the matrix has {few(available)}",
        fix=hint,
    )


def align(
    adata: AnnData,
    genes: Sequence[str],
    *,
    missing: Literal["zero", "train_mean", "error"] = "error",
    fill: NDArray[np.float32] | None = None,
    symbols: Sequence[str] = (),
    duplicates: Duplicates = "error",
    min_share: float = MIN_SHARE,
) -> AnnData:
    """Return `adata` with exactly `genes`, in their order; extra genes are dropped, missing ones filled and counted.

    Parameters
    ----------
    adata : samples x any genes.
    genes : ids or symbols wanted; they become `var_names`.
    missing : "zero", "train_mean" (needs `fill`), or "error".
    fill : for "train_mean", the value of each of `genes`, in the unit of `adata`.
    symbols, duplicates : as in `locate`.
    min_share : at least this share of `genes` must be there.

    Returns
    -------
    A new AnnData, `X` float32; `var["present"]`; `uns["alignment"]` = {"present", "missing", "missing_share"}.

    Raises
    ------
    InputError : too few matched, several columns of one gene, a gene missing under "error", or no `fill`.
    """
    genes = list(genes)
    if twice := repeated(genes):
        raise InputError("genes wanted", expected="each once", found=f"{few(twice)} several times", fix="drop the repeats")
    columns = locate(genes, adata, symbols=symbols, duplicates=duplicates)
    present = np.array([bool(found) for found in columns], dtype=bool)
    check_matched(genes, int(present.sum()), list(adata.var_names), subject="gene alignment", min_share=min_share)
    if missing == "error" and not present.all():
        absent = [gene for gene, here in zip(genes, present, strict=True) if not here]
        raise InputError("gene alignment", expected="every gene", found=f"no {few(absent)}", fix='pass missing="zero"')
    if missing == "train_mean" and fill is None and not present.all():
        raise InputError("gene alignment", expected="fill= for missing genes", found="none", fix="use Transform.apply")
    source = dense(adata)
    x = np.zeros((adata.n_obs, len(genes)), dtype=np.float32)
    x[:, present] = source[:, [found[0] for found in columns if found]]
    for position, found in enumerate(columns):
        if len(found) > 1:
            x[:, position] = source[:, found].sum(axis=1)
    if missing == "train_mean" and fill is not None:
        x[:, ~present] = np.asarray(fill, dtype=np.float32)[~present]
    own = symbols_of(adata)
    given = list(symbols) or [""] * len(genes)
    var = pd.DataFrame(
        {
            "symbol": [label or (own[found[0]] if found else "") for label, found in zip(given, columns, strict=True)],
            "present": present,
        },
        index=pd.Index(genes, dtype=object),
    )
    uns = {key: value for key, value in adata.uns.items() if key != "alignment"}
    absent_count = int((~present).sum())
    uns["alignment"] = {
        "present": int(present.sum()),
        "missing": absent_count,
        "missing_share": absent_count / len(genes) if genes else 0.0,
    }
    return AnnData(X=x, obs=adata.obs.copy(), var=var, uns=uns)


def choose_genes(train: AnnData, n_top: int, *, min_expressed: float = 0.1) -> list[str]:
    """Return the `n_top` genes of largest variance of log2(x + 1) (of x where the unit is "zscore"), training samples only.

    Parameters
    ----------
    train : raw profiles of training samples; where `obs["split"]` exists all of it must be "train".
    n_top : how many; all that qualify where there are fewer.
    min_expressed : genes above zero in less than this share of the samples are left out (not for "zscore").

    Returns
    -------
    Gene ids in the order of `train`; equal variances are decided by the id, so that the choice does not depend on order.
    """
    only_training(train)
    linear = train.uns.get("unit") != "zscore"
    x = dense(train)
    variance = np.empty(train.n_vars)
    expressed = np.ones(train.n_vars)
    for start in range(0, train.n_vars, 2048):  # a copy in float64 of a part at a time
        part = x[:, start : start + 2048].astype(np.float64)
        if linear:
            expressed[start : start + 2048] = (part > 0).mean(axis=0)
            part = np.log2(part + 1)
        variance[start : start + 2048] = part.var(axis=0)
    candidates = np.flatnonzero((variance > 0) & (expressed >= min_expressed))
    ranked = sorted(candidates, key=lambda column: (-variance[column], train.var_names[column]))[:n_top]
    return [str(train.var_names[column]) for column in sorted(ranked)]


def only_training(adata: AnnData) -> None:
    """Raise SplitError if `obs["split"]` says that a sample is not for training."""
    if "split" in adata.obs:
        other = adata.obs["split"].astype(str) != "train"
        if other.any():
            raise SplitError(
                f"sample {few(adata.obs_names[other])}",
                expected="training samples only",
                found=f"split {few(sorted(set(adata.obs['split'][other].astype(str))))}",
                fix="fit on cohort.only('train')",
            )


def _columns_of(names: Iterable[str]) -> dict[str, list[int]]:
    columns: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        if name:
            columns.setdefault(name, []).append(number)
    return columns


def _species(names: Sequence[str]) -> str:
    prefixes = [found.group(1) for name in names[:2000] if (found := ENSEMBL.match(name))]
    if not prefixes:
        return ""
    return _SPECIES.get(max(set(prefixes), key=prefixes.count), "another species")
