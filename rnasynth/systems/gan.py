"""RNA-GAN and its controls: a Wasserstein DCGAN whose input is a profile's latent and noise, noise alone, or a label.

Source: RNA-GAN, Cell Reports Methods 2023 (STAR Methods, eq. 3 to 5). One step, one network pair and one sampler for
all four systems, which differ in the generator's input alone:

    rna-gan      latent of the profile + uniform noise in [-0.3, 0.3]          (the paper's eq. 5, as its text says it)
    gan          Gaussian noise                                                (the paper's plain GAN)
    gan-narrow   uniform noise in [-0.3, 0.3] alone                            (the paper's ablation, Fig. 4C)
    label-gan    one-hot tissue and Gaussian noise                             (control: what the label alone gives)

The input is never standardised over a batch: with the tiles of one patient in a batch, as in the released code, that
would subtract the profile itself. Latents may be standardised by the training patients' mean and spread, which are
saved with the run.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rnasynth.config import Config, check, check_preset
from rnasynth.data.cohort import Cohort, TileDataset
from rnasynth.engine import Noise, System, TrainConfig, adam, register
from rnasynth.errors import InputError
from rnasynth.nets.adversarial import between, critic_loss, generator_loss, gradient_penalty
from rnasynth.nets.augment import flip, jitter_colour
from rnasynth.nets.dcgan import Critic, Generator, levels

SPREAD_FLOOR = 0.1  # a latent that hardly varies is divided by this share of the largest spread: its rounding is not signal


@dataclass(frozen=True, kw_only=True)
class GANConfig(Config):
    """Networks, losses and data of the four systems; the input's kind is the system's, not a field."""

    tile_px: int = 32
    """Side of the tiles, 32 to 256; the store's tiles are averaged down to it."""
    tiles_per_patient: int = 24
    """At most this many tiles of a sample are used, chosen with the training seed."""
    noise_dim: int = 64
    """Length of the noise vector where the input is not a latent."""
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
    beta1: float = 0.5
    """Adam's first beta."""
    beta2: float = 0.999
    """Adam's second beta."""
    ema_decay: float = 0.999
    """Decay per step of the generator's moving average, from which tiles are made; 0: none, as published."""
    flips: bool = True
    """Mirror real tiles at random, both ways."""
    colour_jitter: float = 0.0
    """Half-width of the random factors on brightness, contrast and saturation of real tiles."""
    train: TrainConfig = field(default_factory=lambda: TrainConfig(steps=1000))
    """How long, batch size, seed, precision."""

    def __post_init__(self) -> None:
        check(self, "tile_px", self.tile_px in (32, 64, 128, 256), "32, 64, 128 or 256")
        for name in ("tiles_per_patient", "noise_dim", "width_generator", "width_critic", "critic_steps"):
            check(self, name, getattr(self, name) >= 1, "at least 1")
        for name in ("noise_range", "matching_weight", "penalty_weight", "colour_jitter"):
            check(self, name, getattr(self, name) >= 0, "at least 0")
        for name in ("lr_generator", "lr_critic"):
            check(self, name, getattr(self, name) > 0, "more than 0")
        for name in ("beta1", "beta2", "ema_decay"):
            check(self, name, 0 <= getattr(self, name) < 1, "in [0, 1)")


def demo() -> GANConfig:
    """Return the preset for 2 CPU cores: 32 px, about a minute."""
    return GANConfig(
        tile_px=32,
        tiles_per_patient=24,
        noise_dim=32,
        width_generator=24,
        width_critic=24,
        matching_weight=1.0,
        critic_steps=2,
        lr_generator=1e-3,
        lr_critic=1e-3,
        ema_decay=0.995,
        train=TrainConfig(steps=800, batch_size=64, checkpoint_every=0, log_every=10, validate_every=0),
    )


def gpu() -> GANConfig:
    """Return the preset for one GPU: 128 px, hours."""
    return GANConfig(
        tile_px=128,
        tiles_per_patient=600,
        noise_dim=128,
        matching_weight=1.0,
        critic_steps=3,
        lr_generator=3e-4,
        lr_critic=3e-4,
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
        beta1=0.5,
        beta2=0.999,
        ema_decay=0.0,
        flips=True,
        colour_jitter=0.2,
        train=TrainConfig(epochs=11, batch_size=8, validate_every=0),
    )


class GANSystem(System):
    """What the four systems share; a subclass says what the generator's input is made of."""

    Config: ClassVar[type[Config]] = GANConfig
    step_version: ClassVar[int] = 1
    uses: ClassVar[Literal["latent", "tissue", "nothing"]]  # what is known of a sample: the condition
    paper_epochs: ClassVar[float] = 91.0  # on lung; STAR Methods: 24 (RNA-GAN) and 39 (GAN) on brain cortex

    def __init__(self, config: GANConfig, facts: dict[str, Any]) -> None:
        """Build networks for `facts` (see `fitted`)."""
        super().__init__()
        self.settings = config
        self.facts = facts
        levels(config.tile_px)
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
        self.ema = {"generator": config.ema_decay} if config.ema_decay > 0 else {}
        self.conditions: NDArray[np.float32] | None = None  # a row for every profile of the cohort trained on

    # ------------------------------------------------------------------ the input
    @property
    def condition_dim(self) -> int:
        """Length of what is known of a sample: latent, one-hot tissue, or 0."""
        return {"latent": int(self.facts["latent_dim"]), "tissue": len(self.facts["tissues"]), "nothing": 0}[self.uses]

    @property
    def noise_shape(self) -> int:
        """Length of the noise vector."""
        return self.condition_dim if self.uses == "latent" else self.settings.noise_dim

    @property
    def input_dim(self) -> int:
        """Length of the generator's input."""
        return self.noise_shape + (self.condition_dim if self.uses == "tissue" else 0)

    def draw(self, noise: Noise | torch.Generator) -> Tensor:
        """Draw the noise part of the input: (B_local, noise) from `Noise`, (noise,) from a generator (one tile's own)."""
        narrow, size = self.narrow, self.noise_shape
        if isinstance(noise, Noise):
            half = self.settings.noise_range
            return noise.uniform(-half, half, size) if narrow else noise.normal(size)
        if narrow:
            return (torch.rand(size, generator=noise) * 2 - 1) * self.settings.noise_range
        return torch.randn(size, generator=noise)

    @property
    def narrow(self) -> bool:
        """Whether the noise is the narrow uniform one (else N(0, 1))."""
        return self.uses == "latent"

    def inputs(self, condition: Tensor, drawn: Tensor) -> Tensor:
        """Join condition (B, c) and noise (B, n) into the generator's input (B, input_dim), each row by itself."""
        if self.uses == "latent":
            return condition + drawn
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
            scores, read = critic.judge(generator(inputs), condition)
            loss = generator_loss(scores)
            metrics = {"loss_generator": loss.detach()}
            if read is not None:
                with torch.no_grad():
                    wanted = cast(Tensor, critic.judge(batch["tile"], condition)[1])
                matching = (read - wanted).square().mean()
                metrics["matching_generator"] = matching.detach()
                loss = loss + config.matching_weight * matching
            return loss, metrics
        real = self.augment(batch["tile"], noise)
        with torch.no_grad():
            fake = generator(inputs)
        scores, read = critic.judge(torch.cat([real, fake]), torch.cat([condition, condition]))
        real_scores, fake_scores = scores.chunk(2)
        points = between(real, fake, noise.uniform(0.0, 1.0)) if config.penalty_at == "between" else fake
        penalty = gradient_penalty(lambda tiles: critic(tiles, condition), points).mean()
        distance = -critic_loss(real_scores, fake_scores)
        loss = -distance + config.penalty_weight * penalty
        metrics = {"wasserstein": distance.detach(), "penalty": penalty.detach()}
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

    @classmethod
    def from_cohort(cls, config: GANConfig, cohort: Cohort, upstream: tuple[Any, ...] = ()) -> GANSystem:
        """Build for a cohort; latents come from the upstream beta-VAE run and are standardised by its training patients.

        Raises
        ------
        InputError : no tiles, or (rna-gan) no upstream run that encodes profiles.
        """
        if cohort.tiles is None:
            raise InputError(f"cohort {cohort.name}", expected="tiles", found="profiles only", fix="tile its slides first")
        training = (cohort.profiles.obs["split"] == "train").to_numpy()
        facts: dict[str, Any] = {
            "latent_dim": 0,
            "latent_mean": [],
            "latent_spread": [],
            "tissues": sorted(set(cohort.profiles.obs["tissue"][training].astype(str))),
            "tile_um": float(cohort.tiles.index["mpp_um"].median()) * cohort.tiles.tile_px,
        }
        latents = None
        if cls.uses == "latent":
            if len(upstream) != 1:
                raise InputError(
                    f"system {cls.name}",
                    expected="one upstream run that encodes profiles",
                    found=f"{len(upstream)}",
                    fix="train beta-vae first",
                )
            latents = np.asarray(upstream[0].load().encode(cohort.profiles), dtype=np.float32)
            mean, spread = latents[training].mean(axis=0), latents[training].std(axis=0)
            floor = max(SPREAD_FLOOR * float(spread.max()), 1e-6)
            if config.standardise == "scale":
                spread = np.full_like(
                    spread, np.sqrt(np.mean(spread[spread >= floor] ** 2)) if (spread >= floor).any() else 1.0
                )
            facts["latent_dim"] = latents.shape[1]
            if config.standardise != "none":
                facts["latent_mean"] = [float(value) for value in mean]
                facts["latent_spread"] = [float(value) for value in np.maximum(spread, floor)]
        system = cls(config, facts)
        system.conditions = system.condition_of(latents, cohort.profiles.obs["tissue"].astype(str).to_numpy())
        return system

    def condition_of(self, latents: NDArray[np.float32] | None, tissues: NDArray[Any]) -> NDArray[np.float32]:
        """Return what the generator is told, a row a sample: standardised latents, one-hot tissues, or nothing.

        Raises
        ------
        InputError : latents of another length, or a tissue that the training patients did not have.
        """
        if self.uses == "nothing":
            return np.zeros((len(tissues), 0), dtype=np.float32)
        if self.uses == "tissue":
            known = {name: number for number, name in enumerate(self.facts["tissues"])}
            if unknown := sorted(set(map(str, tissues)) - set(known)):
                raise InputError(
                    f"tissue {unknown[0]!r}", expected=f"one of {', '.join(known)}", found="unknown to this run"
                )
            return np.eye(len(known), dtype=np.float32)[[known[str(name)] for name in tissues]]
        if latents is None or latents.ndim != 2 or latents.shape[1] != self.condition_dim:
            found = "none" if latents is None else f"shape {latents.shape}"
            raise InputError("latents", expected=f"shape (samples, {self.condition_dim})", found=found)
        if not self.facts["latent_mean"]:
            return np.asarray(latents, dtype=np.float32)
        mean, spread = (np.array(self.facts[key], dtype=np.float32) for key in ("latent_mean", "latent_spread"))
        return np.asarray((latents - mean) / spread, dtype=np.float32)

    def dataset(self, cohort: Cohort, split: str) -> ConditionedTiles:
        """Return the tiles of one split, each with its sample's condition."""
        assert self.conditions is not None, "only a system made by from_cohort has conditions"
        tiles = TileDataset(cohort, split, self.settings.tile_px)
        return ConditionedTiles(tiles, self.conditions, self.settings.tiles_per_patient, self.settings.train.seed)

    def fitted(self) -> dict[str, Any]:
        """Return the facts that sampling needs: latent length, mean and spread, tissues, field of a tile in um."""
        return self.facts

    @classmethod
    def from_run(cls, run: Any) -> Any:
        """Return the trained generator of a finished run, with its upstream encoder."""
        from rnasynth.systems.generation import TileGenerator  # it builds on this module

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


class ConditionedTiles:
    """Tiles of a split joined with their samples' conditions, at most so many a sample; held in memory where small."""

    CACHE_BYTES = 1 << 29

    def __init__(self, tiles: TileDataset, conditions: NDArray[np.float32], per_sample: int, seed: int) -> None:
        self.tiles, self.conditions = tiles, conditions
        samples = np.asarray(tiles.samples)
        order = np.random.default_rng(seed).permutation(len(samples))
        rank = np.empty(len(samples), dtype=np.int64)
        for sample in np.unique(samples):
            mine = order[samples[order] == sample]
            rank[mine] = np.arange(len(mine))
        self.rows = np.flatnonzero(rank < per_sample)
        if not len(self.rows):
            raise InputError("tiles", expected="at least one in the split", found="none", fix="check the splits")
        self._cache: Tensor | None = None
        if len(self.rows) * tiles.px * tiles.px * 3 <= self.CACHE_BYTES:
            parts = [self.tiles.fetch(self.rows[start : start + 256])["tile"] for start in range(0, len(self.rows), 256)]
            self._cache = torch.cat([((part + 1) * 127.5).round().to(torch.uint8) for part in parts])
        self.samples = samples[self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def fetch(self, indices: NDArray[Any]) -> dict[str, Tensor]:
        """Return tile (B, 3, px, px) float32 in [-1, 1] and condition (B, c)."""
        chosen = np.asarray(indices)
        if self._cache is None:
            tile = self.tiles.fetch(self.rows[chosen])["tile"]
        else:
            tile = self._cache[torch.from_numpy(chosen)].float() / 127.5 - 1.0
        return {"tile": tile, "condition": torch.from_numpy(self.conditions[self.samples[chosen]])}
