"""Self-supervision by two views of one tile (SimCLR): crops, stain jitter, and the loss. Draws are handed in.

Source: Chen, Kornblith, Norouzi and Hinton 2020 (section 2, algorithm 1). Where we differ: crops are square and of a
stated range of fields (a nucleus must not become a gland), turned by quarter turns, and colour changes by the two
stains, not by hue.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from rnasynth.nets.stain import basis

CROP_DRAWS = 6  # side, left, top, and three of the eight symmetries of a square
STAIN_DRAWS = 4  # factor and offset of haematoxylin, and of eosin


def nt_xent(first: Tensor, second: Tensor, *, temperature: float) -> tuple[Tensor, Tensor]:
    """Normalised temperature-scaled cross entropy of two views, and how often the partner is the nearest.

    Parameters
    ----------
    first, second : shape (B, d), B >= 2; row i of both is of tile i. They are scaled to length 1 here.
    temperature : of the softmax, above 0.

    Returns
    -------
    The loss, a scalar in nats (log(2 B - 1) at chance), and the share of views nearest to their partner.

    Source: Chen et al. 2020, eq. 1.
    """
    both = functional.normalize(torch.cat([first, second]), dim=1)
    likeness = both @ both.T / temperature
    likeness = likeness.masked_fill(torch.eye(len(both), dtype=torch.bool, device=both.device), float("-inf"))
    partner = torch.arange(len(both), device=both.device).roll(len(first))
    right = (likeness.argmax(dim=1) == partner).float().mean()
    return functional.cross_entropy(likeness, partner), right


def resize_matrix(start: Tensor, side: Tensor, size: int, out: int) -> Tensor:
    """Bilinear resampling with antialiasing, as matrices: pixels [start, start + side) of `size` to `out` pixels.

    Parameters
    ----------
    start, side : shape (B,), in px, whole or broken.

    Returns
    -------
    Shape (B, out, size), rows add up to 1: triangular weights of half width max(1, side / out), as Pillow and torch's
    `interpolate(mode="bilinear", antialias=True)` have them, but that a crop also sees the pixels around it.
    """
    scale = (side / out)[:, None, None]
    centre = start[:, None, None] + (torch.arange(out, device=start.device)[None, :, None] + 0.5) * scale
    place = torch.arange(size, device=start.device)[None, None] + 0.5
    weights = (1.0 - (place - centre).abs() / scale.clamp(min=1.0)).clamp(min=0.0)
    return weights / weights.sum(dim=2, keepdim=True)


def resize(tiles: Tensor, out: int) -> Tensor:
    """Bring whole tiles (B, C, H, W) to (B, C, out, out), bilinear with antialiasing."""
    height, width = tiles.shape[2:]
    zero = torch.zeros(1, device=tiles.device)
    rows, columns = (resize_matrix(zero, zero + side, side, out)[0] for side in (height, width))
    return rows @ tiles @ columns.T


def crop(tiles: Tensor, draws: Tensor, *, out: int, smallest: float) -> Tensor:
    """Cut a square of each tile, turn it, and bring it to `out` px.

    Parameters
    ----------
    tiles : shape (B, C, S, S).
    draws : shape (B, `CROP_DRAWS`), uniform in [0, 1).
    smallest : side of the smallest square, as a share of the tile's, in (0, 1]; sides are uniform up to 1.
    """
    size = tiles.shape[-1]
    side = size * (smallest + (1.0 - smallest) * draws[:, 0])
    columns, rows = (resize_matrix((size - side) * draws[:, number], side, size, out) for number in (1, 2))
    views = rows[:, None] @ tiles @ columns[:, None].mT
    for number, axes in ((3, (2,)), (4, (3,))):
        views = torch.where((draws[:, number] < 0.5).view(-1, 1, 1, 1), views.flip(axes), views)
    return torch.where((draws[:, 5] < 0.5).view(-1, 1, 1, 1), views.mT, views)


def jitter_stain(tiles: Tensor, draws: Tensor, *, factor: float, offset: float) -> Tensor:
    """Change how strongly each tile is stained.

    Parameters
    ----------
    tiles : shape (B, 3, H, W) in [-1, 1].
    draws : shape (B, `STAIN_DRAWS`), uniform in [0, 1).
    factor : concentrations are multiplied by 1 - factor to 1 + factor.
    offset : and raised by -offset to offset.

    Returns
    -------
    Same shape, clipped to [-1, 1].

    Source of the idea: Tellez et al. 2018 (jitter of haematoxylin and eosin).
    """
    vectors = basis().to(tiles)
    density = -torch.log((tiles * 127.5 + 128.5) / 256.0)
    stains = torch.einsum("bchw,cs->bshw", density, torch.linalg.inv(vectors))
    change = 2.0 * draws - 1.0
    scale = torch.cat([1.0 + factor * change[:, :2], torch.ones_like(change[:, :1])], dim=1)
    shift = torch.cat([offset * change[:, 2:], torch.zeros_like(change[:, :1])], dim=1)
    stains = stains * scale[:, :, None, None] + shift[:, :, None, None]
    light = torch.exp(-torch.einsum("bshw,sc->bchw", stains, vectors))
    return ((256.0 * light - 128.5) / 127.5).clamp(-1.0, 1.0)
