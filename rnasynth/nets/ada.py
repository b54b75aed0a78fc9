"""Augmentations that stand before the critic, on real and generated tiles alike: DiffAugment, and adaptive (ADA).

A critic that sees few tiles learns them by heart. It then sees every tile, real or generated, through a random change;
the generator is asked for tiles whose *changed* versions look like changed real tiles. As long as the change is applied to
both and can be undone as an operation on distributions, the generator has to make unchanged tiles (Karras et al. 2020,
section 2.2); applied to real tiles alone, it would make changed ones. All functions are differentiable in the tiles, and
every tile has its own draws, which are handed in.

Source: Zhao et al., NeurIPS 2020 (DiffAugment, policy colour + translation + cutout, ranges of the paper's appendix);
Karras et al., NeurIPS 2020 (ADA, pipeline "bgc", appendix B; steering, section 3).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

DIFF_DRAWS = 7  # uniform numbers a tile that `diffaugment` takes
ADA_CHANCES, ADA_NORMALS = 12, 6  # uniform and normal numbers a tile that `adaptive` takes
SHIFT_SHARE, CUT_SHARE = 1 / 8, 1 / 2  # of a tile's side, DiffAugment
SHIFT_SD, SCALE_SD = 1 / 8, 0.2  # of the side, and of the logarithm to base 2, ADA
BRIGHTNESS_SD, CONTRAST_SD, SATURATION_SD = 0.2, 0.5, 1.0  # the last two of the logarithm to base 2, ADA
LARGEST = 0.8  # above it changes start to leak into generated tiles (Karras et al. 2020, section 2.2)
EVERY = 4  # critic steps between two corrections of the probability


def diffaugment(tiles: Tensor, draws: Tensor) -> Tensor:
    """Change colour, shift and cut out a square; every tile, always.

    Parameters
    ----------
    tiles : shape (B, 3, H, W), real or generated, in [-1, 1].
    draws : shape (B, 7), uniform in [0, 1): brightness (+-0.5), saturation (0 to 2), contrast (0.5 to 1.5), shift down and
        right (+-1/8 of the side), place of the square (down, right; half a side).

    Returns
    -------
    Same shape; not clipped. Where nothing is left of a tile stands 0, the middle grey, as published.
    """
    parts = [draws[:, number].view(-1, 1, 1, 1) for number in range(3)]
    tiles = _coloured(tiles, parts[0] - 0.5, parts[2] + 0.5, parts[1] * 2.0)
    height, width = tiles.shape[2:]
    rows, columns = torch.arange(height, device=tiles.device), torch.arange(width, device=tiles.device)
    shifts = []
    for number, side in ((3, height), (4, width)):
        most = round(SHIFT_SHARE * side)
        shifts.append((draws[:, number, None] * (2 * most + 1)).floor().long() - most)
    source_rows, source_columns = rows - shifts[0], columns - shifts[1]  # (B, H), (B, W)
    inside = _within(source_rows, height)[:, None, :, None] & _within(source_columns, width)[:, None, None, :]
    moved = tiles.gather(2, source_rows.clamp(0, height - 1)[:, None, :, None].expand_as(tiles))
    moved = moved.gather(3, source_columns.clamp(0, width - 1)[:, None, None, :].expand_as(tiles))
    cut = torch.ones_like(inside)
    for number, side, places, shape in ((5, height, rows, (-1, 1, height, 1)), (6, width, columns, (-1, 1, 1, width))):
        half = CUT_SHARE * side / 2
        centre = draws[:, number, None] * side
        cut = cut & ((places + 0.5 - centre).abs() <= half).view(shape)
    return moved * (inside & ~cut)


def adaptive(tiles: Tensor, chances: Tensor, normals: Tensor, probability: Tensor | float) -> Tensor:
    """Mirror, turn, shift, scale and colour, each change of each tile with the given probability.

    Parameters
    ----------
    tiles : shape (B, 3, H, W), square, in [-1, 1].
    chances : shape (B, 12), uniform in [0, 1).
    normals : shape (B, 6), N(0, 1): scale, shift down and right, brightness, contrast, saturation.
    probability : in [0, 1]; 0 leaves the tiles as they are.

    Returns
    -------
    Same shape; not clipped. What a shift or a turn leaves empty is filled by reflection.

    Notes
    -----
    The published pipeline "bgc" without changes of aspect, luma flips and turns of the hue: in a stained section the last
    two make pictures that no stain gives.
    """
    done = chances[:, :8] < probability
    image = torch.where((done[:, 0] & (chances[:, 8] < 0.5)).view(-1, 1, 1, 1), tiles.flip(3), tiles)
    quarter = torch.where(done[:, 1], (chances[:, 9] * 4).floor(), torch.zeros_like(chances[:, 9]))
    image = torch.where((quarter % 2 == 1).view(-1, 1, 1, 1), image.transpose(2, 3).flip(2), image)
    image = torch.where((quarter >= 2).view(-1, 1, 1, 1), image.flip(2, 3), image)

    def drawn(number: int, normal: int, sd: float) -> Tensor:
        return torch.where(done[:, number], normals[:, normal] * sd, torch.zeros_like(normals[:, normal]))

    scale = torch.exp2(drawn(2, 0, SCALE_SD))
    angle = torch.where(done[:, 3], (chances[:, 10] * 2 - 1) * math.pi, torch.zeros_like(scale))
    down, right = drawn(4, 1, SHIFT_SD), drawn(4, 2, SHIFT_SD)
    cosine, sine = torch.cos(angle) / scale, torch.sin(angle) / scale
    # A shift of a share of the side is twice that in the coordinates of grid_sample, which run from -1 to 1.
    turn = torch.stack([torch.stack([cosine, sine, -2 * right], 1), torch.stack([-sine, cosine, -2 * down], 1)], 1)
    moves = (done[:, 2] | done[:, 3] | done[:, 4]).view(-1, 1, 1, 1)
    grid = functional.affine_grid(turn.to(image.dtype), list(image.shape), align_corners=False)
    resampled = functional.grid_sample(image, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    image = torch.where(moves, resampled, image)
    brightness, contrast, saturation = (
        value.view(-1, 1, 1, 1)
        for value in (
            drawn(5, 3, BRIGHTNESS_SD),
            torch.exp2(drawn(6, 4, CONTRAST_SD)),
            torch.exp2(drawn(7, 5, SATURATION_SD)),
        )
    )
    return _coloured(image, brightness, contrast, saturation)


class AdaptiveProbability(nn.Module):
    """The probability of `adaptive`, raised while the critic tells real tiles too surely from generated ones.

    Parameters
    ----------
    target : of the sureness, the mean sign of real tiles' scores; 0.6 as published.
    images : real tiles that it takes from 0 to 1 at the fastest; 500,000 as published.

    Attributes
    ----------
    probability : shape (), in [0, 0.8]; a buffer, so that it is saved and resumed with the weights, as are the two below.
    signs, steps : sum of the sureness since the last correction, and the critic's steps in it.
    """

    probability: Tensor
    signs: Tensor
    steps: Tensor

    def __init__(self, *, target: float = 0.6, images: int = 500_000) -> None:
        super().__init__()
        self.target, self.images = target, images
        for name in ("probability", "signs", "steps"):
            self.register_buffer(name, torch.zeros(()))

    @torch.no_grad()
    def observe(self, sureness: Tensor, batch_size: int) -> None:
        """Note the sureness of one critic step, and every four steps move the probability towards the target.

        Parameters
        ----------
        sureness : shape (), in [-1, 1], over the whole batch, see `sureness`.
        batch_size : real tiles of the whole batch.
        """
        self.signs += sureness.to(self.signs)
        self.steps += 1
        due = self.steps >= EVERY
        move = torch.sign(self.signs / EVERY - self.target) * (EVERY * batch_size / self.images)
        self.probability.copy_(torch.where(due, (self.probability + move).clamp(0.0, LARGEST), self.probability))
        for counter in (self.signs, self.steps):
            counter.copy_(torch.where(due, torch.zeros_like(counter), counter))


def sureness(real_scores: Tensor, threshold: Tensor | float = 0.0) -> Tensor:
    """Return the mean sign of real tiles' scores, shape () from (B,): 1 where all lie above the threshold, 0 by chance.

    Parameters
    ----------
    real_scores : of real tiles as the critic saw them (changed).
    threshold : 0 for the min-max loss, as published. A Wasserstein score has a free constant: there it is the middle
        between the mean scores of real and of generated tiles.
    """
    return torch.sign(real_scores.detach().float() - threshold).mean()


def _coloured(tiles: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """Add to all channels, then scale about each pixel's mean channel, then about the tile's mean."""
    tiles = tiles + brightness
    grey = tiles.mean(dim=1, keepdim=True)
    tiles = grey + (tiles - grey) * saturation
    mean = tiles.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (tiles - mean) * contrast


def _within(places: Tensor, side: int) -> Tensor:
    return (places >= 0) & (places < side)
