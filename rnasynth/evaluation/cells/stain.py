"""How a tile looks to the nuclei models: haematoxylin and eosin brought to one strength."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rnasynth.nets.stain import COMMON, WEAKEST

STAINS = np.array(COMMON) / np.linalg.norm(COMMON, axis=1, keepdims=True)  # haematoxylin, eosin: unit optical densities
UNMIX = np.linalg.pinv(STAINS).astype(np.float32)  # (3, 2), least squares
STRONG = 99.0  # percentile of a tile's pixels that becomes 1
PALEST_RED = 0.3  # optical density: a tile paler than this in red is not blown up
_DENSITY = -np.log((np.arange(256) + 1) / 256.0).astype(np.float32)


def unmixed(density: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bring optical densities (H, W, 3), natural logarithm, to (3, H, W): haematoxylin, eosin, and all light lost in red.

    Each is divided by its 99th percentile in this tile (a stain that is hardly there is not blown up), so that how strongly
    a slide was stained, or how brightly it was scanned, is gone. Source: Ruifrok and Johnston 2001 (unmixing), Macenko et
    al. 2009 (scaling by a high percentile); the vectors are those of an ordinary slide (`nets.stain.COMMON`).
    """
    stains = density @ UNMIX
    planes = np.stack([stains[..., 0], stains[..., 1], density[..., 0]]).astype(np.float32)
    strong = np.percentile(planes.reshape(3, -1), STRONG, axis=1).astype(np.float32)
    scaled = planes / np.maximum(strong, np.array([WEAKEST, WEAKEST, PALEST_RED], np.float32))[:, None, None]
    return scaled.astype(np.float32, copy=False)


def stain_planes(tile: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return `unmixed` of a tile (H, W, 3) uint8 RGB: shape (3, H, W), float32."""
    return unmixed(_DENSITY[tile])
