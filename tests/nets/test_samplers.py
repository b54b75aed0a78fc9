from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from rnasynth.errors import InputError
from rnasynth.nets.edm import Denoise, guided
from rnasynth.nets.samplers import (
    METHODS,
    Draws,
    churn_factor,
    dpm_solver_2m,
    euler,
    euler_step,
    evaluations,
    heun,
    karras_sigmas,
    step_target,
)
from rnasynth.systems.cdm_config import PAPER_SAMPLING as PAPER
from tests.nets.mixture import MEANS, SHARES, energy_distance, exact, shares, spreads, true_samples
from tests.nets.mixture import SDS as MODE_SDS

Sampler = Callable[[Denoise, Tensor, Tensor], Tensor]
SAMPLERS: dict[str, Sampler] = {"heun": heun, "dpm2m": dpm_solver_2m, "euler": euler}
CHURN = {
    "churn": PAPER.churn,
    "churn_min": PAPER.churn_min,
    "churn_max": PAPER.churn_max,
    "churn_noise": PAPER.churn_noise,
}


def noise(n: int, *shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(n, *(shape or (1, 1, 2)), generator=torch.Generator().manual_seed(seed), dtype=dtype)


# -- noise levels ------------------------------------------------------------------------------------------------------


def test_levels_are_the_closed_form_of_the_paper() -> None:
    levels = karras_sigmas(18)
    assert levels.dtype == torch.float64 and levels.shape == (19,) and levels[-1] == 0
    for number in range(18):  # equation 5
        wanted = (80 ** (1 / 7) + number / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
        assert float(levels[number]) == pytest.approx(wanted, rel=1e-12)
    assert karras_sigmas(1).tolist() == pytest.approx([80.0, 0.0], rel=1e-12)
    assert torch.allclose(karras_sigmas(5, 1.0, 3.0, rho=1.0)[:-1], torch.linspace(3, 1, 5, dtype=torch.float64))


@pytest.mark.parametrize(
    ("steps", "keywords"),
    [
        (0, {}),
        (-3, {}),
        (4, {"sigma_min": 0.0}),
        (4, {"sigma_min": 2.0, "sigma_max": 1.0}),
        (4, {"rho": 0.5}),
        (4, {"sigma_max": math.inf}),
        (4, {"sigma_min": math.nan}),
    ],
)
def test_levels_that_make_no_sense_are_refused(steps: int, keywords: dict[str, float]) -> None:
    with pytest.raises(InputError):
        karras_sigmas(steps, **keywords)


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize("levels", [[1.0], [1.0, 1.0, 0.0], [0.1, 1.0], [1.0, -0.1], [math.inf, 0.0], [math.nan, 0.0]])
def test_samplers_refuse_levels_that_do_not_decrease(sampler: Sampler, levels: list[float]) -> None:
    with pytest.raises(InputError, match="noise levels"):
        sampler(exact, noise(2), torch.tensor(levels))
    with pytest.raises(InputError, match="noise levels"):
        sampler(exact, noise(2), torch.tensor([levels, levels]))


# -- order of convergence ----------------------------------------------------------------------------------------------


def errors(sampler: Sampler, steps: Sequence[int]) -> list[float]:
    """Mean distance from the flow's true end at sigma 0.05, for the same starts and levels ever finer."""
    start = 20 * noise(64, dtype=torch.float64)
    truth = heun(exact, start, karras_sigmas(3000, 0.05, 20.0)[:-1])
    ends = [sampler(exact, start, karras_sigmas(n + 1, 0.05, 20.0)[:-1]) for n in steps]
    return [float((end - truth).flatten(1).norm(dim=1).mean()) for end in ends]


def orders(sampler: Sampler) -> list[float]:
    """log2 of what halving every step divides the error by."""
    return [math.log2(coarse / fine) for coarse, fine in pairwise(errors(sampler, (80, 160, 320)))]


@pytest.mark.parametrize(("name", "order"), [("heun", 2.0), ("dpm2m", 2.0), ("euler", 1.0)])
def test_halving_the_step_divides_the_error_as_the_order_says(name: str, order: float) -> None:
    found = orders(SAMPLERS[name])
    assert found == pytest.approx([order, order], abs=0.15), found


def heun_with_the_old_slope(denoise: Denoise, start: Tensor, sigmas: Tensor) -> Tensor:
    """The deliberately broken variant: the second slope is taken at the level of the first."""
    x, levels = start, sigmas.tolist()
    for sigma, following in pairwise(levels):
        slope = (x - denoise(x, torch.full((len(x),), sigma))) / sigma
        moved = x + (following - sigma) * slope
        other = (moved - denoise(moved, torch.full((len(x),), sigma))) / sigma
        x = x + (following - sigma) * (slope + other) / 2
    return x


def dpm_without_the_ratio_of_steps(denoise: Denoise, start: Tensor, sigmas: Tensor) -> Tensor:
    """The deliberately broken variant: the last estimate is continued in the wrong direction."""
    x, before = start, None
    for sigma, following in pairwise(sigmas.tolist()):
        clean = denoise(x, torch.full((len(x),), sigma))
        x, before = euler_step(x, clean if before is None else clean - (clean - before) / 2, following / sigma), clean
    return x


@pytest.mark.parametrize("broken", [heun_with_the_old_slope, dpm_without_the_ratio_of_steps])
def test_a_wrong_second_order_term_loses_the_second_order(broken: Sampler) -> None:
    assert max(orders(broken)) < 1.5


def test_flow_of_one_gaussian_is_its_closed_form() -> None:
    # x(sigma) - mean shrinks as sqrt(sd^2 + sigma^2).
    def one(images: Tensor, sigma: Tensor) -> Tensor:
        kept = 0.09 / (0.09 + sigma.square()).view(-1, 1, 1, 1)
        return 0.4 + kept * (images - 0.4)

    start = 80 * noise(16, dtype=torch.float64)
    wanted = 0.4 + (start - 0.4) * 0.3 / math.sqrt(0.09 + 80**2)
    for name, steps, within in (("heun", 400, 2e-4), ("dpm2m", 400, 2e-4), ("euler", 1000, 5e-3)):
        assert float((SAMPLERS[name](one, start, karras_sigmas(steps)) - wanted).abs().max()) < within, name


# -- the distribution --------------------------------------------------------------------------------------------------

N = 2000


def stochastic(denoise: Denoise, start: Tensor, sigmas: Tensor, **changed: float) -> Tensor:
    return heun(denoise, start, sigmas, **CHURN | changed, draws=Draws(range(len(start))))  # type: ignore[arg-type]


def stochastic_without_raising_the_level(denoise: Denoise, start: Tensor, sigmas: Tensor) -> Tensor:
    """The deliberately broken variant: noise is added, and the step starts from the level before it."""
    x, draws = start, Draws(range(len(start)))
    for sigma, following in pairwise(sigmas.tolist()):
        if PAPER.churn_min <= sigma <= PAPER.churn_max:
            x = x + sigma * draws.normal(*x.shape[1:])
        x = heun(denoise, x, torch.tensor([sigma, following], dtype=torch.float64))
    return x


def stochastic_with_too_much_noise(denoise: Denoise, start: Tensor, sigmas: Tensor) -> Tensor:
    """The deliberately broken variant: fresh noise of one and a half times its standard deviation."""
    return stochastic(denoise, start, sigmas, churn_noise=1.5)


@cache
def floor() -> float:
    """Largest energy distance between two sets of true samples, of six."""
    return max(abs(energy_distance(true_samples(N, seed), true_samples(N, 100 + seed))) for seed in range(6))


def faults(sampler: Sampler, steps: int) -> dict[str, float]:
    """Three measures of how far the samples lie from the mixture, each in units of what is allowed."""
    points = sampler(exact, 80 * noise(N, seed=1), karras_sigmas(steps)).flatten(1)
    binomial = (SHARES * (1 - SHARES) / N).sqrt()
    return {
        "share": float(((shares(points) - SHARES).abs() / (4 * binomial)).max()),
        "spread": float(((spreads(points) / spreads(true_samples(100_000, 0)) - 1).abs() / 0.12).max()),
        "energy": energy_distance(points, true_samples(N, 50)) / (4 * floor()),
    }


def stochastic_as_published(denoise: Denoise, start: Tensor, sigmas: Tensor) -> Tensor:
    return stochastic(denoise, start, sigmas)


def stochastic_with_true_noise(denoise: Denoise, start: Tensor, sigmas: Tensor) -> Tensor:
    return stochastic(denoise, start, sigmas, churn_noise=1.0)


@pytest.mark.parametrize(
    ("sampler", "steps"),
    [(heun, 32), (dpm_solver_2m, 48), (euler, 250), (stochastic_as_published, 48), (stochastic_with_true_noise, 64)],
)
def test_samples_follow_the_mixture(sampler: Sampler, steps: int) -> None:
    found = faults(sampler, steps)
    assert max(found.values()) < 1, found


@pytest.mark.parametrize("broken", [stochastic_without_raising_the_level, stochastic_with_too_much_noise])
def test_wrong_noise_on_the_way_is_seen(broken: Sampler) -> None:
    found = faults(broken, 32)
    assert max(found.values()) > 2, found


def test_euler_in_few_steps_is_seen() -> None:
    assert max(faults(euler, 6).values()) > 2


def excess_spread(steps: int, **keywords: float) -> float:
    """Relative excess of the standard deviation, from 100,000 pixels of one Gaussian of standard deviation 0.3."""

    def one(images: Tensor, sigma: Tensor) -> Tensor:
        return images * (0.09 / (0.09 + sigma.square())).to(images.dtype).view(-1, 1, 1, 1)

    draws = Draws(range(4))
    start = 80 * draws.normal(1, 160, 160)
    return float(heun(one, start, karras_sigmas(steps), draws=draws, **keywords).std()) / 0.3 - 1  # type: ignore[arg-type]


def test_stochastic_heun_at_churn_80_converges_to_the_same_distribution() -> None:
    # Standard error 0.0022. The noise of 1.003 is not a detail of rounding: it adds its 0.3 %.
    found = [excess_spread(steps, churn=80.0) for steps in (32, 64, 128, 256)]
    assert found[0] > 2 * found[1] > 3 * found[2] and abs(found[3]) < 0.008, found
    assert abs(excess_spread(128)) < 0.006
    assert excess_spread(256, churn=80.0, churn_noise=1.003) - found[3] == pytest.approx(0.003, abs=0.0015)
    assert excess_spread(256, churn=80.0, churn_noise=1.05) > 0.03


# -- churn -------------------------------------------------------------------------------------------------------------


def test_the_papers_churn_is_saturated() -> None:
    levels = karras_sigmas(PAPER.steps, rho=PAPER.rho)[:-1].tolist()
    raised = [churn_factor(PAPER.churn, PAPER.steps, sigma, PAPER.churn_min, PAPER.churn_max) for sigma in levels]
    inside = [0.05 <= sigma <= 50 for sigma in levels]
    assert raised == [math.sqrt(2) - 1 if within else 0.0 for within in inside] and 0 < sum(inside) < 32
    assert churn_factor(10.0, 32, 1.0) == 10 / 32 < math.sqrt(2) - 1
    start = 80 * noise(4)
    ends = [stochastic(exact, start, karras_sigmas(32), churn=churn) for churn in (80.0, 13.3, 13.0)]
    assert torch.equal(ends[0], ends[1]) and not torch.equal(ends[0], ends[2])


def test_fresh_noise_has_the_variance_that_raises_the_level() -> None:
    # A denoiser that returns its input has slope 0, so the images keep what was added and nothing else.
    levels = torch.tensor([2.0, 1.0, 0.5])
    start = torch.zeros(2000, 1, 2, 2)
    end = heun(lambda x, sigma: x, start, levels, churn=0.5, churn_min=1.5, churn_noise=1.1, draws=Draws(range(2000)))
    wanted = 1.1 * 2.0 * math.sqrt(1.25**2 - 1)  # gamma 0.25 at the level 2 alone
    assert float(end.std()) == pytest.approx(wanted, rel=0.03)


def test_churn_of_zero_needs_no_draws_and_is_deterministic_heun() -> None:
    start = 80 * noise(5)
    plain = heun(exact, start, karras_sigmas(12))
    assert torch.equal(plain, heun(exact, start, karras_sigmas(12), churn=0.0, churn_noise=1.003, draws=Draws(range(5))))
    assert torch.equal(plain, heun(exact, start, karras_sigmas(12), churn=9.0, churn_min=90.0, draws=Draws(range(5))))


def test_churn_without_fitting_draws_is_refused() -> None:
    for draws in (None, Draws([1, 2])):
        with pytest.raises(InputError, match="draws for 3 samples"):
            heun(exact, noise(3), karras_sigmas(4), churn=1.0, draws=draws)
    with pytest.raises(InputError, match="churn"):
        heun(exact, noise(3), karras_sigmas(4), churn=-1.0)


# -- draws: a tile does not depend on its batch ------------------------------------------------------------------------


class SharedDraws(Draws):
    """The deliberately broken variant: one generator for the whole batch."""

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(len(self), *shape, generator=self._generators[0])


def ignores_batch_mates(kind: type[Draws]) -> bool:
    def tiles(seeds: Sequence[int]) -> Tensor:
        draws = kind(seeds)
        return heun(exact, 80 * draws.normal(1, 1, 2), karras_sigmas(16), **CHURN, draws=draws)  # type: ignore[arg-type]

    whole = tiles([7, 8, 9, 7, 2**64 - 1])
    parts = torch.cat([tiles([7]), tiles([8, 9]), tiles([7, 2**64 - 1])])
    return torch.allclose(whole, parts, atol=1e-6) and not torch.allclose(whole[0], whole[1], atol=1e-3)


def test_a_tile_is_the_same_in_any_batch() -> None:
    assert ignores_batch_mates(Draws)
    assert not ignores_batch_mates(SharedDraws)


def test_draws_of_a_row_are_bitwise_its_own_and_go_on() -> None:
    draws, alone = Draws([3, 5, 3]), Draws([5])
    for shape in ((3, 8, 8), (4,), ()):
        drawn = draws.normal(*shape)
        assert drawn.shape == (3, *shape) and drawn.dtype == torch.float32
        assert torch.equal(drawn[1:2], alone.normal(*shape)) and torch.equal(drawn[0], drawn[2])
    assert not torch.equal(Draws([5]).normal(4), alone.normal(4))
    assert float(Draws(range(200)).normal(100).std()) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("seeds", [[], [-1], [2**64]])
def test_seeds_outside_their_range_are_refused(seeds: list[int]) -> None:
    with pytest.raises(InputError, match="seeds"):
        Draws(seeds)


# -- what holds for each sampler ---------------------------------------------------------------------------------------


class Counted:
    """A denoiser that counts its calls and notes their levels."""

    def __init__(self, denoise: Denoise = exact) -> None:
        self.denoise, self.levels = denoise, []  # type: ignore[var-annotated]

    def __call__(self, images: Tensor, sigma: Tensor) -> Tensor:
        assert sigma.shape == (len(images),) and sigma.dtype == torch.float64 and float(sigma.min()) > 0
        self.levels.append(float(sigma[0]))
        return self.denoise(images, sigma)


@pytest.mark.parametrize("steps", [1, 2, 9, 32])
def test_evaluations_are_the_calls_counted(steps: int) -> None:
    for method, sampler in (*SAMPLERS.items(), ("heun", stochastic)):
        denoise = Counted()
        sampler(denoise, 80 * noise(2), karras_sigmas(steps))
        assert len(denoise.levels) == evaluations(method, steps), method  # type: ignore[arg-type]
    assert evaluations("heun", 32) == 63


def test_evaluations_refuse_what_they_do_not_know() -> None:
    with pytest.raises(InputError, match="one of heun, dpm2m, euler"):
        evaluations("ddpm", 3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="at least 1"):
        evaluations("heun", 0)


@pytest.mark.parametrize("method", METHODS)
def test_guidance_in_an_interval_costs_only_there(method: str) -> None:
    conditional, null = Counted(), Counted(lambda images, sigma: torch.zeros_like(images))
    SAMPLERS[method](guided(conditional, null, 2.0, (0.3, 5.0)), 80 * noise(2), karras_sigmas(18))
    assert len(conditional.levels) == evaluations(method, 18)  # type: ignore[arg-type]
    assert null.levels == [sigma for sigma in conditional.levels if 0.3 < sigma <= 5.0] and null.levels


@pytest.mark.parametrize("sampler", [*SAMPLERS.values(), stochastic], ids=[*METHODS, "stochastic"])
def test_one_step_is_the_first_estimate_and_precision_and_gradients_are_left_alone(sampler: Sampler) -> None:
    start = (80 * noise(3)).requires_grad_(True)
    end = sampler(exact, start, karras_sigmas(1))
    assert end.dtype == torch.float32 and not end.requires_grad
    assert torch.allclose(end, exact(start.detach(), torch.full((3,), 80.0)), atol=1e-4)
    assert sampler(exact, start.detach().double(), karras_sigmas(3)).dtype == torch.float64


@pytest.mark.parametrize("sampler", [*SAMPLERS.values(), stochastic], ids=[*METHODS, "stochastic"])
def test_a_denoiser_that_knows_the_answer_gives_it_exactly(sampler: Sampler) -> None:
    answer = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    end = sampler(lambda images, sigma: answer, 80 * noise(3, 3, 8, 8), karras_sigmas(8))
    assert torch.allclose(end, answer, atol=1e-5)


def test_float32_images_lose_nothing_that_shows() -> None:
    start = 80 * noise(64)
    for sampler in SAMPLERS.values():
        narrow, wide = (sampler(exact, images, karras_sigmas(32)) for images in (start, start.double()))
        assert float((narrow - wide).abs().median()) < 1e-5 and float((narrow - wide).abs().max()) < 2e-3  # 1/255 is 8e-3


def test_all_is_computed_where_the_images_are() -> None:
    start = torch.empty(2, 3, 8, 8, device="meta")
    for sampler in SAMPLERS.values():
        assert sampler(lambda images, sigma: images * sigma.view(-1, 1, 1, 1), start, karras_sigmas(3)).device.type == "meta"


# -- distillation ------------------------------------------------------------------------------------------------------


def lands(target: Callable[..., Tensor], substeps: int) -> bool:
    """One Euler step with the target, against the teacher's sampler over the same levels, for samples at several levels."""
    pairs = [(80.0, 20.0), (20.0, 1.0), (1.0, 0.2), (0.2, 0.0), (5.0, 0.0)]
    high, low = torch.tensor(pairs, dtype=torch.float64).unbind(dim=1)
    noisy = true_samples(len(pairs), 0).view(-1, 1, 1, 2) + high.view(-1, 1, 1, 1) * noise(len(pairs), dtype=torch.float64)
    clean = target(exact, noisy, high, low, substeps=substeps)
    landed = euler_step(noisy, clean, (low / high).view(-1, 1, 1, 1))
    close = []
    for row, (start, end) in enumerate(pairs):
        share = torch.arange(substeps + 1, dtype=torch.float64) / substeps
        levels = ((1 - share) * start ** (1 / 7) + share * end ** (1 / 7)) ** 7
        levels[-1] = end
        taught = heun(exact, noisy[row : row + 1], levels)
        close.append(torch.allclose(landed[row : row + 1], taught, rtol=1e-9, atol=1e-9))
    return all(close)


def target_of_the_last_estimate(
    teacher: Denoise, noisy: Tensor, sigma_from: Tensor, sigma_to: Tensor, substeps: int
) -> Tensor:
    """The deliberately broken variant: where the teacher lands is taken for the clean image."""
    clean = step_target(teacher, noisy, sigma_from, sigma_to, substeps)
    return euler_step(noisy, clean, (sigma_to / sigma_from).view(-1, 1, 1, 1))


@pytest.mark.parametrize("substeps", [1, 2, 5])
def test_one_euler_step_with_the_target_lands_where_the_teacher_lands(substeps: int) -> None:
    assert lands(step_target, substeps)
    assert not lands(target_of_the_last_estimate, substeps)


def test_a_perfect_student_samples_as_its_teacher_does() -> None:
    # Student's levels are every second one of the teacher's, but for the last step.
    teacher_levels = karras_sigmas(17)[:-1]
    start = 80 * noise(32, dtype=torch.float64)
    x = start
    for high, low in pairwise(teacher_levels[::2].tolist()):
        high_, low_ = (torch.full((32,), level, dtype=torch.float64) for level in (high, low))
        x = euler_step(x, step_target(exact, x, high_, low_), low / high)
    assert torch.allclose(x, heun(exact, start, teacher_levels), atol=1e-8)


def test_the_target_calls_its_teacher_at_levels_above_zero_and_as_often_as_said() -> None:
    teacher = Counted()
    step_target(teacher, noise(3), torch.full((3,), 2.0), torch.tensor([1.0, 0.5, 0.0]), substeps=3)
    assert len(teacher.levels) == 6
    assert not step_target(exact, noise(2).requires_grad_(True), torch.ones(2), torch.zeros(2)).requires_grad


def test_the_target_in_float32_keeps_its_digits() -> None:
    high, low = karras_sigmas(9)[:-1].repeat_interleave(50), karras_sigmas(9)[1:].repeat_interleave(50)
    noisy = true_samples(len(high), 0).view(-1, 1, 1, 2) + high.view(-1, 1, 1, 1) * noise(len(high), dtype=torch.float64)
    wide, narrow = step_target(exact, noisy, high, low), step_target(exact, noisy.float(), high, low)
    assert float((wide - narrow).abs().max()) < 1e-3 and float((wide - narrow).abs().median()) < 1e-6


@pytest.mark.parametrize(("high", "low"), [([1.0, 1.0], [0.5, 1.0]), ([1.0, 1.0], [0.5, -0.1]), ([1.0], [0.5])])
def test_the_target_refuses_levels_that_do_not_decrease(high: list[float], low: list[float]) -> None:
    with pytest.raises(InputError, match="distillation"):
        step_target(exact, noise(2), torch.tensor(high), torch.tensor(low))
    with pytest.raises(InputError, match="distillation"):
        step_target(exact, noise(2), torch.ones(2), torch.zeros(2), substeps=0)


def test_the_oracle_is_one() -> None:
    # Its denoiser is x + sigma^2 times the gradient of the log density of the noisy mixture (Tweedie).
    sigma = torch.tensor([0.02, 0.1, 0.5, 3.0], dtype=torch.float64)
    x = noise(4, dtype=torch.float64).requires_grad_(True)
    total = MODE_SDS.square() + sigma.view(-1, 1).square()
    away = (x.flatten(1).unsqueeze(1) - MEANS).square().sum(dim=2)
    density = torch.logsumexp(SHARES.log() - total.log() - away / (2 * total), dim=1).sum()
    (score,) = torch.autograd.grad(density, x)
    assert torch.allclose(exact(x, sigma), x + sigma.view(-1, 1, 1, 1).square() * score, atol=1e-10)
