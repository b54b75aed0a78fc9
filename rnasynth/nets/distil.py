"""Progressive distillation: what a student must answer so that one step of its own replaces several of its teacher's.

Salimans and Ho, ICLR 2022 (algorithm 2), put in terms of noise levels and clean estimates: no new loss is needed, only
another target. After one stage the student needs one evaluation where the teacher's Heun steps needed about two each.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rnasynth.errors import InputError
from rnasynth.nets.edm import Denoise, level_dtype


@torch.no_grad()
def step_target(
    teacher: Denoise, noisy: Tensor, sigma_from: Tensor, sigma_to: Tensor, substeps: int = 2, rho: float = 7.0
) -> Tensor:
    """Return the clean estimate with which ONE Euler step lands where the teacher's Heun steps land.

    Parameters
    ----------
    teacher : (images, sigma (B,)) -> clean estimate; may be guided, which the student then learns with it.
    noisy : shape (B, ...), at the level `sigma_from`.
    sigma_from, sigma_to : shape (B,), `sigma_from` > `sigma_to` >= 0, which may differ between samples.
    substeps : the teacher's steps, at least 1, equally spaced in sigma^(1/rho); the step to 0 is an Euler step, as in
        sampling. It costs 2 x substeps evaluations.
    rho : spacing of the substeps; that of the sampler's levels, so that twice the student's levels are the teacher's.

    Returns
    -------
    Shape of `noisy`; at `sigma_to` = 0 it is where the teacher lands.

    Raises
    ------
    InputError : levels that do not decrease or are not one a sample, or no substep.
    """
    if substeps < 1:
        raise InputError("distillation", expected="at least one step of the teacher", found=str(substeps))
    wanted = (len(noisy),)
    if sigma_from.shape != wanted or sigma_to.shape != wanted or not bool(((sigma_to >= 0) & (sigma_from > sigma_to)).all()):
        raise InputError(
            "distillation", expected=f"sigma_from > sigma_to >= 0 for each of {len(noisy)} samples", found="other levels"
        )
    first, last = (sigma.to(noisy.device, level_dtype(noisy.device)) for sigma in (sigma_from, sigma_to))
    x, sigma = noisy, first
    for step in range(1, substeps + 1):
        share = step / substeps
        root = (1 - share) * first ** (1 / rho) + share * last ** (1 / rho)
        following = last if step == substeps else root**rho
        x = _heun_step(teacher, x, sigma, following)
        sigma = following
    ratio = _spread(last / first, noisy)
    return (x - ratio * noisy) / (1 - ratio)


def _heun_step(denoise: Denoise, x: Tensor, sigma: Tensor, following: Tensor) -> Tensor:
    """Return `x` after a Heun step whose levels differ between samples; rows that go to 0 make an Euler step."""
    slope = (x - denoise(x, sigma)) / _spread(sigma, x)
    length = _spread(following - sigma, x)
    moved = x + length * slope
    ends = following == 0
    if bool(ends.all()):
        return moved
    safe = torch.where(ends, sigma, following)  # rows that end are evaluated at a harmless level, and not used
    other = (moved - denoise(moved, safe)) / _spread(safe, x)
    return torch.where(_spread(ends, x).bool(), moved, x + length * (slope + other) / 2)


def _spread(values: Tensor, images: Tensor) -> Tensor:
    return values.to(images.dtype).view(-1, *(1,) * (images.ndim - 1))
