"""Cohorts of bulk profiles without tiles: tcga-xena, rtcga, porpoise, cognoma, gtex, geo."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

from rnasynth.data.cohorts.parts import Built, Sources, chosen, listed
from rnasynth.data.expression import concatenate, read_expression
from rnasynth.data.profiles import patient_of
from rnasynth.data.public_forms import protein_coding_genes, series_matrix_samples
from rnasynth.errors import InputError

#: Tissues of RNA-GAN as GTEx names them (SMTSD).
GTEX_TISSUES = ("Brain - Cortex", "Lung", "Pancreas", "Stomach", "Liver")
SCALED_WITHIN = "Profiles are z-scored within each cohort: never use them for telling cancers apart."


def _parts(sources: Sources, pattern: str, wanted: Sequence[str] | None, name: str) -> tuple[dict[str, Path], list[str]]:
    """Files of the parts that are there, by part, and the note that says which are missing."""
    before, _, after = pattern.partition("*")
    found = {path.name.removeprefix(before).removesuffix(after): path for path in sorted(sources.folder.glob(pattern))}
    if not found:
        raise InputError(
            f"cohort {name} in {sources.folder}", expected=pattern, found="no such file", fix=f"run `rnasynth fetch {name}`"
        )
    kept = chosen(wanted, list(found), f"{name} part")
    notes = [f"Not there: {listed(sorted(sources.missing))}."] if sources.missing else []
    return {part: found[part] for part in kept}, notes


def _finished(parts: list[AnnData], name: str) -> AnnData:
    adata = concatenate(parts) if len(parts) > 1 else parts[0]
    adata.obs["cohort"] = name
    adata.obs["split_group"] = adata.obs["patient_id"].astype(str)
    return adata


def build_xena(sources: Sources, folder: Path, *, cancers: Sequence[str] | None = None, progress: bool = True) -> Built:
    """tcga-xena: BLCA, STAD, COADREAD on one scale, with survival.

    `event` is 1 where the patient died (their table's `censorship` is 1 where the patient was alive); both columns are
    NaN for the patients without an entry. One profile a patient.
    """
    files, notes = _parts(sources, "*_rna_clean.csv.gz", cancers, "tcga-xena")
    parts = []
    for cancer, path in files.items():
        adata = read_expression(path, kind="xena")
        table = pd.DataFrame(index=adata.obs["patient_id"].astype(str))
        for kind in ("metadata", "clinical"):
            beside = path.with_name(f"{cancer}_{kind}.csv.gz")
            if beside.is_file():
                rows = pd.read_csv(beside, index_col=0).drop_duplicates("case_id").set_index("case_id")
                table = table.join(rows[[column for column in rows if column not in table]])
        adata.obs["tissue"] = cancer.upper()
        for column in ("age", "survival_months"):
            adata.obs[column] = table[column].to_numpy(float) if column in table else np.nan
        adata.obs["event"] = 1.0 - table["censorship"].to_numpy(float) if "censorship" in table else np.nan
        female = table["is_female"] if "is_female" in table else pd.Series(np.nan, index=table.index)
        adata.obs["sex"] = female.map({0: "male", 1: "female"}).fillna("").to_numpy(dtype=object)
        for column in ("stage", "grade", "subtype"):
            values = table[column] if column in table else pd.Series("", index=table.index)
            adata.obs[column] = values.astype(object).where(values.notna(), "").astype(str).to_numpy(dtype=object)
        parts.append(adata)
    notes.append("1,577 genes of a pathway selection, not the transcriptome; comparable across these cancers.")
    return Built(profiles=_finished(parts, "tcga-xena"), notes=notes)


def build_rtcga(
    sources: Sources, folder: Path, *, cancers: Sequence[str] | None = None, normals: bool = False, progress: bool = True
) -> Built:
    """rtcga: ACC, UVM, CHOL in full width (RSEM); normal samples are left out unless asked for, and are a tissue then."""
    files, notes = _parts(sources, "*.rnaseq.rda", cancers, "rtcga")
    parts, left_out = [], 0
    for cancer, path in files.items():
        adata = read_expression(path, kind="r_data", unit="rsem", duplicates="sum")
        normal = (adata.obs["sample_type"].astype(str) == "normal").to_numpy()
        adata.obs["tissue"] = np.where(normal, f"{cancer} normal", cancer).astype(object)
        left_out += 0 if normals else int(normal.sum())
        parts.append(adata if normals else adata[~normal].copy())
    if left_out:
        notes.append(f"{left_out} samples of normal tissue left out.")
    return Built(profiles=_finished(parts, "rtcga"), notes=notes)


def build_porpoise(sources: Sources, folder: Path, *, cancers: Sequence[str] | None = None, progress: bool = True) -> Built:
    """porpoise: up to nine TCGA cohorts, z-scored within each, with survival."""
    files, notes = _parts(sources, "tcga_*_all_clean.csv.zip", cancers, "porpoise")
    return Built(profiles=porpoise_profiles(files, "porpoise"), notes=[*notes, SCALED_WITHIN], banner=SCALED_WITHIN)


def porpoise_profiles(files: dict[str, Path], name: str) -> AnnData:
    """Stack Porpoise tables (cancer -> file) on their shared genes; tissue is the cancer in capitals."""
    parts = []
    for cancer, path in files.items():
        adata = read_expression(path, kind="porpoise")
        adata.obs["tissue"] = cancer.upper()
        parts.append(adata)
    return _finished(parts, name)


def build_cognoma(sources: Sources, folder: Path, *, progress: bool = True) -> Built:
    """cognoma: 98 tumours of thirty cancers; tissue is the disease's acronym where the sample table is there."""
    files = sorted(sources.folder.glob("all-genes_*.tsv.gz"))
    if not files:
        raise InputError(f"cohort cognoma in {sources.folder}", expected="all-genes_*.tsv.gz", found="none")
    parts: list[AnnData] = []
    seen: set[str] = set()
    for path in files:  # two states of one table: what is in the first is not taken again
        part = read_expression(path, kind="cognoma", duplicates="sum")
        parts.append(part[[sample not in seen for sample in part.obs_names]].copy())
        seen |= set(part.obs_names)
    adata = _finished([part for part in parts if part.n_obs], "cognoma")
    adata.obs["tissue"] = "tumour"
    table = next(iter(sources.folder.rglob("cognoma_complete_samples.tsv.gz")), None)
    if table is not None:
        acronym = pd.read_csv(table, sep="\t", index_col=0)["acronym"]
        adata.obs["tissue"] = [str(acronym.get(sample, "tumour")) for sample in adata.obs["sample_id"]]
    return Built(profiles=adata, stratify=None)


def build_gtex(
    sources: Sources,
    folder: Path,
    *,
    tissues: Sequence[str] = GTEX_TISSUES,
    genes: Sequence[str] | None = None,
    progress: bool = True,
) -> Built:
    """gtex: TPM of chosen tissues; only the wanted samples and genes are ever in memory. A donor has several tissues:
    the split group is the donor. `genes`: None for the protein-coding ones, as in RNA-GAN (all, and said, where the
    annotation is not there)."""
    notes = [
        "Profiles only: the slides come from the GTEx histology viewer (see the manifest); tile them as a cohort of yours."
    ]
    annotation = sources.folder / "genes.gtf.gz"
    if genes is None and annotation.is_file():
        genes = protein_coding_genes(annotation)
        notes.append(f"Protein-coding genes of the annotation: {len(genes):,}.")
    elif genes is None:
        notes.append("All genes: genes.gtf.gz, which tells the protein-coding ones, is not there.")
    attributes = pd.read_csv(sources.folder / "sample_attributes.txt", sep="\t", dtype=str).set_index("SAMPID")
    known = sorted(attributes["SMTSD"].dropna().unique())
    names = chosen(tissues, known, "GTEx tissue")
    frozen = attributes["SMAFRZE"].eq("RNASEQ") if "SMAFRZE" in attributes else pd.Series(True, index=attributes.index)
    rows = attributes[frozen & attributes["SMTSD"].isin(names)]
    adata = read_expression(
        sources.folder / "gene_tpm.gct.gz", kind="gct", unit="tpm", samples=list(rows.index), genes=genes, duplicates="sum"
    )
    adata.obs["tissue"] = rows["SMTSD"].to_numpy(dtype=object)
    subjects = sources.folder / "subject_phenotypes.txt"
    if subjects.is_file():
        people = pd.read_csv(subjects, sep="\t", dtype=str).set_index("SUBJID")
        ids = [patient_of(sample) for sample in adata.obs_names]
        adata.obs["sex"] = people["SEX"].map({"1": "male", "2": "female"}).reindex(ids).fillna("").to_numpy(dtype=object)
        adata.obs["age_range"] = people["AGE"].reindex(ids).fillna("").to_numpy(dtype=object)
    return Built(profiles=_finished([adata], "gtex"), notes=notes)


def build_geo(sources: Sources, folder: Path, *, series: Sequence[str] | None = None, progress: bool = True) -> Built:
    """geo: the papers' external series, TPM as recomputed by NCBI; Entrez ids are turned into Ensembl ids.

    Tissue is what the series matrix says (characteristics `tissue`, else the source name).
    """
    files, notes = _parts(sources, "GSE*_tpm.tsv.gz", series, "geo")
    annotation = (
        pd.read_csv(sources.folder / "genes.tsv.gz", sep="\t", dtype=str).drop_duplicates("GeneID").set_index("GeneID")
    )
    parts = []
    for number, path in files.items():
        adata = read_expression(path, kind="table", genes_in="rows", unit="tpm")
        ids = annotation.reindex(adata.var_names)
        ensembl, symbol = ids["EnsemblGeneID"].fillna(""), ids["Symbol"].fillna("")
        names = pd.Series(np.where(ensembl != "", ensembl, symbol), index=adata.var_names)
        good = ((names != "") & ~names.duplicated()).to_numpy()
        adata = adata[:, good].copy()
        adata.var["symbol"] = symbol.to_numpy(dtype=object)[good]
        adata.var_names = pd.Index(names[good], dtype=object)
        adata.obs["tissue"], adata.obs["series"] = "unknown", f"GSE{number}"
        matrix = path.with_name(f"GSE{number}_series_matrix.txt.gz")
        if matrix.is_file():
            said = series_matrix_samples(matrix).reindex(adata.obs_names)
            column = next((name for name in ("tissue", "source_name") if name in said), None)
            if column is not None:
                adata.obs["tissue"] = (
                    said[column].fillna("unknown").replace("", "unknown").str.lower().to_numpy(dtype=object)
                )
        parts.append(adata)
    notes.append("External: for judging, never for training. Values are NCBI's recompute, not the authors' own tables.")
    return Built(profiles=_finished(parts, "geo"), notes=notes)
