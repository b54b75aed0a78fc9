"""Cohorts with whole slides: tcga (GDC), and a user's own, described by one manifest file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd

from rnasynth.data.cohorts.parts import TILE_MPP_UM, TILE_PX, Built, Sources, listed
from rnasynth.data.expression import Kind, read_expression
from rnasynth.data.tiling import tile_slides
from rnasynth.data.tissue import TileConfig
from rnasynth.data.user_tables import read_user_table
from rnasynth.errors import InputError, PartialFailure

SLIDE_SUFFIXES = {".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn", ".vms", ".bif", ".jpg", ".jpeg", ".png"}
PRIMARY_FIRST = ("tumour", "recurrence", "metastasis", "normal")


def build_tcga(
    sources: Sources,
    folder: Path,
    *,
    tiles: bool = True,
    max_tiles: int = 4000,
    workers: int = 1,
    genes: Sequence[str] | None = None,
    progress: bool = True,
) -> Built:
    """tcga: GDC STAR counts (TPM) and diagnostic slides of the files that a GDC manifest named.

    One profile a patient, the primary tumour's first (`sample_id` is the patient's barcode, so that slides join); tissue
    is the project where the sample sheet says it, else "TCGA".
    """
    if not sources.folder.is_dir():
        raise InputError(
            "cohort tcga",
            expected="the files that a GDC manifest names",
            found=f"no folder {sources.folder}",
            fix="choose them on the GDC portal, download its manifest, and: rnasynth fetch tcga --gdc-manifest FILE",
        )
    adata = read_expression(sources.folder, kind="gdc_star_counts", unit="tpm", genes=genes, duplicates="sum")
    kinds = adata.obs["sample_type"].astype(str) if "sample_type" in adata.obs else pd.Series("", index=adata.obs_names)
    rank = kinds.map({kind: place for place, kind in enumerate(PRIMARY_FIRST)}).fillna(len(PRIMARY_FIRST)).to_numpy()
    order = np.lexsort((adata.obs_names.to_numpy(dtype=str), rank))
    first = pd.Series(order, index=adata.obs["patient_id"].astype(str).to_numpy()[order]).groupby(level=0).first()
    notes = (
        [f"{adata.n_obs - len(first)} further samples of the same patients left out."] if len(first) < adata.n_obs else []
    )
    adata = adata[np.sort(first.to_numpy())].copy()
    adata.obs["barcode"] = adata.obs["sample_id"].astype(str).to_numpy(dtype=object)
    adata.obs["sample_id"] = adata.obs["patient_id"].astype(str)
    adata.obs_names = pd.Index(adata.obs["sample_id"].to_numpy(dtype=object))
    adata.obs["tissue"] = "TCGA"
    sheet = next(iter(sorted(sources.folder.glob("gdc_sample_sheet*.tsv"))), None)
    if sheet is not None:
        table = pd.read_csv(sheet, sep="\t", dtype=str)
        if {"Case ID", "Project ID"} <= set(table):
            project = dict(
                zip(table["Case ID"].str.split(",").str[0], table["Project ID"].str.split(",").str[0], strict=True)
            )
            adata.obs["tissue"] = [project.get(patient, "TCGA") for patient in adata.obs["patient_id"]]
    adata.obs["cohort"], adata.obs["split_group"] = "tcga", adata.obs["patient_id"].astype(str)
    paths = sorted(path for path in (sources.folder / "gdc").rglob("*.svs") if _patient(path) in set(adata.obs_names))
    section = None
    if tiles and paths:
        notes += _tile(paths, folder / "tiles", None, max_tiles, workers, None, progress)
        section = (paths[0], float("nan"))
    return Built(profiles=adata, notes=notes, section=section)


def _patient(path: Path) -> str:
    return "-".join(path.name.split("-")[:3])


def build_own(sources: Sources, folder: Path, *, max_tiles: int = 4000, workers: int = 1, progress: bool = True) -> Built:
    """Build a user's own cohort from a manifest with a block `cohort`.

    The block names, relative to the manifest's folder: `samples`, a csv with sample_id, patient_id, tissue, and, where
    there are slides, slide (a file below `slides`; further columns are kept); `expression`, any file that
    `read_expression` reads, holding those samples (`expression_kind`, `unit` where it cannot tell); `slides`, the folder
    of the slides; `slide_mpp` where they do not say; `banner`, what every page must say.

    Raises
    ------
    InputError : a column is missing, a sample twice, or a slide that is not there.
    """
    settings = sources.settings
    path = sources.folder / settings["samples"]
    table = read_user_table(
        path,
        needs=("sample_id", "patient_id", "tissue"),
        types=dict.fromkeys(("sample_id", "patient_id", "tissue", "slide", "split_group"), str),
        what="a csv of samples",
    )
    for name in ("sample_id", "patient_id", "tissue"):
        if table[name].isna().any():
            raise InputError(f"{path}, row {int(table[name].isna().argmax()) + 2}", expected=name, found="nothing")
    if table["sample_id"].duplicated().any():
        double = table["sample_id"][table["sample_id"].duplicated()].iloc[0]
        raise InputError(f"{path}, sample {double}", expected="each sample once", found="several rows")
    kind = settings.get("expression_kind", "auto")
    if kind not in get_args(Kind):
        raise InputError(f"expression_kind {kind!r}", expected=f"one of {', '.join(get_args(Kind))}", found="another")
    adata = read_expression(
        sources.folder / settings["expression"], kind=kind, unit=settings.get("unit"), samples=list(table["sample_id"])
    )
    for column in table:
        adata.obs[str(column)] = table[column].to_numpy()
    adata.obs["cohort"] = settings["name"]
    if "split_group" not in table:
        adata.obs["split_group"] = table["patient_id"].to_numpy()
    notes: list[str] = []
    section = None
    if "slides" in settings and "slide" in table:
        rows = table[table["slide"].notna()]
        paths = [sources.folder / settings["slides"] / name for name in rows["slide"]]
        for sample, one in zip(rows["sample_id"], paths, strict=True):
            inside = one.resolve().is_relative_to((sources.folder / settings["slides"]).resolve())
            if not (inside and one.is_file() and one.suffix.lower() in SLIDE_SUFFIXES):
                raise InputError(
                    f"sample {sample}, slide {one}", expected="a slide in the slides' folder", found="none there"
                )
        sample_of = dict(zip((one.stem for one in paths), rows["sample_id"], strict=True))
        if len(sample_of) < len(paths):
            raise InputError(str(path), expected="slides of different names", found="two of one name")
        mpp = settings.get("slide_mpp")
        notes += _tile(paths, folder / "tiles", sample_of, max_tiles, workers, mpp, progress)
        section = (paths[0], float(mpp or "nan"))
    return Built(profiles=adata, notes=notes, banner=settings.get("banner", ""), section=section)


def _tile(
    paths: list[Path],
    store: Path,
    sample_of: dict[str, str] | None,
    max_tiles: int,
    workers: int,
    slide_mpp: float | None,
    progress: bool,
) -> list[str]:
    """Tile slides; what is in quarantine becomes a note, unless nothing is left."""
    config = TileConfig(tile_px=TILE_PX, mpp_um=TILE_MPP_UM, max_tiles=max_tiles)
    try:
        tile_slides(paths, store, config, slide_mpp=slide_mpp, workers=workers, progress=progress, patient_of=sample_of)
    except PartialFailure as failure:
        if len(failure.failures) == len(paths):
            raise
        return [f"Slide left out: {name}: {reason}" for name, reason in failure.failures.items()] + [
            f"{len(paths) - len(failure.failures)} of {len(paths)} slides tiled: not {listed(sorted(failure.failures))}."
        ]
    return []
