"""RNA-CDM: a cascade of diffusion models that makes tiles from a profile's latent, several tissues in one model.

Source: RNA-CDM, preprint of Nature Biomedical Engineering 2024 (Methods); Karras et al., NeurIPS 2022 (EDM).

    cdm-base         noise -> small tile, told the latent of the profile              (the paper's 64-px stage)
    cdm-sr           small tile -> large tile, told the latent as well                (the paper's 64 -> 256-px stage)
    cdm-label        as cdm-base, told the tissue's name alone                        (control: what the label gives)
    cdm-distilled    a student of cdm-base that needs a few steps                     (ours: Salimans and Ho 2022, one stage)

Stages are trained, resumed and kept apart; `diffusion.Cascade` joins a base stage and a super-resolution stage.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from rnasynth.config import Config, check_preset
from rnasynth.data.cohort import Cohort
from rnasynth.engine import Noise, adam, register
from rnasynth.errors import InputError
from rnasynth.nets.augment import cropped, flip, transpose
from rnasynth.nets.edm import EDM, LinearDDPM, Parametrisation, denoise, diffusion_loss, weighted_error
from rnasynth.nets.lowres import corrupt_low, lower, raise_low
from rnasynth.nets.samplers import karras_sigmas, step_target
from rnasynth.nets.unet import UNet
from rnasynth.systems import cdm_config
from rnasynth.systems.cdm_config import CDMConfig, DistilledConfig, Sampling
from rnasynth.systems.diffusion import DiffusionGenerator, denoiser
from rnasynth.systems.tile_system import TileSystem

KEY = "unet"


class DiffusionSystem(TileSystem):
    """What the stages share; a subclass says what it is told and which presets it has."""

    Config: ClassVar[type[Config]] = CDMConfig
    step_version: ClassVar[int] = 1
    presets: ClassVar[dict[str, Any]] = {
        "demo": cdm_config.demo_base,
        "gpu": cdm_config.gpu_base,
        "paper": cdm_config.paper_base,
    }
    settings: CDMConfig

    def __init__(self, config: CDMConfig, facts: dict[str, Any]) -> None:
        """Build the network for `facts` (see `tile_system.facts_of`)."""
        super().__init__(config, facts)
        self.networks[KEY] = unet(config, self.condition_dim)
        self.ema = {KEY: config.ema_decay} if config.ema_decay > 0 else {}
        self.parametrisation = parametrisation(config)

    # ------------------------------------------------------------------ one step
    def loss(self, phase: str, batch: dict[str, Tensor], noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted squared error of one noise level a tile (Karras et al. 2022, eq. 8; the paper's eq. 4)."""
        config, clean = self.settings, batch["tile"]
        if config.flips:
            clean = transpose(flip(clean, noise.uniform(0.0, 1.0, 2)), noise.uniform(0.0, 1.0))
        sigma = self.parametrisation.draw(noise.uniform(0.0, 1.0))
        more: dict[str, Tensor] = {}
        if config.condition_dropout and self.condition_dim:
            more["keep"] = noise.uniform(0.0, 1.0) >= config.condition_dropout
        if config.low_px:
            level = noise.uniform(0.0, config.low_level_max)
            small = lower(clean, config.tile_px // config.low_px)
            low = self.prepared(small, level, noise.normal(3, config.tile_px, config.tile_px))
            clean = clean - self.ground(small)
            if config.crop_px:
                place = noise.integers(0, (config.tile_px - config.crop_px) // config.patch + 1, 2) * config.patch
                clean, low = cropped(clean, place, config.crop_px), cropped(low, place, config.crop_px)
            more |= {"low": low, "low_level": level}
        network, drawn = self.networks[KEY], noise.normal(*clean.shape[1:])
        condition = batch["condition"]
        if config.condition_noise and self.uses == "latent":
            condition = condition + config.condition_noise * noise.normal(condition.shape[1])
        error = diffusion_loss(network, self.parametrisation, clean, sigma, drawn, condition, **more)
        return error.mean(), {}

    def prepared(self, low: Tensor, level: Tensor, noise: Tensor) -> Tensor:
        """Bring a low-resolution tile (B, 3, h, w) to this stage's side, blurred and noised: in training and sampling.

        Parameters
        ----------
        low : in [-1, 1].
        level : shape (B,), noise level in [0, 1), which the network is told.
        noise : shape (B, 3, px, px), N(0, 1).
        """
        config = self.settings
        blur = config.low_blur * config.tile_px / config.low_px
        return corrupt_low(raise_low(low, config.tile_px), level, noise, blur_sigma=blur)

    def ground(self, low: Tensor) -> Tensor:
        """Return what is added to what a super-resolution stage makes: the enlarged small tile, or zeros."""
        raised = raise_low(low, self.settings.tile_px)
        return raised if self.settings.residual else torch.zeros_like(raised)

    def optimizer(self, key: str) -> torch.optim.Optimizer:
        """Return Adam."""
        return adam(self.networks[key], self.settings.lr)

    def schedule(self, key: str, step: int) -> float:
        """Return a linear rise over `warmup_share` of the steps, and a linear fall to 0 over the last `lr_decay`."""
        done, config = step / max(1, self.total_steps), self.settings
        rise = 1.0 if config.warmup_share == 0 else min(1.0, (done + 1 / max(1, self.total_steps)) / config.warmup_share)
        fall = 1.0 if config.lr_decay == 0 else min(1.0, (1.0 - done) / config.lr_decay)
        return min(rise, fall)

    # ------------------------------------------------------------------ what runs asks for
    @classmethod
    def preset(cls, name: str) -> Any:
        """Return the configuration of a preset."""
        return cls.presets[check_preset(name)]()

    @classmethod
    def upstream_preset(cls, preset: str) -> str:
        """Return the beta-VAE's preset: in `paper` RNA-CDM's own, not RNA-GAN's; in `demo` the one of 32 dimensions."""
        return {"paper": "paper-rna-cdm", "demo": "demo-wide"}.get(preset, preset)

    @classmethod
    def from_run(cls, run: Any) -> DiffusionGenerator:
        """Return the trained stage of a finished run, with its upstream encoder."""
        system = cls(run.config, run.fitted)
        system.networks[KEY].load_state_dict(run.networks()[KEY])
        system.requires_grad_(False).eval()
        upstream = run.upstream()[0] if cls.uses == "latent" else None
        encoder, name = (None, "") if upstream is None else (upstream.load(), upstream.id)
        return DiffusionGenerator(system, encoder=encoder, run_id=run.id, encoder_id=name)


@register
class BaseStage(DiffusionSystem):
    """Noise to small tile, told the profile's latent."""

    name: ClassVar[str] = "cdm-base"
    upstream: ClassVar[tuple[str, ...]] = ("beta-vae",)
    uses = "latent"


@register
class SuperResolutionStage(DiffusionSystem):
    """Small tile to large tile, told the profile's latent."""

    name: ClassVar[str] = "cdm-sr"
    upstream: ClassVar[tuple[str, ...]] = ("beta-vae",)
    uses = "latent"
    presets: ClassVar[dict[str, Any]] = {
        "demo": cdm_config.demo_sr,
        "gpu": cdm_config.gpu_sr,
        "paper": cdm_config.paper_sr,
    }

    def __init__(self, config: CDMConfig, facts: dict[str, Any]) -> None:
        if not config.low_px:
            raise InputError("cdm-sr", expected="low_px above 0", found="0", fix="give the base stage's tile_px")
        super().__init__(config, facts)


@register
class LabelStage(DiffusionSystem):
    """Noise to small tile, told the tissue alone."""

    name: ClassVar[str] = "cdm-label"
    uses = "tissue"


@register
class DistilledStage(DiffusionSystem):
    """A student of a base stage: one of its Euler steps lands where several of the teacher's Heun steps land.

    Source: Salimans and Ho, ICLR 2022 (progressive distillation), here in one stage from the teacher itself. The
    teacher's guidance is learnt with it, so that guidance costs the student nothing.
    """

    name: ClassVar[str] = "cdm-distilled"
    Config: ClassVar[type[Config]] = DistilledConfig
    upstream: ClassVar[tuple[str, ...]] = ("cdm-base",)
    uses = "latent"
    presets: ClassVar[dict[str, Any]] = {
        name: lambda name=name: cdm_config.distilled(name) for name in ("demo", "gpu", "paper")
    }

    def __init__(self, config: DistilledConfig, facts: dict[str, Any], teacher: CDMConfig) -> None:
        super().__init__(teacher, facts)
        self.student = config
        self.ema = {KEY: config.ema_decay} if config.ema_decay > 0 else {}
        self._teacher: list[UNet] = []  # in a list: it is neither trained nor saved with the student

    @classmethod
    def upstream_preset(cls, preset: str) -> str:
        """Return the preset of the base stage: the same."""
        return preset

    @classmethod
    def from_cohort(cls, config: Any, cohort: Cohort, upstream: tuple[Any, ...] = ()) -> DistilledStage:
        """Build from the run of a base stage, whose weights the student starts from.

        Raises
        ------
        InputError : not one upstream run of a base stage.
        """
        if len(upstream) != 1 or upstream[0].system_name != BaseStage.name:
            raise InputError(
                "system cdm-distilled", expected="one upstream run of cdm-base", found="another", fix="train it"
            )
        base = upstream[0].load()
        system = cls(config, base.system.facts, base.system.settings)
        weights = base.system.networks[KEY].state_dict()
        system.networks[KEY].load_state_dict(weights)
        system._teacher = [base.system.networks[KEY].requires_grad_(False).eval()]
        system.conditions = base.conditions(cohort.profiles)[0]
        return system

    @property
    def sampling(self) -> Sampling:
        """The only sampler that the student was trained for."""
        config = self.student
        return Sampling(
            method="euler", steps=config.steps, rho=config.rho, sigma_min=config.sigma_min, sigma_max=config.sigma_max
        )

    def loss(self, phase: str, batch: dict[str, Tensor], noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted squared error to where the teacher lands, at one of the student's noise levels a tile."""
        config, clean, condition = self.student, batch["tile"], batch["condition"]
        if self.settings.flips:
            clean = transpose(flip(clean, noise.uniform(0.0, 1.0, 2)), noise.uniform(0.0, 1.0))
        levels = karras_sigmas(config.steps, config.sigma_min, config.sigma_max, config.rho).to(clean.device)
        chosen = noise.integers(0, config.steps)
        high, low = levels[chosen], levels[chosen + 1]
        noisy = clean + high.to(clean.dtype).view(-1, 1, 1, 1) * noise.normal(*clean.shape[1:])
        teacher = self._teacher[0].to(clean.device)
        with torch.no_grad():
            estimate = denoiser(teacher, self.parametrisation, condition, weight=config.guidance)
            target = step_target(estimate, noisy, high, low, config.substeps, config.rho)
        said = denoise(self.networks[KEY], self.parametrisation, noisy, high, condition)
        return weighted_error(self.parametrisation, said, target, high).mean(), {}

    def optimizer(self, key: str) -> torch.optim.Optimizer:
        """Return Adam."""
        return adam(self.networks[key], self.student.lr)

    def schedule(self, key: str, step: int) -> float:
        """Return a linear fall to 0."""
        return 1.0 - step / max(1, self.total_steps)

    @classmethod
    def from_run(cls, run: Any) -> DiffusionGenerator:
        """Return the trained student with the encoder of its teacher."""
        base = run.upstream()[0]
        system = cls(run.config, run.fitted, base.config)
        system.networks[KEY].load_state_dict(run.networks()[KEY])
        system.requires_grad_(False).eval()
        encoder = base.upstream()[0]
        return DiffusionGenerator(
            system,
            encoder=encoder.load(),
            run_id=run.id,
            encoder_id=encoder.id,
            sampling=system.sampling,
            fixed_sampling=True,
        )


def unet(config: CDMConfig, condition_dim: int) -> UNet:
    """Return a stage's network, untrained."""
    return UNet(
        width=config.width,
        multipliers=config.multipliers,
        blocks=config.blocks,
        self_attention=config.self_attention,
        cross_attention=config.cross_attention,
        condition_dim=condition_dim,
        tokens=config.tokens,
        paths=config.paths,
        injection=config.injection,
        low_resolution=config.low_px > 0,
        checkpointing=config.checkpointing,
        patch=config.patch,
    )


def parameters(config: CDMConfig, condition_dim: int) -> int:
    """Return the number of parameters of a stage, without making them."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in unet(config, condition_dim).parameters())


def parametrisation(config: CDMConfig) -> Parametrisation:
    """Return a stage's diffusion."""
    if config.parametrisation == "ddpm":
        return LinearDDPM()
    return EDM(sigma_data=config.sigma_data, mean=config.sigma_mean, std=config.sigma_std)
