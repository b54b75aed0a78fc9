"""Losses of a GAN with gradient penalty, each per sample: Wasserstein's, and the original min-max loss.

Source: Gulrajani et al. 2017 (WGAN-GP), eq. 3; RNA-GAN (Cell Reports Methods 2023), eq. 3 and 4; Goodfellow et al. 2014,
eq. 1 and section 3 (the generator that does not saturate). RNA-GAN's eq. 3 as
printed takes the penalty at generated samples, Gulrajani et al. at random points between real and generated ones:
both are offered, the second is the default. The penalty is a sample's own (B values, then their mean): a norm over the
whole batch would tie a sample's penalty to its batch mates.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as functional
from torch import Tensor


def critic_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """Wasserstein loss of the critic, without penalty: mean fake score - mean real score; shape () from (B,) each."""
    return fake_scores.mean() - real_scores.mean()


def generator_loss(fake_scores: Tensor) -> Tensor:
    """Wasserstein loss of the generator: minus the mean fake score (RNA-GAN, eq. 4)."""
    return -fake_scores.mean()


def minmax_critic_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """Cross-entropy of naming real and generated tiles, the scores being log-odds of "real"; shape () from (B,) each.

    Minus the value that Goodfellow et al.'s eq. 1 maximises: -mean ln D(real) - mean ln(1 - D(fake)), D = sigmoid(score).
    2 ln 2 where nothing is told apart.
    """
    return functional.softplus(-real_scores).mean() + functional.softplus(fake_scores).mean()


def minmax_generator_loss(fake_scores: Tensor) -> Tensor:
    """-mean ln D(fake) instead of mean ln(1 - D(fake)), whose gradient dies where the critic is sure (section 3)."""
    return functional.softplus(-fake_scores).mean()


def between(real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    """Return `share * real + (1 - share) * fake`, one share a sample.

    Parameters
    ----------
    real, fake : shape (B, ...).
    share : shape (B,) in [0, 1].
    """
    share = share.view(-1, *([1] * (real.dim() - 1)))
    return share * real + (1.0 - share) * fake


def gradient_penalty(critic: Callable[[Tensor], Tensor], points: Tensor, *, target: float = 1.0) -> Tensor:
    """Squared distance of each sample's gradient norm from `target`.

    Parameters
    ----------
    critic : (B, ...) -> scores (B,), where a score depends on its own sample only (no batch statistics).
    points : shape (B, ...), where the penalty is taken.
    target : the norm that costs nothing; 1 for WGAN-GP.

    Returns
    -------
    Shape (B,); differentiable with respect to the critic's parameters. For a linear critic with weights w every entry is
    (|w| - target)^2.

    Notes
    -----
    All of it is computed in fp32, under autocast too: a norm near its target, differentiated once more, is what half
    precision serves worst. The gradient of the summed scores is taken in one pass; since a score depends on its own
    sample only, row i of it is the gradient of score i.
    """
    points = points.detach().float().requires_grad_(True)
    with torch.autocast(points.device.type, enabled=False):
        scores = critic(points)
        (gradient,) = torch.autograd.grad(scores.sum(), points, create_graph=True)
        # The root has no derivative at 0 (a dead sample): the small constant keeps it finite and shifts the norm by < 1e-6.
        norms = torch.sqrt(gradient.flatten(1).square().sum(dim=1) + 1e-12)
        return (norms - target).square()
