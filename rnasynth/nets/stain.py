"""Haematoxylin and eosin by fixed vectors: colours to concentrations and back, and one strength for all slides.

Source of the method: Ruifrok and Johnston 2001 (colour deconvolution); of scaling by a high percentile: Macenko et al.
2009. The vectors are fixed, not estimated from each slide: small tiles hold too little for an estimate.
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
# Haematoxylin and eosin of an ordinary slide, natural logarithm: the reference of public implementations of Macenko et
# al. 2009, to which slides are brought. Near the mean of MoNuSeg's slides, (0.564, 0.724, 0.390) and (0.242, 0.811, 0.523).
COMMON = ((0.5626, 0.7201, 0.4062), (0.2159, 0.8012, 0.5581))
PERCENTILE = 0.99  # of the concentrations in a slide's tiles, which is brought to `STRENGTH`
STRENGTH = (1.43, 0.86)  # haematoxylin, eosin after `restain`: medians over the simulated patients
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


@lru_cache(maxsize=1)
def _common() -> Tensor:
    return torch.tensor(COMMON) / torch.tensor(COMMON).norm(dim=1, keepdim=True)


def _common_stains(tiles: Tensor) -> Tensor:
    """Unmix tiles (..., 3), 0 to 255, into the common slide's two stains (..., 2) by least squares."""
    density = -torch.log((tiles.float() + 1.0) / 256.0)
    return density @ torch.linalg.pinv(_common()).to(density.device)


def strength(tiles: Tensor) -> Tensor:
    """Return the 99th percentile of haematoxylin and eosin over all pixels of tiles (..., 3), 0 to 255; shape (2,)."""
    stains = _common_stains(tiles).reshape(-1, 2)
    return stains.kthvalue(1 + round(PERCENTILE * (len(stains) - 1)), dim=0).values


def restain(tiles: Tensor, found: Tensor) -> Tensor:
    """Bring tiles to the common stain: strengths to `STRENGTH`, hues to `COMMON`.

    Parameters
    ----------
    tiles : shape (B, H, W, 3), 0 to 255.
    found : `strength` of the slide that each tile is of, shape (B, 2), or (2,) for one slide.

    Returns
    -------
    Shape (B, H, W, 3), float32, 0 to 255. What is neither stain (a third colour) is lost.
    """
    factor = torch.tensor(STRENGTH) / found.cpu().clamp(min=WEAKEST)
    stains = _common_stains(tiles) * factor.view(-1, 1, 1, 2).to(tiles.device)
    light = torch.exp(-stains.clamp(min=0.0) @ _common().to(tiles.device))
    return (256.0 * light - 1.0).clamp(0.0, 255.0)
