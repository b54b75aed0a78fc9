"""RNA-GAN and its controls: a Wasserstein DCGAN whose input is a profile's latent and noise, noise alone, or a label.

Source: RNA-GAN, Cell Reports Methods 2023 (STAR Methods, eq. 3 to 5). One step, one network pair and one sampler for
all four systems, which differ in the generator's input alone:

    rna-gan      latent of the profile + uniform noise in [-0.3, 0.3]          (the paper's eq. 5, as its text says it)
    gan          Gaussian noise                                                (the paper's plain GAN)
    gan-narrow   uniform noise in [-0.3, 0.3] alone                            (the paper's ablation, Fig. 4C)
    label-gan    one-hot tissue and Gaussian noise                             (control: what the label alone gives)

By option (off as published) Gaussian noise stands beside the latent, so that one profile gives many tiles.

The input is never standardised over a batch: with the tiles of one patient in a batch, as in the released code, that
would subtract the profile itself.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from rnasynth.config import Config, check_preset
from rnasynth.engine import Alarm, Noise, Processes, adam, register
from rnasynth.errors import InputError
from rnasynth.nets import ada
from rnasynth.nets.adversarial import (
    between,
    critic_loss,
    generator_loss,
    gradient_penalty,
    minmax_critic_loss,
    minmax_generator_loss,
)
from rnasynth.nets.augment import flip, jitter_colour
from rnasynth.nets.dcgan import Critic, Generator, levels, pixel_spread
from rnasynth.systems.gan_config import GANConfig, demo, gpu, paper
from rnasynth.systems.generation import TileGenerator
from rnasynth.systems.tile_system import TileSystem

# Of 21 trainings at 32 px none passed twice its running median after step 200 (one came to 6 times in its first 200, and
# back), and none of 8 a spread of 0.4. With learning rates a hundred times too high the spread is 2e-7 after 50 steps.
ALARMS = (
    Alarm(
        metric="critic_wasserstein",
        what="a distance of the critic",
        times_median=25.0,
        steps=100,
        earliest=200,
        fix="lower lr_critic and lr_generator, raise penalty_weight, or clip the gradient (train.grad_clip)",
    ),
    Alarm(
        metric="critic_spread",
        what="a spread of the pixels of a generated tile, relative to that of real ones,",
        floor=0.02,
        steps=200,
        earliest=200,
        fix="its tiles are of one colour: lower lr_generator, raise critic_steps, or train with another seed",
    ),
)


class GANSystem(TileSystem):
    """What the four systems share; a subclass says what the generator's input is made of."""

    Config: ClassVar[type[Config]] = GANConfig
    step_version: ClassVar[int] = 1
    paper_epochs: ClassVar[float] = 91.0  # on lung; STAR Methods: 24 (RNA-GAN) and 39 (GAN) on brain cortex

    def __init__(self, config: GANConfig, facts: dict[str, Any]) -> None:
        """Build networks for `facts` (see `fitted`)."""
        super().__init__(config, facts)
        levels(config.tile_px)
        if config.train.compile and config.penalty_weight > 0:
            raise InputError(
                "GANConfig.train.compile",
                expected="false with a gradient penalty",
                found="true",
                fix="leave it off: torch.compile does not differentiate twice, which the penalty needs",
            )
        conditioned = self.condition_dim > 0
        projects = conditioned and config.condition_critic == "projection"
        self.networks["generator"] = Generator(
            input_dim=self.input_dim,
            image_px=config.tile_px,
            width=config.width_generator,
            upsample=config.upsample,
            norm=config.norm_generator,
        )
        self.networks["critic"] = Critic(
            image_px=config.tile_px,
            width=config.width_critic,
            norm=config.norm_critic,
            condition_dim=self.condition_dim,
            projection=projects,
            regress=conditioned and config.matching_weight > 0,
        )
        if config.augment_critic == "ada":
            self.networks["augmentation"] = ada.AdaptiveProbability(target=config.ada_target, images=config.ada_images)
        self.ema = {"generator": config.ema_decay} if config.ema_decay > 0 else {}

    # ------------------------------------------------------------------ the input
    @property
    def noise_shape(self) -> int:
        """Length of the noise vector; for a latent, the narrow noise that is added to it comes first."""
        return self.condition_dim + self.settings.extra_noise if self.uses == "latent" else self.settings.noise_dim

    @property
    def input_dim(self) -> int:
        """Length of the generator's input."""
        return self.noise_shape + (self.condition_dim if self.uses == "tissue" else 0)

    def draw(self, noise: Noise | torch.Generator) -> Tensor:
        """Draw the noise part of the input: (B_local, noise) from `Noise`, (noise,) from a generator (one tile's own)."""
        half, size = self.settings.noise_range, self.noise_shape
        if not self.narrow:
            return noise.normal(size) if isinstance(noise, Noise) else torch.randn(size, generator=noise)
        wide = self.settings.extra_noise if self.uses == "latent" else 0
        if isinstance(noise, Noise):
            narrow = noise.uniform(-half, half, size - wide)
            return torch.cat([narrow, noise.normal(wide)], dim=1) if wide else narrow
        narrow = (torch.rand(size - wide, generator=noise) * 2 - 1) * half
        return torch.cat([narrow, torch.randn(wide, generator=noise)]) if wide else narrow

    @property
    def narrow(self) -> bool:
        """Whether the noise is the narrow uniform one (else N(0, 1))."""
        return self.uses == "latent"

    def inputs(self, condition: Tensor, drawn: Tensor) -> Tensor:
        """Join condition (B, c) and noise (B, n) into the generator's input (B, input_dim), each row by itself."""
        if self.uses == "latent":
            known = condition.shape[1]
            return torch.cat([condition + drawn[:, :known], drawn[:, known:]], dim=1)
        return torch.cat([condition, drawn], dim=1) if self.uses == "tissue" else drawn

    # ------------------------------------------------------------------ one step
    def phases(self, step: int) -> list[str]:
        """Return the critic's steps, then one of the generator."""
        return ["critic"] * self.settings.critic_steps + ["generator"]

    def trained(self, phase: str) -> str:
        """Return the network of a phase, which has its name."""
        return phase

    def loss(self, phase: str, batch: dict[str, Tensor], noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of one phase; `batch` holds tile (B, 3, px, px) in [-1, 1] and condition (B, c)."""
        generator, critic = self.networks["generator"], cast(Critic, self.networks["critic"])
        config, condition = self.settings, batch["condition"]
        inputs = self.inputs(condition, self.draw(noise))
        if phase == "generator":
            fake, real = self.before_critic([generator(inputs), batch["tile"]], noise)
            scores, read = critic.judge(fake, condition)
            loss = minmax_generator_loss(scores) if config.loss == "minmax" else generator_loss(scores)
            metrics = {"loss_generator": loss.detach()}
            if read is not None:
                with torch.no_grad():
                    wanted = cast(Tensor, critic.judge(real, condition)[1])
                matching = (read - wanted).square().mean()
                metrics["matching_generator"] = matching.detach()
                loss = loss + config.matching_weight * matching
            return loss, metrics
        real = self.augment(batch["tile"], noise)
        with torch.no_grad():
            fake = generator(inputs)
            spread = pixel_spread(fake) / pixel_spread(batch["tile"]).clamp(min=1e-6)
            real, fake = self.before_critic([real, fake], noise)
        scores, read = critic.judge(torch.cat([real, fake]), torch.cat([condition, condition]))
        real_scores, fake_scores = scores.chunk(2)
        points = between(real, fake, noise.uniform(0.0, 1.0)) if config.penalty_at == "between" else fake
        penalty = gradient_penalty(lambda tiles: critic(tiles, condition), points).mean()
        distance = -critic_loss(real_scores, fake_scores)
        metrics = {"wasserstein": distance.detach(), "penalty": penalty.detach(), "spread": spread}
        parting = minmax_critic_loss(real_scores, fake_scores) if config.loss == "minmax" else -distance
        loss = parting + config.penalty_weight * penalty
        if "augmentation" in self.networks:
            metrics |= self.steer(real_scores.detach(), fake_scores.detach())
        if read is not None:
            matching = (read[: len(real)] - condition).square().mean()
            metrics["matching_critic"] = matching.detach()
            loss = loss + config.matching_weight * matching
        return loss, metrics

    def augment(self, tiles: Tensor, noise: Noise) -> Tensor:
        """Flip and jitter each real tile by its own draws."""
        if self.settings.flips:
            tiles = flip(tiles, noise.uniform(0.0, 1.0, 2))
        if self.settings.colour_jitter:
            half = self.settings.colour_jitter
            tiles = jitter_colour(tiles, noise.uniform(1.0 - half, 1.0 + half, 3))
        return tiles

    def before_critic(self, kinds: list[Tensor], noise: Noise) -> list[Tensor]:
        """Change real and generated tiles alike, each tile by its own draws, before the critic sees them."""
        kind = self.settings.augment_critic
        if kind == "diffaugment":
            return [ada.diffaugment(tiles, noise.uniform(0.0, 1.0, ada.DIFF_DRAWS)) for tiles in kinds]
        if kind == "ada":
            share = cast(ada.AdaptiveProbability, self.networks["augmentation"]).probability
            draws = [(noise.uniform(0.0, 1.0, ada.ADA_CHANCES), noise.normal(ada.ADA_NORMALS)) for _ in kinds]
            return [ada.adaptive(tiles, *drawn, share) for tiles, drawn in zip(kinds, draws, strict=True)]
        return kinds

    def steer(self, real_scores: Tensor, fake_scores: Tensor) -> dict[str, Tensor]:
        """Move ADA's probability by this step's scores, over all processes; return it and the critic's sureness."""
        probability = cast(ada.AdaptiveProbability, self.networks["augmentation"])
        processes = Processes.join(self.settings.train.device)
        threshold: Tensor | float = 0.0
        if self.settings.loss == "wasserstein":
            threshold = processes.mean((real_scores.float().mean() + fake_scores.float().mean()) / 2)
        sure = processes.mean(ada.sureness(real_scores, threshold))
        probability.observe(sure, len(real_scores) * processes.size)
        return {"ada_probability": probability.probability.clone(), "ada_sureness": sure}

    def schedule(self, key: str, step: int) -> float:
        """Return 1, then a linear fall to 0 over the last `lr_decay` of the steps."""
        share = self.settings.lr_decay
        return 1.0 if share == 0 else min(1.0, (1.0 - step / max(1, self.total_steps)) / share)

    def optimizer(self, key: str) -> torch.optim.Optimizer:
        """Return Adam with the network's learning rate."""
        config = self.settings
        lr = config.lr_generator if key == "generator" else config.lr_critic
        return adam(self.networks[key], lr, betas=(config.beta1, config.beta2))

    # ------------------------------------------------------------------ data
    @classmethod
    def preset(cls, name: str) -> GANConfig:
        """Return the configuration of a preset."""
        config = {"demo": demo, "gpu": gpu, "paper": paper}[check_preset(name)]()
        if name == "paper":
            config = dataclasses.replace(config, train=dataclasses.replace(config.train, epochs=cls.paper_epochs))
        return config

    def alarms(self) -> tuple[Alarm, ...]:
        """Return the signs of a critic that runs away, and of tiles of one colour."""
        return ALARMS

    def sampled(self) -> tuple[str, ...]:
        """Return the generator: the critic makes no tile."""
        return ("generator",)

    def tiles(self, condition: Tensor, generators: list[torch.Generator]) -> Tensor:
        """Make one tile for each row: condition (B, c), a generator of its own each -> (B, 3, px, px) in [-1, 1]."""
        network = self.best("generator")
        inputs = self.inputs(condition, torch.stack([self.draw(generator) for generator in generators]))
        return network(inputs.to(next(network.parameters()).device)).float()

    @classmethod
    def from_run(cls, run: Any) -> TileGenerator:
        """Return the trained generator of a finished run, with its upstream encoder."""
        system = cls(run.config, run.fitted)
        system.networks["generator"].load_state_dict(run.networks()["generator"])
        system.requires_grad_(False).eval()
        encoder = run.upstream()[0].load() if cls.uses == "latent" else None
        return TileGenerator(system, encoder=encoder, run_id=run.id)


@register
class RNAGAN(GANSystem):
    """Input: latent of the profile + narrow uniform noise."""

    name: ClassVar[str] = "rna-gan"
    upstream: ClassVar[tuple[str, ...]] = ("beta-vae",)
    uses = "latent"
    paper_epochs = 11.0


@register
class PlainGAN(GANSystem):
    """Input: Gaussian noise."""

    name: ClassVar[str] = "gan"
    uses = "nothing"


@register
class NarrowGAN(GANSystem):
    """Input: narrow uniform noise, the paper's ablation."""

    name: ClassVar[str] = "gan-narrow"
    uses = "nothing"

    @property
    def narrow(self) -> bool:
        """Return True: the noise is the one that RNA-GAN adds, without the latent."""
        return True


@register
class LabelGAN(GANSystem):
    """Input: one-hot tissue and Gaussian noise; what a tile owes to its tissue alone."""

    name: ClassVar[str] = "label-gan"
    uses = "tissue"
