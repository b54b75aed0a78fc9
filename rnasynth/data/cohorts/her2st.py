"""her2st: spots of HER2-positive breast tumours, each a profile and the tile around it.

Source: Andersson et al., Nature Communications 2021. Arrays of 100-um spots, 200 um apart; a tile is the 128-um field
centred on the spot (256 px at 0.5 um/px), so it holds the spot and a rim of 14 um that is not in its profile.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

from rnasynth.data.cohorts.parts import TILE_MPP_UM, TILE_PX, Built, Sources, chosen, listed
from rnasynth.data.expression import read_expression
from rnasynth.data.genes import dense
from rnasynth.data.slides import open_slide
from rnasynth.data.tiles import TileWriter, finish_store, finished_slides
from rnasynth.data.tissue import centred_grid
from rnasynth.errors import InputError, SlideError

PITCH_UM = 200.0  # centre to centre, Spatial Transcriptomics arrays of 1,007 spots
MAX_GRID_ERROR_PX = 5.0  # the published pixels lie on the grid to 0.003 px; more is another table's or section's
MIN_COUNTS = 500  # spots below lie off the tissue or failed: 1 % of the spots, the median spot has 8,500 to 10,200
SECTION = re.compile(r"^[A-H][1-6]$")
ONE_TUMOUR_SPLIT = {"C2": "train", "C3": "train", "C4": "val", "C5": "test"}

#: Eight published types (stereoscope, major tier) in three groups; a spot's tissue is the group with the largest sum.
GROUPS = {
    "epithelial": ("Epithelial",),
    "stroma": ("CAFs", "Endothelial", "PVL"),
    "immune": ("B-cells", "Myeloid", "Plasma Cells", "T-cells"),
}


def build(
    sources: Sources, folder: Path, *, sections: Sequence[str] | None = None, profiles: str = "paired", progress: bool = True
) -> Built:
    """Read the sections that are there, cut a tile for every spot, and join them.

    Parameters
    ----------
    sections : of these only; None: all that have counts, spots and an image.
    profiles : "paired", or "all" to add the spots of sections without an image (for networks of profiles alone); those
        are split by patient, whatever the sections with images are split by.

    Notes
    -----
    `tissue` is the group of cell types (epithelial, stroma, immune) with the largest sum of published proportions in the
    spot, "unknown" where none are published, so that "within the same tissue" compares spots of like composition.
    A spot is dropped, and counted in the notes, if it is not selected, has no counts or fewer than 500, or if its tile
    leaves the image.
    """
    if profiles not in {"paired", "all"}:
        raise InputError(f"profiles={profiles!r}", expected='"paired" or "all"', found="another")
    present = {
        kind: {path.name.split(".")[0].split("_")[0] for path in (sources.folder / kind).glob("*") if path.is_file()}
        for kind in ("counts", "spots", "images")
    }
    whole = sorted(s for s in set.intersection(*present.values()) if SECTION.match(s))
    paired = chosen(sections, whole, "her2st section") if sections else whole
    if not paired:
        raise InputError(
            f"cohort her2st in {sources.folder}",
            expected="a section with counts, spots and image",
            found="none",
            fix="run `rnasynth fetch her2st`, with --mirror DIR where the files lie on a disk",
        )
    dropped: dict[str, int] = {}
    parts = [_section(sources.folder, folder / "tiles", section, dropped) for section in paired]
    finish_store(folder / "tiles")
    notes = [f"{len(paired)} sections with image and counts: {listed(paired)}."]
    unpaired = sorted(s for s in present["counts"] if SECTION.match(s) and s not in whole)
    if profiles == "all" and unpaired:
        genes = list(dict.fromkeys(gene for part in parts for gene in part.var_names))
        parts += [unpaired_section(sources.folder, section, dropped, genes) for section in unpaired]
        notes.append(f"Spots without tiles, of {len(unpaired)} sections: {listed(unpaired)}.")
    elif unpaired:
        notes.append(f"Left out, as their images are missing: {listed(unpaired)}.")
    if absent := sorted({path.split("/")[1][:2] for path in sources.missing} - set(whole) - set(unpaired)):
        notes.append(f"Not there at all: {listed(absent)}.")
    notes += [f"{count} spots dropped: {reason}." for reason, count in sorted(dropped.items()) if count]
    adata = stack(parts)
    splits, split_by, banner = _splits(adata.obs, paired)
    path = sources.folder / "images" / f"{paired[0]}.jpg"
    mpp_um = grid_mpp_um(spots_of(sources.folder, paired[0]), paired[0])
    return Built(
        profiles=adata, banner=banner, notes=notes, splits=splits, split_by=split_by, stratify=None, section=(path, mpp_um)
    )


def grid_mpp_um(spots: pd.DataFrame, section: str) -> float:
    """Um/px of a section's image, from the published pixels of its spots.

    `pixel_x, pixel_y` are an affine image of the array coordinates `new_x, new_y`, which count in pitches of 200 um: the
    area of one cell of the grid, fitted by least squares, gives px per pitch (290.6, so about 0.688 um/px).

    Raises
    ------
    SlideError : fewer than four spots, spots on one line, or pixels that lie off the grid.
    """
    subject = f"section {section}, spot table"
    array = np.c_[spots[["new_x", "new_y"]].to_numpy(float), np.ones(len(spots))]
    pixels = spots[["pixel_x", "pixel_y"]].to_numpy(float)
    if len(spots) < 4 or np.linalg.matrix_rank(array) < 3 or not np.isfinite(pixels).all():
        raise SlideError(subject, expected="four spots or more, not on one line", found=f"{len(spots)}")
    affine, *_ = np.linalg.lstsq(array, pixels, rcond=None)
    error = float(np.sqrt(((array @ affine - pixels) ** 2).sum(1).max()))
    if error > MAX_GRID_ERROR_PX:
        raise SlideError(
            subject,
            expected="pixels on the grid of the array",
            found=f"{error:.1f} px off",
        )
    return PITCH_UM / float(np.sqrt(abs(np.linalg.det(affine[:2]))))


def spots_of(folder: Path, section: str) -> pd.DataFrame:
    """Return the published table of a section's spots: place on the grid and pixel of the image, indexed "XxY".

    Raises
    ------
    InputError : a column is missing.
    """
    path = folder / "spots" / f"{section}_selection.tsv"
    table = pd.read_csv(path, sep="\t")
    wanted = {"x", "y", "new_x", "new_y", "pixel_x", "pixel_y", "selected"}
    if not wanted <= set(table):
        raise InputError(str(path), expected=", ".join(sorted(wanted)), found=", ".join(map(str, table.columns)))
    table.index = pd.Index(table["x"].astype(str) + "x" + table["y"].astype(str))
    return table


def _section(folder: Path, store: Path, section: str, dropped: dict[str, int]) -> AnnData:
    """One section: its spots' profiles, with a tile each in the store (a finished one is not cut again)."""
    spots = spots_of(folder, section)
    mpp_um = grid_mpp_um(spots, section)
    adata = read_expression(folder / "counts" / f"{section}.tsv.gz", kind="spots")
    counts = pd.Series(dense(adata).sum(1), index=adata.obs["spot"].astype(str))
    total = counts.reindex(spots.index)
    with open_slide(folder / "images" / f"{section}.jpg", slide_mpp=mpp_um) as slide:
        grid = centred_grid(spots[["pixel_x", "pixel_y"]].to_numpy(), TILE_PX, TILE_MPP_UM, slide).set_index(spots.index)
        rules = {
            "not selected by the authors": (spots["selected"] == 1).to_numpy(),
            "no counts": total.notna().to_numpy(),
            f"fewer than {MIN_COUNTS} counts": (total.fillna(0) >= MIN_COUNTS).to_numpy(),
            "tile beyond the image": grid["inside"].to_numpy(bool),
        }
        kept = np.ones(len(spots), bool)
        for reason, passed in rules.items():
            dropped[reason] = dropped.get(reason, 0) + int((kept & ~passed).sum())
            kept &= passed
        grid = grid[kept].sort_values(["y_px", "x_px"])
        if section not in finished_slides(store):
            _cut(slide, grid, store, section)
    adata = adata[[f"{section}_{spot}" for spot in grid.index]].copy()
    adata.obs["n_counts"] = total.loc[grid.index].to_numpy(float)
    return _described(adata, folder, section, split_group=section)


def _cut(slide: object, grid: pd.DataFrame, store: Path, section: str) -> None:
    with TileWriter(store, section, patient_id=section[0]) as writer:
        rest = grid.iloc[writer.position :]
        tiles = slide.read_tiles(rest[["x_px", "y_px"]].to_numpy(), TILE_PX, TILE_MPP_UM)  # type: ignore[attr-defined]
        for (spot, place), tile in zip(rest.iterrows(), tiles, strict=True):
            writer.add(
                tile,
                {"x_px": place["x_px"], "y_px": place["y_px"], "mpp_um": TILE_MPP_UM, "sample_id": f"{section}_{spot}"},
            )
        writer.finish()


def unpaired_section(folder: Path, section: str, dropped: dict[str, int], genes: list[str]) -> AnnData:
    """Return the profiles of a section without an image.

    Parameters
    ----------
    folder : of the cohort's files, with `counts` and `proportions`.
    section : its name, the patient's letter first.
    dropped : reason -> spots left out; those of this section are added.
    genes : that the sections with images have; others are left out.
    """
    adata = read_expression(folder / "counts" / f"{section}.tsv.gz", kind="spots", genes=genes)
    total = dense(adata).sum(1)
    enough = total >= MIN_COUNTS
    reason = f"fewer than {MIN_COUNTS} counts"
    dropped[reason] = dropped.get(reason, 0) + int((~enough).sum())
    adata = adata[enough].copy()
    adata.obs["n_counts"] = total[enough].astype(float)
    return _described(adata, folder, section, split_group=f"patient {section[0]}")


def _described(adata: AnnData, folder: Path, section: str, *, split_group: str) -> AnnData:
    """Add cohort, patient, group, published fractions and the tissue that follows from them."""
    obs = adata.obs
    obs["patient_id"], obs["split_group"], obs["cohort"] = section[0], split_group, "her2st"
    path = folder / "proportions" / f"{section}.tsv.gz"
    types = [name for names in GROUPS.values() for name in names]
    table = pd.read_csv(path, sep="\t", index_col=0) if path.is_file() else pd.DataFrame(columns=types, dtype=float)
    table = table.reindex(index=obs["spot"].astype(str), columns=types)
    for name in types:
        obs[f"fraction_{name.lower().replace(' ', '_').replace('-', '_')}"] = table[name].to_numpy(float)
    sums = pd.DataFrame({group: table[list(names)].sum(axis=1).to_numpy(float) for group, names in GROUPS.items()})
    known = table.notna().all(axis=1).to_numpy()
    obs["tissue"] = np.where(known, np.array(list(GROUPS))[sums.to_numpy().argmax(1)], "unknown")
    return adata


def stack(parts: Sequence[AnnData]) -> AnnData:
    """Stack count matrices on the genes that any of them has: a section's table lists only genes with a count in it."""
    genes = list(dict.fromkeys(gene for part in parts for gene in part.var_names))
    at = {gene: place for place, gene in enumerate(genes)}
    x = np.zeros((sum(part.n_obs for part in parts), len(genes)), np.float32)
    start = 0
    for part in parts:
        x[start : start + part.n_obs, [at[gene] for gene in part.var_names]] = dense(part)
        start += part.n_obs
    obs = pd.concat([part.obs for part in parts])
    return AnnData(
        X=x, obs=obs, var=pd.DataFrame({"symbol": genes}, index=pd.Index(genes, dtype=object)), uns={"unit": "counts"}
    )


def _splits(obs: pd.DataFrame, paired: list[str]) -> tuple[dict[str, str] | None, str, str]:
    """How to split: by patient from three patients with images on, else by section, with the banner that says so."""
    patients = sorted({section[0] for section in paired})
    if len(patients) >= 3:
        obs["split_group"] = "patient " + obs["patient_id"].astype(str)
        return None, "patient", ""
    if set(ONE_TUMOUR_SPLIT) <= set(paired):
        fixed = {section: ONE_TUMOUR_SPLIT.get(section, "train") for section in paired}
    elif len(paired) >= 3:
        fixed = {section: "train" for section in paired} | {paired[-2]: "val", paired[-1]: "test"}
    else:
        raise InputError(f"her2st sections {listed(paired)}", expected="three or more", found=str(len(paired)))
    others = sorted({group for group in obs["split_group"] if group.startswith("patient ")})
    with_images = {f"patient {patient}" for patient in patients}  # their other sections may not be held out
    free = [group for group in others if group not in with_images]
    fixed |= {group: "train" for group in others}
    if len(free) >= 3:
        fixed |= {free[-2]: "val", free[-1]: "test"}
    number = {3: "three", 4: "four", 5: "five", 6: "six"}.get(len(paired), str(len(paired)))
    banner = (
        f"One tumour: {number} sections of patient {patients[0]}; a split by section is not a split by patient, so nothing "
        "here says how a model does on a new patient."
        if len(patients) == 1
        else f"{number} sections of {len(patients)} tumours; a split by section is not a split by patient."
    )
    return fixed, "section", banner
