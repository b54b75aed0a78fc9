"""Profiles in the forms that public cohorts come in: GDC STAR counts, R data, Porpoise tables; GEO's sample lines."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyreadr
from anndata import AnnData
from numpy.typing import NDArray

from rnasynth.data.genes import Duplicates, few, gene_id
from rnasynth.data.profiles import GenePlaces, Scale, assemble, pick_samples
from rnasynth.data.streams import Lines, fields_of, open_stream
from rnasynth.errors import InputError

_GTF_FACT = re.compile(r'(\w+) "([^"]*)"')
STAR_COLUMNS = {"tpm": "tpm_unstranded", "counts": "unstranded"}
PORPOISE_OBS = ("case_id", "age", "site", "survival_months", "censorship", "is_female", "oncotree_code")


def read_gdc_star_counts(
    path: Path,
    *,
    unit: str,
    genes: Sequence[str] | None,
    samples: Sequence[str] | None,
    duplicates: Duplicates,
    min_share: float,
) -> AnnData:
    """Read one `*.augmented_star_gene_counts.tsv`, or a folder of them (also as gdc-client makes it), one file a sample.

    A sample is named by the folder's `gdc_sample_sheet*.tsv` (columns File Name, Sample ID) where there is one, else by
    the file's name up to the first dot. Files are read one at a time into the finished matrix.

    Parameters
    ----------
    unit : "tpm" (column tpm_unstranded) or "counts" (unstranded).

    Raises
    ------
    InputError : no such file, a column is missing, or a file lists other genes than the first one (another GENCODE release).

    Source: GDC, mRNA analysis pipeline; the rows N_unmapped, N_multimapping, N_noFeature, N_ambiguous are no genes.
    """
    if unit not in STAR_COLUMNS:
        raise InputError(str(path), expected=f"unit among {sorted(STAR_COLUMNS)}", found=repr(unit), fix="change unit=")
    files = sorted(path.rglob("*star_gene_counts.tsv*")) if path.is_dir() else [path]
    if not files:
        raise InputError(str(path), expected="*.augmented_star_gene_counts.tsv files", found="none", fix="check the path")
    sheet = _sample_sheet(path) if path.is_dir() else {}
    names = [sheet.get(file.name, file.name.split(".")[0]) for file in files]
    chosen = pick_samples(names, samples, str(path))
    reference: NDArray[np.object_] | None = None
    places, rows, targets = GenePlaces(genes, duplicates, str(path)), np.empty(0, np.intp), np.empty(0, np.intp)
    var, x = pd.DataFrame(), np.empty((0, 0), dtype=np.float32)
    for number, which in enumerate(chosen):
        table = _star_table(files[which], STAR_COLUMNS[unit])
        ids = table["gene_id"].to_numpy(dtype=object)
        if reference is None:
            reference = ids
            placed = [places.place(*pair) for pair in zip(table["gene_id"], table["gene_name"].fillna(""), strict=True)]
            order, var = places.finish(min_share)
            position = np.full(max(placed) + 1, -1)
            position[order] = np.arange(len(order))
            rows = np.flatnonzero(np.array(placed) >= 0)
            targets = position[np.array(placed)[rows]]
            x = np.zeros((len(chosen), len(order)), dtype=np.float32)
        elif not np.array_equal(reference, ids):
            raise InputError(
                str(files[which]),
                expected=f"the same genes as {files[chosen[0]].name} ({len(reference)})",
                found=f"{len(ids)} genes, or another order",
                fix="read files of different GENCODE releases apart, then concatenate()",
            )
        np.add.at(x[number], targets, table[STAR_COLUMNS[unit]].to_numpy(dtype=np.float32)[rows])
    return assemble(x, [names[number] for number in chosen], var, path=path, unit=unit, wanted=genes)


def _star_table(path: Path, column: str) -> pd.DataFrame:
    try:
        with open_stream(path) as handle:
            table = pd.read_csv(handle, sep="\t", comment="#", usecols=["gene_id", "gene_name", column])
    except (ValueError, EOFError, OSError) as error:
        raise InputError(
            str(path), expected=f"columns gene_id, gene_name, {column}", found=str(error)[:200], fix="fetch it again"
        ) from None
    return table[~table["gene_id"].str.startswith("N_")].reset_index(drop=True)


def _sample_sheet(folder: Path) -> dict[str, str]:
    names: dict[str, str] = {}
    for sheet in sorted(folder.glob("gdc_sample_sheet*.tsv")):
        table = pd.read_csv(sheet, sep="\t", dtype=str)
        if {"File Name", "Sample ID"} <= set(table.columns):
            names.update(zip(table["File Name"], table["Sample ID"], strict=True))
    return names


def read_r_data(
    path: Path,
    *,
    genes: Sequence[str] | None,
    samples: Sequence[str] | None,
    unit: str | None,
    scale: Scale,
    duplicates: Duplicates,
    min_share: float,
    allow_small: bool,
) -> AnnData:
    """Read the data frame of an .rda or .rds file: samples in rows, gene columns; barcodes in the first column or row names.

    The R readers hold the whole frame once; only the wanted part stays.

    Raises
    ------
    InputError : no data frame in it (S4 objects such as SummarizedExperiment cannot be read without R).
    """
    frame = read_r_frame(path)
    texts = [column for column in frame.columns if not pd.api.types.is_numeric_dtype(frame[column])]
    names = [str(name) for name in (frame[texts[0]] if texts else frame.index)]
    columns = [column for column in frame.columns if column not in set(texts)]
    places = GenePlaces(genes, duplicates, str(path))
    placed = {column: place for column in columns if (place := places.place(str(column))) >= 0}
    order, var = places.finish(min_share)
    chosen = pick_samples(names, samples, str(path))
    position = {place: number for number, place in enumerate(order)}
    x = np.zeros((len(chosen), len(order)), dtype=np.float32)
    for column, place in placed.items():
        x[:, position[place]] += frame[column].to_numpy(dtype=np.float32)[chosen]
    if unit is None and "rnaseq" in path.name and any("|" in str(column) for column in columns[:50]):
        unit = "rsem"  # TCGA's level 3 RNASeqV2 as the RTCGA packages carry it
    kept = [names[number] for number in chosen]
    return assemble(x, kept, var, path=path, unit=unit, scale=scale, wanted=genes, allow_small=allow_small)


def read_r_frame(path: Path) -> pd.DataFrame:
    """Return the first data frame of an .rda or .rds file.

    Raises
    ------
    InputError : no such file, not R data, or no data frame in it.
    """
    if not path.is_file():
        raise InputError(str(path), expected="a file", found="none there", fix="check the path")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it cannot read it only warns of; said below
            objects = pyreadr.read_r(str(path))
    except (pyreadr.PyreadrError, pyreadr.LibrdataError) as error:
        raise InputError(str(path), expected="R data", found=str(error)[:200], fix="fetch it again") from None
    for value in objects.values():
        if isinstance(value, pd.DataFrame):
            return value
    raise InputError(
        str(path),
        expected="a data frame",
        found="none (lists and S4 objects cannot be read without R)",
        fix="in R: write.csv(as.matrix(assay(object)), 'profiles.csv'), then read that",
    )


def read_porpoise(
    path: Path, *, genes: Sequence[str] | None, samples: Sequence[str] | None, duplicates: Duplicates, min_share: float
) -> AnnData:
    """Read a Porpoise table: `SYMBOL_rnaseq`, z-scored within the cohort, a row a slide; one profile a patient stays.

    Returns
    -------
    AnnData in unit "zscore"; `obs`: patient_id, age, site, sex, survival_months, event (1 = died), oncotree_code.

    Raises
    ------
    InputError : no such columns, or two slides of a patient with different profiles.

    Source: Chen et al., Cancer Cell 2022 (PORPOISE), datasets_csv; its `censorship` is 1 where the patient was alive.
    """
    with open_stream(path) as handle:
        frame = pd.read_csv(
            handle,
            usecols=lambda name: name in PORPOISE_OBS or name.endswith("_rnaseq"),
            dtype={"site": str},  # tissue source sites: "2F", but also "22"
        )
    columns = [column for column in frame.columns if column.endswith("_rnaseq")]
    if not columns or "case_id" not in frame:
        raise InputError(str(path), expected="columns case_id and SYMBOL_rnaseq", found=few(frame.columns))
    repeats = frame.duplicated("case_id")
    if int(frame.duplicated(["case_id", *columns]).sum()) != int(repeats.sum()):
        raise InputError(str(path), expected="one profile a patient", found="two slides that differ", fix="check the file")
    frame = frame[~repeats].reset_index(drop=True)
    names = frame["case_id"].astype(str).tolist()
    chosen = pick_samples(names, samples, str(path))
    places = GenePlaces(genes, duplicates, str(path))
    placed = {column: place for column in columns if (place := places.place(column.removesuffix("_rnaseq"))) >= 0}
    order, var = places.finish(min_share)
    position = {place: number for number, place in enumerate(order)}
    x = np.zeros((len(chosen), len(order)), dtype=np.float32)
    for column, place in placed.items():
        x[:, position[place]] += frame[column].to_numpy(dtype=np.float32)[chosen]
    obs = frame.loc[chosen, [column for column in PORPOISE_OBS if column in frame and column != "case_id"]]
    obs["event"] = 1 - obs.pop("censorship").astype(int)
    obs["sex"] = obs.pop("is_female").map({1.0: "female", 0.0: "male"}).fillna("")
    kept = [names[number] for number in chosen]
    return assemble(x, kept, var, path=path, unit="zscore", obs=obs.reset_index(drop=True), wanted=genes)


def cognoma_symbols(path: Path) -> dict[str, str]:
    """Return Entrez id -> symbol from `expression-genes.tsv.gz` beside a Cognoma table; empty where it is not there."""
    beside = path.with_name("expression-genes.tsv.gz")
    if not beside.exists():
        return {}
    with open_stream(beside) as handle:
        table = pd.read_csv(handle, sep="\t", usecols=["entrez_gene_id", "symbol"], dtype=str)
    return dict(zip(table["entrez_gene_id"], table["symbol"], strict=True))


def series_matrix_samples(path: Path) -> pd.DataFrame:
    """Return what a GEO series matrix says of its samples: title, source, and each `characteristics` as a column.

    Shape (samples, fields), texts, index = GSM accession ("" where a sample does not say).
    """
    fields: dict[str, list[str]] = {}
    accessions: list[str] = []
    with Lines(path) as lines:
        while line := lines.next():
            if line.lower().startswith(b"!series_matrix_table_begin"):
                break
            if not line.startswith(b"!Sample_"):
                continue
            key, *values = fields_of(line, "\t")
            key = key.removeprefix("!Sample_")
            if key == "geo_accession":
                accessions = values
            elif key in ("title", "source_name_ch1", "organism_ch1", "description"):
                fields.setdefault(key.removesuffix("_ch1"), values)
            elif key == "characteristics_ch1":
                for number, value in enumerate(values):
                    name, separator, text = value.partition(":")
                    if separator:
                        fields.setdefault(name.strip().lower().replace(" ", "_"), [""] * len(values))[number] = text.strip()
    if not accessions:
        raise InputError(str(path), expected="a line !Sample_geo_accession", found="none", fix="fetch it again")
    same = {name: values for name, values in fields.items() if len(values) == len(accessions)}
    return pd.DataFrame(same, index=pd.Index(accessions, dtype=object), dtype=object)


def protein_coding_genes(path: Path) -> list[str]:
    """Return the unversioned Ensembl ids of the protein-coding genes of a GENCODE annotation, in its order, each once.

    Parameters
    ----------
    path : a GTF file, plain or gzip; only its lines of feature "gene" are read.

    Raises
    ------
    InputError : no line of a protein-coding gene, or not a GTF file.
    """
    found: dict[str, None] = {}
    with Lines(path) as lines:
        for buffer, start, stop in lines:
            if buffer.find(b"\tgene\t", start, stop) < 0:
                continue
            text = buffer[start:stop].decode("utf-8", errors="replace")
            facts = dict(_GTF_FACT.findall(text))
            if facts.get("gene_type", facts.get("gene_biotype")) == "protein_coding" and "gene_id" in facts:
                name = gene_id(facts["gene_id"])
                if not name.endswith("_PAR_Y"):  # the second copy of a gene that lies on X and Y
                    found[name] = None
    if not found:
        raise InputError(
            str(path), expected='a GTF with gene_type "protein_coding"', found="no such gene", fix="fetch it again"
        )
    return list(found)
