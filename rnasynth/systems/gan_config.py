"""Configuration and presets of the four GAN systems.

Source of `paper`: RNA-GAN, Cell Reports Methods 2023, STAR Methods.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from rnasynth.config import Config, check
from rnasynth.engine import TrainConfig


@dataclass(frozen=True, kw_only=True)
class GANConfig(Config):
    """Networks, losses and data of the four systems; the input's kind is the system's, not a field."""

    added: ClassVar[dict[str, Any]] = {
        "loss": "wasserstein",
        "augment_critic": "none",
        "ada_target": 0.6,
        "ada_images": 500_000,
    }

    tile_px: int = 32
    """Side of the tiles, 32 to 256; the store's tiles are averaged down to it."""
    tiles_per_patient: int = 24
    """At most this many tiles of a sample are used, chosen with the training seed."""
    noise_dim: int = 64
    """Length of the noise vector where the input is not a latent."""
    extra_noise: int = 0
    """Length of Gaussian noise beside the latent and its narrow noise; 0 as published. Without it a generator that sees a
    hundred profiles makes nearly one tile for each."""
    noise_range: float = 0.3
    """Half-width of the uniform noise, added to the latent or (gan-narrow) alone; paper: 0.3."""
    standardise: Literal["none", "scale", "each"] = "scale"
    """Of latents, by the training patients: "scale" subtracts the mean and divides all by one number, so that a latent
    that says little stays small beside the noise; "each" divides every latent by its own spread; "none" as published."""
    width_generator: int = 64
    """Channels of the generator at its highest hidden resolution."""
    width_critic: int = 64
    """Channels of the critic after its first halving."""
    upsample: Literal["resize", "transposed"] = "resize"
    """Resize-convolution, or transposed convolution as published."""
    norm_generator: Literal["batch", "group", "pixel", "none"] = "pixel"
    """Normalisation in the generator; BatchNorm as published, the others are per sample."""
    norm_critic: Literal["none", "group"] = "none"
    """Normalisation in the critic: never over the batch."""
    condition_critic: Literal["none", "projection"] = "projection"
    """Whether the critic sees the profile; "none" as published, then nothing ties a tile to its own profile."""
    matching_weight: float = 0.0
    """Weight of the latent-matching term: the critic's trunk reads the condition from real tiles, the generator is asked
    for tiles from which the same is read; 0 as published."""
    loss: Literal["wasserstein", "minmax"] = "wasserstein"
    """Wasserstein's, or the original min-max loss with a generator that does not saturate; the penalty goes with both."""
    critic_steps: int = 5
    """Critic steps for one generator step."""
    penalty_weight: float = 10.0
    """Weight of the gradient penalty (lambda)."""
    penalty_at: Literal["between", "generated"] = "between"
    """Where the penalty is taken: between real and generated (Gulrajani et al.), or at generated (eq. 3 as printed)."""
    lr_generator: float = 1e-3
    """Adam's learning rate of the generator."""
    lr_critic: float = 1e-3
    """Adam's learning rate of the critic."""
    lr_decay: float = 0.0
    """Share of the steps, at the end, over which both learning rates fall linearly to 0; 0: constant, as published."""
    beta1: float = 0.5
    """Adam's first beta."""
    beta2: float = 0.999
    """Adam's second beta."""
    ema_decay: float = 0.999
    """Decay per step of the generator's moving average, from which tiles are made; 0: none, as published."""
    same_stain: bool = True
    """Bring the tiles of every sample to one stain first (`nets.stain`): how strongly a slide was stained is a patient's
    mark that no RNA knows, and a generator learns patients by it; off as published."""
    flips: bool = True
    """Mirror real tiles at random, both ways."""
    colour_jitter: float = 0.0
    """Half-width of the random factors on brightness, contrast and saturation of real tiles."""
    augment_critic: Literal["none", "diffaugment", "ada"] = "none"
    """Random changes before the critic, of real and generated tiles alike (`nets.ada`): for few patients."""
    ada_target: float = 0.6
    """Of ADA: how surely the critic may tell real tiles before its probability rises (`nets.ada.sureness`)."""
    ada_images: int = 500_000
    """Of ADA: real tiles that the probability takes from 0 to 1 at the fastest."""
    train: TrainConfig = field(default_factory=lambda: TrainConfig(steps=1000))
    """How long, batch size, seed, precision."""

    def __post_init__(self) -> None:
        check(self, "tile_px", self.tile_px in (32, 64, 128, 256), "32, 64, 128 or 256")
        for name in ("tiles_per_patient", "noise_dim", "width_generator", "width_critic", "critic_steps", "ada_images"):
            check(self, name, getattr(self, name) >= 1, "at least 1")
        check(self, "extra_noise", self.extra_noise >= 0, "at least 0")
        for name in ("noise_range", "matching_weight", "penalty_weight", "colour_jitter"):
            check(self, name, getattr(self, name) >= 0, "at least 0")
        for name in ("lr_generator", "lr_critic"):
            check(self, name, getattr(self, name) > 0, "more than 0")
        check(self, "ada_target", -1 < self.ada_target < 1, "between -1 and 1")
        check(self, "lr_decay", 0 <= self.lr_decay <= 1, "in [0, 1]")
        for name in ("beta1", "beta2", "ema_decay"):
            check(self, name, 0 <= getattr(self, name) < 1, "in [0, 1)")


def demo() -> GANConfig:
    """Return the preset for 2 CPU cores: 32 px, about a minute and a half.

    Chosen among some thirty trials on the simulated cohort of seed 0: judge it on another seed.
    """
    return GANConfig(
        tile_px=32,
        tiles_per_patient=24,
        noise_dim=32,
        extra_noise=32,
        width_generator=24,
        width_critic=32,
        matching_weight=3.0,
        critic_steps=1,
        lr_generator=1e-3,
        lr_critic=4e-3,
        lr_decay=0.75,
        ema_decay=0.995,
        train=TrainConfig(
            steps=1500,
            batch_size=32,
            grad_clip=20.0,  # without it the label's generator broke down at step 720
            channels_last=True,
            checkpoint_every=0,
            log_every=10,
            validate_every=0,
        ),
    )


def gpu() -> GANConfig:
    """Return the preset for one GPU: 128 px, hours."""
    return GANConfig(
        tile_px=128,
        tiles_per_patient=600,
        noise_dim=128,
        extra_noise=128,
        matching_weight=1.0,
        critic_steps=3,
        lr_generator=3e-4,
        lr_critic=3e-4,
        lr_decay=0.25,
        train=TrainConfig(
            steps=60_000, batch_size=128, precision="auto", log_every=50, checkpoint_every=2_000, validate_every=0
        ),
    )


def paper() -> GANConfig:
    """Return the published numbers: 256 px, 2,048 inputs, Adam 1e-3 and 4e-3, 600 tiles a patient (STAR Methods).

    The paper prints no batch size, number of critic steps or width: batch 8, one critic step and a width of 64 are the
    released code's, lambda 10 is Gulrajani et al.'s. Epochs here are RNA-GAN's on lung; `preset` gives each system its own.
    """
    return GANConfig(
        tile_px=256,
        tiles_per_patient=600,
        noise_dim=2048,
        extra_noise=0,
        noise_range=0.3,
        standardise="none",
        width_generator=64,
        width_critic=64,
        upsample="transposed",
        norm_generator="batch",
        norm_critic="none",
        condition_critic="none",
        matching_weight=0.0,
        critic_steps=1,
        penalty_weight=10.0,
        penalty_at="generated",
        lr_generator=1e-3,
        lr_critic=4e-3,
        lr_decay=0.0,
        beta1=0.5,
        beta2=0.999,
        ema_decay=0.0,
        same_stain=False,
        flips=True,
        colour_jitter=0.2,
        train=TrainConfig(epochs=11, batch_size=8, validate_every=0),
    )
