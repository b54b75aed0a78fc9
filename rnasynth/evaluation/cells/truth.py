"""What nuclei models are judged by: MoNuSeg's outlines, MoNuSAC's classes, and the simulated cohort's exact masks.

MoNuSeg and MoNuSAC (CC BY-NC-SA) serve judging and the choice of thresholds, never training. Thresholds were chosen on
the tuning half of the patients; every number reported is of the other half.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from rnasynth.config import data_folder, mirror_folder
from rnasynth.data.cohort import Cohort
from rnasynth.data.manifests import fetch
from rnasynth.data.profiles import patient_of
from rnasynth.data.simulate import nuclei_mask, stored_config
from rnasynth.errors import InputError, PartialFailure
from rnasynth.evaluation.cells.matching import RADIUS_UM, aggregated_jaccard, detection
from rnasynth.evaluation.cells.nuclei import NucleiModel, find_nuclei, resampled

SCANNED_UM = 0.25  # both challenges: 40x
MONUSAC = {1: "epithelial", 2: "lymphocyte", 3: "macrophage", 4: "neutrophil"}
Half = Literal["tuning", "held out"]


@dataclass(frozen=True, eq=False)
class Field:
    """A region with its truth.

    Attributes
    ----------
    name, patient : what it is and whose.
    tile : uint8 RGB (H, W, 3) at `mpp_um`.
    centroids_um : (n, 2), x and y of every true nucleus, from the middle of the region's first scanned pixel.
    labels : (H, W), number of the true nucleus, 0 for none; for MoNuSAC the class instead.
    mpp_um : um/px of tile and labels.
    origin_um : where the middle of the tile's first pixel lies, in the same coordinates.
    """

    name: str
    patient: str
    tile: NDArray[np.uint8]
    centroids_um: NDArray[np.float64]
    labels: NDArray[np.int32]
    mpp_um: float
    origin_um: float = 0.0


def halves(patients: Iterable[str]) -> dict[str, Half]:
    """Divide patients: of the sorted ids the first, third, ... are for tuning, the others held out.

    Examples
    --------
    >>> halves(["b", "a", "c"])
    {'a': 'tuning', 'b': 'held out', 'c': 'tuning'}
    """
    return {name: "held out" if place % 2 else "tuning" for place, name in enumerate(sorted(set(patients)))}


def truth_folder() -> tuple[Path | None, str]:
    """Return the folder that holds `monuseg/` and `monusac/`, and why there is none.

    Files come from `$RNASYNTH_MIRROR`, or from an earlier `rnasynth fetch tcga-tiles`; the network is not asked here.
    """
    home = data_folder() / "tcga-tiles"
    how = "run `rnasynth fetch tcga-tiles --mirror DIR` with a mirror that holds them"
    if mirror_folder() is None and not (home / "fetched.json").exists():
        return None, f"MoNuSeg and MoNuSAC were never fetched here: {how}"
    try:
        fetch("tcga-tiles", to=home, only=["monuseg", "monusac"], known_only=True, progress=False)
    except PartialFailure as failure:
        return None, f"MoNuSeg and MoNuSAC are not complete ({failure.subject}): {how}"
    if not any((home / "monuseg").glob("*_inst.png")):
        return None, f"no outlines of MoNuSeg were found: {how}"
    return home, ""


def monuseg(folder: Path, half: Half, *, mpp_um: float = 0.5, patients: Sequence[str] | None = None) -> list[Field]:
    """Read MoNuSeg's regions of one half of the patients, averaged down to `mpp_um` (0.25: as scanned).

    Raises
    ------
    InputError : no regions, an outline file of another size, or an um/px that is no multiple of 0.25.
    """
    factor = _factor(mpp_um)
    paths = {path.stem.removesuffix("_inst"): path for path in sorted((folder / "monuseg").glob("*_inst.png"))}
    if not paths:
        raise InputError(str(folder / "monuseg"), expected="files *_inst.png", found="none")
    side = halves(patient_of(name) for name in paths)
    fields = []
    for name, path in paths.items():
        patient = patient_of(name)
        if side[patient] != half or (patients is not None and patient not in patients):
            continue
        pixels = _pixels(path.with_name(f"{name}.png"))
        with Image.open(path) as image:
            labels = np.asarray(image).astype(np.int32)
        if labels.shape != pixels.shape[:2]:
            raise InputError(str(path), expected=f"{pixels.shape[:2]} px", found=f"{labels.shape}")
        fields.append(_field(name, patient, pixels, labels, factor))
    return fields


def monusac(folder: Path, half: Half, *, mpp_um: float = 0.5) -> list[Field]:
    """Read MoNuSAC's regions of one half of the patients; `labels` holds the class (see `MONUSAC`), centroids are none.

    Red and blue are swapped in the public files and swapped back here. The class masks are approximate (made from colours
    of a JPEG), so nuclei cannot be told apart in them.

    Raises
    ------
    InputError : as `monuseg`.
    """
    factor = _factor(mpp_um)
    paths = sorted((folder / "monusac" / "cls").glob("*.png"))
    if not paths:
        raise InputError(str(folder / "monusac" / "cls"), expected="class masks", found="none")
    side = halves(patient_of(path.stem) for path in paths)
    fields = []
    for path in paths:
        if side[patient_of(path.stem)] != half:
            continue
        pixels = np.ascontiguousarray(_pixels(folder / "monusac" / "img" / f"{path.stem}.jpg")[..., ::-1])
        with Image.open(path) as image:
            labels = np.asarray(image).astype(np.int32)
        if labels.shape != pixels.shape[:2]:
            raise InputError(str(path), expected=f"{pixels.shape[:2]} px", found=f"{labels.shape}")
        field = _field(path.stem, patient_of(path.stem), pixels, labels, factor)
        fields.append(Field(field.name, field.patient, field.tile, np.zeros((0, 2)), field.labels, field.mpp_um))
    return fields


def simulated(cohort: Cohort, tile_ids: Sequence[int]) -> list[Field]:
    """Return simulated tiles with their exact masks.

    Raises
    ------
    InputError : the cohort is not simulated.
    """
    if not cohort.simulated or cohort.tiles is None:
        raise InputError(f"cohort {cohort.name}", expected="a simulated one, with tiles", found="another")
    config = stored_config(cohort.folder)
    index, fields = cohort.tiles.index, []
    for tile_id in tile_ids:
        row = index.iloc[int(tile_id)]
        mask = nuclei_mask(config, int(str(row["slide_id"]).split("-")[1]), int(row["tile"])).astype(np.int32)
        name = f"{row['slide_id']}/{row['tile']}"
        centroids = _centroids(mask) * config.mpp_um
        tile = cohort.tiles.read(int(tile_id))
        fields.append(Field(name, str(row["patient_id"]), tile, centroids, mask, config.mpp_um))
    return fields


def detection_table(
    model: NucleiModel, fields: Sequence[Field], *, radius_um: float = RADIUS_UM, shift_um: float = 0.0
) -> pd.DataFrame:
    """Find nuclei in every field and compare: columns name, patient, hits, found, there, f1, aji.

    Parameters
    ----------
    radius_um : largest distance of matched centroids; 2 um are 8 px at 40x.
    shift_um : what is found is moved to the right by so much before it is compared: the control that must fail.
    """
    rows = []
    for field in fields:
        found = find_nuclei(field.tile, model, mpp_um=field.mpp_um)
        places = found.centroids_um + field.origin_um + np.array([shift_um, 0.0])
        result = detection(field.centroids_um, places, radius_um)
        labels = np.roll(found.labels, round(shift_um / field.mpp_um), axis=1)
        rows.append(
            {
                "name": field.name,
                "patient": field.patient,
                "hits": result.hits,
                "found": result.found,
                "there": result.there,
                "f1": result.f1,
                "aji": aggregated_jaccard(field.labels, labels),
            }
        )
    return pd.DataFrame(rows)


def class_table(model: NucleiModel, fields: Sequence[Field], *, share: float = 0.5) -> pd.DataFrame:
    """Return the nuclei that lie on a MoNuSAC class: columns patient, there (the class there), named (the model's).

    A nucleus counts where at least `share` of its pixels are of one class in the mask; others cannot be judged, as the
    masks leave out nuclei of no class.
    """
    rows = []
    for field in fields:
        found = find_nuclei(field.tile, model, mpp_um=field.mpp_um)
        n = int(found.labels.max()) + 1
        votes = np.stack([np.bincount(found.labels[field.labels == kind].ravel(), minlength=n) for kind in MONUSAC], axis=1)
        size = np.maximum(np.bincount(found.labels.ravel(), minlength=n), 1)
        kinds = tuple(MONUSAC.values())
        for label, named in zip(found.table["label"], found.table["class"], strict=True):
            best = int(votes[label].argmax())
            if votes[label, best] >= share * size[label] and votes[label, best] > 0:
                rows.append((field.patient, kinds[best], str(named)))
    return pd.DataFrame(rows, columns=["patient", "there", "named"])


def _factor(mpp_um: float) -> int:
    factor = round(mpp_um / SCANNED_UM)
    if factor < 1 or abs(factor * SCANNED_UM - mpp_um) > 1e-6:
        raise InputError("truth, um/px", expected=f"a multiple of {SCANNED_UM:g}", found=repr(mpp_um))
    return factor


def _pixels(path: Path) -> NDArray[np.uint8]:
    if not path.is_file():
        raise InputError(str(path), expected="the region of this mask", found="no such file")
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _field(name: str, patient: str, pixels: NDArray[np.uint8], labels: NDArray[np.int32], factor: int) -> Field:
    """Average the pixels down and take every `factor`-th label; centroids are those of the whole outlines."""
    centroids = _centroids(labels) * SCANNED_UM
    height, width = (side // factor * factor for side in labels.shape)
    tile = np.ascontiguousarray(pixels[:height, :width])
    if factor > 1:
        tile = resampled(tile, (width // factor, height // factor))
    few = np.ascontiguousarray(labels[:height, :width][factor // 2 :: factor, factor // 2 :: factor])
    return Field(name, patient, tile, centroids, few, SCANNED_UM * factor, (factor - 1) / 2 * SCANNED_UM)


def _centroids(labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return centroids (n, 2), x and y in pixels, of every number in a map."""
    at = np.flatnonzero(labels.ravel())
    if not len(at):
        return np.zeros((0, 2))
    _, which = np.unique(labels.ravel()[at], return_inverse=True)
    y, x = np.divmod(at, labels.shape[1])
    count = np.bincount(which)
    return np.column_stack([np.bincount(which, weights=x) / count, np.bincount(which, weights=y) / count])
