"""The samplers against those of diffusers, written independently, at equal noise levels and with the same exact denoiser."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    EDMDPMSolverMultistepScheduler,
    EDMEulerScheduler,
    HeunDiscreteScheduler,
)
from torch import Tensor

from rnasynth.nets.edm import EDM, LinearDDPM, denoise
from rnasynth.nets.samplers import Draws, dpm_solver_2m, euler, heun, karras_sigmas
from rnasynth.systems.cdm_config import PAPER_SAMPLING
from tests.nets.mixture import exact

WITHIN = 1e-4
START = torch.randn(64, 1, 1, 2, generator=torch.Generator().manual_seed(3))


def output_for(clean: Tensor, noisy: Tensor, sigma: float) -> Tensor:
    """The network's output F with which EDM's preconditioning gives the estimate `clean`."""
    c_skip, c_out, _, _ = EDM().scalings(torch.tensor(sigma, dtype=torch.float64))
    return ((clean.double() - c_skip * noisy.double()) / c_out).float()


def by_edm_scheduler(scheduler: EDMEulerScheduler | EDMDPMSolverMultistepScheduler, steps: int) -> Tensor:
    """Where a scheduler of the EDM kind takes START; the oracle's estimate is handed over as a network's output."""
    scheduler.set_timesteps(steps)
    x = START * float(scheduler.sigmas[0])
    for time, sigma in zip(scheduler.timesteps, scheduler.sigmas.tolist(), strict=False):
        scheduler.scale_model_input(x, time)
        clean = exact(x, torch.full((len(x),), sigma))
        x = scheduler.step(output_for(clean, x, sigma), time, x).prev_sample
    return x


def difference(ours: Callable[..., Tensor], theirs: Tensor, sigmas: Tensor) -> float:
    """Largest difference, of where the samples end at sigma 0."""
    return float((ours(exact, START * float(sigmas[0]), sigmas) - theirs).abs().max())


@pytest.mark.parametrize("steps", [5, 18])
def test_euler_equals_that_of_diffusers(steps: int) -> None:
    scheduler = EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, sigma_data=0.5)
    theirs = by_edm_scheduler(scheduler, steps)
    assert torch.allclose(karras_sigmas(steps).float(), scheduler.sigmas, rtol=1e-5, atol=0)
    assert difference(euler, theirs, scheduler.sigmas) < WITHIN
    assert difference(heun, theirs, scheduler.sigmas) > 100 * WITHIN


@pytest.mark.parametrize("steps", [5, 12, 18, 40])
def test_dpm_solver_equals_that_of_diffusers(steps: int) -> None:
    # Both end with a first-order step to 0, whatever the number of steps (final_sigmas_type "zero").
    scheduler = EDMDPMSolverMultistepScheduler(
        sigma_min=0.002, sigma_max=80.0, sigma_data=0.5, solver_order=2, algorithm_type="dpmsolver++", solver_type="midpoint"
    )
    theirs = by_edm_scheduler(scheduler, steps)
    assert difference(dpm_solver_2m, theirs, scheduler.sigmas) < WITHIN
    assert difference(euler, theirs, scheduler.sigmas) > 10 * WITHIN


@pytest.mark.parametrize("steps", [5, 18])
def test_heun_equals_that_of_diffusers(steps: int) -> None:
    # Its own (DDPM) range of levels; each but the first and the last stands twice. The step to 0 is first order in both.
    scheduler = HeunDiscreteScheduler(
        beta_schedule="linear", beta_start=1e-4, beta_end=0.02, use_karras_sigmas=True, prediction_type="sample"
    )
    scheduler.set_timesteps(steps)
    levels = torch.cat([scheduler.sigmas[:1], scheduler.sigmas[1:-1:2], scheduler.sigmas[-1:]])
    assert len(levels) == steps + 1 and len(scheduler.timesteps) == 2 * steps - 1
    x = START * float(levels[0])
    for time, sigma in zip(scheduler.timesteps, scheduler.sigmas.tolist(), strict=False):
        x = scheduler.step(exact(x, torch.full((len(x),), sigma)), time, x).prev_sample
    assert difference(heun, x, levels) < WITHIN
    assert difference(euler, x, levels) > 100 * WITHIN


def test_churn_equals_that_of_diffusers_in_one_euler_step() -> None:
    # Algorithm 2 with one step to 0 is an Euler step with churn: the same noise, the same raised level.
    scheduler = EDMEulerScheduler(sigma_min=0.002, sigma_max=40.0, sigma_data=0.5)
    scheduler.set_timesteps(1)
    x = START[:1] * 40
    raised = 40 * math.sqrt(2)
    fresh = torch.randn(x.shape, generator=torch.Generator().manual_seed(11))
    noisy = x + fresh * PAPER_SAMPLING.churn_noise * math.sqrt(raised**2 - 40**2)
    output = output_for(exact(noisy, torch.tensor([raised])), noisy, raised)
    scheduler.scale_model_input(x, scheduler.timesteps[0])
    theirs = scheduler.step(
        output, scheduler.timesteps[0], x, s_churn=80.0, s_tmin=0.05, s_tmax=50.0, s_noise=1.003,
        generator=torch.Generator().manual_seed(11),
    ).prev_sample  # fmt: skip
    keywords = {"churn": 80.0, "churn_min": 0.05, "churn_max": 50.0, "churn_noise": 1.003}
    ours = heun(exact, x, torch.tensor([40.0, 0.0]), **keywords, draws=Draws([11]))  # type: ignore[arg-type]
    assert float((ours - theirs).abs().max()) < WITHIN


def test_preconditioning_equals_that_of_diffusers() -> None:
    scheduler = EDMEulerScheduler(sigma_data=0.5)
    generator = torch.Generator().manual_seed(0)
    noisy, output = (torch.randn(1, 3, 4, 4, generator=generator) for _ in range(2))
    for sigma in (0.002, 0.1, 1.0, 80.0):
        seen: list[Tensor] = []

        def network(images: Tensor, level: Tensor, condition: Tensor | None, seen: list[Tensor] = seen) -> Tensor:
            seen.extend([images, level])
            return output

        clean = denoise(network, EDM(), noisy * sigma, torch.tensor([sigma]), None)
        assert torch.allclose(seen[0], scheduler.precondition_inputs(noisy * sigma, sigma), rtol=1e-5)
        assert torch.allclose(seen[1], scheduler.precondition_noise(sigma), rtol=1e-5)
        assert torch.allclose(clean, scheduler.precondition_outputs(noisy * sigma, output, sigma), rtol=1e-5, atol=1e-6)


def test_linear_levels_are_those_of_diffusers() -> None:
    kept = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear", beta_start=1e-4, beta_end=0.02).alphas_cumprod
    assert torch.allclose(1 / (1 + LinearDDPM().sigmas.square()), kept.double(), rtol=2e-4, atol=0)


def test_linear_parametrisation_sampled_by_euler_is_the_ddim_of_diffusers() -> None:
    # Theirs keeps the variance, ours lets it explode: their images are ours times sqrt(abar).
    def network(images: Tensor, time: Tensor, condition: Tensor | None) -> Tensor:
        return torch.tanh(images) + 0.1 * torch.sin(time / 100).view(-1, 1, 1, 1)

    scheduler = DDIMScheduler(
        num_train_timesteps=1000, beta_schedule="linear", beta_start=1e-4, beta_end=0.02, clip_sample=False,
        set_alpha_to_one=True, timestep_spacing="leading",
    )  # fmt: skip
    scheduler.set_timesteps(20)
    table = LinearDDPM().sigmas
    levels = torch.cat([table[scheduler.timesteps], torch.zeros(1, dtype=torch.float64)])
    x = START / math.sqrt(1 + float(levels[0]) ** 2) * float(levels[0])
    for time in scheduler.timesteps:
        x = scheduler.step(network(x, time.float().expand(len(x)), None), int(time), x).prev_sample
    ours = euler(lambda images, sigma: denoise(network, LinearDDPM(), images, sigma, None), START * float(levels[0]), levels)
    assert torch.allclose(ours, x, rtol=1e-5, atol=WITHIN) and not torch.allclose(ours, START, atol=1.0)
