"""Profiles from the files people have: GCT, GDC STAR counts, GEO, csv and tsv, spot counts, R data -> AnnData.

`read_expression` is the one door. What it returns is raw: linear values (TPM, RSEM, counts), samples x genes, float32,
unversioned gene ids, checked. `Transform` (in `rnasynth.data.transform`) makes network input of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from rnasynth.data import public_forms
from rnasynth.data.checks import check_raw
from rnasynth.data.genes import MIN_SHARE, Duplicates, align, choose_genes, few
from rnasynth.data.h5ad import read_h5ad
from rnasynth.data.profiles import GenePlaces, Scale, assemble, pick_samples
from rnasynth.data.streams import Layout, Line, Lines, field_at, fields_of, stream_numbers
from rnasynth.data.table_form import TableForm
from rnasynth.data.transform import Transform, concatenate
from rnasynth.errors import InputError

__all__ = ["Transform", "align", "check_raw", "choose_genes", "concatenate", "read_expression"]

Kind = Literal[
    "auto", "gct", "gdc_star_counts", "table", "series_matrix", "spots", "r_data", "cognoma", "porpoise", "xena", "h5ad"
]
_SPOT = re.compile(r"^\d+(\.\d+)?x\d+(\.\d+)?$")


def read_expression(
    path: str | Path,
    *,
    kind: Kind = "auto",
    genes: Sequence[str] | None = None,
    samples: Sequence[str] | None = None,
    unit: str | None = None,
    scale: Scale = "linear",
    genes_in: Literal["auto", "rows", "columns"] = "auto",
    duplicates: Duplicates = "error",
    min_share: float = MIN_SHARE,
    allow_small: bool = False,
) -> AnnData:
    """Read raw profiles; only the wanted samples and genes are ever in memory (but for R data, which has no other way).

    Parameters
    ----------
    path : a file, gzip or zip or plain; for "gdc_star_counts" also the folder of one file a sample.
    kind : "gct" (GTEx, Broad), "gdc_star_counts", "table" (csv or tsv, GEO supplementary tables), "series_matrix" (GEO),
        "spots" (ST counts, spots x symbols; samples are named FILE_SPOT), "r_data" (.rda, .rds), "xena"
        (log2(TPM + 0.001), made linear), "cognoma" (log2(RSEM + 1), made linear), "porpoise" (z-scores within a cohort),
        "h5ad" (raw profiles written by this library); "auto" looks into the file.
    genes, samples : wanted ids (or symbols; versions do not matter), in the order wanted. Genes that the file lacks are
        counted in `uns["read"]["genes_missing"]`; a sample that it lacks is an error. None: all.
    unit : "tpm", "counts", "rsem" or "zscore"; None: from the form, the file's name, or whole numbers.
    scale : what the file's values are: "linear", "log2p1", "log2p0.001", "lnp1"; made linear. Plain tables only.
    genes_in : "rows" or "columns" of a plain table; "auto" tells by ids, header and the wanted names.
    duplicates : what to do with a gene that stands twice: "error", "sum", "first".
    min_share : at least this share of the wanted genes must be there.
    allow_small : accept linear values that look like log scale (see `check_raw`).

    Returns
    -------
    AnnData, `X` float32 samples x genes; `obs`: sample_id, patient_id (and what the form tells: sample_type, age, ...);
    `var_names` Ensembl id where known, else symbol, `var["symbol"]`; `uns["unit"]`, `uns["read"]`
    (of a table also "annotation": how many of its columns, and which, were taken as text and not as genes or samples).

    Raises
    ------
    InputError : not such a file, cut short, NaN, negative, in log scale, transposed, duplicate, nothing matches: see
        `check_raw` and `check_matched`.
    """
    path = Path(path)
    if kind not in get_args(Kind):
        raise InputError(f"kind {kind!r}", expected=f"one of {get_args(Kind)}", found="another", fix="check the spelling")
    for what, names in (("genes", genes), ("samples", samples)):
        if isinstance(names, str):
            raise InputError(f"{what}={names!r}", expected="a list of names", found="one text", fix="put it into a list")
    kind = _kind_of(path) if kind == "auto" else kind
    common: dict[str, Any] = {"genes": genes, "samples": samples, "duplicates": duplicates, "min_share": min_share}
    if kind == "gct":
        return _read_gct(path, unit=unit, allow_small=allow_small, **common)
    if kind == "h5ad":
        return _read_h5ad(path, unit=unit, allow_small=allow_small, **common)
    if kind == "gdc_star_counts":
        return public_forms.read_gdc_star_counts(path, unit=unit or "tpm", **common)
    if kind == "r_data":
        return public_forms.read_r_data(path, unit=unit, scale=scale, allow_small=allow_small, **common)
    if kind == "porpoise":
        return public_forms.read_porpoise(path, **common)
    if kind == "xena":
        return _read_table(path, genes_in="columns", unit="tpm", scale="log2p0.001", repeats="first", **common)
    if kind == "spots":
        return _read_spots(path, **common)
    if kind == "cognoma":
        rename = public_forms.cognoma_symbols(path)
        return _read_table(path, genes_in="columns", unit="rsem", scale="log2p1", rename=rename, **common)
    if kind == "series_matrix":
        obs = public_forms.series_matrix_samples(path)
        return _read_table(path, genes_in="rows", unit=unit, scale=scale, extra_obs=obs, allow_small=allow_small, **common)
    return _read_table(path, genes_in=genes_in, unit=unit, scale=scale, allow_small=allow_small, **common)


def _kind_of(path: Path) -> Kind:
    """Tell the form by name and content."""
    if path.is_dir():
        return "gdc_star_counts"
    suffix = path.suffix.lower()
    if suffix == ".h5ad":
        return "h5ad"
    if suffix in (".rda", ".rdata", ".rds"):
        return "r_data"
    with Lines(path) as lines:
        first, second = lines.next(), lines.next()
    if first.startswith(b"#1."):
        return "gct"
    if b"gene_id\tgene_name\tgene_type" in first + second:
        return "gdc_star_counts"
    if first.startswith(b"!"):
        return "series_matrix"
    if b"_rnaseq," in first:
        return "porpoise"
    if first.startswith(b"sample_id\t1\t") or (first.startswith(b"sample_id\t") and first.split(b"\t", 2)[1].isdigit()):
        return "cognoma"
    delimiter = b"\t" if b"\t" in first else b","
    if _SPOT.match(second.split(delimiter, 1)[0].decode("utf-8", errors="replace")):
        return "spots"
    if b",-9.9658" in second:  # log2(0.001), the zero of UCSC Xena's TPM
        return "xena"
    return "table"


def _read_gct(
    path: Path,
    *,
    genes: Sequence[str] | None,
    samples: Sequence[str] | None,
    unit: str | None,
    duplicates: Duplicates,
    min_share: float,
    allow_small: bool,
) -> AnnData:
    """Format: Broad Institute, GCT 1.2: `#1.2`, genes and samples, header, then Name, Description, values."""
    with Lines(path) as lines:
        version, size, header = lines.next(), lines.next(), lines.next()
        try:
            n_genes, n_samples = (int(part) for part in size.split(b"\t")[:2])
        except ValueError:
            n_genes = n_samples = -1
        names = fields_of(header, "\t")
        if version.strip() != b"#1.2" or len(names) != n_samples + 2:
            raise InputError(
                str(path),
                expected="a GCT 1.2 file: '#1.2', 'genes<TAB>samples', and a header of Name, Description, samples",
                found=f"{version[:20]!r}, {size[:30]!r}, {len(names)} header fields",
                fix='fetch it again, or read it with kind="table"',
            )
        chosen = pick_samples(names[2:], samples, str(path))
        places = GenePlaces(genes, duplicates, str(path))
        layout = Layout(path, "\t", len(names), np.array(chosen, dtype=np.intp) + 2)
        x = np.zeros((len(chosen), n_genes if genes is None else len(genes)), dtype=np.float32)
        n_lines = _fill_gene_rows(lines, layout, places, x, symbol_field=1, n_max=n_genes)
    if n_lines != n_genes:
        raise InputError(str(path), expected=f"{n_genes} genes", found=f"{n_lines}", fix="fetch it again")
    order, var = places.finish(min_share)
    x = x if len(order) == x.shape[1] else x[:, order]
    kept = [names[2:][number] for number in chosen]
    return assemble(x, kept, var, path=path, unit=unit, wanted=genes, allow_small=allow_small)


def _fill_gene_rows(
    lines: Lines, layout: Layout, places: GenePlaces, x: NDArray[np.float32], *, symbol_field: int, n_max: int = -1
) -> int:
    """Read lines of genes into the columns of `x`; return how many lines there were."""
    delimiter = layout.delimiter.encode()
    count = 0

    def place(line: Line) -> int:
        nonlocal count
        if line[0][line[1]] == 33:  # "!", GEO's mark of a line that is no data
            return -1
        count += 1
        if 0 <= n_max < count:
            raise InputError(str(layout.path), expected=f"{n_max} genes", found="more", fix="fetch it again")
        symbol = (lambda: field_at(line, delimiter, symbol_field)) if symbol_field > 0 else ""
        return places.place(field_at(line, delimiter, 0), symbol)

    def store(rows: NDArray[np.intp], values: NDArray[np.float32]) -> None:
        x[:, rows] += values.T

    stream_numbers(lines, layout, place, store)
    return count


def _fill_sample_rows(
    lines: Lines, layout: Layout, row_of: dict[str, int], genes_at: NDArray[np.intp], x: NDArray[np.float32]
) -> None:
    """Read lines of samples into the rows of `x`; a sample's first line counts."""
    delimiter, waiting = layout.delimiter.encode(), dict(row_of)
    each_once = len(np.unique(genes_at)) == x.shape[1] == len(genes_at)

    def store(rows: NDArray[np.intp], values: NDArray[np.float32]) -> None:
        if each_once:
            values = values[:, np.argsort(genes_at)]
        else:
            together = np.zeros((len(rows), x.shape[1]), dtype=np.float32)
            for number, place in enumerate(genes_at):
                together[:, place] += values[:, number]
            values = together
        x[rows] = values

    stream_numbers(lines, layout, lambda line: waiting.pop(field_at(line, delimiter, 0), -1), store)


def _read_table(
    path: Path,
    *,
    genes: Sequence[str] | None,
    samples: Sequence[str] | None,
    unit: str | None,
    duplicates: Duplicates,
    min_share: float,
    genes_in: Literal["auto", "rows", "columns"] = "auto",
    scale: Scale = "linear",
    repeats: Literal["error", "first"] = "error",
    rename: dict[str, str] | None = None,
    extra_obs: pd.DataFrame | None = None,
    allow_small: bool = False,
) -> AnnData:
    form = TableForm(path)
    if genes_in == "auto":
        genes_in = form.orientation(genes, samples)
    places = GenePlaces(genes, duplicates, str(path))
    row_names = form.row_names()
    if genes_in == "rows":
        columns = form.number_columns()
        available = [form.header[number] for number in columns]
        chosen = pick_samples(available, samples, str(path))
        layout = form.layout([columns[number] for number in chosen])
        x = np.zeros((len(chosen), len(row_names) if genes is None else len(genes)), dtype=np.float32)
        with form.lines() as lines:
            _fill_gene_rows(lines, layout, places, x, symbol_field=form.symbol_field())
        kept = [available[number] for number in chosen]
        order, var = places.finish(min_share)
        x = x if len(order) == x.shape[1] else x[:, order]
    else:
        if repeats == "first":
            row_names = list(dict.fromkeys(row_names))
        kept = [row_names[number] for number in pick_samples(row_names, samples, str(path))]
        at = {
            number: place
            for number in form.number_columns()
            if (place := places.place((rename or {}).get(form.header[number], form.header[number]))) >= 0
        }
        order, var = places.finish(min_share)
        position = {place: number for number, place in enumerate(order)}
        x = np.zeros((len(kept), len(order)), dtype=np.float32)
        genes_at = np.array([position[place] for place in at.values()], dtype=np.intp)
        with form.lines() as lines:
            rows = {name: number for number, name in enumerate(kept)}
            _fill_sample_rows(lines, form.layout(list(at)), rows, genes_at, x)
    obs = None if extra_obs is None else extra_obs.reindex(kept).reset_index(drop=True)
    adata = assemble(x, kept, var, path=path, unit=unit, scale=scale, obs=obs, wanted=genes, allow_small=allow_small)
    adata.uns["read"]["annotation"] = form.annotation()
    return adata


def _read_spots(
    path: Path, *, genes: Sequence[str] | None, samples: Sequence[str] | None, duplicates: Duplicates, min_share: float
) -> AnnData:
    section = path.name.split(".")[0]
    bare = None if samples is None else [name.removeprefix(f"{section}_") for name in samples]
    adata = _read_table(
        path, genes=genes, samples=bare, unit="counts", duplicates=duplicates, min_share=min_share, genes_in="columns"
    )
    spots = list(adata.obs_names)
    if wrong := [name for name in spots if not _SPOT.match(name)]:
        raise InputError(str(path), expected="spots named COLUMNxROW, such as 10x21", found=few(wrong), fix='kind="table"')
    adata.obs["spot"], adata.obs["section"] = spots, section
    adata.obs["array_x"] = [float(name.split("x")[0]) for name in spots]
    adata.obs["array_y"] = [float(name.split("x")[1]) for name in spots]
    adata.obs["sample_id"] = [f"{section}_{name}" for name in spots]
    adata.obs["patient_id"] = section[:1] if re.match(r"^[A-H]\d$", section) else section
    adata.obs_names = list(adata.obs["sample_id"])
    return adata


def _read_h5ad(
    path: Path,
    *,
    genes: Sequence[str] | None,
    samples: Sequence[str] | None,
    unit: str | None,
    duplicates: Duplicates,
    min_share: float,
    allow_small: bool,
) -> AnnData:
    adata = read_h5ad(path)
    if unit:
        adata.uns["unit"] = unit
    if samples is not None:
        adata = adata[pick_samples(list(adata.obs_names), samples, str(path))].copy()
    if genes is not None:
        adata = align(adata, genes, missing="zero", duplicates=duplicates, min_share=min_share)
        adata = adata[:, adata.var["present"].to_numpy(dtype=bool)].copy()
    check_raw(adata, allow_small=allow_small)
    return adata
