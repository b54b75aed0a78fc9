"""Samplers: from noise to images along decreasing noise levels, given any denoiser; and what distils them to fewer steps.

All follow the probability flow dx / dsigma = (x - D(x, sigma)) / sigma (Karras et al., NeurIPS 2022, equations 1 and 3, with
sigma(t) = t); stochastic Heun adds fresh noise on the way. The images keep the precision of `start` (float32 in use), the
levels are float64. Randomness comes from `Draws`: one generator a sample, so that a tile does not depend on its batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from rnasynth.errors import InputError
from rnasynth.nets.edm import Denoise, level_dtype

Method = Literal["heun", "dpm2m", "euler"]
METHODS: tuple[Method, ...] = ("heun", "dpm2m", "euler")
GAMMA_MAX = math.sqrt(2) - 1  # EDM, algorithm 2: noise is at most raised by sqrt(2) in a step


def karras_sigmas(steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Tensor:
    """Return noise levels equally spaced in sigma^(1/rho), shape (steps + 1,), float64, decreasing, the last 0.

    Parameters
    ----------
    steps : at least 1; with one step the levels are `sigma_max` and 0.
    sigma_min, sigma_max : last level before 0 and first level, 0 < `sigma_min` < `sigma_max`.
    rho : at least 1; larger puts more steps at low noise. EDM, equation 5: 7.

    Raises
    ------
    InputError : a number outside its range.
    """
    _check_steps(steps)
    if not (0 < sigma_min < sigma_max < math.inf and 1 <= rho < math.inf):
        raise InputError(
            "noise levels", expected="0 < sigma_min < sigma_max and rho >= 1", found=f"{sigma_min}, {sigma_max} and {rho}"
        )
    share = torch.arange(steps, dtype=torch.float64) / max(steps - 1, 1)
    first, last = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    levels = (first + share * (last - first)) ** rho
    return torch.cat([levels, levels.new_zeros(1)])


def evaluations(method: Method, steps: int) -> int:
    """Return how often a sampler calls its denoiser on the way to 0: 2 n - 1 for Heun, n for the others.

    A denoiser with guidance evaluates its network twice a call where it guides.

    Raises
    ------
    InputError : an unknown method, or less than one step.
    """
    _check_steps(steps)
    if method not in METHODS:
        raise InputError(f"sampler {method!r}", expected=f"one of {', '.join(METHODS)}", found=repr(method))
    return 2 * steps - 1 if method == "heun" else steps


class Draws:
    """Normal numbers for a batch, each row from a generator of its own: a row never depends on the others.

    Parameters
    ----------
    seeds : one a row, each at least 0 and below 2^64.
    device : where the numbers are wanted; they are drawn on the processor, so they are the same everywhere.

    Raises
    ------
    InputError : no seed, or one outside the range.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        seeds = [int(seed) for seed in seeds]
        if not seeds or not all(0 <= seed < 2**64 for seed in seeds):
            raise InputError("seeds", expected="at least one, each in 0..2^64 - 1", found=str(seeds[:3]))
        self.device = torch.device(device)
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __len__(self) -> int:
        return len(self._generators)

    def normal(self, *shape: int) -> Tensor:
        """Return the next standard normal numbers of every row, shape (B, *shape), float32."""
        rows = [torch.randn(shape, generator=generator, dtype=torch.float32) for generator in self._generators]
        return torch.stack(rows).to(self.device)


@torch.no_grad()
def heun(
    denoise: Denoise,
    start: Tensor,
    sigmas: Tensor,
    *,
    churn: float = 0.0,
    churn_min: float = 0.0,
    churn_max: float = math.inf,
    churn_noise: float = 1.0,
    draws: Draws | None = None,
) -> Tensor:
    """Sample by Heun's method of second order, with fresh noise if `churn` > 0 (EDM, algorithm 2).

    Parameters
    ----------
    denoise : (images, sigma (B,)) -> clean estimate.
    start : shape (B, ...), noise of standard deviation `sigmas[0]`.
    sigmas : shape (steps + 1,), strictly decreasing, the last 0 or above; the step to 0 is an Euler step.
    churn : S_churn, 0 or more: before each step with `churn_min` <= sigma <= `churn_max` the noise is raised by the factor
        1 + min(churn / steps, sqrt(2) - 1). 0 is the deterministic method.
    churn_noise : S_noise, standard deviation of the fresh noise.
    draws : where fresh noise comes from, one row a sample; needed if `churn` > 0.

    Returns
    -------
    Shape of `start`, not clipped.

    Raises
    ------
    InputError : levels that do not decrease, a negative churn, or draws that are missing or of another batch size.
    """
    levels = _levels(sigmas)
    if not (churn >= 0 and churn_noise >= 0):
        raise InputError("churn", expected="churn and its noise 0 or more", found=f"{churn} and {churn_noise}")
    if churn > 0 and (draws is None or len(draws) != len(start)):
        raise InputError(
            "stochastic Heun",
            expected=f"draws for {len(start)} samples",
            found="none" if draws is None else str(len(draws)),
            fix="make Draws from one seed a sample",
        )
    x = start
    for sigma, following in pairwise(levels):
        raised = sigma * (1 + churn_factor(churn, len(levels) - 1, sigma, churn_min, churn_max))
        if raised > sigma and draws is not None:
            fresh = draws.normal(*x.shape[1:]).to(x)
            x = x + math.sqrt(raised**2 - sigma**2) * churn_noise * fresh
        slope = (x - denoise(x, _batch(raised, x))) / raised
        moved = x + (following - raised) * slope
        if following > 0:
            other = (moved - denoise(moved, _batch(following, x))) / following
            moved = x + (following - raised) * (slope + other) / 2
        x = moved
    return x


def churn_factor(churn: float, steps: int, sigma: float, churn_min: float = 0.0, churn_max: float = math.inf) -> float:
    """Return gamma: by which share the noise is raised before the step at `sigma` (EDM, algorithm 2), 0 to sqrt(2) - 1."""
    return min(churn / steps, GAMMA_MAX) if churn_min <= sigma <= churn_max else 0.0


@torch.no_grad()
def euler(denoise: Denoise, start: Tensor, sigmas: Tensor) -> Tensor:
    """Sample by Euler's method of first order, one evaluation a step (DDIM); arguments and result as for `heun`."""
    levels = _levels(sigmas)
    x = start
    for sigma, following in pairwise(levels):
        x = euler_step(x, denoise(x, _batch(sigma, x)), following / sigma)
    return x


def euler_step(noisy: Tensor, clean: Tensor, ratio: float | Tensor) -> Tensor:
    """Return where an Euler step from `noisy` lands, given the clean estimate and sigma after / sigma before.

    A sum with weights that add up to one: at the ratio 0 it is the clean estimate itself.
    """
    return ratio * noisy + (1 - ratio) * clean


@torch.no_grad()
def dpm_solver_2m(denoise: Denoise, start: Tensor, sigmas: Tensor) -> Tensor:
    """Sample by DPM-Solver++(2M): second order, one evaluation a step, the last clean estimate used again.

    With lambda = -ln(sigma): the clean estimate is continued linearly in lambda to the middle of the step. The first step
    and the step to 0 (where lambda is infinite) are of first order. Lu et al., 2022 (arXiv 2211.01095), algorithm 2, with
    alpha = 1. Arguments and result as for `heun`.
    """
    levels = _levels(sigmas)
    x = start
    last: Tensor | None = None
    length_before = 0.0
    for sigma, following in pairwise(levels):
        clean = denoise(x, _batch(sigma, x))
        length = math.log(sigma / following) if following > 0 else math.inf
        estimate = clean
        if last is not None and following > 0:
            estimate = clean + (clean - last) * (length / (2 * length_before))
        x = euler_step(x, estimate, following / sigma)
        last, length_before = clean, length
    return x


@torch.no_grad()
def step_target(
    teacher: Denoise, noisy: Tensor, sigma_from: Tensor, sigma_to: Tensor, substeps: int = 2, rho: float = 7.0
) -> Tensor:
    """Return the clean estimate with which ONE Euler step lands where the teacher's Heun steps land.

    Progressive distillation (Salimans and Ho, ICLR 2022, algorithm 2) in terms of noise levels and clean estimates: no new
    loss is needed, only this target.

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
    return torch.where(_spread(ends, x) > 0, moved, x + length * (slope + other) / 2)


def _spread(values: Tensor, images: Tensor) -> Tensor:
    return values.to(images.dtype).view(-1, *(1,) * (images.ndim - 1))


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise InputError("sampling steps", expected="at least 1", found=str(steps))


def _levels(sigmas: Tensor) -> list[float]:
    """Return checked noise levels as numbers of double precision."""
    levels = [float(sigma) for sigma in sigmas.tolist()] if sigmas.ndim == 1 else []
    if len(levels) < 2:
        raise InputError("noise levels", expected="a row of at least two", found=f"shape {tuple(sigmas.shape)}")
    decreasing = all(before > after for before, after in pairwise(levels))
    if not decreasing or levels[-1] < 0 or math.isinf(levels[0]):
        raise InputError(
            "noise levels",
            expected="strictly decreasing, finite, none below 0",
            found=", ".join(f"{x:g}" for x in levels[:6]),
        )
    return levels


def _batch(sigma: float, images: Tensor) -> Tensor:
    return torch.full((len(images),), sigma, device=images.device, dtype=level_dtype(images.device))
