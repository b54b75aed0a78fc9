"""Random changes of real tiles, each tile by its own draws, which are handed in (no hidden generator)."""

from __future__ import annotations

import torch
from torch import Tensor


def flip(tiles: Tensor, draws: Tensor) -> Tensor:
    """Mirror left-right and up-down.

    Parameters
    ----------
    tiles : shape (B, C, H, W).
    draws : shape (B, 2), uniform in [0, 1): below one half mirrors.
    """
    tiles = torch.where((draws[:, 0] < 0.5).view(-1, 1, 1, 1), tiles.flip(3), tiles)
    return torch.where((draws[:, 1] < 0.5).view(-1, 1, 1, 1), tiles.flip(2), tiles)


def transpose(tiles: Tensor, draws: Tensor) -> Tensor:
    """Mirror at the diagonal; after `flip` all eight symmetries of a square are equally likely.

    Parameters
    ----------
    tiles : shape (B, C, H, W), square.
    draws : shape (B,), uniform in [0, 1): below one half mirrors.
    """
    return torch.where((draws < 0.5).view(-1, 1, 1, 1), tiles.transpose(2, 3), tiles)


def cropped(tiles: Tensor, place: Tensor, px: int) -> Tensor:
    """Cut a square out of each tile.

    Parameters
    ----------
    tiles : shape (B, C, H, W).
    place : shape (B, 2), int64: first row and first column of each square, which lies inside the tile.
    px : its side.
    """
    offsets = torch.arange(px, device=tiles.device)
    samples = torch.arange(len(tiles), device=tiles.device)
    rows, columns = (place[:, axis, None] + offsets for axis in (0, 1))
    return tiles[samples[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def jitter_colour(tiles: Tensor, factors: Tensor) -> Tensor:
    """Scale brightness, contrast (about the tile's mean grey) and saturation (about each pixel's grey).

    Parameters
    ----------
    tiles : shape (B, 3, H, W) in [-1, 1].
    factors : shape (B, 3), around 1, in the order named above; 1 leaves a tile unchanged.

    Returns
    -------
    Same shape, clipped to [-1, 1].
    """
    brightness, contrast, saturation = (factors[:, number].view(-1, 1, 1, 1) for number in range(3))
    weights = torch.tensor([0.299, 0.587, 0.114], device=tiles.device, dtype=tiles.dtype).view(1, 3, 1, 1)  # ITU-R BT.601
    unit = (tiles + 1) / 2 * brightness
    mean = (unit * weights).sum(dim=1, keepdim=True).mean(dim=(2, 3), keepdim=True)
    unit = mean + (unit - mean) * contrast
    grey = (unit * weights).sum(dim=1, keepdim=True)
    return ((grey + (unit - grey) * saturation) * 2 - 1).clamp(-1, 1)
