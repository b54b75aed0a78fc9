from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rnasynth.errors import InputError
from rnasynth.nets.edm import EDM, LinearDDPM, Parametrisation, Scalings, denoise, diffusion_loss, guided, weighted_error

SIGMAS = torch.tensor([0.002, 0.03, 0.5, 4.0, 80.0], dtype=torch.float64)
BOTH: tuple[Parametrisation, ...] = (EDM(), LinearDDPM())


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class Zero(nn.Module):
    """A network before its first step: its last convolution is zero."""

    def forward(self, images: Tensor, level: Tensor, condition: Tensor | None, **more: Any) -> Tensor:
        return torch.zeros_like(images)


class Knows(nn.Module):
    """A network that gives what makes the estimate the clean image."""

    def __init__(self, parametrisation: Parametrisation, clean: Tensor, noisy: Tensor, sigma: Tensor) -> None:
        super().__init__()
        c_skip, c_out, _, _ = (values.view(-1, 1, 1, 1) for values in parametrisation.scalings(sigma))
        self.answer = (clean.double() - c_skip * noisy.double()) / c_out

    def forward(self, images: Tensor, level: Tensor, condition: Tensor | None, **more: Any) -> Tensor:
        return self.answer.to(images.dtype)


# -- EDM: closed forms -------------------------------------------------------------------------------------------------


def has_unit_variances(scalings: Callable[[Tensor], Scalings], sigma_data: float) -> bool:
    """Variance of the network's input and of its target, for images of variance sigma_data^2."""
    c_skip, c_out, c_in, _ = scalings(SIGMAS)
    variance_in = c_in.square() * (SIGMAS.square() + sigma_data**2)
    variance_target = ((1 - c_skip).square() * sigma_data**2 + c_skip.square() * SIGMAS.square()) / c_out.square()
    ones = torch.ones_like(SIGMAS)
    return torch.allclose(variance_in, ones, rtol=1e-12) and torch.allclose(variance_target, ones, rtol=1e-9)


def with_the_wrong_skip(sigma: Tensor) -> Scalings:
    """The deliberately broken variant: c_skip of a square too few."""
    _, c_out, c_in, c_noise = EDM().scalings(sigma)
    return 0.5 / (sigma + 0.5), c_out, c_in, c_noise


@pytest.mark.parametrize("sigma_data", [0.2, 0.5, 1.0])
def test_input_and_target_of_the_network_have_unit_variance(sigma_data: float) -> None:
    assert has_unit_variances(EDM(sigma_data=sigma_data).scalings, sigma_data)
    assert not has_unit_variances(EDM(sigma_data=sigma_data * 1.1).scalings, sigma_data)
    assert not has_unit_variances(with_the_wrong_skip, 0.5)


def test_the_skip_makes_the_networks_share_smallest_and_the_weight_evens_the_loss() -> None:
    c_skip, c_out, _, c_noise = EDM().scalings(SIGMAS)
    for change in (0.99, 1.01):  # appendix B.6: c_skip minimises c_out
        other = ((1 - change * c_skip).square() * 0.25 + (change * c_skip).square() * SIGMAS.square()).sqrt()
        assert bool((other > c_out).all())
    assert torch.allclose(EDM().weight(SIGMAS) * c_out.square(), torch.ones_like(SIGMAS), rtol=1e-12)
    assert torch.allclose(c_noise, SIGMAS.log() / 4) and torch.allclose(c_skip[2], torch.tensor(0.5, dtype=torch.float64))


def test_training_levels_are_log_normal() -> None:
    uniform = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    logs = EDM().draw(uniform).log()
    assert float(logs.mean()) == pytest.approx(-1.2, abs=1e-3) and float(logs.std()) == pytest.approx(1.2, abs=1e-3)
    assert float(EDM().draw(torch.tensor([0.5]))) == pytest.approx(math.exp(-1.2), rel=1e-6)
    for parametrisation in BOTH:
        ends = parametrisation.draw(torch.tensor([0.0, 1.0]))
        assert ends.dtype == torch.float64 and bool(ends.isfinite().all()) and 0 < float(ends[0]) < float(ends[1])


# -- the linear DDPM ---------------------------------------------------------------------------------------------------


def test_the_timestep_of_a_level_comes_back() -> None:
    linear = LinearDDPM()
    step = torch.arange(1000, dtype=torch.float64)
    assert torch.allclose(linear.scalings(linear.sigmas)[3], step, atol=1e-8)
    between = (linear.sigmas[:-1] * linear.sigmas[1:]).sqrt()
    assert torch.allclose(linear.scalings(between)[3], step[:-1] + 0.5, atol=1e-8)
    outside = torch.tensor([1e-5, 1e5], dtype=torch.float64)
    assert linear.scalings(outside)[3].tolist() == [0.0, 999.0]
    assert linear.sigma_min == pytest.approx(0.01, rel=1e-3) and linear.sigma_max == pytest.approx(157.4, rel=1e-3)


def test_the_input_keeps_its_variance_and_each_timestep_is_equally_likely() -> None:
    linear = LinearDDPM()
    kept = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), dim=0)
    assert torch.allclose(linear.scalings(linear.sigmas)[2], kept.sqrt(), rtol=1e-9)
    drawn = linear.draw((torch.arange(3000, dtype=torch.float64) + 0.5) / 3000)
    assert torch.equal(drawn, linear.sigmas.repeat_interleave(3))


def test_the_loss_of_the_linear_ddpm_is_the_squared_error_of_the_noise() -> None:
    linear = LinearDDPM()
    clean, noise, said = (normal(6, 3, 8, 8, seed=seed) for seed in range(3))
    sigma = linear.draw(torch.linspace(0, 0.99, 6))
    found = diffusion_loss(lambda images, level, condition: said, linear, clean, sigma, noise, None)
    assert torch.allclose(found, (said - noise).square().flatten(1).mean(dim=1), rtol=1e-4)


@pytest.mark.parametrize("keywords", [{"steps": 1}, {"beta_first": 0.0}, {"beta_first": 0.1}, {"beta_last": 1.0}])
def test_a_linear_ddpm_outside_its_ranges_is_refused(keywords: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="LinearDDPM"):
        LinearDDPM(**keywords)


@pytest.mark.parametrize("keywords", [{"sigma_data": 0.0}, {"std": -1.0}, {"sigma_min": 90.0}, {"sigma_max": math.inf}])
def test_an_edm_outside_its_ranges_is_refused(keywords: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="EDM"):
        EDM(**keywords)


# -- denoise and loss --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parametrisation", BOTH, ids=["edm", "linear"])
def test_a_network_that_gives_the_exact_answer_denoises_exactly(parametrisation: Parametrisation) -> None:
    clean, noise = normal(5, 3, 8, 8).clamp(-1, 1), normal(5, 3, 8, 8, seed=1)
    noisy = clean + SIGMAS.float().view(-1, 1, 1, 1) * noise
    network = Knows(parametrisation, clean, noisy, SIGMAS)
    assert torch.allclose(denoise(network, parametrisation, noisy, SIGMAS, None), clean, atol=3e-5)
    assert float(diffusion_loss(network, parametrisation, clean, SIGMAS, noise, None).max()) < 1e-6


def test_the_loss_of_a_network_that_gives_zero_is_one() -> None:
    clean, noise = 0.5 * normal(5, 3, 128, 128, dtype=torch.float64), normal(5, 3, 128, 128, seed=1, dtype=torch.float64)
    for parametrisation in BOTH:  # standard error sqrt(2 / 49152) = 0.0064
        found = diffusion_loss(Zero(), parametrisation, clean, SIGMAS, noise, None)
        assert found.shape == (5,) and torch.allclose(found, torch.ones_like(found), atol=0.025)
    wrong = diffusion_loss(Zero(), EDM(sigma_data=0.25), clean, SIGMAS, noise, None)
    assert not torch.allclose(wrong, torch.ones_like(wrong), atol=0.1)


def test_the_loss_of_zero_has_its_closed_form_without_chance() -> None:
    # Constant images of 1 and noise of 1 everywhere: (c_skip (1 + sigma) - 1)^2 / c_out^2.
    one = torch.ones(5, 1, 2, 2, dtype=torch.float64)
    c_skip = 0.25 / (SIGMAS.square() + 0.25)
    wanted = (c_skip * (1 + SIGMAS) - 1).square() * (SIGMAS.square() + 0.25) / (0.25 * SIGMAS.square())
    assert torch.allclose(diffusion_loss(Zero(), EDM(), one, SIGMAS, one, None), wanted, rtol=1e-9)


def test_samples_do_not_see_each_other_and_what_else_is_said_arrives() -> None:
    seen: dict[str, Any] = {}

    def network(images: Tensor, level: Tensor, condition: Tensor | None, **more: Any) -> Tensor:
        seen.update(more, level=level, condition=condition)
        return images * level.view(-1, 1, 1, 1)

    clean, noise, condition = normal(5, 3, 4, 4), normal(5, 3, 4, 4, seed=1), normal(5, 7, seed=2)
    more = {"keep": torch.ones(5, dtype=torch.bool), "low": clean, "low_level": torch.rand(5)}
    whole = diffusion_loss(network, EDM(), clean, SIGMAS, noise, condition, **more)
    assert seen.pop("condition") is condition and seen.pop("level").dtype == torch.float32
    assert all(seen[name] is more[name] for name in more) and seen.keys() == more.keys()
    alone = [diffusion_loss(network, EDM(), clean[i : i + 1], SIGMAS[i : i + 1], noise[i : i + 1], None) for i in range(5)]
    assert torch.allclose(whole, torch.cat(alone), rtol=1e-6)


def test_the_estimate_is_float32_whatever_the_network_gives_and_gradients_flow() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, images: Tensor, level: Tensor, condition: Tensor | None) -> Tensor:
            return (images * self.scale).bfloat16()

    network, images = Half(), normal(5, 3, 4, 4)
    for noisy in (images, images.bfloat16()):
        for sigma in (SIGMAS, SIGMAS.float()):
            assert denoise(network, EDM(), noisy, sigma, None).dtype == torch.float32
    diffusion_loss(network, EDM(), images, SIGMAS, images, None).mean().backward()
    assert network.scale.grad is not None and float(network.scale.grad.abs()) > 0


@pytest.mark.parametrize("parametrisation", BOTH, ids=["edm", "linear"])
def test_all_is_computed_where_the_images_are(parametrisation: Parametrisation) -> None:
    clean = torch.empty(4, 3, 8, 8, device="meta")
    sigma = parametrisation.draw(torch.empty(4, device="meta"))
    assert diffusion_loss(Zero(), parametrisation, clean, sigma, clean, None).device.type == "meta"


def test_the_weighted_error_is_the_loss_with_another_target() -> None:
    clean, noise = normal(5, 3, 4, 4), normal(5, 3, 4, 4, seed=1)
    noisy = clean + SIGMAS.float().view(-1, 1, 1, 1) * noise
    estimate = denoise(Zero(), EDM(), noisy, SIGMAS, None)
    found = weighted_error(EDM(), estimate, clean, SIGMAS)
    assert torch.equal(found, diffusion_loss(Zero(), EDM(), clean, SIGMAS, noise, None))
    assert float(weighted_error(EDM(), estimate, estimate, SIGMAS).max()) == 0


# -- guidance ----------------------------------------------------------------------------------------------------------


class Gives:
    """A denoiser that gives one number, and counts."""

    def __init__(self, number: float) -> None:
        self.number, self.calls = number, 0

    def __call__(self, images: Tensor, sigma: Tensor) -> Tensor:
        self.calls += 1
        return torch.full_like(images, self.number)


@pytest.mark.parametrize(
    ("weight", "value", "calls"), [(1.0, 3.0, (1, 0)), (0.0, 1.0, (0, 1)), (2.5, 6.0, (1, 1)), (-1.0, -1.0, (1, 1))]
)
def test_guidance_goes_from_null_through_conditional(weight: float, value: float, calls: tuple[int, int]) -> None:
    conditional, null = Gives(3.0), Gives(1.0)
    found = guided(conditional, null, weight)(normal(5, 1, 2, 2), SIGMAS)
    assert torch.allclose(found, torch.tensor(value)) and (conditional.calls, null.calls) == calls


def test_outside_its_interval_guidance_is_off_and_costs_nothing() -> None:
    for sigma, inside in ((0.2, False), (0.3, False), (0.31, True), (5.0, True), (5.01, False)):
        for weight, value in ((2.0, 5.0), (0.0, 1.0)):
            conditional, null = Gives(3.0), Gives(1.0)
            found = guided(conditional, null, weight, (0.3, 5.0))(
                normal(2, 1, 2, 2), torch.full((2,), sigma, dtype=torch.float64)
            )
            assert torch.allclose(found, torch.tensor(value if inside else 3.0))
            assert conditional.calls + null.calls == (2 if inside and weight else 1)


def test_samples_at_several_levels_are_guided_each_by_its_own() -> None:
    found = guided(Gives(3.0), Gives(1.0), 2.0, (0.02, 1.0))(normal(5, 1, 2, 2), SIGMAS)
    assert found[:, 0, 0, 0].tolist() == [3.0, 5.0, 5.0, 3.0, 3.0]
    assert guided(Gives(3.0), Gives(1.0), 0.0, (0.02, 1.0))(normal(5, 1, 2, 2), SIGMAS)[:, 0, 0, 0].tolist() == [
        3,
        1,
        1,
        3,
        3,
    ]


@pytest.mark.parametrize(
    ("weight", "interval"), [(math.nan, None), (2.0, (1.0, 1.0)), (2.0, (-1.0, 1.0)), (2.0, (3.0, 1.0))]
)
def test_guidance_that_makes_no_sense_is_refused(weight: float, interval: tuple[float, float] | None) -> None:
    with pytest.raises(InputError, match="guidance"):
        guided(Gives(3.0), Gives(1.0), weight, interval)
