"""Colours of tiles as numbers: optical density, and the directions of haematoxylin and eosin by Macenko's method."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from rnasynth.engine import mixed_seed
from rnasynth.errors import InputError

PIXELS = 100  # stained pixels kept of each sample, drawn with replacement
PERCENT = 1.0  # of the angles in the stains' plane that is cut off on either side: robust extremes (Macenko et al. 2009)
STAINED = 0.345  # optical density (natural log) that a pixel must have in every channel's mean: Macenko's 0.15 in log10


@dataclass(frozen=True, eq=False)
class Colours:
    """Colours of the tiles of many samples.

    Attributes
    ----------
    density : mean optical density of each sample's pixels, natural logarithm, shape (n, 3) in red, green, blue.
    pixels : optical density of `PIXELS` of its stained pixels, shape (n, PIXELS, 3); NaN where it has none.
    samples, tissues, groups : of each sample, shape (n,); groups are split groups.
    """

    density: NDArray[np.float64]
    pixels: NDArray[np.float64]
    samples: NDArray[np.str_]
    tissues: NDArray[np.str_]
    groups: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.samples)

    def rows(self, chosen: NDArray[Any]) -> Colours:
        """Return some samples (row numbers, or a mask)."""
        return Colours(
            self.density[chosen], self.pixels[chosen], self.samples[chosen], self.tissues[chosen], self.groups[chosen]
        )

    @property
    def flat(self) -> NDArray[np.float64]:
        """All pixels, shape (n * PIXELS, 3)."""
        return self.pixels.reshape(-1, 3)

    @classmethod
    def joined(cls, parts: Sequence[Colours]) -> Colours:
        """Return the samples of several sets as one.

        Raises
        ------
        InputError : no set.
        """
        if not parts:
            raise InputError("colours", expected="samples of another split", found="none")
        names = ("density", "pixels", "samples", "tissues", "groups")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    @classmethod
    def of(cls, tiles: Iterable[NDArray[np.uint8]], profiles: AnnData) -> Colours:
        """Measure tiles, uint8 (n, px, px, 3) for each row of `profiles`; other samples draw other pixels, always the same.

        The optical density of a level v is -ln((v + 1) / 256), as in `features`.
        """
        names = profiles.obs["sample_id"].astype(str).to_numpy(dtype=str)
        density, pixels = [], []
        for name, part in zip(names, tiles, strict=True):
            values = optical_density(part).reshape(-1, 3)
            density.append(values.mean(axis=0))
            stained = values[values.mean(axis=1) > STAINED]
            draw = np.random.default_rng(mixed_seed("colour", 0, name))
            pixels.append(
                stained[draw.integers(len(stained), size=PIXELS)] if len(stained) else np.full((PIXELS, 3), math.nan)
            )
        tissues, groups = (profiles.obs[key].astype(str).to_numpy(dtype=str) for key in ("tissue", "split_group"))
        return cls(np.stack(density), np.stack(pixels), names, tissues, groups)


def optical_density(tiles: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return -ln((v + 1) / 256) of tiles (..., 3): 0 for white, 5.55 for black."""
    return _DENSITY[tiles]


_DENSITY = -np.log((np.arange(256) + 1.0) / 256.0)


def stain_vectors(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return unit vectors of haematoxylin and eosin in optical density (red, green, blue), shape (2, 3).

    Parameters
    ----------
    pixels : optical densities of stained pixels, shape (n, 3); rows with NaN are left out. Fewer than ten: NaN.

    Notes
    -----
    The plane of the two largest singular directions, and in it the 1st and 99th percentile of the angle. Haematoxylin is the
    one with more red against blue. In coarse pixels the stains mix and the two directions draw together: compare at one
    um/px only. Source: Macenko et al., ISBI 2009.
    """
    pixels = pixels[np.isfinite(pixels).all(axis=1)]
    if len(pixels) < 10:
        return np.full((2, 3), math.nan)
    _, vectors = np.linalg.eigh(pixels.T @ pixels / len(pixels))
    plane = vectors[:, :0:-1].T  # the two of largest eigenvalue, largest first; (2, 3)
    plane *= np.where(plane.sum(axis=1, keepdims=True) < 0, -1.0, 1.0)
    x, y = plane @ pixels.T
    angles = np.percentile(np.arctan2(y, x), [PERCENT, 100 - PERCENT])
    ends = np.column_stack([np.cos(angles), np.sin(angles)]) @ plane
    ends = np.maximum(ends, 0.0)
    ends /= np.maximum(np.linalg.norm(ends, axis=1, keepdims=True), 1e-12)
    first = int(ends[1, 0] - ends[1, 2] > ends[0, 0] - ends[0, 2])
    return np.asarray(ends[[first, 1 - first]])


def angle(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Return the angle of two directions, in degrees; NaN where one of them is unknown."""
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return math.nan
    return math.degrees(math.atan2(float(np.linalg.norm(np.cross(one, other))), float(one @ other)))
