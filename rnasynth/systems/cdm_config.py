"""Configuration, presets and sampler settings of the diffusion systems.

Source of `paper`: RNA-CDM, preprint of Nature Biomedical Engineering 2024, Methods; what it leaves open is said there.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from rnasynth.config import Config, check
from rnasynth.engine import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Sampling(Config):
    """How tiles are drawn from a trained diffusion model; not part of a run's name."""

    method: Literal["heun", "dpm2m", "euler"] = "euler"
    """Heun's second order (stochastic where `churn` is above 0), DPM-Solver++(2M), or Euler, the default (see the book's
    decisions)."""
    steps: int = 10
    """Steps; Heun evaluates the network 2 n - 1 times, the others n times."""
    rho: float = 7.0
    """Exponent of the noise levels' spacing (Karras et al. 2022, eq. 5)."""
    sigma_min: float = 0.002
    """Lowest noise level before 0."""
    sigma_max: float = 80.0
    """Highest noise level, where sampling starts."""
    churn: float = 0.0
    """Heun only: noise that is added on the way (S_churn); 0 is deterministic."""
    churn_min: float = 0.05
    """Lowest noise level at which noise is added (S_tmin)."""
    churn_max: float = 50.0
    """Highest noise level at which noise is added (S_tmax)."""
    churn_noise: float = 1.003
    """Spread of the added noise (S_noise)."""
    guidance: float = 1.0
    """Classifier-free guidance weight; 1: none. Others double the evaluations inside `guided`."""
    guided: tuple[float, float] | None = None
    """Noise levels (lowest, highest) between which guidance acts; None: all."""
    low_level: float = 0.1
    """Super-resolution only: noise level added to the low-resolution tile, in [0, 1)."""
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    """Of the network's evaluations; `auto` is bf16 where the device computes in it."""

    def __post_init__(self) -> None:
        check(self, "steps", self.steps >= 1, "at least 1")
        check(self, "rho", self.rho >= 1, "at least 1")
        check(self, "sigma_min", 0 < self.sigma_min < self.sigma_max, "more than 0 and below sigma_max")
        check(self, "churn", self.churn >= 0, "at least 0")
        check(self, "churn", self.churn == 0 or self.method == "heun", "0 unless the method is heun")
        check(self, "churn_noise", self.churn_noise > 0, "more than 0")
        check(self, "guidance", self.guidance >= 0, "at least 0")
        check(self, "low_level", 0 <= self.low_level < 1, "in [0, 1)")
        pair = self.guided
        check(self, "guided", pair is None or (len(pair) == 2 and 0 <= pair[0] < pair[1]), "two rising noise levels")


PAPER_SAMPLING = Sampling(method="heun", steps=32, churn=80.0)
"""RNA-CDM, Methods: rho 7, S_churn 80, S_tmin 0.05, S_tmax 50, S_noise 1.003, 32 steps: 63 evaluations a stage."""


@dataclass(frozen=True, kw_only=True)
class CDMConfig(Config):
    """One stage of the cascade: its U-Net, its diffusion, its data."""

    tile_px: int = 32
    """Side of the tiles that this stage makes; the store's tiles are averaged down to it."""
    low_px: int = 0
    """Side of the tiles that it starts from (super-resolution), or 0 (base stage)."""
    tiles_per_patient: int = 24
    """At most this many tiles of a sample are used, chosen with the training seed."""
    standardise: Literal["none", "scale", "each"] = "scale"
    """Of latents, by the training patients: see `GANConfig.standardise`; "none" as published."""
    same_stain: bool = False
    """Bring the tiles of every sample to one stain first; off as published."""
    flips: bool = True
    """Mirror and turn tiles at random (the eight symmetries of a square): tissue has no upside."""
    patch: int = 1
    """Side of the squares of pixels that the network sees as one, its channels side by side; 1 as published."""
    width: int = 64
    """Channels at the highest resolution."""
    multipliers: tuple[int, ...] = (1, 2, 3, 4)
    """Channels of each level over `width`; each further level halves the side."""
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    """Residual blocks of each level."""
    self_attention: tuple[bool, ...] = (False, False, True, True)
    """Levels with self-attention."""
    cross_attention: tuple[bool, ...] = (False, False, True, True)
    """Levels with attention to the profile's tokens."""
    tokens: int = 4
    """Tokens made from the profile."""
    paths: Literal["both", "scale-shift", "attention"] = "both"
    """How the profile enters: by scale and shift of the residual blocks, by attention, or by both."""
    injection: Literal["every", "once"] = "every"
    """Whether the profile enters every block or the first alone."""
    checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, a third more time."""
    parametrisation: Literal["edm", "ddpm"] = "edm"
    """EDM (Karras et al. 2022), or noise prediction over 1,000 linear steps, which the paper mentions as well."""
    sigma_data: float = 0.5
    """EDM: spread of the data."""
    sigma_mean: float = -1.2
    """EDM: mean of the natural log of the training noise level."""
    sigma_std: float = 1.2
    """EDM: its standard deviation."""
    condition_dropout: float = 0.1
    """Share of samples trained without their condition, for classifier-free guidance."""
    condition_noise: float = 0.0
    """Standard deviation of normal noise on the standardised latent in training, so that near profiles are heard alike."""
    crop_px: int = 0
    """Super-resolution: side of the random crops that training sees, as the network looks near around it; 0: whole tiles."""
    residual: bool = False
    """Super-resolution: diffusion makes what the enlarged small tile lacks; `sigma_data` is then the spread of that."""
    low_blur: float = 0.6
    """Super-resolution: blur of the low-resolution tile, standard deviation in its own pixels."""
    low_level_max: float = 0.5
    """Super-resolution: training draws the noise level of the low-resolution tile from [0, this)."""
    lr: float = 1e-3
    """Adam's learning rate."""
    warmup_share: float = 0.05
    """Share of the steps over which the learning rate rises linearly; 0 as published."""
    lr_decay: float = 0.0
    """Share of the steps, at the end, over which it falls linearly to 0; 0 as published."""
    ema_decay: float = 0.999
    """Decay per step of the moving average from which tiles are made."""
    train: TrainConfig = field(default_factory=lambda: TrainConfig(steps=1000))
    """How long, batch size, seed, precision."""

    def __post_init__(self) -> None:
        levels = len(self.multipliers)
        check(self, "patch", self.patch >= 1, "at least 1")
        side = self.patch * 2 ** (levels - 1)
        check(self, "tile_px", 16 <= self.tile_px <= 1024 and self.tile_px % side == 0, f"16 to 1024, a multiple of {side}")
        divides = self.low_px == 0 or (0 < self.low_px < self.tile_px and self.tile_px % self.low_px == 0)
        check(self, "low_px", divides, "0, or a divisor of tile_px")
        factor = self.tile_px // self.low_px if self.low_px else 1
        fits = self.crop_px == 0 or (self.low_px > 0 and self.crop_px % side == self.crop_px % factor == 0)
        words = f"0, or (with low_px) a multiple of {side} and {factor}, at most tile_px"
        check(self, "crop_px", 0 <= self.crop_px <= self.tile_px and fits, words)
        check(self, "multipliers", levels >= 1 and min(self.multipliers) >= 1, "at least one level, each at least 1")
        for name in ("blocks", "self_attention", "cross_attention"):
            check(self, name, len(getattr(self, name)) == levels, f"{levels} values, one a level")
        check(self, "blocks", min(self.blocks) >= 1, "at least 1 each")
        for name in ("tiles_per_patient", "width", "tokens"):
            check(self, name, getattr(self, name) >= 1, "at least 1")
        for name in ("sigma_data", "sigma_std", "lr"):
            check(self, name, getattr(self, name) > 0, "more than 0")
        for name in ("condition_dropout", "low_level_max", "warmup_share", "ema_decay"):
            check(self, name, 0 <= getattr(self, name) < 1, "in [0, 1)")
        check(self, "lr_decay", 0 <= self.lr_decay <= 1, "in [0, 1]")
        check(self, "residual", not self.residual or self.low_px > 0, "only with low_px")
        check(self, "condition_noise", self.condition_noise >= 0, "at least 0")
        check(self, "low_blur", self.low_blur >= 0, "at least 0")


@dataclass(frozen=True, kw_only=True)
class DistilledConfig(Config):
    """A few-step student of a base stage, whose network it starts from and whose sizes it has."""

    steps: int = 8
    """Steps, and evaluations, of the student's only sampler (Euler on these noise levels)."""
    substeps: int = 2
    """Heun steps of the teacher for one step of the student."""
    guidance: float = 1.0
    """Guidance weight of the teacher, which the student takes over at no cost; 1: none."""
    rho: float = 7.0
    """Exponent of the noise levels' spacing."""
    sigma_min: float = 0.02
    """Lowest noise level before 0."""
    sigma_max: float = 80.0
    """Highest noise level."""
    lr: float = 3e-4
    """Adam's learning rate, falling linearly to 0."""
    ema_decay: float = 0.99
    """Decay per step of the moving average from which tiles are made."""
    train: TrainConfig = field(default_factory=lambda: TrainConfig(steps=1000))
    """How long, batch size, seed, precision."""

    def __post_init__(self) -> None:
        for name in ("steps", "substeps"):
            check(self, name, getattr(self, name) >= 1, "at least 1")
        for name in ("guidance", "lr"):
            check(self, name, getattr(self, name) > 0, "more than 0")
        check(self, "rho", self.rho >= 1, "at least 1")
        check(self, "sigma_min", 0 < self.sigma_min < self.sigma_max, "more than 0 and below sigma_max")
        check(self, "ema_decay", 0 <= self.ema_decay < 1, "in [0, 1)")


def demo_base() -> CDMConfig:
    """Return the base stage for 2 CPU cores: 32 px, about two minutes."""
    return CDMConfig(
        tile_px=32,
        patch=2,
        width=64,
        multipliers=(1, 2),
        blocks=(1, 1),
        self_attention=(False, True),
        cross_attention=(False, True),
        lr=2e-3,
        lr_decay=0.5,
        ema_decay=0.995,
        train=TrainConfig(
            steps=1000,
            batch_size=32,
            precision="auto",
            grad_clip=1.0,
            channels_last=True,
            checkpoint_every=0,
            log_every=10,
            validate_every=0,
        ),
    )


def demo_sr() -> CDMConfig:
    """Return the super-resolution stage for 2 CPU cores: 32 -> 64 px, about a minute."""
    base = demo_base()
    return replace(
        base,
        tile_px=64,
        low_px=32,
        crop_px=32,
        residual=True,
        sigma_data=0.1,
        sigma_mean=-2.4,
        patch=2,
        width=32,
        multipliers=(1, 2, 4),
        blocks=(1, 1, 1),
        self_attention=(False, False, False),
        cross_attention=(False, False, True),
        train=replace(base.train, steps=500),
    )


def gpu_base() -> CDMConfig:
    """Return the base stage for one GPU: 64 px, hours."""
    return CDMConfig(
        tile_px=64,
        tiles_per_patient=600,
        width=96,
        multipliers=(1, 2, 3, 4),
        blocks=(2, 2, 2, 2),
        self_attention=(False, False, True, True),
        cross_attention=(False, True, True, True),
        lr=3e-4,
        lr_decay=0.25,
        ema_decay=0.9995,
        train=TrainConfig(
            steps=50_000,
            batch_size=256,
            precision="auto",
            grad_clip=1.0,
            channels_last=True,
            compile=True,
            log_every=50,
            checkpoint_every=2_000,
            validate_every=0,
        ),
    )


def gpu_sr() -> CDMConfig:
    """Return the super-resolution stage for one GPU: 64 -> 256 px, hours."""
    base = gpu_base()
    return replace(
        base,
        tile_px=256,
        low_px=64,
        crop_px=128,
        residual=True,
        sigma_data=0.12,
        sigma_mean=-2.4,
        width=48,
        multipliers=(1, 2, 4, 8),
        blocks=(1, 2, 4, 4),
        self_attention=(False, False, False, True),
        cross_attention=(False, False, False, True),
        train=replace(base.train, batch_size=64),
    )


def paper_base() -> CDMConfig:
    """Return the published base stage: 64 px, width 256, Adam 1e-4, batch 256, 79,000 steps.

    Multipliers, blocks and levels with attention are not in the paper but in code derived from it; neither are condition
    dropout, blur and the noise of the low-resolution tile, which are as here by our choice.
    """
    return CDMConfig(
        tile_px=64,
        tiles_per_patient=4000,
        standardise="none",
        flips=False,
        width=256,
        multipliers=(1, 2, 3, 4),
        blocks=(3, 3, 3, 3),
        self_attention=(False, True, True, True),
        cross_attention=(False, True, True, True),
        lr=1e-4,
        warmup_share=0.0,
        ema_decay=0.9999,
        train=TrainConfig(
            steps=79_000,
            batch_size=256,
            precision="auto",
            channels_last=True,
            compile=True,
            log_every=50,
            checkpoint_every=1_000,
            validate_every=0,
        ),
    )


def paper_sr() -> CDMConfig:
    """Return the published super-resolution stage: 64 -> 256 px, width 128; see `paper_base`."""
    return replace(
        paper_base(),
        tile_px=256,
        low_px=64,
        width=128,
        multipliers=(1, 2, 4, 8),
        blocks=(2, 4, 8, 8),
        self_attention=(False, False, False, True),
        cross_attention=(False, False, False, True),
        checkpointing=True,
    )


def distilled(preset: str) -> DistilledConfig:
    """Return the student's configuration of a preset."""
    train = {"demo": demo_base, "gpu": gpu_base, "paper": paper_base}[preset]().train
    steps = {"demo": 150, "gpu": 10_000, "paper": 20_000}[preset]
    return DistilledConfig(train=replace(train, steps=steps))
