"""Signatures, marker lists, imported results and labelled nuclei: the files that deconvolution reads.

The public files come through the manifest `signatures`; each source stands beside its reader.
"""

from __future__ import annotations

import gzip
import re
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pandas as pd

from rnasynth.data.genes import few, gene_ids, repeated
from rnasynth.data.manifests import check_at_hand, fetch
from rnasynth.data.profiles import patient_of
from rnasynth.errors import InputError
from rnasynth.evaluation.deconvolution.methods import Deconvolution
from rnasynth.evaluation.deconvolution.signatures import check_signature

RESULT_COLUMNS = ("P-value", "Correlation", "RMSE")  # of a CIBERSORTx result beside "Mixture" and the types
ABSOLUTE_SCORE = re.compile(r"^absolute score", re.IGNORECASE)
#: Labels of NuCLS that make up each class; unlabelled nuclei and apoptotic bodies are left out.
NUCLS_CLASSES = {
    "tumour": ("tumor", "mitotic_figure"),
    "lymphocyte": ("lymphocyte", "plasma_cell"),
    "fibroblast": ("fibroblast",),
    "macrophage": ("macrophage",),
    "endothelium": ("vascular_endothelium",),
    "other": ("ductal_epithelium", "myoepithelium", "neutrophil", "eosinophil"),
}


def signature_folder(mirror: Path | None = None) -> Path:
    """Fetch (or verify) the files of the manifest `signatures` and return their folder.

    Raises
    ------
    PartialFailure : a file cannot be had; the others are there then.
    """
    check_at_hand("signatures", mirror=mirror)
    return fetch("signatures", mirror=mirror, progress=False, known_only=True).folder


def read_signature(path: str | Path) -> pd.DataFrame:
    """Read a signature: a csv or tab-separated table, gene ids first, then a column a type, linear units.

    Raises
    ------
    InputError : no such file, or what `check_signature` finds.
    """
    table = read_table(Path(path))
    return check_signature(table.set_index(str(table.columns[0])))


def read_marker_lists(path: str | Path, *, ids: Literal["symbol", "ensembl"] = "symbol") -> dict[str, tuple[str, ...]]:
    """Read MCP-counter's gene lists: type -> markers.

    Raises
    ------
    InputError : no such file or columns.

    Source: Becht et al., Genome Biology 2016; the file `genes.txt` of its signatures.
    """
    table = read_table(Path(path))
    column = {"symbol": "HUGO symbols", "ensembl": "ENSEMBL ID"}[ids]
    _need(table, (column, "Cell population"), path)
    rows = table.dropna(subset=[column])
    return {str(kind): tuple(gene_ids(part[column].astype(str))) for kind, part in rows.groupby("Cell population")}


def read_panglao(
    path: str | Path, types: Sequence[str], *, max_ubiquitousness: float = 0.05, min_sensitivity: float = 0.0
) -> dict[str, tuple[str, ...]]:
    """Read canonical human markers of some types from PanglaoDB's table: type -> symbols.

    Parameters
    ----------
    types : names as the database has them ("Epithelial cells"); only these are read.
    max_ubiquitousness : markers that more than this share of all clusters express are left out.
    min_sensitivity : share of the type's human cells that must express the marker.

    Raises
    ------
    InputError : no such file, columns or type.

    Source: Franzen et al., Database 2019.
    """
    table = read_table(Path(path))
    wanted = (
        "species",
        "official gene symbol",
        "cell type",
        "ubiquitousness index",
        "canonical marker",
        "sensitivity_human",
    )
    _need(table, wanted, path)
    if unknown := sorted(set(types) - set(table["cell type"])):
        raise InputError(f"{path}, type {few(unknown)}", expected="a cell type of the database", found="none of that name")
    kept = table[
        table["cell type"].isin(types)
        & table["species"].str.contains("Hs")
        & (table["canonical marker"] == 1)
        & (table["ubiquitousness index"] <= max_ubiquitousness)
        & (table["sensitivity_human"].fillna(0) >= min_sensitivity)
    ]
    return {str(kind): tuple(part["official gene symbol"].astype(str)) for kind, part in kept.groupby("cell type")}


def read_cibersortx(path: str | Path) -> Deconvolution:
    """Read a result file of CIBERSORTx (or CIBERSORT): columns Mixture, the types, P-value, Correlation, RMSE.

    Parameters
    ----------
    path : csv or tab-separated text. In absolute mode the file has a column "Absolute score ..."; the types then do not add
        up to 1 and are divided by their sum.

    Returns
    -------
    Deconvolution of RNA shares; `quality` has correlation, rmse and p.

    Raises
    ------
    InputError : no such file or columns, no type, a sample twice, fractions that are missing, negative or do not add up.
    """
    path = Path(path)
    table = read_table(path)
    table.columns = [str(name).strip() for name in table.columns]
    _need(table, ("Mixture", *RESULT_COLUMNS), path)
    absolute = [name for name in table.columns if ABSOLUTE_SCORE.match(name)]
    types = [name for name in table.columns if name not in {"Mixture", *RESULT_COLUMNS, *absolute}]
    if not types:
        raise InputError(str(path), expected="a column a cell type", found="none between Mixture and P-value")
    names = pd.Index(table["Mixture"].astype(str))
    if twice := repeated(names):
        raise InputError(f"{path}, sample {few(twice)}", expected="once", found="several times")
    values = table[types].apply(pd.to_numeric, errors="coerce").set_axis(names)
    bad = values.index[(values.isna() | (values < 0)).any(axis=1)]
    if len(bad):
        raise InputError(f"{path}, sample {few(bad)}", expected="fractions of 0 or more", found="empty, text or negative")
    total = values.sum(axis=1)
    if not absolute and len(off := names[(total - 1).abs() > 0.01]):
        found = f"sums of {total.min():.3g} to {total.max():.3g}"
        fix = 'keep the column "Absolute score" where it was run in absolute mode'
        raise InputError(f"{path}, sample {few(off)}", expected="fractions that add up to 1", found=found, fix=fix)
    if not (total > 0).all():
        raise InputError(f"{path}, sample {names[int(total.argmin())]}", expected="a fraction above 0", found="zeros only")
    quality = table[list(RESULT_COLUMNS)].apply(pd.to_numeric, errors="coerce").set_axis(names)
    quality.columns = pd.Index(["p", "correlation", "rmse"])
    return Deconvolution(
        "CIBERSORTx (imported)", values.div(total, axis=0), quality[["correlation", "rmse", "p"]].astype(float)
    )


def nucls_fractions(path: str | Path, *, min_nuclei: int = 50) -> pd.DataFrame:
    """Count the labelled nuclei of each patient in NuCLS: shares by class, and their number `n_nuclei`.

    Parameters
    ----------
    path : the SQLite database of the corrected single-rater set, plain or gzipped.
    min_nuclei : patients with fewer classified nuclei are left out.

    Returns
    -------
    Patients (TCGA-XX-XXXX) x `NUCLS_CLASSES`, rows add up to 1, and n_nuclei.

    Raises
    ------
    InputError : no such file, another database, or no patient with enough nuclei.

    Source: Amgad et al., GigaScience 2022.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(str(path), expected="a file", found="none there", fix="run `rnasynth fetch signatures`")
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    connection = sqlite3.connect(":memory:")
    try:
        connection.deserialize(content)
        query = 'SELECT f.slide_name, a."group" FROM annotation_elements a JOIN fov_meta f ON a.fov_id = f.fov_id'
        rows = pd.DataFrame(connection.execute(query).fetchall(), columns=["slide", "label"])
    except (sqlite3.Error, OverflowError) as error:
        raise InputError(str(path), expected="the NuCLS database", found=str(error)) from error
    finally:
        connection.close()
    class_of = {label: name for name, labels in NUCLS_CLASSES.items() for label in labels}
    rows["class"] = rows["label"].str.removeprefix("correction_").map(class_of)
    rows["patient"] = rows["slide"].map(patient_of)
    counts = rows.dropna(subset=["class"]).groupby(["patient", "class"]).size().unstack(fill_value=0)
    counts = counts.reindex(columns=list(NUCLS_CLASSES), fill_value=0)
    total = counts.sum(axis=1)
    enough = total >= min_nuclei
    if not enough.any():
        raise InputError(str(path), expected=f"patients with {min_nuclei} nuclei or more", found="none")
    return counts[enough].div(total[enough], axis=0).assign(n_nuclei=total[enough]).rename_axis(index=None, columns=None)


def read_table(path: Path) -> pd.DataFrame:
    """Read a table that is separated by commas (.csv, .csv.gz) or tabs (any other name).

    Raises
    ------
    InputError : no such file, or no table.
    """
    if not path.is_file():
        raise InputError(str(path), expected="a file", found="none there", fix="check the path")
    separator = "," if path.name.removesuffix(".gz").endswith(".csv") else "\t"
    try:
        return pd.read_csv(path, sep=separator)
    except (ValueError, OSError) as error:  # pandas' parser errors are ValueErrors
        raise InputError(str(path), expected="a table", found=str(error).splitlines()[0]) from error


def _need(table: pd.DataFrame, columns: Sequence[str], path: str | Path) -> None:
    if absent := [name for name in columns if name not in table]:
        found = few(table.columns, 6)
        fix = "is it separated by tabs, or by commas and named .csv?" if table.shape[1] == 1 else ""
        raise InputError(str(path), expected=f"columns {', '.join(columns)}", found=f"no {few(absent)} in {found}", fix=fix)
