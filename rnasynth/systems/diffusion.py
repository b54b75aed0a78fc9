"""Tiles from trained diffusion stages: one stage by itself, or a base stage and a super-resolution stage as a cascade.

Every tile has its own noise, keyed by (seed, sample id, tile number) and by the stage, so it is the same tile in whatever
batch it is made; memory holds one batch of the larger stage, however many tiles are made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from rnasynth.config import canonical_json
from rnasynth.engine import mixed_seed, resolve_precision
from rnasynth.errors import InputError
from rnasynth.nets.edm import Denoise, Parametrisation, denoise, guided
from rnasynth.nets.samplers import Draws, dpm_solver_2m, euler, evaluations, heun, karras_sigmas
from rnasynth.runs import load_run
from rnasynth.systems.cdm_config import CDMConfig, Sampling
from rnasynth.systems.generation import Encoder, TileGenerator

if TYPE_CHECKING:
    from rnasynth.systems.cdm import DiffusionSystem


TOLD = ("latent_dim", "latent_mean", "latent_spread")  # facts in which the stages of a cascade agree


class DiffusionGenerator(TileGenerator):
    """One trained stage; a super-resolution stage makes tiles only as part of a `Cascade`.

    Parameters
    ----------
    system, encoder, run_id, encoder_id : as of `TileGenerator`.
    sampling : how tiles are drawn; by default `usual_sampling`.
    fixed_sampling : the stage was distilled for this sampler and has no other.
    """

    system: DiffusionSystem

    def __init__(
        self,
        system: DiffusionSystem,
        *,
        encoder: Encoder | None = None,
        run_id: str = "",
        encoder_id: str = "",
        sampling: Sampling | None = None,
        fixed_sampling: bool = False,
    ) -> None:
        super().__init__(system, encoder=encoder, run_id=run_id, encoder_id=encoder_id)
        self.sampling = sampling or usual_sampling(system.settings, system.parametrisation)
        self.fixed_sampling = fixed_sampling
        if self.sampling.guidance != 1 and not system.settings.condition_dropout:
            raise InputError(
                f"guidance {self.sampling.guidance:g} of run {run_id}",
                expected="a stage that was trained without its profile at times",
                found="condition_dropout 0",
                fix="train it with condition_dropout above 0, or draw with guidance=1",
            )

    @property
    def low_px(self) -> int:
        """Side of the tile that this stage starts from; 0 for a base stage."""
        return int(self.system.settings.low_px)

    @property
    def evaluations(self) -> int:
        """Evaluations of the network for one tile, at most: guidance doubles those in its interval."""
        factor = 1 if self.sampling.guidance == 1 else 2
        return factor * evaluations(self.sampling.method, self.sampling.steps)

    @property
    def drawing(self) -> str:
        """The sampling as canonical JSON."""
        return canonical_json(self.sampling.to_dict())

    def with_sampling(self, sampling: Sampling | None = None, **changes: Any) -> DiffusionGenerator:
        """Return a generator of the same weights that draws otherwise, e.g. `with_sampling(guidance=2.0)`.

        Raises
        ------
        InputError : a distilled stage, which knows one sampler only (precision may be changed).
        """
        wanted = replace(sampling or self.sampling, **changes)
        if self.fixed_sampling and replace(wanted, precision=self.sampling.precision) != self.sampling:
            raise InputError(
                f"run {self.run_id}", expected=f"its own sampler, {self.sampling}", found=str(wanted), fix="use cdm-base"
            )
        return DiffusionGenerator(
            self.system,
            encoder=self.encoder,
            run_id=self.run_id,
            encoder_id=self.encoder_id,
            sampling=wanted,
            fixed_sampling=self.fixed_sampling,
        )

    def tiles(self, condition: Tensor, generators: list[torch.Generator]) -> Tensor:
        """Make one tile for each row: condition (B, c), a generator of its own each -> (B, 3, px, px) in [-1, 1].

        Raises
        ------
        InputError : a super-resolution stage by itself.
        """
        if self.low_px:
            raise InputError(
                f"run {self.run_id or self.system.name}",
                expected="a base stage with it",
                found="a super-resolution stage alone",
                fix="give both: systems.diffusion.Cascade(base, super_resolution), or --base RUN",
            )
        return self.draw(condition, [generator.initial_seed() for generator in generators])

    def draw(self, condition: Tensor, seeds: list[int], low: Tensor | None = None) -> Tensor:
        """Draw tiles (B, 3, px, px) in [-1, 1] from conditions (B, c), a seed each, and small tiles (B, 3, h, w)."""
        config, sampling = self.system.settings, self.sampling
        network = self.system.best("unet")
        device = next(network.parameters()).device
        condition = condition.to(device)
        draws = Draws(seeds, device=device)
        more: dict[str, Tensor] = {}
        if low is not None:
            level = torch.full((len(condition),), sampling.low_level, device=device)
            more["low_level"] = level
            more["low"] = self.system.prepared(low.to(device), level, draws.normal(3, config.tile_px, config.tile_px))
        estimate = denoiser(
            network, self.system.parametrisation, condition, weight=sampling.guidance, interval=sampling.guided, **more
        )
        sigmas = karras_sigmas(sampling.steps, sampling.sigma_min, sampling.sigma_max, sampling.rho)
        start = draws.normal(3, config.tile_px, config.tile_px) * sampling.sigma_max
        precision = resolve_precision(sampling.precision, device)
        narrow = torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
        with _cast_once(network), torch.no_grad(), narrow:  # in inference mode autocast keeps no copies
            if sampling.method == "heun":
                made = heun(
                    estimate,
                    start,
                    sigmas,
                    churn=sampling.churn,
                    churn_min=sampling.churn_min,
                    churn_max=sampling.churn_max,
                    churn_noise=sampling.churn_noise,
                    draws=draws,
                )
            else:
                made = (dpm_solver_2m if sampling.method == "dpm2m" else euler)(estimate, start, sigmas)
        made = made.float() if low is None else made.float() + self.system.ground(low.to(device))
        return made.clamp(-1.0, 1.0)


@contextmanager
def _cast_once(network: nn.Module) -> Iterator[None]:
    """Let autocast keep its narrow copies of the weights over all evaluations: it does so for weights that learn alone."""
    frozen = [weight for weight in network.parameters() if not weight.requires_grad]
    try:
        for weight in frozen:
            weight.requires_grad_(True)
        yield
    finally:
        for weight in frozen:
            weight.requires_grad_(False)


def usual_sampling(config: CDMConfig, parametrisation: Parametrisation) -> Sampling:
    """Return ten steps of Euler over the noise levels that the stage knows: EDM's brought to the spread of what it makes."""
    if config.parametrisation == "ddpm":
        return Sampling(sigma_min=parametrisation.sigma_min, sigma_max=parametrisation.sigma_max)
    scale = config.sigma_data / CDMConfig.sigma_data
    own = Sampling()
    levels = {name: getattr(own, name) * scale for name in ("sigma_min", "sigma_max", "churn_min", "churn_max")}
    return replace(own, **levels)


def denoiser(
    network: nn.Module,
    parametrisation: Parametrisation,
    condition: Tensor,
    *,
    weight: float = 1.0,
    interval: tuple[float, float] | None = None,
    **more: Tensor,
) -> Denoise:
    """Return (noisy, sigma) -> clean estimate for conditions (B, c), with classifier-free guidance where `weight` is not 1.

    Parameters
    ----------
    network : called as (images, level, condition, keep=, **more); rows with `keep` False get the null condition.
    weight, interval : of the guidance, as of `nets.edm.guided`.
    more : low and low_level of a super-resolution stage.
    """

    def kept(keep: bool) -> Denoise:
        rows = torch.full((len(condition),), keep, device=condition.device)
        told: dict[str, Tensor] = more if keep else {**more, "keep": rows}
        return lambda noisy, sigma: denoise(network, parametrisation, noisy, sigma, condition, **told)

    return kept(True) if weight == 1 else guided(kept(True), kept(False), weight, interval)


def open_generator(run: str, *, base: str | None = None, sampling: Sequence[str] = ()) -> TileGenerator:
    """Return the generator of a run, joined with a base stage where it is a super-resolution stage.

    Parameters
    ----------
    run, base : folders or names of runs, as of `runs.load_run`.
    sampling : texts "field=value" that change how a diffusion model draws, all stages alike.

    Raises
    ------
    RunError : a run that is not there, not finished or damaged.
    InputError : a run that makes no tiles, stages that do not fit, or sampling of a model that is not a diffusion.
    """
    stages = [load_run(name).load() for name in (base, run) if name is not None]
    for name, stage in zip((base, run) if base is not None else (run,), stages, strict=True):
        if not isinstance(stage, TileGenerator):
            raise InputError(f"run {name}", expected="a system that makes tiles", found=type(stage).__name__)
        if (sampling or base is not None) and not isinstance(stage, DiffusionGenerator):
            raise InputError(f"run {name}", expected="a stage of the diffusion cascade", found=stage.system.name)
    if sampling:
        stages = [stage.with_sampling(stage.sampling.with_overrides(list(sampling))) for stage in stages]
    return (stages[0] if base is None else Cascade(*stages)).to("auto")


class Cascade(TileGenerator):
    """A base stage and a super-resolution stage of the same encoder, as one generator of large tiles.

    Parameters
    ----------
    base : makes the small tiles; a distilled stage may be one.
    super_resolution : makes the large tiles from them.

    Raises
    ------
    InputError : stages that do not fit: side, field of a tile, or what they were told of a sample.
    """

    def __init__(self, base: DiffusionGenerator, super_resolution: DiffusionGenerator) -> None:
        upper = super_resolution
        facts: dict[str, tuple[Any, Any]] = {
            "side of the small tile (px)": (base.px, upper.low_px),
            "side of a tile (um)": (base.system.facts["tile_um"], upper.system.facts["tile_um"]),
            "what they are told": (base.system.uses, upper.system.uses),
            "the run of their encoder": (base.encoder_id, upper.encoder_id),
            **{f"{name} (beta-VAE)": (base.system.facts[name], upper.system.facts[name]) for name in TOLD},
        }
        for what, (mine, wanted) in facts.items():
            if mine != wanted:
                raise InputError(
                    f"cascade of {base.run_id or 'base'} and {upper.run_id or 'super-resolution'}",
                    expected=f"stages that agree in {what}: {str(wanted)[:60]}",
                    found=str(mine)[:60],
                    fix="give stages that were trained on one cohort with one beta-VAE",
                )
        super().__init__(
            upper.system, encoder=upper.encoder, run_id=f"{base.run_id}+{upper.run_id}", encoder_id=upper.encoder_id
        )
        self.base, self.upper = base, upper

    @property
    def evaluations(self) -> tuple[int, int]:
        """Evaluations of each stage's network for one tile."""
        return self.base.evaluations, self.upper.evaluations

    @property
    def drawing(self) -> str:
        """The sampling of both stages."""
        return f"{self.base.drawing} {self.upper.drawing}"

    def to(self, device: str = "auto") -> Self:
        """Move both stages; see `TileGenerator.to`."""
        self.base.to(device), self.upper.to(device)
        return self

    def with_sampling(self, base: Sampling | None = None, super_resolution: Sampling | None = None) -> Cascade:
        """Return a cascade of the same weights that draws otherwise; None leaves a stage as it is."""
        return Cascade(self.base.with_sampling(base), self.upper.with_sampling(super_resolution))

    def tiles(self, condition: Tensor, generators: list[torch.Generator]) -> Tensor:
        """Make one tile for each row: condition (B, c), a generator of its own each -> (B, 3, px, px) in [-1, 1]."""
        seeds = [generator.initial_seed() for generator in generators]
        small = self.base.draw(condition, seeds)
        return self.upper.draw(condition, [mixed_seed("super-resolution", seed) for seed in seeds], low=small)
