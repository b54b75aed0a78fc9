"""Configurations and presets of the systems that make profiles of patients: GeMM-GAN, our flow, and the baselines.

Source of `paper`: GeMM-GAN (arXiv 2601.15392) and its released code, as the facts of the papers list them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from rnasynth.config import Config, check
from rnasynth.engine import TrainConfig

DEMO_TRAIN = TrainConfig(steps=400, batch_size=32, checkpoint_every=200, log_every=10)


@dataclass(frozen=True, kw_only=True)
class ProfileConfig(Config):
    """What all of these systems have: which genes, how they are transformed, how long the training is."""

    n_genes: int | None = 1000
    """The genes of largest variance among the training patients; None: all that `max_zero_share` leaves."""
    max_zero_share: float = 1.0
    """Genes that are zero in more than this share of the training samples are dropped; released code: 0.9."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers of generator, critic, encoder and decoder."""
    lr: float = 5e-4
    """Learning rate."""
    train: TrainConfig = field(default_factory=lambda: DEMO_TRAIN)
    """How long, batch size, seed, precision, early stopping."""

    def __post_init__(self) -> None:
        check(self, "n_genes", self.n_genes is None or self.n_genes >= 1, "at least 1, or none")
        check(self, "max_zero_share", 0 < self.max_zero_share <= 1, "above 0, at most 1")
        check(self, "hidden", len(self.hidden) >= 1 and min(self.hidden) >= 1, "at least one width, each at least 1")
        check(self, "lr", self.lr > 0, "more than 0")


@dataclass(frozen=True, kw_only=True)
class PatientConfig(ProfileConfig):
    """How tiles and text are read."""

    features: str = "stain-texture"
    """Feature network, by the name or file that `features.networks.feature_network` takes."""
    feature_mpp_um: float = 1.0
    """um/px at which it sees the tiles (never finer than they are); published: 20x, 0.5 um/px."""
    per_sample: int = 256
    """At most so many tiles of a sample."""
    text_encoder: str = "hashed"
    """"hashed", or the folder of a transformers encoder (GeMM-GAN: Clinical ModernBERT)."""
    text_buckets: int = 2048
    """Of the hashed words."""
    word_dim: int = 16
    """Length of a hashed word's vector; of an encoder folder its own length counts."""
    max_words: int = 300
    """Tokens of a text; the rest is cut off."""
    width: int = 64
    """Of the transformer and of the condition."""
    heads: int = 4
    """Attention heads."""
    layers: int = 2
    """Of the transformer over the tiles."""
    feed_forward: int = 128
    """Hidden width of a transformer layer."""
    dropout: float = 0.1
    """In transformer and attention."""
    fusion: Literal["sum", "film"] = "sum"
    """Of image and text: CLS vectors summed, or the text's scales and shifts the image's."""
    attention: Literal["published", "residual"] = "residual"
    """See `nets.gemm`."""
    keep_tiles: float = 1.0
    """Share of a bag's tiles that a training step sees, drawn anew each time; at least one."""
    drop_tiles: float = 0.1
    """Chance that a training step hides all tiles of a patient who has a text: so the token for "no tiles" is learnt."""
    drop_text: float = 0.1
    """The same for the text of a patient who has tiles."""
    feature_noise: float = 0.0
    """Spread of Gaussian noise on standardised features in training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("per_sample", "text_buckets", "word_dim", "max_words", "width", "heads", "layers", "feed_forward"):
            check(self, name, getattr(self, name) >= 1, "at least 1")
        check(self, "feature_mpp_um", 0.05 <= self.feature_mpp_um <= 20, "0.05 to 20 um a pixel")
        check(self, "width", self.width % self.heads == 0, f"a multiple of the {self.heads} heads")
        check(self, "keep_tiles", 0 < self.keep_tiles <= 1, "above 0, at most 1")
        check(self, "feature_noise", self.feature_noise >= 0, "at least 0")
        for name in ("dropout", "drop_tiles", "drop_text"):
            check(self, name, 0 <= getattr(self, name) < 1, "in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class AdversarialConfig(Config):
    """What WGAN-GP adds; mixed into the configurations of the systems that are one."""

    noise_dim: int = 256
    """Length of the noise vector."""
    critic_steps: int = 5
    """Steps of the critic for one of the generator."""
    penalty_weight: float = 10.0
    """Of the gradient penalty, per sample (lambda)."""
    lr_halvings: int = 4
    """How often RMSprop's learning rate is halved, evenly over the training; 4 in 500 epochs is every 100."""
    ema_decay: float = 0.0
    """Of the generator's moving average; 0: none, as published."""

    def __post_init__(self) -> None:
        for name in ("noise_dim", "critic_steps"):
            check(self, name, getattr(self, name) >= 1, "at least 1")
        check(self, "penalty_weight", self.penalty_weight >= 0, "at least 0")
        check(self, "lr_halvings", self.lr_halvings >= 0, "at least 0")
        check(self, "ema_decay", 0 <= self.ema_decay < 1, "in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class GemmGANConfig(PatientConfig, AdversarialConfig):
    """GeMM-GAN."""

    def __post_init__(self) -> None:
        PatientConfig.__post_init__(self)
        AdversarialConfig.__post_init__(self)


@dataclass(frozen=True, kw_only=True)
class ProfileGANConfig(ProfileConfig, AdversarialConfig):
    """A WGAN-GP that is told a label or nothing."""

    def __post_init__(self) -> None:
        ProfileConfig.__post_init__(self)
        AdversarialConfig.__post_init__(self)


@dataclass(frozen=True, kw_only=True)
class ProfileCVAEConfig(ProfileConfig):
    """A conditional VAE that is told the label."""

    latent: int = 16
    """Length of the latent."""
    beta: float = 0.002
    """Weight of the KL divergence (summed over the latent; the squared error is the mean over genes)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, "latent", self.latent >= 1, "at least 1")
        check(self, "beta", self.beta >= 0, "at least 0")


@dataclass(frozen=True, kw_only=True)
class GemmFlowConfig(PatientConfig):
    """Our flow on the beta-VAE's latent; `n_genes`, `max_zero_share` and `hidden` are the beta-VAE's and unused here."""

    flow_width: int = 64
    """Of the velocity's residual network."""
    flow_blocks: int = 2
    """Its blocks."""
    flow_dropout: float = 0.3
    """Of what the flow is told of a patient."""
    mean_weight: float = 4.0
    """Of the mean's squared error beside the flow's; the mean is what `mean` decodes."""
    weight_decay: float = 0.5
    """Of AdamW."""
    ema_decay: float = 0.99
    """Of the moving average that samples are drawn from, and that early stopping judges."""
    draws: int = 4
    """Pairs of noise and time for every patient of a training step."""
    sampling_steps: int = 8
    """Of Heun's method, two evaluations each."""
    residual_noise: bool = True
    """Add to samples, gene by gene, what the beta-VAE loses: noise of the spread of its error on validation samples."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("flow_width", "flow_blocks", "sampling_steps", "draws"):
            check(self, name, getattr(self, name) >= 1, "at least 1")
        for name in ("mean_weight", "weight_decay"):
            check(self, name, getattr(self, name) >= 0, "at least 0")
        check(self, "ema_decay", 0 < self.ema_decay < 1, "above 0, below 1")
        check(self, "flow_dropout", 0 <= self.flow_dropout < 1, "in [0, 1)")


# ---------------------------------------------------------------------- presets
def gan_demo() -> GemmGANConfig:
    """Return GeMM-GAN for 2 CPU cores: 1,000 genes, one layer of width 32, seconds.

    16 noise numbers: with 64 beside a short training the condition is a small part of the input. One critic step for each of
    the generator lets it ignore its noise. At 200 steps it follows nothing yet (mean correlation of genes within tissues
    -0.07 on simulated test samples), at 350 it follows (0.30 on validation samples).
    """
    return GemmGANConfig(
        hidden=(128, 128),
        noise_dim=16,
        lr=2e-3,
        lr_halvings=2,
        critic_steps=2,
        ema_decay=0.98,
        per_sample=32,
        width=32,
        layers=1,
        feed_forward=64,
        attention="published",
        train=TrainConfig(steps=350, batch_size=16, checkpoint_every=0, log_every=10, validate_every=0),
    )


def gan_gpu() -> GemmGANConfig:
    """Return GeMM-GAN for one GPU: all genes, published widths."""
    return replace(
        gan_paper(),
        text_encoder="hashed",
        word_dim=64,
        features="stain-texture",
        drop_tiles=0.1,
        drop_text=0.1,
        train=TrainConfig(epochs=500, batch_size=32, precision="auto", checkpoint_every=500, log_every=20, validate_every=0),
    )


def gan_paper() -> GemmGANConfig:
    """Return the published numbers; features (UNI) and text encoder (Clinical ModernBERT) are a user's own files.

    Set `features` and `text_encoder` to their folders: neither may be given on by this project.
    """
    return GemmGANConfig(
        n_genes=None,
        max_zero_share=0.9,
        hidden=(256, 256),
        noise_dim=256,
        critic_steps=5,
        penalty_weight=10.0,
        lr=5e-4,
        lr_halvings=4,
        ema_decay=0.0,
        feature_mpp_um=0.5,
        per_sample=256,
        max_words=300,
        word_dim=768,
        width=256,
        heads=4,
        layers=2,
        feed_forward=512,
        dropout=0.1,
        attention="published",
        drop_tiles=0.0,
        drop_text=0.0,
        train=TrainConfig(epochs=500, batch_size=8, checkpoint_every=500, log_every=20, validate_every=0),
    )


def flow_demo() -> GemmFlowConfig:
    """Return the flow for 2 CPU cores: seconds.

    Chosen among about twenty trials by the validation samples of both demo cohorts, never by their test samples.
    """
    return GemmFlowConfig(
        lr=1e-3,
        drop_tiles=0.05,
        drop_text=0.2,
        feature_noise=0.2,
        keep_tiles=0.7,
        per_sample=32,
        train=TrainConfig(steps=400, batch_size=32, patience=12, validate_every=10, checkpoint_every=200, log_every=10),
    )


def flow_gpu() -> GemmFlowConfig:
    """Return the flow for one GPU."""
    return GemmFlowConfig(
        width=256,
        feed_forward=512,
        word_dim=64,
        flow_width=512,
        flow_blocks=4,
        lr=3e-4,
        ema_decay=0.999,
        keep_tiles=0.5,
        feature_noise=0.1,
        sampling_steps=16,
        train=TrainConfig(epochs=300, batch_size=64, patience=40, precision="auto", checkpoint_every=500, log_every=20),
    )


def wgan_demo() -> ProfileGANConfig:
    """Return the WGAN-GP without image and text for 2 CPU cores."""
    train = TrainConfig(steps=400, batch_size=32, checkpoint_every=0, log_every=10, validate_every=0)
    return ProfileGANConfig(
        hidden=(128, 128), noise_dim=16, lr=2e-3, lr_halvings=2, critic_steps=3, ema_decay=0.98, train=train
    )


def wgan_paper() -> ProfileGANConfig:
    """Return the baseline with GeMM-GAN's own numbers: only what it is told differs."""
    train = TrainConfig(epochs=500, batch_size=8, checkpoint_every=500, log_every=20, validate_every=0)
    return ProfileGANConfig(n_genes=None, max_zero_share=0.9, train=train)


def wgan_gpu() -> ProfileGANConfig:
    """Return the baseline for one GPU."""
    train = TrainConfig(epochs=500, batch_size=32, precision="auto", checkpoint_every=500, log_every=20, validate_every=0)
    return replace(wgan_paper(), train=train)


def cvae_demo() -> ProfileCVAEConfig:
    """Return the conditional VAE for 2 CPU cores."""
    return ProfileCVAEConfig(
        hidden=(256,),
        lr=1e-3,
        train=TrainConfig(epochs=80, batch_size=32, patience=15, checkpoint_every=0, log_every=10),
    )


def cvae_paper() -> ProfileCVAEConfig:
    """Return the baseline at the size of GeMM-GAN's networks; the paper prints no numbers of its CVAE."""
    train = TrainConfig(epochs=500, batch_size=8, patience=25, checkpoint_every=500, log_every=20)
    return ProfileCVAEConfig(n_genes=None, max_zero_share=0.9, latent=256, train=train)


def cvae_gpu() -> ProfileCVAEConfig:
    """Return the baseline for one GPU."""
    train = TrainConfig(epochs=300, batch_size=64, patience=25, precision="auto", checkpoint_every=500, log_every=20)
    return replace(cvae_paper(), latent=128, train=train)
