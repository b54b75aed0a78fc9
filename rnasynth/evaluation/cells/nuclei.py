"""Nuclei of a tile behind one interface: any model that says at which magnification it works.

A model sees tiles at its own um/px only. `find_nuclei` brings a tile there and the result back, so that a model that was
made for 40x is never fed tiles of 20x (as happens where a weight file does not say its magnification).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from rnasynth.errors import InputError

FINEST_UM, COARSEST_UM = 0.05, 8.0  # um/px that can be a tile's at all
COLUMNS = (
    "label",
    "x_px",
    "y_px",
    "area_um2",
    "long_um",
    "short_um",
    "angle",
    "haematoxylin",
    "haematoxylin_sd",
    "eosin",
    "red",
    "class",
    "probability",
)


@dataclass(frozen=True, eq=False)
class Nuclei:
    """The nuclei of one tile.

    Attributes
    ----------
    labels : shape (H, W), int32: number of the nucleus at each pixel, 0 for none.
    table : a row a nucleus: label; x_px, y_px (centroid, the middle of the first pixel is 0); area_um2; long_um, short_um
        (half axes of the ellipse of the same moments); angle (radians, of the long axis, x to the right, y down);
        haematoxylin, haematoxylin_sd, eosin, red (means inside, a strong pixel of the tile is 1); class; probability (of
        that class, NaN where the model gives none).
    mpp_um : um/px of `labels`, `x_px` and `y_px`.
    """

    labels: NDArray[np.int32]
    table: pd.DataFrame
    mpp_um: float

    def __len__(self) -> int:
        return len(self.table)

    @property
    def centroids_um(self) -> NDArray[np.float64]:
        """Centroids (n, 2), x and y, in um from the middle of the first pixel."""
        return self.table[["x_px", "y_px"]].to_numpy(np.float64) * self.mpp_um

    def counts(self, classes: tuple[str, ...]) -> dict[str, int]:
        """Return how many nuclei there are of each class."""
        found = self.table["class"].value_counts()
        return {name: int(found.get(name, 0)) for name in classes}


@runtime_checkable
class NucleiModel(Protocol):
    """Anything that finds nuclei in a tile of its own magnification."""

    @property
    def name(self) -> str:
        """What stands in captions; another name for other weights."""
        ...

    @property
    def mpp_um(self) -> float:
        """The um/px of the tiles it wants."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that it names."""
        ...

    def __call__(self, tile: NDArray[np.uint8]) -> Nuclei:
        """Shape (H, W, 3) uint8 RGB at `mpp_um` -> nuclei on the same pixels."""
        ...


def find_nuclei(tile: NDArray[np.uint8], model: NucleiModel, *, mpp_um: float) -> Nuclei:
    """Find the nuclei of a tile of any magnification.

    Parameters
    ----------
    tile : uint8 RGB, shape (H, W, 3).
    model : what finds them; the tile is brought to `model.mpp_um` (averaged, or bicubic), and back.
    mpp_um : um/px of the tile.

    Returns
    -------
    Nuclei on the tile's own pixels. A nucleus smaller than one pixel of a coarse tile keeps its row, though not its pixels.

    Raises
    ------
    InputError : not a uint8 RGB tile, or an um/px outside 0.05 to 8.
    """
    if tile.ndim != 3 or tile.shape[2] != 3 or tile.dtype != np.uint8 or min(tile.shape[:2]) < 1:
        raise InputError("tile", expected="uint8 of shape (H, W, 3)", found=f"{tile.dtype} of shape {tile.shape}")
    if not (math.isfinite(mpp_um) and FINEST_UM <= mpp_um <= COARSEST_UM):
        raise InputError("tile, um/px", expected=f"{FINEST_UM:g} to {COARSEST_UM:g}", found=repr(mpp_um))
    height, width = tile.shape[:2]
    factor = mpp_um / model.mpp_um
    if abs(factor - 1) < 1e-3:
        found = model(tile)
        return Nuclei(found.labels, found.table, mpp_um)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    found = model(resampled(tile, size))
    back = np.array([width / size[0], height / size[1]])
    table = found.table.copy()
    for column, scale in zip(("x_px", "y_px"), back, strict=True):
        table[column] = (table[column] + 0.5) * scale - 0.5
    rows = np.minimum(((np.arange(height) + 0.5) / back[1]).astype(int), size[1] - 1)
    columns = np.minimum(((np.arange(width) + 0.5) / back[0]).astype(int), size[0] - 1)
    return Nuclei(np.ascontiguousarray(found.labels[np.ix_(rows, columns)]), table, mpp_um)


def resampled(tile: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Bring a tile to (width, height): by means of areas where both shrink by a whole factor, else bicubic (antialiased)."""
    height, width = tile.shape[:2]
    whole = width % size[0] == 0 and height % size[1] == 0
    way = Image.Resampling.BOX if whole else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(tile).resize(size, way))


def measure(labels: NDArray[np.int32], planes: NDArray[np.float32], *, mpp_um: float) -> pd.DataFrame:
    """Measure every nucleus of an instance map; a row a label that has pixels, sorted.

    Parameters
    ----------
    labels : shape (H, W), 0 for none.
    planes : shape (3, H, W): haematoxylin, eosin, red (see `stain.stain_planes`).
    mpp_um : um/px.

    Returns
    -------
    The columns of `Nuclei.table`, with class "" and probability NaN.
    """
    at = np.flatnonzero(labels.ravel())
    which = labels.ravel()[at].astype(np.int64)
    n = int(which.max()) + 1 if len(which) else 1
    y, x = np.divmod(at, labels.shape[1])
    count = np.bincount(which, minlength=n).astype(np.float64)
    there = np.flatnonzero(count)
    size = count[there]

    def mean(values: NDArray[np.floating]) -> NDArray[np.float64]:
        return np.bincount(which, weights=values, minlength=n)[there] / size

    cx, cy = mean(x.astype(np.float64)), mean(y.astype(np.float64))
    place = np.zeros(n, dtype=np.intp)
    place[there] = np.arange(len(there))
    dx, dy = x - cx[place[which]], y - cy[place[which]]
    xx, yy, xy = mean(dx * dx) + 1 / 12, mean(dy * dy) + 1 / 12, mean(dx * dy)  # a pixel is a square, not a point
    middle, spread = (xx + yy) / 2, np.sqrt(((xx - yy) / 2) ** 2 + xy**2)
    h, e, red = (plane.ravel()[at] for plane in planes)
    h_mean = mean(h)
    table = pd.DataFrame(
        {
            "label": there,
            "x_px": cx,
            "y_px": cy,
            "area_um2": size * mpp_um**2,
            "long_um": 2 * np.sqrt(middle + spread) * mpp_um,
            "short_um": 2 * np.sqrt(np.maximum(middle - spread, 1 / 12)) * mpp_um,
            "angle": 0.5 * np.arctan2(2 * xy, xx - yy),
            "haematoxylin": h_mean,
            "haematoxylin_sd": np.sqrt(np.maximum(mean(h.astype(np.float64) ** 2) - h_mean**2, 0.0)),
            "eosin": mean(e),
            "red": mean(red),
        }
    )
    table["class"] = ""
    table["probability"] = np.nan
    return table[list(COLUMNS)]
