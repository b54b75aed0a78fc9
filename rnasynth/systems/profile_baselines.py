"""Baselines of GeMM-GAN that see neither tiles nor text: a WGAN-GP told nothing or the label, and a conditional VAE.

    profile-wgan          noise alone
    profile-wgan-label    noise and the one-hot tissue
    profile-cvae          a VAE whose encoder and decoder know the tissue

Source: GeMM-GAN (arXiv 2601.15392), its baselines; genes, transform and split are those of the systems they stand beside.
"""

from __future__ import annotations

from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from rnasynth.config import Config
from rnasynth.data.cohort import Cohort
from rnasynth.engine import Noise, register
from rnasynth.nets.gemm import ConditionalVAE
from rnasynth.nets.losses import beta_vae_loss
from rnasynth.systems import gemm_config as presets
from rnasynth.systems.profile_base import (
    ProfileSystemBase,
    WassersteinProfiles,
    adam,
    fitted_transform,
    training_tissues,
)


class _WithoutPatients(ProfileSystemBase):
    @classmethod
    def from_cohort(cls, config: Any, cohort: Cohort, upstream: tuple[Any, ...] = ()) -> Any:
        """Build an untrained one; genes and transform are fitted on the training samples."""
        transform = fitted_transform(config, cohort).to_dict()
        return cls(config, {"transform": transform, "tissues": training_tissues(cohort)})


@register
class ProfileWGAN(_WithoutPatients, WassersteinProfiles):
    """Told nothing: profiles of the cohort at large."""

    name: ClassVar[str] = "profile-wgan"
    step_version: ClassVar[int] = 1
    Config: ClassVar[type[Config]] = presets.ProfileGANConfig
    preset_of: ClassVar = {"demo": presets.wgan_demo, "gpu": presets.wgan_gpu, "paper": presets.wgan_paper}
    uses = "nothing"

    def __init__(self, config: presets.ProfileGANConfig, facts: dict[str, Any]) -> None:
        super().__init__(config, facts)
        self.build(None, self.label_dim)


@register
class ProfileWGANLabel(ProfileWGAN):
    """Told the tissue: what a profile owes to its label alone."""

    name: ClassVar[str] = "profile-wgan-label"
    uses = "label"


@register
class ProfileCVAE(_WithoutPatients):
    """A VAE whose encoder and decoder are told the tissue."""

    name: ClassVar[str] = "profile-cvae"
    step_version: ClassVar[int] = 1
    Config: ClassVar[type[Config]] = presets.ProfileCVAEConfig
    preset_of: ClassVar = {"demo": presets.cvae_demo, "gpu": presets.cvae_gpu, "paper": presets.cvae_paper}
    uses = "label"

    def __init__(self, config: presets.ProfileCVAEConfig, facts: dict[str, Any]) -> None:
        super().__init__(config, facts)
        self.networks["vae"] = ConditionalVAE(len(self.transform.genes), self.label_dim, config.latent, config.hidden)

    @property
    def vae(self) -> ConditionalVAE:
        """The network."""
        return cast(ConditionalVAE, self.networks["vae"])

    def loss(self, phase: str, batch: dict[str, Tensor], noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        """Return squared error + beta * KL of a draw of the latent."""
        mean, logvar = self.vae.encode(batch["target"], batch["label"])
        latent = mean + torch.exp(0.5 * logvar) * noise.normal(self.settings.latent)
        return self._loss(batch, latent, mean, logvar)

    def validate(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the same loss at the latent's mean, so that validation has no noise."""
        mean, logvar = self.vae.encode(batch["target"], batch["label"])
        loss, parts = self._loss(batch, mean, mean, logvar)
        return {"loss": loss, **parts}

    def _loss(
        self, batch: dict[str, Tensor], latent: Tensor, mean: Tensor, logvar: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        made = self.vae.decode(latent, batch["label"])
        return beta_vae_loss(batch["target"], made, mean, logvar, beta=self.settings.beta)

    def optimizer(self, key: str) -> torch.optim.Optimizer:
        """Return Adam."""
        return adam(self.vae, self.settings.lr)

    def draw(self, told: Tensor, generators: list[torch.Generator]) -> Tensor:
        """Return z-scores, shape (B, genes), of latents from N(0, I)."""
        drawn = torch.stack([torch.randn(self.settings.latent, generator=generator) for generator in generators])
        return self.vae.decode(drawn.to(told.device), told)
