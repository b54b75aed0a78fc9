"""tcga-tiles: regions of TCGA slides with nuclei truth (MoNuSeg, MoNuSAC), joined to the RNA of the same patients."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from rnasynth.data.cohorts.bulk import SCALED_WITHIN, porpoise_profiles
from rnasynth.data.cohorts.parts import TILE_MPP_UM, TILE_PX, Built, Sources, chosen, listed
from rnasynth.data.profiles import patient_of
from rnasynth.data.tiles import TileWriter, finish_store, finished_slides
from rnasynth.errors import InputError

REGION_MPP_UM = 0.25  # both challenges: 40x
MAX_SIDE_PX = 20_000
SETS = ("monuseg", "monusac")
OVERLAP_SHARE = 0.1  # 500 px at 0.5 um/px hold two tiles of 256 with 2.4 % overlap; three would overlap by half


def build(sources: Sources, folder: Path, *, sets: Sequence[str] | None = None, progress: bool = True) -> Built:
    """Cut the regions into 256-px tiles at 0.5 um/px (as few as cover them, overlapping by at most a tenth).

    Profiles are all patients of the Porpoise tables (z-scored within each cancer); a dozen or two of them have tiles.
    Red and blue of the MoNuSAC images are swapped in the public files and swapped back here. A region smaller than one
    tile is left out; so is a region whose patient has no profile (both are counted in the notes).
    """
    wanted = chosen(sets, SETS, "set of regions")
    tables = {path.name.split("_")[1]: path for path in sorted((sources.folder / "porpoise").glob("*_all_clean.csv.zip"))}
    if not tables:
        raise InputError(f"cohort tcga-tiles in {sources.folder}", expected="porpoise tables", found="none")
    adata = porpoise_profiles(tables, "tcga-tiles")
    patients = set(adata.obs["patient_id"].astype(str))
    small: list[str] = []
    strangers: set[str] = set()
    section = None
    for name in wanted:
        where = sources.folder / (name if name == "monuseg" else "monusac/img")
        for path in sorted(where.glob("*")):
            if path.stem.endswith("_inst") or path.suffix.lower() not in {".png", ".jpg"}:
                continue
            patient = patient_of(path.stem)
            if patient not in patients:
                strangers.add(patient)
                continue
            section = section or (path, REGION_MPP_UM)
            if path.stem not in finished_slides(folder / "tiles") and not _cut(path, folder / "tiles", patient, name):
                small.append(path.stem)
    if section is None:
        raise InputError(f"cohort tcga-tiles in {sources.folder}", expected="a region of a patient with RNA", found="none")
    store = finish_store(folder / "tiles")
    with_tiles = set(store.index["sample_id"].astype(str))
    adata.obs["has_tiles"] = adata.obs["sample_id"].astype(str).isin(with_tiles).to_numpy()
    adata.obs["stratum"] = adata.obs["tissue"].astype(str) + np.where(adata.obs["has_tiles"], " with tiles", "")
    notes = [
        f"{len(with_tiles)} patients have regions and RNA; {adata.n_obs - len(with_tiles)} more have RNA alone.",
        SCALED_WITHIN,
    ]
    if strangers:
        notes.append(f"Regions left out, as their patients have no RNA here: {listed(sorted(strangers))}.")
    if small:
        notes.append(f"Regions smaller than a tile left out: {listed(small)}.")
    banner = (
        f"RNA and image of the same patients, but {len(with_tiles)} only, and the RNA is of another piece of the tumour."
    )
    return Built(profiles=adata, notes=notes, banner=banner, stratify="stratum", section=section)


def _cut(path: Path, store: Path, patient: str, name: str) -> bool:
    """Write the tiles of one region; False where it is smaller than one tile."""
    with Image.open(path) as image:
        if max(image.size) > MAX_SIDE_PX:
            raise InputError(str(path), expected=f"sides of at most {MAX_SIDE_PX} px", found=str(image.size))
        pixels = np.asarray(image.convert("RGB"))
    if name == "monusac":
        pixels = pixels[..., ::-1]
    half = halved(pixels)
    xs, ys = corners(half.shape[1]), corners(half.shape[0])
    if not xs or not ys:
        return False
    factor = round(TILE_MPP_UM / REGION_MPP_UM)
    with TileWriter(store, path.stem, patient_id=patient) as writer:
        for number, (y, x) in enumerate((y, x) for y in ys for x in xs):
            if number < writer.position:
                continue
            tile = np.ascontiguousarray(half[y : y + TILE_PX, x : x + TILE_PX])
            writer.add(tile, {"x_px": x * factor, "y_px": y * factor, "mpp_um": TILE_MPP_UM, "sample_id": patient})
        writer.finish()
    return True


def halved(pixels: np.ndarray) -> np.ndarray:
    """Return the mean of each 2 x 2 px, uint8, shape (H // 2, W // 2, 3): 40x becomes 20x."""
    height, width = pixels.shape[0] // 2 * 2, pixels.shape[1] // 2 * 2
    blocks = pixels[:height, :width].astype(np.uint16).reshape(height // 2, 2, width // 2, 2, -1)
    return ((blocks.sum((1, 3)) + 2) // 4).astype(np.uint8)


def corners(side_px: int) -> list[int]:
    """Return where tiles begin along a side so that they cover it evenly; none where it is shorter than a tile.

    Examples
    --------
    >>> corners(255), corners(256), corners(500), corners(600)
    ([], [0], [0, 244], [0, 344])
    """
    if side_px < TILE_PX:
        return []
    count = max(1, int(side_px / TILE_PX + OVERLAP_SHARE))
    return [round(float(place)) for place in np.linspace(0, side_px - TILE_PX, count)] if count > 1 else [0]
