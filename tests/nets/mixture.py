"""A mixture of Gaussians whose denoiser, score and samples are known exactly: the oracle of the samplers' tests."""

from __future__ import annotations

import torch
from torch import Tensor

MEANS = torch.tensor([[0.5, 0.2], [-0.6, 0.3], [0.0, -0.7]], dtype=torch.float64)
SDS = torch.tensor([0.10, 0.15, 0.06], dtype=torch.float64)
SHARES = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)


def exact(images: Tensor, sigma: Tensor) -> Tensor:
    """E[clean | noisy] of "images" of shape (B, 1, 1, 2), computed in double precision."""
    x = images.double().flatten(1).unsqueeze(1)
    total = SDS.square() + sigma.double().view(-1, 1).square()
    away = (x - MEANS).square().sum(dim=2)
    belongs = torch.softmax(SHARES.log() - total.log() - away / (2 * total), dim=1)
    clean = MEANS + (SDS.square() / total).unsqueeze(2) * (x - MEANS)
    return (belongs.unsqueeze(2) * clean).sum(dim=1).view_as(images).to(images.dtype)


def true_samples(n: int, seed: int) -> Tensor:
    """Draws from the mixture itself, shape (n, 2)."""
    generator = torch.Generator().manual_seed(seed)
    mode = torch.multinomial(SHARES, n, replacement=True, generator=generator)
    return MEANS[mode] + SDS[mode].unsqueeze(1) * torch.randn(n, 2, generator=generator, dtype=torch.float64)


def shares(points: Tensor) -> Tensor:
    """Share of the points nearest to each mode."""
    return torch.bincount(torch.cdist(points.double(), MEANS).argmin(dim=1), minlength=3) / len(points)


def spreads(points: Tensor) -> Tensor:
    """Standard deviation, per axis, of the points that are nearest to each mode."""
    nearest = torch.cdist(points.double(), MEANS).argmin(dim=1)
    return torch.stack(
        [(points[nearest == mode].double() - MEANS[mode]).square().mean().sqrt() for mode in range(len(MEANS))]
    )


def energy_distance(first: Tensor, second: Tensor) -> float:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'|, unbiased: near 0, and sometimes below, for samples of one distribution."""
    first, second = first.double(), second.double()
    n, m = len(first), len(second)
    between = torch.cdist(first, second).mean()
    within = torch.cdist(first, first).sum() / (n * (n - 1)) + torch.cdist(second, second).sum() / (m * (m - 1))
    return float(2 * between - within)
