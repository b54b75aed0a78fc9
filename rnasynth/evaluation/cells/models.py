"""The embedded models: a small network with its weights in the package, and the classical watershed beside it.

Both need no download and see tiles at 0.5 um/px (20x). The network learnt from drawn and simulated masks only;
`nuclei_default.md` beside its weights is its card. `StarDistNuclei` wraps StarDist where a user has installed it.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.segmentation import watershed

from rnasynth.errors import InputError
from rnasynth.evaluation.cells.classes import CLASSES, NucleusClasses
from rnasynth.evaluation.cells.nuclei import Nuclei, measure
from rnasynth.evaluation.cells.stain import stain_planes
from rnasynth.nets.nuclei import NucleiNet, fold_norms

MPP_UM = 0.5
WEIGHTS = Path(__file__).with_name("nuclei_default.safetensors")
# Chosen on the tuning half of MoNuSeg's patients (`truth.halves`), never on the other half.
INSIDE = 0.65  # probability above which a pixel is of a nucleus
MIDDLE = 0.4  # depth that the middle of a nucleus reaches at least
SMOOTH_PX = 1.4  # Gaussian blur of the depth before its peaks are sought for the first time
SMOOTH_RADII, LEAST_PX, MOST_PX = (
    0.32,
    1.0,
    2.6,
)  # blur the second time, in radii of the tile's median nucleus; its limits, px
APART_PX = 3  # least distance of two peaks
SMALLEST_UM2 = 6.0
ORDINARY_PX = 4.0  # radius that is taken where no nucleus is found
AROUND_PX = 16.0  # blur that says how dark the surroundings of a pixel are
DARKNESS, ORDINARY = 2.0, 0.2  # logits that one standard deviation darker than the surroundings adds, beyond ORDINARY
DARK_MIDDLE = 0.1  # the same for the depth of a blob of darkness


class DefaultNuclei:
    """The network, its weights read once, and the classifier of nuclei.

    What the network sees is corrected by how much darker a pixel is than its surroundings, and peaks of its depth are sought
    twice: the second time blurred by as much as the nuclei of this tile are large, or large ones fall apart and small ones
    melt together. All values were chosen on the tuning half of MoNuSeg's patients; F1 there is on the weights' card.

    Parameters
    ----------
    weights : a safetensors file as `training.save_weights` writes it.

    Raises
    ------
    InputError : no such file, or one of other weights.
    """

    mpp_um = MPP_UM
    classes = CLASSES

    def __init__(self, weights: str | Path = WEIGHTS) -> None:
        state, facts = _read(Path(weights))
        self.name = f"nuclei-net-{facts['digest']}"
        self.network = NucleiNet()
        try:
            self.network.load_state_dict(state)
        except RuntimeError as error:
            raise InputError(str(weights), expected="weights of NucleiNet", found=str(error).splitlines()[0]) from error
        fold_norms(self.network.requires_grad_(False).eval())
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.kinds = NucleusClasses.from_dict(json.loads(facts["classes"])) if facts.get("classes") else None

    def __call__(self, tile: NDArray[np.uint8]) -> Nuclei:
        """Find the nuclei of a tile at 0.5 um/px."""
        planes = stain_planes(tile)
        inside, depth = self.maps(planes)
        fine, blob = _darkness(planes[2])
        odds = np.log(np.clip(inside, 1e-4, 1 - 1e-4) / np.clip(1 - inside, 1e-4, 1 - 1e-4)) + DARKNESS * (fine - ORDINARY)
        nuclei = odds > np.log(INSIDE / (1 - INSIDE))
        relief = ndimage.gaussian_filter(depth, SMOOTH_PX) + DARK_MIDDLE * blob
        blur_px = SMOOTH_RADII * _median_radius_px(split(nuclei, relief, apart_px=APART_PX, lowest=MIDDLE))
        relief = ndimage.gaussian_filter(depth, min(max(blur_px, LEAST_PX), MOST_PX)) + DARK_MIDDLE * blob
        return _named(split(nuclei, relief, apart_px=APART_PX, lowest=MIDDLE), planes, self.kinds)

    def maps(self, planes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the two maps (2, H, W), 0 to 1, of `stain_planes` (3, H, W)."""
        height, width = planes.shape[1:]
        multiple = self.network.multiple
        beyond = [(0, 0), (0, -height % multiple), (0, -width % multiple)]
        padded = np.pad(planes, beyond, mode="reflect" if min(height, width) > multiple else "edge")
        with torch.inference_mode():
            image = torch.from_numpy(padded)[None].contiguous(memory_format=torch.channels_last)  # a third less time
            maps = torch.sigmoid(self.network(image))[0, :, :height, :width]
        return np.asarray(maps.numpy())


class WatershedNuclei:
    """The classical way: stains unmixed, a local threshold, and a watershed on distance and darkness.

    It needs no weights; the values were chosen on the same tuning half as the network's. Source: Ruifrok and Johnston 2001
    (stains), Otsu 1979 (threshold), Meyer 1994 (watershed).
    """

    name = "nuclei-watershed-1"
    mpp_um = MPP_UM
    classes = CLASSES

    def __init__(self, kinds: NucleusClasses | None = None) -> None:
        self.kinds = kinds

    def __call__(self, tile: NDArray[np.uint8]) -> Nuclei:
        """Find the nuclei of a tile at 0.5 um/px."""
        planes = stain_planes(tile)
        red = ndimage.gaussian_filter(planes[2], 0.3 / MPP_UM)
        if float(np.ptp(red)) < 1e-6:
            return _named(np.zeros(red.shape, np.int32), planes, self.kinds)
        around = ndimage.gaussian_filter(red, 8.0 / MPP_UM)
        dark = (red > threshold_otsu(red)) & (red > around + 0.4 * red.std())
        dark = ndimage.binary_fill_holes(dark)
        shape = ndimage.gaussian_filter(ndimage.distance_transform_edt(dark) * MPP_UM, 0.4 / MPP_UM)
        smooth = ndimage.gaussian_filter(red, 1.5 / MPP_UM)
        relief = (shape + (smooth - smooth.mean()) / max(float(smooth.std()), 1e-6)).astype(np.float32)
        return _named(split(dark, relief, apart_px=3, lowest=None), planes, self.kinds)


class StarDistNuclei:
    """StarDist's published H&E model, where the package `stardist` (with TensorFlow) is installed by the user.

    It wants 40x (0.25 um/px) and names no classes of its own, so its nuclei get those of the embedded classifier. Its
    weights are fetched by StarDist itself, under their own licence. Not tested in this project: the package is not among
    its dependencies. Source: Schmidt et al., MICCAI 2018; Weigert and Schmidt, ISBIC 2022.

    Raises
    ------
    InputError : `stardist` is not installed.
    """

    name = "stardist-2D_versatile_he"
    mpp_um = 0.25
    classes = CLASSES

    def __init__(self) -> None:
        try:
            from csbdeep.utils import normalize
            from stardist.models import StarDist2D
        except ImportError as error:
            raise InputError(
                "StarDist", expected="the package stardist", found="none", fix="pip install stardist tensorflow"
            ) from error
        self._normalize, self._model = normalize, StarDist2D.from_pretrained("2D_versatile_he")
        self.kinds = default_nuclei().kinds

    def __call__(self, tile: NDArray[np.uint8]) -> Nuclei:
        """Find the nuclei of a tile at 0.25 um/px."""
        labels, _ = self._model.predict_instances(self._normalize(tile, 1, 99.8))
        return _named(np.asarray(labels, np.int32), stain_planes(tile), self.kinds, mpp_um=self.mpp_um)


@lru_cache(maxsize=1)
def default_nuclei() -> DefaultNuclei:
    """Return the embedded default; its weights are read once a process."""
    return DefaultNuclei()


def _darkness(red: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return how much darker pixels, and blobs of 2 px, are than their surroundings, in standard deviations of the tile."""
    fine = ndimage.gaussian_filter(red, 0.6)
    blob, around = ndimage.gaussian_filter(fine, 2.0), ndimage.gaussian_filter(fine, AROUND_PX)
    return (fine - around) / max(float(fine.std()), 1e-3), (blob - around) / max(float(blob.std()), 1e-3)


def _median_radius_px(labels: NDArray[np.int32]) -> float:
    """Return the radius of the median object's area, specks left out; an ordinary one where there is none."""
    area = np.bincount(labels.ravel())[1:]
    area = area[area * MPP_UM**2 >= SMALLEST_UM2]
    return float(np.sqrt(np.median(area) / np.pi)) if len(area) else ORDINARY_PX


def split(
    inside: NDArray[np.bool_], relief: NDArray[np.float32], *, apart_px: int, lowest: float | None
) -> NDArray[np.int32]:
    """Split a mask at the valleys of a relief: one object a peak.

    Parameters
    ----------
    inside : shape (H, W): where objects are.
    relief : shape (H, W): high in their middles.
    apart_px : least distance of two peaks.
    lowest : peaks below are none, and what has no peak is no object; None for any height.

    Returns
    -------
    Shape (H, W), int32: 0 for none, else 1 and up without gaps.
    """
    peaks = peak_local_max(
        relief, min_distance=apart_px, threshold_abs=lowest, exclude_border=False, labels=inside.astype(np.uint8)
    )
    if not len(peaks):
        return np.zeros(inside.shape, np.int32)
    markers = np.zeros(inside.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return np.asarray(watershed(-relief, markers, mask=inside), dtype=np.int32)


def _named(
    labels: NDArray[np.int32], planes: NDArray[np.float32], kinds: NucleusClasses | None, *, mpp_um: float = MPP_UM
) -> Nuclei:
    """Drop what is too small, number from 1, measure and name."""
    area = np.bincount(labels.ravel()) * mpp_um**2
    area[0] = 0.0
    keep = area >= SMALLEST_UM2
    number = np.where(keep, np.cumsum(keep), 0).astype(np.int32)
    labels = number[labels]
    table = measure(labels, planes, mpp_um=mpp_um)
    if kinds is not None and len(table):
        table["class"], table["probability"] = kinds.name(table)
    return Nuclei(labels, table, mpp_um)


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    if not path.is_file():
        raise InputError(str(path), expected="the weights of the nuclei network", found="no such file")
    with safe_open(path, framework="pt") as handle:
        facts = dict(handle.metadata() or {})
        state = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 (not a dict)
    if "digest" not in facts:
        raise InputError(str(path), expected="a file of cells.training.save_weights", found="no digest in its header")
    return state, facts
