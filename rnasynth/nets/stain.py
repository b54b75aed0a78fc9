"""Haematoxylin and eosin by fixed vectors: colours to concentrations and back, and one strength for all slides.

Source of the method: Ruifrok and Johnston 2001 (colour deconvolution); of scaling by a high percentile: Macenko et al.
2009, section 2.4. The vectors are fixed, not estimated: a 32-px tile holds too little for an estimate.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

# Optical density of pure haematoxylin and pure eosin in red, green and blue (Ruifrok and Johnston, Anal Quant Cytol
# Histol 2001, table 1; the same values as in ImageJ's colour deconvolution and skimage's `rgb_from_hed`).
HAEMATOXYLIN = (0.65, 0.70, 0.29)
EOSIN = (0.07, 0.99, 0.11)
PERCENTILE = 0.95  # of the concentrations of a slide's tiles, which is brought to `STRENGTH`
STRENGTH = 0.9  # of both stains after `restain`; about the median of the simulated cohort
WEAKEST = 0.15  # a stain weaker than this is absent, and is not blown up


@lru_cache(maxsize=1)
def basis() -> Tensor:
    """Return unit vectors of haematoxylin, eosin and what is orthogonal to both, shape (3, 3), float32."""
    h, e = (torch.tensor(vector) / math.hypot(*vector) for vector in (HAEMATOXYLIN, EOSIN))
    rest = torch.linalg.cross(h, e)
    return torch.stack([h, e, rest / rest.norm()])


def concentrations(tiles: Tensor) -> Tensor:
    """Unmix tiles (..., 3), 0 to 255, into haematoxylin, eosin and residual (..., 3); 0 for white."""
    density = -torch.log((tiles.float() + 1.0) / 256.0)
    return (density.reshape(-1, 3) @ torch.linalg.inv(basis()).to(density.device)).view(density.shape)


def strength(tiles: Tensor) -> Tensor:
    """Return the 95th percentile of haematoxylin and eosin over all pixels of tiles (..., 3); shape (2,)."""
    stains = concentrations(tiles)[..., :2].reshape(-1, 2).sort(dim=0).values
    return stains[round(PERCENTILE * (len(stains) - 1))]


def restain(tiles: Tensor, found: Tensor) -> Tensor:
    """Bring tiles to the common stain: both strengths to 0.9, hue to the fixed vectors.

    Parameters
    ----------
    tiles : shape (B, H, W, 3), 0 to 255.
    found : `strength` of the slide that each tile is of, shape (B, 2), or (2,) for one slide.

    Returns
    -------
    Shape (B, H, W, 3), float32, 0 to 255.
    """
    factor = STRENGTH / found.clamp(min=WEAKEST)
    stains = concentrations(tiles)[..., :2] * factor.view(-1, 1, 1, 2).to(tiles.device)
    light = torch.exp(-stains.clamp(min=0.0) @ basis()[:2].to(tiles.device))
    return (256.0 * light - 1.0).clamp(0.0, 255.0)
